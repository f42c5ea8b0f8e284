"""Popularity: a track's score is the number of users who liked it, the same for everybody."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recsys.schemas import Figures

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class Popularity:
    """See the module."""

    def __init__(self) -> None:
        self._counts = np.zeros(0, dtype=np.float32)

    def fit(self, history: "csr_matrix", *, seed: int = 0, work: Path | None = None) -> Figures:  # noqa: ARG002
        """Count."""
        self._counts = np.asarray(history.sum(axis=0), dtype=np.float32).ravel()
        return {}

    def score(self, history: "csr_matrix") -> npt.NDArray[np.float32]:
        """The counts, once a row."""
        return np.tile(self._counts, (history.shape[0], 1))

    def save(self, directory: Path) -> None:
        """Write popularity.npy."""
        np.save(directory / "popularity.npy", self._counts)

    def load(self, directory: Path) -> None:
        """Read popularity.npy."""
        self._counts = np.load(directory / "popularity.npy", allow_pickle=False)
