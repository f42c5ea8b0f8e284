"""Accidents in the middle of a night, two in each: it ends green, with the digest of an undisturbed one."""

import json
import time
from datetime import date
from typing import Any

import psutil
import pytest

from recsys.logs.record import log_files, records
from recsys.platform import night
from recsys.platform.engine import LABEL
from recsys.storage.layout import Dated
from recsys.storage.store import Storage
from tests.support.airflow import DATES, Stack, wait_until
from tests.support.engine import Engine

pytestmark = [pytest.mark.real, pytest.mark.marathon, pytest.mark.xdist_group("airflow"), pytest.mark.timeout(3000)]

DAY = DATES[-1]
#: Enough for containers that live some seconds.
EPISODES = 12_000
NIGHT = {"log_date": str(DAY), "promote": "no", "episodes": EPISODES, "shards": 2}


@pytest.fixture(scope="module")
def undisturbed(platform: Stack) -> str:
    """Digest of the night without Airflow and without containers."""
    platform.forget(DAY)
    platform.cli("nightly", "--date", str(DAY), "--no-promote", "--episodes", str(EPISODES))
    # A refused candidate is not simulated: nothing would be there to kill.
    assert {row["log_date"]: row["verdict"] for row in json.loads(platform.cli("nights", "--json"))}[str(DAY)] == "held"
    return platform.verified(DAY)


def running(platform: Stack, run: str, task: str) -> dict[str, Any]:
    """A task of a night as soon as it runs."""

    def look() -> dict[str, Any] | None:
        tasks = platform.client.tasks(night.NIGHT, run)
        return next((t for t in tasks if t["task_id"] == task and t["state"] == "running" and t["pid"]), None)

    return dict(wait_until(look, 400, f"{task} of {run} to run"))


def containers(engine: Engine) -> list[str]:
    return engine.docker("ps", "--quiet", "--filter", f"label={LABEL}", check=False).split()


def a_container(engine: Engine) -> str:
    """A simulation's container as soon as there is one."""
    return str(wait_until(lambda: containers(engine), 400, "a container")[0])


def tries(platform: Stack, run: str, task: str, dag: str = night.NIGHT) -> int:
    return max(t["try_number"] for t in platform.client.tasks(dag, run) if t["task_id"] == task)


@pytest.mark.drill(
    "Airflow", "the process of a task, then a simulation's container, killed", "both are tried again; the same digest"
)
def test_a_killed_task_and_a_killed_container(platform: Stack, engine: Engine, undisturbed: str) -> None:
    run = "task-and-container-killed"
    platform.forget(DAY)
    platform.client.trigger(night.NIGHT, run, NIGHT)
    psutil.Process(running(platform, run, "train")["pid"]).kill()
    engine.docker("kill", a_container(engine))
    assert platform.wait_for_run(night.NIGHT, run, 900)["state"] == "success", platform.story(night.NIGHT, run)
    assert platform.verified(DAY) == undisturbed
    assert tries(platform, run, "train") == 2
    assert tries(platform, run, "simulate") == 2


@pytest.mark.drill("Airflow", "the scheduler, then the Docker engine, killed", "started again, tried again; the same digest")
def test_a_killed_scheduler_and_a_killed_docker_engine(platform: Stack, engine: Engine, undisturbed: str) -> None:
    run = "scheduler-and-engine-killed"
    platform.forget(DAY)
    platform.client.trigger(night.NIGHT, run, NIGHT)
    running(platform, run, "train")
    recorded = json.loads((platform.var / "platform.json").read_text())
    psutil.Process([r["pid"] for r in recorded if r["name"] == "scheduler"][-1]).kill()
    a_container(engine)
    engine.kill()
    # Long enough for the tasks to notice; they try again ten seconds later.
    time.sleep(2)
    engine.start()
    assert platform.wait_for_run(night.NIGHT, run, 900)["state"] == "success", platform.story(night.NIGHT, run)
    assert platform.verified(DAY) == undisturbed
    assert tries(platform, run, "simulate") == 2
    assert len([r for r in json.loads((platform.var / "platform.json").read_text()) if r["name"] == "scheduler"]) == 2


@pytest.mark.drill("Airflow", "a shard failed by hand", "its container ends; nothing is uploaded")
def test_a_shard_that_is_failed_by_hand_ends_its_container(platform: Stack, engine: Engine) -> None:
    """apache/airflow 56149: a container that outlives its run."""
    run = "failed-by-hand"
    # Long enough that no container ends by itself meanwhile.
    platform.client.trigger(night.TRAFFIC, run, {"log_date": "2025-01-01", "sessions": 10_000_000})
    a_container(engine)
    for task in platform.client.tasks(night.TRAFFIC, run):
        if task["task_id"] == "simulate" and task["map_index"] >= 0:
            path = f"/dags/{night.TRAFFIC}/dagRuns/{run}/taskInstances/simulate/{task['map_index']}"
            platform.client.call("PATCH", path, {"new_state": "failed"})
    wait_until(lambda: not containers(engine), 180, "the end of the containers")
    assert platform.wait_for_run(night.TRAFFIC, run)["state"] == "failed"
    assert not platform.cli("nights", "--json").count("2025-01-01")


@pytest.mark.drill(
    "Airflow", "a simulation's task, then the scheduler, killed while containers play", "no session is played twice"
)
def test_containers_are_found_again(platform: Stack, engine: Engine) -> None:
    run, day = "found-again", date(2025, 1, 3)
    # They play for longer than a retry takes.
    platform.client.trigger(night.TRAFFIC, run, {"log_date": str(day), "sessions": 120_000})
    wait_until(lambda: len(containers(engine)) == 2, 400, "both containers")
    first = set(containers(engine))
    tasks = [t for t in platform.client.tasks(night.TRAFFIC, run) if t["task_id"] == "simulate" and t["state"] == "running"]
    psutil.Process(tasks[0]["pid"]).kill()
    wait_until(lambda: "up_for_retry" in platform.state(night.TRAFFIC, run, "simulate"), 60, "the end of the try")
    wait_until(lambda: platform.state(night.TRAFFIC, run, "simulate") == ["running"] * 2, 120, "the next try")
    assert set(containers(engine)) == first
    recorded = json.loads((platform.var / "platform.json").read_text())
    psutil.Process([r["pid"] for r in recorded if r["name"] == "scheduler"][-1]).kill()
    assert platform.wait_for_run(night.TRAFFIC, run, 900)["state"] == "success", platform.story(night.TRAFFIC, run)
    assert tries(platform, run, "simulate", night.TRAFFIC) >= 2
    store = Storage(platform.settings.storage_url)
    played = {r["run"] for path in log_files(store.local(Dated.LOGS.on(day))) for r in records(path) if r is not None}
    assert {name.rsplit("-", 1)[1] for name in played} == {"1"}
    assert len(played) == 2
    assert store.manifest(Dated.LOGS.on(day)).counts["last"] == 120_000
    assert containers(engine) == []
