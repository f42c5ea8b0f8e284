"""``python -m benchmarks.quality [--world DIR] [--sessions N] [--nights N] [--json PATH]``: what each arm is worth to listeners.

In goes a world; out come two tables and JSON. Exploratory sessions (an unplayed track uniformly at random) are played in process
and become ``interactions/date=D``; the night's own steps train and recommend; then each arm plays sessions through the service's
own choices. The second table compares models on one held-out split of the same logs.
"""

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from benchmarks.measure import surroundings
from benchmarks.sessions import Explorer, Logged, Served, publish_interactions, record, session_times
from recsys import keyspace, publish
from recsys.exceptions import RecsysError
from recsys.recommend import recommend
from recsys.schemas import Arm
from recsys.service.state import Version
from recsys.settings import load_settings
from recsys.simulate.listeners import load_listeners
from recsys.storage import Storage
from recsys.train import train

DAY = date(2026, 1, 2)
SEED = 31337
#: Seed of the sessions that arms are compared on: the same listeners for every arm, none of whom is in the logs.
PLAYED = 77


class Live:
    """A version as a worker holds it, and each user's list, read from ``recommendations/date=D``."""

    def __init__(self, directory: Path) -> None:
        content = publish.read_directory(directory)
        top, near = tuple(keyspace.unpack(content.top)), keyspace.unpack(content.neighbours)
        self.version = Version.named("quality", top, near, content.sessions)
        self.lists = {user: keyspace.unpack(packed) for user, packed in content.lists.items()}


def learn(world: Path, logged: Sequence[Logged], log_date: date, var: Path, model: str = "dae") -> tuple[Live, dict[str, Any]]:
    """Train and recommend for a date as a night does; gives what would be live, and the model's card."""
    settings = load_settings(var=var / model, world=world, session_arm=True, model=model)
    store = Storage(settings.storage_url)
    # A night trains up to the day before: the date itself is one more, empty day.
    publish_interactions(store, log_date, logged)
    train(store, log_date, world, settings)
    recommend(store, log_date, world, settings)
    return Live(store.local(f"recommendations/date={log_date}")), store.read_json(f"models/date={log_date}", "card.json")


def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns the exit status."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        with surroundings(arguments.world, quick=False) as bench, tempfile.TemporaryDirectory(dir=bench.scratch) as var:
            result = measure(bench.world, arguments.sessions, arguments.arm_sessions, Path(var))
    except RecsysError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return error.exit_code
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def measure(world: Path, sessions: int, arm_sessions: int, var: Path) -> dict[str, Any]:
    """The table of arms."""
    listeners = load_listeners(world)
    began = time.perf_counter()
    logged = record(listeners, Explorer(listeners, SEED), sessions, SEED, [DAY - timedelta(days=1)])
    print(f"{sessions:,} exploratory sessions in {time.perf_counter() - began:.1f} s", flush=True)
    live, card = learn(world, logged, DAY, var)
    print(json.dumps(card["models"]), json.dumps(card["timing"]), flush=True)
    rows: dict[str, Any] = {}
    arms = {"TOP 100": Arm("A", "top100"), "C": Arm("C", "contextual"), "T1": Arm("T1", "dae"), "T2": Arm("T2", "session")}
    for name, arm in arms.items():
        mean, half, steps = session_times(listeners, Served(listeners, arm, live.version, live.lists, SEED), arm_sessions, PLAYED)
        rows[name] = {"time": mean, "half_width": half, "steps": steps}
        print(f"{name:<12}{mean:>8.3f} ± {half:.3f}{steps:>8.2f}", flush=True)
    return {"sessions": sessions, "arm_sessions": arm_sessions, "arms": rows}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.quality", description="What each arm is worth to listeners.")
    parser.add_argument("--world", type=Path, metavar="DIR", help="world directory; default RECSYS_WORLD, or a generated one")
    parser.add_argument("--sessions", type=int, default=1_000_000, metavar="N", help="exploratory sessions to learn from")
    parser.add_argument("--arm-sessions", type=int, default=20_000, metavar="N", help="sessions that each arm plays")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
