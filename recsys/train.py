"""Training of a night's models: the autoencoder behind T1, and the neighbours behind C.

In go the interactions up to D-1 (D is held out for the gate); out comes ``models/date=D``: ``dae.safetensors``, ``dae.json``,
``neighbours.npy`` (uint32 [tracks, 20]) and ``card.json`` (what was trained, on what, how well; times stand under "timing").
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
from recsys.interactions import load_interactions
from recsys.models.dae import Dae
from recsys.models.neighbours import Neighbours
from recsys.recommend import top_tracks
from recsys.schemas import night_seed
from recsys.settings import Settings
from recsys.storage import Storage

log = logging.getLogger(__name__)


def train(store: Storage, log_date: date, world: Path, settings: Settings) -> dict[str, Any]:
    """Train both models and write ``models/date=D``; nothing if it holds models of the same data, settings and code.

    Raises:
        MissingDataError: there are no positives before D.
    """
    name = f"models/date={log_date}"
    data = load_interactions(store, log_date, world)
    seed = night_seed(settings.seed, log_date)
    model = Dae()
    identity = {"data": data.checksum, "seed": seed, "code": recsys.__version__, "model": model.config}
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    if store.is_complete(name) and store.read_json(name, "card.json")["fingerprint"] == fingerprint:
        log.info("%s is there already, trained on the same data", name)
        return _summary(store.read_json(name, "card.json"))
    before = data.before(log_date)
    if not before.any():
        raise MissingDataError(f"there are no positives before {log_date} to train on; collect traffic for earlier dates")
    history = data.matrix(before)
    work = settings.var / "work" / f"train-{fingerprint[:16]}"
    started = time.monotonic()
    metrics = model.fit(history, seed=seed, work=work)
    trained = time.monotonic()
    neighbours = Neighbours()
    near = neighbours.fit(history, seed=seed)
    card = {
        "log_date": str(log_date), "fingerprint": fingerprint, **identity, "positives": int(history.nnz),
        "users": int((np.diff(history.indptr) > 0).sum()), "tracks": int((history.sum(axis=0) > 0).sum()),
        "metrics": metrics, "neighbours": near,
        "timing": {"dae_seconds": trained - started, "neighbours_seconds": time.monotonic() - trained},
    }  # fmt: skip
    with store.stage(name, {"positives": int(history.nnz)}) as staging:
        model.save(staging)
        np.save(staging / "neighbours.npy", neighbours.table(top_tracks(history)))
        (staging / "card.json").write_text(json.dumps(card, indent=1, sort_keys=True))
    shutil.rmtree(work, ignore_errors=True)
    return _summary(card)


def _summary(card: dict[str, Any]) -> dict[str, Any]:
    return {"positives": card["positives"], "users": card["users"], **card["metrics"]}
