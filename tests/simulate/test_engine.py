"""The lockstep engine against the scalar reference, for any grouping."""

from pathlib import Path

import numpy as np
import pytest

from recsys.simulate.listeners import load_listeners
from recsys.simulate.run import run_in_process
from tests.simulate.conftest import POLICIES, Recorder, neighbour_policy
from tests.support import reference

pytestmark = pytest.mark.slow

EPISODES, SEED = 150, 77


@pytest.mark.parametrize("name", POLICIES)
def test_equals_the_reference_play_by_play(world: Path, name: str) -> None:
    expected = reference.all_events(reference.World.read(world), SEED, EPISODES, POLICIES[name])
    recorder = Recorder(POLICIES[name])
    result = run_in_process(load_listeners(world), recorder, episodes=EPISODES, seed=SEED, progress=False)
    assert recorder.sorted == expected

    times, steps = np.zeros(EPISODES), np.zeros(EPISODES)
    for _, _, _, time, episode, _ in expected:
        times[episode] += time / 100
        steps[episode] += 1
    assert (result.episodes, result.next, result.last) == (EPISODES, len(expected) - EPISODES, EPISODES)
    assert result.mean_time == pytest.approx(times.mean())
    assert result.se_time == pytest.approx(times.std(ddof=1) / np.sqrt(EPISODES))
    assert result.mean_steps == pytest.approx(steps.mean())
    assert result.se_steps == pytest.approx(steps.std(ddof=1) / np.sqrt(EPISODES))


@pytest.mark.parametrize("slots", [1, 3, 64, 1024])
@pytest.mark.parametrize("shards", [1, 2, 5])
def test_same_plays_for_any_shards_and_group_size(world: Path, shards: int, slots: int) -> None:
    listeners = load_listeners(world)
    whole = Recorder(neighbour_policy)
    run_in_process(listeners, whole, episodes=EPISODES, seed=SEED, progress=False)
    parts: list[reference.Event] = []
    users: list[set[int]] = []
    for shard in range(shards):
        part = Recorder(neighbour_policy)
        kwargs = {"shard": shard, "shards": shards, "slots": slots}
        run_in_process(listeners, part, episodes=EPISODES, seed=SEED, progress=False, **kwargs)
        parts += part.events
        users.append({event[1] for event in part.events})
        episodes_of: dict[int, list[int]] = {}
        for _, user, _, _, episode, _ in part.events:
            episodes_of.setdefault(user, []).append(episode)
        assert all(order == sorted(order) for order in episodes_of.values()), "a user's episodes out of order"
    assert sorted(parts, key=lambda event: event[4:]) == whole.sorted
    assert sum(len(u) for u in users) == len(set().union(*users)), "a user in two shards"


def test_first_episode_continues_a_run(world: Path) -> None:
    listeners = load_listeners(world)
    whole, later = Recorder(neighbour_policy), Recorder(neighbour_policy)
    run_in_process(listeners, whole, episodes=60, seed=SEED, progress=False)
    run_in_process(listeners, later, episodes=20, first_episode=40, seed=SEED, progress=False)
    assert later.sorted == [event for event in whole.sorted if event[4] >= 40]


def test_a_repeated_track_counts_nothing_and_spends_the_budget(world: Path) -> None:
    recorder = Recorder(lambda user, track, time, episode, step: track)
    run_in_process(load_listeners(world), recorder, episodes=40, seed=1, progress=False)
    budgets = {user["user"]: user.get("session_budget", 5) for user in reference.World.read(world).users}
    for message, user, _, time, _, step in recorder.events:
        assert time == (100 if step == 0 else 0)
        assert message == ("last" if step == budgets[user] else "next")
