"""``python -m benchmarks.growth``: what each step of a night costs, and with ten times the users, tracks or sessions.

Every step runs in processes of its own; the table tells its seconds and the GiB that they held together at the most, sampled ten
times a second. A step that fails, or is stopped because it takes too long or too much memory, ends its column, and the last lines
say what takes over there. Valkey and the service run beside, and are not counted.
"""

import argparse
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path

import psutil

from benchmarks.processes import ROOT, nightshift, valkey
from recsys.exceptions import RecsysError, UnavailableError
from recsys.night import dataset, steps, traffic
from recsys.night.night import Night
from recsys.settings import load_settings
from recsys.simulate import world
from recsys.simulate.shards import shards_of, simulate_all
from recsys.versions import keyspace, lease

DAY = date(2026, 1, 5)
RUN = "growth"
SHARDS = "more shards, on other engines (docs/scaling.md, Simulation on another engine)"
MACHINE = "a machine or pod with more memory for this task (docs/scaling.md, Tasks in pods)"
#: The steps in their order, and what takes over where one machine does not do.
STEPS = {
    "world": "nothing: a real catalogue is not generated",
    "traffic": SHARDS,
    "collect": "Spark (docs/scaling.md, Spark)",
    "train": MACHINE,
    "gate": MACHINE,
    "recommend": MACHINE,
    "publish": "more memory for Valkey (docs/scaling.md, Valkey)",
    "simulate": SHARDS,
    "report": MACHINE,
}

Cell = tuple[float, float] | str


@dataclass(frozen=True)
class Size:
    """How large a night is: ``sessions`` of traffic, over five log dates, and as many as a fifth of them in the experiment."""

    tracks: int
    users: int
    sessions: int

    def times(self, factor: int, name: str) -> "Size":
        """The same with one of the three multiplied."""
        return Size(**{**asdict(self), name: getattr(self, name) * factor})


@dataclass(frozen=True)
class Bounds:
    """What a step may take: GiB, seconds."""

    memory: float
    timeout: float


