"""EASE: each track is regressed on all others with a ridge (Steck 2019, "Embarrassingly shallow autoencoders for sparse data").

With G the Gram matrix plus the ridge and P its inverse, the weights are -P[i, j] / P[j, j] with a zero diagonal. Where there are
too many tracks for an inverse, a track is regressed on those only that would each explain most of it by themselves, which is what
makes Markov random fields of the same kind sparse (Steck 2019, "Markov random fields for collaborative filtering").
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recsys.schemas import Figures

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Tracks whose features are found at a time, and likes of these from which on tracks are regressed apart: both bound the memory.
BLOCK, LIKES = 128, 2**22
#: How far a regression's residual must have fallen, and the steps after which it is left as it is.
TOLERANCE, STEPS = 1e-4, 200


class Ease:
    """See the module.

    Args:
        ridge: added to the diagonal of the Gram matrix.
        most: number of most popular tracks that take part; None: all that somebody liked.
        exact: tracks up to which each is regressed on all others; memory is 4 * exact**2 bytes, time grows with its cube.
        features: tracks that one is regressed on where there are more; memory is 8 * features bytes a track.
    """

    def __init__(self, ridge: float = 20.0, most: int | None = None, *, exact: int = 4000, features: int = 200) -> None:
        self._ridge, self._most, self._exact, self._features = ridge, most, exact, features
        self._items = np.zeros(0, dtype=np.int64)
        self._weights: npt.NDArray[np.float32] | csr_matrix = np.zeros((0, 0), dtype=np.float32)

    def fit(self, history: "csr_matrix", *, seed: int = 0, work: Path | None = None) -> Figures:  # noqa: ARG002
        """Regress every track."""
        counts = np.asarray(history.sum(axis=0)).ravel()
        order = np.lexsort((np.arange(len(counts)), -counts))[: self._most]
        self._items = np.sort(order[counts[order] > 0])
        chosen = history[:, self._items]
        found: Figures = {"tracks": len(self._items), "ridge": self._ridge}
        if len(self._items) <= self._exact:
            self._weights = _all_at_once(chosen, self._ridge)
            return found
        self._weights = _block_by_block(chosen, self._ridge, self._features)
        return {**found, "features": self._features, "weights": int(self._weights.nnz)}

    def score(self, history: "csr_matrix") -> npt.NDArray[np.float32]:
        """History times weights; tracks that do not take part get -inf."""
        found = history[:, self._items] @ self._weights
        scores = np.full(history.shape, -np.inf, dtype=np.float32)
        scores[:, self._items] = found if isinstance(found, np.ndarray) else found.toarray()
        return scores

    def save(self, directory: Path) -> None:
        """Write ease.npz."""
        if isinstance(self._weights, np.ndarray):
            np.savez(directory / "ease.npz", items=self._items, weights=self._weights)
        else:
            parts = {name: getattr(self._weights, name) for name in ("data", "indices", "indptr")}
            np.savez(directory / "ease.npz", items=self._items, **parts)

    def load(self, directory: Path) -> None:
        """Read ease.npz."""
        from scipy.sparse import csr_matrix

        with np.load(directory / "ease.npz", allow_pickle=False) as saved:
            self._items = saved["items"]
            if "weights" in saved:
                self._weights = saved["weights"]
            else:
                shape = (len(self._items), len(self._items))
                self._weights = csr_matrix((saved["data"], saved["indices"], saved["indptr"]), shape=shape)


def _all_at_once(chosen: "csr_matrix", ridge: float) -> npt.NDArray[np.float32]:
    gram = (chosen.T @ chosen).toarray().astype(np.float32)
    gram[np.diag_indices_from(gram)] += ridge
    inverse = np.linalg.inv(gram)
    weights: npt.NDArray[np.float32] = -inverse / np.diag(inverse)
    weights[np.diag_indices_from(weights)] = 0.0
    return weights


def _block_by_block(chosen: "csr_matrix", ridge: float, features: int) -> "csr_matrix":
    """Weights of regressions on few tracks each, float32 [tracks, tracks], of which column j explains track j."""
    from scipy.sparse import csr_matrix, vstack

    by_track, chosen = chosen.T.tocsr().astype(np.float64), chosen.astype(np.float64)
    tracks, likes, blocks = by_track.shape[0], np.diff(by_track.indptr), []
    for start in range(0, tracks, BLOCK):
        rows = min(BLOCK, tracks - start)
        target, feature, together = _closest(by_track, chosen, start, rows, ridge, features)
        part = np.cumsum(np.bincount(target, likes[feature], minlength=rows))[target] // LIKES
        found = [
            _regressions(by_track[feature[pairs]], target[pairs], together[pairs], rows, ridge)
            for pairs in np.split(np.arange(len(target)), np.flatnonzero(np.diff(part)) + 1)
        ]
        weights = np.concatenate(found).astype(np.float32)
        blocks.append(csr_matrix((weights, (target, feature)), shape=(rows, tracks)))
    weights = vstack(blocks).T.tocsr()
    weights.sort_indices()
    return weights


def _closest(
    by_track: "csr_matrix", chosen: "csr_matrix", start: int, rows: int, ridge: float, features: int
) -> tuple[Ints, Ints, Floats]:
    """Each track of a block with the tracks that it is regressed on: place in the block, feature, users who liked both.

    By itself a feature that n users liked, c of them the target too, reduces the squared error by c**2 / (n + ridge).
    """
    both = by_track[start : start + rows] @ chosen
    target, feature = np.repeat(np.arange(rows), np.diff(both.indptr)), both.indices.astype(np.int64)
    gain = both.data**2 / (np.diff(by_track.indptr)[feature] + ridge)
    order = np.lexsort((feature, -gain, target))
    order = order[feature[order] != target[order] + start]
    target, feature = target[order], feature[order]
    best = np.arange(len(target)) - np.searchsorted(target, target) < features
    return target[best], feature[best], both.data[order][best]


def _regressions(design: "csr_matrix", target: Ints, wanted: Floats, count: int, ridge: float) -> Floats:
    """Ridge regressions side by side, by conjugate gradients with the diagonal as preconditioner; no thread decides an order.

    Args:
        design: [pairs, users], who liked each feature; pairs of a target are its features. target: int [pairs].
        wanted: [pairs], users who liked the feature and the target. count: number of targets.

    Returns:
        float64 [pairs], the weights.
    """
    from scipy.sparse import csr_matrix

    sizes = np.diff(design.indptr)
    # A user of one target is another one than the same user of the next: the product then keeps targets apart.
    seen, user = np.unique(np.repeat(target, sizes) * design.shape[1] + design.indices, return_inverse=True)
    design = csr_matrix((design.data, user, design.indptr), shape=(len(target), len(seen)))
    transposed, scale = design.T.tocsr(), 1.0 / (sizes + ridge)

    def product(left: Floats, right: Floats) -> Floats:
        return np.bincount(target, left * right, minlength=count).astype(np.float64, copy=False)

    weights, residual = np.zeros(len(target)), wanted.copy()
    direction = residual * scale
    error = product(residual, direction)
    enough = TOLERANCE**2 * error
    for _ in range(STEPS):
        step = design @ (transposed @ direction) + ridge * direction
        length = _ratio(error, product(direction, step))[target]
        weights += length * direction
        residual -= length * step
        following = residual * scale
        before, error = error, product(residual, following)
        if (error <= enough).all():
            break
        direction = following + _ratio(error, before)[target] * direction
    return weights


def _ratio(upper: Floats, lower: Floats) -> Floats:
    """The quotient, 0 where nothing is left to be divided."""
    return np.divide(upper, lower, out=np.zeros_like(upper), where=lower > 0)
