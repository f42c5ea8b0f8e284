"""From checked rows to plays in sessions, as a service would have logged them.

In go the table ``checked`` (:mod:`recsys.imports.rows`) and the numbers of users and tracks; out comes the table ``plays`` in the
order in which it is written: day, user, session, step, and what a line tells besides.

A row without a time goes to one of the given dates: a user's rows are dealt to them in turn, in an order and from a date that
hashes decide, so that everybody has about as many on each. A session ends after a gap, and at midnight (UTC).
"""

from typing import TYPE_CHECKING

import numpy as np

from recsys.catalog import number_of
from recsys.exceptions import InvalidInputError
from recsys.imports.catalogue import Growth, Named
from recsys.imports.request import Asked
from recsys.imports.rows import FETCHED

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

DAY = 86_400_000
#: What a row calls its track: an id, or artist and title.
_KEY = """CASE WHEN track IS NOT NULL THEN 'i' || track
  ELSE 'n' || length(coalesce(artist, '')) || ' ' || coalesce(artist, '') || coalesce(title, '') END"""


def number_users(db: "DuckDBPyConnection") -> int:
    """Write the table ``users`` (user, number, and the text of an id that is one); returns how many there are.

    Raises:
        InvalidInputError: two of them have the same number.
    """
    import pyarrow as pa

    texts = [row[0] for row in db.execute('SELECT DISTINCT "user" FROM checked WHERE reason IS NULL').fetchall()]
    numbers = np.fromiter(map(number_of, texts), np.int64, len(texts))
    order = np.argsort(numbers, kind="stable")
    twice = np.flatnonzero(numbers[order[1:]] == numbers[order[:-1]])
    if len(twice):
        first, second = sorted(texts[i] for i in order[twice[0] : twice[0] + 2])
        raise InvalidInputError(
            f"users {first!r} and {second!r} both have the number {numbers[order[twice[0]]]}, by which logs know them; "
            "call one of them something else"
        )
    named = [None if text == str(number) else text for text, number in zip(texts, numbers.tolist(), strict=True)]
    found = pa.table({"user": pa.array(texts, pa.string()), "number": numbers, "text": pa.array(named, pa.string())})
    db.register("found_users", found)
    db.execute("CREATE TABLE users AS SELECT * FROM found_users")
    db.unregister("found_users")
    return len(texts)


def number_tracks(db: "DuckDBPyConnection", growth: Growth) -> int:
    """Write the table ``tracks`` (key, number) in the order in which rows first name them; returns how many there are.

    Raises:
        InvalidInputError: the id of one would change its meaning.
    """
    import pyarrow as pa

    query = f"""SELECT {_KEY}, track, artist, title FROM checked WHERE reason IS NULL
        GROUP BY ALL ORDER BY min((file, "row"))"""  # noqa: S608 - only names of this module
    numbers: dict[str, int] = {}
    rows = db.execute(query)
    while batch := rows.fetchmany(FETCHED):
        for key, own, artist, title in batch:
            numbers[key] = growth.number_of(Named(own, artist, title))
    found = pa.table({"key": pa.array(numbers, pa.string()), "number": pa.array(numbers.values(), pa.int32())})
    db.register("found_tracks", found)
    db.execute("CREATE TABLE tracks AS SELECT * FROM found_tracks")
    db.unregister("found_tracks")
    return len(numbers)


def write_plays(db: "DuckDBPyConnection", asked: Asked) -> None:
    """Write the table ``plays`` of rows of tables."""
    db.execute(
        f"""CREATE TABLE numbered AS
        SELECT users.number AS "user", users.text AS user_id, tracks.number AS track, ts, heard, file, "row", track_key
        FROM (SELECT *, {_KEY} AS track_key FROM checked WHERE reason IS NULL) rows
        JOIN users USING ("user") JOIN tracks ON tracks.key = track_key"""  # noqa: S608 - only names of this module
    )
    timed = f"SELECT *, ts // {DAY} AS day FROM numbered WHERE ts IS NOT NULL"  # noqa: S608 - a number
    if asked.days:
        timed += f" UNION ALL BY NAME ({_spread(asked)})"
    order = 'ORDER BY ts, file, "row"'
    db.execute(
        f"""CREATE TABLE plays AS
        SELECT day, "user", user_id, track, ts, heard, session, step,
          CASE WHEN lead(step) OVER (PARTITION BY day, "user", session ORDER BY step) IS NULL THEN 'last' ELSE 'next' END
            AS message,
          CAST(NULL AS DOUBLE) AS latency, CAST(NULL AS BIGINT) AS recommendation, '{{}}' AS experiments
        FROM (
          SELECT *, row_number() OVER (PARTITION BY day, "user", session {order}) - 1 AS step
          FROM (
            SELECT *, CAST(sum(is_first) OVER (PARTITION BY day, "user" {order} ROWS UNBOUNDED PRECEDING) AS BIGINT) AS session
            FROM (
              SELECT *, coalesce(
                CAST(ts - lag(ts) OVER (PARTITION BY day, "user" {order}) > {asked.gap * 60_000} AS INTEGER), 0) AS is_first
              FROM ({timed})
            )
          )
        ) ORDER BY day, "user", session, step"""  # noqa: S608 - only names and numbers of this package
    )


def _spread(asked: Asked) -> str:
    """Rows without a time, with one: some milliseconds after the midnight with which their date begins."""
    days = asked.days
    first = (days[0] - type(days[0])(1970, 1, 1)).days
    place = f"""(row_number() OVER (PARTITION BY "user" ORDER BY md5("user" || ' ' || track_key), file, "row") - 1
        + CAST(md5_number_lower(CAST("user" AS VARCHAR)) % {len(days)} AS BIGINT))"""
    return f"""SELECT * REPLACE (day * {DAY} + place // {len(days)} AS ts) FROM (
        SELECT *, {first} + place % {len(days)} AS day
        FROM (SELECT *, {place} AS place FROM numbered WHERE ts IS NULL))"""  # noqa: S608 - only names of this module
