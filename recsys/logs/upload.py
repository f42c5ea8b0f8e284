"""Request logs on their way from the service's directory into the storage.

An upload of simulated runs is complete when the distinct events in the files equal the counts that the shards returned. Other
logs are taken once nobody has written to them for a while; with their local files removed, only those that no writer has open.
"""

import fcntl
import logging
import os
import shutil
import time
import uuid
from array import array
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from recsys.exceptions import ConflictError, CorruptDataError, MissingDataError, UnavailableError
from recsys.experiments import RunSpec
from recsys.logs.record import DEGRADED, base_of, is_original, log_files, records
from recsys.schemas import ShardResult
from recsys.storage.manifest import Manifest
from recsys.storage.store import Storage

log = logging.getLogger(__name__)

#: How long an upload waits for lines that are on their way; for live logs, and when a file counts as no longer written.
WAIT_SECONDS = 10.0
LIVE_WAIT_SECONDS = 60.0
REST_SECONDS = 2.0


def count_events(files: Sequence[Path]) -> dict[str, int]:
    """Distinct events by message, repeated, degraded and malformed lines; an event is one of a run, whatever its shard and try.

    40 bytes of memory a line.
    """
    keys, lasts, degraded, malformed = array("q"), bytearray(), 0, 0
    bases: dict[str, int] = {}
    for path in files:
        for record in records(path):
            if isinstance(record, str):
                degraded += record == DEGRADED
                malformed += record != DEGRADED
                continue
            base = bases.setdefault(base_of(record["run"]), len(bases))
            keys.extend((base, record["user"], record["session"], record["step"]))
            lasts.append(record["message"] == "last")
    table = np.frombuffer(keys, np.int64).reshape(-1, 4)
    order = np.lexsort(table.T)
    first = np.ones(len(order), bool)
    first[1:] = (table[order[1:]] != table[order[:-1]]).any(axis=1)
    last = int(np.frombuffer(lasts, bool)[order[first]].sum())
    events = int(first.sum())
    others = {"repeated": len(order) - events, "degraded": degraded, "malformed": malformed}
    return {"next": events - last, "last": last, **others}


def upload_shards(
    store: Storage, log_dir: Path, results: Sequence[ShardResult], name: str, spec: RunSpec, *, cleanup: bool = False
) -> dict[str, int]:
    """Publish the logs of the given shards as the dated directory ``name``; remove local copies afterwards if asked to.

    What the shards were served from is published beside their logs as ``run.json``.

    Returns:
        The counts that the manifest holds.

    Raises:
        MissingDataError: a shard left no log. CorruptDataError: its log does not hold the events it was answered.
    """
    shards = [result.shard for result in results]
    if len(set(shards)) != len(shards):
        raise CorruptDataError(f"shards {shards} are not distinct; exactly one complete try a shard is uploaded")
    totals = {"episodes": 0, "next": 0, "last": 0, "repeated": 0, "degraded": 0, "malformed": 0}
    with store.stage(name, totals) as staging:
        for result in results:
            counts, files = _settled(log_dir / result.run, result)
            for path in files:
                shutil.copyfile(path, staging / f"{result.shard:04d}-{path.name}")
            for key, value in counts.items():
                totals[key] += value
            totals["episodes"] += result.episodes
        spec.write(staging)
        log.info("uploading %d events of %d shards to %s", totals["next"] + totals["last"], len(results), name)
    if cleanup:
        for result in results:
            shutil.rmtree(log_dir / result.run, ignore_errors=True)
    return dict(totals)


