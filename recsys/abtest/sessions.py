"""Sessions and users of an experiment, from request logs.

In go log files of JSON lines (Nightshift's records, or the original's, which lack run, session and step); out come one row a
session, one row a user and guardrails by arm. The log rows stay inside DuckDB: a million of them take a few seconds, and larger
logs spill to disk.

What is not usable is dropped and counted: malformed or unterminated lines, repeated events, sessions without an end, users in two
arms.
"""

import logging
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from recsys.abtest import queries
from recsys.abtest.metrics import Column, Columns, Floats, Ints
from recsys.abtest.served import Intervals, latency_intervals, served_columns
from recsys.abtest.wording import counted
from recsys.exceptions import InvalidInputError, MissingDataError
from recsys.experiments import Experiment
from recsys.logs.engines import errors_of_the_system
from recsys.logs.reading import SMALL
from recsys.logs.record import is_terminated

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger(__name__)

_LOG_NAME = re.compile(r".+\.(jsonl|json|log)(\.\d+)?(\.gz)?")
_NOT_LOGS = {"manifest.json", "run.json", "inputs.json", "report.json"}
MEMORY_LIMIT = "3GB"


@dataclass(frozen=True)
class ExperimentLog:
    """What a log says about one experiment.

    ``users`` holds a row a user, ordered by user: user, arm (int, an index into ``arms``), sessions, steps, time (tracks),
    finished, requests, latency_ms. ``sessions`` holds a row a session: user (an index into ``users``), arm, ordinal
    (0 for the user's first), steps, time, ended (a timestamp in milliseconds). ``guardrails`` holds values by arm and name, None
    where the log does not tell. ``first_ms`` is the earliest timestamp of its records, in milliseconds. ``troubles`` holds what
    :func:`recsys.abtest.queries.trouble_columns` gives, if only records up to a time were read; ``served`` and ``latencies`` are
    those of :mod:`recsys.abtest.served`.
    """

    experiment: str
    arms: tuple[str, ...]
    users: Columns
    sessions: Columns
    guardrails: dict[str, dict[str, float | None]]
    counts: dict[str, int]
    warnings: tuple[str, ...]
    first_ms: int = 0
    troubles: Columns = field(default_factory=dict)
    served: Columns = field(default_factory=dict)
    latencies: Intervals = field(default_factory=dict)

    def of_arm(self, arm: str) -> Columns:
        """The users' columns of one arm; empty columns for an arm that nobody was in."""
        mask = self.users["arm"] == self._index(arm)
        return {name: column[mask] for name, column in self.users.items()}

    def sessions_of_arm(self, arm: str) -> Columns:
        """The sessions' columns of one arm."""
        mask = self.sessions["arm"] == self._index(arm)
        return {name: column[mask] for name, column in self.sessions.items()}

    def served_of_arm(self, arm: str) -> Columns:
        """What the users of one arm were served."""
        mask = self.served["arm"] == self._index(arm)
        return {name: column[mask] for name, column in self.served.items()}

    def _index(self, arm: str) -> int:
        return self.arms.index(arm) if arm in self.arms else -1


class Before(NamedTuple):
    """Users who were there before the experiment, ascending: how many sessions and plays they had, and for how many tracks."""

    user: Ints
    sessions: Ints
    steps: Ints
    time: Floats

    def of(self, users: Column) -> dict[str, Floats]:
        """The columns of these users by name; NaN for those who were not there."""
        columns = {"sessions": self.sessions, "steps": self.steps, "time": self.time}
        if not len(self.user):
            return {name: np.full(len(users), np.nan) for name in columns}
        place = np.minimum(np.searchsorted(self.user, users), len(self.user) - 1)
        return {name: np.where(self.user[place] == users, column[place], np.nan) for name, column in columns.items()}


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
    logs: Path | Sequence[Path],
    experiment: str,
    design: Experiment | None = None,
    *,
    catalogue: int = 0,
    required: bool = True,
    until: int | None = None,
) -> ExperimentLog:
    """Read the sessions of one experiment.

    Args:
        logs: files or directories.
        experiment: its name, a key of the records' ``experiments``.
        design: if given, every user's arm is recomputed by its hash and differences are counted.
        catalogue: number of tracks, for the coverage share; 0 if unknown.
        required: whether somebody must have taken part in it.
        until: leave out what is as late, in milliseconds, and read the users' troubles, too.

    Raises:
        MissingDataError: no log files. InvalidInputError: no record belongs to the experiment, though it is required; the
            message names those there are.
    """
    import duckdb

    files = log_files(logs)
    with tempfile.TemporaryDirectory(prefix="abtest-") as scratch, errors_of_the_system(), duckdb.connect() as db:
        db.execute(f"SET memory_limit='{MEMORY_LIMIT}'; SET temp_directory='{scratch}/spill'")
        readable, torn = _without_torn_lines(files, Path(scratch))
        counts = queries.load(db, readable, experiment, queries.NEVER if until is None else until)
        counts["malformed"] += torn
        log.info("read %d records from %d log files", counts["events"] + counts["repeated"], len(files))
        counts |= queries.find_sessions(db)
        arms = tuple(row[0] for row in db.execute("SELECT DISTINCT arm FROM people ORDER BY arm").fetchall())
        if required and not arms and not counts["users_in_two_arms"]:
            raise InvalidInputError(_no_such_experiment(db, experiment, counts))
        users = queries.user_columns(db, arms)
        counts["users"] = len(users["user"])
        if design is not None:
            counts["misassigned"] = _misassigned(users, arms, design, queries.names(db))
        sessions = queries.session_columns(db, users)
        guardrails = queries.guardrails(db, arms, catalogue)
        first = queries.first_timestamp(db)
        troubles = queries.trouble_columns(db, arms) if until is not None else {}
        served, latencies = served_columns(db, arms), latency_intervals(db, guardrails)
    told = tuple(_warnings(counts))
    return ExperimentLog(experiment, arms, users, sessions, guardrails, counts, told, first, troubles, served, latencies)


