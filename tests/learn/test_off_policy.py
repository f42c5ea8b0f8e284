"""Off-policy estimates: a hand-computed case, and agreement with a policy that was really played."""

import numpy as np
import pytest

from recsys.exceptions import InvalidInputError
from recsys.learn.off_policy import of_lists, snips
from recsys.learn.plays import from_columns


def test_a_hand_computed_case() -> None:
    found = snips(np.array([1.0, 0.0, 0.5]), np.array([0.5, 0.25, 1.0]), np.array([1.0, 0.5, 0.0]), np.array([1, 2, 3]), seed=1)
    assert found.time == pytest.approx((2 * 1.0 + 2 * 0.0) / 4)
    assert found.effective == pytest.approx(16 / 8)
    assert (found.plays, found.reliable) == (3, False)


def test_the_logging_policy_itself_earns_its_mean() -> None:
    rng = np.random.default_rng(0)
    reward, chance = rng.random(2000), rng.uniform(0.1, 0.9, 2000)
    found = snips(reward, chance, chance, np.arange(2000), seed=1)
    assert found.time == pytest.approx(reward.mean())
    assert found.effective == pytest.approx(2000)
    assert found.low < found.time < found.high


def test_an_unlogged_policy_is_estimated_from_random_answers() -> None:
    rng = np.random.default_rng(3)
    worth = rng.random(10)
    users, steps = 400, 6
    row = np.repeat(np.arange(users), steps)
    step = np.tile(np.arange(steps), users)
    track = rng.integers(0, 10, len(row))
    chance = np.where(step > 0, 0.1, np.nan)
    days = np.full(len(row), np.datetime64("2026-01-05"))
    time = np.rint(100 * worth[track]).astype(int)
    plays = from_columns(users, np.zeros(10, np.int32), np.ones(10, bool), step == 0, row, track, time, step, chance, days)
    best = np.argsort(-worth)[:4]
    found = of_lists(plays, np.tile(best, (users, 1)), seed=1)
    # At each step: the first of the list that the session has not played.
    expected, count = 0.0, 0
    for begin in range(0, len(row), steps):
        for play in range(begin + 1, begin + steps):
            left = [t for t in best if t not in track[begin:play]]
            if left and left[0] == track[play]:
                expected, count = expected + time[play] / 100, count + 1
    assert found.time == pytest.approx(expected / count)
    assert found.effective == pytest.approx(count)


@pytest.mark.parametrize("chance", [0.0, -0.1, 1.5, np.nan])
def test_propensities_out_of_range_are_named(chance: float) -> None:
    with pytest.raises(InvalidInputError, match="propensity"):
        snips(np.ones(1), np.array([chance]), np.ones(1), np.zeros(1, int), seed=0)


def test_a_policy_that_the_logs_never_followed_has_no_estimate() -> None:
    found = snips(np.ones(3), np.full(3, 0.5), np.zeros(3), np.arange(3), seed=0)
    assert np.isnan(found.time)
    assert not found.reliable
