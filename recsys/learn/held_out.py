"""Strong generalisation (Liang et al. 2018, section 4.2): users whom training does not see, and what of theirs is to be found.

In goes a binary users x tracks matrix; out come a :class:`Split`, ranked lists of its users, and a figure a user for such lists.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recsys.learn.offline_metrics import Floats, Lists, hits, ndcg_at_k, recall_at_k, top_k

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Share of the users that are held out, most of them, and positives that one of them has at least.
SHARE, MOST, FEWEST = 0.1, 1000, 5
#: Places of a ranked list.
LENGTH = 100


@dataclass(frozen=True)
class Split:
    """Users whose rows in ``train`` are empty, and what they show and hide.

    Attributes:
        train: float32 [users, tracks]. rows: int64 [held-out users], their rows there.
        fold_in: float32 [held-out users, tracks], what they show. held_out: what each of them hides.
    """

    train: "csr_matrix"
    rows: npt.NDArray[np.int64]
    fold_in: "csr_matrix"
    held_out: Sequence[npt.NDArray[np.integer]]

    def some(self, start: int, stop: int) -> "Split":
        """The same of some of its held-out users."""
        part = slice(start, stop)
        return Split(self.train, self.rows[part], self.fold_in[part], self.held_out[part])

    def rank(self, scores: npt.NDArray[np.float32]) -> Lists:
        """The best 100 tracks of each held-out user, int64 [users, 100], without those shown, whose scores are overwritten."""
        shown = np.repeat(np.arange(self.fold_in.shape[0]), np.diff(self.fold_in.indptr))
        scores[shown, self.fold_in.indices] = -np.inf
        return top_k(scores, LENGTH)

    def figures(self, ranked: Lists) -> dict[str, Floats]:
        """NDCG@100, Recall@20 and Recall@50 of each held-out user, float64 [held-out users]."""
        sizes = np.array([len(tracks) for tracks in self.held_out])
        found = hits(ranked, self.held_out, self.train.shape[1])
        recalls = {f"recall_{k}": recall_at_k(found, sizes, k) for k in (20, 50)}
        return {**recalls, "ndcg_100": ndcg_at_k(found, sizes, LENGTH)}


def split(history: "csr_matrix", seed: int) -> Split:
    """Hold out a fifth of the positives of a tenth of the users, of at most 1000."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(np.flatnonzero(np.diff(history.indptr) >= FEWEST))
    return hold_out(history, chosen[: min(MOST, round(SHARE * history.shape[0]))], rng)


def hold_out(history: "csr_matrix", chosen: npt.NDArray[np.int64], rng: np.random.Generator) -> Split:
    """Hold out a fifth of the positives of the chosen rows, on which nothing is trained."""
    row, kept, hidden = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], []
    for number, user in enumerate(chosen):
        tracks = rng.permutation(history.indices[history.indptr[user] : history.indptr[user + 1]])
        count = max(1, len(tracks) // 5)
        hidden.append(tracks[:count])
        kept.append(tracks[count:])
        row.append(np.full(len(tracks) - count, number))
    shown = np.ones(history.shape[0], np.float32)
    shown[chosen] = 0
    train = history.multiply(shown[:, None]).tocsr()
    train.eliminate_zeros()
    train.sort_indices()
    return Split(train, chosen, binary(np.concatenate(row), np.concatenate(kept), (len(chosen), history.shape[1])), hidden)


def binary(row: npt.NDArray[np.integer], track: npt.NDArray[np.integer], shape: tuple[int, int]) -> "csr_matrix":
    """A matrix with 1 at each pair, float32, indices sorted."""
    from scipy.sparse import csr_matrix

    matrix = csr_matrix((np.ones(len(row), np.float32), (row, track)), shape=shape)
    matrix.sum_duplicates()
    matrix.sort_indices()
    matrix.data[:] = 1.0
    return matrix
