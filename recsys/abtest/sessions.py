# ruff: noqa: S608 - only names of this module are put into SQL; every value is a parameter
"""Sessions and users of an experiment, from request logs.

In go log files of JSON lines (Nightshift's records, or the original's, which lack run, session and step); out come one row a
session, one row a user and guardrails by arm. The log rows stay inside DuckDB: a million of them take a few seconds, and larger
logs spill to disk.

What is not usable is dropped and counted: malformed or unterminated lines, repeated events, sessions without an end, users in two
arms. Sums are of integers (millionths of a track, nanoseconds), so that the same logs give the same numbers in any order of
reading.
"""

import logging
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.exceptions import InvalidInputError, MissingDataError
from recsys.schemas import Experiment

log = logging.getLogger(__name__)

_LOG_NAME = re.compile(r".+\.(jsonl|json|log)(\.\d+)?(\.gz)?")
_NOT_LOGS = {"manifest.json", "run.json", "inputs.json", "report.json"}
MEMORY_LIMIT = "3GB"


@dataclass(frozen=True)
class ExperimentLog:
    """What a log says about one experiment.

    ``users`` holds a row a user, ordered by user: user, arm (int, an index into ``arms``), sessions, steps, time (tracks),
    finished, requests, latency_ms. ``sessions`` holds a row a session: user (an index into ``users``), arm, ordinal
    (0 for the user's first), steps, time. ``guardrails`` holds values by arm and name, None where the log does not tell.
    """

    experiment: str
    arms: tuple[str, ...]
    users: dict[str, npt.NDArray[Any]]
    sessions: dict[str, npt.NDArray[Any]]
    guardrails: dict[str, dict[str, float | None]]
    counts: dict[str, int]
    warnings: tuple[str, ...]

    def of_arm(self, arm: str) -> dict[str, npt.NDArray[Any]]:
        """The users' columns of one arm; empty columns for an arm that nobody was in."""
        mask = self.users["arm"] == self._index(arm)
        return {name: column[mask] for name, column in self.users.items()}

    def sessions_of_arm(self, arm: str) -> dict[str, npt.NDArray[Any]]:
        """The sessions' columns of one arm."""
        mask = self.sessions["arm"] == self._index(arm)
        return {name: column[mask] for name, column in self.sessions.items()}

    def _index(self, arm: str) -> int:
        return self.arms.index(arm) if arm in self.arms else -1


def log_files(logs: Path | Sequence[Path]) -> list[Path]:
    """The log files among the given files and, recursively, directories; sorted.

    Raises:
        MissingDataError: there are none, or a path does not exist.
    """
    given = [logs] if isinstance(logs, Path) else list(logs)
    found: set[Path] = set()
    for path in given:
        if path.is_dir():
            found |= {p for p in path.rglob("*") if p.is_file() and p.name not in _NOT_LOGS and _LOG_NAME.fullmatch(p.name)}
        elif path.is_file():
            found.add(path)
        else:
            raise MissingDataError(f"log path {str(path)!r} does not exist; give a log file or a directory of them")
    if not found:
        raise MissingDataError(f"no log files (*.jsonl, *.json, *.log) below {', '.join(map(str, given))}")
    return sorted(found)


