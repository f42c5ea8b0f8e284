"""Every user's list of 50, by the night's model with everything folded in up to D.

In go ``models/date=D`` and the interactions including D; out comes ``recommendations/date=D``: ``recommendations.json`` (a line a
user of the world, 50 tracks by descending relevance, ties by track id; a later track of an artist counts less, by a discount that
D's plays tell, or the response model if there is one, which then also says what a candidate is worth), ``top_tracks.json`` (the
TOP 100), ``neighbours.npy`` and, if there are any, ``sessions.npz`` and ``tastes.npy``. Tracks that a user liked before stay in
the list: hearing a favourite again is what listeners come for, and a repeat within a session is excluded when the list is served.
Users without history get the first 50 of the TOP 100.
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

from recsys.learn.fatigue import Discount, estimate
from recsys.learn.interactions import Interactions, load_interactions
from recsys.learn.plays import load_plays
from recsys.learn.ranking import spread
from recsys.models.base import Recommender, best, create
from recsys.models.response import LISTS, TASTES, Response
from recsys.schemas import LIST_LENGTH, TOP_LENGTH, night_seed
from recsys.settings import Settings
from recsys.storage.store import Storage

log = logging.getLogger(__name__)

ROWS = 512
#: Candidates of which a list is made, and users whose plays tell the artist discount.
CANDIDATES, SAMPLE = 150, 2000


def recommend(store: Storage, log_date: date, world: Path, settings: Settings) -> dict[str, Any]:
    """Write ``recommendations/date=D`` and return its counts."""
    data = load_interactions(store, log_date, world)
    history = data.matrix()
    directory = store.local(f"models/date={log_date}")
    model = create(settings.model)
    model.load(directory)
    response = Response() if (directory / LISTS).exists() else None
    discount = Discount()
    if response is not None:
        response.load(directory)
    else:
        discount = artist_discount(store, log_date, world, data, model, night_seed(settings.seed, log_date))
    top = top_tracks(history)
    has_history = np.diff(history.indptr) > 0
    counts = {"users": len(data.users), "users_without_history": int((~has_history).sum())}
    with store.stage(f"recommendations/date={log_date}", counts) as staging:
        with (staging / "recommendations.json").open("wb") as file:
            for start, lists in ranked(model, history, discount, response, data.artist_of):
                lists[~has_history[start : start + len(lists)]] = top[:LIST_LENGTH]
                for user, tracks in zip(data.users[start : start + len(lists)].tolist(), lists.tolist(), strict=True):
                    file.write(orjson.dumps({"user": user, "tracks": tracks}, option=orjson.OPT_APPEND_NEWLINE))
        (staging / "top_tracks.json").write_text(json.dumps(top.tolist()))
        shutil.copyfile(directory / "neighbours.npy", staging / "neighbours.npy")
        if response is not None:
            shutil.copyfile(directory / LISTS, staging / LISTS)
            tastes = np.load(directory / TASTES, allow_pickle=False)
            tastes[:, 0] = data.users[tastes[:, 0]]
            np.save(staging / TASTES, tastes)
    log.info("recommended: %s", counts)
    return counts


def top_tracks(history: Any) -> npt.NDArray[np.int64]:
    """The TOP 100: tracks liked by most users, ties by track id."""
    liked = np.asarray(history.sum(axis=0)).ravel()
    return np.lexsort((np.arange(len(liked)), -liked))[:TOP_LENGTH]


def artist_discount(
    store: Storage, log_date: date, world: Path, data: Interactions, model: Recommender, seed: int,
    of: date | None = None,
) -> Discount:  # fmt: skip
    """The discount that D's plays (or those of the date ``of``) tell about scores from before; none if plays were not kept."""
    if not data.plays_checksum:
        return Discount()
    plays = load_plays(store, log_date, world)
    judged = of or log_date
    before = data.before(judged)
    active = np.unique(plays.row[plays.day == np.datetime64(judged)])
    users = np.sort(np.random.default_rng([seed, 3]).permutation(active)[:SAMPLE])
    plays = plays.chosen((plays.day == np.datetime64(judged)) & np.isin(plays.row, users))
    past = data.matrix(before)
    score = np.zeros(len(plays.row), np.float32)
    for start in range(0, len(users), ROWS):
        rows = users[start : start + ROWS]
        chosen = (plays.row >= rows[0]) & (plays.row <= rows[-1])
        score[chosen] = model.score(past[rows])[np.searchsorted(rows, plays.row[chosen]), plays.track[chosen]]
    return estimate(plays, score)


def ranked(
    model: Recommender, history: Any, discount: Discount, response: Response | None, artist_of: npt.NDArray[np.int32]
) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Chunks of lists: the first row, int64 [rows, 50].

    With a response model, the model's candidates are ordered by the time that it expects of them.
    """
    plain = response is None and discount.gamma >= 1.0
    wanted = LIST_LENGTH if plain else min(CANDIDATES, history.shape[1])
    for start in tqdm(range(0, history.shape[0], ROWS), desc="recommend", unit="chunk", disable=None):
        tracks, scores = best(model, history[start : start + ROWS], wanted)
        if response is None:
            yield start, discount.lists(tracks, scores, artist_of, LIST_LENGTH)
            continue
        times = np.take_along_axis(response.expected(start, start + len(tracks)), tracks, axis=1)
        # Where nothing is expected, the model's own order remains.
        order = np.argsort(-times, axis=1, kind="stable")
        tracks, times = np.take_along_axis(tracks, order, axis=1), np.take_along_axis(times, order, axis=1)
        yield start, spread(tracks, times, artist_of, response.gamma, LIST_LENGTH)