def publish_files(
    store: Storage,
    source: Path,
    name: str,
    *,
    only: Sequence[ShardResult] = (),
    cleanup: bool = False,
    tell: Callable[[str], None] = log.info,
) -> dict[str, int]:
    """Publish the log files below a directory as ``name``; a rerun continues or finds everything done.

    Args:
        source: a service's directory of logs, with one sub-directory a run.
        only: take the runs of these shards, and see that their logs hold what they were answered; else all, once they rest.
        cleanup: remove the local files once they have been verified in the storage; files that a writer has open stay, and
            are not taken.
        tell: is told every file and the outcome.

    Raises:
        MissingDataError: there is nothing to publish. UnavailableError: a file is still being written. ConflictError: the name
        holds other logs. CorruptDataError: a log does not hold the events its shard was answered, or not one event is in them.
    """
    files = _of_shards(source, only) if only else resting(source, LIVE_WAIT_SECONDS)
    if cleanup and not only:
        open_ones = [path for path in files if _is_open(path)]
        for path in open_ones:
            tell(f"{path} is left out, for a writer has it open")
        files = [path for path in files if path not in open_ones]
        if open_ones and not files:
            raise UnavailableError(
                f"the service has every log file in {source} open, such as {open_ones[0]}; upload without --cleanup"
            )
    if not files:
        if store.is_complete(name):
            tell(f"{name} is in {store.url} already, and nothing new is in {source}")
            return dict(store.manifest(name).counts)
        raise MissingDataError(f"{source} holds no log files (*.jsonl); check RECSYS_SERVICE_LOGS of service and upload")
    sizes = {path: path.stat().st_size for path in files}
    counts = require_events(count_events(files), source, files)
    # The parent's name is a run's; files of different runs may have the same name.
    targets = {path: "-".join(path.relative_to(source).parts) for path in files}
    held = store.is_complete(name) and store.manifest(name)
    with store.stage(name, dict(counts)) as staging:
        for path, target in targets.items():
            copy(path, staging / target, sizes[path])
            tell(f"{path} -> {name}/{target} ({sizes[path]} bytes)")
        if held and Manifest.of(staging, counts).checksum != held.checksum:
            raise ConflictError(f"{name} in {store.url} holds other logs; upload to another directory, or remove that one")
    store.local(name)
    if cleanup:
        for path, size in sizes.items():
            remove(path, size)
            with suppress(OSError):
                path.parent.rmdir()
    tell(f"{name}: {counts['next'] + counts['last']} events in {len(files)} files")
    return counts


def require_events(counts: dict[str, int], source: Path, files: Iterable[Path]) -> dict[str, int]:
    """The counts of files, if there is an event in them.

    Raises:
        CorruptDataError: there is none, so that nothing would be stored.
    """
    if not counts["next"] + counts["last"]:
        if any(map(_is_of_the_original, files)):
            raise CorruptDataError(
                f"not one event of the logs of {source} names its run, session and step, as those of the original server; "
                "import them with 'recsys import --format botify'; nothing is stored"
            )
        raise CorruptDataError(
            f"not one event is in the logs of {source} ({counts['malformed']} malformed lines, "
            f"{counts['degraded']} of answers while Redis was away); nothing is stored"
        )
    return counts


def _is_of_the_original(path: Path) -> bool:
    """Whether the original server wrote the file, by its first line."""
    with path.open("rb") as file:
        return is_original(file.readline())


def remove(path: Path, size: int) -> None:
    """Remove a log file of which so many bytes are kept elsewhere; what stands behind them stays, in a file of its own.

    A writer that has it open sees after each line whether the file's name has gone, and then writes the line again.
    """
    with path.open("rb") as file:
        path.unlink()
        if os.fstat(file.fileno()).st_size > size:
            file.seek(size)
            path.with_name(f"{path.stem}-rest-{uuid.uuid4().hex[:8]}.jsonl").write_bytes(file.read())


def _is_open(path: Path) -> bool:
    """Whether a writer holds the file."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def copy(source: Path, target: Path, size: int) -> None:
    """Copy what the file held when it was counted."""
    shutil.copyfile(source, target)
    os.truncate(target, size)


def _of_shards(source: Path, results: Sequence[ShardResult]) -> list[Path]:
    return [path for result in results for path in _settled(source / result.run, result)[1]]


def resting(source: Path, seconds: float, pattern: str = "**/*.jsonl") -> list[Path]:
    """Log files below a directory, once nobody has written to them for :data:`REST_SECONDS`.

    Args:
        seconds: how long to wait for that.

    Raises:
        InvalidInputError: a log is compressed. UnavailableError: after so many seconds one is still being written.
    """
    deadline = time.monotonic() + seconds
    while True:
        files = log_files(source, pattern)
        busy = [path for path in files if time.time() - path.stat().st_mtime < REST_SECONDS]
        if not busy:
            return files
        if time.monotonic() > deadline:
            raise UnavailableError(f"{busy[0]} is still being written after {seconds:g} s; upload it when its run has ended")
        time.sleep(0.2)


def _settled(directory: Path, result: ShardResult) -> tuple[dict[str, int], list[Path]]:
    """Wait until the run's files hold what the shard was answered."""
    deadline = time.monotonic() + WAIT_SECONDS
    sizes: dict[Path, int] | None = None
    counts: dict[str, int] = {}
    while True:
        found = {path: path.stat().st_size for path in sorted(directory.glob("*.jsonl"))}
        if found != sizes:
            sizes = found
            counts = count_events(list(found))
        if counts["next"] == result.next and counts["last"] == result.last:
            return counts, list(found)
        if time.monotonic() > deadline:
            break
        time.sleep(0.5)
    if not found:
        raise MissingDataError(f"run {result.run} left no log in {directory}; check RECSYS_SERVICE_LOGS of service and upload")
    raise CorruptDataError(
        f"run {result.run} was answered {result.next} next and {result.last} last events, "
        f"but its log holds {counts['next']} and {counts['last']} distinct ones"
    )
