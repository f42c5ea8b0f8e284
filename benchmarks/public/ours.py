"""Our models, as a night makes them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from recsys.models.base import create


def fit(
    model: str, train: csr_matrix, fold_in: csr_matrix, *, seed: int, work: Path, **config: object
) -> Callable[[], np.ndarray]:
    """Train by the model's own interface; out comes what scores the rows of ``fold_in``."""
    made = create(model, **config)
    made.fit(train, seed=seed, work=work)
    return lambda: made.score(fold_in)
