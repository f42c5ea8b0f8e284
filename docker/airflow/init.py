"""What must be there before the stack's parts start; runs at every start and changes nothing that is in order.

Airflow's tables, its first user, the connections of Valkey and HDFS and the pool for training; the root directory in HDFS; the
world; the service's token where simulation containers find it. Secrets are read from /run/secrets and handed on as values, never
as words of a command.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from recsys import urls

SECRETS = Path("/run/secrets")
WORLD = Path(os.environ["RECSYS_WORLD"])
#: Where `RECSYS_WORLD=… make stack` mounts a person's own.
GIVEN = Path("/given")
TOKEN = Path("/simulation-secrets/recsys_service_token")
#: Who formatted HDFS, and may make directories for others.
SUPERUSER = "hdfs"
#: Of a NameNode whose URL names none.
HDFS_PORT = 9870


def secret(name: str) -> str:
    """A secret's value."""
    return (SECRETS / name).read_text().strip()


def airflow(*words: str) -> None:
    """An `airflow` command in this process: its imports take longer than its work."""
    from airflow.cli import cli_parser

    print(f"airflow {words[0]} {words[1]}", flush=True)
    arguments = cli_parser.get_parser().parse_args(words)
    arguments.func(arguments)


def database() -> None:
    """Tables, user, connections, pool."""
    airflow("db", "migrate")
    admin = {
        "username": os.environ["AIRFLOW_ADMIN_USER"],
        "password": secret("airflow_admin_password"),
        "role": "Admin",
        "firstname": "Nightshift",
        "lastname": "Admin",
        "email": "admin@localhost",
    }
    airflow("users", "create", *(word for name, value in admin.items() for word in (f"--{name}", value)))
    storage = urlsplit(os.environ["RECSYS_STORAGE"])
    connections = {
        "redis_default": {
            "conn_type": "redis",
            "host": "valkey",
            "port": 6379,
            "password": secret("valkey_password"),
            "extra": {"db": 0},
        },
        "webhdfs_default": {
            "conn_type": "webhdfs",
            "host": storage.hostname,
            "port": storage.port or HDFS_PORT,
            "login": unquote(storage.username or ""),
        },
    }
    pools = {
        "training": {"slots": 1, "description": "Tasks that hold a model and its matrices in memory", "include_deferred": False}
    }
    with tempfile.TemporaryDirectory() as directory:
        for name, content in (("connections", connections), ("pools", pools)):
            (Path(directory) / f"{name}.json").write_text(json.dumps(content))
        airflow("connections", "import", f"{directory}/connections.json", "--overwrite")
        airflow("pools", "import", f"{directory}/pools.json")


def hdfs_root() -> None:
    """The storage's root directory, owned by the storage's user."""
    storage = urlsplit(os.environ["RECSYS_STORAGE"])
    namenode = urls.authority(storage.hostname or "", storage.port or HDFS_PORT)
    base = f"http://{namenode}/webhdfs/v1{quote(storage.path)}?user.name={SUPERUSER}"
    for operation in ("MKDIRS&permission=755", f"SETOWNER&owner={storage.username}&group={storage.username}"):
        request = urllib.request.Request(f"{base}&op={operation}", method="PUT")  # noqa: S310 -- http only
        with urllib.request.urlopen(request, timeout=30):  # noqa: S310
            print(f"HDFS {storage.path}: {operation.partition('&')[0]}", flush=True)


def world() -> None:
    """A person's world, if one is mounted, else a generated one, unless there is one; and the table of first tracks, which
    simulation containers could not keep.
    """
    if not (WORLD / "tracks.json").exists():
        with tempfile.TemporaryDirectory() as directory:
            source = GIVEN
            if not source.is_dir():
                source = Path(directory) / "world"
                size = {name: os.environ.get(f"WORLD_{name.upper()}") for name in ("tracks", "users")}
                words = [word for name, value in size.items() if value for word in (f"--{name}", value)]
                _recsys("recsys.cli", "world", "generate", "--dir", str(source), *words)
            # Its presence says that the others are there.
            for file in sorted(source.glob("[!.]*"), key=lambda path: path.name == "tracks.json"):
                shutil.copyfile(file, WORLD / file.name)
    _recsys("recsys.cli", "world", "check", "--world", str(WORLD))
    _recsys("recsys.simulate", "--recommender", "dummy", "--world", str(WORLD), "--episodes", "1", "--seed", "1")


def _recsys(*words: str) -> None:
    subprocess.run([sys.executable, "-m", *words], check=True, stdout=subprocess.DEVNULL)
    print(" ".join(words[:3]), flush=True)


def simulation_token() -> None:
    """A file, because the environment of a container can be read off the engine."""
    partial = TOKEN.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    partial.touch(0o400)
    partial.chmod(0o600)
    partial.write_text(secret("recsys_service_token"))
    partial.chmod(0o400)
    partial.rename(TOKEN)


if __name__ == "__main__":
    simulation_token()
    world()
    if sys.argv[1:] != ["world"]:
        hdfs_root()
        database()
