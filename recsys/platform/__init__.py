"""The embedded platform: Valkey, the service and Airflow as child processes of one command.

:func:`run` goes from nothing to a finished night and stops everything, :func:`up` keeps the web UI until Ctrl-C, :func:`down`
ends what either left behind. Everything they write stands below ``RECSYS_VAR``.
"""

import hashlib
import importlib.metadata
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from recsys.exceptions import Stopped, UnavailableError
from recsys.night.log_date import yesterday
from recsys.platform import components, engine, night
from recsys.platform.client import AirflowClient
from recsys.platform.console import Console
from recsys.platform.ports import HOST, check_ports
from recsys.platform.processes import Processes, end, is_running, read_state, sole_owner
from recsys.settings import Settings
from recsys.simulate.world import validate
from recsys.storage.layout import Dated
from recsys.storage.store import Storage

#: A process that has died ends the wait at once; one on a busy machine may take its time.
START_SECONDS = 600.0
VALKEY, DATABASE = "valkey", "postgres"
#: What holds a model in memory takes its turn; name, slots and description.
TRAINING_POOL = ("training", 1, "Tasks that hold a model and its matrices in memory")


class Platform:
    """A started platform: its addresses, and a client of its Airflow.

    Raises:
        WorldError: the world that the settings name is missing or malformed; nothing has been started.
    """

    def __init__(self, settings: Settings, console: Console, scheduled: bool) -> None:
        self.console = console
        self.url = f"http://{HOST}:{settings.port_airflow}"
        self.var = settings.var.resolve()
        self._generated = "world" not in settings.model_fields_set and not settings.world.exists()
        if not self._generated:
            validate(settings.world)
        self._choice = engine.choose(settings)
        self.settings = components.own_settings(settings, self._choice.simulation)
        # One night is over soon; all day half a GiB is too much for eight seconds of a night.
        self._torch = settings.airflow_holds_torch or not scheduled
        self._environment = components.environment(self.settings, scheduled)
        self._processes = Processes(self.var)
        self._database = components.own_database(self.settings)
        self.password = components.load_secrets(self.var).password
        self.airflow = AirflowClient(self.url, components.USER, self.password)

    def start(self) -> None:
        """Start everything and wait until it is ready.

        Raises:
            UnavailableError: a part does not come up; the message ends with its log.
        """
        self._start(VALKEY, components.valkey_words(self.var, "--bind", HOST, "--port", str(self.settings.port_redis)))
        self._wait(VALKEY, self._valkey_answers, f"127.0.0.1:{self.settings.port_redis}")
        self.console.say(self._choice.why)
        self._start_database()
        migrated = self._migrate()
        self._prepare_world()
        self._start("service", components.service_words(self.settings.port_service))
        if migrated:
            self._processes.wait("airflow-db")
            self._migration_stamp().write_text(self._migrated_to())
            self.console.say("Airflow's database is ready")
        for part in components.AIRFLOW_PARTS:
            self._start(part, components.part_words(part, torch=self._torch))
        self._wait("service", self._service_answers, self.settings.service_url)
        self._wait("api-server", self.airflow.is_healthy, self.url)
        self.airflow.ensure_pool(*TRAINING_POOL)
        self._wait("dag-processor", self._dags_are_there, f"{night.TRAFFIC}, {night.NIGHT}")

    def _start_database(self) -> None:
        if self._database is None:
            return
        earlier = self.var / "airflow" / "airflow.db"
        if earlier.exists() and not self._database.exists:
            self.console.say(
                f"Airflow's runs so far stand in {earlier} (SQLite) and are not carried over: it begins anew on PostgreSQL. "
                "Nights, reports and what is live stay. RECSYS_AIRFLOW_DATABASE=sqlite goes on with that file, without backfills."
            )
        self._database.prepare()
        self._start(DATABASE, self._database.words)
        self._wait(DATABASE, self._database.answers, f"127.0.0.1:{self.settings.port_database}")

    def revive(self) -> None:
        """Start what has ended again, and keep logs short."""
        self._processes.turn_logs()
        self._processes.forget_days(self.var / "airflow" / "logs" / "dag_processor")
        for name in self._processes.revive():
            self.console.say(f"{name} had ended; it has been started again (log/{name}.log tells more)")

    def stop(self) -> None:
        """End every process."""
        self.console.say("Stopping everything")
        self._processes.stop(last=(VALKEY, DATABASE))
        if self._choice.simulation == "docker":
            engine.end_containers(str(self.var))
        self.console.say("Everything has stopped")

    def _start(self, name: str, words: list[str]) -> None:
        self._processes.start(name, words, self._environment, components.ROOT)

    def _migrate(self) -> bool:
        """Begin to create or upgrade Airflow's database, unless this version of Airflow already did."""
        stamp = self._migration_stamp()
        if stamp.exists() and stamp.read_text() == self._migrated_to():
            return False
        self._start("airflow-db", components.airflow_words("db", "migrate"))
        return True

    def _migration_stamp(self) -> Path:
        return self.var / "airflow" / "migrated"

    def _migrated_to(self) -> str:
        """Names the version of Airflow and the database."""
        where = f"{self._database.data}" if self._database else self.settings.airflow_database.get_secret_value()
        return f"{importlib.metadata.version('apache-airflow')} {hashlib.sha256(where.encode()).hexdigest()[:16]}"

    def _prepare_world(self) -> None:
        world = self.settings.world
        if self._generated:
            self.console.say(f"Generating a world in {world}")
            self._start("world", [sys.executable, "-m", "recsys.cli", "world", "generate", "--dir", str(world.resolve())])
            self._processes.wait("world")
        self.console.say(f"World: {world}")

    def _wait(self, name: str, ready: Callable[[], bool], where: str) -> None:
        self._processes.wait_until(name, ready, START_SECONDS)
        self.console.say(f"{name} is ready: {where}")

    def _valkey_answers(self) -> bool:
        return components.valkey_answers(redis.Redis(port=self.settings.port_redis, socket_timeout=5))

    def _service_answers(self) -> bool:
        return components.service_answers(self.settings.service_url)

    def _dags_are_there(self) -> bool:
        errors = self.airflow.import_errors()
        if errors:
            raise UnavailableError("DAG files cannot be imported: " + "; ".join(errors))
        return self.airflow.has_dag(night.TRAFFIC) and self.airflow.has_dag(night.NIGHT)


