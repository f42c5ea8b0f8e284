"""How much a listener tires of an artist within a session, estimated from logs, and lists that take it into account.

In go scores of a model and plays that it has not seen; out come a :class:`Discount`, and candidates re-ranked
by it. The estimate: time is taken to be sigmoid(slope * score + offset) on first plays of an artist (Platt 1999, with
times as targets); on second plays, heard time over what that would have been is the discount.
"""

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.learn.plays import Plays
from recsys.learn.ranking import Ids, spread

log = logging.getLogger(__name__)

#: Second plays of an artist below which no discount is estimated, and iterations of Newton's method.
FEWEST, STEPS = 100, 25


@dataclass(frozen=True)
class Discount:
    """Expected time is sigmoid(slope * score + offset) * gamma**k after k plays of the artist; gamma 1 changes no list."""

    slope: float = 1.0
    offset: float = 0.0
    gamma: float = 1.0

    def times(self, scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Expected times of tracks whose artist has not been played."""
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(self.slope * scores.astype(np.float64) + self.offset, -40, 40))))

    def lists(self, tracks: Ids, scores: npt.NDArray[np.floating], artist_of: npt.NDArray[np.integer], length: int) -> Ids:
        """The best ``length`` of candidates (by descending score), artists spread."""
        if self.gamma >= 1.0:
            return tracks[:, :length]
        return spread(tracks, self.times(scores), artist_of, self.gamma, length)


def estimate(plays: Plays, score: npt.NDArray[np.floating]) -> Discount:
    """Estimate from plays and the score of each one's track for its user, float [n]; no discount where logs say too little."""
    use = (plays.step > 0) & ~plays.repeated & np.isfinite(score)
    fresh, second = use & (plays.earlier == 0), use & (plays.earlier == 1)
    if second.sum() < FEWEST or fresh.sum() < FEWEST:
        return Discount()
    slope, offset = _platt(score[fresh].astype(np.float64), plays.time[fresh] / 100)
    if slope <= 0:
        return Discount()
    found = Discount(slope, offset)
    expected = float(found.times(score[second]).sum())
    gamma = min(1.0, float(plays.time[second].sum()) / 100 / expected) if expected > 0 else 1.0
    log.info("artist discount %.3f from %d second plays", gamma, int(second.sum()))
    return Discount(slope, offset, gamma)


def _platt(score: npt.NDArray[np.float64], time: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Slope and offset of a logistic regression of times on scores, by Newton's method."""
    centre, scale = float(score.mean()), float(score.std()) or 1.0
    x = (score - centre) / scale
    share = float(np.clip(time.mean(), 1e-4, 1 - 1e-4))
    b, a = np.log(share / (1 - share)), 0.0
    for _ in range(STEPS):
        p = 1.0 / (1.0 + np.exp(-np.clip(a * x + b, -40, 40)))
        w, r = p * (1 - p) + 1e-9, time - p
        gradient = np.array([(r * x).sum(), r.sum()])
        hessian = np.array([[(w * x * x).sum(), (w * x).sum()], [(w * x).sum(), w.sum()]]) + 1e-6 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        a, b = a + step[0], b + step[1]
        if np.abs(step).max() < 1e-8:
            break
    return float(a / scale), float(b - a * centre / scale)