def read_log(
    logs: Path | Sequence[Path], experiment: str, design: Experiment | None = None, *, catalogue: int = 0
) -> ExperimentLog:
    """Read the sessions of one experiment.

    Args:
        logs: files or directories.
        experiment: its name, a key of the records' ``experiments``.
        design: if given, every user's arm is recomputed by its hash and differences are counted.
        catalogue: number of tracks, for the coverage share; 0 if unknown.

    Raises:
        MissingDataError: no log files. InvalidInputError: no record belongs to the experiment; the message names those there are.
    """
    import duckdb

    files = log_files(logs)
    with tempfile.TemporaryDirectory(prefix="abtest-") as scratch, duckdb.connect() as db:
        db.execute(f"SET memory_limit='{MEMORY_LIMIT}'; SET temp_directory='{scratch}/spill'; SET enable_progress_bar=false")
        readable, torn = _without_torn_lines(files, Path(scratch))
        counts = _load(db, readable, experiment)
        counts["malformed"] += torn
        log.info("read %d records from %d log files", counts["events"] + counts["repeated"], len(files))
        counts |= _sessions(db)
        arms = tuple(row[0] for row in db.execute("SELECT DISTINCT arm FROM people ORDER BY arm").fetchall())
        if not arms and not counts["users_in_two_arms"]:
            raise InvalidInputError(_no_such_experiment(db, experiment, counts))
        users = _users(db, arms)
        counts["users"] = len(users["user"])
        if design is not None:
            counts["misassigned"] = _misassigned(users, arms, design)
        sessions = _session_columns(db, users)
        guardrails = _guardrails(db, arms, catalogue)
    return ExperimentLog(experiment, arms, users, sessions, guardrails, counts, tuple(_warnings(counts)))


def _without_torn_lines(files: Sequence[Path], scratch: Path) -> tuple[list[str], int]:
    """Files that end with a whole line; a last line without a line feed was never answered and is cut off in a copy."""
    readable: list[str] = []
    torn = 0
    for index, path in enumerate(files):
        whole = path
        if path.stat().st_size and not path.name.endswith(".gz"):
            with path.open("rb") as file:
                file.seek(-1, 2)
                if file.read(1) != b"\n":
                    torn += 1
                    file.seek(0)
                    data = file.read()
                    whole = scratch / f"{index}.jsonl"
                    whole.write_bytes(data[: data.rfind(b"\n") + 1])
        if whole.stat().st_size:
            readable.append(str(whole))
    return readable, torn


_COLUMNS = {
    "message": "VARCHAR", "timestamp": "BIGINT", "user": "DOUBLE", "track": "DOUBLE", "time": "DOUBLE", "latency": "DOUBLE",
    "recommendation": "BIGINT", "experiments": "JSON", "run": "VARCHAR", "session": "INTEGER", "step": "INTEGER",
    "source": "VARCHAR", "degraded": "BOOLEAN",
}  # fmt: skip

# Identifiers are read as doubles and compared with their floor: reading them as integers would silently round 1.5.
_VALID = """coalesce(message IN ('next', 'last') AND "user" = floor("user") AND "user" BETWEEN 0 AND 9e15
    AND track = floor(track) AND track BETWEEN 0 AND 9e15 AND time BETWEEN 0 AND 1 AND timestamp IS NOT NULL
    AND (latency IS NULL OR latency BETWEEN 0 AND 1e6)
    AND (session IS NULL OR session >= 0) AND (step IS NULL OR step >= 0), false)"""


def _load(db: Any, files: list[str], experiment: str) -> dict[str, int]:
    """``events``: distinct, valid records with base, user, session and step; ``arm`` is null outside the experiment.

    Rows are copied only where they must be: in the original's format, or when records are repeated.
    """
    columns = ", ".join(f"\"{name}\": '{kind}'" for name, kind in _COLUMNS.items())
    source = f"read_json(?, format='newline_delimited', ignore_errors=true, columns={{{columns}}})"
    if not files:
        nothing = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in _COLUMNS.items())
        source = f"(SELECT {nothing} WHERE ?::VARCHAR[] IS NULL)"
    db.execute(
        f"""CREATE TEMP TABLE raw AS SELECT {_VALID} AS valid, message = 'last' AS is_last, timestamp,
            CASE WHEN valid THEN "user"::BIGINT END AS "user", CASE WHEN valid THEN track::BIGINT END AS track,
            CASE WHEN valid THEN round(time * 1e6)::BIGINT END AS time,
            CASE WHEN valid THEN round(latency * 1e9)::BIGINT END AS latency,
            recommendation, json_extract_string(experiments, ?) AS arm,
            CASE WHEN arm IS NULL THEN experiments END AS others, coalesce(run, '') AS run,
            session, step, source, degraded FROM {source}""",
        ["/" + experiment.replace("~", "~0").replace("/", "~1"), files],  # a JSON pointer
    )
    db.execute(
        r"""CREATE TEMP TABLE runs AS SELECT run, dense_rank() OVER (
              ORDER BY regexp_replace(run, '\.[0-9]{1,4}\.[A-Za-z0-9_-]{1,40}$', ''))::INTEGER AS base
            FROM (SELECT DISTINCT run FROM raw)"""
    )
    total, valid, lean, bases = db.execute(
        """SELECT count(*), count(*) FILTER (valid), count(*) FILTER (valid AND (session IS NULL OR step IS NULL)),
             (SELECT count(DISTINCT base) FROM runs) FROM raw"""
    ).fetchone()
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
    events, last, outside = db.execute(
        "SELECT sum(steps)::BIGINT, sum(lasts)::BIGINT, sum(steps - armed)::BIGINT FROM parts"
    ).fetchone()
    events, last, outside = events or 0, last or 0, outside or 0
    return {
        "events": events, "next": events - last, "last": last, "malformed": total - valid, "repeated": valid - events,
        "outside": outside,
    }  # fmt: skip


