"""How many users and nights an experiment needs, from what users did before it.

In go users of past logs, with the night on which each was first seen; out come the numbers of users from whom an effect is
found with the wanted probability, by one look at the end or by looks at every night, and the nights until so many have come.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from statistics import NormalDist

import numpy as np

from recsys.abtest.analysis import CONFIDENCE, POWER
from recsys.abtest.document import CANDIDATE, CONTROL
from recsys.abtest.metrics import Columns, Floats, Ints
from recsys.abtest.sequences import radius
from recsys.abtest.sessions import read_visits
from recsys.abtest.watch import LEAST_USERS
from recsys.abtest.wording import counted
from recsys.exceptions import InvalidInputError, MissingDataError
from recsys.experiments import ORIGINAL, Experiment
from recsys.storage.layout import Dated
from recsys.storage.store import Storage

#: Users below whom their spread is not known well enough to plan with.
MIN_USERS = 40
#: Relative effects that can be planned for.
SMALLEST, LARGEST = 0.0001, 10.0


@dataclass(frozen=True)
class Needed:
    """Users of both compared arms together, and nights until they have come; None: with these arrivals never."""

    users: int
    nights: int | None


@dataclass(frozen=True)
class ExperimentPlan:
    """What an experiment needs, by ``users`` of ``nights`` of past logs.

    ``mean`` and ``deviation`` are those of users' mean session times, in tracks. ``once``: for one look at the end; ``nightly``:
    for looks at every night, whose sequence is narrowest at that size.
    """

    control: str
    treatment: str
    effect_percent: float
    power: float
    users: int
    nights: int
    mean: float
    deviation: float
    once: Needed
    nightly: Needed


def stored_visits(store: Storage, log_date: date | None, days: int) -> list[Columns]:
    """The visits of the last log dates in a storage, as :func:`recsys.abtest.sessions.read_visits` gives them.

    Args:
        log_date: the last one; None: of all there are. Days are the log dates, whatever the lines say: those of simulated
            listeners are of when they were played.

    Raises:
        MissingDataError: there are no logs of these dates.
    """
    there = store.dates(Dated.LOGS)
    last = log_date or max(there, default=date.max)
    found = [day for day in there if 0 <= (last - day).days < days]
    if not found:
        until = f" up to {log_date}" if log_date else ""
        raise MissingDataError(f"no logs of {counted(days, 'log date')}{until} are in {store.url}; collect some, or give --logs")
    visits = ((day, read_visits(store.local(Dated.LOGS.on(day)))) for day in found)
    return [{**columns, "day": np.full(len(columns["user"]), day.toordinal())} for day, columns in visits]


def arrivals(visits: Sequence[Columns]) -> tuple[Floats, Ints]:
    """Users' mean session times, float64 [users], and the nights on which they were first seen, int64 [users] from 0."""
    user, day, sessions, time = (
        np.concatenate([np.asarray(columns[name]) for columns in visits]) for name in ("user", "day", "sessions", "time")
    )
    users, inverse = np.unique(user, return_inverse=True)
    first = np.full(len(users), np.iinfo(np.int64).max)
    np.minimum.at(first, inverse, day.astype(np.int64))
    means = np.bincount(inverse, time, len(users)) / np.bincount(inverse, sessions, len(users))
    return means, first - first.min(initial=np.iinfo(np.int64).max)


def plan(
    times: Floats, first_nights: Ints, effect: float, *, power: float = POWER, design: Experiment = ORIGINAL
) -> ExperimentPlan:
    """Plan an experiment of mean session time.

    Args:
        times, first_nights: of the users, as :func:`arrivals` gives them. effect: relative, 0.05 say.
        power: probability to find it. design: its arms; the first treatment is compared with the control.

    Raises:
        InvalidInputError: an argument is out of range, or there are too few users to plan with.
    """
    if len(times) < MIN_USERS:
        users = counted(len(times), "user")
        raise InvalidInputError(f"the logs hold whole sessions of {users}; at least {MIN_USERS} are needed to plan with")
    mean, deviation = float(times.mean()), float(times.std(ddof=1))
    if not (mean > 0 and deviation > 0):
        raise InvalidInputError("all users of the logs have the same session time; an experiment cannot be planned by them")
    weights = Counter(arm.name for arm in design.arms)
    control = CONTROL if CONTROL in weights else design.arms[0].name
    treatment = CANDIDATE if CANDIDATE in weights and control != CANDIDATE else next(arm for arm in weights if arm != control)
    both = weights[control] + weights[treatment]
    came = np.bincount(first_nights)

    def needed(nightly: bool) -> Needed:
        users = users_needed(deviation / mean, effect, nightly=nightly, power=power, share=weights[treatment] / both)
        return Needed(users, nights_needed(came, math.ceil(users * len(design.arms) / both)))

    return ExperimentPlan(
        control, treatment, 100 * effect, power, len(times), len(came), mean, deviation, needed(False), needed(True)
    )


def users_needed(spread: float, effect: float, *, nightly: bool, power: float = POWER, share: float = 0.5) -> int:
    """Users of both arms from whom a relative effect is found, two-sided at 5 %; no fewer than any sequence needs.

    Args:
        spread: standard deviation of a user's value over the mean. nightly: whether every night is looked at; then the number is
            the one that counts as planned, and the effect is found there or earlier.

    >>> users_needed(1.0, 0.05, nightly=False), users_needed(1.0, 0.05, nightly=True)
    (13189, 25256)

    Raises:
        InvalidInputError: an argument is out of range.
    """
    if not (SMALLEST <= abs(effect) <= LARGEST and effect > -1):
        bounds = f"{100 * SMALLEST:g} and {100 * LARGEST:g} % either way"
        raise InvalidInputError(f"effect is {100 * effect:g} %; it must lie above -100 %, and between {bounds}")
    if not 0 < power < 1:
        raise InvalidInputError(f"power is {power!r}; it must lie between 0 and 1, such as 0.8")
    if not 0 < share < 1:
        raise InvalidInputError(f"share is {share!r}; it must lie between 0 and 1, such as 0.5")
    planned = 1.0 if nightly else None  # At the planned size the radius depends on the level alone.
    errors = float(radius(planned, 1 - CONFIDENCE)(1.0)) + NormalDist().inv_cdf(power)
    variance = spread * spread * (1 / (1 - share) + 1 / share)
    return max(2 * LEAST_USERS, math.ceil(errors * errors * variance / math.log1p(effect) ** 2))


def nights_needed(arrivals: Sequence[int] | Ints, users: int) -> int | None:
    """Nights until so many users have been seen; None if never.

    Args:
        arrivals: users first seen on each night of the past. After these nights as many come as on average in their second half,
            when most of those who come often have been seen.

    >>> nights_needed([50, 10, 5, 5], 55), nights_needed([50, 10, 5, 5], 80), nights_needed([50, 0], 51)
    (2, 6, None)
    """
    seen = np.cumsum(arrivals)
    if seen[-1] >= users:
        return int(np.searchsorted(seen, users)) + 1
    rate = float(np.mean(np.asarray(arrivals)[len(seen) // 2 :]))
    return len(seen) + math.ceil((users - int(seen[-1])) / rate) if rate else None
