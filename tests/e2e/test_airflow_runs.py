"""Runs of the night by a real scheduler: by schedule, by backfill, by hand; two at once; again, task by task."""

import json
import shutil
import subprocess
import sys
from contextlib import ExitStack
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from recsys.platform import night
from recsys.platform.options import yesterday
from tests.components import Service, Valkey, running
from tests.e2e.airflow import Stack, days, wait_until
from tests.e2e.conftest import LAST

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

BACKFILLED = days(LAST, 5)
TASKS = [
    "check_run", "wait_for_logs", "collect", "train", "evaluate_gate", "recommend", "publish", "simulate", "upload_logs",
    "abtest_report", "promote_or_hold",
]  # fmt: skip


@pytest.fixture(scope="module")
def alone(platform: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[date, str]:
    """Digests of the dates' nights, each run by itself as a backfill: another Redis, another storage, no Airflow."""
    directory = tmp_path_factory.mktemp("alone")
    digests = {}
    shutil.copytree(platform.var / "storage" / "logs", directory / "storage" / "logs")
    with ExitStack() as parts:
        (directory / "valkey").mkdir()
        valkey = parts.enter_context(running(Valkey(directory / "valkey")))
        environment = {
            name: value for name, value in platform.environment.items() if name.startswith("RECSYS_")
        } | {"RECSYS_VAR": str(directory), "RECSYS_REDIS_URL": valkey.url}  # fmt: skip
        service = parts.enter_context(running(Service(environment)))
        environment |= {"RECSYS_SERVICE_URL": service.url}
        for day in BACKFILLED:
            words = [sys.executable, "-m", "recsys.cli", "nightly", "--backfill", "--date", str(day)]
            answer = subprocess.run(words, env=platform.environment | environment, capture_output=True, text=True, check=False)
            assert answer.returncode == 0, answer.stderr
            digests[day] = json.loads(platform.cli("verify", "--date", str(day), "--json", **environment))["digest"]
    return digests


def test_a_scheduled_run_happens_by_itself(platform: Stack) -> None:
    """Unpausing is all: the interval that ended at 02:00 (UTC) today is due at once, as any would be at its own 02:00."""
    client = platform.client
    due = yesterday() if datetime.utcnow().hour >= 2 else yesterday() - timedelta(days=1)
    for dag in (night.TRAFFIC, night.NIGHT):
        client.set_paused(dag, False)

    def scheduled(dag: str) -> str | None:
        runs = client.call("GET", f"/dags/{dag}/dagRuns?run_type=scheduled")["dag_runs"]
        assert len(runs) <= 1
        return runs[0]["dag_run_id"] if runs else None

    for dag in (night.TRAFFIC, night.NIGHT):
        run = wait_until(lambda dag=dag: scheduled(dag), 60, f"a scheduled run of {dag}")
        assert platform.wait_for_run(dag, run)["state"] == "success", platform.story(dag, run)
    rows = json.loads(platform.cli("nights", "--json"))
    assert [row["log_date"] for row in rows] == [str(due)]
    platform.verified(due)


def backfill(platform: Stack, *words: str) -> None:
    """Run ``airflow backfill create`` over the dates and wait for all its runs."""
    first, last = BACKFILLED[0], BACKFILLED[-1]
    # The run for D is due at 02:00 on D+1; its interval begins at 02:00 on D.
    span = ["--from-date", f"{first}T02:00:00+00:00", "--to-date", f"{last}T02:00:00+00:00"]
    platform.airflow("backfill", "create", "--dag-id", night.NIGHT, *span, "--max-active-runs", "3", *words)

    def ended() -> bool:
        found = platform.client.call("GET", f"/backfills?dag_id={night.NIGHT}")["backfills"]
        return bool(found) and all(one["completed_at"] for one in found)

    wait_until(ended, 900, "the backfill")
    runs = platform.client.call("GET", f"/dags/{night.NIGHT}/dagRuns?run_type=backfill&limit=100")["dag_runs"]
    assert len(runs) == len(BACKFILLED)
    for run in runs:
        assert run["state"] == "success", platform.story(night.NIGHT, run["dag_run_id"])


def test_a_backfill_gives_what_each_date_gives_alone(platform: Stack, alone: dict[date, str]) -> None:
    live = platform.make_live(json.loads(platform.cli("nights", "--json"))[0]["log_date"])
    backfill(platform)
    assert {day: platform.verified(day) for day in BACKFILLED} == alone
    for day in BACKFILLED:
        platform.forget(day)
    backfill(platform, "--run-backwards", "--reprocess-behavior", "completed")
    assert {day: platform.verified(day) for day in BACKFILLED} == alone
    assert platform.live() == live


def test_two_nights_at_once_and_one_date_twice(platform: Stack) -> None:
    first, second = BACKFILLED[-2:]
    hold = {"promote": False}
    expected = {}
    for day in (first, second):
        platform.forget(day)
        platform.finish(night.NIGHT, f"alone-{day}", {"log_date": str(day), **hold})
        expected[day] = platform.verified(day)
    for day in (first, second):
        platform.forget(day)
        platform.client.trigger(night.NIGHT, f"together-{day}", {"log_date": str(day), **hold})
    holder = f"together-{first}"
    client = platform.client
    wait_until(lambda: any(t["task_id"] == "train" and t["state"] for t in client.tasks(night.NIGHT, holder)), 120, "train")
    platform.finish(night.NIGHT, "twice", {"log_date": str(first), **hold}, state="failed")
    (refused,) = [t for t in client.tasks(night.NIGHT, "twice") if t["state"] == "failed"]
    assert refused["task_id"] == "collect"
    assert any(f"log date {first} is held by run {holder}" in line for line in client.log_tail(refused, 40))
    for day in (first, second):
        assert platform.wait_for_run(night.NIGHT, f"together-{day}")["state"] == "success"
        assert platform.verified(day) == expected[day]


@pytest.mark.parametrize("task", TASKS)
def test_a_task_cleared_and_run_again_changes_nothing(platform: Stack, task: str) -> None:
    day = BACKFILLED[-1]
    run = f"together-{day}"
    before = platform.verified(day)
    platform.clear(night.NIGHT, run, task)
    found = platform.wait_for_run(night.NIGHT, run)
    assert found["state"] == "success", platform.story(night.NIGHT, run)
    assert platform.verified(day) == before


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"episodes": 0}, "episodes"),
        ({"seed": -1}, "seed"),
        ({"shards": 1000}, "shards"),
        ({"log_date": "soon"}, "log_date"),
        ({"experiment": "NO_SUCH"}, "experiment"),
    ],
)
def test_the_form_refuses_a_bad_trigger(platform: Stack, parameters: dict[str, object], message: str) -> None:
    from recsys.exceptions import UnavailableError

    with pytest.raises(UnavailableError, match=rf"answered 4\d\d.*{message}"):
        platform.client.trigger(night.NIGHT, f"bad-{message}", parameters)


def test_the_first_task_refuses_what_the_form_cannot_see(platform: Stack) -> None:
    tomorrow = str(date.today() + timedelta(days=2))
    platform.finish(night.NIGHT, "future", {"log_date": tomorrow}, state="failed")
    (refused,) = [t for t in platform.client.tasks(night.NIGHT, "future") if t["state"] == "failed"]
    assert refused["task_id"] == "check_run"
    assert refused["try_number"] == 1
    assert any("a log date is over before its night" in line for line in platform.client.log_tail(refused, 40))


def test_a_dry_run_writes_nothing(platform: Stack) -> None:
    logs = {path: path.stat().st_mtime_ns for path in Path(platform.var / "storage").rglob("*")}
    platform.finish(night.NIGHT, "dry", {"log_date": str(BACKFILLED[0]), "dry_run": True})
    assert {t["state"] for t in platform.client.tasks(night.NIGHT, "dry")} == {"success", "skipped"}
    assert {path: path.stat().st_mtime_ns for path in Path(platform.var / "storage").rglob("*")} == logs
