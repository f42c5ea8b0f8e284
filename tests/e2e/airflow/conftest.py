"""One Airflow for all tests of this directory: starting it takes longer than most of them. Shards are processes."""

import shutil
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest

from recsys.platform import components
from recsys.schemas import Verdict
from recsys.storage.store import Storage
from tests.support.airflow import DATES, HOUR, Stack, days, scheduled_runs, stack
from tests.support.browser import chromium, log_in
from tests.support.components import Service, Valkey, running
from tests.support.person import PATIENCE, Person

#: The rollout rule: few listeners, looked at whenever a test wants it.
RULE = """
stages: [{share: 20, margin: 0.3}, {share: 50, margin: 0.1}, {share: 100}]
least_hours: 0
least_users: 50
planned_users: 100
"""


@pytest.fixture(scope="package")
def paused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Airflow as the platform starts it by default; traffic to learn from, nothing live, both DAGs paused."""
    directory = tmp_path_factory.mktemp("platform")
    (directory / "rollout.yml").write_text(RULE)
    # Nights are simulated, and promote as without a rule; the schedule looks far from now.
    with stack(directory, RECSYS_ROLLOUT=str(directory / "rollout.yml"), RECSYS_ROLLOUT_CRON=f"0 {HOUR} * * *") as running:
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


@pytest.fixture
def person(logged_in: Person) -> Iterator[Person]:
    """Who is logged in as the platform's own user."""
    yield logged_in
    logged_in.leave()


@pytest.fixture(scope="package")
def logged_in(platform: Stack, artefacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """The same person for all tests."""
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        log_in(driver, platform.client.url, components.USER, platform.password, PATIENCE)
        yield Person(driver, platform.client.url, artefacts / "person")


@pytest.fixture(scope="package")
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


@pytest.fixture(scope="module")
def versions(platform: Stack) -> dict[date, str]:
    """Two dates, the later one first, with candidates. What traffic there was decides which candidates the gate refuses."""
    found: dict[date, str] = {}
    for day in reversed(DATES):
        platform.forget(day)
        platform.without_airflow(day)
        if version := Verdict.read(Storage(platform.settings.storage_url), day).version:
            found[day] = version
        if len(found) == 2:
            return found
    raise AssertionError(f"the gate refused all but {found}")
