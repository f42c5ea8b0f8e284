"""A data set of simulated traffic: many sessions over two log dates through the real service, described and exported.

In go a log date D and a number of sessions; out come ``logs/date=D-1`` and ``logs/date=D``, half of the sessions each, and
``datasets/date=D`` with

* ``plays.parquet``: user int64, track int32, time float64; every play, sorted by log date, user, session and step,
* ``pairs.parquet``: user int64, track int32; the distinct pairs with a time of more than 0.8, sorted,
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
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from recsys.experiments import RunSpec
from recsys.logs.engines import engine
from recsys.logs.reading import Reading, distinct_plays, repeated_events
from recsys.logs.record import lines_sql, log_files, whole_sql
from recsys.night import traffic
from recsys.night.night import Night
from recsys.schemas import POSITIVE_TIME, Figures, ShardResult
from recsys.simulate.shards import Shard, shards_of, simulate
from recsys.storage.document import Document
from recsys.storage.layout import Dated
from recsys.versions import keyspace, lease

if TYPE_CHECKING:
    import ibis.expr.types as ir

log = logging.getLogger(__name__)

SESSIONS = 1_000_000
#: Parts of one log date; a part is what a killed collection has to repeat.
PARTS = 8


def dates_of(log_date: date) -> tuple[date, date]:
    """The two log dates of a data set."""
    return log_date - timedelta(days=1), log_date


class DatasetCard(Document):
    """``card.json`` of a data set.

    Attributes:
        policy: what answered, of each log date. propensity: least, mean and greatest logged propensity, and the number of
            answers, by source. logs: checksum of each date's logs. digest: of the two Parquet files.
    """

    FILE: ClassVar[str] = "card.json"
    KIND: ClassVar[Dated] = Dated.DATASETS

    log_dates: list[str]
    counts: dict[str, int]
    policy: list[Figures]
    propensity: dict[str, dict[str, float]]
    seed: int
    positive_time: float
    logs: dict[str, str]
    digest: str


def plan(night: Night, sessions: int = SESSIONS, *, rebuild: bool = False) -> list[tuple[date, Shard]]:
    """The parts that are still to be played, each with its log date; all of them in a ``rebuild``."""
    parts = []
    first, second = dates_of(night.log_date)
    for day, count in ((first, sessions - sessions // 2), (second, sessions // 2)):
        registered = traffic.plan(Night(day, night.settings), rebuild=rebuild)
        if not registered["done"]:
            shards = shards_of(
                registered["base"],
                registered["version"],
                seed=registered["seed"],
                episodes=count,
                shards=PARTS,
                batch=traffic.BATCH,
                listeners=registered["listeners"],
                tracks=registered["tracks"],
            )
            parts += [(day, shard) for shard in shards]
    return parts


def collect(night: Night, sessions: int = SESSIONS, *, run: str, rebuild: bool = False) -> DatasetCard:
    """Play what is missing, store the logs and export.

    Args:
        run: names the tries, and holds both log dates. rebuild: play what is there already, too.

    Raises:
        ConflictError: another run works on one of the log dates.
    """
    client = keyspace.connect(night.settings)
    with ExitStack() as dates:
        for day in dates_of(night.log_date):
            dates.enter_context(lease.held(client, day, run))
        parts = plan(night, sessions, rebuild=rebuild)
        with ThreadPoolExecutor(night.settings.shards) as pool:
            results = list(pool.map(lambda part: _play(night, part[0], part[1], run), parts))
        return finish(night, parts, results)


def finish(night: Night, parts: Sequence[tuple[date, Shard]], results: Sequence[ShardResult]) -> DatasetCard:
    """Store the logs of finished parts, date by date, and export."""
    for day in dates_of(night.log_date):
        found = [(shard, result) for (of, shard), result in zip(parts, results, strict=True) if of == day]
        if found:
            base = found[0][0].base
            traffic.upload(Night(day, night.settings), base, [result for _, result in found])
            for shard, _ in found:
                _done(night, shard).unlink(missing_ok=True)
            for unfinished in night.settings.log_dir.glob(f"{base}.*"):  # what killed tries have logged
                shutil.rmtree(unfinished, ignore_errors=True)
    return export(night)


def _play(night: Night, day: date, shard: Shard, run: str) -> ShardResult:
    done = _done(night, shard)
    if done.exists():
        result = ShardResult.from_json(done.read_bytes())
        if (night.settings.log_dir / result.run).is_dir():
            log.info("part %d of %s was played before", shard.shard, day)
            return result
    result = simulate(night.settings, shard, run)
    done.parent.mkdir(parents=True, exist_ok=True)
    partial = done.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(result)))
    partial.rename(done)
    return result


def _done(night: Night, shard: Shard) -> Path:
    return night.settings.var / "parts" / f"{shard.base}.{shard.episodes}.{shard.shard}.json"


def export(night: Night) -> DatasetCard:
    """Write ``datasets/date=D`` from the logs of its two dates.

    Raises:
        MissingDataError: the logs of a date are absent.
    """
    import ibis

    store, days = night.store, dates_of(night.log_date)
    specs = [store.read(RunSpec, Dated.LOGS.on(day)) for day in days]
    counts = {"sessions": 0, "events": 0}
    with (
        tempfile.TemporaryDirectory(prefix="recsys-dataset-") as scratch,
        engine("duckdb", Path(scratch)) as queries,
        (Path(scratch) / "malformed").open("w", encoding="utf-8") as malformed,
        store.stage(DatasetCard.KIND.on(night.log_date), counts) as staging,
    ):
        read = Reading(queries, Path(scratch), malformed)
        files = {day: log_files(store.local(Dated.LOGS.on(day))) for day in days}
        valid = ibis.union(*[read.records(files[day], day) for day in days])
        plays = queries.keep(distinct_plays(valid, repeated_events(queries, valid)))
        queries.write(_plays(plays), staging / "plays.parquet")
        queries.write(_pairs(plays), staging / "pairs.parquet")
        summary = plays.aggregate(events=plays.count(), sessions=(plays.message == "last").sum()).to_pyarrow().to_pylist()[0]
        counts |= {name: int(value) for name, value in summary.items()}
        card = DatasetCard(
            log_dates=[str(day) for day in days],
            counts=counts | {"malformed": read.found.total()},
            policy=[_policy(spec) for spec in specs],
            propensity=_propensities([path for paths in files.values() for path in paths]),
            seed=night.settings.seed,
            positive_time=POSITIVE_TIME,
            logs={str(day): store.manifest(Dated.LOGS.on(day)).checksum for day in days},
            digest=_digest(staging),
        )
        card.write(staging)
    return card


def _plays(plays: "ir.Table") -> "ir.Table":
    return plays.order_by(["log_date", "user", "session", "step"]).select("user", "track", "time")


def _pairs(plays: "ir.Table") -> "ir.Table":
    liked = plays.filter(plays.time > POSITIVE_TIME).group_by(["user", "track"]).aggregate(plays=lambda t: t.count())
    return liked.select("user", "track").order_by(["user", "track"])


def _policy(spec: RunSpec) -> Figures:
    told = "an unplayed track drawn uniformly at random" if spec.exploration == 1 else "the live version's answer, or at random"
    return {"run": json.loads(replace(spec, experiment=None).to_json()), "exploration": spec.exploration, "answers": told}


def _propensities(files: Sequence[Path]) -> dict[str, dict[str, float]]:
    """Least, mean and greatest logged propensity of the answers, and their number, by source."""
    import duckdb

    with duckdb.connect() as db:
        rows = db.execute(
            f"""SELECT source, count(*), min(propensity), avg(propensity), max(propensity) FROM {lines_sql("?")}
                WHERE {whole_sql()} AND message = 'next' AND propensity > 0 AND propensity <= 1
                GROUP BY 1 ORDER BY 1""",  # noqa: S608 - only names of this package
            [[str(path) for path in files]],
        ).fetchall()
    # The mean's last digits depend on the order of adding.
    return {str(s): {"answers": n, "min": low, "mean": float(f"{mean:.6g}"), "max": high} for s, n, low, mean, high in rows}


def _digest(directory: Path) -> str:
    digest = hashlib.sha256()
    for name in ("plays.parquet", "pairs.parquet"):
        with (directory / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
