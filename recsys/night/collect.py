"""Raw logs to interactions: what listeners liked, and one row a session.

In go the logs of the dates (D - window, D]; out comes ``interactions/date=D``:

* ``interactions.parquet``: user int32, track int32, weight float32, log_date date32; one row for each (user, track, log date)
  with a play of more than 0.8 of the track, sorted by log date, user, track. A session's first track is the listener's own
  choice and counts like any other play.
* ``sessions.parquet``: user int32, run string, session int64, log_date date32, steps int32, time float64, first_track int32;
  sorted by log date, user, run, session.
* ``plays.parquet``: user int32, run string, session int64, step int32, track int32, hundredths int16 (how much of the track
  was heard), recommendation int32 (what was answered to the play; null on the last one), propensity float64 (of that answer),
  log_date date32; one row a play, sorted by log date, user, run, session, step.
* ``inputs.json``: every directory that was read with its manifest's checksum, the live version, the settings, the night's
  seed.

Lines that are no whole record go to ``quarantine/date=D`` of their log date, with the reason. The queries are Ibis expressions;
DuckDB or Spark runs them (:mod:`recsys.logs.engines`).
"""

import io
import json
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from recsys.exceptions import CorruptDataError, MissingDataError
from recsys.logs.engines import Engine, engine
from recsys.logs.sieve import UNTERMINATED, count_lines, is_terminated, sieve
from recsys.schemas import POSITIVE_TIME, night_seed
from recsys.settings import Settings
from recsys.storage.store import Storage

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

log = logging.getLogger(__name__)

#: What makes two lines the same event.
EVENT = ("log_date", "run", "user", "session", "step")


def window_dates(store: Storage, log_date: date, window: int) -> list[date]:
    """Log dates of (D - window, D] that have logs, ascending.

    Raises:
        MissingDataError: D itself has none.
    """
    dates = [d for d in store.dates("logs") if log_date - timedelta(days=window) < d <= log_date]
    if log_date not in dates:
        raise MissingDataError(f"logs/date={log_date} is not in {store.url}; collect it with 'recsys traffic --date {log_date}'")
    return dates


def collect_interactions(store: Storage, log_date: date, settings: Settings, live: str = "") -> dict[str, Any]:
    """Write ``interactions/date=D`` and return its counts.

    Args:
        live: the version that is live as the night begins; noted, not used.
    """
    import ibis

    dates = window_dates(store, log_date, settings.window)
    lines, malformed = 0, Counter[str]()
    with tempfile.TemporaryDirectory(prefix="recsys-collect-") as scratch, engine(settings.engine, Path(scratch)) as queries:
        parts = []
        for day in dates:
            part, counted, why = _read_day(store, queries, day, Path(scratch))
            parts.append(part)
            lines += counted
            malformed += why
        _check_share(store, lines, malformed, settings.malformed)
        valid = ibis.union(*parts) if len(parts) > 1 else parts[0]
        records = lines - malformed.total()
        if not records:
            raise MissingDataError(f"none of the {lines} lines of {len(dates)} log dates up to {log_date} is a valid record")
        plays = distinct_plays(valid, repeated_events(queries, valid))
        events = int(plays.count().execute())
        counts = {
            "dates": len(dates), "lines": lines, "malformed": malformed.total(), "repeated": records - events, "events": events,
        }  # fmt: skip
        inputs = {
            "log_date": str(log_date),
            "live": live,
            "seed": night_seed(settings.seed, log_date),
            "settings": {"window": settings.window, "positive_time": POSITIVE_TIME},
            "logs": {f"logs/date={day}": store.manifest(f"logs/date={day}").checksum for day in dates},
            "counts": counts,
        }
        with store.stage(f"interactions/date={log_date}", counts) as staging:
            tables = {"interactions": interactions(plays), "sessions": sessions_of(plays), "plays": answered_plays(plays)}
            for name, table in tables.items():
                queries.write(table, staging / f"{name}.parquet")
                counts[name] = _rows(staging / f"{name}.parquet")
            (staging / "inputs.json").write_text(json.dumps(inputs, indent=1, sort_keys=True))
    log.info("collected %s", counts)
    return counts


def read_sessions(files: Sequence[Path]) -> "pa.Table":
    """The sessions of some log files, as in ``sessions.parquet``, without a log date of their own."""
    with tempfile.TemporaryDirectory(prefix="recsys-collect-") as scratch, engine("duckdb", Path(scratch)) as queries:
        read = Reading(queries, Path(scratch), io.StringIO())
        valid = read.records(files, None)
        return sessions_of(distinct_plays(valid, repeated_events(queries, valid))).to_pyarrow()


class Reading:
    """Records of log files; lines and malformed lines are counted, the malformed ones written down."""

    def __init__(self, queries: Engine, scratch: Path, malformed: IO[str]) -> None:
        self._queries, self._scratch, self._malformed = queries, scratch, malformed
        self.lines = 0
        self.found: Counter[str] = Counter()

    def records(self, files: Sequence[Path], log_date: date | None) -> "ir.Table":
        """The whole records of one log date."""
        lines = {path: count_lines(path) for path in files}
        table = self._load(files, log_date)
        if not all(map(is_terminated, files)) or table.count().execute() != sum(lines.values()):
            table = self._load([self._whole(path, count) for path, count in lines.items()], log_date)
        self.lines += sum(lines.values())
        return table

    def _load(self, files: Sequence[Path], log_date: date | None) -> "ir.Table":
        return self._queries.keep(with_base_of_run(self._queries.read(files, log_date)))

    def _whole(self, path: Path, lines: int) -> Path:
        """The file, or if not every line is a whole record a copy of those that are."""
        if is_terminated(path) and self._queries.read([path], None).count().execute() == lines:
            return path
        copy = self._scratch / f"{len(list(self._scratch.iterdir()))}.jsonl"
        self.found += sieve(path, copy, self._malformed)
        return copy


