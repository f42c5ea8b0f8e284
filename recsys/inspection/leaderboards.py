"""Leaderboards of the autoencoder's trials, one a log date: a storage in, boards out, the newest date first.

A leaderboard that cannot be read says why, and hides no other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from pydantic import TypeAdapter

from recsys.exceptions import RecsysError, UnavailableError
from recsys.night.tune import Trial
from recsys.storage.layout import Dated
from recsys.storage.marks import marks
from recsys.storage.store import Storage

_TRIALS = TypeAdapter(list[Trial])


@dataclass(frozen=True)
class Leaderboard:
    """Trials on a log date, the best first, and the path of the best configuration; or the ``problem``."""

    log_date: date
    trials: Sequence[Trial] = ()
    best: str = ""
    problem: str = ""


def leaderboards(store: Storage) -> list[Leaderboard]:
    """All of them.

    Raises:
        UnavailableError: the storage does not answer.
    """
    days = sorted(marks(store, Dated.TUNING), reverse=True)
    return [_board(store, day) for day in days if store.is_complete(_name(day))]


def _board(store: Storage, day: date) -> Leaderboard:
    try:
        trials = _TRIALS.validate_json(store.read_bytes(_name(day), "leaderboard.json"))
    except UnavailableError:
        raise
    except (RecsysError, OSError, ValueError) as error:
        return Leaderboard(day, problem=f"The leaderboard of {day} cannot be read: {error}")
    return Leaderboard(day, trials, f"{store.path(_name(day))}/best.json")


def _name(day: date) -> str:
    return f"{Dated.TUNING.on(day)}/leaderboard"
