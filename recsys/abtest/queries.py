# ruff: noqa: S608 - only names of this module are put into SQL; every value is a parameter
"""The queries behind :mod:`recsys.abtest.sessions`: DuckDB tables of records, sessions and users.

In goes a connection; out come tables ``raw``, ``events``, ``parts``, ``people`` and ``sessions`` in it, and counts. Sums are of
integers (millionths of a track, nanoseconds), so that the same logs give the same numbers in any order of reading.
"""

from typing import TYPE_CHECKING

import numpy as np

from recsys.abtest.metrics import Column, Columns, Floats, Ints
from recsys.catalog import number_of
from recsys.exceptions import InvalidInputError
from recsys.logs.record import NO_TRACK, SHARD_AND_TRY, SQL_TYPES, degraded_sql, lines_sql, whole_sql

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: Later than any timestamp.
NEVER = 2**63 - 1


def load(db: "DuckDBPyConnection", files: list[str], experiment: str, until: int = NEVER) -> dict[str, int]:
    """``events``: distinct, valid records with base, user, session and step; ``arm`` is null outside the experiment.

    Rows are copied only where they must be: in the original's format, or when records are repeated. Records from ``until`` on, in
    milliseconds, are left out.
    """
    source = lines_sql("?")
    if not files:
        nothing = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in {**SQL_TYPES, "user_text": "VARCHAR"}.items())
        source = f"(SELECT {nothing} WHERE ?::VARCHAR[] IS NULL)"
    # In the original's format a user may be a text; its number comes later.
    named = "user_text IS NOT NULL AND run IS NULL AND session IS NULL AND step IS NULL"
    source = f"""(SELECT * REPLACE (CASE WHEN {named} THEN 0 ELSE "user" END AS "user",
                   CASE WHEN {named} THEN user_text ELSE user_id END AS user_id), {named} AS named FROM {source})"""
    db.execute(
        f"""CREATE TEMP TABLE raw AS SELECT {whole_sql(original=True)} AS valid, {degraded_sql()} AS alone,
            message = 'last' AS is_last, timestamp,
            CASE WHEN valid OR alone THEN "user"::BIGINT END AS "user",
            -- Unknown tracks share a number; below zero each has one of its own.
            CASE WHEN valid THEN coalesce(CASE WHEN track = {NO_TRACK} THEN -1 - (hash(track_id) >> 2)::BIGINT END, track::BIGINT)
            END AS track,
            CASE WHEN valid THEN round(time * 1e6)::BIGINT END AS time,
            CASE WHEN valid AND latency BETWEEN 0 AND 1e6 THEN round(latency * 1e9)::BIGINT END AS latency,
            recommendation, json_extract_string(experiments, ?) AS arm,
            CASE WHEN arm IS NULL THEN experiments END AS others, coalesce(run, '') AS run,
            CASE WHEN valid THEN session::INTEGER END AS session, CASE WHEN valid THEN step::INTEGER END AS step,
            source, degraded, CASE WHEN valid THEN user_id END AS user_id, named FROM {source}
            WHERE coalesce(timestamp < ?, true)""",
        ["/" + experiment.replace("~", "~0").replace("/", "~1"), files, until],  # a JSON pointer
    )
    _number_texts(db)
    db.execute(
        f"""CREATE TEMP TABLE runs AS SELECT run, dense_rank() OVER (
              ORDER BY regexp_replace(run, '{SHARD_AND_TRY}', ''))::INTEGER AS base
            FROM (SELECT DISTINCT run FROM raw)"""
    )
    [(total, valid, alone, lean, bases)] = db.execute(
        """SELECT count(*), count(*) FILTER (valid), count(*) FILTER (alone),
             count(*) FILTER (valid AND (session IS NULL OR step IS NULL)),
             (SELECT count(DISTINCT base) FROM runs) FROM raw"""
    ).fetchall()
    based = "(SELECT *, rowid AS line, 1::INTEGER AS base FROM raw)"
    if bases > 1:
        based = "(SELECT raw.*, raw.rowid AS line, runs.base FROM raw JOIN runs USING (run))"
    db.execute(
        f"""CREATE TEMP {"TABLE" if lean else "VIEW"} lines AS SELECT base, session, step, {_FIELDS}, line
            FROM {based} WHERE valid AND session IS NOT NULL AND step IS NOT NULL"""
    )
    if lean:
        _add_lean_records(db)
    if _parts(db, "lines"):
        _without_repeats(db)
        _parts(db, "events")
    else:
        db.execute("CREATE TEMP VIEW events AS SELECT * FROM lines")
    sums = "coalesce(sum(steps), 0)::BIGINT, coalesce(sum(lasts), 0)::BIGINT, coalesce(sum(steps - armed), 0)::BIGINT"
    [(events, last, outside)] = db.execute(f"SELECT {sums} FROM parts").fetchall()
    counts = {"events": events, "next": events - last, "last": last}
    others = {"malformed": total - valid - alone, "degraded": alone, "repeated": valid - events}
    return {**counts, **others, "outside": outside}