def _read_day(store: Storage, queries: Engine, day: date, scratch: Path) -> tuple["ir.Table", int, Counter[str]]:
    """The records of one log date, its number of lines, and its malformed ones by reason, which go to quarantine."""
    files = sorted(store.local(f"logs/date={day}").glob("*.jsonl"))
    directory = Path(tempfile.mkdtemp(dir=scratch))
    name, malformed = f"quarantine/date={day}", directory / "malformed.json"
    with malformed.open("w", encoding="utf-8") as file:
        read = Reading(queries, directory, file)
        records = read.records(files, day)
    if not read.found:
        store.remove(name)
    else:
        with store.stage(name, {"lines": read.lines, **read.found}) as staging:
            shutil.copyfile(malformed, staging / "malformed.jsonl")
    return records, read.lines, read.found


def _check_share(store: Storage, lines: int, malformed: Counter[str], allowed: float) -> None:
    """Refuse logs of which too much is malformed; last lines that were never answered are no one's fault."""
    wrong = malformed.total() - malformed[UNTERMINATED]
    if wrong > allowed * lines:
        reasons = ", ".join(f"{count} {why}" for why, count in sorted(malformed.items()))
        raise CorruptDataError(
            f"{wrong} of {lines} lines are malformed ({reasons}), more than a share of {allowed:g} (RECSYS_MALFORMED); "
            f"see quarantine/date=… in {store.url}"
        )


def with_base_of_run(records: "ir.Table") -> "ir.Table":
    """``run`` becomes the run's base, without shard and try."""
    return records.mutate(run=records.run.re_replace(r"\.[0-9]+\.[^.]*$", ""))


def repeated_events(queries: Engine, valid: "ir.Table") -> "ir.Table | None":
    """Keys of the events that were logged more than once; None if there are none, as is most often so."""
    repeated = valid.group_by(EVENT).having(lambda t: t.count() > 1).aggregate(copies=lambda t: t.count())
    repeated = queries.keep(repeated.select(*EVENT))
    return repeated if repeated.count().execute() else None


def distinct_plays(valid: "ir.Table", repeated: "ir.Table | None") -> "ir.Table":
    """One row a play: an event repeated in its run, by whatever shard or try, keeps its earliest line."""
    import ibis

    if repeated is None:
        return valid
    # A window over all rows would cost more than everything else.
    first = ibis.row_number().over(group_by=EVENT, order_by=["timestamp", "track", "time", "message"])
    columns = valid.columns
    kept = valid.semi_join(repeated, EVENT).mutate(copy=first).filter(lambda t: t["copy"] == 0).select(*columns)
    return valid.anti_join(repeated, EVENT).select(*columns).union(kept)


def interactions(plays: "ir.Table") -> "ir.Table":
    """Distinct (user, track, log date) with a play of more than 0.8, weight 1."""
    import ibis

    liked = plays.filter(plays.time > POSITIVE_TIME)
    return (
        liked.group_by(["log_date", "user", "track"])
        .aggregate(plays=lambda t: t.count())
        .select(
            user=lambda t: t.user.cast("int32"), track=lambda t: t.track.cast("int32"), weight=ibis.literal(1.0).cast("float32"),
            log_date=lambda t: t.log_date,
        )
        .order_by(["log_date", "user", "track"])
    )  # fmt: skip


def sessions_of(plays: "ir.Table") -> "ir.Table":
    """One row a session, in the order of log date, user, run and session."""
    return (
        plays.group_by(["log_date", "user", "run", "session"])
        .aggregate(
            steps=lambda t: t.count().cast("int32"),
            # Times are hundredths: integers add up to the same sum in any order.
            hundredths=lambda t: (t.time * 100).round().cast("int64").sum(),
            first_track=lambda t: t.track.argmin(t.step).cast("int32"),
        )
        .select(
            user=lambda t: t.user.cast("int32"), run=lambda t: t.run, session=lambda t: t.session.cast("int64"),
            log_date=lambda t: t.log_date,
            steps=lambda t: t.steps, time=lambda t: t.hundredths.cast("float64") / 100, first_track=lambda t: t.first_track,
        )
        .order_by(["log_date", "user", "run", "session"])
    )  # fmt: skip


def answered_plays(plays: "ir.Table") -> "ir.Table":
    """Every play with what was answered to it, in the order of log date, user, run, session and step."""
    return plays.order_by(["log_date", "user", "run", "session", "step"]).select(
        user=lambda t: t.user.cast("int32"), run=lambda t: t.run, session=lambda t: t.session.cast("int64"),
        step=lambda t: t.step.cast("int32"), track=lambda t: t.track.cast("int32"),
        hundredths=lambda t: (t.time * 100).round().cast("int16"), recommendation=lambda t: t.recommendation.cast("int32"),
        propensity=lambda t: t.propensity.cast("float64"), log_date=lambda t: t.log_date,
    )  # fmt: skip


def _rows(path: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.ParquetFile(path).metadata.num_rows)