_FIELDS = 'is_last, timestamp, "user", track, time, latency, recommendation, arm, source, degraded'


def _add_lean_records(db: Any) -> None:
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


def _parts(db: Any, source: str) -> bool:
    """Table ``parts``, a row a session, whole or not; returns whether a session may hold a step more than once.

    Steps are counted as bits of a number; a session too long for that is looked at again.
    """
    db.execute(
        f"""CREATE OR REPLACE TEMP TABLE parts AS SELECT base, "user", session, min(arm) AS arm, max(arm) <> min(arm) AS mixed,
             count(*) AS steps, count(arm) AS armed, count(*) FILTER (is_last) AS lasts,
             sum(time)::BIGINT AS time, count(*) FILTER (time > 800000) AS finished,
             count(*) FILTER (NOT is_last AND latency IS NOT NULL) AS requests,
             coalesce(sum(latency) FILTER (NOT is_last), 0)::BIGINT AS latency,
             lasts = 1 AND max(step) FILTER (is_last) = max(step) AND count(*) = max(step) + 1
               AND armed IN (0, count(*)) AS whole,
             max(timestamp) > arg_max(timestamp, step) OR min(timestamp) < arg_min(timestamp, step) AS backwards,
             bit_count(bit_or(1::BIGINT << least(step, 62)::BIGINT)) <> count(*) AS doubtful
           FROM {source} GROUP BY base, "user", session"""
    )
    return bool(db.execute("SELECT coalesce(bool_or(doubtful), false) FROM parts").fetchone()[0])


def _without_repeats(db: Any) -> None:
    """Keep the first line of each (run, user, session, step)."""
    db.execute(
        """CREATE TEMP TABLE repeated AS SELECT unnest(list_sort(list(line))[2:]) AS line FROM lines
           SEMI JOIN (SELECT * FROM parts WHERE doubtful) p ON lines.base = p.base AND lines."user" = p."user"
             AND lines.session = p.session
           GROUP BY base, "user", session, step HAVING count(*) > 1"""
    )
    db.execute("CREATE TEMP TABLE events AS SELECT * FROM lines ANTI JOIN repeated USING (line)")


def _sessions(db: Any) -> dict[str, int]:
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
    sessions, unfinished, backwards, users = db.execute(
        """SELECT (SELECT count(*) FROM sessions), count(*) FILTER (NOT whole), count(*) FILTER (backwards),
             count(DISTINCT "user") FROM parts WHERE arm IS NOT NULL"""
    ).fetchone()
    single = db.execute("SELECT count(*) FROM people").fetchone()[0]
    return {
        "sessions": sessions, "unfinished_sessions": unfinished, "clock_backwards": backwards,
        "users_in_two_arms": users - single,
    }  # fmt: skip