def run(settings: Settings) -> int:
    """From nothing to yesterday's finished night; returns the exit status, 0 only if the night succeeded."""
    console = Console()
    log_date = yesterday()
    try:
        with _running(settings, console, scheduled=False) as platform:
            night.forget_interrupted(platform.airflow, console)
            if settings.experiment_source != "none":
                night.collect_missing_traffic(platform.airflow, platform.settings, log_date, console, platform.revive)
            seconds = night.run_night(platform.airflow, log_date, console, platform.revive)
            night.summarize(platform.settings, log_date, console)
            console.say(f"  the night took {seconds:.0f} s, all together {console.seconds:.0f} s")
    except Stopped as stopped:
        return stopped.exit_code
    return 0


def up(settings: Settings) -> int:
    """Keep the platform until Ctrl-C, SIGTERM or ``recsys platform down``."""
    console = Console()
    try:
        with _running(settings, console, scheduled=True) as platform:
            console.say(f"Airflow: {platform.url}   user {components.USER}   password {platform.password}")
            console.say("The DAGs are paused at first: unpause them there for the nightly schedule, or trigger a run.")
            if not Storage(platform.settings.storage_url).dates(Dated.LOGS):
                console.say("There is no traffic to learn from yet: 'make run' collects it, or the DAG collect_traffic.")
            console.say("Ctrl-C, or 'make down' elsewhere, stops everything.")
            while True:
                platform.revive()
                time.sleep(0.5)
    except Stopped:
        return 0


def down(settings: Settings) -> int:
    """End a platform, whether its own command still runs or was killed."""
    var = settings.var.resolve()
    found = read_state(var)
    for own in (r for r in found if r.name == "platform"):
        os.kill(own.pid, signal.SIGTERM)
        while is_running(own):
            time.sleep(0.1)
    left = read_state(var)
    end(left)
    (var / "platform.json").unlink(missing_ok=True)
    print(f"stopped: {', '.join(r.name for r in found)}" if found else "nothing was running")
    return 0


@contextmanager
def _running(settings: Settings, console: Console, *, scheduled: bool) -> Iterator[Platform]:
    """A started platform while the block runs; on every way out everything is ended."""
    with sole_owner(settings.var.resolve(), console.say) as ignore_signals:
        check_ports(settings)
        platform = Platform(settings, console, scheduled)
        try:
            platform.start()
            yield platform
        finally:
            ignore_signals()
            platform.stop()
