"""``python -m benchmarks.off_policy [--world DIR] [--sessions N] [--played N] [--seed N]``: effects, predicted and simulated.

In goes a world; out comes a table of 20 candidate policies. Half of the exploratory sessions, of one log date, train them; the
other half, of the next date, tells what :mod:`recsys.learn.prediction` says about their effect on mean session time against the
contextual control, and what SNIPS says about time an answer. Then listeners play each one: the same sessions for every policy.
"""

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.measure import surroundings
from recsys.exceptions import RecsysError
from recsys.learn.fatigue import Discount
from recsys.learn.interactions import Interactions, load_interactions
from recsys.learn.off_policy import snips
from recsys.learn.plays import Plays, load_plays
from recsys.learn.prediction import Policy, Predictor, effect
from recsys.models import same_artist, same_session
from recsys.models.base import Recommender, create
from recsys.models.neighbours import Neighbours
from recsys.models.offer import Offer
from recsys.models.response import Response
from recsys.night.catalogue import tracks_of
from recsys.night.night import Night
from recsys.night.recommend import ranked, top_tracks
from recsys.schemas import LIST_LENGTH
from recsys.score.logs import publish_interactions
from recsys.settings import load_settings
from recsys.simulate.listeners import Listeners, load_listeners
from recsys.simulate.play import Plays as Latest
from recsys.simulate.recording import Explorer, record
from recsys.simulate.run import run_in_process

DAY = date(2026, 1, 3)
SEED, PLAYED = 31337, 20_261_125
CONTROL = "C: neighbours"
Ids = npt.NDArray[np.int64]


class Candidates:
    """20 policies and the control, made from what was logged before D."""

    def __init__(self, data: Interactions, plays: Plays, seed: int, work: Path) -> None:
        self._data, self._plays, self._seed, self._work = data, plays, seed, work
        self._past, self.available = data.matrix(data.before(DAY)), plays.available
        self.top = top_tracks(self._past, self.available)

    def all(self) -> dict[str, Policy]:
        """Policies by name."""
        rng, users, tracks = np.random.default_rng(self._seed), len(self._data.users), len(self.available)
        near = Neighbours()
        near.fit(self._past, seed=self._seed)
        before = self._plays.before(DAY)
        found = {
            CONTROL: contextual(near.table(self.top, self.available)),
            "TOP 100, any of them": Policy(np.broadcast_to(self.top, (users, len(self.top))), ordered=False),
            "same artist": contextual(same_artist.table(self._data.artist_of, self.available, seed=self._seed)),
            "heard in the same sessions": contextual(same_session.table(before)),
        }
        dae, response = self._fitted("dae"), create("response")
        response.fit(self._past, seed=self._seed, work=self._work / "response", plays=before)
        lists = {
            "autoencoder": self._lists(dae),
            "autoencoder, artists spread": self._lists(dae, Discount(1.0, 0.0, 0.8)),
            "autoencoder, 2 epochs": self._lists(self._fitted("dae", epochs=2)),
            "autoencoder, no noise": self._lists(self._fitted("dae", dropout=0.0)),
            "EASE, 4,000 tracks": self._lists(self._fitted("ease", most=4000)),
            "EASE, 1,000 tracks": self._lists(self._fitted("ease", most=1000)),
            "popularity": self._lists(self._fitted("popularity")),
            "response model": self._lists(response),
            "T1: autoencoder, re-ranked": self._lists(dae, response=response),
            "random lists": rng.integers(0, tracks, (users, LIST_LENGTH)),
        }
        best, plain = lists["T1: autoencoder, re-ranked"], lists["autoencoder"]
        lists["T1, shuffled"] = rng.permuted(best, axis=1)
        lists["T1, last track first"] = best[:, ::-1].copy()
        by_turns = np.stack([best, lists["EASE, 4,000 tracks"]], axis=2).reshape(users, -1)
        lists["T1 and EASE by turns"] = by_turns[:, :LIST_LENGTH]
        lists["autoencoder, of other users"] = plain[rng.permutation(users)]
        for name, of, share in (("T1", best, 0.3), ("T1", best, 0.7), ("autoencoder", plain, 0.5)):
            drawn = rng.random(of.shape) < share
            lists[f"{name}, {share:.0%} random"] = np.where(drawn, lists["random lists"], of)
        return found | {name: Policy(table) for name, table in lists.items()}

    def _fitted(self, name: str, **arguments: Any) -> Recommender:
        work = self._work / f"{name}-{len(list(self._work.iterdir()))}"
        work.mkdir()
        model = create(name, **arguments)
        model.fit(self._past, seed=self._seed, work=work)
        return model

    def _lists(self, model: Recommender, discount: Discount | None = None, response: Any = None) -> Ids:
        offer, discount = Offer(self.available, True), discount or Discount()
        assert response is None or isinstance(response, Response)
        return np.concatenate([part for _, part in ranked(model, self._past, discount, response, self._data.artist_of, offer)])


