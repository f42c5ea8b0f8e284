"""``python -m benchmarks.growth``: what each step of a night costs, and with ten times the users, tracks or sessions.

Every step runs in a process of its own; the table tells its seconds and the GiB that it held at the most. A step that fails is
told with its error, and its column ends there.
"""

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT, nightshift, valkey
from recsys import dataset, nightly, world
from recsys.settings import load_settings

DAY = date(2026, 1, 5)
STEPS = ("traffic", "collect", "train", "gate", "recommend", "publish", "simulate", "report")
RUN = "growth"


@dataclass(frozen=True)
class Size:
    """How large a night is: ``sessions`` of traffic, over five log dates, and as many as a fifth of them in the experiment."""

    tracks: int
    users: int
    sessions: int

    def times(self, factor: int, name: str) -> "Size":
        """The same with one of the three multiplied."""
        return Size(**{**self.__dict__, name: getattr(self, name) * factor})


def measure(size: Size, scratch: Path) -> dict[str, tuple[float, float] | str]:
    """Seconds and GiB of each step, or the error of the one that failed."""
    directory = scratch / "world"
    world.generate(directory, tracks=size.tracks, artists=size.tracks * 22 // 100, users=size.users)
    found: dict[str, tuple[float, float] | str] = {}
    with valkey(scratch, durable=True) as redis_url, nightshift(scratch, directory, redis_url) as (url, _):
        logs = next(scratch.glob("logs-*"))
        environment = os.environ | {
            "RECSYS_VAR": str(scratch / "var"), "RECSYS_WORLD": str(directory), "RECSYS_REDIS_URL": redis_url,
            "RECSYS_SERVICE_URL": url, "RECSYS_SERVICE_LOGS": str(logs), "RECSYS_EPISODES": str(size.sessions // 5),
        }  # fmt: skip
        for step in STEPS:
            words = [sys.executable, "-m", "benchmarks.growth", "--step", step, "--sessions", str(size.sessions)]
            done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                found[step] = (done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"])[-1]
                break
            found[step] = tuple(json.loads(done.stdout.splitlines()[-1]))
    return found


def run_step(step: str, sessions: int) -> tuple[float, float]:
    """Run one step of the night that the environment describes; its seconds and GiB, children included."""
    settings = load_settings()
    began = time.perf_counter()
    if step == "traffic":
        for back in range(5):
            nightly.traffic(settings, DAY - timedelta(days=back), sessions // 5, run_id=RUN)
    elif step == "collect":
        nightly.collect(settings, DAY, run=RUN)
    elif step == "publish":
        _keep(settings.var, nightly.publish_candidate(settings, DAY))
    elif step == "simulate":
        candidate = json.loads((settings.var / "candidate.json").read_bytes())
        results = nightly.simulate_all(settings, candidate["base"], settings.episodes, candidate["seed"], RUN)
        nightly.upload(settings, DAY, candidate["base"], results)
    else:
        {"train": nightly.train, "gate": nightly.gate, "recommend": nightly.recommend, "report": nightly.report}[step](
            settings, DAY
        )
    seconds = time.perf_counter() - began
    return seconds, max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 2**20


def _keep(directory: Path, candidate: dict[str, Any]) -> None:
    (directory / "candidate.json").write_text(json.dumps(candidate))


def table(columns: dict[str, dict[str, tuple[float, float] | str]]) -> str:
    """Markdown: a row a step, a column a size."""
    rows = [f"| step | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for step in STEPS:
        cells = [_cell(column.get(step)) for column in columns.values()]
        rows.append(f"| {step} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _cell(found: tuple[float, float] | str | None) -> str:
    if found is None:
        return "–"
    return found if isinstance(found, str) else f"{found[0]:.1f} s, {found[1]:.2f} GiB"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all sizes, or run one step."""
    parser = argparse.ArgumentParser("python -m benchmarks.growth", description="Cost of a night's steps as it grows.")
    parser.add_argument("--tracks", type=int, default=50_000, help="tracks of the usual world")
    parser.add_argument("--users", type=int, default=10_000, help="its users")
    parser.add_argument("--sessions", type=int, default=dataset.SESSIONS // 10, help="its sessions of traffic")
    parser.add_argument("--factor", type=int, default=10, help="how much larger one of the three becomes")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    if arguments.step:
        print(json.dumps(run_step(arguments.step, arguments.sessions)))
        return 0
    usual = Size(arguments.tracks, arguments.users, arguments.sessions)
    columns: dict[str, dict[str, tuple[float, float] | str]] = {}
    for name in ("", "users", "tracks", "sessions"):
        with tempfile.TemporaryDirectory(prefix="growth-") as scratch:
            heading = f"{name} x{arguments.factor}" if name else "usual"
            columns[heading] = measure(usual.times(arguments.factor, name) if name else usual, Path(scratch))
        print(table(columns), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
