"""The gate: is the candidate worth showing to anybody?

In go the models of D, and D's positives, which no model has seen; out comes ``gates/date=D/gate.json`` with ``passed``, the
reasons as sentences, and the figures. The held-out tracks of a user are those liked on D and not before.
"""

import json
import logging
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

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
from recsys.models.popularity import Popularity
from recsys.schemas import LIST_LENGTH, night_seed
from recsys.settings import Settings
from recsys.storage.store import Storage

log = logging.getLogger(__name__)

Ids = npt.NDArray[np.int64]

#: Users that are judged, at most and at least.
MOST_USERS, FEWEST_USERS = 2000, 50
#: Users that are ranked at a time.
ROWS = 256
#: Share of the live lists' NDCG@50 that the candidate must reach.
TOLERATED = 0.95
#: Share of the log's lines that may be malformed.
MOST_MALFORMED = 0.05


def decide(store: Storage, log_date: date, world: Path, settings: Settings, live_log_date: date | None = None) -> dict[str, Any]:
    """Judge the candidate of a night and write the gate's decision.

    Args:
        live_log_date: log date of the version that is live; its lists are the second bar.
    """
    data = load_interactions(store, log_date, world)
    seed = night_seed(settings.seed, log_date)
    users, past, held_out = _held_out(data, log_date, seed)
    outcome: dict[str, Any] = {"passed": False, "reasons": [], "metrics": {}, "users": len(users)}
    malformed = _malformed_share(store, log_date)
    if malformed > MOST_MALFORMED:
        outcome["reasons"] = [f"{malformed:.1%} of the log's lines are no valid records; at most {MOST_MALFORMED:.0%} may be."]
    elif len(users) < FEWEST_USERS:
        outcome["reasons"] = [f"Only {len(users)} users liked something new on {log_date}; {FEWEST_USERS} are needed to judge."]
    else:
        model = create(settings.model)
        try:
            model.load(store.local(f"models/date={log_date}"))
            candidate = _rank(model, past)
        except RecsysError as error:
            outcome["reasons"] = [f"The model cannot be used: {error}."]
        else:
            judged = _judge(data, log_date, past, held_out, candidate, seed, label(settings.model))
            lists, _ = best(model, past, LIST_LENGTH)
            outcome |= {"reasons": _broken(judged, lists, past.shape[1]), "metrics": judged}
        if not outcome["reasons"]:
            judged |= _of_lists(store, log_date, world, data, users, lists, seed)
            live = _live_lists(store, live_log_date, data.users[users])
            if live is not None:
                judged["live"] = _against_live(data, log_date, users, lists, live, seed)
            outcome |= _verdict(judged)
    with store.stage(f"gates/date={log_date}") as staging:
        (staging / "gate.json").write_text(json.dumps(outcome, indent=1, sort_keys=True))
    log.info("gate %s: %s", "passed" if outcome["passed"] else "refused", " ".join(outcome["reasons"]))
    return outcome


def _held_out(data: Interactions, log_date: date, seed: int) -> tuple[Ids, Any, list[Ids]]:
    """Rows of judged users, their history before D, and what they liked on D for the first time."""
    before = data.before(log_date)
    past, present = data.matrix(before), data.matrix(~before)
    new = present - present.multiply(past)
    new.eliminate_zeros()
    new.sort_indices()
    eligible = np.flatnonzero((np.diff(new.indptr) > 0) & (np.diff(past.indptr) > 0))
    users = np.sort(np.random.default_rng([seed, 2]).permutation(eligible)[:MOST_USERS])
    wanted = [new.indices[new.indptr[u] : new.indptr[u + 1]] for u in users]
    return users, past[users], wanted


@dataclass(frozen=True)
class _Ranked:
    """A model's best 100 new tracks of each user, [users, 100]; whether its scores are numbers, and the fewest it scores."""

    tracks: Ids
    finite: bool
    fewest: int


def _rank(model: Recommender, past: Any) -> _Ranked:
    """Rank some users at a time: the scores of all would fill the memory where there are many tracks.

    Raises:
        CorruptDataError: the model ranks another catalogue.
    """
    parts, finite, fewest = [], True, past.shape[1]
    for start in range(0, past.shape[0], ROWS):
        rows = past[start : start + ROWS]
        scores = model.score(rows)
        if scores.shape != rows.shape:
            ranks = f"it ranks {scores.shape[-1]} tracks, but the catalogue has {rows.shape[1]}"
            raise CorruptDataError(f"its scores have shape {scores.shape}, not {rows.shape}: {ranks}")
        ranked = np.isfinite(scores)
        finite = finite and bool(ranked.any(axis=1).all() and not np.isnan(scores).any())
        fewest = min(fewest, int(ranked.sum(axis=1).min()))
        fresh = np.nan_to_num(scores, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
        fresh[np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr)), rows.indices] = -np.inf
        parts.append(top_k(fresh, 100))
    return _Ranked(np.concatenate(parts), finite, fewest)


