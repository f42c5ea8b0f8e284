"""Request logs: read them line by line, and move those of finished runs from the service's directory into the storage.

An upload is complete when the distinct events in the files equal the counts that the simulation shards returned.
"""

import json
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from recsys.exceptions import CorruptDataError, MissingDataError
from recsys.schemas import RunSpec, ShardResult
from recsys.storage import Storage

log = logging.getLogger(__name__)

WAIT_SECONDS = 10.0


def read_records(path: Path) -> Iterator[dict[str, Any] | None]:
    """Records of a log file; None for a malformed line or an unterminated last one (it was never answered)."""
    with path.open("rb") as file:
        for line in file:
            record: Any = None
            if line.endswith(b"\n"):
                try:
                    record = orjson.loads(line)
                except orjson.JSONDecodeError:
                    record = None
            yield record if isinstance(record, dict) else None


def count_events(files: Sequence[Path]) -> dict[str, int]:
    """Distinct events by message, repeated lines and malformed lines in the files of one run."""
    seen: set[tuple[int, int, int]] = set()
    counts = {"next": 0, "last": 0, "repeated": 0, "malformed": 0}
    for path in files:
        for record in read_records(path):
            if record is None:
                counts["malformed"] += 1
                continue
            key = (record["user"], record["session"], record["step"])
            if key in seen:
                counts["repeated"] += 1
            else:
                seen.add(key)
                counts[record["message"]] += 1
    return counts


def upload(
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
    totals = {"episodes": 0, "next": 0, "last": 0, "repeated": 0, "malformed": 0}
    with store.stage(name, totals) as staging:
        for result in results:
            counts, files = _settled(log_dir / result.run, result)
            for path in files:
                shutil.copyfile(path, staging / f"{result.shard:04d}-{path.name}")
            for key, value in counts.items():
                totals[key] += value
            totals["episodes"] += result.episodes
        (staging / "run.json").write_text(json.dumps(spec.to_json(), indent=1, sort_keys=True))
        log.info("uploading %d events of %d shards to %s", totals["next"] + totals["last"], len(results), name)
    if cleanup:
        for result in results:
            shutil.rmtree(log_dir / result.run, ignore_errors=True)
    return dict(totals)


def _settled(directory: Path, result: ShardResult) -> tuple[dict[str, int], list[Path]]:
    """Wait until the run's files hold what the shard was answered."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        files = sorted(directory.glob("*.jsonl"))
        counts = count_events(files)
        if counts["next"] == result.next and counts["last"] == result.last:
            return counts, files
        if time.monotonic() > deadline:
            break
        time.sleep(0.5)
    if not files:
        raise MissingDataError(f"run {result.run} left no log in {directory}; check RECSYS_SERVICE_LOGS of service and upload")
    raise CorruptDataError(
        f"run {result.run} was answered {result.next} next and {result.last} last events, "
        f"but its log holds {counts['next']} and {counts['last']} distinct ones"
    )
