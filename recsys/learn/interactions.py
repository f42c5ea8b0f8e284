"""Interactions of a night as arrays and matrices.

In go ``interactions/date=D`` and its catalogue; out come :class:`Interactions`, whose rows are the users of the night's logs in
ascending order of id: everybody who was seen in the window, whether they liked anything or not.
"""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recsys.catalog import Catalogue
from recsys.exceptions import CorruptDataError
from recsys.storage.layout import Dated
from recsys.storage.store import Storage

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class Interactions:
    """Positives of a window of log dates.

    Attributes:
        users: int64 [n_users], ids of the users of the logs, ascending; row r of a matrix is ``users[r]``.
        artist_of: int32 [n_tracks], artist of each track.
        row: int64 [n], row of each positive's user.
        track: int64 [n]. weight: float32 [n]. day: datetime64[D] [n], log date.
        checksum, plays_checksum: SHA-256 of the Parquet files of positives and of plays ("" if there is none).
    """

    users: npt.NDArray[np.int64]
    artist_of: npt.NDArray[np.int32]
    row: npt.NDArray[np.int64]
    track: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float32]
    day: npt.NDArray[np.datetime64]
    checksum: str = ""
    plays_checksum: str = ""

    def matrix(self, chosen: npt.NDArray[np.bool_] | None = None) -> "csr_matrix":
        """Binary users x tracks matrix of the chosen positives (all by default), float32, indices sorted."""
        from scipy.sparse import csr_matrix

        row, track = (self.row, self.track) if chosen is None else (self.row[chosen], self.track[chosen])
        ones = np.ones(len(row), dtype=np.float32)
        matrix = csr_matrix((ones, (row, track)), shape=(len(self.users), len(self.artist_of)))
        matrix.sum_duplicates()
        matrix.sort_indices()
        matrix.data[:] = 1.0
        return matrix

    def before(self, log_date: date) -> npt.NDArray[np.bool_]:
        """Which positives are of earlier log dates."""
        return self.day < np.datetime64(log_date)


def load_interactions(store: Storage, log_date: date, catalogue: Catalogue) -> Interactions:
    """Read the interactions of a night.

    Args:
        catalogue: the log date's own.

    Raises:
        MissingDataError: not collected yet. CorruptDataError: a track is not of this catalogue, a user has no session, or a
            weight is not finite.
    """
    import pyarrow.parquet as pq

    name = Dated.INTERACTIONS.on(log_date)
    table = pq.read_table(store.local(name) / "interactions.parquet")
    checksums = {f.name: f.sha256 for f in store.manifest(name).files}
    users, tracks = users_of(store, log_date), table["track"].to_numpy().astype(np.int64)
    weight = table["weight"].to_numpy()
    row = rows_of(name, users, table["user"].to_numpy().astype(np.int64))
    check_tracks(name, tracks, catalogue)
    if not np.isfinite(weight).all():
        raise CorruptDataError(f"{name} has a weight that is not finite; collect the date again")
    return Interactions(
        users,
        catalogue.artist_of,
        row,
        tracks,
        weight,
        table["log_date"].to_numpy().astype("datetime64[D]"),
        checksums["interactions.parquet"],
        checksums.get("plays.parquet", ""),
    )


def users_of(store: Storage, log_date: date) -> npt.NDArray[np.int64]:
    """Ids of the users who were seen in a night's window of logs, ascending.

    Raises:
        MissingDataError: not collected yet.
    """
    import pyarrow.parquet as pq

    sessions = pq.read_table(store.local(Dated.INTERACTIONS.on(log_date)) / "sessions.parquet", columns=["user"])
    return np.unique(sessions["user"].to_numpy().astype(np.int64))


def rows_of(name: str, users: npt.NDArray[np.int64], user: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Rows of users, int64 [n]; ``name`` is the directory that they come from.

    Raises:
        CorruptDataError: one of them is not among ``users``.
    """
    row = np.searchsorted(users, user)
    strange = np.append(users, -1)[row] != user
    if strange.any():
        raise CorruptDataError(f"{name} has user {user[strange][0]}, who has no session in it; collect the date again")
    return row


def check_tracks(name: str, track: npt.NDArray[np.int64], catalogue: Catalogue) -> None:
    """See that tracks are those of a catalogue.

    Raises:
        CorruptDataError: one of them is not.
    """
    beyond = (track < 0) | (track >= catalogue.size)
    if beyond.any():
        raise CorruptDataError(
            f"{name} has track {track[beyond][0]}, beyond the date's catalogue of {catalogue.size}; collect the date again"
        )
