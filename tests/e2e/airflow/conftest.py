"""One Airflow for all tests of this directory: starting it takes longer than most of them. Shards are processes."""

from collections.abc import Iterator

import pytest

from tests.support.airflow import DATES, Stack, days, scheduled_runs, stack


@pytest.fixture(scope="package")
def paused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Airflow as the platform starts it by default; traffic to learn from, nothing live, both DAGs paused."""
    with stack(tmp_path_factory.mktemp("platform")) as running:
        running.play(*days(DATES[-1], 4))
        yield running


@pytest.fixture(scope="package")
def scheduled(paused: Stack) -> dict[str, str]:
    """Ids of the runs that the schedule itself has started, by DAG; they have ended."""
    return scheduled_runs(paused)


@pytest.fixture(scope="package")
def platform(paused: Stack, scheduled: dict[str, str]) -> Stack:
    """The same with both DAGs unpaused; the schedule has nothing more to do today."""
    assert len(scheduled) == 2
    return paused
