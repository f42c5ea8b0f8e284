"""MultiDAE and EASE of the library ``recbole``; what is not given is its default.

Its own evaluation knows users that were trained on alone, so a trained model is asked for the scores of rows that it never saw.
A tenth of each trained user's positives validates MultiDAE, by NDCG@100: its early stopping decides.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

# Checkpoints of the library hold its configuration, which is no weight; it reads those that it has written itself.
os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")

import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed


def fit(
    model: str, train: csr_matrix, fold_in: csr_matrix, *, seed: int, work: Path, **config: object
) -> Callable[[], np.ndarray]:
    """Train by the library's own trainer; out comes what scores the rows of ``fold_in``."""
    (work / "split").mkdir()
    pairs = "\n".join(f"{user}\t{track}" for user, track in zip(*train.nonzero(), strict=True))
    (work / "split" / "split.inter").write_text(f"user_id:token\titem_id:token\n{pairs}\n")
    named = {
        "data_path": str(work),
        "checkpoint_dir": str(work),
        "load_col": {"inter": ["user_id", "item_id"]},
        "seed": seed,
        "use_gpu": False,
        "show_progress": False,
        "train_neg_sample_args": None,
        "eval_args": {"split": {"RS": [0.9, 0.1, 0.0]}, "group_by": "user", "order": "RO", "mode": "full"},
        "metrics": ["NDCG"],
        "topk": [100],
        "valid_metric": "NDCG@100",
    }
    settings = Config(model=model, dataset="split", config_dict={**named, **config})
    init_seed(settings["seed"], settings["reproducibility"])
    dataset = create_dataset(settings)
    tracks = dataset.field2id_token["item_id"][1:].astype(np.int64)
    if model == "EASE":
        weights = np.asarray(get_model(model)(settings, dataset).item_similarity)
        return lambda: _scores(fold_in, tracks, lambda rows: rows @ weights)
    shown, validation, _ = data_preparation(settings, dataset)
    net = get_model(model)(settings, shown.dataset)
    trainer = get_trainer(settings["MODEL_TYPE"], model)(settings, net)
    trainer.fit(shown, validation, show_progress=False, verbose=False)
    net.load_state_dict(torch.load(trainer.saved_model_file, weights_only=False)["state_dict"])
    net.eval()

    def score(rows: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return net.forward(torch.from_numpy(rows)).numpy()

    return lambda: _scores(fold_in, tracks, score)


def _scores(fold_in: csr_matrix, tracks: np.ndarray, score: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Scores of all tracks; the library numbers those that it knows from 1 on, and gives 0 to none."""
    rows = np.zeros((fold_in.shape[0], len(tracks) + 1), np.float32)
    rows[:, 1:] = fold_in[:, tracks].toarray()
    scores = np.full(fold_in.shape, -np.inf, np.float32)
    scores[:, tracks] = np.asarray(score(rows))[:, 1:]
    return scores
