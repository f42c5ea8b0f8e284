"""Training of a night's models: the one behind T1 (setting ``model``), the neighbours behind C, and, if asked for, T2's lists.

In go the interactions and plays up to D-1 (D is held out for the gate); out comes ``models/date=D``: what the model saves,
``neighbours.npy`` (uint32 [tracks, 20]), with ``session_arm`` what :class:`recsys.models.response.Response` saves, and
``card.json`` (what was trained, on what, how well; times stand under "timing").
"""

import hashlib
import json
import logging
import shutil
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

import recsys
from recsys.exceptions import MissingDataError
from recsys.learn.interactions import load_interactions
from recsys.learn.plays import load_plays
from recsys.models.base import Recommender, config_of, create, label, uses_plays
from recsys.models.neighbours import Neighbours
from recsys.models.tune import adopted
from recsys.night.recommend import top_tracks
from recsys.schemas import night_seed
from recsys.settings import Settings
from recsys.storage.store import Storage

log = logging.getLogger(__name__)


def train(store: Storage, log_date: date, world: Path, settings: Settings) -> dict[str, Any]:
    """Train the models and write ``models/date=D``; nothing if it holds models of the same data, settings and code.

    Raises:
        MissingDataError: there are no positives before D.
    """
    name = f"models/date={log_date}"
    data = load_interactions(store, log_date, world)
    seed = night_seed(settings.seed, log_date)
    arguments = adopted(settings.dae) if settings.model == "dae" else {}
    models = {label(settings.model): create(settings.model, **arguments)}
    if settings.session_arm:
        models.setdefault("response", create("response"))
    identity = {
        "data": data.checksum, "plays": data.plays_checksum, "seed": seed, "code": recsys.__version__,
        "model": settings.model, "configurations": {name: config_of(model) for name, model in models.items()},
    }  # fmt: skip
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    if store.is_complete(name) and store.read_json(name, "card.json")["fingerprint"] == fingerprint:
        log.info("%s is there already, trained on the same data", name)
        return _summary(store.read_json(name, "card.json"))
    before = data.before(log_date)
    if not before.any():
        raise MissingDataError(f"there are no positives before {log_date} to train on; collect traffic for earlier dates")
    history = data.matrix(before)
    work = settings.var / "work" / f"train-{fingerprint[:16]}"
    figures: dict[str, dict[str, Any]] = {}
    seconds: dict[str, float] = {}
    for key, model in models.items():
        started = time.monotonic()
        figures[key] = _fit(model, history, store, log_date, world, seed, work / key)
        seconds[f"{key}_seconds"] = time.monotonic() - started
    started = time.monotonic()
    neighbours = Neighbours()
    near = neighbours.fit(history, seed=seed)
    seconds["neighbours_seconds"] = time.monotonic() - started
    card = {
        "log_date": str(log_date), "fingerprint": fingerprint, **identity, "positives": int(history.nnz),
        "users": int((np.diff(history.indptr) > 0).sum()), "tracks": int((history.sum(axis=0) > 0).sum()),
        "metrics": figures[label(settings.model)], "models": figures, "neighbours": near, "timing": seconds,
    }  # fmt: skip
    with store.stage(name, {"positives": int(history.nnz)}) as staging:
        for model in models.values():
            model.save(staging)
        np.save(staging / "neighbours.npy", neighbours.table(top_tracks(history)))
        (staging / "card.json").write_text(json.dumps(card, indent=1, sort_keys=True))
    shutil.rmtree(work, ignore_errors=True)
    return _summary(card)


def _fit(model: Recommender, history: Any, store: Storage, log_date: date, world: Path, seed: int, work: Path) -> dict[str, Any]:
    if not uses_plays(model):
        return model.fit(history, seed=seed, work=work)
    plays = load_plays(store, log_date, world).before(log_date)
    return model.fit(history, seed=seed, work=work, plays=plays)  # type: ignore[call-arg]


def _summary(card: dict[str, Any]) -> dict[str, Any]:
    return {"positives": card["positives"], "users": card["users"], **card["metrics"]}
