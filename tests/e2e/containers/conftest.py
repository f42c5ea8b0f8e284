"""One Airflow for all tests of this directory, which simulates in containers of a Docker engine of its own.

It is of the group of the other Airflow, so that one runs after the other: two of them beside the stack keep two cores too busy.
"""

from collections.abc import Iterator

import pytest

from tests.support.airflow import DATES, Stack, days, scheduled_runs, stack
from tests.support.engine import IMAGE, Engine, docker_engine


@pytest.fixture(scope="package")
def engine() -> Iterator[Engine]:
    """A Docker engine with the simulator's image."""
    with docker_engine() as engine:
        yield engine


@pytest.fixture(scope="package")
def platform(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Airflow as the platform starts it by default; traffic to learn from, nothing live, both DAGs unpaused."""
    directory = tmp_path_factory.mktemp("platform")
    more = {"RECSYS_SIMULATION": "docker", "DOCKER_HOST": engine.host, "RECSYS_SIMULATOR_IMAGE": IMAGE}
    with stack(directory, **more) as running:
        running.play(*days(DATES[-1], 3))
        scheduled_runs(running)
        yield running
