"""What a night's candidate would change, foretold from logs before any listener has met it.

In go the models of D and D's plays, which no model has seen; out come effects on mean session time, as the night's experiment
measures them: against the contextual control and against the lists that are live. The candidate's lists are made as
:mod:`recsys.night.recommend` makes them, but without D's own likes. Only answers drawn at random say anything
(``RECSYS_EXPLORATION``).
"""

import logging
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
from recsys.night.recommend import artist_discount, ranked
from recsys.schemas import PredictedEffect

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

log = logging.getLogger(__name__)

Ids = npt.NDArray[np.int64]


def predicted_effects(
    night: Night,
    data: Interactions,
    catalogue: Catalogue,
    model: Recommender,
    users: Ids,
    past: "csr_matrix",
    offer: Offer,
    live: Ids | None,
) -> list[PredictedEffect]:
    """The candidate against the control and what is live; nothing where the plays were not kept or say too little.

    Args:
        users, past: rows of the users who are judged, and what they liked before D. live: their live lists, [users, 50].
    """
    if not data.plays_checksum:
        return []
    plays = load_plays(night.store, night.log_date, catalogue)
    plays = plays.chosen(np.isin(plays.row, users))
    plays = replace(plays, users=len(users), row=np.searchsorted(users, plays.row))
    predictor = Predictor(plays, plays.day == np.datetime64(night.log_date), night.seed)
    if predictor.answers < FEWEST:
        return []
    candidate = predictor.session(Policy(_lists(night, data, catalogue, model, users, past, offer)))
    near = np.load(night.store.local(night.models) / "neighbours.npy", allow_pickle=False).astype(np.int64)
    others = {"control": Policy(np.where(near == np.arange(len(near))[:, None], NOTHING, near), "previous", ordered=False)}
    if live is not None:
        others["live"] = Policy(live)
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


def _lists(
    night: Night,
    data: Interactions,
    catalogue: Catalogue,
    model: Recommender,
    users: Ids,
    past: "csr_matrix",
    offer: Offer,
) -> Ids:
    """The candidate's lists, [users, 50]."""
    directory = night.store.local(night.models)
    response, discount = None, Discount()
    if (directory / LISTS).exists():
        response = Response()
        response.load(directory)
    else:
        discount = artist_discount(night, data, catalogue, model)
    parts = ranked(model, past, discount, response, data.artist_of, offer, users)
    return np.concatenate([lists for _, lists in parts])
