"""``python -m benchmarks.newcomers [PART …] [--world DIR] [--quick] [--json PATH]``: listeners whom no list knows.

In go a world and a number of exploratory sessions; out come tables and JSON, one for each part:

* ``rate``: requests/s of unknown users against those of as many known ones, in turns, as a run's and as live listeners.
* ``sessions``: how long newcomers stay with each way of answering them. The last fifth of the world's listeners is in no log and
  has no list; a night learns from exploratory sessions of the others, then the newcomers play against the service over HTTP.
* ``memory``: how long the service takes to start, and what it holds, where Redis has lists of few users and of many.
"""

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import redis

from benchmarks import quality
from benchmarks.content import DAY, SEED, open_run, prepare
from benchmarks.load import drive
from benchmarks.measure import Bench, median, surroundings
from benchmarks.processes import nightshift, valkey
from benchmarks.service import CONNECTIONS, WARM_UP
from recsys import catalog
from recsys.exceptions import InvalidInputError, RecsysError
from recsys.experiments import Arm, Experiment, Recommender, RunSpec
from recsys.night.night import Night
from recsys.schemas import NEIGHBOURS, TOP_LENGTH
from recsys.settings import load_settings
from recsys.simulate.listeners import load_listeners
from recsys.simulate.recording import Explorer, record
from recsys.simulate.run import run_shard
from recsys.versions import pointer, publish, runs
from recsys.versions.content import Content, read_directory
from recsys.versions.functions import LIBRARY

#: Ways of answering newcomers, by the recommender of an arm; that of lists finds none, and the service answers as it likes best.
WAYS: dict[str, Recommender] = {"TOP 100": "top100", "neighbours": "contextual", "T2": "session", "auto": "dae"}
PARTS = ("rate", "sessions", "memory")
#: Users who ask, of either kind.
ASKING = 10_000
#: Share of the listeners who are newcomers.
NEW = 0.2
#: Tracks of a list where only the number of lists matters.
SHORT = 5
MIB = 2**20
BATCH = 256


def measure_rate(bench: Bench) -> dict[str, Any]:
    """Requests/s of unknown users and of known ones, and their ratio, for a run's listeners and live ones."""
    rounds, seconds = (2, 2.0) if bench.quick else (5, 8.0)
    users, tracks = len(catalog.load_users(bench.world)), catalog.load_tracks(bench.world).size
    files, asking, found = prepare(bench), min(users, ASKING), {}
    with valkey(bench.scratch, durable=True) as redis_url:
        run = open_run(bench, files, redis_url)
        with redis.Redis.from_url(redis_url) as client:
            pointer.make_live(client, read_directory(files).version(DAY), who="benchmark", why="a benchmark")
        with nightshift(bench.scratch, bench.world, redis_url) as (url, _):
            for who, run_id in (("run", run), ("live", None)):
                sides = {"known": 0, "unknown": users}
                loads: dict[str, list[float]] = {side: [] for side in sides}
                errors = 0
                for turn in range(-1, rounds):
                    for side, first in sides.items():
                        load = drive(url, CONNECTIONS, WARM_UP if turn < 0 else seconds, asking, tracks, run_id, first)
                        errors += load.errors
                        if turn >= 0:
                            loads[side].append(load.rate)
                known, unknown = (median(rates) for rates in loads.values())
                ratios = [new / old for old, new in zip(*loads.values(), strict=True)]
                found[who] = {
                    "known_s": round(known, 1),
                    "unknown_s": round(unknown, 1),
                    "ratio": round(median(ratios), 4),
                    "errors": errors,
                }
                print(f"{who:<6}known {known:10,.0f}/s  unknown {unknown:10,.0f}/s  ratio {median(ratios):.3f}  errors {errors}")
    return found


def measure_sessions(bench: Bench, sessions: int, arm_sessions: int) -> dict[str, Any]:
    """Mean session time of newcomers, and the half width of its 95 % interval, for each way of answering them."""
    users = len(catalog.load_users(bench.world))
    known = users - max(1, round(NEW * users))
    part = _world_of(bench, "known", 0, known)
    newcomers = _world_of(bench, "newcomers", known, users)
    content = _learned(bench, part, sessions)
    tracks, rows = catalog.load_tracks(bench.world).size, {}
    with valkey(bench.scratch, durable=True) as redis_url, redis.Redis.from_url(redis_url) as client:
        LIBRARY.load(client)
        version = publish.publish_version(client, content, DAY)
        with nightshift(bench.scratch, bench.world, redis_url) as (url, _):
            print(f"{users - known:,} newcomers, {known:,} listeners in the logs\n{'way':<14}{'session time':>16}{'steps':>9}")
            for way, recommender in WAYS.items():
                arm = Arm(recommender, recommender, version)
                base = f"newcomers-{recommender}"
                runs.open_run(client, RunSpec(base, version, 0.0, SEED, Experiment("NEWCOMERS", (arm,)), tracks))
                # The same listeners, interests and first tracks for every way.
                result = run_shard(
                    newcomers, url, episodes=arm_sessions, seed=quality.PLAYED, run=f"{base}.0.a", batch=BATCH, progress=False
                )
                half = 1.96 * result.se_time
                rows[way] = {
                    "time": round(result.mean_time, 4),
                    "half_width": round(half, 4),
                    "steps": round(result.mean_steps, 3),
                }
                print(f"{way:<14}{result.mean_time:>9.3f} ± {half:.3f}{result.mean_steps:>8.2f}", flush=True)
    return {"exploratory": sessions, "sessions": arm_sessions, "newcomers": users - known, "ways": rows}


