"""One platform for all tests of Airflow: starting it takes longer than most of them."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from recsys.platform.options import yesterday
from tests.e2e.airflow import IMAGE, SESSIONS, Engine, Stack, days, docker_engine, postgres, stack

#: Log dates before yesterday that have traffic; yesterday's is left to the schedule.
LAST = yesterday() - timedelta(days=1)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A Docker engine with the simulator's image."""
    with docker_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def platform(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Airflow on PostgreSQL, simulating in containers; three dates of traffic, nothing live."""
    directory = tmp_path_factory.mktemp("platform")
    more = {"RECSYS_SIMULATION": "docker", "DOCKER_HOST": engine.host, "RECSYS_SIMULATOR_IMAGE": IMAGE}
    with postgres() as database, stack(directory, database.url, **more) as running:
        for day in days(LAST, 3):
            running.cli("traffic", "--date", str(day), "--sessions", str(SESSIONS))
        yield running
