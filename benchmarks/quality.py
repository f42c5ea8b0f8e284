"""``python -m benchmarks.quality [--world DIR] [--sessions N] [--nights N] [--split] [--json PATH]``: what each arm is worth.

In goes a world; out come tables and JSON. Exploratory sessions (an unplayed track uniformly at random) are played in process and
become ``interactions/date=D``; the night's own steps train and recommend; then each arm plays sessions through the service's own
choices. ``--nights`` goes on with traffic that is served by what is live, and compares with as many exploratory sessions.
``--split`` compares models on one held-out split of the same logs.
"""

import argparse
import json
import logging
import sys
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.histories import explored_history, held_out_table
from benchmarks.measure import surroundings
from recsys.exceptions import RecsysError
from recsys.experiments import Arm
from recsys.learn.fatigue import Discount
from recsys.learn.interactions import Interactions, load_interactions
from recsys.learn.plays import load_plays
from recsys.models import same_artist, same_session
from recsys.models.base import Recommender, create
from recsys.models.offer import Offer
from recsys.night.catalogue import tracks_of
from recsys.night.night import Night
from recsys.night.recommend import artist_discount, ranked, recommend
from recsys.night.train import train
from recsys.schemas import Card
from recsys.score.logs import publish_interactions
from recsys.score.served import Served
from recsys.service.state import Version
from recsys.settings import load_settings
from recsys.simulate.listeners import Listeners, load_listeners
from recsys.simulate.oracle import Oracle
from recsys.simulate.play import Recommender as Policy
from recsys.simulate.recording import Explorer, Logged, record
from recsys.simulate.run import run_in_process
from recsys.versions import keyspace
from recsys.versions.content import read_directory

DAY = date(2026, 1, 3)
SEED = 31337
#: Seed of the sessions that arms are compared on: the same listeners for every arm, none of which is in the logs.
PLAYED = 20_261_125
#: Sessions of a served night and its share of random answers.
NIGHT_SESSIONS, EXPLORATION = 100_000, 0.1


@dataclass(frozen=True)
class Learned:
    """What a night made of logs: the version as a worker holds it, each user's entry, the model's directory, the data."""

    night: Night
    version: Version
    lists: dict[int, array]
    models: Path
    data: Interactions
    card: Card
    discount: Discount


