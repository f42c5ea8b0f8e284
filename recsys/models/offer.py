"""What may be recommended to whom: the one place that knows of retired tracks, and of what users liked before.

In go rows of users' histories and tracks; out comes which of the tracks each user may be recommended, and how many there are.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Stands in a list, behind its tracks, where there is nothing more to recommend.
NOTHING = -1


@dataclass(frozen=True)
class Offer:
    """What may be recommended.

    Attributes:
        available: bool [tracks], false for retired ones. keeps_liked: whether what a user liked before may be recommended again.
    """

    available: npt.NDArray[np.bool_]
    keeps_liked: bool = True

    @property
    def is_everything(self) -> bool:
        """Whether every track may be recommended to everybody."""
        return self.keeps_liked and bool(self.available.all())

    def room(self, history: "csr_matrix") -> npt.NDArray[np.int64]:
        """How many tracks may be recommended to each row, int64 [rows]."""
        left = np.full(history.shape[0], int(self.available.sum()), np.int64)
        if not self.keeps_liked:
            row = np.repeat(np.arange(history.shape[0]), np.diff(history.indptr))
            left -= np.bincount(row[self.available[history.indices]], minlength=history.shape[0])
        return left

    def only(self, history: "csr_matrix", scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The same scores, float32 [rows, tracks], with -inf for what may not be recommended to the row's user."""
        left = np.where(self.available, scores, np.float32(-np.inf))
        if not self.keeps_liked:
            left[np.repeat(np.arange(history.shape[0]), np.diff(history.indptr)), history.indices] = -np.inf
        return left

    def refuses(self, history: "csr_matrix", tracks: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which tracks may not be recommended to a row's user; what is no track of the catalogue is not looked at.

        Args:
            history: [rows, tracks], indices sorted. tracks: int64 [rows, k].

        Returns:
            bool [rows, k].
        """
        size = len(self.available)
        known = (tracks >= 0) & (tracks < size)
        places = np.where(known, tracks, 0)
        refused = ~self.available[places]
        if not self.keeps_liked:
            rows = np.arange(history.shape[0])
            liked = np.repeat(rows, np.diff(history.indptr)) * size + history.indices
            refused |= np.isin(rows[:, None] * size + places, liked)
        return refused & known
