"""Runs of the night by a real scheduler: by schedule, by backfill, by hand; two at once; again, task by task."""

import json
import shutil
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path

import pytest

from recsys.platform import night
from tests.e2e.conftest import DATES, DUE
from tests.support.airflow import Stack, wait_until
from tests.support.components import Service, Valkey, running

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

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
        valkey = parts.enter_context(running(Valkey(directory)))
        environment = {"RECSYS_VAR": str(directory), "RECSYS_REDIS_URL": valkey.url}
        service = parts.enter_context(running(Service(platform.own | environment)))
        environment |= {"RECSYS_SERVICE_URL": service.url}
        for day in DATES:
            platform.cli("nightly", "--backfill", "--date", str(day), **environment)
            digests[day] = platform.verified(day, **environment)
    return digests


def test_a_scheduled_run_happens_by_itself(platform: Stack, scheduled: dict[str, str]) -> None:
    for dag, run in scheduled.items():
        found = platform.client.run(dag, run)
        assert (found["run_type"], found["state"]) == ("scheduled", "success"), platform.story(dag, run)
    rows = {row["log_date"]: row for row in json.loads(platform.cli("nights", "--json"))}
    assert rows[str(DUE)]["verdict"] in ("held", "gate_refused")
    platform.verified(DUE)
    assert platform.log_date_of(scheduled[night.NIGHT]) == DUE


def backfill(platform: Stack, *words: str) -> None:
    """Run ``airflow backfill create`` over the dates, three at a time, and wait for all its runs."""
    # The run for D is due at 02:00 on D+1; its interval begins at 02:00 on D.
    span = ["--from-date", f"{DATES[0]}T02:00:00+00:00", "--to-date", f"{DATES[-1]}T02:00:00+00:00"]
    platform.airflow("backfill", "create", "--dag-id", night.NIGHT, *span, "--max-active-runs", "3", *words)

    def ended() -> bool:
        found = platform.client.call("GET", f"/backfills?dag_id={night.NIGHT}")["backfills"]
        return bool(found) and all(one["completed_at"] for one in found)

    wait_until(ended, 1500, "the backfill")
    runs = platform.client.call("GET", f"/dags/{night.NIGHT}/dagRuns?run_type=backfill&limit=100")["dag_runs"]
    dated = [run for run in runs if not run["conf"]]
    assert len(dated) == len(DATES)
    for run in dated:
        assert run["state"] == "success", platform.story(night.NIGHT, run["dag_run_id"])


def test_a_backfill_gives_what_each_date_gives_alone(platform: Stack, alone: dict[date, str]) -> None:
    for day in DATES:
        platform.forget(day)  # a night of another test would have noted what was live then as its baseline
    if not platform.live():
        # Of a date whose night no other test forgets: what is live must keep its lists.
        platform.cli("nightly", "--date", str(DATES[0]), "--no-promote")
        platform.make_live(str(DATES[0]))
        platform.forget(DATES[0])
    live = platform.live()
    backfill(platform)
    assert {day: platform.verified(day) for day in DATES} == alone
    for day in DATES:
        platform.forget(day)
    backfill(platform, "--run-backwards", "--reprocess-behavior", "completed")
    assert {day: platform.verified(day) for day in DATES} == alone
    assert platform.live() == live


@pytest.fixture(scope="module")
def together(platform: Stack) -> dict[date, str]:
    """Ids of the runs of two nights at once, by date; they have ended with the digests that they have alone."""
    hold = {"promote": False}
    expected, runs = {}, {day: f"together-{day}" for day in DATES[-2:]}
    for day in runs:
        platform.forget(day)
        platform.cli("nightly", "--date", str(day), "--no-promote")
        expected[day] = platform.verified(day)
        platform.forget(day)
    for day, run in runs.items():
        platform.client.trigger(night.NIGHT, run, {"log_date": str(day), **hold})
    first, holder = next(iter(runs.items()))
    wait_until(lambda: platform.state(night.NIGHT, holder, "collect") == ["success"], 300, "the first night to hold its date")
    platform.finish(night.NIGHT, "twice", {"log_date": str(first), **hold}, state="failed")
    for day, run in runs.items():
        assert platform.wait_for_run(night.NIGHT, run)["state"] == "success", platform.story(night.NIGHT, run)
        assert platform.verified(day) == expected[day]
    return runs


@pytest.mark.drill("Airflow", "two runs for one log date at once", "the second fails and names the first")
def test_two_nights_at_once_and_one_date_twice(platform: Stack, together: dict[date, str]) -> None:
    begins, ends = zip(*[(r["start_date"], r["end_date"]) for r in map(platform.night, together.values())], strict=True)
    assert max(begins) < min(ends)
    first, holder = next(iter(together.items()))
    (refused,) = [t for t in platform.client.tasks(night.NIGHT, "twice") if t["state"] == "failed"]
    assert (refused["task_id"], refused["try_number"]) == ("collect", 1)
    assert any(f"log date {first} is held by run {holder}" in line for line in platform.client.log_tail(refused, 40))


@pytest.mark.drill("Airflow", "any task cleared after the night", "the same digest")
@pytest.mark.parametrize("task", TASKS)
def test_a_task_cleared_and_run_again_changes_nothing(platform: Stack, together: dict[date, str], task: str) -> None:
    day, run = list(together.items())[-1]
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
        ({"window": 1}, "window"),
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


def test_a_backfill_that_also_names_a_log_date_is_refused(platform: Stack) -> None:
    day = DATES[0] - timedelta(days=10)
    span = ["--from-date", f"{day}T02:00:00+00:00", "--to-date", f"{day}T02:00:00+00:00"]
    conf = json.dumps({"log_date": str(DATES[-1])})
    platform.airflow("backfill", "create", "--dag-id", night.NIGHT, *span, "--dag-run-conf", conf)

    def created() -> list[str]:
        runs = platform.client.call("GET", f"/dags/{night.NIGHT}/dagRuns?run_type=backfill&limit=100")["dag_runs"]
        return [run["dag_run_id"] for run in runs if run["conf"]]

    (run,) = wait_until(created, 120, "the backfill's run")
    assert platform.wait_for_run(night.NIGHT, run)["state"] == "failed"
    (refused,) = [t for t in platform.client.tasks(night.NIGHT, run) if t["state"] == "failed"]
    assert (refused["task_id"], refused["try_number"]) == ("check_run", 1)
    assert any(
        "a backfill run takes its log date from its data interval" in line for line in platform.client.log_tail(refused, 40)
    )


def test_a_dry_run_writes_nothing(platform: Stack) -> None:
    logs = {path: path.stat().st_mtime_ns for path in Path(platform.var / "storage").rglob("*")}
    platform.finish(night.NIGHT, "dry", {"log_date": str(DATES[-1]), "dry_run": True})
    assert {t["state"] for t in platform.client.tasks(night.NIGHT, "dry")} == {"success", "skipped"}
    assert {path: path.stat().st_mtime_ns for path in Path(platform.var / "storage").rglob("*")} == logs