def contextual(table: npt.NDArray[np.uint32]) -> Policy:
    """The policy that answers with any unplayed neighbour of the last track."""
    return Policy(np.where(table == np.arange(len(table))[:, None], -1, table.astype(np.int64)), "previous", ordered=False)


class Played:
    """Answers listeners as the service would, many at a time, and adds up the time of each session."""

    def __init__(self, policy: Policy, users: Ids, top: Ids, sessions: int, seed: int) -> None:
        self._policy, self._users, self._top = policy, users, top
        self._rng = np.random.default_rng(seed)
        self._heard = np.full((sessions, 16), -1, np.int64)
        self.time, self.user = np.zeros(sessions), np.zeros(sessions, np.int64)

    def next(self, plays: Latest) -> Ids:
        """The first unplayed candidate, or any of them, or else one of the TOP 100."""
        self.last(plays)
        longest = int(plays.step.max()) + 1
        if longest > self._heard.shape[1]:
            self._heard = np.concatenate([self._heard, np.full_like(self._heard, -1)], axis=1)
        self._heard[plays.episode, plays.step] = plays.track
        candidates = self._policy.candidates(np.searchsorted(self._users, plays.user), plays.track)
        left = candidates >= 0
        heard = self._heard[plays.episode, :longest]
        for step in range(longest):
            left &= candidates != heard[:, step, None]
        place = left.argmax(axis=1) if self._policy.ordered else np.where(left, self._rng.random(left.shape), -1.0).argmax(axis=1)
        answer: Ids = np.take_along_axis(candidates, place[:, None], axis=1)[:, 0]
        lacking = ~left.any(axis=1)
        answer[lacking] = self._top[self._rng.integers(0, len(self._top), int(lacking.sum()))]
        return answer

    def last(self, plays: Latest) -> None:
        """A play."""
        self.time[plays.episode] += plays.time / 100
        self.user[plays.episode] = plays.user


def simulated(listeners: Listeners, policy: Policy, users: Ids, top: Ids, sessions: int) -> npt.NDArray[np.float64]:
    """The time of each session."""
    played = Played(policy, users, top, sessions, PLAYED)
    run_in_process(listeners, played, episodes=sessions, seed=PLAYED, progress=False)
    return played.time


def agreement(plays: Plays, policy: Policy) -> npt.NDArray[np.float64]:
    """The probability with which a policy gives each play's track, by what stood in the session before; 0 for first tracks."""
    found, heard = np.zeros(len(plays.row)), np.full(0, -1)
    chosen = np.flatnonzero(plays.step > 0)
    candidates = policy.candidates(plays.row[chosen], plays.track[chosen - 1])
    for place in np.flatnonzero((candidates == plays.track[chosen, None]).any(axis=1)):
        play = chosen[place]
        heard = plays.track[play - plays.step[play] : play]
        left = candidates[place][(candidates[place] >= 0) & ~np.isin(candidates[place], heard)]
        if plays.track[play] in (left[:1] if policy.ordered else left):
            found[play] = 1.0 if policy.ordered else 1 / len(left)
    return found


