"""A data set of simulated traffic: many sessions over two log dates through the real service, described and exported.

In go a log date D and a number of sessions; out come ``logs/date=D-1`` and ``logs/date=D``, half of the sessions each, and
``datasets/date=D`` with

* ``plays.parquet``: user int32, track int32, time float64; every play, sorted by log date, user, session and step,
* ``pairs.parquet``: user int32, track int32; the distinct pairs with a time of more than 0.8, sorted,
* ``card.json``: counts, policy, propensities, seeds and checksums.

Each date is played in parts. Whoever is killed finds the finished parts again, and as every part is determined by its seed, the
two Parquet files, whose checksum is the data set's digest, are those of an undisturbed collection.
"""

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.logs.engines import engine
from recsys.night import steps as nightly
from recsys.night.collect import Reading, distinct_plays, repeated_events
from recsys.schemas import POSITIVE_TIME, RunSpec
from recsys.settings import Settings
from recsys.simulate import shards
from recsys.storage.store import Storage

if TYPE_CHECKING:
    import ibis.expr.types as ir

log = logging.getLogger(__name__)

SESSIONS = 1_000_000
#: Parts of one log date; a part is what a killed collection has to repeat.
PARTS = 8


def dates_of(log_date: date) -> tuple[date, date]:
    """The two log dates of a data set."""
    return log_date - timedelta(days=1), log_date


