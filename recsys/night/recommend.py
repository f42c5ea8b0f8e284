"""Every user's list of 50, by the night's model with everything folded in up to D.

In go ``models/date=D`` and the interactions including D; out comes ``recommendations/date=D``: ``recommendations.json`` (a line
a user of the night's logs, 50 tracks by descending relevance, ties by track id; a later track of an artist counts less, by a
discount that D's plays tell, or the response model if there is one, which then also says what a candidate is worth),
``top_tracks.json`` (the TOP 100), ``neighbours.npy`` and, if there are any, ``sessions.npz`` and ``tastes.npy``.

Tracks that a user liked before stay in the list: hearing a favourite again is what listeners come for, and a repeat within a
session is excluded when the list is served. With ``RECSYS_LIKED=leave_out`` they are left out. A retired track is in no list and
not in the TOP 100. Where fewer than 50 tracks are left, a list is shorter; users without history, and those for whom nothing at
all is left, get the first 50 of the TOP 100.
"""

import json
import logging
import shutil
from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import orjson
from tqdm import tqdm

from recsys.catalog import Catalogue
from recsys.learn.fatigue import Discount, estimate
from recsys.learn.interactions import Interactions, load_interactions
from recsys.learn.plays import load_plays
from recsys.learn.ranking import spread
from recsys.models.base import Recommender, best, create
from recsys.models.offer import NOTHING, Offer
from recsys.models.response import LISTS as SESSION_LISTS
from recsys.models.response import TASTES, Response
from recsys.night.catalogue import tracks_of
from recsys.night.night import Night
from recsys.schemas import LIST_LENGTH, TOP_LENGTH
from recsys.versions import keyspace
from recsys.versions.content import LISTS, VERSION, Digest, version_name

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

log = logging.getLogger(__name__)

ROWS = 512
#: Candidates of which a list is made, and users whose plays tell the artist discount.
CANDIDATES, SAMPLE = 150, 2000


def recommend(night: Night) -> dict[str, int]:
    """Write ``recommendations/date=D`` and return its counts; its manifest names the version that it makes."""
    store, catalogue = night.store, tracks_of(night)
    data = load_interactions(store, night.log_date, catalogue)
    offer = Offer(catalogue.available, night.settings.liked == "keep")
    history = data.matrix()
    directory = store.local(night.models)
    model = create(night.settings.model)
    model.load(directory)
    response, tastes, discount = None, np.zeros((0, 2), np.int64), Discount()
    if (directory / SESSION_LISTS).exists():
        response = Response()
        response.load(directory)
        tastes = np.load(directory / TASTES, allow_pickle=False).astype(np.int64)
    else:
        discount = artist_discount(night, data, catalogue, model)
    top = top_tracks(history, catalogue.available)
    has_history = np.diff(history.indptr) > 0
    counts = {"users": len(data.users), "users_without_history": int((~has_history).sum())}
    labels: dict[str, str] = {}
    with store.stage(night.recommendations, counts, labels) as staging:
        digest, taste_of = Digest(), _packed_tastes(tastes)
        with (staging / LISTS).open("wb") as file:
            for start, lists in ranked(model, history, discount, response, data.artist_of, offer):
                usual = np.full(lists.shape[1], NOTHING)
                usual[: len(top[:LIST_LENGTH])] = top[:LIST_LENGTH]
                lists[~has_history[start : start + len(lists)] | (lists == NOTHING).all(axis=1)] = usual
                users = data.users[start : start + len(lists)].tolist()
                lengths = (lists != NOTHING).sum(axis=1).tolist()
                for row, (user, listed, length) in enumerate(zip(users, lists.tolist(), lengths, strict=True), start):
                    tracks = listed[:length]
                    file.write(orjson.dumps({"user": user, "tracks": tracks}, option=orjson.OPT_APPEND_NEWLINE))
                    digest.add(user, keyspace.pack(tracks) + taste_of.get(row, b""))
        (staging / "top_tracks.json").write_text(json.dumps(top.tolist()))
        shutil.copyfile(directory / "neighbours.npy", staging / "neighbours.npy")
        sessions = b""
        if response is not None:
            shutil.copyfile(directory / SESSION_LISTS, staging / SESSION_LISTS)
            sessions = (staging / SESSION_LISTS).read_bytes()
            tastes[:, 0] = data.users[tastes[:, 0]]
            np.save(staging / TASTES, tastes)
        neighbours = np.load(staging / "neighbours.npy", allow_pickle=False).tobytes()
        labels[VERSION] = version_name(night.log_date, digest.hexadecimal(keyspace.pack(top.tolist()), neighbours, sessions))
    log.info("recommended: %s", counts)
    return counts