def measure(world: Path, scratch: Path, sessions: int, played: int, seed: int) -> dict[str, Any]:
    """Rows by policy, and what became of all together."""
    from scipy.stats import binom, spearmanr

    listeners = load_listeners(world)
    night = Night(DAY, load_settings(var=scratch / "var", world=world, model="dae"))
    logged = record(listeners, Explorer(listeners, seed), sessions, seed, [DAY - timedelta(days=1), DAY])
    catalogue = tracks_of(night)
    publish_interactions(night.store, DAY, logged)
    data, plays = load_interactions(night.store, DAY, catalogue), load_plays(night.store, DAY, catalogue)
    (scratch / "work" / "response").mkdir(parents=True)
    candidates = Candidates(data, plays, seed, scratch / "work")
    policies = candidates.all()
    began = time.perf_counter()
    judged = plays.day == np.datetime64(DAY)
    predictor = Predictor(plays, judged, night.seed)
    told = {name: predictor.session(policy) for name, policy in policies.items()}
    seconds = time.perf_counter() - began
    test = plays.chosen(judged)
    logged_chance = test.propensity > 0
    times = {name: simulated(listeners, each, data.users, candidates.top, played) for name, each in policies.items()}
    control, rows = times[CONTROL], {}
    for name, policy in policies.items():
        if name == CONTROL:
            continue
        own = times[name]
        truth = float(own.mean() / control.mean() - 1)
        noise = 1.96 * float((own / own.mean() - control / control.mean()).std()) / len(own) ** 0.5 * (1 + truth)
        guess, low, high = effect(told[name], told[CONTROL])
        chance = agreement(test, policy)[logged_chance]
        other = snips(test.time[logged_chance] / 100, test.propensity[logged_chance], chance, test.row[logged_chance], seed)
        rows[name] = {
            "time": round(float(own.mean()), 3),
            "effect": round(truth, 4),
            "effect_half_width": round(noise, 4),
            "predicted": [round(value, 4) for value in (guess, low, high)],
            "covers": low <= truth <= high,
            "answers": told[name].answers,
            "snips": [round(other.time, 4), round(other.low, 4), round(other.high, 4), round(other.effective, 1)],
        }
    truths = [row["effect"] for row in rows.values()]
    known = [row for row in rows.values() if np.isfinite(row["snips"][0])]
    covered = sum(row["covers"] for row in rows.values())
    return {
        "policies": rows,
        "control_time": round(float(control.mean()), 3),
        "spearman": round(float(spearmanr(truths, [row["predicted"][0] for row in rows.values()])[0]), 3),
        "spearman_snips": round(float(spearmanr([row["effect"] for row in known], [row["snips"][0] for row in known])[0]), 3),
        "policies_with_snips": len(known),
        "covered": covered,
        "band": [int(edge) for edge in binom.interval(0.95, len(rows), 0.95)],
        "seconds": round(seconds, 1),
    }


def show(result: dict[str, Any]) -> str:
    """The table."""
    lines = [
        "| policy | session time | simulated effect | predicted effect | answers | SNIPS: time an answer | effective |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in sorted(result["policies"].items(), key=lambda item: item[1]["effect"]):
        guess, low, high = (f"{100 * value:+.0f}" for value in row["predicted"])
        truth = f"{100 * row['effect']:+.0f} ± {100 * row['effect_half_width']:.1f} %"
        time_, least, most, effective = row["snips"]
        other = f"{time_:.2f} ({least:.2f} to {most:.2f})" if np.isfinite(time_) else "–"
        told = f"{guess} % ({low} to {high}{'' if row['covers'] else ', misses'})"
        lines.append(f"| {name} | {row['time']:.2f} | {truth} | {told} | {row['answers']:,} | {other} | {effective:.0f} |")
    covered = (
        f"{result['covered']} of {len(result['policies'])} intervals cover ({result['band'][0]} to {result['band'][1]} expected)"
    )
    lines.append(
        f"\nSpearman's correlation: predicted {result['spearman']}, SNIPS {result['spearman_snips']} of the "
        f"{result['policies_with_snips']} policies that it says anything about; {covered}; predicted in {result['seconds']} s."
    )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns the exit status."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        with surroundings(arguments.world, quick=False) as around:
            result = measure(around.world, around.scratch, arguments.sessions, arguments.played, arguments.seed)
    except RecsysError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return error.exit_code
    print(show(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.off_policy", description="Predicted and simulated effects of policies."
    )
    parser.add_argument("--world", type=Path, metavar="DIR", help="world directory; default RECSYS_WORLD, or a generated one")
    parser.add_argument("--sessions", type=int, default=100_000, metavar="N", help="exploratory sessions, of two log dates")
    parser.add_argument("--played", type=int, default=50_000, metavar="N", help="sessions that each policy plays")
    parser.add_argument("--seed", type=int, default=SEED, metavar="N", help="of the logs and of the policies")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
