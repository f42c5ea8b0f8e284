"""Every user's list of 50, by the night's model with everything folded in up to D.

In go ``models/date=D`` and the interactions including D; out comes ``recommendations/date=D``: ``recommendations.json`` (a line a
user of the world, 50 tracks by descending relevance, ties by track id), ``top_tracks.json`` (the TOP 100) and ``neighbours.npy``.
Tracks that a user liked before stay in the list: hearing a favourite again is what listeners come for, and a repeat within a
session is excluded when the list is served.
"""

import json
import logging
import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from tqdm import tqdm

from recsys.evaluate import top_k
from recsys.interactions import load_interactions
from recsys.models.base import Recommender, create
from recsys.models.response import LISTS
from recsys.schemas import LIST_LENGTH, TOP_LENGTH
from recsys.settings import Settings
from recsys.storage import Storage

log = logging.getLogger(__name__)

ROWS = 512


def recommend(store: Storage, log_date: date, world: Path, settings: Settings) -> dict[str, Any]:
    """Write ``recommendations/date=D`` and return its counts."""
    data = load_interactions(store, log_date, world)
    history = data.matrix()
    directory = store.local(f"models/date={log_date}")
    model = create(settings.model)
    model.load(directory)
    top = top_tracks(history)
    has_history = np.diff(history.indptr) > 0
    counts = {"users": len(data.users), "users_without_history": int((~has_history).sum())}
    with store.stage(f"recommendations/date={log_date}", counts) as staging:
        with (staging / "recommendations.json").open("wb") as file:
            for start, lists in _ranked(model, history):
                lists[~has_history[start : start + len(lists)]] = top[:LIST_LENGTH]
                for user, tracks in zip(data.users[start : start + len(lists)].tolist(), lists.tolist(), strict=True):
                    file.write(orjson.dumps({"user": user, "tracks": tracks}, option=orjson.OPT_APPEND_NEWLINE))
        (staging / "top_tracks.json").write_text(json.dumps(top.tolist()))
        for name in ("neighbours.npy", LISTS):
            if (directory / name).exists():
                shutil.copyfile(directory / name, staging / name)
    log.info("recommended: %s", counts)
    return counts


def top_tracks(history: Any) -> npt.NDArray[np.int64]:
    """The TOP 100: tracks liked by most users, ties by track id."""
    liked = np.asarray(history.sum(axis=0)).ravel()
    return np.lexsort((np.arange(len(liked)), -liked))[:TOP_LENGTH]


def _ranked(model: Recommender, history: Any) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    for start in tqdm(range(0, history.shape[0], ROWS), desc="recommend", unit="chunk", disable=None):
        yield start, top_k(model.score(history[start : start + ROWS]), LIST_LENGTH)