class Bench:
    """One world, its listeners and a store of nights."""

    def __init__(self, world: Path, var: Path, arm_sessions: int) -> None:
        self.world, self.var, self.arm_sessions = world, var, arm_sessions
        self.listeners: Listeners = load_listeners(world)
        self.tracks = self.listeners.catalogue.size
        self.rows: dict[str, Any] = {}

    def learn(self, logged: Sequence[Logged], log_date: date, model: str = "dae") -> Learned:
        """Train and recommend as a night does, on everything logged before ``log_date``."""
        night = Night(log_date, load_settings(var=self.var, world=self.world, session_arm=True, model=model))
        store = night.store
        began = time.perf_counter()
        publish_interactions(store, log_date, logged)
        train(night)
        recommend(night)
        card = Card.read(store, log_date)
        shown = {"seconds": round(time.perf_counter() - began, 1), "models": card.models, "timing": card.timing}
        print(f"trained for {log_date}: {json.dumps(shown)}", flush=True)
        content = read_directory(store.local(night.recommendations))
        near = keyspace.unpack(content.neighbours)
        version = Version.named("quality", tuple(keyspace.unpack(content.top)), near, content.sessions)
        lists = {user: keyspace.unpack(packed) for user, packed in content.lists.items()}
        catalogue = tracks_of(night)
        data = load_interactions(store, log_date, catalogue)
        models = store.local(night.models)
        fitted = create(model)
        fitted.load(models)
        last = max(part.day for part in logged)
        discount = artist_discount(night, data, catalogue, fitted, of=last)
        return Learned(night, version, lists, models, data, card, discount)

    def lists_of(self, model: Recommender, learned: Learned, discount: Discount) -> dict[int, array]:
        """Every user's list by a model alone."""
        found: dict[int, array] = {}
        everything = Offer(np.ones(len(learned.data.artist_of), bool))
        for start, lists in ranked(model, learned.data.matrix(), discount, None, learned.data.artist_of, everything):
            users = learned.data.users[start : start + len(lists)].tolist()
            found.update({user: array("I", row) for user, row in zip(users, lists.tolist(), strict=True)})
        return found

    def play(self, name: str, policy: Policy) -> None:
        """One line of the table."""
        found = run_in_process(self.listeners, policy, episodes=self.arm_sessions, seed=PLAYED, progress=False)
        half = 1.96 * found.se_time
        self.rows[name] = {"time": round(found.mean_time, 4), "half_width": round(half, 4), "steps": round(found.mean_steps, 3)}
        print(f"{name:<44}{found.mean_time:>8.3f} ± {half:.3f}{found.mean_steps:>8.2f}", flush=True)

    def play_arm(self, name: str, recommender: Any, learned: Learned, lists: dict[int, array] | None = None) -> None:
        """One arm, through the service's own choices."""
        arm = Arm("A", recommender)
        self.play(name, Served(self.tracks, arm, learned.version, learned.lists if lists is None else lists, SEED))

    def play_control(self, name: str, learned: Learned, neighbours: npt.NDArray[np.uint32]) -> None:
        """The contextual arm, with other neighbours."""
        version = replace(learned.version, neighbours=keyspace.unpack(neighbours.astype("<u4").tobytes()))
        self.play_arm(name, "contextual", replace(learned, version=version))

    def arms(self, learned: Learned) -> None:
        """The arms and the baselines."""
        night, catalogue = learned.night, tracks_of(learned.night)
        plays = load_plays(night.store, night.log_date, catalogue)
        self.play_arm("TOP 100", "top100", learned)
        self.play_arm("C: neighbours", "contextual", learned)
        of_artist = same_artist.table(catalogue.artist_of, catalogue.available, seed=night.seed)
        self.play_control("C: the same artist (StickyArtist)", learned, of_artist)
        self.play_control("C: heard in the same sessions", learned, same_session.table(plays))
        history = learned.data.matrix()
        few = create("ease", most=4000)
        for name, model in {"popularity": create("popularity"), "ease": create("ease"), "ease, 4,000 tracks": few}.items():
            model.fit(history, seed=SEED, work=self.var)
            self.play_arm(f"{name}, list", "dae", learned, self.lists_of(model, learned, Discount()))
        dae = create("dae")
        dae.load(learned.models)
        self.play_arm("dae, list", "dae", learned, self.lists_of(dae, learned, Discount()))
        self.play_arm("dae, list, artists spread", "dae", learned, self.lists_of(dae, learned, learned.discount))
        self.play_arm("T1: dae re-ranked by the response model", "dae", learned)
        self.play_arm("T2: session-aware", "session", learned)
        self.play("oracle (knows the world)", Oracle(self.listeners, PLAYED, self.arm_sessions))

    def nights(self, logged: list[Logged], count: int, sessions: int) -> None:
        """Nights served by what is live, and as many exploratory sessions instead."""
        served, live = list(logged), None
        for night in range(count):
            day = DAY + timedelta(days=night)
            # The lists behind T2 do not depend on T1's model: the quickest one will do until the last night.
            live = self.learn(served, day, "popularity")
            arm = Arm("L", "session")
            policy = Served(self.tracks, arm, live.version, live.lists, SEED + night, EXPLORATION)
            served += record(self.listeners, policy, sessions, SEED + 1 + night, [day])
        last = DAY + timedelta(days=count)
        learned = self.learn(served, last)
        self.play_arm(f"T1 after {count} served nights", "dae", learned)
        self.play_arm(f"T2 after {count} served nights", "session", learned)
        explored = list(logged)
        for night in range(count):
            explorer = Explorer(self.listeners, SEED + 100 + night)
            explored += record(self.listeners, explorer, sessions, SEED + 1 + night, [DAY + timedelta(days=night)])
        learned = self.learn(explored, last)
        self.play_arm(f"T1 after {count} exploratory nights", "dae", learned)
        self.play_arm(f"T2 after {count} exploratory nights", "session", learned)


def measure(bench: Bench, sessions: int, nights: int, night_sessions: int, split: bool) -> dict[str, Any]:
    """The tables."""
    result: dict[str, Any] = {"world": bench.world.name, "sessions": sessions, "arm_sessions": bench.arm_sessions}
    if split:
        # The split of ``python -m benchmarks train``.
        return result | {"split": held_out_table(explored_history(bench.world, sessions), bench.var)}
    began = time.perf_counter()
    days = [DAY - timedelta(days=2), DAY - timedelta(days=1)]
    logged = record(bench.listeners, Explorer(bench.listeners, SEED), sessions, SEED, days)
    print(f"{sessions:,} exploratory sessions in {time.perf_counter() - began:.1f} s", flush=True)
    print(f"{'arm':<44}{'session time':>16}{'steps':>9}")
    bench.arms(bench.learn(logged, DAY))
    if nights:
        bench.nights(logged, nights, night_sessions)
    return result | {"arms": bench.rows}


def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns the exit status."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        with surroundings(arguments.world, quick=False) as around:
            bench = Bench(around.world, around.scratch / "var", arguments.arm_sessions)
            result = measure(bench, arguments.sessions, arguments.nights, arguments.night_sessions, arguments.split)
    except RecsysError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return error.exit_code
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.quality", description="What each arm is worth to listeners.")
    parser.add_argument("--world", type=Path, metavar="DIR", help="world directory; default RECSYS_WORLD, or a generated one")
    parser.add_argument("--sessions", type=int, default=1_000_000, metavar="N", help="exploratory sessions to learn from")
    parser.add_argument("--arm-sessions", type=int, default=20_000, metavar="N", help="sessions that each arm plays")
    parser.add_argument("--nights", type=int, default=0, metavar="N", help="nights of served traffic after that")
    parser.add_argument("--night-sessions", type=int, default=NIGHT_SESSIONS, metavar="N", help="sessions of such a night")
    parser.add_argument("--split", action="store_true", help="the table of held-out metrics instead of arms")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
