"""Training of a night's models: the one behind T1 (setting ``model``), the neighbours behind C, and, if asked for, T2's lists.

In go the interactions and plays up to D-1 (D is held out for the gate); out comes ``models/date=D``: what the model saves,
``neighbours.npy`` (uint32 [tracks, 20], made as the setting ``neighbours`` says), with ``session_arm`` what
:class:`recsys.models.response.Response` saves, and ``card.json`` (what was trained, on what, how well; times stand under
"timing").
"""

import hashlib
import json
import logging
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recsys.catalog import Catalogue
from recsys.exceptions import MissingDataError
from recsys.learn.interactions import load_interactions
from recsys.learn.plays import Plays, load_plays
from recsys.models import same_artist, same_session
from recsys.models.base import Recommender, config_of, create, label, module_of, uses_plays
from recsys.models.identity import code_of
from recsys.models.neighbours import Neighbours
from recsys.night.catalogue import checksum_of, tracks_of
from recsys.night.night import Night
from recsys.night.recommend import top_tracks
from recsys.night.tune import adopted
from recsys.schemas import Card, Figures

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

log = logging.getLogger(__name__)

#: The modules that make neighbours, by what these are made from.
NEIGHBOURS = {
    "vectors": Neighbours.__module__,
    "artist": same_artist.__name__,
    "sessions": same_session.__name__,
}


def train(night: Night, *, rebuild: bool = False) -> Figures:
    """Train the models and write ``models/date=D``; nothing if it holds whole models of the same data, settings and code.

    Args:
        rebuild: train them all the same, from the first epoch.

    Raises:
        MissingDataError: there are no positives before D.
    """
    store, settings = night.store, night.settings
    catalogue = tracks_of(night)
    data = load_interactions(store, night.log_date, catalogue)
    arguments = adopted(settings.dae) if settings.model == "dae" else {}
    models = {label(settings.model): create(settings.model, **arguments)}
    if settings.session_arm:
        models.setdefault("response", create("response"))
    modules = [module_of(settings.model), *(type(model).__module__ for model in models.values()), NEIGHBOURS[settings.neighbours]]
    configurations = {name: config_of(model) for name, model in models.items()}
    if settings.neighbours != "vectors":  # of which nothing was told before there was a choice
        configurations["neighbours"] = {"from": settings.neighbours}
    identity: dict[str, object] = {
        "data": data.checksum,
        "plays": data.plays_checksum,
        "catalogue": checksum_of(night),
        "seed": night.seed,
        "code": code_of(modules),
        "model": settings.model,
        "configurations": configurations,
    }
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    earlier = Card.read(store, night.log_date) if not rebuild and store.is_intact(night.models) else None
    if earlier is not None and earlier.fingerprint == fingerprint:
        log.info("%s is there already, trained on the same data by the same code", night.models)
        return _summary(earlier)
    before = data.before(night.log_date)
    if not before.any():
        raise MissingDataError(f"there are no positives before {night.log_date} to train on; collect traffic for earlier dates")
    history = data.matrix(before)
    work = settings.var / "work" / f"train-{fingerprint[:16]}"
    if rebuild:
        shutil.rmtree(work, ignore_errors=True)
    figures: dict[str, Figures] = {}
    seconds: dict[str, float] = {}
    for key, model in models.items():
        started = time.monotonic()
        figures[key] = _fit(model, history, night, catalogue, work / key)
        seconds[f"{key}_seconds"] = time.monotonic() - started
    started = time.monotonic()
    near, told = _neighbours(history, night, catalogue)
    seconds["neighbours_seconds"] = time.monotonic() - started
    card = Card.model_validate(
        {
            **identity,
            "log_date": str(night.log_date),
            "fingerprint": fingerprint,
            "positives": int(history.nnz),
            "users": int((np.diff(history.indptr) > 0).sum()),
            "tracks": int((history.sum(axis=0) > 0).sum()),
            "metrics": figures[label(settings.model)],
            "models": figures,
            "neighbours": told,
            "timing": seconds,
        }
    )
    with store.stage(night.models, {"positives": int(history.nnz)}) as staging:
        for model in models.values():
            model.save(staging)
        np.save(staging / "neighbours.npy", near)
        card.write(staging)
    shutil.rmtree(work, ignore_errors=True)
    return _summary(card)


def _fit(model: Recommender, history: "csr_matrix", night: Night, catalogue: Catalogue, work: Path) -> Figures:
    if uses_plays(model):
        return model.fit(history, seed=night.seed, work=work, plays=_plays(night, catalogue))
    return model.fit(history, seed=night.seed, work=work)


def _plays(night: Night, catalogue: Catalogue) -> Plays:
    return load_plays(night.store, night.log_date, catalogue).before(night.log_date)


def _neighbours(history: "csr_matrix", night: Night, catalogue: Catalogue) -> tuple[npt.NDArray[np.uint32], Figures]:
    """The tracks to play after each track, uint32 [tracks, 20], and figures for the card."""
    match night.settings.neighbours:
        case "artist":
            return same_artist.table(catalogue.artist_of, catalogue.available, seed=night.seed), {"from": "artist"}
        case "sessions":
            plays = _plays(night, catalogue)
            return same_session.table(plays), {"from": "sessions", "plays": len(plays.row)}
    model = Neighbours()
    figures = model.fit(history, seed=night.seed)
    return model.table(top_tracks(history, catalogue.available), catalogue.available), figures


def _summary(card: Card) -> Figures:
    return {"positives": card.positives, "users": card.users, **card.metrics}
