"""Backfills by a real scheduler, forwards and backwards: each date gets the night that it has alone."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta

import pytest

from recsys.platform import night
from tests.support.airflow import DATES, HOUR, Stack, wait_until
from tests.support.components import Service, Valkey, running

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("airflow"), pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def alone(platform: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[date], str]]:
    """Tells the digest of a date's night, run by itself as a backfill: another Redis, another storage, no Airflow."""
    directory = tmp_path_factory.mktemp("alone")
    with running(Valkey(directory)) as valkey:
        environment = {"RECSYS_VAR": str(directory), "RECSYS_REDIS_URL": valkey.url}
        with running(Service(platform.own | environment)) as service:
            elsewhere = Stack(platform.environment | environment | {"RECSYS_SERVICE_URL": service.url}, platform.client)

            def digest(day: date) -> str:
                logs = "storage/logs"
                shutil.copytree(platform.var / logs, directory / logs, dirs_exist_ok=True)
                return elsewhere.without_airflow(day, backfill=True)

            yield digest


def span(first: date, last: date) -> list[str]:
    """Options that name log dates: the run for D is due in the night's hour of D+1; its interval begins in that of D."""
    hour = f"T{HOUR:02d}:00:00+00:00"
    return ["--from-date", f"{first}{hour}", "--to-date", f"{last}{hour}"]


def create(platform: Stack, first: date, last: date, *words: str) -> None:
    platform.airflow("backfill", "create", "--dag-id", night.NIGHT, *span(first, last), *words)


def runs(platform: Stack) -> dict[str, dict[str, object]]:
    """Runs of backfills by log date, those with a configuration left out."""
    found = platform.client.call("GET", f"/dags/{night.NIGHT}/dagRuns?run_type=backfill&limit=100")["dag_runs"]
    return {str(run["data_interval_start"])[:10]: run for run in found if not run["conf"]}


def backfill(platform: Stack, dates: Sequence[date], *words: str) -> None:
    """Run ``airflow backfill create`` over dates, three at a time, and wait for all its runs."""
    create(platform, dates[0], dates[-1], "--max-active-runs", "3", "--reprocess-behavior", "completed", *words)

    def ended() -> bool:
        found = platform.client.call("GET", f"/backfills?dag_id={night.NIGHT}")["backfills"]
        return bool(found) and all(one["completed_at"] for one in found)

    wait_until(ended, 1500, "the backfill")
    found = runs(platform)
    assert {str(day) for day in dates} <= set(found)
    for day in dates:
        assert found[str(day)]["state"] == "success", platform.story(night.NIGHT, str(found[str(day)]["dag_run_id"]))


@pytest.mark.parametrize(
    "backfills",
    [
        pytest.param([(DATES[-1:], ())], id="one date", marks=pytest.mark.brief),
        pytest.param(
            [(DATES, ()), (DATES[1:4], ("--run-backwards",))], id="five dates, three backwards", marks=pytest.mark.marathon
        ),
    ],
)
def test_a_backfill_gives_what_each_date_gives_alone(
    platform: Stack, alone: Callable[[date], str], backfills: list[tuple[list[date], tuple[str, ...]]]
) -> None:
    dates = backfills[0][0]
    platform.play(dates[0] - timedelta(days=1), *dates)
    expected = {day: alone(day) for day in dates}
    if not platform.live():
        platform.forget(DATES[-3])
        platform.without_airflow(DATES[-3])
        platform.make_live(str(DATES[-3]))
    live = platform.live()
    for some, words in backfills:
        for day in some:
            platform.forget(day)  # a night of another test would have noted what was live then as its baseline
        backfill(platform, some, *words)
        assert {day: platform.verified(day) for day in dates} == expected
    assert platform.live() == live


def test_a_backfill_that_also_names_a_log_date_is_refused(platform: Stack) -> None:
    day = DATES[0] - timedelta(days=10)
    create(platform, day, day, "--dag-run-conf", json.dumps({"log_date": str(DATES[-1])}))

    def created() -> list[str]:
        found = platform.client.call("GET", f"/dags/{night.NIGHT}/dagRuns?run_type=backfill&limit=100")["dag_runs"]
        return [run["dag_run_id"] for run in found if run["conf"]]

    (run,) = wait_until(created, 120, "the backfill's run")
    assert platform.wait_for_run(night.NIGHT, run)["state"] == "failed"
    (refused,) = [t for t in platform.client.tasks(night.NIGHT, run) if t["state"] == "failed"]
    assert (refused["task_id"], refused["try_number"]) == ("check_run", 1)
    assert any(
        "a backfill run takes its log date from its data interval" in line for line in platform.client.log_tail(refused, 40)
    )
