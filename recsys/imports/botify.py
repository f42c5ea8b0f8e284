"""Logs of the original server, in the form of any year: what they say stays as it is, and gets sessions and steps.

In go files with a JSON object a line: message, timestamp, user, track and time, as in 2022, and latency, recommendation and
experiments as far as a line has them. Tracks are numbers of the world's catalogue. A session lasts from a user's first ``next``
to the ``last``; that of a night goes on after midnight with the steps that follow.
"""

from typing import TYPE_CHECKING

from recsys.catalog import MAX_USER
from recsys.exceptions import InvalidInputError
from recsys.imports.plays import DAY
from recsys.imports.rows import BAD_TIME, NO_JSON, end_of_today, insert
from recsys.imports.tables import Table, objects_of
from recsys.logs.record import IDENTIFIER, MESSAGE, MESSAGES, NATURALS, TIME

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

UNKNOWN_TRACK = "track is not in the catalogue"


def read(db: "DuckDBPyConnection", number: int, table: Table, tracks: int) -> None:
    """Add the lines of one file to the table ``checked``.

    Args:
        tracks: how many are in the catalogue.

    Raises:
        InvalidInputError: the file cannot be read, or is another table.
    """
    if table.kind != "json":
        raise InvalidInputError(f"{table.path} is no log of the original server, which has a JSON object a line")
    query = f"""
    SELECT {number}, row, CAST("user" AS VARCHAR), CAST(track AS VARCHAR), NULL, NULL, ts, heard, message, latency,
      recommendation, experiments, reason, CASE WHEN reason IS NOT NULL THEN line END
    FROM (
      SELECT *, CASE
        WHEN found IS NULL THEN '{NO_JSON}'
        WHEN message IS NULL OR message NOT IN {MESSAGES!r} THEN '{MESSAGE}'
        WHEN "user" IS NULL OR track IS NULL THEN '{IDENTIFIER}'
        WHEN ts IS NULL OR ts > {end_of_today()} THEN '{BAD_TIME}'
        WHEN heard IS NULL THEN '{TIME}'
        WHEN track >= {tracks} THEN '{UNKNOWN_TRACK}'
        END AS reason
      FROM (
        SELECT row, line, found, json_extract_string(found, '$.message') AS message, {_natural("user", MAX_USER)} AS "user",
          {_natural("track", NATURALS["track"])} AS track, {_natural("timestamp", NATURALS["timestamp"])} AS ts,
          CASE WHEN json_type(found, '$.time') IN ('DOUBLE', 'BIGINT', 'UBIGINT') AND {_number("time")} BETWEEN 0 AND 1
            THEN {_number("time")} END AS heard,
          CASE WHEN {_number("latency")} >= 0 AND isfinite({_number("latency")}) THEN {_number("latency")} END AS latency,
          CASE WHEN message = 'next' THEN {_natural("recommendation", NATURALS["track"])} END AS recommendation,
          CASE WHEN json_type(found, '$.experiments') = 'OBJECT' THEN CAST(json_extract(found, '$.experiments') AS VARCHAR)
            ELSE '{{}}' END AS experiments
        FROM (
          SELECT row_number() OVER () AS row, line, object AS found FROM {objects_of(table.plain)}
        )
      )
    )"""  # noqa: S608 - names of this package and quoted ones
    insert(db, number, table, query)


def write_plays(db: "DuckDBPyConnection") -> None:
    """Write the table ``plays`` (:mod:`recsys.imports.plays`)."""
    db.execute(
        f"""CREATE TABLE plays AS
        SELECT ts // {DAY} AS day, "user", CAST(NULL AS VARCHAR) AS user_id, track, ts, heard, session,
          row_number() OVER (PARTITION BY "user", session ORDER BY ts, file, "row") - 1 AS step,
          message, latency, recommendation, experiments
        FROM (
          SELECT *, CAST(coalesce(sum(CAST(message = 'last' AS INTEGER)) OVER (PARTITION BY "user" ORDER BY ts, file, "row"
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS BIGINT) AS session
          FROM (
            SELECT * REPLACE (CAST("user" AS BIGINT) AS "user", CAST(track AS BIGINT) AS track) FROM checked WHERE reason IS NULL
          )
        ) ORDER BY day, "user", session, step"""  # noqa: S608 - only names and numbers of this package
    )


def _number(name: str) -> str:
    return f"TRY_CAST(json_extract_string(found, '$.{name}') AS DOUBLE)"


def _natural(name: str, end: int) -> str:
    """An integer from 0 that ends before another one, else null; a text is none, and neither is 1.5."""
    value = f"CAST(json_extract(found, '$.{name}') AS VARCHAR)"
    integer = f"TRY_CAST({value} AS HUGEINT)"
    return f"CASE WHEN regexp_full_match({value}, '[0-9]{{1,19}}') AND {integer} < {end} THEN CAST({integer} AS BIGINT) END"
