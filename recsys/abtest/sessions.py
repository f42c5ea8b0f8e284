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
        guardrails = {arm: _guardrails(db, arm, catalogue) for arm in arms}
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
    """Table ``events``: distinct, valid records with base, user, session and step; ``arm`` is null outside the experiment."""
    columns = ", ".join(f"\"{name}\": '{kind}'" for name, kind in _COLUMNS.items())
    source = f"read_json(?, format='newline_delimited', ignore_errors=true, columns={{{columns}}})"
    if not files:
        source = (
            "(SELECT "
            + ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in _COLUMNS.items())
            + " WHERE ?::VARCHAR[] IS NULL)"
        )
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
    fields = 'is_last, timestamp, "user", track, time, latency, recommendation, arm, source, degraded'
    db.execute(
        f"""CREATE TEMP TABLE events AS SELECT base, session, step, {fields}, raw.rowid AS line
            FROM raw JOIN runs USING (run) WHERE valid AND session IS NOT NULL AND step IS NOT NULL"""
    )
    total, valid, lean = db.execute(
        "SELECT count(*), count(*) FILTER (valid), count(*) FILTER (valid AND (session IS NULL OR step IS NULL)) FROM raw"
    ).fetchone()
    if lean:
        _add_lean_records(db, fields)
    _drop_repeats(db)
    events, last, outside = db.execute(
        "SELECT count(*), count(*) FILTER (is_last), count(*) FILTER (arm IS NULL) FROM events"
    ).fetchone()
    return {
        "events": events, "next": events - last, "last": last, "malformed": total - valid, "repeated": valid - events,
        "outside": outside,
    }  # fmt: skip


def _add_lean_records(db: Any, fields: str) -> None:
    """Records of the original's format: a session ends with the user's ``last``; equal lines are one event."""
    db.execute(
        f"""INSERT INTO events
            WITH lean AS (
                SELECT base, {fields}, min(raw.rowid) AS line FROM raw JOIN runs USING (run)
                WHERE valid AND (session IS NULL OR step IS NULL) GROUP BY ALL
            ), numbered AS (
                SELECT *, coalesce(sum(is_last::INTEGER) OVER (PARTITION BY base, "user" ORDER BY timestamp, line
                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)::INTEGER AS session FROM lean
            )
            SELECT base, session, row_number() OVER (PARTITION BY base, "user", session ORDER BY timestamp, line)::INTEGER - 1,
                {fields}, line FROM numbered"""
    )


def _drop_repeats(db: Any) -> None:
    """Keep the first line of each (run, user, session, step)."""
    db.execute(
        """CREATE TEMP TABLE repeated AS SELECT base, "user", session, step, min(line) AS line FROM events
           GROUP BY base, "user", session, step HAVING count(*) > 1"""
    )
    db.execute(
        """DELETE FROM events USING repeated r WHERE events.base = r.base AND events."user" = r."user"
           AND events.session = r.session AND events.step = r.step AND events.line > r.line"""
    )


def _sessions(db: Any) -> dict[str, int]:
    """Table ``sessions`` of whole sessions of users in one arm, and ``people`` (user, arm)."""
    db.execute(
        """CREATE TEMP TABLE parts AS SELECT base, "user", session, min(arm) AS arm, max(arm) <> min(arm) AS mixed,
             count(*) AS steps,
             sum(time)::BIGINT AS time, count(*) FILTER (time > 800000) AS finished,
             count(*) FILTER (NOT is_last AND latency IS NOT NULL) AS requests,
             coalesce(sum(latency) FILTER (NOT is_last), 0)::BIGINT AS latency,
             count(*) FILTER (is_last) = 1 AND max(step) FILTER (is_last) = max(step) AND count(*) = max(step) + 1 AS whole,
             max(timestamp) > arg_max(timestamp, step) OR min(timestamp) < arg_min(timestamp, step) AS backwards
           FROM events WHERE arm IS NOT NULL GROUP BY base, "user", session"""
    )
    db.execute(
        """CREATE TEMP TABLE people AS SELECT "user", min(arm) AS arm FROM parts GROUP BY "user"
           HAVING min(arm) = max(arm) AND NOT bool_or(mixed)"""
    )
    db.execute(
        """CREATE TEMP TABLE sessions AS SELECT parts.*,
             row_number() OVER (PARTITION BY "user" ORDER BY base, session) - 1 AS ordinal
           FROM parts JOIN people USING ("user") WHERE whole"""
    )
    sessions, unfinished, backwards, users = db.execute(
        """SELECT (SELECT count(*) FROM sessions), count(*) FILTER (NOT whole), count(*) FILTER (backwards),
             count(DISTINCT "user") FROM parts"""
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


def _guardrails(db: Any, arm: str, catalogue: int) -> dict[str, float | None]:
    mine = 'events JOIN people USING ("user") WHERE people.arm = ?'
    plays, answers, sourced, fallback, random, known, degraded, tracks, p50, p99 = db.execute(
        f"""SELECT count(*), count(*) FILTER (NOT is_last), count(source) FILTER (NOT is_last),
              count(*) FILTER (NOT is_last AND source = 'top100'), count(*) FILTER (NOT is_last AND source = 'exploration'),
              count(degraded) FILTER (NOT is_last), count(*) FILTER (NOT is_last AND degraded), count(DISTINCT recommendation),
              quantile_cont(latency, 0.5) FILTER (NOT is_last), quantile_cont(latency, 0.99) FILTER (NOT is_last)
            FROM {mine}""",
        [arm],
    ).fetchone()
    different = db.execute(f'SELECT count(*) FROM (SELECT DISTINCT base, "user", session, track FROM {mine})', [arm]).fetchone()[
        0
    ]

    def share(part: int, whole: int) -> float | None:
        return part / whole if whole else None

    return {
        "repeat_share": share(plays - different, plays),
        "fallback_share": share(fallback, sourced),
        "degraded_share": share(degraded, known),
        "exploration_share": share(random, sourced),
        "coverage_tracks": float(tracks) if answers else None,
        "coverage_share": share(tracks, catalogue),
        "latency_p50": None if p50 is None else p50 / 1e6,
        "latency_p99": None if p99 is None else p99 / 1e6,
    }


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
