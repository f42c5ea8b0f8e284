"""``make nemesis NIGHTS=n SEED=s``: small nights under random faults, a line a night; status 1 if one breaks the contract."""

import argparse
import asyncio
import importlib
import os
import pickle
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from recsys.platform.hdfs import Hdfs
from recsys.platform.preload import LIBRARIES, TORCH
from recsys.simulate.world import generate
from tests.nemesis import airflow, night
from tests.nemesis.checker import check
from tests.nemesis.history import Reference
from tests.nemesis.launcher import Launcher, adopt_orphans, die_with_parent
from tests.nemesis.plan import Command, Plan, draw
from tests.nemesis.reference import UndisturbedNights
from tests.nemesis.stage import own_mounts, save

#: Seconds after which a night's process is killed, whatever it does.
LONGEST = 3 * night.NIGHT_SECONDS


class Outcome(NamedTuple):
    """What came of a night: violations, and what was struck."""

    violations: list[str]
    struck: list[str]


def main() -> int:
    """Play nights; gives the exit status."""
    options = _options()
    adopt_orphans()
    for name in (*LIBRARIES, TORCH):
        importlib.import_module(name)
    base = (options.keep or Path(tempfile.mkdtemp(prefix="nemesis-"))).resolve()
    base.mkdir(parents=True, exist_ok=True)
    world = base / "world"
    if not world.exists():
        generate(world, tracks=night.TRACKS, artists=night.TRACKS // 5, users=night.USERS, seed=night.WORLD_SEED)
    undisturbed = UndisturbedNights(base / "undisturbed", world)
    cluster = Hdfs(base / "hdfs") if options.hdfs else None
    failed = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        if cluster:
            cluster.start()
        for number in range(options.first, options.first + options.nights):
            keep = options.keep is not None
            if options.airflow:
                failed += not _night_of_airflow(options.seed, number, base, keep)
            else:
                failed += not _night(draw(options.seed, number, hdfs=options.hdfs), base, undisturbed, cluster, keep)
    finally:
        if cluster:
            cluster.stop()
        _end_all()
        if not options.keep and not failed:
            shutil.rmtree(base, ignore_errors=True)
    print(f"{options.nights} nights of seed {options.seed}: {failed} broke the contract")
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.nemesis", description=__doc__)
    parser.add_argument("--nights", type=int, default=20, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="what they are drawn from")
    parser.add_argument("--first", type=int, default=0, metavar="K", help="number of the first one")
    parser.add_argument("--hdfs", action="store_true", help="with the storage on a real HDFS, which is struck, too")
    parser.add_argument("--airflow", action="store_true", help="each night run by Airflow on a whole platform, which is struck")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the history of every night below this directory")
    return parser.parse_args()


def _night(plan: Plan, base: Path, undisturbed: UndisturbedNights, cluster: Hdfs | None, keep: bool) -> bool:
    """Play one night and tell what came of it; whether it kept the contract."""
    directory = _directory(base, f"seed-{plan.seed}-night-{plan.number}", str(plan))

    async def play(launcher: Launcher) -> Outcome:
        def find(commands: tuple[Command, ...]) -> Awaitable[Reference]:
            return undisturbed.find(plan, commands, launcher, directory)

        history, struck, problems = await night.play(plan, directory, undisturbed.world, launcher, find, cluster)
        violations = problems + (check(history) if history else [])
        if violations or keep:
            save(directory)
        return Outcome(violations, struck)

    script = f"{plan.scene.name}, {plan.order}{', traffic' if plan.traffic else ''}"
    more = " NEMESIS_ARGS=--hdfs" if cluster else ""
    again = f"make nemesis NIGHTS=1 SEED={plan.seed} FIRST={plan.number}{more}"
    return _told(directory, f"{plan.number:4d}", play, script, again, keep=keep)


def _night_of_airflow(seed: int, number: int, base: Path, keep: bool) -> bool:
    """As :func:`_night`, by Airflow."""
    plan = "\n".join(map(str, airflow.draw(seed, number)))
    directory = _directory(base, f"seed-{seed}-airflow-{number}", plan)

    async def play(_: Launcher) -> Outcome:
        history, struck, problems = await airflow.play(seed, number, directory)
        return Outcome(problems + (check(history) if history else []), struck)

    again = f"make nemesis NIGHTS=1 SEED={seed} FIRST={number} NEMESIS_ARGS=--airflow"
    return _told(directory, f"{number:4d}", play, "by Airflow", again, keep=keep)


def _directory(base: Path, name: str, plan: str) -> Path:
    directory = base / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    (directory / "plan.txt").write_text(f"{plan}\n")
    return directory


def _told(
    directory: Path, number: str, play: Callable[[Launcher], Awaitable[object]], script: str, again: str, *, keep: bool
) -> bool:
    """Play, and tell what came of it; whether the contract was kept."""
    started = time.monotonic()
    outcome = _apart(play)
    if not isinstance(outcome, Outcome):
        outcome = Outcome([f"the nemesis itself failed: {outcome}"], [])
    violations = [*outcome.violations, *(f"left running: {process}" for process in _end_all())]
    seconds = time.monotonic() - started
    verdict = "VIOLATED" if violations else "ok"
    print(f"night {number}  {seconds:5.1f} s  {verdict}  {script}: {'; '.join(outcome.struck)}", flush=True)
    (directory / "outcome.txt").write_text("\n".join([*violations, "", *outcome.struck, ""]))
    if violations:
        print("\n".join(f"    {line}" for line in (directory / "plan.txt").read_text().splitlines()))
        print("\n".join(f"  * {violation[:4000]}" for violation in violations[:12]))
        if len(violations) > 12:
            print(f"  * and {len(violations) - 12} more: {directory}/outcome.txt")
        print(f"  history: {directory}\n  again: {again}", flush=True)
    elif not keep:
        shutil.rmtree(directory)
    return not violations


def _apart(work: Callable[[Launcher], Awaitable[object]]) -> object:
    """Do it in a process of its own, with disks of its own; gives what it returns, or a traceback."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        try:
            os.close(reading)
            die_with_parent()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            own_mounts()
            found = asyncio.run(_with_launcher(work, Launcher()))
        except BaseException:
            found = traceback.format_exc()
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(found, pipe)
        os._exit(0)
    os.close(writing)
    told = b""
    hanging: list[str] = []

    def end(*_: object) -> None:
        hanging.extend(_stacks(pid))
        os.kill(pid, signal.SIGKILL)

    signal.signal(signal.SIGALRM, end)
    signal.alarm(int(LONGEST))
    try:
        with os.fdopen(reading, "rb") as pipe:
            told = pipe.read()
    finally:
        signal.alarm(0)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return pickle.loads(told) if told else "\n".join(["its process was killed", *hanging])


async def _with_launcher(work: Callable[[Launcher], Awaitable[object]], launcher: Launcher) -> object:
    await launcher.open()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _tell_tasks)
    return await work(launcher)


def _tell_tasks() -> None:
    for task in asyncio.all_tasks():
        task.print_stack(file=sys.stderr)


def _stacks(pid: int) -> list[str]:
    """What a night's process and everything below it wait for; its tasks tell that themselves."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGUSR1)
        time.sleep(1)
    told = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error, OSError):
            waits = {task.name: (task / "wchan").read_text() for task in Path(f"/proc/{process.pid}/task").iterdir()}
            told.append(f"{process.pid} of {process.ppid()}, {process.status()}, {waits}: {' '.join(process.cmdline())[:200]}")
    return told


def _end_all() -> list[str]:
    """Kill what nights have left; gives what that was. What has been killed has a moment to be gone."""
    deadline = time.monotonic() + 3
    while True:
        found = []
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                words = " ".join(process.cmdline())
                if process.status() != psutil.STATUS_ZOMBIE and "hadoop" not in words:
                    found.append(process)
                elif process.ppid() == os.getpid() and process.status() == psutil.STATUS_ZOMBIE:
                    process.wait(0)
        if not found or time.monotonic() > deadline:
            break
        time.sleep(0.02)
    told = []
    for process in found:
        with suppress(psutil.Error):
            told.append(f"{process.pid}: {' '.join(process.cmdline())[:300]}")
            process.kill()
    return told


if __name__ == "__main__":
    sys.exit(main())
