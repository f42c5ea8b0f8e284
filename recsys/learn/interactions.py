"""Interactions of a night as arrays and matrices, checked against the world.

In goes ``interactions/date=D``; out come :class:`Interactions`, whose rows are the world's users in ascending order of id.
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recsys import catalog
from recsys.exceptions import CorruptDataError
from recsys.storage.layout import Dated
from recsys.storage.store import Storage

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class Interactions:
    """Positives of a window of log dates.

    Attributes:
        users: int64 [n_users], ids of the world's users, ascending; row r of a matrix is ``users[r]``.
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


def load_interactions(store: Storage, log_date: date, world: Path) -> Interactions:
    """Read the interactions of a night.

    Raises:
        MissingDataError: not collected yet. CorruptDataError: a user or track is not of this world, or a weight is not finite.
    """
    import pyarrow.parquet as pq

    name = Dated.INTERACTIONS.on(log_date)
    table = pq.read_table(store.local(name) / "interactions.parquet")
    checksums = {f.name: f.sha256 for f in store.manifest(name).files}
    users, artist_of = catalog.load_users(world), catalog.load_tracks(world).artist_of
    user = table["user"].to_numpy().astype(np.int64)
    track = table["track"].to_numpy().astype(np.int64)
    weight = table["weight"].to_numpy()
    row = np.searchsorted(users, user)
    strange = (row >= len(users)) | (users[np.minimum(row, len(users) - 1)] != user)
    if strange.any():
        raise CorruptDataError(f"{name} has user {user[strange][0]}, who is not in {world}; collect with the right RECSYS_WORLD")
    if len(track) and (track.max() >= len(artist_of) or track.min() < 0):
        wrong = track[(track >= len(artist_of)) | (track < 0)][0]
        raise CorruptDataError(f"{name} has track {wrong}, beyond the catalogue of {len(artist_of)}; use the right RECSYS_WORLD")
    if not np.isfinite(weight).all():
        raise CorruptDataError(f"{name} has a weight that is not finite; collect the date again")
    return Interactions(
        users,
        artist_of,
        row,
        track,
        weight,
        table["log_date"].to_numpy().astype("datetime64[D]"),
        checksums["interactions.parquet"],
        checksums.get("plays.parquet", ""),
    )
