"""EASE: item-to-item regression in closed form (Steck 2019), over the most popular tracks.

With G the Gram matrix plus a ridge and P its inverse, the weights are -P[i, j] / P[j, j] with a zero diagonal.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recsys.schemas import Figures

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class Ease:
    """See the module.

    Args:
        ridge: added to the diagonal of the Gram matrix.
        most: number of most popular tracks that take part; memory is 4 * most**2 bytes, time grows with its cube.
    """

    def __init__(self, ridge: float = 20.0, most: int = 4000) -> None:
        self._ridge, self._most = ridge, most
        self._items = np.zeros(0, dtype=np.int64)
        self._weights = np.zeros((0, 0), dtype=np.float32)

    def fit(self, history: "csr_matrix", *, seed: int = 0, work: Path | None = None) -> Figures:  # noqa: ARG002
        """Invert the Gram matrix."""
        counts = np.asarray(history.sum(axis=0)).ravel()
        order = np.lexsort((np.arange(len(counts)), -counts))[: self._most]
        self._items = np.sort(order[counts[order] > 0])
        chosen = history[:, self._items]
        gram = (chosen.T @ chosen).toarray().astype(np.float32)
        gram[np.diag_indices_from(gram)] += self._ridge
        inverse = np.linalg.inv(gram)
        self._weights = -inverse / np.diag(inverse)
        self._weights[np.diag_indices_from(self._weights)] = 0.0
        return {"tracks": len(self._items), "ridge": self._ridge}

    def score(self, history: "csr_matrix") -> npt.NDArray[np.float32]:
        """History times weights; tracks that do not take part get -inf."""
        scores = np.full(history.shape, -np.inf, dtype=np.float32)
        scores[:, self._items] = history[:, self._items] @ self._weights
        return scores

    def save(self, directory: Path) -> None:
        """Write ease.npz."""
        np.savez(directory / "ease.npz", items=self._items, weights=self._weights)

    def load(self, directory: Path) -> None:
        """Read ease.npz."""
        with np.load(directory / "ease.npz", allow_pickle=False) as saved:
            self._items, self._weights = saved["items"], saved["weights"]
