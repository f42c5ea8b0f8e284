"""The mapped task ``simulate`` of both DAGs: a process or a container for each shard, as ``RECSYS_SIMULATION`` says."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, TypedDict

import run_context
from airflow.sdk import XComArg, get_current_context, task
from pydantic import TypeAdapter
from run_context import step

from recsys.exceptions import SimulationError
from recsys.schemas import ShardResult
from recsys.settings import Settings
from recsys.simulate import shards
from recsys.simulate.shards import Shard

if TYPE_CHECKING:
    import subprocess

    from docker.types import Mount

#: Labels of a shard's container: the platform that runs it, and what it plays.
PLATFORM, SHARD = "org.nightshift.simulation", "org.nightshift.shard"
TIMEOUT = timedelta(minutes=30)
#: Shards of a run that are played at a time: each holds the whole world in memory.
AT_ONCE = 2
NAME = "shard {{ ti.map_index }}"

#: A shard on its way from task to task; parts of a data set have their log date beside it.
Part = dict[str, str | int]
#: What a task tells of a played shard: its result, or the pieces of what its container wrote.
Played = dict[str, str | int | float] | list[str]


class Registered(TypedDict):
    """A registered run: its base, the version that it previews, its seed, how many listeners and tracks of the world play."""

    base: str
    version: str
    seed: int
    listeners: int
    tracks: int


def planned(registered: Registered, settings: Settings, episodes: int, batch: int) -> list[Part]:
    """What each shard of a registered run has to play, ready to be handed to other tasks.

    Args:
        episodes: episodes of all shards together. batch: events a request; 0: single requests.
    """
    parts = shards.shards_of(
        registered["base"],
        registered["version"],
        seed=registered["seed"],
        episodes=episodes,
        shards=settings.shards,
        batch=batch,
        listeners=registered["listeners"],
        tracks=registered["tracks"],
    )
    return [asdict(part) for part in parts]


def shard_of(part: Part) -> Shard:
    """The shard that a part describes; what else stands there is left out."""
    return TypeAdapter(Shard).validate_python(part)


def simulate_shards(parts: XComArg, settings: Settings) -> XComArg:
    """The task ``simulate``, mapped over what :func:`planned` gave.

    Args:
        parts: output of the planning task. settings: of the DAG file; they choose between processes and containers.
    """
    if settings.simulation == "docker":
        return _containers(parts, settings)
    return simulate.expand(part=parts)


@task(execution_timeout=TIMEOUT, max_active_tis_per_dagrun=AT_ONCE, map_index_template=NAME)
@step
def simulate(part: Part) -> dict[str, str | int | float]:
    """Play one shard in a process of its own, which ends with the task."""
    context = get_current_context()

    def end_with_task(child: "subprocess.Popen[str]") -> None:
        context["task"].on_kill = child.terminate  # type: ignore[method-assign, union-attr] # a task of a function has no class

    return asdict(shards.simulate(run_context.settings(), shard_of(part), run_context.current_try(), started=end_with_task))


def results(found: Iterable[Played]) -> list[ShardResult]:
    """Results of all shards.

    A container's is the last line of its standard output. The operator hands over pieces of both streams, a line or several in
    each, and progress may come after the result.
    """
    read = TypeAdapter(ShardResult).validate_python
    return [read(result) if isinstance(result, dict) else _result_line("\n".join(result)) for result in found]


def _result_line(output: str) -> ShardResult:
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if not lines:
        raise SimulationError(f"a container ended well but told no result: {output[-300:]!r}")
    return ShardResult.from_json(lines[-1])


def _containers(parts: XComArg, settings: Settings) -> XComArg:
    from shard_container import ShardContainer

    [(planning, _)] = parts.iter_references()

    def part(key: str) -> str:
        return f"{{{{ ti.xcom_pull(task_ids='{planning.task_id}')[ti.map_index]['{key}'] }}}}"

    token = settings.service_token.get_secret_value() if settings.service_token else None
    keys = ("shard", "shards", "episodes", "seed", "batch", "listeners", "tracks")
    numbers = [word for key in keys for word in (f"--{key}", part(key))]
    run = f"{part('base')}.{part('shard')}." + "{{ try_id(run_id, ti.try_number) }}"
    # Several platforms may use one engine.
    here = run_context.digest(f"{settings.var.resolve()} {settings.simulation_network}")
    where = ["--recommender", "remote", "--world", "/world", "--service-url", settings.service_url]
    operator = ShardContainer.partial(
        task_id="simulate",
        container_name=f"nightshift-{here}-{{{{ digest(dag.dag_id ~ ' ' ~ run_id) }}}}-{part('base')}.{part('shard')}",
        image=settings.simulator_image,
        command=["recsys.simulate", *where, "--run", run, *numbers],
        mounts=_mounts(settings),
        private_environment={"RECSYS_SERVICE_TOKEN": token} if token else {},
        network_mode=settings.simulation_network,
        mount_tmp_dir=False,
        auto_remove="force",
        xcom_all=True,
        mem_limit="2g",
        execution_timeout=TIMEOUT,
        max_active_tis_per_dagrun=AT_ONCE,
        map_index_template=NAME,
    )

    def labels(part: Part) -> dict[str, str]:
        return {PLATFORM: str(settings.var.resolve()), SHARD: f"{part['base']}.{part['shard']}"}

    return operator.expand(labels=parts.map(labels)).output


def _mounts(settings: Settings) -> Sequence["Mount"]:
    """Where shards read the world: a directory of this machine, or volumes."""
    from docker.types import Mount

    if not settings.simulation_volumes:
        return [Mount(target="/world", source=str(settings.world.resolve()), type="bind", read_only=True)]
    pairs = (pair.split("=", 1) for pair in settings.simulation_volumes.split(","))
    return [Mount(target=path, source=volume, type="volume", read_only=True) for path, volume in pairs]
