"""A whole platform for tests of Airflow: PostgreSQL, Valkey, the service, Airflow's four parts; a small world with traffic."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from recsys.inspection.verify import verify
from recsys.night import steps, traffic
from recsys.night.log_date import yesterday
from recsys.night.night import Night
from recsys.platform import components, night
from recsys.platform.client import FINISHED, AirflowClient
from recsys.platform.ports import free_ports
from recsys.schemas import Verdict
from recsys.settings import Settings, load_settings
from recsys.storage.store import Storage
from recsys.versions import keyspace, pointer
from tests.support import postgres

TRACKS, USERS, SESSIONS = 1500, 400, 2500
#: Log dates that are played again as backfills, by hand and with accidents. A night's seed comes from its date: with fixed dates
#: the tests see the same nights on every day.
DATES = [date(2025, 6, 20) - timedelta(days=back) for back in range(4, -1, -1)]
#: The night's hour in tests, far from now: the schedule begins no night of its own while they run.
HOUR = (datetime.now(UTC).hour + 12) % 24
#: The date that is due as soon as the DAGs are unpaused.
DUE = yesterday() - timedelta(days=0 if datetime.now(UTC).hour >= HOUR else 1)


def wait_until(ready: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true answer; fails loudly after some seconds."""
    deadline = time.monotonic() + seconds
    while not (found := ready()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.5)
    return found


class Stack:
    """A running platform: its command line, its Airflow, its storage."""

    def __init__(self, environment: dict[str, str], client: AirflowClient) -> None:
        self.environment, self.client = environment, client
        self.var = Path(environment["RECSYS_VAR"])

    @property
    def settings(self) -> Settings:
        named = {k.removeprefix("RECSYS_").lower(): v for k, v in self.environment.items() if k.startswith("RECSYS_")}
        return load_settings(**{k: v for k, v in named.items() if k in Settings.model_fields})

    @property
    def own(self) -> dict[str, str]:
        """Nightshift's own part of the environment."""
        return {name: value for name, value in self.environment.items() if name.startswith("RECSYS_")}

    def cli(self, *words: str, code: int = 0, **more: str) -> str:
        """Output of a ``recsys`` command."""
        environment = self.environment | more
        answer = subprocess.run(
            [sys.executable, "-m", "recsys.cli", *words], env=environment, capture_output=True, text=True, check=False
        )
        assert answer.returncode == code, answer.stdout + answer.stderr
        return answer.stdout

    def airflow(self, *words: str) -> str:
        """Output of an ``airflow`` command, in the platform's own environment."""
        return self.cli("platform", "airflow", *words)

    def verified(self, day: date) -> str:
        """Digest of a finished night that is in order."""
        found = verify(Night(day, self.settings))
        assert found.failures == []
        return found.digest

    def without_airflow(self, day: date, *, backfill: bool = False) -> str:
        """Digest of a date's night that this process runs, and which promotes nothing."""
        # A run's sessions are numbered on from what Redis knows of it.
        steps.run(Night(day, self.settings), run_id=f"alone-{uuid4().hex[:8]}", wanted=False, backfill=backfill)
        return self.verified(day)

    def play(self, *days: date, sessions: int = SESSIONS) -> None:
        """Traffic of dates, served by what is live."""
        for day in days:
            traffic.collect(Night(day, self.settings.model_copy(update={"shards": 1})), sessions, run="t")

    def live(self) -> str:
        """The live version; empty before the first."""
        return pointer.read(keyspace.connect(self.settings)).version

    def clear(self, dag: str, run: str, task: str, downstream: bool = False) -> None:
        """Clear one task of a finished run, and nothing after it unless told so."""
        body = {
            "dry_run": False, "dag_run_id": run, "task_ids": [task], "only_failed": False, "reset_dag_runs": True,
            "include_downstream": downstream,
        }  # fmt: skip
        self.client.call("POST", f"/dags/{dag}/clearTaskInstances", body)

    def forget(self, day: date) -> None:
        """Remove everything that a night of a date has left."""
        for name in ("interactions", "models", "gates", "recommendations", "experiments", "reports", "promotions"):
            shutil.rmtree(self.var / "storage" / name / f"date={day}", ignore_errors=True)

    def make_live(self, day: str) -> str:
        """Make the candidate of a date's night live, whatever its verdict was; returns the version."""
        version = Verdict.read(Storage(self.settings.storage_url), date.fromisoformat(day)).version
        pointer.move(keyspace.connect(self.settings), version, date.fromisoformat(day), who="test", why="by hand")
        assert self.live() == version
        return version

    def wait_for_run(self, dag: str, run: str, seconds: float = 400) -> dict[str, Any]:
        """The run once it has ended."""

        def ended() -> dict[str, Any] | None:
            found = self.client.run(dag, run)
            return found if found["state"] in FINISHED else None

        return dict(wait_until(ended, seconds, f"{dag} {run}"))

    def finish(self, dag: str, run: str, parameters: dict[str, Any], state: str = "success") -> dict[str, Any]:
        """Trigger a run and wait for its end, which must be the expected one."""
        self.client.trigger(dag, run, parameters)
        found = self.wait_for_run(dag, run)
        assert found["state"] == state, self.story(dag, run)
        return found

    def log(self, dag: str, run: str, task: str) -> list[dict[str, Any]]:
        """What a person sees of a task's last try, entry by entry; lines that Airflow folds together are left out."""
        (found,) = [one for one in self.client.tasks(dag, run) if one["task_id"] == task]
        path = f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{found['try_number']}?full_content=true"
        seen, folded = [], False
        for entry in self.client.call("GET", path)["content"]:
            folded = entry["event"].startswith("::group::") or (folded and entry["event"] != "::endgroup::")
            if not folded and not entry["event"].startswith("::"):
                seen.append(entry)
        return seen

    @property
    def password(self) -> str:
        """Password of Airflow's user."""
        return components.load_secrets(self.var).password

    def runs(self, dag: str) -> list[dict[str, Any]]:
        """All runs."""
        return list(self.client.call("GET", f"/dags/{dag}/dagRuns?limit=100")["dag_runs"])

    def night(self, run: str) -> dict[str, Any]:
        """A run of the night."""
        return self.client.run(night.NIGHT, run)

    def note(self, dag: str, run: str) -> str | None:
        """What a run says of itself."""
        found: str | None = self.client.call("GET", f"/dags/{dag}/dagRuns/{run}")["note"]
        return found

    def state(self, dag: str, run: str, task: str) -> list[str]:
        """States of a task's instances."""
        return [t["state"] for t in self.client.tasks(dag, run) if t["task_id"] == task]

    def log_date_of(self, run: str) -> date:
        """The log date that a night's first task told in its log."""
        (first,) = [t for t in self.client.tasks(night.NIGHT, run) if t["task_id"] == "check_run"]
        (told,) = [line for line in self.client.log_tail(first, 200) if line.startswith("log date: ")]
        return date.fromisoformat(told.removeprefix("log date: "))

    def story(self, dag: str, run: str) -> str:
        """States of a run's tasks, and the logs of those that failed."""
        lines = []
        for task in self.client.tasks(dag, run):
            lines.append(f"{task['task_id']}[{task['map_index']}] {task['state']} try {task['try_number']}")
            if task["state"] in ("failed", "up_for_retry"):
                lines += self.client.log_tail(task, 30)
        return "\n".join(lines)


