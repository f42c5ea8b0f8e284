"""What comes of rollouts, over many seeds: harm is taken back at a small share, what is as good as live seldom; gains arrive."""

import numpy as np
import pytest

from benchmarks.rollout import End, outcome
from recsys.rollout.rule import RolloutRule

pytestmark = pytest.mark.slow

SEEDS = 100
#: Session times, in tracks, of the listeners of data/botify with a recommender that knows them: percentiles.
PERCENT = [0, 10, 25, 50, 60, 70, 75, 80, 85, 90, 92.5, 95, 97.5, 99, 99.5, 99.9, 100]
TRACKS = [1, 1, 1.16, 2.32, 3.9, 7.16, 10.14, 14.62, 21.38, 33.14, 44, 64.06, 111.87, 157.31, 173.8, 205.96, 249.54]
TIMES = np.interp(np.linspace(0, 100, 20_001), PERCENT, TRACKS)


def ends(lift: float) -> list[End]:
    return [outcome(TIMES, RolloutRule(), lift, seed, users=60_000, every=3) for seed in range(SEEDS)]


def count(found: list[End], action: str) -> int:
    return sum(end.action == action for end in found)


def test_the_times_are_as_spread_as_those_of_real_worlds() -> None:
    assert (TIMES.mean(), TIMES.std()) == (pytest.approx(12.9, rel=0.03), pytest.approx(28.0, rel=0.03))


def test_a_candidate_that_is_a_fifth_worse_is_taken_back_at_a_small_share() -> None:
    found = ends(0.8)
    assert count(found, "abort") >= 95
    assert max(end.share for end in found) <= 5


def test_a_candidate_as_good_as_live_is_seldom_taken_back() -> None:
    assert count(ends(1.0), "abort") <= 5


def test_a_candidate_that_is_a_fifth_better_reaches_everybody() -> None:
    assert count(ends(1.2), "advance") >= 98
