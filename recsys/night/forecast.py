"""What a night's candidate would change, foretold from logs before any listener has met it.

In go the models of D and D's plays, which no model has seen; out come effects on mean session time, as the night's experiment
measures them: against the contextual control and against the lists that are live. The candidate's lists are made as
:mod:`recsys.night.recommend` makes them, but without D's own likes. Only answers drawn at random say anything
(``RECSYS_EXPLORATION``).
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recsys.catalog import Catalogue
from recsys.learn.fatigue import Discount
from recsys.learn.interactions import Interactions
from recsys.learn.plays import load_plays
from recsys.learn.prediction import FEWEST, Policy, Predictor, effect
from recsys.models.base import Recommender
from recsys.models.offer import NOTHING, Offer
from recsys.models.response import LISTS, Response
from recsys.night.night import Night
from recsys.night.recommend import artist_discount, ranked, top_tracks
from recsys.schemas import LIST_LENGTH, PredictedEffect

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

log = logging.getLogger(__name__)

Ids = npt.NDArray[np.int64]
#: Gives the lists of users, best track first; those without one are left out.
ListsOf = Callable[[Sequence[int]], Mapping[int, Sequence[int]]]

#: Users of D by whom effects are foretold, at most.
MOST_USERS = 10_000


def predicted_effects(
    night: Night, data: Interactions, catalogue: Catalogue, model: Recommender, offer: Offer, live: ListsOf | None
) -> list[PredictedEffect]:
    """The candidate against the control and what is live; nothing where the plays were not kept or say too little.

    Args:
        model: the candidate. live: gives the lists of the version that is live.
    """
    if not data.plays_checksum:
        return []
    plays = load_plays(night.store, night.log_date, catalogue)
    active = np.unique(plays.row[plays.day == np.datetime64(night.log_date)])
    if not len(active):
        return []
    users = np.sort(np.random.default_rng([night.seed, 6]).permutation(active)[:MOST_USERS])
    plays = plays.chosen(np.isin(plays.row, users))
    plays = replace(plays, users=len(users), row=np.searchsorted(users, plays.row))
    predictor = Predictor(plays, plays.day == np.datetime64(night.log_date), night.seed)
    if predictor.answers < FEWEST:
        return []
    candidate = predictor.session(Policy(_lists(night, data, catalogue, model, users, offer)))
    near = np.load(night.store.local(night.models) / "neighbours.npy", allow_pickle=False).astype(np.int64)
    others = {"control": Policy(np.where(near == np.arange(len(near))[:, None], NOTHING, near), "previous", ordered=False)}
    if live is not None:
        others["live"] = Policy(listed(data.users[users].tolist(), live, offer))
    found = []
    for name, policy in others.items():
        other = predictor.session(policy)
        if min(candidate.answers, other.answers) < FEWEST:
            continue
        percent, low, high = (round(100 * value, 2) for value in effect(candidate, other))
        told = {"against": name, "effect_percent": percent, "ci_low_percent": low, "ci_high_percent": high}
        found.append(PredictedEffect.model_validate(told | {"answers": candidate.answers}))
        log.info("predicted against %s: %+.1f %% (%+.1f to %+.1f), by %d answers", name, percent, low, high, candidate.answers)
    return found


def listed(ids: Sequence[int], live: ListsOf, offer: Offer) -> Ids:
    """What of users' lists may still be answered, int64 [users, 50]."""
    served = live(ids)
    lists = np.full((len(ids), LIST_LENGTH), NOTHING, dtype=np.int64)
    for row, user in enumerate(ids):
        tracks = np.array(served.get(user, []), np.int64)
        tracks = tracks[tracks < len(offer.available)]
        tracks = tracks[offer.available[tracks]][:LIST_LENGTH]
        lists[row, : len(tracks)] = tracks
    return lists


def _lists(night: Night, data: Interactions, catalogue: Catalogue, model: Recommender, users: Ids, offer: Offer) -> Ids:
    """The candidate's lists of some users, [users, 50]; the TOP 100's first for users without history."""
    directory = night.store.local(night.models)
    response, discount = None, Discount()
    if (directory / LISTS).exists():
        response = Response()
        response.load(directory)
    else:
        discount = artist_discount(night, data, catalogue, model)
    history: csr_matrix = data.matrix(data.before(night.log_date))
    past = history[users]
    found = np.concatenate([part for _, part in ranked(model, past, discount, response, data.artist_of, offer, users)])
    usual = np.full(found.shape[1], NOTHING)
    top = top_tracks(history, catalogue.available)[: len(usual)]
    usual[: len(top)] = top
    found[np.diff(past.indptr) == 0] = usual
    return found