def days(last: date, count: int) -> list[date]:
    """Dates that end with ``last``."""
    return [last - timedelta(days=back) for back in range(count - 1, -1, -1)]


@contextmanager
def stack(directory: Path, **more: str) -> Iterator[Stack]:
    """The platform as ``make up`` starts it, both DAGs paused, with a small world; ended as ``make down`` does."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RECSYS_", "AIRFLOW"))}
    redis, service, airflow, database = free_ports(4)
    environment = kept | {
        "RECSYS_VAR": str(directory / "var"), "RECSYS_WORLD": str(directory / "world"), "RECSYS_EPISODES": str(SESSIONS),
        "RECSYS_TRAFFIC_SESSIONS": str(SESSIONS), "RECSYS_NIGHT_HOUR": str(HOUR),
        "RECSYS_PORT_REDIS": str(redis), "RECSYS_REDIS_URL": f"redis://127.0.0.1:{redis}/0", "RECSYS_BATCH": "64",
        "RECSYS_PORT_SERVICE": str(service), "RECSYS_SERVICE_URL": f"http://127.0.0.1:{service}",
        "RECSYS_PORT_AIRFLOW": str(airflow), "RECSYS_PORT_DATABASE": str(database),
        # These platforms play night after night.
        "RECSYS_AIRFLOW_HOLDS_TORCH": "true",
        # Several nights train side by side; more threads than cores would wait for each other.
        "OMP_NUM_THREADS": "1",
    } | more  # fmt: skip
    words = [sys.executable, "-m", "recsys.cli", "world", "generate", "--dir", environment["RECSYS_WORLD"]]
    words += ["--tracks", str(TRACKS), "--artists", "300", "--users", str(USERS), "--seed", "5"]
    subprocess.run(words, env=environment, check=True, capture_output=True)
    words = [sys.executable, "-m", "recsys.cli", "platform", "up"]
    # Airflow under a tracer takes half as long again, and its tasks' processes end without saving what was traced.
    untraced = {name: value for name, value in environment.items() if not name.startswith("COVERAGE_")}
    with subprocess.Popen(words, env=untraced, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said: list[str] = []
        try:
            for line in process.stdout:
                said.append(line)
                if "Ctrl-C" in line:
                    break
            else:
                raise AssertionError("".join(said))
            password = components.load_secrets(Path(environment["RECSYS_VAR"])).password
            yield Stack(environment, AirflowClient(f"http://127.0.0.1:{airflow}", components.USER, password))
        finally:
            down(environment)
            process.communicate(timeout=60)
            postgres.forget(Path(environment["RECSYS_VAR"]))


def down(environment: dict[str, str]) -> None:
    """End a platform."""
    words: Sequence[str] = [sys.executable, "-m", "recsys.cli", "platform", "down"]
    subprocess.run(words, env=environment, check=True, capture_output=True)


def scheduled_runs(platform: Stack) -> dict[str, str]:
    """Unpause both DAGs, and wait for the runs that the schedule itself starts; gives their ids by DAG.

    Unpausing is all: the interval that ended last is due at once, as any would be in the night's hour. Promotions
    are held meanwhile, so that nothing is live for the tests that follow.
    """
    client = platform.client
    platform.play(*days(DUE, 3)[:2])
    redis = keyspace.connect(platform.settings)
    pointer.hold(redis, pointer.EVERY, who="test", why="nothing shall be live yet")
    found = {}
    for dag in (night.TRAFFIC, night.NIGHT):
        client.set_paused(dag, False)
        path = f"/dags/{dag}/dagRuns?run_type=scheduled"
        runs = wait_until(lambda path=path: client.call("GET", path)["dag_runs"], 120, f"a scheduled run of {dag}")
        assert len(runs) == 1
        found[dag] = runs[0]["dag_run_id"]
        platform.wait_for_run(dag, found[dag])
    pointer.release(redis, pointer.EVERY, who="test", why="the tests begin")
    return found


__all__ = [
    "DATES", "DUE", "HOUR", "SESSIONS", "Stack", "days", "down", "night", "scheduled_runs", "stack", "wait_until",
]  # fmt: skip
