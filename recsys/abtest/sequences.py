"""Effects that may be looked at every night: asymptotic confidence sequences of differences between two arms.

In go summaries of each arm's users, one for each look; out come effects with bounds that hold at all looks together. Formulas are
those of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, Time-uniform central limit theory and asymptotic confidence sequences
(2021): the two-sided sequence of their theorem 2.2 and its one-sided counterpart, with the users of both arms as the clock.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from recsys.abtest.metrics import Floats
from recsys.exceptions import InvalidInputError

LEVEL = 0.05
#: Of a variance, relative to the squared mean.
ROUNDING = 1e-12
Side = Literal["both", "lower", "upper"]


@dataclass(frozen=True)
class Arm:
    """An arm at each look: users, mean of their values, variance of a user's value; float64 [looks] each, NaN if unknown."""

    users: Floats
    mean: Floats
    variance: Floats

    @classmethod
    def of_sums(cls, users: npt.ArrayLike, total: npt.ArrayLike, squares: npt.ArrayLike) -> Self:
        """From numbers of users, sums of their values and of the values' squares, [looks] each.

        >>> arm = Arm.of_sums(4, 10, 30)
        >>> float(arm.mean), round(float(arm.variance), 4)
        (2.5, 1.6667)
        """
        count, first, second = (np.asarray(numbers, dtype=np.float64) for numbers in (users, total, squares))
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = first / count
            variance = np.where(count > 1, (second - first * mean) / (count - 1), np.nan)
        # A spread below a millionth of the mean is what is left where sums cancel.
        return cls(count, mean, np.where(variance <= ROUNDING * mean * mean, 0.0, variance))

    @classmethod
    def of_values(cls, values: Floats) -> Self:
        """From the values of an arm's users, float64 [users], at one look."""
        variance = values.var(ddof=1) if len(values) > 1 else np.nan
        mean = values.mean() if len(values) else np.nan
        return cls(np.asarray(float(len(values))), np.asarray(mean), np.asarray(variance))


class Bounds(NamedTuple):
    """Effect and bounds at each look, float64 [looks]; where there is no telling NaN, between bounds that exclude nothing."""

    effect: Floats
    low: Floats
    high: Floats


def difference(control: Arm, treatment: Arm, *, planned: float | None, level: float = LEVEL, side: Side = "both") -> Bounds:
    """The treatment's mean minus the control's.

    Args:
        planned: users of both arms together at which the sequence is to be narrowest; None: bounds that hold at one look only.
        level: chance that the effect ever lies outside. side: which bounds are wanted; the other one excludes nothing.

    Raises:
        InvalidInputError: planned is not above 0, or level is not between 0 and 1.
    """
    effect = treatment.mean - control.mean
    variance = control.variance / control.users + treatment.variance / treatment.users
    return _sequence(effect, variance, control.users + treatment.users, radius(planned, level, side), side)


def relative(
    control: Arm,
    treatment: Arm,
    *,
    planned: float | None,
    level: float = LEVEL,
    side: Side = "both",
    scale: Literal["log", "linear"] = "log",
) -> Bounds:
    """The difference as a fraction of the control's mean, which counts as estimated (delta method).

    Arguments and errors are those of :func:`difference`. There is no telling where the control's mean may as well be 0.

    Args:
        scale: on which the bounds lie around the effect: log, of the ratio of means, which treats the arms alike; or linear, as
            growthbook has it, which errs too often where users are few and tails heavy (``python -m benchmarks.watching``).
    """
    users, widths = control.users + treatment.users, radius(planned, level, side)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = treatment.mean / control.mean
        parts = [arm.variance / arm.users / (arm.mean * arm.mean) for arm in (control, treatment)]
        known = (control.mean > 0) & (treatment.mean > 0) & (widths(users) * np.sqrt(parts[0]) < 1)
        ratio = np.where(known, ratio, np.nan)
        if scale == "linear":
            return _sequence(ratio - 1, (parts[0] + parts[1]) * ratio * ratio, users, widths, side)
        return Bounds(*map(np.expm1, _sequence(np.log(ratio), parts[0] + parts[1], users, widths, side)))


def radius(planned: float | None, level: float = LEVEL, side: Side = "both") -> Callable[[npt.ArrayLike], Floats]:
    """How many standard errors a bound lies from the effect, as a function of the users so far.

    The mixture's parameter rho makes it smallest near the planned users: rho^2 = (-2 log a + log(1 - 2 log a)) / planned, where a
    is the level, or twice the level of a single bound. Without planned users it is the normal quantile of one look.

    >>> [round(float(radius(10_000)(users)), 2) for users in (1_000, 10_000, 100_000)]
    [3.86, 3.04, 3.24]
    >>> round(float(radius(None)(10_000)), 2)
    1.96

    Raises:
        InvalidInputError: planned is not above 0, or level is not between 0 and 1.
    """
    if planned is not None and not 0 < planned < np.inf:
        raise InvalidInputError(f"planned users are {planned!r}; they must be a number above 0")
    if not 0 < level < (1 if side == "both" else 0.5):
        raise InvalidInputError(f"level is {level!r}; it must lie between 0 and {1 if side == 'both' else 0.5}, such as 0.05")
    tail = level if side == "both" else 2 * level
    if planned is None:
        quantile = NormalDist().inv_cdf(1 - tail / 2)
        return lambda users: np.full(np.shape(users), quantile)
    rate = (-2 * np.log(tail) + np.log(1 - 2 * np.log(tail))) / planned

    def widths(users: npt.ArrayLike) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            inner = np.asarray(users, dtype=np.float64) * rate
            odds = np.sqrt(inner + 1) / tail
            return np.asarray(np.sqrt(2 * (inner + 1) / inner * np.log(odds if side == "both" else 1 + odds)))

    return widths


def _sequence(effect: Floats, variance: Floats, users: Floats, widths: Callable[[npt.ArrayLike], Floats], side: Side) -> Bounds:
    with np.errstate(invalid="ignore"):
        half = widths(users) * np.sqrt(variance)
        known = np.isfinite(effect) & np.isfinite(half) & (variance > 0)
        low = np.where(known & (side != "upper"), effect - half, -np.inf)
        high = np.where(known & (side != "lower"), effect + half, np.inf)
    return Bounds(np.where(known, effect, np.nan), low, high)
