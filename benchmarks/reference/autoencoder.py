"""The original's recommender: a dense denoising autoencoder over whole rows, layers of 50 and 300, 64 users a batch.

In goes a binary users x tracks matrix; out come scores for rows and the lists of 50.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_matrix
from torch import nn

LAYERS = (50, 300)
BATCH = 64
EPOCHS = 30
DROPOUT = 0.5
LEARNING_RATE = 1e-3


class Autoencoder(nn.Module):
    """Rows in, logits of rows out."""

    def __init__(self, tracks: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(DROPOUT)
        first, second = LAYERS
        self.layers = nn.Sequential(
            nn.Linear(tracks, first), nn.Tanh(), nn.Linear(first, second), nn.Tanh(), nn.Linear(second, tracks)
        )

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Logits for every track."""
        return self.layers(self.dropout(nn.functional.normalize(rows)))


class Training:
    """A model and its optimizer; one call of :meth:`epoch` shows every user once."""

    def __init__(self, history: csr_matrix, seed: int) -> None:
        torch.manual_seed(seed)
        self._history = history
        self.model = Autoencoder(history.shape[1])
        self._optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE)
        self._rng = np.random.default_rng(seed)

    def epoch(self) -> None:
        """One pass over the users in random order."""
        self.model.train()
        for rows in dense_batches(self._history, self._rng.permutation(self._history.shape[0])):
            self._optimizer.zero_grad()
            logits = self.model(rows)
            loss = -(nn.functional.log_softmax(logits, dim=1) * rows).sum(dim=1).mean()
            loss.backward()
            self._optimizer.step()


def dense_batches(history: csr_matrix, order: np.ndarray) -> Iterator[torch.Tensor]:
    """Whole rows, 64 at a time."""
    for start in range(0, len(order), BATCH):
        yield torch.from_numpy(history[order[start : start + BATCH]].toarray())


def score(model: Autoencoder, history: csr_matrix) -> np.ndarray:
    """Logits of every row, float32 [rows, tracks]."""
    model.eval()
    with torch.no_grad():
        return np.concatenate([model(rows).numpy() for rows in dense_batches(history, np.arange(history.shape[0]))])


def save(model: Autoencoder, weights: Path, history: csr_matrix, users: np.ndarray, positives: Path) -> None:
    """What lies on disk before everybody's list is made: the weights, and a line ``user,track`` a positive."""
    torch.save(model.state_dict(), weights)
    rows, tracks = history.nonzero()
    pd.DataFrame({"user": users[rows], "track": tracks}).to_csv(positives, index=False)


def recommend(weights: Path, positives: Path, users: np.ndarray, tracks: int, path: Path, length: int = 50) -> None:
    """Write each user's best tracks by descending score, a line a user; ``users`` ascending."""
    model = Autoencoder(tracks)
    model.load_state_dict(torch.load(weights))
    frame = pd.read_csv(positives)
    rows = np.searchsorted(users, frame["user"])
    history = csr_matrix((np.ones(len(frame), np.float32), (rows, frame["track"])), shape=(len(users), tracks))
    model.eval()
    lists: list[list[int]] = []
    with torch.no_grad():
        for rows in dense_batches(history, np.arange(history.shape[0])):
            scores = -model(rows).numpy()
            best = np.argpartition(scores, length, axis=1)[:, :length]
            order = np.argsort(np.take_along_axis(scores, best, axis=1), axis=1)
            lists.extend(np.take_along_axis(best, order, axis=1).tolist())
    with path.open("w") as file:
        for user, tracks in zip(users.tolist(), lists, strict=True):
            file.write(json.dumps({"user": user, "tracks": tracks}) + "\n")
