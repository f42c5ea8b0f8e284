"""The interface of a model that a night can train."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class Recommender(Protocol):
    """Learns from a binary users x tracks matrix, and scores tracks for such rows."""

    def fit(self, history: "csr_matrix", *, seed: int, work: Path) -> dict[str, Any]:
        """Learn.

        Args:
            history: float32 [users, tracks].
            seed: the same seed and history give the same model on the same machine.
            work: directory for checkpoints, kept by the caller until the model has been saved.

        Returns:
            Figures for the model's card.
        """

    def score(self, history: "csr_matrix") -> npt.NDArray[np.float32]:
        """Relevance of every track for each row, float32 [rows, tracks]; higher is better, all finite or -inf."""

    def save(self, directory: Path) -> None:
        """Write everything that :meth:`load` needs."""

    def load(self, directory: Path) -> None:
        """Become the model that was saved."""
