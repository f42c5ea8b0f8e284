"""The mapped task ``simulate`` of both DAGs: a process or a container for each shard, as ``RECSYS_SIMULATION`` says."""

import json
import os
from datetime import timedelta
from typing import Any

import run_context
from airflow.sdk import XComArg, get_current_context, task
from run_context import step

from recsys.exceptions import SimulationError
from recsys.settings import Settings
from recsys.simulate import shards

LIMITS: dict[str, Any] = {
    "execution_timeout": timedelta(minutes=30),
    # Memory: a shard holds the whole world.
    "max_active_tis_per_dagrun": 2,
    "map_index_template": "shard {{ ti.map_index }}",
}


def plan(settings: Settings, registered: dict[str, Any], episodes: int, batch: int) -> list[dict[str, Any]]:
    """What each shard of a registered run has to play.

    Args:
        registered: the run's ``base`` and ``seed``, and the ``version`` that it previews.
        episodes: episodes of all shards together.
        batch: events a request; 0: single requests.
    """
    shared = {name: registered[name] for name in ("base", "seed", "version")}
    return [
        shared | {"episodes": episodes, "batch": batch, "shards": settings.shards, "shard": n} for n in range(settings.shards)
    ]


def simulate_shards(planned: Any, settings: Settings) -> XComArg:
    """The task ``simulate``, mapped over what :func:`plan` gave.

    Args:
        planned: output of the planning task.
        settings: settings of the DAG file; they choose between processes and containers.
    """
    if settings.simulation == "docker":
        return _containers(planned, settings)
    return simulate.expand(part=planned)


@task(**LIMITS)
@step
def simulate(part: dict[str, Any]) -> dict[str, Any]:
    """Play one shard in a process of its own, which ends with the task."""
    context = get_current_context()

    def end_with_task(child: Any) -> None:
        context["task"].on_kill = child.terminate

    return shards.simulate(
        run_context.settings(), part["base"], part["shard"], part["shards"], part["episodes"], part["seed"],
        run_context.current_try(), batch=part["batch"], started=end_with_task,
    )  # fmt: skip


def results(found: Any) -> list[dict[str, Any]]:
    """Results of all shards.

    A container's is the last line of its standard output. The operator hands over pieces of both streams, a line or several in
    each, and progress may come after the result.
    """
    return [dict(result) if isinstance(result, dict) else _result_line("\n".join(result)) for result in found]


def _result_line(output: str) -> dict[str, Any]:
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if not lines:
        raise SimulationError(f"a container ended well but told no result: {output[-300:]!r}")
    return dict(json.loads(lines[-1]))


def _containers(planned: Any, settings: Settings) -> XComArg:
    from airflow.providers.docker.operators.docker import DockerOperator

    def part(key: str) -> str:
        return f"{{{{ ti.xcom_pull(task_ids='{planned.operator.task_id}')[ti.map_index]['{key}'] }}}}"

    token = settings.service_token.get_secret_value() if settings.service_token else None
    operator = DockerOperator.partial(
        task_id="simulate",
        image=os.environ.get("RECSYS_SIMULATOR_IMAGE", "nightshift-simulator"),
        command=[
            "recsys.simulate", "--recommender", "remote", "--world", "/world", "--service-url", settings.service_url,
            "--run", f"{part('base')}.{part('shard')}." + "{{ try_id(run_id, ti.try_number) }}",
            "--shard", part("shard"), "--shards", part("shards"), "--episodes", part("episodes"),
            "--seed", part("seed"), "--batch", part("batch"),
        ],
        mounts=_mounts(settings),
        private_environment={"RECSYS_SERVICE_TOKEN": token} if token else {},
        network_mode=os.environ.get("RECSYS_SIMULATION_NETWORK", "host"),
        mount_tmp_dir=False,
        auto_remove="force",
        xcom_all=True,
        mem_limit="2g",
        labels={"org.nightshift.simulation": str(settings.var.resolve())},
        **LIMITS,
    )  # fmt: skip
    return operator.expand(environment=planned.map(_environment)).output


def _mounts(settings: Settings) -> list[Any]:
    """Where shards read the world: a directory of this machine, or the volumes in RECSYS_SIMULATION_VOLUMES (/path=volume,…)."""
    from docker.types import Mount

    volumes = os.environ.get("RECSYS_SIMULATION_VOLUMES")
    if not volumes:
        return [Mount(target="/world", source=str(settings.world.resolve()), type="bind", read_only=True)]
    pairs = (pair.split("=", 1) for pair in volumes.split(","))
    return [Mount(target=path, source=volume, type="volume", read_only=True) for path, volume in pairs]


def _environment(part: dict[str, Any]) -> dict[str, str]:
    return {"RECSYS_SHARD": str(part["shard"])}
