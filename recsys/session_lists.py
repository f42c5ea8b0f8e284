"""Candidates for a session by its first track: a catalogue-sized part of a version, in integers.

In go vectors of the response model; out come :class:`SessionLists`, which serialise to one binary file, the same bytes for the
same content. At most ``ROWS`` first tracks have a list of their own; every other track shares the list of the nearest of them.
"""

import io
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recsys.exceptions import CorruptDataError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Lists, and candidates a list: 6 bytes each, so at most 18 MB a version.
ROWS, CANDIDATES = 30_000, 100
#: An expected time of 1, and a discount of 1, in integers.
WHOLE_SCORE, WHOLE_DISCOUNT = 65_535, 65_536
#: Earlier plays of an artist beyond which the discount does not fall further.
DISCOUNTS = 64
_CHUNK = 1024


@dataclass(frozen=True)
class SessionLists:
    """Candidates by first track.

    Attributes:
        row_of: uint32 [tracks], the list of a session that begins with the track.
        tracks: uint32 [rows, candidates], by descending score, ties by ascending id.
        scores: uint16 [rows, candidates], expected time of a candidate whose artist has not been played, in 65,535ths.
        artist_of: uint32 [tracks]. discounts: uint32 [64], factor in 65,536ths after that many earlier plays of the artist.
    """

    row_of: npt.NDArray[np.uint32]
    tracks: npt.NDArray[np.uint32]
    scores: npt.NDArray[np.uint16]
    artist_of: npt.NDArray[np.uint32]
    discounts: npt.NDArray[np.uint32]

    @classmethod
    def empty(cls) -> "SessionLists":
        """No lists at all."""
        none = np.zeros(0, np.uint32)
        return cls(none, none.reshape(0, 0), np.zeros((0, 0), np.uint16), none, none)

    def to_bytes(self) -> bytes:
        """One NumPy archive."""
        buffer = io.BytesIO()
        np.savez(buffer, **{f.name: getattr(self, f.name) for f in fields(self)})  # type: ignore[arg-type]
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
        except (ValueError, KeyError, OSError, EOFError) as error:
            raise CorruptDataError(f"lists by first track cannot be read: {error}; train again") from None
        n = len(lists.row_of)
        fits = lists.tracks.ndim == 2 and lists.tracks.shape == lists.scores.shape and len(lists.artist_of) == n
        if not fits or (n and (lists.row_of.max() >= len(lists.tracks) or lists.tracks.max(initial=0) >= n)):
            raise CorruptDataError("lists by first track do not fit together; train again")
        return lists

    def matrix(self) -> "csr_matrix":
        """Expected times as a sparse matrix, first tracks x tracks."""
        from scipy.sparse import csr_matrix

        rows, width = self.tracks.shape
        times = (self.scores.astype(np.float32) / WHOLE_SCORE).ravel()
        lists = csr_matrix((times, self.tracks.ravel().astype(np.int64), np.arange(rows + 1) * width), (rows, len(self.row_of)))
        return lists[self.row_of.astype(np.int64)]


def build(
    vectors: npt.NDArray[np.float32], about: npt.NDArray[np.float32], sessions: npt.NDArray[np.float64],
    known: npt.NDArray[np.bool_], slope: float, bias: float, gamma: float, artist_of: npt.NDArray[np.int32],
) -> SessionLists:  # fmt: skip
    """Rank every known track for sessions that begin with each first track.

    Args:
        vectors: [tracks, dims], of answers. about: [tracks, dims], of what sessions that begin with a track are about.
        sessions: [tracks], how many sessions began with each. known: bool [tracks], tracks that the logs say anything about.
        slope, bias: of a typical user; gamma: the artist discount.
    """
    import torch

    from recsys.evaluate import top_k

    count = len(vectors)
    order = np.lexsort((np.arange(count), -sessions))
    chosen = np.sort(order[: min(ROWS, max(1, int((sessions > 0).sum())))])
    answers = np.flatnonzero(known)
    width = min(CANDIDATES, len(answers))
    tracks = np.empty((len(chosen), width), np.uint32)
    scores = np.empty((len(chosen), width), np.uint16)
    items = torch.from_numpy(np.ascontiguousarray(vectors[answers].T))
    for start in range(0, len(chosen), _CHUNK):
        inner = (torch.from_numpy(about[chosen[start : start + _CHUNK]]) @ items).numpy()
        best = top_k(inner, width)
        logit = slope * (np.take_along_axis(inner, best, axis=1).astype(np.float64) - bias)
        score = np.rint(WHOLE_SCORE / (1 + np.exp(-np.clip(logit, -40, 40)))).astype(np.uint16)
        ids = answers[best]
        by_score = np.lexsort((ids, -score.astype(np.int64)), axis=1)
        tracks[start : start + _CHUNK] = np.take_along_axis(ids, by_score, axis=1)
        scores[start : start + _CHUNK] = np.take_along_axis(score, by_score, axis=1)
    discounts = np.rint(WHOLE_DISCOUNT * gamma ** np.arange(DISCOUNTS)).astype(np.uint32)
    return SessionLists(_nearest(about, chosen), tracks, scores, artist_of.astype(np.uint32), discounts)


def _nearest(about: npt.NDArray[np.float32], chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """The row of each track: its own, or that of the nearest chosen track (Euclidean), ties by row."""
    rows = np.zeros(len(about), np.uint32)
    rows[chosen] = np.arange(len(chosen))
    others = np.setdiff1d(np.arange(len(about)), chosen)
    centres = about[chosen]
    half_norms = (centres * centres).sum(axis=1) / 2
    for start in range(0, len(others), _CHUNK):
        part = others[start : start + _CHUNK]
        rows[part] = (about[part] @ centres.T - half_norms).argmax(axis=1)
    return rows
