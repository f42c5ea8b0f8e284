"""Backfills by the command line and a real scheduler: a date gets the night that it has alone."""

import json
from collections.abc import Callable, Sequence
from datetime import date, timedelta

import pytest

from recsys.platform import night
from tests.support.airflow import DATES, HOUR, Stack, wait_until

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("airflow"), pytest.mark.timeout(1800)]


def span(first: date, last: date) -> list[str]:
    """Options that name log dates: the run for D is due in the night's hour of D+1; its interval begins in that of D."""
    hour = f"T{HOUR:02d}:00:00+00:00"
    return ["--from-date", f"{first}{hour}", "--to-date", f"{last}{hour}"]


def completed(platform: Stack) -> bool:
    """Whether no backfill runs any more. Airflow notices that some time after the last run's end, and allows one at a time."""
    found = platform.client.call("GET", f"/backfills?dag_id={night.NIGHT}")["backfills"]
    return all(one["completed_at"] for one in found)


def create(platform: Stack, first: date, last: date, *words: str) -> None:
    wait_until(lambda: completed(platform), 120, "the end of the backfills before")
    platform.airflow("backfill", "create", "--dag-id", night.NIGHT, *span(first, last), *words)


def runs(platform: Stack) -> dict[str, dict[str, object]]:
    """Runs of backfills by log date, those with a configuration left out."""
    found = platform.client.call("GET", f"/dags/{night.NIGHT}/dagRuns?run_type=backfill&limit=100")["dag_runs"]
    return {str(run["data_interval_start"])[:10]: run for run in found if not run["conf"]}


def backfill(platform: Stack, dates: Sequence[date], *words: str) -> None:
    """Run ``airflow backfill create`` over dates, three at a time, and wait for all its runs."""
    create(platform, dates[0], dates[-1], "--max-active-runs", "3", "--reprocess-behavior", "completed", *words)
    wait_until(lambda: completed(platform), 1500, "the backfill")
    found = runs(platform)
    assert {str(day) for day in dates} <= set(found)
    for day in dates:
        assert found[str(day)]["state"] == "success", platform.story(night.NIGHT, str(found[str(day)]["dag_run_id"]))


def created(platform: Stack, conf: dict[str, object], count: int) -> list[str]:
    """Runs of a backfill that is told by its configuration, once it has all of them."""

    def look() -> list[str]:
        found = platform.client.call("GET", f"/dags/{night.NIGHT}/dagRuns?run_type=backfill&limit=100")["dag_runs"]
        runs = [run["dag_run_id"] for run in found if run["conf"] == conf]
        return runs if len(runs) == count else []

    return list(wait_until(look, 120, "the backfill's runs"))


@pytest.mark.brief
def test_a_backfill_gives_what_its_date_gives_alone(platform: Stack, alone: Callable[[date], str]) -> None:
    """For several dates, three at a time, see test_person."""
    day = DATES[-1]
    platform.play(DATES[0] - timedelta(days=1), *DATES)
    expected = alone(day)
    if not platform.live():
        platform.forget(DATES[-3])
        platform.without_airflow(DATES[-3])
        platform.make_live(str(DATES[-3]))
    live = platform.live()
    platform.forget(day)  # a night of another test would have noted what was live then as its baseline
    backfill(platform, [day])
    assert platform.verified(day) == expected
    assert platform.live() == live


def test_a_backfill_that_also_names_a_log_date_is_refused(platform: Stack) -> None:
    day = DATES[0] - timedelta(days=10)
    conf: dict[str, object] = {"log_date": str(DATES[-1])}
    create(platform, day, day, "--dag-run-conf", json.dumps(conf))
    (run,) = created(platform, conf, 1)
    assert platform.wait_for_run(night.NIGHT, run)["state"] == "failed"
    (refused,) = [t for t in platform.client.tasks(night.NIGHT, run) if t["state"] == "failed"]
    assert (refused["task_id"], refused["try_number"]) == ("check_run", 1)
    assert any(
        "a backfill run takes its log date from its data interval" in line for line in platform.client.log_tail(refused, 40)
    )


def test_a_backfill_runs_backwards(platform: Stack) -> None:
    """apache/airflow 50522: one that does not."""
    conf: dict[str, object] = {"dry_run": True, "seed": 7}
    first, last = (day - timedelta(days=45) for day in (DATES[0], DATES[1]))
    create(platform, first, last, "--max-active-runs", "1", "--run-backwards", "--dag-run-conf", json.dumps(conf))
    runs = created(platform, conf, 2)
    ended = [platform.wait_for_run(night.NIGHT, run) for run in runs]
    assert {run["state"] for run in ended} == {"success"}
    later, earlier = sorted(ended, key=lambda run: str(run["data_interval_start"]), reverse=True)
    assert later["start_date"] < earlier["start_date"]


def test_backfills_beside_many_runs_and_runs_cleared_together(platform: Stack) -> None:
    """What people have reported of Airflow does not happen here.

    apache/airflow 58554: a backfill starved by other runs; 56646: more runs at a time than the DAG allows, once several are
    cleared; 44343: a cleared task of a backfill that does not run again.
    """
    first, last = (day - timedelta(days=30) for day in (DATES[0], DATES[2]))
    conf: dict[str, object] = {"dry_run": True}
    by_hand = [f"many-{number}" for number in range(4)]
    for run in by_hand:
        platform.client.trigger(night.NIGHT, run, {"log_date": str(DATES[-1]), **conf})
    create(platform, first, last, "--max-active-runs", "3", "--dag-run-conf", json.dumps(conf))

    def ended() -> bool:
        """Whether all have ended; never are there more at a time than the DAG allows, and than the backfill does of its own."""
        states = {run: platform.night(run)["state"] for run in runs}
        for some in (by_hand, runs[len(by_hand) :]):
            assert [states[run] for run in some].count("running") <= 3
        return set(states.values()) == {"success"}

    runs = by_hand + created(platform, conf, 3)
    wait_until(ended, 300, "all runs")
    for run in runs:
        body = {"dry_run": False, "dag_run_id": run, "task_ids": ["check_run"], "only_failed": False, "reset_dag_runs": True}
        platform.client.call("POST", f"/dags/{night.NIGHT}/clearTaskInstances", body)
    wait_until(ended, 300, "all runs, again")
    for run in runs:
        (task,) = [task for task in platform.client.tasks(night.NIGHT, run) if task["task_id"] == "check_run"]
        assert (task["state"], task["try_number"]) == ("success", 2), run
