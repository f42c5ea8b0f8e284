"""What a model is fitted to: logs of a standard world, as a night reads them, or a matrix of public data.

In goes a storage or a file; out comes a :class:`Given`. Nothing of a world but its catalogue is read here.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from recsys.learn.interactions import Interactions, load_interactions
from recsys.learn.plays import Plays, load_plays
from recsys.night.catalogue import tracks_of
from recsys.night.night import Night
from recsys.settings import load_settings

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: The log date that worlds are learned for, and the two whose logs they are learned from.
DAY = date(2026, 1, 3)
LEARNED = (DAY - timedelta(days=2), DAY - timedelta(days=1))
SEED = 31337


@dataclass(frozen=True)
class OfWorld:
    """What a world's logs hold beside what was liked."""

    night: Night
    data: Interactions
    plays: Plays


@dataclass(frozen=True)
class Given:
    """A binary matrix, float32 [users, tracks], indices sorted; and the rest, if it is of a world."""

    history: "csr_matrix"
    world: OfWorld | None = None


def night_of(storage: str, world: Path) -> Night:
    """The night that would learn from a world's logs; settings of the environment do not matter."""
    return Night(DAY, load_settings(storage=storage, world=world, seed=SEED))


def of_logs(night: Night) -> Given:
    """Read ``interactions/date=DAY``."""
    catalogue = tracks_of(night)
    data = load_interactions(night.store, DAY, catalogue)
    return Given(data.matrix(), OfWorld(night, data, load_plays(night.store, DAY, catalogue)))


def of_file(path: Path) -> Given:
    """Read a matrix that SciPy wrote."""
    from scipy.sparse import load_npz

    history = load_npz(path).tocsr()
    history.sort_indices()
    return Given(history)
