"""An experiment of real listeners at every night since it began: how the effect stood, with bounds that hold at all of them.

In go the experiment's log and the log dates so far; out comes a :class:`Watched` comparison. The unit is the user, whose value at
a night is the primary metric of all sessions so far: listeners return, and their values change. The error is kept all the same,
as ``python -m benchmarks.watching`` shows by simulation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import numpy as np

from recsys.abtest.analysis import Comparison, welch
from recsys.abtest.metrics import PRIMARY, Columns, Floats, Ints
from recsys.abtest.sequences import Arm, Bounds, relative
from recsys.abtest.sessions import ExperimentLog

#: Users an arm below which there is no telling: the bounds hold for means of many.
LEAST_USERS = 50


class Plan(NamedTuple):
    """What was fixed when an experiment began, and the log dates with its requests since then, ascending."""

    planned_users: int
    dates: Sequence[date]


@dataclass(frozen=True)
class Look:
    """The effect as it stood after a log date, in percent of the control mean.

    Its bounds hold at all nights together, those of ``once_…`` if nobody had looked before; None where there is no telling.
    """

    log_date: str
    control_users: int
    treatment_users: int
    effect_percent: float | None
    ci_low_percent: float | None
    ci_high_percent: float | None
    once_low_percent: float | None
    once_high_percent: float | None


@dataclass(frozen=True)
class Watched(Comparison):
    """A comparison that may be looked at every night: the bounds are those of a confidence sequence, the last of ``looks``."""

    planned_users: int = 0
    looks: tuple[Look, ...] = ()

    @property
    def interval(self) -> str:
        """What its bounds are, for people."""
        return "95 % interval for all nights"


def watch(found: ExperimentLog, control: str, treatment: str, plan: Plan) -> Watched:
    """The primary metric of one arm against another, night after night."""
    arms = tuple(_by_night(found.sessions_of_arm(arm), plan.dates) for arm in (control, treatment))
    enough = (arms[0].users >= LEAST_USERS) & (arms[1].users >= LEAST_USERS)
    sequence = _percent(relative(*arms, planned=plan.planned_users), enough)
    once = _percent(relative(*arms, planned=None), enough)
    users = zip(plan.dates, *(arm.users.astype(int).tolist() for arm in arms), strict=True)
    looks = tuple(
        Look(str(day), first, second, *bounds, *single[1:])
        for (day, first, second), bounds, single in zip(users, sequence, once, strict=True)
    )
    last, plain = looks[-1], welch(PRIMARY, found.of_arm(control), found.of_arm(treatment))
    reason = plain.reason or "the control mean is too uncertain for a relative effect"
    if not enough[-1]:
        reason = plain.reason or f"fewer than {LEAST_USERS} users of an arm have come so far"
    return Watched(
        PRIMARY.name,
        treatment,
        control,
        "primary",
        last.control_users,
        last.treatment_users,
        control_mean=plain.control_mean,
        treatment_mean=plain.treatment_mean,
        effect_percent=last.effect_percent,
        ci_low_percent=last.ci_low_percent,
        ci_high_percent=last.ci_high_percent,
        reason=reason if last.effect_percent is None else None,
        label=PRIMARY.label,
        unit=PRIMARY.unit,
        planned_users=plan.planned_users,
        looks=looks,
    )


def _by_night(sessions: Columns, dates: Sequence[date]) -> Arm:
    """Users so far and the moments of their mean session times, at each date."""
    days = np.array(dates, dtype="datetime64[D]")
    ended = sessions["ended"].astype("datetime64[ms]").astype("datetime64[D]")
    night = np.minimum(np.searchsorted(days, ended), len(days) - 1)  # A clock may be wrong; the log dates are not.
    time = np.asarray(sessions["time"], dtype=np.float64)
    return means(sessions["user"].astype(np.int64), night, time, len(days))


def means(user: Ints, night: Ints, value: Floats, nights: int) -> Arm:
    """Users so far and the moments of the means of their values so far, at each night.

    Args:
        user, night, value: of each session, int64 and float64 [sessions]; nights count from 0.
    """
    order = np.lexsort((night, user))
    user, night, value = user[order], night[order], value[order]
    first = np.flatnonzero(np.diff(user, prepend=-1))
    start = np.repeat(first, np.diff(np.append(first, len(user))))
    millionths = np.rint(value * 1e6).astype(np.int64)  # Their sums are exact: later sessions change no earlier night.
    total = np.cumsum(millionths)
    mean = (total - (total - millionths)[start]) / (np.arange(len(user)) - start + 1) / 1e6
    before = np.where(np.arange(len(user)) == start, 0.0, np.roll(mean, 1))

    def so_far(steps: Floats | None, at: Ints) -> Floats:
        return np.bincount(at, steps, nights).cumsum().astype(np.float64)

    return Arm.of_sums(so_far(None, night[first]), so_far(mean - before, night), so_far(mean**2 - before**2, night))


def _percent(bounds: Bounds, enough: np.ndarray) -> list[tuple[float | None, float | None, float | None]]:
    """Effect, lower and upper bound at each look, or None for each."""
    rows = 100 * np.stack(bounds, axis=1)
    known = enough & np.isfinite(rows).all(axis=1)
    return [tuple(row) if told else (None, None, None) for row, told in zip(rows.tolist(), known.tolist(), strict=True)]
