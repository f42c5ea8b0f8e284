"""What models are measured on: a matrix of random positives, or what listeners liked in simulated exploratory sessions."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from benchmarks.content import SEED
from recsys.learn.offline_metrics import hits, ndcg_at_k, recall_at_k, top_k
from recsys.models.base import create
from recsys.schemas import POSITIVE_TIME
from recsys.simulate.listeners import Listeners, load_listeners
from recsys.simulate.play import Plays
from recsys.simulate.recommenders import DummyRecommender
from recsys.simulate.run import run_in_process

HELD_OUT_SHARE = 0.1
FEWEST = 5


@dataclass(frozen=True)
class Split:
    """Strong generalisation: the users of ``fold_in`` and ``held_out`` have empty rows in ``train``."""

    train: csr_matrix
    fold_in: csr_matrix
    held_out: Sequence[np.ndarray]


def random_history(users: int, tracks: int, positives: int) -> csr_matrix:
    """About ``positives`` tracks a user, a few tracks much more often than most; every track at least once if possible."""
    rng = np.random.default_rng(SEED)
    weight = rng.lognormal(0.0, 1.0, tracks)
    track = rng.choice(tracks, users * positives, p=weight / weight.sum())
    track[: min(tracks, len(track))] = rng.permutation(tracks)[: len(track)]
    return binary(rng.permutation(np.repeat(np.arange(users), positives)), track, (users, tracks))


def explored_history(world: Path, sessions: int) -> csr_matrix:
    """What listeners liked in sessions that were answered at random; row r is the r-th line of users.json."""
    listeners = load_listeners(world)
    recorder = _Recorder(DummyRecommender(listeners.catalogue.size, SEED))
    run_in_process(listeners, recorder, episodes=sessions, seed=SEED, progress=False)
    return matrix(listeners, *(np.concatenate(column) for column in zip(*recorder.liked, strict=True)))


def matrix(listeners: Listeners, user: np.ndarray, track: np.ndarray) -> csr_matrix:
    """Binary users x tracks matrix of pairs of ids; row r is the r-th line of users.json."""
    order = np.argsort(listeners.users)
    row = order[np.searchsorted(listeners.users, user, sorter=order)]
    return binary(row, track, (len(listeners.users), listeners.catalogue.size))


def held_out_table(history: csr_matrix, work: Path) -> dict[str, dict[str, float]]:
    """Recall@50 and NDCG@100 of every model on one split, the original's recipe after each of its epochs; prints as it goes."""
    from benchmarks.reference import autoencoder
    from recsys.models.neighbours import Neighbours

    data = split(history)
    rows: dict[str, dict[str, float]] = {}

    def judge(name: str, scores: np.ndarray) -> None:
        rows[name] = {key: round(value, 4) for key, value in figures(scores, data).items()}
        print(f"{name:<40}{rows[name]['recall_50']:>10.4f}{rows[name]['ndcg_100']:>10.4f}", flush=True)

    print(f"{'model':<40}{'Recall@50':>10}{'NDCG@100':>10}")
    few = {"ease, 4,000 most popular tracks": create("ease", most=4000)}
    for name, model in {**{name: create(name) for name in ("popularity", "ease", "dae")}, **few}.items():
        started = time.perf_counter()
        model.fit(data.train, seed=SEED, work=work / name)
        print(f"{name}: trained in {time.perf_counter() - started:.1f} s", flush=True)
        judge(name, model.score(data.fold_in))
    near = Neighbours()
    near.fit(data.train, seed=SEED)
    scores = np.full(data.fold_in.shape, -np.inf, np.float32)
    scores[:, near.tracks] = (data.fold_in[:, near.tracks] @ near.vectors) @ near.vectors.T
    judge("neighbours", scores)
    training = autoencoder.Training(data.train, SEED)
    for epoch in range(autoencoder.EPOCHS):
        training.epoch()
        judge(f"original recipe, {epoch + 1} epochs", autoencoder.score(training.model, data.fold_in))
    return rows


def figures(scores: np.ndarray, data: Split) -> dict[str, float]:
    """NDCG@100 and recalls of the split's users, what they have shown left out; overwrites their scores of that."""
    shown = np.repeat(np.arange(data.fold_in.shape[0]), np.diff(data.fold_in.indptr))
    scores[shown, data.fold_in.indices] = -np.inf
    sizes = np.array([len(tracks) for tracks in data.held_out])
    found = hits(top_k(scores, 100), data.held_out, scores.shape[1])
    recalls = {f"recall_{k}": float(recall_at_k(found, sizes, k).mean()) for k in (20, 50)}
    return {**recalls, "ndcg_100": float(ndcg_at_k(found, sizes, 100).mean())}


class _Recorder:
    """Passes on what another recommender answers, and keeps what was liked."""

    def __init__(self, behind: DummyRecommender) -> None:
        self._behind = behind
        self.liked: list[tuple[np.ndarray, np.ndarray]] = []

    def next(self, plays: Plays) -> np.ndarray:
        self._keep(plays)
        return self._behind.next(plays)

    def last(self, plays: Plays) -> None:
        self._keep(plays)

    def _keep(self, plays: Plays) -> None:
        liked = plays.time > 100 * POSITIVE_TIME
        self.liked.append((plays.user[liked], plays.track[liked]))


def split(history: csr_matrix, seed: int = SEED) -> Split:
    """Hold out a fifth of the positives of a tenth of the users."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(np.flatnonzero(np.diff(history.indptr) >= FEWEST))
    return split_rows(history, chosen[: min(1000, round(HELD_OUT_SHARE * history.shape[0]))], rng)


def split_rows(history: csr_matrix, chosen: np.ndarray, rng: np.random.Generator, unseen: Sequence[int] = ()) -> Split:
    """Hold out a fifth of the positives of the chosen rows; nothing is trained on them, nor on the unseen ones."""
    row, kept, held_out = [], [], []
    for number, user in enumerate(chosen):
        tracks = rng.permutation(history.indices[history.indptr[user] : history.indptr[user + 1]])
        hidden = max(1, len(tracks) // 5)
        held_out.append(tracks[:hidden])
        kept.append(tracks[hidden:])
        row.append(np.full(len(tracks) - hidden, number))
    shown = np.ones(history.shape[0], np.float32)
    shown[chosen] = 0
    shown[list(unseen)] = 0
    train = history.multiply(shown[:, None]).tocsr()
    train.eliminate_zeros()
    train.sort_indices()
    return Split(train, binary(np.concatenate(row), np.concatenate(kept), (len(chosen), history.shape[1])), held_out)


def binary(row: np.ndarray, track: np.ndarray, shape: tuple[int, int]) -> csr_matrix:
    """A matrix with 1 at each pair, float32, indices sorted."""
    matrix = csr_matrix((np.ones(len(row), np.float32), (row, track)), shape=shape)
    matrix.sum_duplicates()
    matrix.sort_indices()
    matrix.data[:] = 1.0
    return matrix
