"""One shard of a simulation, from files and a service to a :class:`~recsys.schemas.ShardResult`.

A shard plays those of the episodes whose users are its own; all shards together play every episode once.
"""

import time
from pathlib import Path

from recsys.exceptions import InvalidInputError
from recsys.logs.record import preview_base
from recsys.schemas import ShardResult
from recsys.simulate.client import BatchCodec, Codec, Headers, Remote, SingleCodec
from recsys.simulate.connection import Endpoint, Patience
from recsys.simulate.listeners import Listeners, load_listeners
from recsys.simulate.play import TOGETHER, Play, Recommender, play_in_process
from recsys.simulate.progress import Progress
from recsys.simulate.schedule import Schedule, Totals

#: Requests in flight unless told otherwise: single ones, batches.
SINGLE_REQUESTS, BATCH_REQUESTS = 32, 4
LARGEST_BATCH = 4096


def run_shard(
    world: Path | None,
    service_url: str,
    *,
    episodes: int,
    seed: int,
    shard: int = 0,
    shards: int = 1,
    run: str | None = None,
    token: str | None = None,
    batch: int = 0,
    in_flight: int | None = None,
    first_episode: int = 0,
    listeners: int = 0,
    tracks: int = 0,
    progress: bool = True,
    env_config: Path | None = None,
    patience: Patience = Patience(),  # noqa: B008 -- frozen
) -> ShardResult:
    """Play one shard against the service.

    Args:
        world: world directory; None: the files that ``env_config`` names.
        episodes: number of episodes of all shards together, numbered from ``first_episode``.
        listeners, tracks: the world's first so many; 0: all, see :func:`recsys.simulate.listeners.load_listeners`.
        run: run id, ``<base>.<shard>.<try>``; the service answers from that run's version. None: as real listeners.
        token: sent as a bearer token.
        batch: events a request to ``/batch``; 0: single requests.
        in_flight: requests in flight; 32 single ones or 4 batches by default.
        env_config: an ``env.yml`` whose defaults for listeners replace the world's own.

    Returns:
        What this shard played; ``episodes``, ``next`` and ``last`` are its own counts.

    Raises:
        InvalidInputError: an argument or a world file is wrong. UnavailableError: the service was away for too long.
        SimulationError: the service answered an error or nonsense.
    """
    _check(episodes=episodes, seed=seed, shard=shard, shards=shards, first_episode=first_episode)
    in_flight = in_flight or (BATCH_REQUESTS if batch else SINGLE_REQUESTS)
    if not 0 <= batch <= LARGEST_BATCH:
        raise InvalidInputError(f"batch is {batch}; it must be from 0 (single requests) to {LARGEST_BATCH}")
    if not 1 <= in_flight <= 4096:
        raise InvalidInputError(f"in_flight is {in_flight}; it must be from 1 to 4096 requests")
    if run is not None:
        preview_base(run)
    if token is not None and not (token.isascii() and token.isprintable()):
        raise InvalidInputError("the token has characters that a header cannot carry; use printable ASCII")
    endpoint = Endpoint.parse(service_url)
    started = time.perf_counter()
    them = load_listeners(world, env_config, listeners=listeners, tracks=tracks)
    schedule = Schedule(them.users, seed, episodes, shard, shards, first_episode)
    width = max(1, batch)
    report = Progress(schedule.size, enabled=progress)
    play = Play(them, schedule, in_flight * width, report)
    headers = Headers(endpoint, run, token)
    codec: Codec = (BatchCodec if batch else SingleCodec)(headers, them.catalogue.size)
    try:
        if schedule.size:
            Remote(play, codec, endpoint, in_flight, width, patience).run()
    finally:
        report.close()
    return _result(play.totals, run or "", shard, started)


def run_in_process(
    listeners: Listeners,
    recommender: Recommender,
    *,
    episodes: int,
    seed: int,
    shard: int = 0,
    shards: int = 1,
    first_episode: int = 0,
    slots: int = TOGETHER,
    progress: bool = True,
) -> ShardResult:
    """Play one shard against a recommender in this process; ``slots`` sessions at once. Arguments as :func:`run_shard`.

    A recommender that raises EOFError ends the simulation early; the result counts the sessions that ended before.
    """
    _check(episodes=episodes, seed=seed, shard=shard, shards=shards, first_episode=first_episode)
    started = time.perf_counter()
    schedule = Schedule(listeners.users, seed, episodes, shard, shards, first_episode)
    report = Progress(schedule.size, enabled=progress)
    play = Play(listeners, schedule, slots, report)
    try:
        play_in_process(play, recommender, slots)
    except EOFError:
        pass
    finally:
        report.close()
    return _result(play.totals, "", shard, started)


def _check(*, episodes: int, seed: int, shard: int, shards: int, first_episode: int) -> None:
    bounds = {
        "episodes": (episodes, 1, 2**31),
        "seed": (seed, 0, 2**64 - 1),
        "shards": (shards, 1, 2**16),
        "shard": (shard, 0, shards - 1),
        "first_episode": (first_episode, 0, 2**62),
    }
    for name, (value, low, high) in bounds.items():
        if not low <= value <= high:
            raise InvalidInputError(f"{name} is {value}; it must be from {low} to {high}")


def _result(totals: Totals, run: str, shard: int, started: float) -> ShardResult:
    mean_time, se_time = totals.mean_time
    mean_steps, se_steps = totals.mean_steps
    return ShardResult(
        run=run,
        shard=shard,
        episodes=totals.episodes,
        next=totals.next,
        last=totals.last,
        mean_time=mean_time,
        se_time=se_time,
        mean_steps=mean_steps,
        se_steps=se_steps,
        seconds=round(time.perf_counter() - started, 3),
    )
