"""Shards of a simulation, each in a process of its own: the command that plays one, and all of them side by side."""

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, cast

from recsys.exceptions import SimulationError
from recsys.settings import Settings

log = logging.getLogger(__name__)


def simulate_command(
    settings: Settings, base: str, shard: int, shards: int, episodes: int, seed: int, try_id: str, batch: int
) -> list[str]:
    """Arguments of ``python -m recsys.simulate`` for one shard of a registered run."""
    return [
        "--recommender", "remote", "--world", str(settings.world), "--service-url", settings.service_url,
        "--run", f"{base}.{shard}.{try_id}", "--shard", str(shard), "--shards", str(shards),
        "--episodes", str(episodes), "--seed", str(seed), "--batch", str(batch),
    ]  # fmt: skip


def simulate(
    settings: Settings, base: str, shard: int, shards: int, episodes: int, seed: int, try_id: str, *,
    batch: int | None = None, started: Callable[[subprocess.Popen[str]], None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Play one shard in a process of its own; its progress goes to the log.

    Args:
        started: called with the process, for whoever may have to end it.

    Raises:
        SimulationError: the process failed; the message is its last error line.
    """
    arguments = simulate_command(
        settings, base, shard, shards, episodes, seed, try_id, settings.batch if batch is None else batch
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "recsys.simulate", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    if started:
        started(process)
    errors: list[str] = []
    stdout, stderr = cast(IO[str], process.stdout), cast(IO[str], process.stderr)

    def follow() -> None:
        for line in stderr:
            errors.append(line.rstrip())
            log.info("shard %d: %s", shard, line.rstrip())

    follower = threading.Thread(target=follow)
    follower.start()
    try:
        output = stdout.read().strip().splitlines()
        code = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
        follower.join()
    if code != 0 or not output:
        raise SimulationError(f"shard {shard} ended with status {code}: {errors[-1] if errors else 'no message'}")
    return dict(json.loads(output[-1]))


def simulate_all(
    settings: Settings, base: str, episodes: int, seed: int, try_id: str, *, batch: int | None = None
) -> list[dict[str, Any]]:
    """All shards of a run side by side; none goes on once one has failed."""
    processes: list[subprocess.Popen[str]] = []
    stopped = threading.Event()

    def started(process: subprocess.Popen[str]) -> None:
        processes.append(process)
        if stopped.is_set():
            process.terminate()

    with ThreadPoolExecutor(settings.shards) as pool:
        jobs = [
            pool.submit(simulate, settings, base, shard, settings.shards, episodes, seed, try_id, batch=batch, started=started)
            for shard in range(settings.shards)
        ]
        try:
            return [job.result() for job in jobs]
        except BaseException:
            # A signal, or a shard that failed: the others play for nothing.
            stopped.set()
            for process in processes:
                process.terminate()
            raise
