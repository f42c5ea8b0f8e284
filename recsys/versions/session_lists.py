"""Candidates for a session by its first track and its listener's tastes, in integers: the format that the service reads.

:class:`SessionLists` is a catalogue-sized part of a version that serialises to one binary file, the same bytes for the same
content; :mod:`recsys.models.session_candidates` makes it. A list belongs to a taste: a group of first tracks of some user.
"""

import io
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recsys.exceptions import CorruptDataError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: An expected time of 1 and a discount of 1 in integers.
WHOLE_TIME, WHOLE_DISCOUNT = 65_535, 65_536
#: Earlier plays of an artist beyond which the discount does not fall further.
DISCOUNTS = 64


@dataclass(frozen=True)
class SessionLists:
    """Candidates by taste.

    Attributes:
        row_of: uint32 [tracks], the list of a session that begins with the track, for users without a group near it.
        tracks: uint32 [rows, candidates], by descending score, ties by ascending id.
        scores: uint16 [rows, candidates], 0 to 1,023: how close a candidate is to the taste.
        times: uint16 [levels, 1,024], expected time by score in 65,535ths for listeners of a level (how easily they are pleased);
            level 0 is the typical one, for users that the logs do not know.
        firsts: int8 [tracks, dims], places: int8 [rows, dims]: where tracks and lists are; the nearest group of a user answers,
            if its squared distance is at most ``near``, uint32 [1].
        artist_of: uint32 [tracks]. discounts: uint32 [64], factor in 65,536ths after that many earlier plays of the artist.
    """

    row_of: npt.NDArray[np.uint32]
    tracks: npt.NDArray[np.uint32]
    scores: npt.NDArray[np.uint16]
    times: npt.NDArray[np.uint16]
    firsts: npt.NDArray[np.int8]
    places: npt.NDArray[np.int8]
    near: npt.NDArray[np.uint32]
    artist_of: npt.NDArray[np.uint32]
    discounts: npt.NDArray[np.uint32]

    @classmethod
    def empty(cls) -> "SessionLists":
        """No lists at all."""
        none = np.zeros(0, np.uint32)
        table = np.zeros((0, 0), np.int8)
        wide = table.astype(np.uint16)
        return cls(none, none.reshape(0, 0), wide, wide, table, table, none, none, none)

    def to_bytes(self) -> bytes:
        """One NumPy archive."""
        buffer = io.BytesIO()
        np.savez(buffer, **{f.name: getattr(self, f.name) for f in fields(self)})
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "SessionLists":
        """The inverse of :meth:`to_bytes`.

        Raises:
            CorruptDataError: an array is missing, or shapes and ids do not fit.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as saved:
                lists = cls(**{f.name: saved[f.name] for f in fields(cls)})
        except Exception as error:  # NumPy raises what its parser of headers and zipfile raise
            raise CorruptDataError(f"session lists cannot be read: {error}; train again") from None
        n = len(lists.row_of)
        fits = (
            lists.tracks.ndim == 2 and lists.tracks.shape == lists.scores.shape and len(lists.artist_of) == len(lists.firsts) == n
        )
        fits = fits and len(lists.places) == len(lists.tracks) and lists.firsts.shape[1:] == lists.places.shape[1:]
        if not fits or (n and (lists.row_of.max() >= len(lists.tracks) or lists.tracks.max(initial=0) >= n)):
            raise CorruptDataError("session lists do not fit together; train again")
        return lists

    def matrix(self) -> "csr_matrix":
        """Expected times as a sparse matrix, first tracks x tracks."""
        from scipy.sparse import csr_matrix

        rows, width = self.tracks.shape
        times = (self.times[0][self.scores].astype(np.float32) / WHOLE_TIME).ravel()
        lists = csr_matrix((times, self.tracks.ravel().astype(np.int64), np.arange(rows + 1) * width), (rows, len(self.row_of)))
        return lists[self.row_of.astype(np.int64)]
