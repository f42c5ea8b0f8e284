"""Raw logs to interactions: what listeners liked, and one row a session.

In go the logs of the dates (D - window, D]; out comes ``interactions/date=D``:

* ``interactions.parquet``: user int32, track int32, weight float32, log_date date32; one row for each (user, track, log date)
  with a play of more than 0.8 of the track, sorted by log date, user, track. A session's first track is the listener's own
  choice and counts like any other play.
* ``sessions.parquet``: user int32, run string, session int64, log_date date32, steps int32, time float64, first_track int32;
  sorted by log date, user, run, session.
* ``plays.parquet``: user int32, run string, session int64, step int32, track int32, hundredths int16 (how much of the track
  was heard), propensity float64 (with which the service chose the track; null if it did not), log_date date32; one row a play,
  sorted by log date, user, run, session, step.
* ``inputs.json``: every directory that was read with its manifest's checksum, the live version, the settings, the night's
  seed.

The queries are Ibis expressions; DuckDB runs them.
"""

import json
import logging
import os
import tempfile
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.exceptions import MissingDataError
from recsys.schemas import POSITIVE_TIME, night_seed
from recsys.settings import Settings
from recsys.storage import Storage

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

log = logging.getLogger(__name__)

#: Columns of a log line that are read, with their types in DuckDB.
COLUMNS = {
    "message": "VARCHAR", "user": "BIGINT", "track": "BIGINT", "time": "DOUBLE", "run": "VARCHAR", "session": "BIGINT",
    "step": "BIGINT", "timestamp": "BIGINT", "recommendation": "BIGINT", "propensity": "DOUBLE",
}  # fmt: skip

ROW_GROUP = 1_000_000


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
    connection = ibis.duckdb.connect()
    parts, lines = [], 0
    with tempfile.TemporaryDirectory() as scratch:
        for day in dates:
            files = sorted(store.local(f"logs/date={day}").glob("*.jsonl"))
            lines += sum(_lines(path) for path in files)
            parts.append(_read(connection, _whole_lines(files, Path(scratch))).mutate(log_date=ibis.literal(day)))
        valid = connection.create_table("valid", valid_records(ibis.union(*parts) if len(parts) > 1 else parts[0]), temp=True)
    plays = connection.create_table("plays", distinct_plays(valid), temp=True)
    positives = interactions(plays).to_pyarrow()
    sessions = sessions_of(plays).to_pyarrow()
    chosen = answered_plays(plays).to_pyarrow()
    records = int(valid.count().execute())
    events = int(plays.count().execute())
    if not events:
        raise MissingDataError(f"none of the {lines} lines of {len(dates)} log dates up to {log_date} is a valid record")
    counts = {
        "dates": len(dates), "lines": lines, "malformed": lines - records, "repeated": records - events, "events": events,
        "sessions": sessions.num_rows, "interactions": positives.num_rows,
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
        _write(positives, staging / "interactions.parquet")
        _write(sessions, staging / "sessions.parquet")
        _write(chosen, staging / "plays.parquet")
        (staging / "inputs.json").write_text(json.dumps(inputs, indent=1, sort_keys=True))
    connection.disconnect()
    log.info("collected %s", counts)
    return counts


def read_sessions(files: Sequence[Path]) -> "pa.Table":
    """The sessions of some log files, as in ``sessions.parquet``, without a log date of their own."""
    import ibis

    connection = ibis.duckdb.connect()
    with tempfile.TemporaryDirectory() as scratch:
        raw = _read(connection, _whole_lines(files, Path(scratch))).mutate(log_date=ibis.literal(None).cast("date"))
        sessions = sessions_of(distinct_plays(valid_records(raw))).to_pyarrow()
    connection.disconnect()
    return sessions


def valid_records(raw: "ir.Table") -> "ir.Table":
    """Lines that hold a whole record with values in range."""
    r = raw
    return raw.filter(
        r.message.isin(["next", "last"]), r.user >= 0, r.track >= 0, r.time.between(0.0, 1.0), r.session.notnull(),
        r.step.notnull(), r.run.notnull(),
    )  # fmt: skip


def distinct_plays(valid: "ir.Table") -> "ir.Table":
    """One row a play: an event repeated in its run, by whatever shard or try, keeps its earliest line.

    ``run`` becomes the run's base.
    """
    import ibis

    base = valid.mutate(run=valid.run.re_replace(r"\.[0-9]+\.[^.]*$", ""))
    keys = ["log_date", "run", "user", "session", "step"]
    first = ibis.row_number().over(group_by=keys, order_by=["timestamp", "track", "time"])
    return base.mutate(copy=first).filter(lambda t: t["copy"] == 0).drop("copy")


def interactions(plays: "ir.Table") -> "ir.Table":
    """Distinct (user, track, log date) with a play of more than 0.8, weight 1."""
    import ibis

    liked = plays.filter(plays.time > POSITIVE_TIME)
    return (
        liked.select("log_date", "user", "track")
        .distinct()
        .order_by(["log_date", "user", "track"])
        .select(
            user=lambda t: t.user.cast("int32"),
            track=lambda t: t.track.cast("int32"),
            weight=ibis.literal(1.0).cast("float32"),
            log_date=lambda t: t.log_date,
        )
    )


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
        .order_by(["log_date", "user", "run", "session"])
        .select(
            user=lambda t: t.user.cast("int32"), run=lambda t: t.run, session=lambda t: t.session, log_date=lambda t: t.log_date,
            steps=lambda t: t.steps, time=lambda t: t.hundredths.cast("float64") / 100, first_track=lambda t: t.first_track,
        )
    )  # fmt: skip


def answered_plays(plays: "ir.Table") -> "ir.Table":
    """Every play with the propensity of the answer that led to it, in the order of log date, user, run, session and step."""
    import ibis

    keys = ["log_date", "user", "run", "session"]
    window = ibis.window(group_by=keys, order_by="step")
    told = plays.mutate(answer=plays.recommendation.lag().over(window), chance=plays.propensity.lag().over(window))
    return told.order_by([*keys, "step"]).select(
        user=lambda t: t.user.cast("int32"), run=lambda t: t.run, session=lambda t: t.session,
        step=lambda t: t.step.cast("int32"), track=lambda t: t.track.cast("int32"),
        hundredths=lambda t: (t.time * 100).round().cast("int16"),
        propensity=lambda t: (t.answer == t.track).ifelse(t.chance, ibis.null("float64")), log_date=lambda t: t.log_date,
    )  # fmt: skip


def _read(connection: Any, files: Sequence[Path]) -> "ir.Table":
    return connection.read_json(
        [str(path) for path in files], columns=COLUMNS, format="newline_delimited", ignore_errors=True, hive_partitioning=False
    )


def _whole_lines(files: Sequence[Path], scratch: Path) -> list[Path]:
    """The files; of one whose last line is not terminated (it was never answered), a copy without that line."""
    whole = []
    for number, path in enumerate(files):
        data = path.read_bytes() if not _is_terminated(path) else None
        if data is not None:
            path = scratch / f"{path.parent.name}-{number}.jsonl"
            path.write_bytes(data[: data.rfind(b"\n") + 1])
        whole.append(path)
    return whole


def _is_terminated(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read() in (b"", b"\n")


def _lines(path: Path) -> int:
    """Terminated lines and an unterminated last one."""
    count, last = 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(2**22):
            count += block.count(b"\n")
            last = block[-1:]
    return count + (last != b"\n")


def _write(table: "pa.Table", path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path, row_group_size=ROW_GROUP, compression="zstd")
