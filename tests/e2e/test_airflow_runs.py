"""Runs of the night by a real scheduler, in containers of a real engine: by schedule, dry, and refused."""

import json
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from recsys.platform import night
from recsys.platform.options import yesterday
from tests.e2e.airflow import Stack, wait_until
from tests.e2e.conftest import LAST

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]


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
    platform.finish(night.NIGHT, "dry", {"log_date": str(LAST), "dry_run": True})
    assert {t["state"] for t in platform.client.tasks(night.NIGHT, "dry")} == {"success", "skipped"}
    assert {path: path.stat().st_mtime_ns for path in Path(platform.var / "storage").rglob("*")} == logs
