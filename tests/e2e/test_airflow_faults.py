"""Accidents in the middle of a night: it ends green, with the digest of an undisturbed one."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from recsys.platform import night
from recsys.platform.engine import LABEL
from tests.e2e.airflow import Engine, Stack, wait_until
from tests.e2e.conftest import DATES

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

DAY = DATES[-1]
#: Enough for containers that live some seconds.
NIGHT = {"log_date": str(DAY), "promote": False, "episodes": 12_000, "shards": 2}


@pytest.fixture(scope="module")
def undisturbed(platform: Stack) -> Iterator[str]:
    """Digest of the night without Airflow and without containers."""
    platform.forget(DAY)
    platform.cli("nightly", "--date", str(DAY), "--no-promote", "--episodes", str(NIGHT["episodes"]))
    yield platform.verified(DAY)
    platform.forget(DAY)


def disturbed(platform: Stack, name: str, moment: Callable[[], Any], accident: Callable[[Any], None]) -> str:
    """Digest of a night that meets an accident as soon as ``moment`` gives something, which is handed on."""
    platform.forget(DAY)
    platform.client.trigger(night.NIGHT, name, NIGHT)
    accident(wait_until(moment, 300, f"the moment of the accident of {name}"))
    found = platform.wait_for_run(night.NIGHT, name, 900)
    assert found["state"] == "success", platform.story(night.NIGHT, name)
    return platform.verified(DAY)


def process_named(platform: Stack, name: str) -> psutil.Process:
    """A part of the platform."""
    recorded = json.loads((platform.var / "platform.json").read_text())
    return psutil.Process([r["pid"] for r in recorded if r["name"] == name][-1])


def test_a_killed_scheduler(platform: Stack, undisturbed: str) -> None:
    run = "scheduler-killed"

    def running() -> bool:
        return platform.state(night.NIGHT, run, "train") == ["running"]

    digest = disturbed(platform, run, running, lambda _: process_named(platform, "scheduler").kill())
    assert digest == undisturbed


def test_a_killed_task(platform: Stack, undisturbed: str) -> None:
    run = "task-killed"

    def training() -> dict[str, Any] | None:
        tasks = platform.client.tasks(night.NIGHT, run)
        return next((t for t in tasks if t["task_id"] == "train" and t["state"] == "running" and t["pid"]), None)

    def kill(task: dict[str, Any]) -> None:
        psutil.Process(task["pid"]).kill()

    assert disturbed(platform, run, training, kill) == undisturbed
    (train,) = [t for t in platform.client.tasks(night.NIGHT, run) if t["task_id"] == "train"]
    assert train["try_number"] == 2


def containers(engine: Engine) -> list[str]:
    return engine.docker("ps", "--quiet", "--filter", f"label={LABEL}").split()


def test_a_killed_container(platform: Stack, engine: Engine, undisturbed: str) -> None:
    def kill(running: list[str]) -> None:
        engine.docker("kill", running[0])

    assert disturbed(platform, "container-killed", lambda: containers(engine), kill) == undisturbed
    shards = [t for t in platform.client.tasks(night.NIGHT, "container-killed") if t["task_id"] == "simulate"]
    assert max(t["try_number"] for t in shards) >= 2


def test_a_killed_docker_engine(platform: Stack, engine: Engine, undisturbed: str) -> None:
    def kill(_: list[str]) -> None:
        engine.kill()
        # Long enough for the tasks to notice; they try again ten seconds later.
        time.sleep(2)
        engine.start()

    assert disturbed(platform, "engine-killed", lambda: containers(engine), kill) == undisturbed


def test_a_shard_that_is_failed_by_hand_ends_its_container(platform: Stack, engine: Engine) -> None:
    run = "failed-by-hand"
    platform.forget(DAY)
    platform.client.trigger(night.NIGHT, run, NIGHT | {"episodes": 400_000})
    wait_until(lambda: containers(engine), 200, "a container")
    for task in platform.client.tasks(night.NIGHT, run):
        if task["task_id"] == "simulate" and task["map_index"] >= 0:
            path = f"/dags/{night.NIGHT}/dagRuns/{run}/taskInstances/simulate/{task['map_index']}"
            platform.client.call("PATCH", path, {"new_state": "failed"})
    wait_until(lambda: not containers(engine), 180, "the end of the containers")
    assert platform.wait_for_run(night.NIGHT, run)["state"] == "failed"
    platform.forget(DAY)
