"""How listeners fared day by day: the logs of dates in, mean session time by user and how much of the catalogue was served out.

This is what the loop of traffic and nights is for: each day is served by what the nights before it made live.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recsys.exceptions import MissingDataError
from recsys.logs.record import answer, log_files, records
from recsys.night.collect import read_sessions
from recsys.schemas import DatedCatalogue
from recsys.storage.layout import Dated
from recsys.storage.store import Storage

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Day:
    """One log date.

    Attributes:
        mean: mean over users of a user's mean session time, in tracks. low, high: its 95 % interval.
        versions: share of answers by the version that gave them ("" for none).
        coverage: share of the catalogue that was recommended at least once.
    """

    log_date: date
    users: int
    sessions: int
    mean: float
    low: float
    high: float
    versions: dict[str, float]
    coverage: float


@dataclass(frozen=True)
class Difference:
    """How much longer a user listened on one log date than on another.

    Attributes:
        users: users who listened on both.
        mean: mean over them of the difference of their mean session times, in tracks. low, high: its 95 % interval.
    """

    users: int
    mean: float
    low: float
    high: float


def by_day(store: Storage, catalogue: int) -> list[Day]:
    """Every log date, ascending.

    Args:
        catalogue: how many tracks there are, on dates without a copy of the catalogue.

    Raises:
        MissingDataError: there are no logs.
    """
    dates = store.dates(Dated.LOGS)
    if not dates:
        raise MissingDataError(f"{store.url} holds no logs; 'recsys traffic' collects some")
    copies = {day: DatedCatalogue.find(store, day) for day in dates}
    return [_day(day, _files(store, day), copy.tracks if copy else catalogue) for day, copy in copies.items()]


def difference(store: Storage, first: date, last: date) -> Difference:
    """What has become of listeners from one log date to another, by user.

    Raises:
        MissingDataError: nobody listened on both dates.
    """
    before, after = (_by_user(read_sessions(_files(store, day))) for day in (first, last))
    both = sorted(before.keys() & after.keys())
    if not both:
        raise MissingDataError(f"no user listened both on {first} and on {last}; compare other dates")
    mean, half = _interval(np.array([after[user] - before[user] for user in both]))
    return Difference(len(both), mean, mean - half, mean + half)


def draw(days: Sequence[Day], path: Path) -> None:
    """A picture of session time and coverage by day, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.8, 4.2), layout="constrained", dpi=120)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    labels = [str(day.log_date) for day in days]
    means = np.array([day.mean for day in days])
    errors = np.array([[day.mean - day.low for day in days], [day.high - day.mean for day in days]])
    top.errorbar(labels, means, yerr=errors, marker="o", capsize=3, color="#0b7a75")
    top.set_ylabel("session time (tracks)")
    top.set_title("How listeners fared, by day (mean over users, 95 % interval)", loc="left")
    bottom.bar(labels, [100 * day.coverage for day in days], color="#7b8794")
    bottom.set_ylabel("coverage (%)")
    for axes in (top, bottom):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def to_json(day: Day) -> dict[str, object]:
    """A JSON-ready dictionary."""
    return asdict(day) | {"log_date": str(day.log_date)}


def _files(store: Storage, day: date) -> list[Path]:
    return log_files(store.local(Dated.LOGS.on(day)))


def _by_user(sessions: "pa.Table") -> dict[int, float]:
    """Mean session time of each user of a table of sessions."""
    users, inverse = np.unique(sessions["user"].to_numpy(), return_inverse=True)
    means = np.bincount(inverse, sessions["time"].to_numpy()) / np.bincount(inverse)
    return dict(zip(users.tolist(), means.tolist(), strict=True))


def _interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Mean and half width of its 95 % interval, by Student's t."""
    from scipy import stats

    half = 0.0
    if len(values) > 1:
        half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return float(values.mean()), half


def _day(day: date, files: Sequence[Path], catalogue: int) -> Day:
    sessions = read_sessions(files)
    by_user = _by_user(sessions)
    mean, half = _interval(np.array(list(by_user.values())))
    served: set[int] = set()
    versions: dict[str, int] = {}
    for path in files:
        for record in records(path):
            track = None if isinstance(record, str) else answer(record)[0]
            if not isinstance(record, str) and track is not None:
                served.add(track)
                version = record.get("version", "")
                versions[version] = versions.get(version, 0) + 1
    answers = max(1, sum(versions.values()))
    shares = {version: count / answers for version, count in sorted(versions.items())}
    coverage = len(served) / catalogue
    return Day(day, len(by_user), sessions.num_rows, mean, mean - half, mean + half, shares, coverage)