def _number_texts(db: "DuckDBPyConnection") -> None:
    """Give users who are texts their numbers; a text that is no user's makes its line malformed."""
    texts = [text for (text,) in db.execute("SELECT DISTINCT user_id FROM raw WHERE named AND valid").fetchall()]
    if not texts:
        return
    import pyarrow as pa

    numbers = pa.table({"user_id": texts, "number": pa.array(map(_number_of, texts), pa.int64())})
    db.register("numbers", numbers)
    db.execute(
        """UPDATE raw SET "user" = numbers.number, valid = numbers.number IS NOT NULL
           FROM numbers WHERE raw.named AND raw.valid AND raw.user_id = numbers.user_id"""
    )
    db.unregister("numbers")


def _number_of(text: str) -> int | None:
    try:
        return number_of(text)
    except InvalidInputError:
        return None


def names(db: "DuckDBPyConnection") -> dict[int, str]:
    """What users are called whose ids are texts, by number."""
    found = db.execute("""SELECT "user", min(user_id) FROM raw WHERE valid AND user_id IS NOT NULL GROUP BY "user" """)
    return dict(found.fetchall())


_FIELDS = 'is_last, timestamp, "user", track, time, latency, recommendation, arm, source, degraded'


def _add_lean_records(db: "DuckDBPyConnection") -> None:
    """Records of the original's format: a session ends with the user's ``last``; equal lines are one event."""
    db.execute(
        f"""INSERT INTO lines
            WITH lean AS (
                SELECT base, {_FIELDS}, min(raw.rowid) AS line FROM raw JOIN runs USING (run)
                WHERE valid AND (session IS NULL OR step IS NULL) GROUP BY ALL
            ), numbered AS (
                SELECT *, coalesce(sum(is_last::INTEGER) OVER (PARTITION BY base, "user" ORDER BY timestamp, line
                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)::INTEGER AS session FROM lean
            )
            SELECT base, session, row_number() OVER (PARTITION BY base, "user", session ORDER BY timestamp, line)::INTEGER - 1,
                {_FIELDS}, line FROM numbered"""
    )


def _parts(db: "DuckDBPyConnection", source: str) -> bool:
    """Table ``parts``, a row a session, whole or not; returns whether a session may hold a step more than once.

    Steps are counted as bits of a number; a session too long for that is looked at again.
    """
    db.execute(
        f"""CREATE OR REPLACE TEMP TABLE parts AS SELECT base, "user", session, min(arm) AS arm, max(arm) <> min(arm) AS mixed,
             count(*) AS steps, count(arm) AS armed, count(*) FILTER (is_last) AS lasts,
             min(timestamp) AS began, max(timestamp) AS ended,
             sum(time)::BIGINT AS time, count(*) FILTER (time > 800000) AS finished,
             count(*) FILTER (NOT is_last AND latency IS NOT NULL) AS requests,
             coalesce(sum(latency) FILTER (NOT is_last), 0)::BIGINT AS latency,
             lasts = 1 AND max(step) FILTER (is_last) = max(step) AND count(*) = max(step) + 1
               AND armed IN (0, count(*)) AS whole,
             max(timestamp) > arg_max(timestamp, step) OR min(timestamp) < arg_min(timestamp, step) AS backwards,
             bit_count(bit_or(1::BIGINT << least(step, 62)::BIGINT)) <> count(*) AS doubtful
           FROM {source} GROUP BY base, "user", session"""
    )
    [(doubtful,)] = db.execute("SELECT coalesce(bool_or(doubtful), false) FROM parts").fetchall()
    return bool(doubtful)


