"""The autoencoder against the original's: seconds an epoch, seconds to the same quality, seconds for everybody's list.

Both sides use one thread, as the original was measured; ``OMP_NUM_THREADS`` changes it.
"""

import contextlib
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.content import DAY, SEED
from benchmarks.histories import Split, explored_history, figures, random_history, split
from benchmarks.measure import Bench, Result, less_is_better
from benchmarks.reference import autoencoder
from recsys import catalog
from recsys.models.dae import Dae
from recsys.night import catalogue
from recsys.night.night import Night
from recsys.night.recommend import recommend
from recsys.schemas import NEIGHBOURS
from recsys.settings import load_settings
from recsys.simulate.world import generate
from recsys.storage.store import Storage

POSITIVES = 89
SESSIONS = 1_000_000


class TimedDae(Dae):
    """Our autoencoder with a clock in it: ``seconds`` of each epoch, without validation and checkpoints; ``ahead`` of all."""

    def __init__(self, *arguments: Any, judge: Any = None, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.seconds: list[float] = []
        self.ahead = 0.0
        self._judge = judge

    def fit(self, *arguments: Any, **named: Any) -> dict[str, Any]:
        self.ahead = -time.perf_counter()
        return super().fit(*arguments, **named)

    def _epoch(self, *arguments: Any) -> float:
        began = time.perf_counter()
        if not self.seconds:
            self.ahead += began
        loss = super()._epoch(*arguments)
        self.seconds.append(time.perf_counter() - began)
        return loss

    def _validate(self, *arguments: Any) -> float:
        found = super()._validate(*arguments)
        if self._judge is not None and self._judge(self):
            raise _ReachedError
        return found


class _ReachedError(Exception):
    """The wanted quality has been reached."""


def measure_epoch(bench: Bench) -> Result:
    """Seconds an epoch of 10,000 users, 50,000 tracks, 89 positives a user; as many weights on both sides.

    Each side takes as many users a step as its recipe says; ours with the reference's batch stands in the detail.
    """
    users, tracks = (640, 50_000) if bench.quick else (10_000, 50_000)
    history = random_history(users, tracks, POSITIVES)
    # Ours mirrors its encoder, so it cannot be 50-300; one hidden layer between the two has as many weights.
    layers, batch = (sum(autoencoder.LAYERS) // 2,), autoencoder.BATCH
    ours = _epoch_seconds(bench, history, layers=layers)
    same_batch = _epoch_seconds(bench, history, layers=layers, batch=batch)
    own_shape = _epoch_seconds(bench, history)
    training = autoencoder.Training(history, SEED)
    # The first epoch also allocates the optimizer's state: the faster of two counts on both sides.
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        training.epoch()
        seconds.append(time.perf_counter() - began)
    reference = min(seconds) * 10_000 / users
    detail = {
        "users": users,
        "scaled_to_users": 10_000,
        "tracks": tracks,
        "positives": int(history.nnz),
        "reference_batch": batch,
        "ours_layers": layers,
        "reference_layers": autoencoder.LAYERS,
        "ours_reference_batch_s": round(same_batch, 3),
        "ours_own_shape_s": round(own_shape, 3),
    }
    return less_is_better("epoch", "seconds", ours, reference, detail)


def _epoch_seconds(bench: Bench, history: Any, **named: Any) -> float:
    """Seconds of our faster epoch of two, for 10,000 users."""
    model = TimedDae(epochs=2, patience=2, **named)
    model.fit(history, seed=SEED, work=bench.scratch / f"epoch-{len(named)}")
    # Our fit keeps some users aside for early stopping.
    shown = history.shape[0] - min(1000, history.shape[0] // 10)
    return min(model.seconds) / shown * 10_000


def measure_train(bench: Bench) -> Result:
    """Seconds of training until the held-out NDCG@100 that the reference reaches at its best of 30 epochs."""
    world, sessions = bench.world, SESSIONS
    if bench.quick:
        world, sessions = bench.cache / "small-world", 60_000
        generate(world, tracks=4000, artists=880, users=1500)
    data = split(explored_history(world, sessions))
    reference, best, curve = _train_reference(data)
    wanted = best["ndcg_100"]
    reached: list[float] = []

    def judge(model: TimedDae) -> bool:
        reached.append(figures(model.score(data.fold_in), data)["ndcg_100"])
        return reached[-1] >= wanted

    model = TimedDae(epochs=200, patience=200, judge=judge)
    with contextlib.suppress(_ReachedError):
        model.fit(data.train, seed=SEED, work=bench.scratch / "train")
    detail = {
        "ndcg_100_wanted": round(wanted, 4),
        "reached": bool(reached and reached[-1] >= wanted),
        "reference_recall_50": round(best["recall_50"], 4),
        "ours_ndcg_100": [round(value, 4) for value in reached],
        "reference_ndcg_100": [round(value, 4) for value in curve],
        "positives": int(data.train.nnz),
        "users": int(data.train.shape[0]),
        "tracks": int(data.train.shape[1]),
    }
    return less_is_better("train", "seconds", model.ahead + sum(model.seconds), reference, detail)


def _train_reference(data: Split) -> tuple[float, dict[str, float], list[float]]:
    """Seconds of training until the best epoch, what it reached, and the curve of NDCG@100."""
    training = autoencoder.Training(data.train, SEED)
    seconds, reached, spent = [], [], 0.0
    for _ in range(autoencoder.EPOCHS):
        began = time.perf_counter()
        training.epoch()
        spent += time.perf_counter() - began
        seconds.append(spent)
        reached.append(figures(autoencoder.score(training.model, data.fold_in), data))
    curve = [found["ndcg_100"] for found in reached]
    best = int(np.argmax(curve))
    return seconds[best], reached[best], curve


def measure_recommend(bench: Bench) -> Result:
    """Seconds for the top 50 of all users, from what the night left on disk to the lists on disk.

    Ours is the whole step of a night, with checksums, checks and manifest.
    """
    users, tracks = catalog.load_users(bench.world), catalog.load_tracks(bench.world).size
    history = random_history(len(users), tracks, POSITIVES)
    store = Storage(f"file://{bench.scratch / 'storage'}")
    publish_inputs(store, history, users, bench.scratch / "work")
    night = Night(DAY, load_settings(storage=store.url, world=bench.world))
    catalogue.dated(night)  # as the first step of a night does
    began = time.perf_counter()
    recommend(night)
    ours = time.perf_counter() - began
    rows = history[: len(users) // 4] if bench.quick else history
    positives, weights = bench.scratch / "positives.csv", bench.scratch / "autoencoder.pt"
    autoencoder.save(autoencoder.Autoencoder(tracks), weights, rows, users, positives)
    began = time.perf_counter()
    autoencoder.recommend(weights, positives, users[: rows.shape[0]], tracks, bench.scratch / "recommendations.json")
    reference = (time.perf_counter() - began) * len(users) / rows.shape[0]
    detail = {"users": len(users), "tracks": tracks, "reference_users": rows.shape[0]}
    return less_is_better("recommend", "seconds", ours, reference, detail)


def publish_inputs(store: Storage, history: Any, users: np.ndarray, work: Path) -> None:
    """Interactions and models of one night; how well the model is trained does not matter here."""
    row = np.repeat(np.arange(history.shape[0]), np.diff(history.indptr))
    day = DAY - timedelta(days=1)
    columns = {
        "user": pa.array(users[row]),
        "track": pa.array(history.indices.astype(np.int32)),
        "weight": pa.array(history.data.astype(np.float32)),
        "log_date": pa.array(np.full(len(row), np.datetime64(day))),
    }
    with store.stage(f"interactions/date={DAY}") as staging:
        pq.write_table(pa.table(columns), staging / "interactions.parquet")
        pq.write_table(pa.table({"user": users}), staging / "sessions.parquet")
    model = Dae(epochs=1)
    # Few users, but every track: the model has its full size.
    model.fit(random_history(1 + history.shape[1] // POSITIVES, history.shape[1], POSITIVES), seed=SEED, work=work)
    with store.stage(f"models/date={DAY}") as staging:
        model.save(staging)
        np.save(staging / "neighbours.npy", np.zeros((history.shape[1], NEIGHBOURS), np.uint32))
