"""Shards of a simulation, each in a process of its own: the command that plays one, and all of them side by side."""

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from recsys.exceptions import SimulationError
from recsys.schemas import ShardResult
from recsys.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shard:
    """One shard of a registered run.

    Attributes:
        base: the run's. version: what the run previews. seed, episodes, shards: of the whole run. shard: which one this is.
        batch: events a request to ``/batch``; 0: single requests.
        listeners, tracks: the world's first so many; 0: all.
    """

    base: str
    version: str
    seed: int
    episodes: int
    shards: int
    shard: int
    batch: int
    listeners: int = 0
    tracks: int = 0

    def words(self, world: str, service_url: str, try_id: str) -> list[str]:
        """Arguments of ``python -m recsys.simulate``; ``try_id`` names the try."""
        where = ["--recommender", "remote", "--world", world, "--service-url", service_url]
        which = ["--run", f"{self.base}.{self.shard}.{try_id}", "--shard", str(self.shard), "--shards", str(self.shards)]
        what = ["--episodes", str(self.episodes), "--seed", str(self.seed), "--batch", str(self.batch)]
        return [*where, *which, *what, "--listeners", str(self.listeners), "--tracks", str(self.tracks)]


def shards_of(
    base: str, version: str, *, seed: int, episodes: int, shards: int, batch: int, listeners: int = 0, tracks: int = 0
) -> list[Shard]:
    """All shards of a registered run.

    Args:
        listeners, tracks: the world's first so many play and are played, so that one that grows meanwhile, or has grown since,
            plays the same; 0: all.
    """
    return [Shard(base, version, seed, episodes, shards, shard, batch, listeners, tracks) for shard in range(shards)]


def simulate(
    settings: Settings, part: Shard, try_id: str, *, started: Callable[[subprocess.Popen[str]], None] | None = None
) -> ShardResult:
    """Play one shard in a process of its own; its progress goes to the log.

    Args:
        started: called with the process, for whoever may have to end it.

    Raises:
        SimulationError: the process failed; the message is its last error line.
    """
    command = [sys.executable, "-m", "recsys.simulate", *part.words(str(settings.world), settings.service_url, try_id)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if started:
        started(process)
    errors: list[str] = []
    assert process.stdout is not None and process.stderr is not None  # noqa: PT018, S101 -- both are pipes
    stderr = process.stderr

    def follow() -> None:
        for line in stderr:
            errors.append(line.rstrip())
            log.info("shard %d: %s", part.shard, line.rstrip())

    follower = threading.Thread(target=follow)
    follower.start()
    try:
        output = process.stdout.read().strip().splitlines()
        code = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
        follower.join()
    if code != 0 or not output:
        raise SimulationError(f"shard {part.shard} ended with status {code}: {errors[-1] if errors else 'no message'}")
    return ShardResult.from_json(output[-1])


def simulate_all(settings: Settings, parts: Sequence[Shard], try_id: str) -> list[ShardResult]:
    """Shards of a run side by side; none goes on once one has failed."""
    processes: list[subprocess.Popen[str]] = []
    stopped = threading.Event()

    def started(process: subprocess.Popen[str]) -> None:
        processes.append(process)
        if stopped.is_set():
            process.terminate()

    with ThreadPoolExecutor(max(1, len(parts))) as pool:
        jobs = [pool.submit(simulate, settings, part, try_id, started=started) for part in parts]
        try:
            return [job.result() for job in jobs]
        except BaseException:
            # A signal, or a shard that failed: the others play for nothing.
            stopped.set()
            for process in processes:
                process.terminate()
            raise