def plan(settings: Settings, log_date: date, sessions: int = SESSIONS) -> list[dict[str, Any]]:
    """The parts that are still to be played: ``date``, ``base``, ``version``, ``seed``, ``episodes``, ``shards``, ``shard``."""
    parts = []
    first, second = dates_of(log_date)
    for day, count in ((first, sessions - sessions // 2), (second, sessions // 2)):
        registered = nightly.traffic_plan(settings.model_copy(update={"shards": PARTS}), day, count)
        shared = {name: registered[name] for name in ("base", "version", "seed")} | {"date": str(day), "episodes": count}
        if not registered["done"]:
            parts += [shared | {"shards": PARTS, "shard": n, "batch": nightly.TRAFFIC_BATCH} for n in range(PARTS)]
    return parts


def collect(settings: Settings, log_date: date, sessions: int = SESSIONS, *, run_id: str) -> dict[str, Any]:
    """Play what is missing, store the logs and export; returns the card."""
    parts = plan(settings, log_date, sessions)
    with ThreadPoolExecutor(settings.shards) as pool:
        results = list(pool.map(lambda part: _play(settings, part, run_id), parts))
    return finish(settings, log_date, parts, results)


def finish(
    settings: Settings, log_date: date, parts: Sequence[dict[str, Any]], results: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Store the logs of finished parts, date by date, and export; returns the card."""
    for day in dates_of(log_date):
        found = [(p, result) for p, result in zip(parts, results, strict=True) if p["date"] == str(day)]
        if found:
            base = found[0][0]["base"]
            nightly.traffic_upload(settings, day, base, [result for _, result in found])
            for part, _ in found:
                _done(settings, part).unlink(missing_ok=True)
            for unfinished in settings.log_dir.glob(f"{base}.*"):  # what killed tries have logged
                shutil.rmtree(unfinished, ignore_errors=True)
    return export(settings, log_date)


def _play(settings: Settings, part: dict[str, Any], run_id: str) -> dict[str, Any]:
    done = _done(settings, part)
    if done.exists():
        result = dict(json.loads(done.read_bytes()))
        if (settings.log_dir / result["run"]).is_dir():
            log.info("part %d of %s was played before", part["shard"], part["date"])
            return result
    result = shards.simulate(
        settings, part["base"], part["shard"], part["shards"], part["episodes"], part["seed"], run_id, batch=part["batch"]
    )
    done.parent.mkdir(parents=True, exist_ok=True)
    partial = done.with_suffix(".partial")
    partial.write_text(json.dumps(result))
    partial.rename(done)
    return result


def _done(settings: Settings, part: dict[str, Any]) -> Path:
    return settings.var / "parts" / f"{part['base']}.{part['episodes']}.{part['shard']}.json"


def export(settings: Settings, log_date: date) -> dict[str, Any]:
    """Write ``datasets/date=D`` from the logs of its two dates; returns the card.

    Raises:
        MissingDataError: the logs of a date are absent.
    """
    import ibis

    store, days = Storage(settings.storage_url), dates_of(log_date)
    specs = [RunSpec.from_json(store.read_json(f"logs/date={day}", "run.json")) for day in days]
    counts = {"sessions": 0, "events": 0}
    with (
        tempfile.TemporaryDirectory(prefix="recsys-dataset-") as scratch,
        engine("duckdb", Path(scratch)) as queries,
        (Path(scratch) / "malformed").open("w") as malformed,
        store.stage(f"datasets/date={log_date}", counts) as staging,
    ):
        read = Reading(queries, Path(scratch), malformed)
        files = {day: sorted(store.local(f"logs/date={day}").glob("*.jsonl")) for day in days}
        valid = ibis.union(*[read.records(files[day], day) for day in days])
        plays = queries.keep(distinct_plays(valid, repeated_events(queries, valid)))
        queries.write(_plays(plays), staging / "plays.parquet")
        queries.write(_pairs(plays), staging / "pairs.parquet")
        summary = plays.aggregate(events=plays.count(), sessions=(plays.message == "last").sum()).to_pyarrow().to_pylist()[0]
        counts |= {name: int(value) for name, value in summary.items()}
        card = {
            "log_dates": [str(day) for day in days],
            "counts": counts | {"malformed": read.found.total()},
            "policy": [_policy(spec) for spec in specs],
            "propensity": _propensities([path for paths in files.values() for path in paths]),
            "seed": settings.seed,
            "positive_time": POSITIVE_TIME,
            "logs": {str(day): store.manifest(f"logs/date={day}").checksum for day in days},
            "digest": _digest(staging),
        }
        (staging / "card.json").write_text(json.dumps(card, indent=1, sort_keys=True))
    return card


def _plays(plays: "ir.Table") -> "ir.Table":
    return plays.order_by(["log_date", "user", "session", "step"]).select("user", "track", "time")


def _pairs(plays: "ir.Table") -> "ir.Table":
    liked = plays.filter(plays.time > POSITIVE_TIME).group_by(["user", "track"]).aggregate(plays=lambda t: t.count())
    return liked.select("user", "track").order_by(["user", "track"])


def _policy(spec: RunSpec) -> dict[str, Any]:
    told = "an unplayed track drawn uniformly at random" if spec.exploration == 1 else "the live version's answer, or at random"
    return {"run": replace(spec, experiment=None).to_json(), "exploration": spec.exploration, "answers": told}


def _propensities(files: Sequence[Path]) -> dict[str, dict[str, float]]:
    """Least, mean and greatest logged propensity of the answers, and their number, by source."""
    import duckdb

    columns = {"message": "VARCHAR", "source": "VARCHAR", "propensity": "DOUBLE"}
    with duckdb.connect() as db:
        rows = db.execute(
            "SELECT source, count(*), min(propensity), avg(propensity), max(propensity) FROM read_json($files, "
            "format = 'newline_delimited', ignore_errors = true, columns = $columns) "
            "WHERE message = 'next' GROUP BY 1 ORDER BY 1",
            {"files": [str(path) for path in files], "columns": columns},
        ).fetchall()
    # The mean's last digits depend on the order of adding.
    return {str(s): {"answers": n, "min": low, "mean": float(f"{mean:.6g}"), "max": high} for s, n, low, mean, high in rows}


def _digest(directory: Path) -> str:
    digest = hashlib.sha256()
    for name in ("plays.parquet", "pairs.parquet"):
        with (directory / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
