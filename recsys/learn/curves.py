"""How easily each listener is pleased: curves from how well a track fits to how long it is heard, learned from random answers.

In go times of random answers; out come :class:`Curves`. The time of a track is sigmoid(middle + spread * fit), and the fit of a
random track is standard normal. So who hears everything, who hears nothing, and who hears half of the tracks to the end each have
a curve, and by how much a recommender's tracks fit better than random ones is a number that all users together tell. Middle and
spread are on a grid; their distribution over users is estimated by maximum likelihood (Kiefer and Wolfowitz 1956, by expectation
maximisation), each user's own by Bayes' rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_MIDDLES, _SPREADS = np.linspace(-12, 4, 33), np.array([0.25, 0.5, 0.75, 1.0, 1.4, 2.0, 2.8, 4.0])
#: Middle and spread of every point of the grid.
MIDDLE, SPREAD = (part.ravel() for part in np.meshgrid(_MIDDLES, _SPREADS, indexing="ij"))
#: Values of a time in hundredths; users who tell the distribution, at most; iterations; what every point of the grid keeps.
HUNDREDTHS, MOST, ITERATIONS, FLOOR = 101, 3000, 30, 1e-9
#: Shifts of the fit at which a curve is tabulated, between which it is interpolated.
SHIFTS = np.linspace(-4, 6, 41)
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(9)


def sigmoid(x: Floats) -> Floats:
    """The logistic function."""
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -40, 40))))


@dataclass(frozen=True)
class Curves:
    """What is known about users: prior: float64 [grid], of all; counts: float64 [users, 101], plays of random tracks by time."""

    prior: Floats
    counts: Floats

    @classmethod
    def of(cls, row: Ints, time: Ints, users: int) -> "Curves":
        """Learn from plays of random tracks: rows of their users, and hundredths heard, each [n]."""
        counts = np.bincount(row * HUNDREDTHS + time, minlength=users * HUNDREDTHS).reshape(users, HUNDREDTHS).astype(np.float64)
        likelihood = _likelihood(counts[np.flatnonzero(counts.sum(axis=1))[:MOST]])
        prior = np.full(len(MIDDLE), 1 / len(MIDDLE))
        for _ in range(ITERATIONS if len(likelihood) else 0):
            prior = _normal(likelihood * prior).mean(axis=0) + FLOOR
            prior /= prior.sum()
        return cls(prior, counts)

    def posterior(self, row: Ints, without: Ints | None = None) -> Floats:
        """Probabilities of the grid's points for users, float64 [n, grid]; ``without``: a time of each one not to be counted."""
        counts = self.counts[row]
        if without is not None:
            counts[np.arange(len(row)), without] -= 1
        return _normal(_likelihood(counts) * self.prior)

    def table(self, row: Ints, without: Ints | None = None) -> Floats:
        """Expected times at :data:`SHIFTS`, float64 [n, shifts]; arguments as of :meth:`posterior`."""
        return np.asarray(self.posterior(row, without) @ _TABLE)

    def information(self, row: Ints) -> Floats:
        """What a user's time of a random track tells about its fit, a share of the fit's variance; float64 [n], 0 to 1."""
        posterior = self.posterior(row)
        mean, slope = expected(posterior @ _TABLE, np.zeros(len(row)))
        return np.asarray(slope**2 / np.maximum(posterior @ _SQUARES - mean**2, 1e-6))


def expected(table: Floats, shift: Floats) -> tuple[Floats, Floats]:
    """Expected time of tracks that fit better than random ones by a shift, and its derivative; [n] each.

    Args:
        table: of :meth:`Curves.table`, [n, shifts]. shift: [n].
    """
    place = np.clip((shift - SHIFTS[0]) / (SHIFTS[1] - SHIFTS[0]), 0, len(SHIFTS) - 1.001)
    low = place.astype(np.int64)
    here, rows = place - low, np.arange(len(shift))
    left, right = table[rows, low], table[rows, low + 1]
    return left + here * (right - left), (right - left) / (SHIFTS[1] - SHIFTS[0])


@dataclass(frozen=True)
class Targeted:
    """Coefficients of the shift, float64 [k], their covariance [k, k], and each answer's expected time and its slope, [n]."""

    shift: Floats
    covariance: Floats
    mean: Floats
    slope: Floats


def targeted(table: Floats, covariates: Floats, time: Floats, weight: Floats, user: Ints, priors: Sequence[float]) -> Targeted:
    """Shift curves until they agree with weighted answers: the weighted sum of covariate times (time - expected time) becomes 0.

    So the answers' weighted mean is met however wrong the curves are, and a shift that is right stays right however wrong the
    weights are: doubly robust (van der Laan and Rubin 2006).

    Args:
        table: of :meth:`Curves.table`, [n, shifts]. covariates: [n, k]. time: [n], 0 to 1. weight: [n], of importance.
        user: [n], whose answer it was; the covariance is clustered by user. priors: [k], standard deviations around 0.
    """
    penalty = np.diag(1 / np.square(priors))
    found = np.zeros(covariates.shape[1])
    for _ in range(ITERATIONS):
        mean, slope = expected(table, covariates @ found)
        # One scale for all makes of slopes an information, with which the priors compare.
        scale = float(weight @ slope) / max(float(weight @ (mean * (1 - mean))), 1e-9)
        scores = covariates * (scale * weight * (time - mean))[:, None]
        information = (covariates * (scale * weight * slope)[:, None]).T @ covariates + penalty
        step = np.linalg.solve(information, scores.sum(axis=0) - penalty @ found)
        found = found + np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-6:
            break
    inverse = np.linalg.inv(information)
    _, owner = np.unique(user, return_inverse=True)
    by_user = np.stack([np.bincount(owner, weights=column) for column in scores.T], axis=1)
    return Targeted(found, inverse @ (by_user.T @ by_user + penalty) @ inverse, mean, slope)


def _likelihood(counts: Floats) -> Floats:
    logarithm = counts @ _log_likelihoods().T
    return np.asarray(np.exp(logarithm - logarithm.max(axis=1, keepdims=True)))


def _normal(weights: Floats) -> Floats:
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


@cache
def _log_likelihoods() -> Floats:
    """Of each time at each point of the grid, float64 [grid, 101]."""
    from scipy.special import ndtr

    share = (np.arange(HUNDREDTHS - 1) + 0.5) / 100
    edges = np.concatenate([[-np.inf], np.log(share / (1 - share)), [np.inf]])
    below = ndtr((edges - MIDDLE[:, None]) / SPREAD[:, None])
    return np.asarray(np.log(np.diff(below, axis=1).clip(1e-12)))


_SQUARES = sigmoid(MIDDLE[:, None] + SPREAD[:, None] * _NODES) ** 2 @ (_WEIGHTS / _WEIGHTS.sum())
_TABLE = sigmoid(MIDDLE[:, None, None] + SPREAD[:, None, None] * (SHIFTS[:, None] + _NODES)) @ (_WEIGHTS / _WEIGHTS.sum())
