"""What comes of rollouts, over many seeds: harm is taken back at a small share, a candidate as good as live seldom, gains arrive.

Listeners as they are: their values differ for good and from session to session, with heavy tails; they return.
"""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from recsys.rollout.look import Evidence, Moments, look
from recsys.rollout.rule import RolloutRule
from recsys.versions.rollout import Rollout

pytestmark = pytest.mark.slow

USERS, SEEDS, EVERY = 60_000, 100, 3
BEGAN = datetime(2026, 1, 5, tzinfo=UTC)
RULE = RolloutRule()


@dataclass
class Crowd:
    """Users of one arm: a lasting value each, and the sums of their sessions so far."""

    rng: np.random.Generator
    size: int
    lift: float

    def __post_init__(self) -> None:
        # Half of the variance of the log lasts.
        self.lasting = self.rng.lognormal(0.0, 0.8, self.size)
        self.sums, self.sessions = np.zeros(self.size), np.zeros(self.size)

    def play(self, hours: int) -> None:
        """Each user has 0.05 sessions an hour."""
        came = np.flatnonzero(self.rng.random(self.size) < 0.05 * hours)
        self.sums[came] += self.lift * self.lasting[came] * self.rng.lognormal(0.0, 0.8, len(came))
        self.sessions[came] += 1

    @property
    def moments(self) -> Moments:
        means = self.sums[self.sessions > 0] / self.sessions[self.sessions > 0]
        return Moments(users=len(means), mean=float(means.mean()), variance=float(means.var(ddof=1)))


def outcome(seed: int, lift: float) -> tuple[str, float]:
    """How a rollout ends (abort, hold, live), and the largest share of it, looked at every few hours."""
    rng = np.random.default_rng((seed, round(1000 * lift)))
    now = Rollout("2026-01-05-0a1b2c3d", "2026-01-05", "live", "serving", 1, RULE.stages[0].share, "X-1", BEGAN, BEGAN, 1)
    while True:
        offered = round(USERS * now.share / 100)
        live, candidate = Crowd(rng, USERS - offered, 1.0), Crowd(rng, offered, lift)
        at = now.since
        while True:
            at += timedelta(hours=EVERY)
            live.play(EVERY)
            candidate.play(EVERY)
            found = look(now, Evidence(live=live.moments, candidate=candidate.moments), RULE, at)
            if found.action != "stay":
                break
        if found.action != "advance":
            return found.action, now.share
        stage, following = RULE.after(now.share)
        if following.share == 100:
            return "live", now.share
        now = replace(now, stage=stage, share=following.share, since=at, experiment=f"X-{stage}")


def outcomes(lift: float) -> tuple[Counter[str], float]:
    found = [outcome(seed, lift) for seed in range(SEEDS)]
    return Counter(end for end, _ in found), max(share for _, share in found)


def test_a_candidate_that_is_a_fifth_worse_is_taken_back_at_a_small_share() -> None:
    ends, largest = outcomes(0.8)
    assert ends["abort"] >= 95, ends
    assert largest <= 5


def test_a_candidate_as_good_as_live_is_seldom_taken_back() -> None:
    ends, _ = outcomes(1.0)
    assert ends["abort"] <= 5, ends


def test_a_candidate_that_is_a_fifth_better_reaches_everybody() -> None:
    ends, _ = outcomes(1.2)
    assert ends == {"live": SEEDS}
