"""Raw logs to interactions: what listeners liked, and one row a session.

In go the logs of the dates (D - window, D]; out comes ``interactions/date=D``:

* ``interactions.parquet``: user int64, track int32, weight float32, log_date date32; one row for each (user, track, log date)
  with a play of more than 0.8 of the track, sorted by log date, user, track. A session's first track is the listener's own
  choice and counts like any other play.
* ``sessions.parquet``: user int64, run string, session int64, log_date date32, steps int32, time float64, first_track int32;
  sorted by log date, user, run, session.
* ``plays.parquet``: user int64, run string, session int64, step int32, track int32, hundredths int16 (how much of the track
  was heard), recommendation int32 (what was answered to the play; null on the last one), propensity float64 (of that answer),
  log_date date32; one row a play, sorted by log date, user, run, session, step.
* ``inputs.json``: every directory that was read with its manifest's checksum, that of the date's catalogue too, the live
  version, the settings, the night's seed.

A track that the service did not know by its id has the number that the date's catalogue has for it. Plays of tracks that this
catalogue does not have either are counted as ``unknown_tracks`` and left out, but for the sessions that they belong to.

Malformed lines go to ``quarantine/date=D`` of their log date, with the reason; what was answered without Redis is counted. The
queries are Ibis expressions; DuckDB or Spark runs them (:mod:`recsys.logs.engines`).
"""

import io
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from recsys.exceptions import CorruptDataError, MissingDataError
from recsys.logs.engines import Engine, engine
from recsys.logs.reading import Reading, displaced_events, distinct_plays, repeated_events, with_tracks
from recsys.logs.record import NO_TRACK, UNTERMINATED, log_files
from recsys.night.catalogue import checksum_of, dated, tracks_of
from recsys.night.night import Night
from recsys.schemas import POSITIVE_TIME, Inputs, Learning
from recsys.storage.layout import Dated
from recsys.storage.store import Storage

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

log = logging.getLogger(__name__)


def require_logs(night: Night) -> None:
    """See that the log date has logs.

    Raises:
        MissingDataError: it has none.
    """
    if not night.store.is_complete(night.logs):
        raise MissingDataError(
            f"{night.logs} is not in {night.store.url}; collect it with 'recsys traffic --date {night.log_date}'"
        )


def window_dates(night: Night) -> list[date]:
    """Log dates of (D - window, D] that have logs, ascending.

    Raises:
        MissingDataError: D itself has none.
    """
    require_logs(night)
    first = night.log_date - timedelta(days=night.settings.window - 1)
    return [day for day in night.store.dates(Dated.LOGS) if first <= day <= night.log_date]


def collect(night: Night, *, live: str = "", reference: str = "", backfill: bool = False) -> dict[str, int]:
    """Write ``interactions/date=D`` and return its counts.

    Args:
        live: the version that the candidate will be compared with. reference: the log date of the last one that was shown better.
        backfill: whether the night is one. All are noted, not used.
    """
    import ibis

    store, settings = night.store, night.settings
    dates, tracks = window_dates(night), dated(night).tracks
    lines, degraded, malformed = 0, 0, Counter[str]()
    with (
        tempfile.TemporaryDirectory(prefix="recsys-collect-") as scratch,
        engine(settings.engine, Path(scratch), settings.spark_master) as queries,
    ):
        parts = []
        for day in dates:
            part, read = _read_day(store, queries, day, Path(scratch))
            parts.append(part)
            lines += read.lines
            degraded += read.degraded
            malformed += read.found
        _check_share(store, lines, malformed, settings.malformed)
        valid = ibis.union(*parts) if len(parts) > 1 else parts[0]
        records = lines - degraded - malformed.total()
        if not records:
            raise MissingDataError(
                f"none of the {lines} lines of {len(dates)} log dates up to {night.log_date} is a valid record"
            )
        found_again = repeated_events(queries, valid)
        plays, displaced = distinct_plays(valid, found_again), displaced_events(valid, found_again)
        if displaced:
            log.warning(
                "dropped %d events in the places of earlier ones: Redis seems to have gone back to an older copy", displaced
            )
        plays, events, unknown = _named(night, plays, tracks)
        known = plays.filter(plays.track < tracks)
        others = {"malformed": malformed.total(), "degraded": degraded, "repeated": records - events, "displaced": displaced}
        others["unknown_tracks"] = unknown
        counts = {"dates": len(dates), "lines": lines, **others, "events": events}
        with store.stage(night.interactions, counts) as staging:
            tables = {"interactions": interactions(known), "sessions": sessions_of(plays), "plays": answered_plays(known)}
            for name, table in tables.items():
                queries.write(table, staging / f"{name}.parquet")
                counts[name] = _rows(staging / f"{name}.parquet")
            logs = [Dated.LOGS.on(day) for day in dates]
            Inputs(
                log_date=str(night.log_date),
                live=live,
                reference=reference,
                backfill=backfill,
                seed=night.seed,
                settings=Learning(window=settings.window, positive_time=POSITIVE_TIME),
                logs={name: store.manifest(name).checksum for name in logs},
                catalogue=checksum_of(night),
                counts=counts,
            ).write(staging)
    log.info("collected %s", counts)
    return counts


