"""The gate: is the candidate worth showing to anybody?

In go the models of D, and D's positives, which no model has seen; out comes ``gates/date=D/gate.json`` with ``passed``, the
reasons as sentences, and the figures. The held-out tracks of a user are those liked on D and not before. Retired tracks are
neither ranked nor held out: nobody may be recommended them.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recsys.abtest.wording import counted
from recsys.catalog import Catalogue
from recsys.exceptions import CorruptDataError, RecsysError
from recsys.learn.interactions import Interactions, load_interactions
from recsys.learn.off_policy import of_lists
from recsys.learn.offline_metrics import (
    artist_spread,
    bootstrap_interval,
    by_activity,
    coverage,
    hits,
    ndcg_at_k,
    recall_at_k,
    top_k,
)
from recsys.learn.plays import load_plays
from recsys.models.base import Recommender, best, create, label
from recsys.models.ease import Ease
from recsys.models.offer import NOTHING, Offer
from recsys.models.popularity import Popularity
from recsys.night.catalogue import tracks_of
from recsys.night.forecast import ListsOf, listed, predicted_effects
from recsys.night.night import Night
from recsys.schemas import (
    LIST_LENGTH,
    AgainstLive,
    ByActivity,
    Gate,
    Inputs,
    Judgement,
    OffPolicyFigures,
    RankingFigures,
)

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

log = logging.getLogger(__name__)

Ids = npt.NDArray[np.int64]

#: Users that are judged, at most.
MOST_USERS = 2000
#: Tracks of the baseline EASE, at most: of all it would take longer than the rest of the gate.
MOST_TRACKS = 4000
#: Users that are ranked at a time.
ROWS = 256
#: Share of the live lists' NDCG@50 that the candidate must reach.
TOLERATED = 0.95
#: Share of the log's lines that may be malformed.
MOST_MALFORMED = 0.05


def decide(night: Night, live: ListsOf | None = None) -> Gate:
    """Judge the candidate of a night and write the gate's decision.

    Args:
        live: gives the lists of the version that is live, the second bar.
    """
    store, catalogue, fewest = night.store, tracks_of(night), night.settings.gate_users
    data = load_interactions(store, night.log_date, catalogue)
    offer = Offer(catalogue.available, night.settings.liked == "keep")
    users, past, held_out = _held_out(data, night, offer)
    judged: Judgement | None = None
    malformed = _malformed_share(night)
    if malformed > MOST_MALFORMED:
        reasons = [f"{malformed:.1%} of the log's lines are no valid records; at most {MOST_MALFORMED:.0%} may be."]
    elif len(users) < fewest:
        few = counted(len(users), "user")
        reasons = [f"Only {few} liked something new on {night.log_date}; {fewest} are needed to judge (RECSYS_GATE_USERS)."]
    else:
        model = create(night.settings.model)
        try:
            model.load(store.local(night.models))
            candidate = _rank(model, past, offer)
        except RecsysError as error:
            reasons = [f"The model cannot be used: {error}."]
        else:
            judged = _judge(data, night, past, held_out, candidate, offer)
            lists, _ = best(model, past, LIST_LENGTH, offer)
            reasons = _broken(judged, lists, offer, offer.room(past))
            if not reasons:
                theirs = None if live is None else listed(data.users[users].tolist(), live, offer)
                against_live = None if theirs is None else _against_live(data, night, users, lists, theirs, offer)
                told = {
                    "off_policy": _off_policy(night, data, catalogue, users, lists),
                    "live": against_live,
                    "predicted": predicted_effects(night, data, catalogue, model, offer, live),
                }
                judged = judged.model_copy(update=told)
    outcome = _verdict(judged) if judged and not reasons else (False, reasons)
    gate = Gate(passed=outcome[0], reasons=outcome[1], users=len(users), metrics=judged)
    with store.stage(Gate.KIND.on(night.log_date)) as staging:
        gate.write(staging)
    log.info("gate %s: %s", "passed" if gate.passed else "refused", " ".join(gate.reasons))
    return gate


def _held_out(data: Interactions, night: Night, offer: Offer) -> "tuple[Ids, csr_matrix, list[Ids]]":
    """Rows of judged users, their history before D, and what of the offer they liked on D for the first time."""
    before = data.before(night.log_date)
    past, present = data.matrix(before), data.matrix(~before & offer.available[data.track])
    new = present - present.multiply(past)
    new.eliminate_zeros()
    new.sort_indices()
    eligible = np.flatnonzero((np.diff(new.indptr) > 0) & (np.diff(past.indptr) > 0))
    users = np.sort(np.random.default_rng([night.seed, 2]).permutation(eligible)[:MOST_USERS])
    wanted = [new.indices[new.indptr[u] : new.indptr[u + 1]] for u in users]
    return users, past[users], wanted


@dataclass(frozen=True)
class _Ranked:
    """A model's best 100 new tracks of each user, [users, 100]; whether its scores are numbers, and the fewest available tracks
    that it scores."""

    tracks: Ids
    finite: bool
    fewest: int


def _rank(model: Recommender, past: "csr_matrix", offer: Offer) -> _Ranked:
    """Rank some users at a time: the scores of all would fill the memory where there are many tracks.

    Raises:
        CorruptDataError: the model ranks another catalogue.
    """
    parts, finite, fewest, new = [], True, past.shape[1], replace(offer, keeps_liked=False)
    for start in range(0, past.shape[0], ROWS):
        rows = past[start : start + ROWS]
        scores = model.score(rows)
        if scores.shape != rows.shape:
            ranks = f"it ranks {counted(scores.shape[-1], 'track')}, but the catalogue has {rows.shape[1]}"
            raise CorruptDataError(f"its scores have shape {scores.shape}, not {rows.shape}: {ranks}")
        ranked = np.isfinite(scores)
        finite = finite and bool(ranked.any(axis=1).all() and not np.isnan(scores).any())
        fewest = min(fewest, int((ranked & offer.available).sum(axis=1).min()))
        fresh = np.nan_to_num(scores, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
        parts.append(top_k(new.only(rows, fresh), 100))
    return _Ranked(np.concatenate(parts), finite, fewest)


def _judge(
    data: Interactions, night: Night, past: "csr_matrix", held_out: list[Ids], candidate: _Ranked, offer: Offer
) -> Judgement:
    """NDCG@100, Recall@20 and Recall@50 of the candidate and its baselines, and the interval of the gain over popularity."""
    history, name, seed = data.matrix(data.before(night.log_date)), label(night.settings.model), night.seed
    baselines: dict[str, Recommender] = {"popularity": Popularity(), "ease": Ease(MOST_TRACKS)}
    lists = {}
    for baseline, model in baselines.items():
        model.fit(history, seed=seed, work=Path())
        lists[baseline] = _rank(model, past, offer).tracks
    lists[name] = candidate.tracks
    sizes = np.array([len(wanted) for wanted in held_out])
    models: dict[str, RankingFigures] = {}
    ndcg: dict[str, npt.NDArray[np.float64]] = {}
    for key, ranked in lists.items():
        found = hits(ranked, held_out, past.shape[1])
        ndcg[key] = ndcg_at_k(found, sizes, 100)
        models[key] = RankingFigures(
            ndcg_100=round(float(ndcg[key].mean()), 6),
            ndcg_100_interval=bootstrap_interval(ndcg[key], seed),
            ndcg_100_by_activity=[ByActivity(**part) for part in by_activity(ndcg[key], np.diff(past.indptr))],
            recall_20=round(float(recall_at_k(found, sizes, 20).mean()), 6),
            recall_50=round(float(recall_at_k(found, sizes, 50).mean()), 6),
            coverage_100=round(coverage(ranked[offer.available[ranked]], int(offer.available.sum())), 6),
            artist_spread_100=round(artist_spread(ranked, data.artist_of), 6),
        )
    gain = bootstrap_interval(ndcg[name] - ndcg["popularity"], seed)
    return Judgement(candidate=name, models=models, finite=candidate.finite, fewest_ranked=candidate.fewest, gain=gain)


def _malformed_share(night: Night) -> float:
    counts = Inputs.read(night.store, night.log_date).counts
    return counts["malformed"] / max(1, counts["lines"]) if counts else 0.0


def _off_policy(night: Night, data: Interactions, catalogue: Catalogue, users: Ids, lists: Ids) -> OffPolicyFigures | None:
    """What D's logs say the candidate's lists would have earned; None if the plays were not kept."""
    if not data.plays_checksum:
        return None
    plays = load_plays(night.store, night.log_date, catalogue)
    plays = plays.chosen((plays.day == np.datetime64(night.log_date)) & np.isin(plays.row, users))
    everyone = np.full((len(data.users), LIST_LENGTH), NOTHING, np.int64)
    everyone[users, : lists.shape[1]] = lists
    found = of_lists(plays, everyone, night.seed)
    time, low, high = (None if np.isnan(value) else round(value, 4) for value in (found.time, found.low, found.high))
    return OffPolicyFigures(
        time=time, low=low, high=high, plays=found.plays, effective=round(found.effective, 4), reliable=found.reliable
    )


def _against_live(data: Interactions, night: Night, users: Ids, lists: Ids, theirs: Ids, offer: Offer) -> AgainstLive:
    """NDCG@50 of both lists on everything liked on D that lists may hold, and the interval of candidate minus a share of live."""
    before = data.before(night.log_date)
    present = data.matrix(~before & offer.available[data.track])[users]
    if not offer.keeps_liked:
        present = (present - present.multiply(data.matrix(before)[users])).tocsr()
        present.eliminate_zeros()
        present.sort_indices()
    wanted = np.split(present.indices, present.indptr[1:-1])
    sizes = np.diff(present.indptr)
    ours, live_ndcg = (ndcg_at_k(hits(ranked, wanted, present.shape[1]), sizes, LIST_LENGTH) for ranked in (lists, theirs))
    return AgainstLive(
        ndcg_50=round(float(ours.mean()), 6),
        live_ndcg_50=round(float(live_ndcg.mean()), 6),
        difference=bootstrap_interval(ours - TOLERATED * live_ndcg, night.seed),
    )


def _broken(judged: Judgement, lists: Ids, offer: Offer, room: Ids) -> list[str]:
    """Why the candidate's lists cannot be served at all.

    Args:
        room: int64 [users], how many tracks may be recommended to each; a list is as long, but for the usual 50.
    """
    found, tracks = [], len(offer.available)
    wanted = min(LIST_LENGTH, int(offer.available.sum()))
    if not judged.finite:
        found.append("The model gives scores that are not numbers.")
    fewest = min(judged.fewest_ranked, lists.shape[1])
    if fewest < wanted:
        found.append(f"The model ranks only {counted(fewest, 'track')} for some user; lists have {wanted}.")
    place = np.arange(lists.shape[1])
    listed = place < room[:, None]
    unknown = listed & ((lists < 0) | (lists >= tracks))
    if unknown.any():
        found.append(f"The model's lists hold track {lists[unknown][0]}, which is not in the catalogue of {tracks}.")
    if (np.diff(np.sort(np.where(listed, lists, -1 - place), axis=1), axis=1) == 0).any():
        found.append("The model's lists hold a track twice.")
    return found


def _verdict(judged: Judgement) -> tuple[bool, list[str]]:
    """Whether all rules hold, and why; rules in order, the first sentence of a refusal names the rule that failed."""
    low, high = judged.gain
    refusals, notes = [], []
    sentence = (
        f"NDCG@100 on the held-out date is {judged.models[judged.candidate].ndcg_100:.4f}, "
        f"that of popularity {judged.models['popularity'].ndcg_100:.4f} (gain {low:+.4f} to {high:+.4f}, 95 %)"
    )
    if low > 0:
        notes.append(f"{sentence}: better.")
    else:
        refusals.append(f"{sentence}: not surely better.")
    if judged.live is not None:
        live = judged.live
        text = f"NDCG@50 of the lists is {live.ndcg_50:.4f}, that of the live lists {live.live_ndcg_50:.4f}"
        if live.difference[1] < 0:
            refusals.append(f"{text}: surely below {TOLERATED:.0%} of it.")
        else:
            notes.append(f"{text}: not surely below {TOLERATED:.0%} of it.")
    for told in judged.predicted:
        notes.append(
            f"Session time is predicted to change by {told.effect_percent:+.1f} % against {told.against} "
            f"({told.ci_low_percent:+.1f} to {told.ci_high_percent:+.1f}, 95 %): for orientation."
        )
    return not refusals, refusals or notes
