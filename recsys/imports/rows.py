"""Rows of tables, each checked: what a row says, or why it says nothing.

In go the files of an import; out comes the table ``checked`` of a DuckDB database:

* file, row: where it stands; the order of the two is that of the rows.
* user, track, artist, title: texts as given, null where empty.
* ts: milliseconds since the epoch, null where the row has no time. heard: share of the track that was heard, 0 to 1.
* message, latency, recommendation, experiments: what only logs of the original server tell, else null.
* reason: why the row is malformed, else null. text: the malformed row.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING

from recsys.catalog import MAX_USER_BYTES
from recsys.catalog.tracks import MAX_ID_BYTES
from recsys.exceptions import CorruptDataError, InvalidInputError
from recsys.imports.request import Asked
from recsys.imports.tables import Table

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: Rows that are fetched from a query at once.
FETCHED = 100_000

#: Why a row is malformed, in the order in which it is looked for.
NO_ROW, NO_JSON = "not a row of the table", "not a JSON object"
NO_USER, LONG_USER = "no user", f"user of more than {MAX_USER_BYTES} bytes"
NO_TRACK, LONG_TRACK = "no track", f"track of more than {MAX_ID_BYTES} bytes"
NO_TIME, BAD_TIME = "no time", "time is no time"
NO_DATE = "time before 1970 or in the future"
BAD_PLAYED, BAD_RATING = "played is no share from 0 to 1", "rating is no number"

_CHECKED = """CREATE TABLE checked (
  file INTEGER, "row" BIGINT, "user" VARCHAR, track VARCHAR, artist VARCHAR, title VARCHAR, ts BIGINT, heard DOUBLE,
  message VARCHAR, latency DOUBLE, recommendation BIGINT, experiments VARCHAR, reason VARCHAR, text VARCHAR)"""

#: Numbers are seconds from the first to the second of these, and milliseconds from the second on: from 1973 to 5138 in either
#: unit. Smaller ones, as 20260131 is, are no times.
_SECONDS, _MILLISECONDS = 100_000_000, 100_000_000_000


def create(db: "DuckDBPyConnection") -> None:
    """Make the empty table."""
    db.execute(_CHECKED)


def read(db: "DuckDBPyConnection", number: int, table: Table, asked: Asked) -> None:
    """Add the rows of one file.

    Raises:
        InvalidInputError: a column is not there, or the file cannot be read.
    """
    columns = asked.columns
    given = {name: f'"{name}"' if name in columns else "NULL" for name in ("user", "track", "artist", "title")}
    time = "CAST(NULL AS VARCHAR)" if asked.time is None else "nullif(trim(time), '')"
    told = ", ".join(f'"{name}" := "{name}"' for name in columns)
    query = f"""
    SELECT {number}, "row", {", ".join(given.values())}, ts, heard, NULL, NULL, NULL, NULL, reason,
      CASE WHEN reason IS NOT NULL THEN coalesce(line, CAST(to_json(struct_pack({told})) AS VARCHAR)) END
    FROM (
      SELECT *, CASE
        WHEN line IS NOT NULL THEN '{NO_JSON}'
        WHEN "user" IS NULL THEN '{NO_USER}'
        WHEN strlen("user") > {MAX_USER_BYTES} THEN '{LONG_USER}'
        WHEN {given["track"]} IS NULL AND ({given["artist"]} IS NULL OR {given["title"]} IS NULL) THEN '{NO_TRACK}'
        WHEN strlen(CAST({given["track"]} AS VARCHAR)) > {MAX_ID_BYTES} THEN '{LONG_TRACK}'
        WHEN when_played IS NULL AND {not asked.days} THEN '{NO_TIME}'
        WHEN when_played IS NOT NULL AND ts IS NULL THEN '{BAD_TIME}'
        WHEN ts NOT BETWEEN 0 AND {end_of_today()} THEN '{NO_DATE}'
        WHEN heard IS NULL THEN '{BAD_RATING if asked.rating else BAD_PLAYED}'
        END AS reason
      FROM (
        SELECT *, {time} AS when_played, {_milliseconds(time)} AS ts, {_heard(asked)} AS heard FROM ({table.select(columns)})
      )
    )"""  # noqa: S608 - names of this package and quoted ones
    insert(db, number, table, query)


def insert(db: "DuckDBPyConnection", number: int, table: Table, query: str) -> None:
    """Add the rows of a query of one file, and the lines that the query could not read.

    Raises:
        InvalidInputError: the file cannot be read.
    """
    import duckdb

    for name in ("reject_errors", "reject_scans"):
        db.execute(f"DROP TABLE IF EXISTS {name}")
    try:
        db.execute(f"INSERT INTO checked {query}")
        if table.kind != "parquet":
            # An open quote takes the lines up to the end of the file with it: each of them is a row that is lost.
            db.execute(
                f"""INSERT INTO checked BY NAME SELECT {number} AS file, line AS "row", '{NO_ROW}' AS reason, text FROM (
                    SELECT line, unnest(string_split(trim(any_value(csv_line), chr(10)), chr(10))) AS text
                    FROM reject_errors GROUP BY line)"""  # noqa: S608 - only names of this module
            )
    except duckdb.Error as error:
        if isinstance(error, duckdb.OutOfMemoryException):
            raise
        raise InvalidInputError(f"{table.path} cannot be read: {str(error).splitlines()[0][:300]}") from None


def _milliseconds(time: str) -> str:
    number = f"TRY_CAST({time} AS DOUBLE)"
    return f"""CAST(CASE
      WHEN {number} IS NULL AND regexp_matches({time}, '^[0-9]{{4}}-') THEN epoch_ms(TRY_CAST({time} AS TIMESTAMPTZ))
      WHEN {number} >= {_SECONDS} AND {number} < {_MILLISECONDS} THEN round({number} * 1000)
      WHEN {number} >= {_MILLISECONDS} AND {number} < 1e15 THEN floor({number})
      END AS BIGINT)"""


def _heard(asked: Asked) -> str:
    if asked.played is not None:
        share = "TRY_CAST(trim(played) AS DOUBLE)"
        return f"CASE WHEN {share} BETWEEN 0 AND 1 THEN {share} END"
    if asked.rating is not None:
        rating = "TRY_CAST(trim(rating) AS DOUBLE)"
        return f"CASE WHEN isfinite({rating}) THEN CASE WHEN {rating} >= {asked.liked!r} THEN 1.0 ELSE 0.0 END END"
    return "CAST(1 AS DOUBLE)"


def end_of_today() -> int:
    """The last millisecond of the present day (UTC), since the epoch."""
    tomorrow = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return int(tomorrow.timestamp() * 1000) - 1


def reasons(db: "DuckDBPyConnection") -> dict[str, int]:
    """How many rows are malformed, by reason."""
    return dict(db.execute("SELECT reason, count(*) FROM checked WHERE reason IS NOT NULL GROUP BY 1 ORDER BY 1").fetchall())


def require_few(db: "DuckDBPyConnection", files: Sequence[Path], share: float) -> None:
    """See that there are rows, and that few of them are malformed.

    Args:
        share: how many of them may be malformed.

    Raises:
        InvalidInputError: there is not one row. CorruptDataError: too many are malformed; the message tells the first of each
            kind.
    """
    rows = _one(db, "SELECT count(*) FROM checked")
    if not rows:
        raise InvalidInputError(f"{', '.join(map(str, files))} holds not one row; give a file with at least one")
    wrong = sum(reasons(db).values())
    if wrong <= share * rows and wrong < rows:
        return
    firsts = db.execute(
        """SELECT count(*), reason, min((file, "row")) AS first, arg_min(text, (file, "row")) FROM checked
           WHERE reason IS NOT NULL GROUP BY reason ORDER BY first"""
    ).fetchall()
    told = "; ".join(
        f"{count} {why}, as row {row} of {files[file].name}: {text[:120]}" for count, why, (file, row), text in firsts
    )
    raise CorruptDataError(
        f"{wrong} of {rows} rows are malformed ({told}), more than a share of {share:g} (RECSYS_MALFORMED); nothing is imported"
    )


def write_malformed(db: "DuckDBPyConnection", files: Sequence[Path], target: IO[str]) -> None:
    """Write the malformed rows in their order, each as JSON: file, row (from 1), reason, text.

    Rows are numbered without the header and without what is no row of the table, which is numbered by lines.
    """
    found = db.execute('SELECT file, "row", reason, text FROM checked WHERE reason IS NOT NULL ORDER BY ALL')
    while batch := found.fetchmany(FETCHED):
        for file, row, reason, text in batch:
            line = {"file": files[file].name, "row": row, "reason": reason, "text": text}
            target.write(json.dumps(line, ensure_ascii=False) + "\n")


def _one(db: "DuckDBPyConnection", query: str) -> int:
    row = db.execute(query).fetchone()
    return int(row[0]) if row else 0