def _without_repeats(db: "DuckDBPyConnection") -> None:
    """Keep the first line of each (run, user, session, step)."""
    db.execute(
        """CREATE TEMP TABLE repeated AS SELECT unnest(list_sort(list(line))[2:]) AS line FROM lines
           SEMI JOIN (SELECT * FROM parts WHERE doubtful) p ON lines.base = p.base AND lines."user" = p."user"
             AND lines.session = p.session
           GROUP BY base, "user", session, step HAVING count(*) > 1"""
    )
    db.execute("CREATE TEMP TABLE events AS SELECT * FROM lines ANTI JOIN repeated USING (line)")


def find_sessions(db: "DuckDBPyConnection") -> dict[str, int]:
    """Table ``sessions`` of whole sessions of users in one arm, and ``people`` (user, arm)."""
    db.execute(
        """CREATE TEMP TABLE people AS SELECT "user", min(arm) AS arm FROM parts WHERE arm IS NOT NULL GROUP BY "user"
           HAVING min(arm) = max(arm) AND NOT bool_or(mixed)"""
    )
    db.execute(
        """CREATE TEMP TABLE sessions AS SELECT parts.*,
             row_number() OVER (PARTITION BY "user" ORDER BY base, session) - 1 AS ordinal
           FROM parts JOIN people USING ("user") WHERE whole AND parts.arm IS NOT NULL"""
    )
    [(sessions, unfinished, backwards, mixed)] = db.execute(
        """SELECT (SELECT count(*) FROM sessions), count(*) FILTER (NOT whole), count(*) FILTER (backwards),
             count(DISTINCT "user") - (SELECT count(*) FROM people) FROM parts WHERE arm IS NOT NULL"""
    ).fetchall()
    return {"sessions": sessions, "unfinished_sessions": unfinished, "clock_backwards": backwards, "users_in_two_arms": mixed}


def user_columns(db: "DuckDBPyConnection", arms: tuple[str, ...]) -> Columns:
    """Sums over each user's whole sessions, [users] by name, users ascending; ``arm`` is a place in ``arms``, which is sorted."""
    found = db.execute(
        """SELECT "user", arm, count(*) AS sessions, sum(steps)::BIGINT AS steps, sum(time)::BIGINT AS time,
             sum(finished)::BIGINT AS finished, sum(requests)::BIGINT AS requests, sum(latency)::HUGEINT::DOUBLE AS latency_ms
           FROM sessions GROUP BY "user", arm ORDER BY "user" """
    ).fetchnumpy()
    users: dict[str, Column] = {name: np.asarray(column) for name, column in found.items()}
    names = users["arm"].astype(str)
    users["arm"] = np.searchsorted(np.array(arms, dtype=str), names) if arms else np.zeros(0, dtype=np.int64)
    users["time"] = users["time"] / 1e6
    users["latency_ms"] = users["latency_ms"] / 1e6
    return users


def session_columns(db: "DuckDBPyConnection", users: Columns) -> Columns:
    """Whole sessions, [sessions] by name, in order of user and session; ``user`` is a row of ``users``, :func:`user_columns`."""
    found = db.execute('SELECT "user", ordinal, steps, time, ended FROM sessions ORDER BY "user", ordinal').fetchnumpy()
    sessions: dict[str, Column] = {name: np.asarray(column) for name, column in found.items()}
    sessions["user"] = np.searchsorted(users["user"], sessions["user"])
    sessions["arm"] = users["arm"][sessions["user"]]
    sessions["time"] = sessions["time"] / 1e6
    return sessions


def first_timestamp(db: "DuckDBPyConnection") -> int:
    """The earliest timestamp of the experiment's records, in milliseconds."""
    [(first,)] = db.execute("SELECT coalesce(min(began), 0) FROM parts WHERE arm IS NOT NULL").fetchall()
    return int(first)


def earlier_sums(db: "DuckDBPyConnection") -> tuple[tuple[Ints, Ints, Ints, Floats], int]:
    """Users with whole sessions, in whatever arm, ascending: their sessions, plays and tracks heard; the latest timestamp."""
    found = db.execute(
        """SELECT "user", count(*) AS sessions, sum(steps)::BIGINT AS steps, sum(time)::BIGINT / 1e6 AS time
           FROM parts WHERE whole GROUP BY "user" ORDER BY "user" """
    ).fetchnumpy()
    [(last,)] = db.execute("SELECT coalesce(max(timestamp) FILTER (valid), 0) FROM raw").fetchall()
    users, sessions, steps, time = (np.asarray(found[name]) for name in ("user", "sessions", "steps", "time"))
    return (users, sessions, steps, time), last


