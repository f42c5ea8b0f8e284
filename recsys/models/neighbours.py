"""Which tracks to play after a track: 20 neighbours each, learned from what the same users liked.

Two tracks are close if the same users liked them. Few users have liked any one track, so direct counts are mostly noise; the
matrix of users and tracks is therefore reduced to its largest singular vectors first (as in PureSVD, Cremonesi et al. 2010), with
rows of unit length. The relevance of s after t is the inner product of their vectors.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recsys.exceptions import InvalidInputError
from recsys.learn.offline_metrics import top_k
from recsys.schemas import NEIGHBOURS, Figures

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

ROWS = 1024


class Neighbours:
    """Item-to-item neighbours.

    Args:
        factors: dimensions of the track vectors.

    Attributes:
        tracks: int64 [liked], ids of tracks that somebody liked. vectors: float32 [liked, factors].
    """

    def __init__(self, factors: int = 32) -> None:
        self.factors = factors
        self.size = 0
        self.tracks: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self.vectors: npt.NDArray[np.float32] = np.zeros((0, 0), np.float32)

    def fit(self, history: "csr_matrix", *, seed: int) -> Figures:
        """Learn the vectors from a binary users x tracks matrix."""
        from scipy.sparse import diags

        self.size = history.shape[1]
        counts = np.asarray(history.sum(axis=0)).ravel()
        self.tracks = np.flatnonzero(counts)
        users = history[np.diff(history.indptr) > 0][:, self.tracks]
        rows = diags(np.diff(users.indptr) ** -0.5) @ users
        self.vectors = _singular_vectors(rows.tocsr().astype(np.float32), self.factors, seed)
        return {"tracks": len(self.tracks), "factors": self.vectors.shape[1]}

    def table(self, popular: npt.NDArray[np.int64], available: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint32]:
        """Neighbours of every track, retired ones too: available tracks, nearest first, ties by id, without the track itself.

        Args:
            popular: available tracks, more than 20 if there are so many; they fill the rows of tracks that nobody liked.
            available: bool [tracks], false for retired ones.

        Returns:
            uint32 [tracks, 20]. A row that has fewer ends with the track itself, which is never answered to its own play.

        Raises:
            InvalidInputError: the catalogue has too few tracks for lists of 20 others.
        """
        if self.size <= NEIGHBOURS:
            raise InvalidInputError(f"a catalogue of {self.size} tracks has no {NEIGHBOURS} neighbours each; use a larger world")
        rows = np.repeat(np.arange(self.size, dtype=np.uint32)[:, None], NEIGHBOURS, axis=1)
        filler = popular[:NEIGHBOURS].astype(np.uint32)
        rows[:, : len(filler)] = filler
        for track in filler:
            others = popular[: NEIGHBOURS + 1][popular[: NEIGHBOURS + 1] != track]
            rows[track] = track
            rows[track, : len(others)] = others
        liked = np.flatnonzero(available[self.tracks])
        if len(liked) <= NEIGHBOURS:
            return rows
        answers, vectors, place = self.tracks[liked], self.vectors[liked], np.full(len(self.tracks), -1)
        place[liked] = np.arange(len(liked))
        for start in range(0, len(self.tracks), ROWS):
            block = self.tracks[start : start + ROWS]
            relevance = self.vectors[start : start + ROWS] @ vectors.T
            itself = place[start : start + ROWS]
            relevance[np.flatnonzero(itself >= 0), itself[itself >= 0]] = -np.inf
            rows[block] = answers[top_k(relevance, NEIGHBOURS)]
        return rows


def _singular_vectors(matrix: "csr_matrix", factors: int, seed: int) -> npt.NDArray[np.float32]:
    """Right singular vectors times singular values, float32 [columns, factors], of the largest ones."""
    from scipy.sparse.linalg import svds

    smaller = min(matrix.shape)
    if factors < smaller:
        start = np.random.default_rng(seed).standard_normal(smaller).astype(np.float32)
        _, values, right = svds(matrix, k=factors, v0=start)
    else:
        _, values, right = np.linalg.svd(matrix.toarray(), full_matrices=False)
    return np.ascontiguousarray((right.T * values).astype(np.float32))
