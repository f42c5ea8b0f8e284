"""ALS and BPR of the library ``implicit``; what is not given is its default."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from implicit.cpu.bpr import BayesianPersonalizedRanking
from scipy.sparse import csr_matrix, vstack

THREADS = int(os.environ["OMP_NUM_THREADS"])


def fit(
    model: str,
    train: csr_matrix,
    fold_in: csr_matrix,
    *,
    seed: int,
    work: Path,  # noqa: ARG001
    **config: object,
) -> Callable[[], np.ndarray]:
    """Train; out comes what scores the rows of ``fold_in``.

    ALS solves for new rows. BPR cannot, so the shown part of these rows is trained on, too.
    """
    rows = fold_in.shape[0]
    if model == "als":
        als = AlternatingLeastSquares(num_threads=THREADS, random_state=seed, **config)
        als.fit(train, show_progress=False)
        return lambda: als.recalculate_user(np.arange(rows), fold_in) @ als.item_factors.T
    bpr = BayesianPersonalizedRanking(num_threads=THREADS, random_state=seed, **config)
    bpr.fit(vstack([train, fold_in]).tocsr(), show_progress=False)
    return lambda: bpr.user_factors[-rows:] @ bpr.item_factors.T
