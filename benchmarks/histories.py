"""What models are measured on: a matrix of random positives, or what listeners liked in simulated exploratory sessions."""

import time
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from benchmarks.content import SEED
from recsys.learn.held_out import Split, binary, split
from recsys.models.base import create
from recsys.schemas import POSITIVE_TIME
from recsys.simulate.listeners import Listeners, load_listeners
from recsys.simulate.play import Plays
from recsys.simulate.recommenders import DummyRecommender
from recsys.simulate.run import run_in_process


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

    data = split(history, SEED)
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
    return {name: float(values.mean()) for name, values in data.figures(data.rank(scores)).items()}


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
