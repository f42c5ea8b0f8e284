"""The check of a finished night: a date in, what is right and what is not out.

:func:`verify` compares everything that a night left behind, in files and in Redis, and reduces it to one digest without times and
run ids: equal digests mean equal nights.
"""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import orjson
from pydantic import JsonValue

from recsys.abtest.schema import Report
from recsys.abtest.sessions import is_warning_of
from recsys.exceptions import MissingDataError, RecsysError
from recsys.logs.record import log_files, records
from recsys.night.night import Night
from recsys.schemas import Inputs, Verdict
from recsys.storage.layout import Dated
from recsys.versions import keyspace, publish
from recsys.versions.content import read_directory

#: Fields of a log record that differ between equal nights.
VOLATILE_FIELDS = ("timestamp", "latency", "run", "version")
#: Keys of JSON documents that differ between equal nights, wherever they stand.
VOLATILE_KEYS = (
    frozenset({"timing", "mean_request_time", "latency_p50", "latency_p99", "seconds", "degraded_share"})
    | {"outcome", "calibration", "paired", "history", "pictures"}  # what else stood in the storage when the report was written
    | {"code", "fingerprint"}  # of the models' sources: another commit may well give an equal night
)
#: Counts of requests that were sent again and of steps of the clock: what a night went through, not what it found.
CIRCUMSTANCES = ("repeated", "clock_backwards")


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


def verify(night: Night) -> Verification:
    """Check one finished night.

    Raises:
        MissingDataError: the night has no verdict yet.
    """
    require_finished(night)
    store = night.store
    result = Verification(night.log_date)
    verdict = Verdict.read(store, night.log_date)
    result.parts["verdict"] = verdict.verdict
    kinds = [Dated.INTERACTIONS, Dated.MODELS, Dated.GATES, Dated.REPORTS]
    report = Report.find(store, night.log_date)
    sources = _sources(report)
    if verdict.verdict != "gate_refused":
        played = report is None or (report.experiment is not None and not sources)
        kinds += [Dated.RECOMMENDATIONS, Dated.EXPERIMENTS] if played else [Dated.RECOMMENDATIONS]
    for kind in kinds:
        try:
            directory = store.local(kind.on(night.log_date))
        except RecsysError as error:
            result.failures.append(str(error))
            continue
        result.check(True, f"{kind}: every file matches its checksum")
        _add_parts(result, kind, directory)
    _check_catalogue(result, night)
    if report and not result.failures:
        if Dated.EXPERIMENTS in kinds:
            _check_events(result, night, report)
        if sources:
            _check_live_events(result, night, report, sources)
    if verdict.verdict != "gate_refused" and not result.failures:
        _check_redis(result, night, verdict)
    return result


def require_finished(night: Night) -> None:
    """See that the night has a verdict.

    Raises:
        MissingDataError: it has none.
    """
    if not night.store.is_complete(Verdict.KIND.on(night.log_date)):
        raise MissingDataError(f"log date {night.log_date} has no finished night in {night.store.url}; run it first")


def _add_parts(result: Verification, kind: Dated, directory: Path) -> None:
    for path in sorted(directory.iterdir()):
        if path.suffix == ".jsonl" or path.name in ("manifest.json", "_SUCCESS", "inputs.json", "run.json"):
            continue
        if path.suffix in (".html", ".png"):
            continue  # drawn from report.json; they also show latencies
        if path.suffix == ".json" and kind != Dated.RECOMMENDATIONS:
            document = _without_times(json.loads(path.read_bytes()))
            content = json.dumps(document, sort_keys=True).encode()
        else:
            content = path.read_bytes()
        result.parts[f"{kind}/{path.name}"] = hashlib.sha256(content).hexdigest()
    if kind == Dated.EXPERIMENTS:
        result.parts["experiments"] = log_digest(directory)


def log_digest(directory: Path) -> str:
    """Digest of the distinct records of a directory of logs, in the order of user, session and step."""
    lines: dict[tuple[int, int, int], bytes] = {}
    for path in log_files(directory):
        for record in records(path):
            if not isinstance(record, str):
                key = (record["user"], record["session"], record["step"])
                kept = {name: value for name, value in record.items() if name not in VOLATILE_FIELDS}
                lines.setdefault(key, orjson.dumps(kept, option=orjson.OPT_SORT_KEYS))
    digest = hashlib.sha256()
    for key in sorted(lines):
        digest.update(lines[key] + b"\n")
    return digest.hexdigest()


def _without_times(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        kept = {k: _without_times(v) for k, v in value.items() if k not in VOLATILE_KEYS}
        return kept | {name: 0 for name in CIRCUMSTANCES if name in kept}
    if isinstance(value, list):
        return [_without_times(v) for v in value if not _is_volatile(v)]
    return value


def _is_volatile(value: JsonValue) -> bool:
    if isinstance(value, dict):
        return value.get("name") in VOLATILE_KEYS
    return isinstance(value, str) and is_warning_of(value, CIRCUMSTANCES)


def _check_catalogue(result: Verification, night: Night) -> None:
    """That the date's catalogue is still the one that the night has read; nights from before there were copies have none."""
    inputs = Inputs.find(night.store, night.log_date)
    if inputs is None or not inputs.catalogue:
        return
    try:
        night.store.local(night.catalogue)
    except RecsysError as error:
        result.failures.append(str(error))
    else:
        same = night.store.manifest(night.catalogue).checksum == inputs.catalogue
        result.check(same, f"{Dated.CATALOGUES}: every file matches its checksum, and is what the night has read")


def _check_events(result: Verification, night: Night, report: Report) -> None:
    counts = night.store.manifest(night.experiment).counts
    seen: set[tuple[int, int, int]] = set()
    for path in log_files(night.store.local(night.experiment)):
        whole = (record for record in records(path) if not isinstance(record, str))
        seen.update((record["user"], record["session"], record["step"]) for record in whole)
    answered = counts["next"] + counts["last"]
    result.check(len(seen) == answered, f"{len(seen)} distinct logged events = {answered} answered in the manifest")
    sessions = report.sessions
    result.check(sessions == counts["last"], f"{sessions} sessions in the report = {counts['last']} ended in the manifest")
    reported = report.counts["next"] + report.counts["last"]
    result.check(reported == answered, f"{reported} events in the report = {answered} answered in the manifest")


def _sources(report: Report | None) -> list[str]:
    """Directories of real listeners' logs that the night's report read instead of an experiment of its own."""
    names = report.provenance.source.split(", ") if report else []
    return [name for name in names if name.startswith(f"{Dated.LOGS}/")]


def _check_live_events(result: Verification, night: Night, report: Report, sources: list[str]) -> None:
    counts = [night.store.manifest(name).counts for name in sources]
    stored = sum(count["next"] + count["last"] for count in counts)
    reported = report.counts["next"] + report.counts["last"]
    result.check(reported == stored, f"{reported} events in the report = {stored} in the manifests of {len(sources)} log dates")


def _check_redis(result: Verification, night: Night, verdict: Verdict) -> None:
    client = keyspace.connect(night.settings)
    content = read_directory(night.store.local(night.recommendations))
    version = content.version(night.log_date)
    result.check(version == verdict.version, f"version {verdict.version} is the content of the lists' files")
    if client.exists(keyspace.version_key(version)):
        result.check(publish.matches(client, version, content), f"Redis holds {version} exactly as the files do")