def _world_of(bench: Bench, name: str, first: int, last: int) -> Path:
    """The world with some of its listeners, by the lines of users.json."""
    world = bench.scratch / name
    world.mkdir()
    for file in bench.world.iterdir():
        if file.is_file() and file.name != catalog.USERS:
            (world / file.name).symlink_to(file)
    lines = (bench.world / catalog.USERS).read_bytes().rstrip().split(b"\n")[first:last]
    (world / catalog.USERS).write_bytes(b"\n".join(lines) + b"\n")
    return world


def _learned(bench: Bench, world: Path, sessions: int) -> Content:
    """What a night makes of exploratory sessions of a world's listeners; the session-aware arm is trained, too."""
    listeners, var = load_listeners(world), bench.scratch / "var"
    began = time.perf_counter()
    days = [quality.DAY - timedelta(days=2), quality.DAY - timedelta(days=1)]
    logged = record(listeners, Explorer(listeners, SEED), sessions, SEED, days)
    print(f"{sessions:,} exploratory sessions in {time.perf_counter() - began:.1f} s", flush=True)
    quality.Bench(world, var, 0).learn(logged, quality.DAY)
    night = Night(quality.DAY, load_settings(var=var, world=world))
    return read_directory(night.store.local(night.recommendations))


def measure_memory(bench: Bench) -> dict[str, Any]:
    """Seconds until the service is ready and MiB (PSS of all its processes) after requests, by the number of lists in Redis."""
    sizes, rounds = ((1000, 20_000), 2) if bench.quick else ((10_000, 1_000_000), 5)
    tracks, found = catalog.load_tracks(bench.world).size, {}
    rng = np.random.default_rng(SEED)
    neighbours = rng.integers(0, tracks, (tracks, NEIGHBOURS), dtype=np.uint32).tobytes()
    top = rng.choice(tracks, min(TOP_LENGTH, tracks), replace=False).astype(np.uint32).tobytes()
    for users in sizes:
        lists = rng.integers(0, tracks, (users, SHORT), dtype=np.uint32)
        with valkey(bench.scratch) as redis_url, redis.Redis.from_url(redis_url) as client:
            LIBRARY.load(client)
            content = Content({user: lists[user].tobytes() for user in range(users)}, top, neighbours)
            version = publish.publish_version(client, content, DAY)
            pointer.make_live(client, version, who="benchmark", why="a benchmark")
            seconds, held = [], []
            for _ in range(rounds):
                with nightshift(bench.scratch, bench.world, redis_url) as (url, ready):
                    seconds.append(ready)
                    load = drive(url, CONNECTIONS, 2.0, users, tracks)
                    if load.errors:
                        raise InvalidInputError(f"{load.errors} of {len(load.durations)} requests were not answered")
                    held.append(_pss() / MIB)
        found[str(users)] = {"ready_s": round(median(seconds), 3), "mib": round(median(held), 1)}
        print(f"{users:>10,} lists: ready in {median(seconds):.2f} s, {median(held):.1f} MiB", flush=True)
    return found


def _pss() -> int:
    """Bytes that the service's processes hold, what they share counted once."""
    service = next(process for process in psutil.Process().children() if "recsys.cli" in process.cmdline())
    return sum(int(each.memory_full_info().pss) for each in (service, *service.children(recursive=True)))


def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns the exit status."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)
    sessions = arguments.sessions or (20_000 if arguments.quick else 1_000_000)
    arm_sessions = arguments.arm_sessions or (2000 if arguments.quick else 20_000)
    parts: dict[str, Callable[[Bench], dict[str, Any]]] = {
        "rate": measure_rate,
        "sessions": lambda bench: measure_sessions(bench, sessions, arm_sessions),
        "memory": measure_memory,
    }
    result: dict[str, Any] = {}
    try:
        for name in arguments.parts or PARTS:
            with surroundings(arguments.world, arguments.quick) as bench:
                result |= {"world": bench.world.name, name: parts[name](bench)}
    except RecsysError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return error.exit_code
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.newcomers", description="Listeners whom no list knows.")
    parser.add_argument("parts", nargs="*", metavar="PART", type=_part, help=f"of {', '.join(PARTS)}; all without one")
    parser.add_argument("--world", type=Path, metavar="DIR", help="world directory; default RECSYS_WORLD, or a generated one")
    parser.add_argument("--sessions", type=int, metavar="N", help="exploratory sessions to learn from (default 1,000,000)")
    parser.add_argument("--arm-sessions", type=int, metavar="N", help="sessions of newcomers, each way (default 20,000)")
    parser.add_argument("--quick", action="store_true", help="fewer of everything, to see that it works")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures here")
    return parser


def _part(text: str) -> str:
    if text not in PARTS:
        raise argparse.ArgumentTypeError(f"{text!r} is no part; there are {', '.join(PARTS)}")
    return text


if __name__ == "__main__":
    sys.exit(main())