def read_before(logs: Path | Sequence[Path], first_ms: int) -> Before:
    """What every user did in logs from before an experiment.

    Raises:
        MissingDataError: no log files. InvalidInputError: a record is not older than ``first_ms``, the experiment's first.
    """
    import duckdb

    files = log_files(logs)
    with tempfile.TemporaryDirectory(prefix="abtest-") as scratch, errors_of_the_system(), duckdb.connect() as db:
        db.execute(f"SET memory_limit='{MEMORY_LIMIT}'; SET temp_directory='{scratch}/spill'")
        readable, _ = _without_torn_lines(files, Path(scratch))
        queries.load(db, readable, "")
        earlier, last = queries.earlier_sums(db)
    if last >= first_ms:
        raise InvalidInputError(
            f"logs from before the experiment hold a record of {last} ms, but the experiment began at {first_ms} ms; "
            "leave out what came later"
        )
    return Before(*earlier)


def read_visits(logs: Path | Sequence[Path]) -> Columns:
    """Whole sessions in any request logs, of whatever experiment, summed by user and day, ascending.

    Returns:
        Columns user, day (since 1970, UTC, by the sessions' last timestamps), sessions, time (tracks).

    Raises:
        MissingDataError: no log files.
    """
    import duckdb

    files = log_files(logs)
    with tempfile.TemporaryDirectory(prefix="abtest-") as scratch, errors_of_the_system(), duckdb.connect() as db:
        db.execute(f"SET memory_limit='{MEMORY_LIMIT}'; SET temp_directory='{scratch}/spill'")
        readable, _ = _without_torn_lines(files, Path(scratch))
        queries.load(db, readable, "")
        return queries.visits(db)


def _without_torn_lines(files: Sequence[Path], scratch: Path) -> tuple[list[str], int]:
    """Files that end with a whole line, small neighbours as one, for each costs the reader memory and time.

    A last line without a line feed was never answered and is cut off in a copy.
    """
    readable: list[str] = []
    torn = 0
    joined: Path | None = None
    for index, path in enumerate(files):
        size, is_packed = path.stat().st_size, path.name.endswith(".gz")
        is_torn = not is_packed and not is_terminated(path)
        torn += is_torn
        if size < SMALL and not is_packed:
            content = path.read_bytes()
            content = content[: content.rfind(b"\n") + 1]
            if content and joined is None:
                joined = scratch / f"{index}.jsonl"
                readable.append(str(joined))
            if content and joined:
                with joined.open("ab") as target:
                    target.write(content)
            continue
        joined = None
        whole = path
        if is_torn:
            whole = scratch / f"{index}.jsonl"
            shutil.copyfile(path, whole)
            _cut_last_line(whole)
        if whole.stat().st_size:
            readable.append(str(whole))
    return readable, torn


def _cut_last_line(path: Path) -> None:
    with path.open("r+b") as file:
        end = file.seek(0, 2)
        while end:
            begin = max(0, end - 65_536)
            file.seek(begin)
            found = file.read(end - begin).rfind(b"\n")
            if found >= 0:
                end = begin + found + 1
                break
            end = begin
        file.truncate(end)


def _misassigned(users: Columns, arms: tuple[str, ...], design: Experiment, names: Mapping[int, str]) -> int:
    """Users whose logged arm is not the one that the assignment hash gives; of texts it is that of the text."""
    logged = users["arm"].tolist()
    given = [names.get(user, user) for user in users["user"].tolist()]
    return sum(design.arm_of(user).name != arms[arm] for user, arm in zip(given, logged, strict=True))


def _no_such_experiment(db: "duckdb.DuckDBPyConnection", experiment: str, counts: dict[str, int]) -> str:
    names = [row[0] for row in db.execute("SELECT DISTINCT unnest(json_keys(others)) AS n FROM raw ORDER BY n").fetchall()]
    if not counts["events"]:
        malformed = counted(counts["malformed"], "malformed line")
        return f"the logs hold no usable record ({malformed}); check that they are request logs"
    known = f"they hold {', '.join(map(repr, names[:10]))}" if names else "they hold no experiment at all"
    return f"no record of the logs belongs to experiment {experiment!r}; {known}"


#: What each count means, of one and of many.
_WARNINGS = {
    "malformed": ("malformed or unterminated line was dropped", "malformed or unterminated lines were dropped"),
    "repeated": ("repeated record was dropped", "repeated records were dropped"),
    "outside": (
        "record belongs to no arm of this experiment and was left out",
        "records belong to no arm of this experiment and were left out",
    ),
    "unfinished_sessions": (
        "session without an end or with missing records was left out",
        "sessions without an end or with missing records were left out",
    ),
    "users_in_two_arms": ("user appears in two arms and was left out", "users appear in two arms and were left out"),
    "misassigned": (
        "user is in another arm than the assignment hash says",
        "users are in another arm than the assignment hash says",
    ),
    "clock_backwards": ("session has a clock that goes backwards", "sessions have a clock that goes backwards"),
}


def is_warning_of(text: str, names: Iterable[str]) -> bool:
    """Whether a warning tells one of these counts."""
    return any(text.endswith(f"{said}.") for name in names for said in _WARNINGS[name])


def _warnings(counts: dict[str, int]) -> list[str]:
    return [f"{counted(counts[name], *said)}." for name, said in _WARNINGS.items() if counts.get(name)]
