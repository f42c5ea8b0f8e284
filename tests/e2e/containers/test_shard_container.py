"""What a shard's operator does with the container of an earlier try, on a real engine."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.dags.conftest import ROOT
from tests.support.airflow import wait_until
from tests.support.engine import IMAGE, Engine

pytestmark = [pytest.mark.real, pytest.mark.marathon, pytest.mark.xdist_group("airflow"), pytest.mark.timeout(1800)]

PYTHON = "/opt/venv/bin/python"
NAME = "nightshift-0a1b2c3d-0123abcd-2026-01-05.0"
SLOWLY = "import time; print('begun', flush=True); time.sleep(4); print('its result')"


@pytest.fixture
def shard(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The operator of a shard, which would print ``a new result``."""
    monkeypatch.syspath_prepend(str(ROOT / "dags"))
    from shard_container import ShardContainer

    yield ShardContainer(
        task_id="simulate",
        image=IMAGE,
        entrypoint=[PYTHON, "-c"],
        command=["print('a new result')"],
        container_name=NAME,
        docker_url=engine.host,
        network_mode="none",
        mount_tmp_dir=False,
        auto_remove="force",
        xcom_all=True,
    )
    engine.docker("rm", "--force", NAME, check=False)


def left(engine: Engine, script: str, how: str = "run") -> str:
    """A container of an earlier try; its identifier."""
    words = ["--network", "none", "--name", NAME, "--entrypoint", PYTHON, IMAGE, "-c", script]
    return engine.docker(how, *(["--detach"] if how == "run" else []), *words)


def state(engine: Engine) -> str:
    return engine.docker("inspect", "--format", "{{.State.Status}}", NAME, check=False)


def test_one_that_runs_is_followed_to_its_end(engine: Engine, shard: Any) -> None:
    left(engine, SLOWLY)
    assert shard.execute({}) == ["begun", "its result"]
    assert state(engine) == ""


def test_one_that_has_ended_well_is_read(engine: Engine, shard: Any) -> None:
    left(engine, "print('its result')")
    wait_until(lambda: state(engine) == "exited", 30, "its end")
    assert shard.execute({}) == ["its result"]
    assert state(engine) == ""


@pytest.mark.parametrize(("script", "how"), [("raise SystemExit(1)", "run"), (SLOWLY, "create")])
def test_another_is_replaced(engine: Engine, shard: Any, script: str, how: str) -> None:
    left(engine, script, how)
    wait_until(lambda: state(engine) in ("exited", "created"), 30, "its end")
    assert shard.execute({}) == ["a new result"]
    assert state(engine) == ""


def test_one_that_fails_while_it_is_followed_fails_the_try(engine: Engine, shard: Any) -> None:
    from airflow.providers.docker.exceptions import DockerContainerFailedException

    left(engine, "import time; time.sleep(4); raise SystemExit(3)")
    with pytest.raises(DockerContainerFailedException, match="3"):
        shard.execute({})
    assert state(engine) == ""


@pytest.mark.parametrize(("task", "expected"), [("failed", ""), ("restarting", ""), (None, "running"), ("running", "running")])
def test_it_ends_with_a_task_that_a_person_has_ended(engine: Engine, shard: Any, task: str | None, expected: str) -> None:
    def states(dag: str, map_index: int, task_ids: list[str], run_ids: list[str]) -> dict[str, dict[str, str | None]]:
        return {run_ids[0]: {f"{task_ids[0]}_{map_index}": task}}

    shard.container = {"Id": left(engine, "import time; time.sleep(60)")}
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="simulate", map_index=1, get_task_states=states)
    shard._context = {"ti": ti}
    assert shard.cli.ping()
    shard.on_kill()
    assert state(engine) == expected