def _judge(
    data: Interactions, log_date: date, past: Any, held_out: list[Ids], candidate: _Ranked, seed: int, name: str
) -> dict[str, Any]:
    """NDCG@100, Recall@20 and Recall@50 of the candidate and its baselines, and the interval of the gain over popularity."""
    history = data.matrix(data.before(log_date))
    baselines: dict[str, Recommender] = {"popularity": Popularity(), "ease": Ease()}
    lists = {}
    for baseline, model in baselines.items():
        model.fit(history, seed=seed, work=Path())
        lists[baseline] = _rank(model, past).tracks
    lists[name] = candidate.tracks
    sizes = np.array([len(wanted) for wanted in held_out])
    metrics: dict[str, Any] = {}
    ndcg: dict[str, npt.NDArray[np.float64]] = {}
    for key, ranked in lists.items():
        found = hits(ranked, held_out, past.shape[1])
        ndcg[key] = ndcg_at_k(found, sizes, 100)
        metrics[key] = {
            "ndcg_100": round(float(ndcg[key].mean()), 6),
            "ndcg_100_interval": bootstrap_interval(ndcg[key], seed),
            "ndcg_100_by_activity": by_activity(ndcg[key], np.diff(past.indptr)),
            "recall_20": round(float(recall_at_k(found, sizes, 20).mean()), 6),
            "recall_50": round(float(recall_at_k(found, sizes, 50).mean()), 6),
            "coverage_100": round(coverage(ranked, past.shape[1]), 6),
            "artist_spread_100": round(artist_spread(ranked, data.artist_of), 6),
        }
    gain = bootstrap_interval(ndcg[name] - ndcg["popularity"], seed)
    return {
        "candidate": name, "models": metrics, "finite": candidate.finite, "fewest_ranked": candidate.fewest, "gain": gain,
    }  # fmt: skip


def _malformed_share(store: Storage, log_date: date) -> float:
    counts = store.read_json(f"interactions/date={log_date}", "inputs.json").get("counts", {})
    return float(counts["malformed"] / max(1, counts["lines"])) if counts else 0.0


def _of_lists(
    store: Storage, log_date: date, world: Path, data: Interactions, users: Ids, lists: Ids, seed: int
) -> dict[str, Any]:  # fmt: skip
    """What D's logs say the candidate's lists would have earned (off-policy); nothing if the plays were not kept."""
    if not data.plays_checksum:
        return {}
    plays = load_plays(store, log_date, world)
    plays = plays.chosen((plays.day == np.datetime64(log_date)) & np.isin(plays.row, users))
    everyone = np.full((len(data.users), LIST_LENGTH), -1, np.int64)
    everyone[users, : lists.shape[1]] = lists
    estimate = of_lists(plays, everyone, seed)
    told = {name: None if np.isnan(value) else round(value, 4) for name, value in asdict(estimate).items()}
    return {"off_policy": {**told, "reliable": estimate.reliable}}


def _live_lists(store: Storage, live_log_date: date | None, users: Ids) -> Ids | None:
    """The live version's lists of the given users, -1 where a user has none."""
    if live_log_date is None:
        return None
    row_of = {int(user): row for row, user in enumerate(users)}
    lists = np.full((len(users), LIST_LENGTH), -1, dtype=np.int64)
    path = store.local(f"recommendations/date={live_log_date}") / "recommendations.json"
    with path.open("rb") as file:
        for line in file:
            record = orjson.loads(line)
            row = row_of.get(record["user"])
            if row is not None:
                lists[row] = record["tracks"][:LIST_LENGTH]
    return lists


def _against_live(data: Interactions, log_date: date, users: Ids, lists: Ids, live: Ids, seed: int) -> dict[str, Any]:
    """NDCG@50 of both lists on everything liked on D, and the interval of candidate minus the tolerated share of live."""
    present = data.matrix(~data.before(log_date))[users]
    wanted = np.split(present.indices, present.indptr[1:-1])
    sizes = np.diff(present.indptr)
    ours = ndcg_at_k(hits(lists, wanted, present.shape[1]), sizes, LIST_LENGTH)
    theirs = ndcg_at_k(hits(live, wanted, present.shape[1]), sizes, LIST_LENGTH)
    return {
        "ndcg_50": round(float(ours.mean()), 6),
        "live_ndcg_50": round(float(theirs.mean()), 6),
        "difference": bootstrap_interval(ours - TOLERATED * theirs, seed),
    }


def _broken(judged: dict[str, Any], lists: Ids, tracks: int) -> list[str]:
    """Why the candidate's lists cannot be served at all."""
    found = []
    if not judged["finite"]:
        found.append("The model gives scores that are not numbers.")
    fewest = min(judged["fewest_ranked"], lists.shape[1])
    if fewest < LIST_LENGTH:
        found.append(f"The model ranks only {fewest} tracks for some user; lists have {LIST_LENGTH}.")
    unknown = (lists < 0) | (lists >= tracks)
    if unknown.any():
        found.append(f"The model's lists hold track {lists[unknown][0]}, which is not in the catalogue of {tracks}.")
    if (np.diff(np.sort(lists, axis=1), axis=1) == 0).any():
        found.append("The model's lists hold a track twice.")
    return found


def _verdict(judged: dict[str, Any]) -> dict[str, Any]:
    """Rules in order; the first sentence of a refusal names the rule that failed."""
    models, (low, high) = judged["models"], judged["gain"]
    refusals, notes = [], []
    sentence = (
        f"NDCG@100 on the held-out date is {models[judged['candidate']]['ndcg_100']:.4f}, "
        f"that of popularity {models['popularity']['ndcg_100']:.4f} (gain {low:+.4f} to {high:+.4f}, 95 %)"
    )
    if low > 0:
        notes.append(f"{sentence}: better.")
    else:
        refusals.append(f"{sentence}: not surely better.")
    if "live" in judged:
        live = judged["live"]
        text = f"NDCG@50 of the lists is {live['ndcg_50']:.4f}, that of the live lists {live['live_ndcg_50']:.4f}"
        if live["difference"][1] < 0:
            refusals.append(f"{text}: surely below {TOLERATED:.0%} of it.")
        else:
            notes.append(f"{text}: not surely below {TOLERATED:.0%} of it.")
    return {"passed": not refusals, "reasons": refusals or notes, "metrics": judged}