def _users(db: Any, arms: tuple[str, ...]) -> dict[str, npt.NDArray[Any]]:
    found = db.execute(
        """SELECT "user", arm, count(*) AS sessions, sum(steps)::BIGINT AS steps, sum(time)::BIGINT AS time,
             sum(finished)::BIGINT AS finished, sum(requests)::BIGINT AS requests, sum(latency)::HUGEINT::DOUBLE AS latency_ms
           FROM sessions GROUP BY "user", arm ORDER BY "user" """
    ).fetchnumpy()
    users = {name: np.asarray(column) for name, column in found.items()}
    names = users["arm"].astype(str)
    users["arm"] = np.searchsorted(np.array(arms, dtype=str), names) if arms else np.zeros(0, dtype=np.int64)
    users["time"] = users["time"] / 1e6
    users["latency_ms"] = users["latency_ms"] / 1e6
    return users


def _session_columns(db: Any, users: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    found = db.execute('SELECT "user", ordinal, steps, time FROM sessions ORDER BY "user", ordinal').fetchnumpy()
    sessions = {name: np.asarray(column) for name, column in found.items()}
    sessions["user"] = np.searchsorted(users["user"], sessions["user"])
    sessions["arm"] = users["arm"][sessions["user"]]
    sessions["time"] = sessions["time"] / 1e6
    return sessions


def _misassigned(users: dict[str, npt.NDArray[Any]], arms: tuple[str, ...], design: Experiment) -> int:
    """Users whose logged arm is not the one that the assignment hash gives."""
    logged = users["arm"].tolist()
    return sum(design.arm_of(user).name != arms[arm] for user, arm in zip(users["user"].tolist(), logged, strict=True))


def _guardrails(db: Any, arms: tuple[str, ...], catalogue: int) -> dict[str, dict[str, float | None]]:
    """Values by arm and name."""
    mine = 'events JOIN people USING ("user")'
    found = db.execute(
        f"""SELECT people.arm, count(*), count(*) FILTER (NOT is_last), count(source) FILTER (NOT is_last),
              count(*) FILTER (NOT is_last AND source = 'top100'), count(*) FILTER (NOT is_last AND source = 'exploration'),
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

    def share(part: int, whole: int) -> float | None:
        return part / whole if whole else None

    values: dict[str, dict[str, float | None]] = {arm: {} for arm in arms}
    for arm, plays, answers, sourced, fallback, random, known, degraded, tracks, latency in found:
        values[arm] = {
            "repeat_share": share(plays - different[arm], plays),
            "fallback_share": share(fallback, sourced),
            "degraded_share": share(degraded, known),
            "exploration_share": share(random, sourced),
            "coverage_tracks": float(tracks) if answers else None,
            "coverage_share": share(tracks, catalogue),
            "latency_p50": latency[0] / 1e6 if latency else None,
            "latency_p99": latency[1] / 1e6 if latency else None,
        }
    return values


def _no_such_experiment(db: Any, experiment: str, counts: dict[str, int]) -> str:
    names = [row[0] for row in db.execute("SELECT DISTINCT unnest(json_keys(others)) AS n FROM raw ORDER BY n").fetchall()]
    if not counts["events"]:
        return f"the logs hold no usable record ({counts['malformed']} malformed lines); check that they are request logs"
    known = f"they hold {', '.join(map(repr, names[:10]))}" if names else "they hold no experiment at all"
    return f"no record of the logs belongs to experiment {experiment!r}; {known}"


_WARNINGS = {
    "malformed": "{n} malformed or unterminated lines were dropped.",
    "repeated": "{n} repeated records were dropped.",
    "outside": "{n} records belong to no arm of this experiment and were left out.",
    "unfinished_sessions": "{n} sessions without an end or with missing records were left out.",
    "users_in_two_arms": "{n} users appear in two arms and were left out.",
    "misassigned": "{n} users are in another arm than the assignment hash says.",
    "clock_backwards": "{n} sessions have a clock that goes backwards.",
}


def _warnings(counts: dict[str, int]) -> list[str]:
    return [text.format(n=f"{counts[name]:,}") for name, text in _WARNINGS.items() if counts.get(name)]