def _packed_tastes(tastes: npt.NDArray[np.int64]) -> dict[int, bytes]:
    """Each user's level and groups as they stand behind the tracks in a version, by row."""
    return {row: keyspace.pack_taste(number for number in numbers if number >= 0) for row, *numbers in tastes.tolist()}


def top_tracks(history: "csr_matrix", available: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The TOP 100: available tracks liked by most users, ties by track id."""
    liked = np.asarray(history.sum(axis=0)).ravel()
    order = np.lexsort((np.arange(len(liked)), -liked))
    return order[available[order]][:TOP_LENGTH]


def artist_discount(
    night: Night, data: Interactions, catalogue: Catalogue, model: Recommender, of: date | None = None
) -> Discount:
    """The discount that D's plays (or those of the date ``of``) tell about scores from before; none if plays were not kept."""
    if not data.plays_checksum:
        return Discount()
    judged = of or night.log_date
    plays = load_plays(night.store, night.log_date, catalogue)
    active = np.unique(plays.row[plays.day == np.datetime64(judged)])
    users = np.sort(np.random.default_rng([night.seed, 3]).permutation(active)[:SAMPLE])
    plays = plays.chosen((plays.day == np.datetime64(judged)) & np.isin(plays.row, users))
    past = data.matrix(data.before(judged))
    score = np.zeros(len(plays.row), np.float32)
    for start in range(0, len(users), ROWS):
        rows = users[start : start + ROWS]
        chosen = (plays.row >= rows[0]) & (plays.row <= rows[-1])
        score[chosen] = model.score(past[rows])[np.searchsorted(rows, plays.row[chosen]), plays.track[chosen]]
    return estimate(plays, score)


def ranked(
    model: Recommender,
    history: "csr_matrix",
    discount: Discount,
    response: Response | None,
    artist_of: npt.NDArray[np.int32],
    offer: Offer,
    users: npt.NDArray[np.int64] | None = None,
) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Chunks of lists: the first row, int64 [rows, 50], :data:`~recsys.models.offer.NOTHING` behind what is on offer.

    With a response model, the model's candidates are ordered by the time that it expects of them.

    Args:
        users: rows of the training matrix that ``history`` holds; all by default.
    """
    rows = np.arange(history.shape[0]) if users is None else users
    plain = response is None and discount.gamma >= 1.0
    wanted = LIST_LENGTH if plain else min(CANDIDATES, history.shape[1])
    for start in tqdm(range(0, history.shape[0], ROWS), desc="recommend", unit="chunk", disable=None):
        tracks, scores = best(model, history[start : start + ROWS], wanted, offer)
        if response is None:
            yield start, discount.lists(tracks, scores, artist_of, LIST_LENGTH)
            continue
        times = np.take_along_axis(response.expected(rows[start : start + len(tracks)]), np.maximum(tracks, 0), axis=1)
        times[tracks == NOTHING] = -1.0
        # Where nothing is expected, the model's own order remains.
        order = np.argsort(-times, axis=1, kind="stable")
        tracks, times = np.take_along_axis(tracks, order, axis=1), np.take_along_axis(times, order, axis=1)
        yield start, spread(tracks, times, artist_of, response.gamma, LIST_LENGTH)
