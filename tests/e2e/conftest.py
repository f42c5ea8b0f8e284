"""One platform for all tests of Airflow: starting it takes longer than most of them."""

import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from recsys.night.log_date import yesterday
from recsys.platform import night
from tests.support.airflow import IMAGE, SESSIONS, Engine, Stack, days, docker_engine, postgres, stack, wait_until

#: Log dates that are played again as backfills, by hand and with accidents. A night's seed comes from its date: with fixed dates
#: the tests see the same nights on every day.
DATES = days(date(2025, 6, 20), 5)
#: The date that is due as soon as the DAGs are unpaused.
DUE = yesterday() - timedelta(days=0 if datetime.now(UTC).hour >= 2 else 1)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A Docker engine with the simulator's image."""
    with docker_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures and screenshots are left for people."""
    directory = Path(os.environ.get("NIGHTSHIFT_ARTEFACTS") or tmp_path_factory.mktemp("artefacts"))
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@pytest.fixture(scope="session")
def paused(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Airflow on PostgreSQL, simulating in containers; traffic to learn from, nothing live, both DAGs paused."""
    directory = tmp_path_factory.mktemp("platform")
    more = {"RECSYS_SIMULATION": "docker", "DOCKER_HOST": engine.host, "RECSYS_SIMULATOR_IMAGE": IMAGE}
    with postgres() as database, stack(directory, database.url, **more) as running:
        for day in [*days(DATES[-1], len(DATES) + 1), *days(DUE, 3)[:2]]:
            running.cli("traffic", "--date", str(day), "--sessions", str(SESSIONS))
        yield running


@pytest.fixture(scope="session")
def scheduled(paused: Stack) -> dict[str, str]:
    """Ids of the runs that the schedule itself has started, by DAG; they have ended.

    Unpausing is all: the interval that ended at 02:00 (UTC) today is due at once, as any would be at its own 02:00. Promotions
    are held meanwhile, so that nothing is live for the tests that follow.
    """
    client = paused.client
    paused.cli("hold", "--why", "nothing shall be live yet")
    found = {}
    for dag in (night.TRAFFIC, night.NIGHT):
        client.set_paused(dag, False)
        path = f"/dags/{dag}/dagRuns?run_type=scheduled"
        runs = wait_until(lambda path=path: client.call("GET", path)["dag_runs"], 120, f"a scheduled run of {dag}")
        assert len(runs) == 1
        found[dag] = runs[0]["dag_run_id"]
        paused.wait_for_run(dag, found[dag])
    paused.cli("release", "--why", "the tests begin")
    return found


@pytest.fixture(scope="session")
def platform(paused: Stack, scheduled: dict[str, str]) -> Stack:
    """The same with both DAGs unpaused; the schedule has nothing more to do today."""
    assert len(scheduled) == 2
    return paused