def measure(size: Size, scratch: Path, bounds: Bounds) -> dict[str, Cell]:
    """Seconds and GiB of each step, or why the one at which the night ended did."""
    directory = scratch / "world"
    environment = os.environ | {"RECSYS_VAR": str(scratch / "var"), "RECSYS_WORLD": str(directory)}
    found: dict[str, Cell] = {"world": bounded("world", size, environment, bounds)}
    if isinstance(found["world"], str):
        return found
    try:
        with valkey(scratch, durable=True) as redis_url, nightshift(scratch, directory, redis_url) as (url, _):
            environment |= {
                "RECSYS_REDIS_URL": redis_url,
                "RECSYS_SERVICE_URL": url,
                "RECSYS_EPISODES": str(max(1, size.sessions // 5)),
                "RECSYS_SERVICE_LOGS": str(next(scratch.glob("logs-*"))),
            }
            for step in list(STEPS)[1:]:
                found[step] = bounded(step, size, environment, bounds)
                if isinstance(found[step], str):
                    break
    except UnavailableError as error:
        found["traffic"] = str(error)
    return found


def bounded(step: str, size: Size, environment: Mapping[str, str], bounds: Bounds) -> Cell:
    """Run a step in a process of its own; it and its children are killed when they exceed the bounds."""
    words = [sys.executable, "-m", "benchmarks.growth", "--step", step]
    words += [word for name, value in asdict(size).items() for word in (f"--{name}", str(value))]
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=output, stderr=errors, start_new_session=True)
        began, most = time.monotonic(), 0.0
        why = ""
        try:
            while process.poll() is None and not why:
                most = max(most, held(process.pid))
                if most > bounds.memory:
                    why = f"stopped: more than {bounds.memory:g} GiB"
                elif time.monotonic() - began > bounds.timeout:
                    why = f"stopped: more than {bounds.timeout:g} s"
                time.sleep(0.1)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        errors.seek(0)
        if why or process.returncode:
            told = errors.read().strip().splitlines() if process.returncode > 0 else []
            return why or (told[-1] if told else f"ended with status {process.returncode}")
        return float(output.read().split()[-1]), most


def held(pid: int) -> float:
    """GiB that a process and its children hold."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += each.memory_info().rss
    return total / 2**30


def run_step(step: str, size: Size) -> float:
    """Run one step of the night that the environment describes; its seconds, without loading libraries."""
    night = Night(DAY, load_settings())
    began = time.perf_counter()
    if step == "world":
        world.generate(night.world, tracks=size.tracks, artists=size.tracks * 22 // 100, users=size.users)
    elif step == "traffic":
        for back in range(5):
            traffic.collect(Night(DAY - timedelta(days=back), night.settings), max(1, size.sessions // 5), run=RUN)
    elif step == "collect":
        steps.collect_interactions(night)
    elif step == "publish":
        with lease.held(keyspace.connect(night.settings), DAY, RUN) as held:
            (night.settings.var / "candidate.json").write_text(json.dumps(steps.publish_candidate(night, held)))
    elif step == "simulate":
        _simulate(night)
    else:
        {"train": steps.train, "gate": steps.evaluate_gate, "recommend": steps.recommend, "report": steps.build_report}[step](
            night
        )
    return time.perf_counter() - began


def _simulate(night: Night) -> None:
    settings = night.settings
    found = json.loads((settings.var / "candidate.json").read_bytes())
    parts = shards_of(
        found["base"],
        found["version"],
        seed=found["seed"],
        episodes=settings.episodes,
        shards=settings.shards,
        batch=settings.batch,
        listeners=found["listeners"],
        tracks=found["tracks"],
    )
    steps.upload_logs(night, found["base"], simulate_all(settings, parts, RUN))


def table(columns: dict[str, dict[str, Cell]]) -> str:
    """Markdown: a row a step, a column a size; then a line for each column that did not come to its end."""
    rows = [f"| step | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for step in STEPS:
        cells = [_cell(column.get(step)) for column in columns.values()]
        rows.append(f"| {step} | {' | '.join(cells)} |")
    for name, column in columns.items():
        step, last = list(column.items())[-1]
        if isinstance(last, str):
            rows.append(f"{name} ends at {step} ({last}); what takes over: {STEPS[step]}")
    return "\n".join(rows)


def _cell(found: Cell | None) -> str:
    if found is None:
        return "–"
    return "ends here" if isinstance(found, str) else f"{found[0]:.1f} s, {found[1]:.2f} GiB"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the sizes, or run one step."""
    parser = argparse.ArgumentParser("python -m benchmarks.growth", description="Cost of a night's steps as it grows.")
    sizes = ("usual", "users", "tracks", "sessions")
    parser.add_argument("sizes", nargs="*", metavar="SIZE", help=f"of {', '.join(sizes)}; all without one")
    parser.add_argument("--tracks", type=int, default=50_000, help="tracks of the usual world")
    parser.add_argument("--users", type=int, default=10_000, help="its users")
    parser.add_argument("--sessions", type=int, default=dataset.SESSIONS // 10, help="its sessions of traffic")
    parser.add_argument("--factor", type=int, default=10, help="how much larger one of the three becomes")
    parser.add_argument("--memory", type=float, default=20.0, help="GiB that a step may hold; beyond, it is stopped")
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds that a step may take")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    usual = Size(arguments.tracks, arguments.users, arguments.sessions)
    if arguments.step:
        try:
            print(run_step(arguments.step, usual))
        except RecsysError as error:
            sys.exit(str(error))
        return 0
    if strange := set(arguments.sizes) - set(sizes):
        parser.error(f"{min(strange)!r} is no size; there are {', '.join(sizes)}")
    columns: dict[str, dict[str, Cell]] = {}
    for name in arguments.sizes or sizes:
        grown = usual if name == "usual" else usual.times(arguments.factor, name)
        with tempfile.TemporaryDirectory(prefix="growth-") as scratch:
            heading = name if name == "usual" else f"{name} x{arguments.factor}"
            columns[heading] = measure(grown, Path(scratch), Bounds(arguments.memory, arguments.timeout))
        print(table(columns), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
