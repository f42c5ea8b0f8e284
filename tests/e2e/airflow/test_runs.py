"""Runs of the night by a real scheduler: by schedule, by hand; two at once; again, task by task; and what is refused."""

import json
import re
from datetime import date, timedelta
from pathlib import Path

import pytest

from recsys.platform import night
from recsys.schemas import Verdict
from recsys.storage.store import Storage
from tests.support.airflow import DATES, DUE, SESSIONS, Stack, wait_until

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("airflow"), pytest.mark.timeout(1800)]

TASKS = [
    "check_run", "wait_for_logs", "hold_date", "collect", "train", "evaluate_gate", "recommend", "publish", "simulate",
    "upload_logs", "abtest_report", "promote_or_hold",
]  # fmt: skip


def test_a_scheduled_run_happens_by_itself(platform: Stack, scheduled: dict[str, str]) -> None:
    for dag, run in scheduled.items():
        found = platform.client.run(dag, run)
        assert (found["run_type"], found["state"]) == ("scheduled", "success"), platform.story(dag, run)
    rows = {row["log_date"]: row for row in json.loads(platform.cli("nights", "--json"))}
    assert rows[str(DUE)]["verdict"] in ("held", "gate_refused")
    platform.verified(DUE)
    assert platform.log_date_of(scheduled[night.NIGHT]) == DUE
    # With nothing live there is the control alone to be compared with.
    verdict = str(rows[str(DUE)]["verdict"]).replace("_", " ")
    assert re.fullmatch(rf"{DUE} · {verdict}( · [+−][\d.]+ % against C)?", platform.note(night.NIGHT, scheduled[night.NIGHT]))
    assert platform.note(night.TRAFFIC, scheduled[night.TRAFFIC]) == f"{DUE} · {SESSIONS:,} sessions"


@pytest.fixture(scope="module")
def together(platform: Stack) -> dict[date, str]:
    """Ids of the runs of two nights at once, by date; they have ended with the digests that they have alone.

    What is live decides which candidates the gate refuses; that of the last date passes, so that its night has every step.
    """
    hold = {"promote": "no"}
    expected: dict[date, str] = {}
    passed: list[date] = []
    for day in reversed(DATES):
        platform.forget(day)
        expected[day] = platform.without_airflow(day)
        if Verdict.read(Storage(platform.settings.storage_url), day).version:
            passed.append(day)
        platform.forget(day)
        if passed and len(expected) > 1:
            break
    other = next(day for day in expected if day != passed[0])
    runs = {day: f"together-{day}" for day in (other, passed[0])}
    for day, run in runs.items():
        platform.client.trigger(night.NIGHT, run, {"log_date": str(day), **hold})
    first, holder = next(iter(runs.items()))
    wait_until(lambda: platform.state(night.NIGHT, holder, "collect") == ["success"], 300, "the first night to hold its date")
    platform.client.trigger(night.NIGHT, "twice", {"log_date": str(first), **hold})
    for day, run in runs.items():
        assert platform.wait_for_run(night.NIGHT, run)["state"] == "success", platform.story(night.NIGHT, run)
        assert platform.verified(day) == expected[day]
    assert platform.wait_for_run(night.NIGHT, "twice")["state"] == "success", platform.story(night.NIGHT, "twice")
    assert platform.verified(first) == expected[first]
    return runs


@pytest.mark.drill("Airflow", "two runs for one log date at once", "the second waits for the first, then gives the same night")
def test_two_nights_at_once_and_one_date_twice(platform: Stack, together: dict[date, str]) -> None:
    begins, ends = zip(*[(r["start_date"], r["end_date"]) for r in map(platform.night, together.values())], strict=True)
    assert max(begins) < min(ends)
    first, holder = next(iter(together.items()))
    (waited,) = [t for t in platform.client.tasks(night.NIGHT, "twice") if t["task_id"] == "hold_date"]
    told = platform.client.log_tail(waited, 60)
    assert any(f"log date {first} is held by run {night.NIGHT} {holder}" in line for line in told)
    assert platform.night("twice")["end_date"] > platform.night(holder)["end_date"]


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


def test_a_dry_run_writes_nothing(platform: Stack) -> None:
    logs = {path: path.stat().st_mtime_ns for path in Path(platform.var / "storage").rglob("*")}
    platform.finish(night.NIGHT, "dry", {"log_date": str(DATES[-1]), "dry_run": True})
    assert {t["state"] for t in platform.client.tasks(night.NIGHT, "dry")} == {"success", "skipped"}
    assert {path: path.stat().st_mtime_ns for path in Path(platform.var / "storage").rglob("*")} == logs
    assert platform.note(night.NIGHT, "dry") == f"{DATES[-1]} · dry run"
