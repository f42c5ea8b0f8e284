"""The check of a finished night: a date in, what is right and what is not out.

:func:`verify` compares everything that a night left behind, in files and in Redis, and reduces it to one digest without times and
run ids: equal digests mean equal nights.
"""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import orjson

from recsys.exceptions import MissingDataError, RecsysError
from recsys.logs.upload import read_records
from recsys.settings import Settings
from recsys.storage.store import Storage
from recsys.versions import keyspace, publish
from recsys.versions.content import read_directory

#: Fields of a log record that differ between equal nights.
VOLATILE_FIELDS = ("timestamp", "latency", "run", "version")
#: Keys of JSON documents that hold times, wherever they stand.
VOLATILE_KEYS = frozenset({"timing", "mean_request_time", "latency_p50", "latency_p99", "seconds", "degraded_share"}) | {
    "outcome",
    "calibration",
    "paired",
    "history",
    "pictures",  # what else stood in the storage when the report was written
}


@dataclass
class Verification:
    """The outcome: what was checked, what failed, and the night's digest."""

    log_date: date
    checks: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    parts: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 over the parts."""
        return hashlib.sha256(json.dumps(self.parts, sort_keys=True).encode()).hexdigest()

    def check(self, passed: bool, what: str) -> None:
        """Note one comparison."""
        (self.checks if passed else self.failures).append(what)


def verify(settings: Settings, log_date: date) -> Verification:
    """Check one finished night.

    Raises:
        MissingDataError: the night has no verdict yet.
    """
    require_finished(settings, log_date)
    store = Storage(settings.storage_url)
    result = Verification(log_date)
    verdict = store.read_json(f"promotions/date={log_date}", "promotion.json")
    result.parts["verdict"] = verdict["verdict"]
    names = ["interactions", "models", "gates", "reports"]
    sources = _sources(store, log_date)
    if verdict["verdict"] != "gate_refused":
        names += ["recommendations"] if sources else ["recommendations", "experiments"]
    for name in names:
        try:
            directory = store.local(f"{name}/date={log_date}")
        except RecsysError as error:
            result.failures.append(str(error))
            continue
        result.check(True, f"{name}: every file matches its checksum")
        _add_parts(result, name, directory)
    if "experiments" in names and not result.failures:
        _check_events(result, store, log_date)
    if sources and not result.failures:
        _check_live_events(result, store, log_date, sources)
    if verdict["verdict"] != "gate_refused" and not result.failures:
        _check_redis(result, settings, store, log_date, verdict)
    return result


def require_finished(settings: Settings, log_date: date) -> None:
    """See that the night has a verdict.

    Raises:
        MissingDataError: it has none.
    """
    if not Storage(settings.storage_url).is_complete(f"promotions/date={log_date}"):
        raise MissingDataError(f"log date {log_date} has no finished night in {settings.storage_url}; run it first")


def _add_parts(result: Verification, name: str, directory: Path) -> None:
    for path in sorted(directory.iterdir()):
        if path.suffix == ".jsonl" or path.name in ("manifest.json", "_SUCCESS", "inputs.json", "run.json"):
            continue
        if path.suffix in (".html", ".png"):
            continue  # drawn from report.json; they also show latencies
        if path.suffix == ".json" and name != "recommendations":
            document = _without_times(json.loads(path.read_bytes()))
            content = json.dumps(document, sort_keys=True).encode()
        else:
            content = path.read_bytes()
        result.parts[f"{name}/{path.name}"] = hashlib.sha256(content).hexdigest()
    if name == "experiments":
        result.parts["experiments"] = log_digest(directory)


def log_digest(directory: Path) -> str:
    """Digest of the distinct records of a directory of logs, in the order of user, session and step."""
    lines: dict[tuple[int, int, int], bytes] = {}
    for path in sorted(directory.glob("*.jsonl")):
        for record in read_records(path):
            if record is not None:
                key = (record["user"], record["session"], record["step"])
                for name in VOLATILE_FIELDS:
                    record.pop(name, None)
                lines.setdefault(key, orjson.dumps(record, option=orjson.OPT_SORT_KEYS))
    digest = hashlib.sha256()
    for key in sorted(lines):
        digest.update(lines[key] + b"\n")
    return digest.hexdigest()


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_times(v) for k, v in value.items() if k not in VOLATILE_KEYS}
    if isinstance(value, list):
        kept = [v for v in value if not (isinstance(v, dict) and v.get("name") in VOLATILE_KEYS)]
        return [_without_times(v) for v in kept]
    return value


def _check_events(result: Verification, store: Storage, log_date: date) -> None:
    name = f"experiments/date={log_date}"
    counts = store.manifest(name).counts
    seen: set[tuple[int, int, int]] = set()
    for path in sorted(store.local(name).glob("*.jsonl")):
        seen.update((r["user"], r["session"], r["step"]) for r in read_records(path) if r is not None)
    answered = counts["next"] + counts["last"]
    report = store.read_json(f"reports/date={log_date}", "report.json")
    result.check(len(seen) == answered, f"{len(seen)} distinct logged events = {answered} answered in the manifest")
    sessions = report["sessions"]
    result.check(sessions == counts["last"], f"{sessions} sessions in the report = {counts['last']} ended in the manifest")
    reported = report["counts"]["next"] + report["counts"]["last"]
    result.check(reported == answered, f"{reported} events in the report = {answered} answered in the manifest")


def _sources(store: Storage, log_date: date) -> list[str]:
    """Directories of real listeners' logs that the night's report read instead of an experiment of its own."""
    name = f"reports/date={log_date}"
    source = store.read_json(name, "report.json")["provenance"]["source"] if store.is_complete(name) else ""
    return [name for name in source.split(", ") if name.startswith("logs/")]


def _check_live_events(result: Verification, store: Storage, log_date: date, sources: list[str]) -> None:
    counts = [store.manifest(name).counts for name in sources]
    stored = sum(count["next"] + count["last"] for count in counts)
    report = store.read_json(f"reports/date={log_date}", "report.json")
    reported = report["counts"]["next"] + report["counts"]["last"]
    result.check(reported == stored, f"{reported} events in the report = {stored} in the manifests of {len(sources)} log dates")


def _check_redis(result: Verification, settings: Settings, store: Storage, log_date: date, verdict: dict[str, Any]) -> None:
    client = keyspace.connect(settings)
    content = read_directory(store.local(f"recommendations/date={log_date}"))
    version = f"{log_date}-{content.checksum[:8]}"
    result.check(version == verdict["version"], f"version {verdict['version']} is the content of the lists' files")
    if client.exists(keyspace.version_key(version)):
        result.check(publish.matches(client, version, content), f"Redis holds {version} exactly as the files do")
