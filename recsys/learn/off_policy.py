"""What another policy would have earned, from logged plays and their propensities: self-normalised inverse propensity scoring.

In go, for each answered play, the probability with which the service chose its track, the probability with which the policy in
question would have, and the listener's time; out come an estimate with a bootstrap interval over users and the effective sample
size. SNIPS: sum(w * r) / sum(w) with w = target / logged (Swaminathan and Joachims 2015); effective sample size:
sum(w)**2 / sum(w**2) (Kish 1965). A step's reward is credited to that step alone: later consequences are not seen.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.exceptions import InvalidInputError
from recsys.learn.plays import Plays

Floats = npt.NDArray[np.float64]

#: Effective plays below which an estimate says nothing.
FEWEST = 100
#: Resamples of the bootstrap.
REPEATS = 500


@dataclass(frozen=True)
class OffPolicy:
    """An estimate: mean time an answer (share of a track), its 95 % interval, plays used and their effective number."""

    time: float
    low: float
    high: float
    plays: int
    effective: float

    @property
    def reliable(self) -> bool:
        """Whether enough plays of the logs agree with the policy."""
        return self.effective >= FEWEST


def snips(reward: Floats, logged: Floats, target: Floats, user: npt.NDArray[np.int64], seed: int) -> OffPolicy:
    """Estimate a policy's mean reward.

    Args:
        reward: [n]. logged: [n], propensities in (0, 1]. target: [n], the policy's probabilities of the same answers.
        user: [n], whose play it was; the bootstrap draws users.

    The policy agrees with the first and the last of three answers, and the last one was the rarer one:

    >>> reward, logged, target = np.array([0.2, 0.9, 0.8]), np.array([0.5, 0.5, 0.25]), np.array([1.0, 0.0, 1.0])
    >>> found = snips(reward, logged, target, np.arange(3), seed=1)
    >>> round(found.time, 3), round(found.effective, 3)
    (0.6, 1.8)

    Raises:
        InvalidInputError: a propensity is not in (0, 1], or a probability not in [0, 1].
    """
    if not ((logged > 0) & (logged <= 1)).all():
        wrong = logged[~((logged > 0) & (logged <= 1))][0]
        raise InvalidInputError(f"a logged propensity is {wrong}; it must be above 0 and at most 1: leave such plays out")
    if not ((target >= 0) & (target <= 1)).all():
        raise InvalidInputError("the policy's probabilities must be from 0 to 1")
    weight = target / logged
    _, owner = np.unique(user, return_inverse=True)
    weights, gains, squares = (np.bincount(owner, weights=x) for x in (weight, weight * reward, weight * weight))
    total = float(weights.sum())
    if total <= 0:
        return OffPolicy(float("nan"), float("nan"), float("nan"), len(reward), 0.0)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(REPEATS):
        drawn = np.bincount(rng.integers(0, len(weights), len(weights)), minlength=len(weights))
        below = float(drawn @ weights)
        if below > 0:
            found.append(float(drawn @ gains) / below)
    low, high = np.quantile(found, [0.025, 0.975])
    return OffPolicy(float(gains.sum()) / total, float(low), float(high), len(reward), total**2 / float(squares.sum()))


def of_lists(plays: Plays, lists: npt.NDArray[np.int64], seed: int) -> OffPolicy:
    """Estimate the policy "first unplayed track of the user's list" on plays whose propensity was logged.

    Args:
        lists: int64 [users, length], by row of a user.
    """
    target = _first_unplayed(plays, lists)
    chosen = (plays.step > 0) & (plays.propensity > 0)
    return snips(plays.time[chosen] / 100, plays.propensity[chosen], target[chosen].astype(np.float64), plays.row[chosen], seed)


def _first_unplayed(plays: Plays, lists: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether each play is what the list's policy would have answered, given the plays of the session before it."""
    answers = np.zeros(len(plays.row), dtype=bool)
    starts = np.append(np.flatnonzero(plays.step == 0), len(plays.row))
    size = len(plays.artist_of)
    wanted = np.unique(np.arange(len(lists))[:, None] * size + lists)
    found = np.flatnonzero((plays.step > 0) & np.isin(plays.row * size + plays.track, wanted))
    # A session that plays nothing of the list after its first track cannot agree with it.
    for session in np.unique(np.searchsorted(starts, found, side="right") - 1).tolist():
        begin, end = starts[session], starts[session + 1]
        listed = lists[plays.row[begin]].tolist()
        heard = {int(plays.track[begin])}
        for play in range(begin + 1, end):
            answers[play] = next((track for track in listed if track not in heard), -1) == plays.track[play]
            heard.add(int(plays.track[play]))
    return answers