def visits(db: "DuckDBPyConnection") -> Columns:
    """Whole sessions, in whatever arm, by user and day: user, day, sessions, time in tracks; ascending."""
    found = db.execute(
        """SELECT "user", ended // 86400000 AS day, count(*) AS sessions, sum(time) / 1e6 AS time FROM parts WHERE whole
           GROUP BY "user", day ORDER BY "user", day"""
    ).fetchnumpy()
    return {name: np.asarray(column) for name, column in found.items()}


def trouble_columns(db: "DuckDBPyConnection", arms: tuple[str, ...]) -> Columns:
    """What each user of the experiment got, [users] by name, users ascending; ``arm`` as in :func:`user_columns`.

    ``answers``: all in sessions; ``fallback``: those from the TOP 100; ``degraded``: those without Redis, which are in no
    session; ``unanswered``: requests of which Redis knows, but not the log.
    """
    found = db.execute(
        """WITH told AS (
             SELECT "user", arm, count(*) FILTER (NOT is_last) AS answers,
               count(*) FILTER (NOT is_last AND source IN ('top100', 'newcomer_top100')) AS fallback, 0 AS degraded,
               max(step) - min(step) + 1 - count(*) AS unanswered
             FROM events WHERE arm IS NOT NULL GROUP BY base, "user", session, arm
             UNION ALL SELECT "user", arm, 0, 0, count(*), 0 FROM raw
             WHERE alone AND NOT is_last AND arm IS NOT NULL GROUP BY "user", arm)
           SELECT "user", people.arm, sum(answers)::BIGINT AS answers, sum(fallback)::BIGINT AS fallback,
             sum(degraded)::BIGINT AS degraded, sum(unanswered)::BIGINT AS unanswered
           FROM told JOIN people USING ("user", arm) GROUP BY "user", people.arm ORDER BY "user" """
    ).fetchnumpy()
    users: dict[str, Column] = {name: np.asarray(column) for name, column in found.items()}
    users["arm"] = np.searchsorted(np.array(arms, dtype=str), users["arm"].astype(str)) if arms else np.zeros(0, dtype=np.int64)
    return users


def guardrails(db: "DuckDBPyConnection", arms: tuple[str, ...], catalogue: int) -> dict[str, dict[str, float | None]]:
    """Values by arm and name."""
    mine = 'events JOIN people USING ("user")'
    found = db.execute(
        f"""SELECT people.arm, count(*), count(*) FILTER (NOT is_last), count(source) FILTER (NOT is_last),
              count(*) FILTER (NOT is_last AND source IN ('top100', 'newcomer_top100')),
              count(*) FILTER (NOT is_last AND source = 'exploration'),
              count(degraded) FILTER (NOT is_last), count(*) FILTER (NOT is_last AND degraded), count(DISTINCT recommendation),
              quantile_cont(latency, [0.5, 0.99]) FILTER (NOT is_last)
            FROM {mine} GROUP BY people.arm"""
    ).fetchall()
    different = dict(
        db.execute(
            f"""SELECT arm, count(*) FROM (SELECT DISTINCT people.arm AS arm, base, "user", session, track FROM {mine})
                GROUP BY arm"""
        ).fetchall()
    )
    # Answers without Redis have no session, and so are no events.
    alone = dict(db.execute("SELECT arm, count(*) FROM raw WHERE alone AND NOT is_last GROUP BY arm").fetchall())

    def share(part: int, whole: int) -> float | None:
        return part / whole if whole else None

    values: dict[str, dict[str, float | None]] = {arm: {} for arm in arms}
    for arm, plays, answers, sourced, fallback, random, known, degraded, tracks, latency in found:
        values[arm] = {
            "repeat_share": share(plays - different[arm], plays),
            "fallback_share": share(fallback, sourced),
            "degraded_share": share(degraded + alone.get(arm, 0), known + alone.get(arm, 0)),
            "exploration_share": share(random, sourced),
            "coverage_tracks": float(tracks) if answers else None,
            "coverage_share": share(tracks, catalogue),
            "latency_p50": latency[0] / 1e6 if latency else None,
            "latency_p99": latency[1] / 1e6 if latency else None,
        }
    return values