def read_sessions(files: Sequence[Path]) -> "pa.Table":
    """The sessions of some log files, as in ``sessions.parquet``, without a log date of their own."""
    with tempfile.TemporaryDirectory(prefix="recsys-collect-") as scratch, engine("duckdb", Path(scratch)) as queries:
        read = Reading(queries, Path(scratch), io.StringIO())
        valid = read.records(files, None)
        return sessions_of(distinct_plays(valid, repeated_events(queries, valid))).to_pyarrow()


def _read_day(store: Storage, queries: Engine, day: date, scratch: Path) -> tuple["ir.Table", Reading]:
    """The records of one log date, and what else there was; malformed lines go to quarantine."""
    files = log_files(store.local(Dated.LOGS.on(day)))
    directory = Path(tempfile.mkdtemp(dir=scratch))
    name, malformed = Dated.QUARANTINE.on(day), directory / "malformed.json"
    with malformed.open("w", encoding="utf-8") as file:
        read = Reading(queries, directory, file)
        records = read.records(files, day)
    if not read.found:
        store.remove(name)
    else:
        with store.stage(name, {"lines": read.lines, **read.found}) as staging:
            shutil.copyfile(malformed, staging / "malformed.jsonl")
    return records, read


def _named(night: Night, plays: "ir.Table", tracks: int) -> tuple["ir.Table", int, int]:
    """The plays, with the numbers that the date's catalogue has for ids; how many, and how many of none of its tracks."""
    sums = {"unknown": (plays.track >= tracks).sum(), "unnamed": (plays.track == NO_TRACK).sum()}
    [found] = plays.aggregate(events=plays.count(), **sums).to_pyarrow().to_pylist()
    unknown = found["unknown"] or 0
    if found["unnamed"]:
        plays = with_tracks(plays, tracks_of(night).number_of)
        unknown = int((plays.track >= tracks).sum().execute())
    if unknown:
        text = "left out %d plays of tracks beyond the %d of %s: their catalogue came later, or is another one"
        log.warning(text, unknown, tracks, night.catalogue)
    return plays, found["events"], unknown


def _check_share(store: Storage, lines: int, malformed: Counter[str], allowed: float) -> None:
    """Refuse logs of which too much is malformed; last lines that were never answered are no one's fault."""
    wrong = malformed.total() - malformed[UNTERMINATED]
    if wrong > allowed * lines:
        reasons = ", ".join(f"{count} {why}" for why, count in sorted(malformed.items()))
        raise CorruptDataError(
            f"{wrong} of {lines} lines are malformed ({reasons}), more than a share of {allowed:g} (RECSYS_MALFORMED); "
            f"see quarantine/date=… in {store.url}"
        )


def interactions(plays: "ir.Table") -> "ir.Table":
    """Distinct (user, track, log date) with a play of more than 0.8, weight 1."""
    import ibis

    keys = ["log_date", "user", "track"]
    liked = plays.filter(plays.time > POSITIVE_TIME).select(*keys).distinct()
    columns = liked.mutate(weight=ibis.literal(1.0)).select("user", "track", "weight", "log_date")
    return columns.cast({"user": "int64", "track": "int32", "weight": "float32"}).order_by(keys)


def sessions_of(plays: "ir.Table") -> "ir.Table":
    """One row a session, in the order of log date, user, run and session."""
    keys = ["log_date", "user", "run", "session"]
    # Times are hundredths: integers add up to the same sum in any order.
    found = plays.group_by(keys).aggregate(
        steps=lambda t: t.count(), hundredths=lambda t: _hundredths(t).sum(), first_track=lambda t: t.track.argmin(t.step)
    )
    columns = found.mutate(time=found.hundredths.cast("float64") / 100).select(
        "user", "run", "session", "log_date", "steps", "time", "first_track"
    )
    return columns.cast({"user": "int64", "session": "int64", "steps": "int32", "first_track": "int32"}).order_by(keys)


def answered_plays(plays: "ir.Table") -> "ir.Table":
    """Every play with what was answered to it, in the order of log date, user, run, session and step."""
    ordered = plays.order_by(["log_date", "user", "run", "session", "step"])
    columns = ordered.mutate(hundredths=_hundredths(ordered)).select(
        "user", "run", "session", "step", "track", "hundredths", "recommendation", "propensity", "log_date"
    )
    integers = {"user": "int64", "session": "int64", "step": "int32", "track": "int32", "recommendation": "int32"}
    return columns.cast({**integers, "hundredths": "int16", "propensity": "float64"})


def _hundredths(plays: "ir.Table") -> "ir.IntegerColumn":
    """Heard hundredths of the track."""
    return (plays.time * 100).round().cast("int64")


def _rows(path: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.ParquetFile(path).metadata.num_rows)
