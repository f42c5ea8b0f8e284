"""Episodes per second: over single requests, over /batch, and in process with the random recommender.

Loading a world is not counted on either side, nor is our table of first tracks, which is computed once a world. The reference
always plays one session at a time over single requests, because the original had nothing else.
"""

import time
from dataclasses import dataclass

from benchmarks.content import SEED
from benchmarks.measure import Bench, Result, median, more_is_better
from benchmarks.reference import simulator
from benchmarks.service import both_services
from recsys.schemas import ShardResult
from recsys.simulate.listeners import load_listeners
from recsys.simulate.recommenders import DummyRecommender
from recsys.simulate.run import run_in_process, run_shard

BATCH = 256
EPISODES = 20_000


@dataclass(frozen=True)
class Played:
    """Some episodes: how many, how many requests they took, in which time."""

    episodes: int
    events: int
    seconds: float
    mean_steps: float
    mean_time: float

    @property
    def rate(self) -> float:
        """Episodes per second."""
        return self.episodes / self.seconds


def measure_simulate_single(bench: Bench) -> Result:
    """Episodes per second over HTTP, one request an event."""
    return _over_http(bench, "simulate_single", 0)


def measure_simulate_batch(bench: Bench) -> Result:
    """Episodes per second over /batch, against the reference over single requests."""
    return _over_http(bench, "simulate_batch", BATCH)


def measure_simulate_alone(bench: Bench) -> Result:
    """Episodes per second against the random recommender in process."""
    rounds, episodes, seconds = (3, 200_000, 2.0) if bench.quick else (5, 1_000_000, 5.0)
    listeners = load_listeners(bench.world)
    world = simulator.World(bench.world, SEED)
    dummy = simulator.DummyRecommender(listeners.catalogue.size)
    ours, reference = [], []
    for number in range(rounds):
        answers = DummyRecommender(listeners.catalogue.size, SEED + number)
        result = run_in_process(listeners, answers, episodes=episodes, seed=SEED + number, progress=False)
        ours.append(_ours(result, result.seconds))
        reference.append(_reference(world, dummy, seconds))
    return _result("simulate_alone", ours, reference)


def _over_http(bench: Bench, name: str, batch: int) -> Result:
    rounds, seconds = (2, 4.0) if bench.quick else (3, 20.0)
    episodes = EPISODES if batch or not bench.quick else EPISODES // 5
    # The first time computes the table of first tracks of a new world; the second tells what loading takes.
    for _ in range(2):
        began = time.perf_counter()
        load_listeners(bench.world)
        loading = time.perf_counter() - began
    world = simulator.World(bench.world, SEED)
    ours, reference = [], []
    with both_services(bench) as (our_url, run, reference_url):
        remote = simulator.RemoteRecommender(reference_url)
        for number in range(rounds):
            result = run_shard(
                bench.world, our_url, episodes=episodes, seed=SEED + number, run=f"{run}{number}", batch=batch, progress=False
            )
            ours.append(_ours(result, result.seconds - loading))
            reference.append(_reference(world, remote, seconds))
    return _result(name, ours, reference)


def _ours(result: ShardResult, seconds: float) -> Played:
    return Played(result.episodes, result.next + result.last, seconds, result.mean_steps, result.mean_time)


def _reference(world: simulator.World, recommender: simulator.Recommender, at_least: float) -> Played:
    """Play the reference's episodes for some seconds."""
    sessions = []
    began = time.perf_counter()
    for session in simulator.play(world, recommender):
        sessions.append(session)
        seconds = time.perf_counter() - began
        if seconds >= at_least:
            break
    # A session's first track is nobody's answer, but its last event is one more request.
    events = sum(steps for _, steps in sessions)
    count = len(sessions)
    return Played(count, events, seconds, events / count, sum(listened for listened, _ in sessions) / count)


def _result(name: str, ours: list[Played], reference: list[Played]) -> Result:
    rates = median([played.rate for played in ours]), median([played.rate for played in reference])
    return more_is_better(name, "episodes/s", *rates, {"ours": _shown(ours), "reference": _shown(reference)})


def _shown(rounds: list[Played]) -> dict[str, float]:
    return {
        "rounds": len(rounds),
        "episodes": rounds[0].episodes,
        "seconds": round(median([played.seconds for played in rounds]), 3),
        "events_s": round(median([played.events / played.seconds for played in rounds]), 1),
        "mean_steps": round(median([played.mean_steps for played in rounds]), 3),
        "mean_time": round(median([played.mean_time for played in rounds]), 3),
        "slowest_round_s": round(max(played.seconds for played in rounds), 3),
    }
