"""One line of a request log: its fields, their types, what makes it a whole record, and the base of its run.

Every reader goes by what stands here: Python readers through :func:`records` and :func:`reason`, the query engines through the
tables and expressions at the end. A line that is no whole record is never an error: it is left out, and who must count it can.
What was answered without Redis is a record of its own kind: no session stands behind it, so it is counted, and read by nobody.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NotRequired, TypedDict, cast

import orjson

from recsys.exceptions import InvalidInputError

#: What the original server wrote, and the order of the fields in a line: the original's come first. The last two stand only in
#: lines of requests that named a user, or an unknown track, by a text.
ORIGINAL_FIELDS = ("message", "timestamp", "user", "track", "time", "latency", "recommendation", "experiments")
OWN_FIELDS = ("run", "version", "session", "step", "event", "source", "degraded", "propensity")
FIELDS = (*ORIGINAL_FIELDS, *OWN_FIELDS, "user_id", "track_id")
#: Fields that a record must have.
REQUIRED = ("message", "timestamp", "user", "track", "time", "run", "session", "step")
MESSAGES = ("next", "last")
#: Natural numbers, and where each kind ends: users and milliseconds are stored as 64-bit integers, the others as 32-bit ones.
NATURALS = {"timestamp": 2**63, "user": 2**63, "track": 2**31, "session": 2**31, "step": 2**31}
#: Session number of what was answered without Redis.
NO_SESSION = -1
#: Number of a track that the service did not know under the name that it was given; its line ends with that name.
NO_TRACK = 2**31 - 1
#: What a run id looks like, and its end, the shard and the try.
RUN = "[A-Za-z0-9_.-]{1,200}"
SHARD_AND_TRY = r"\.[0-9]{1,4}\.[A-Za-z0-9_-]{1,40}$"

#: Why a line is no record, in the order in which it is looked for.
UNTERMINATED, NO_JSON, NO_OBJECT = "unterminated", "not JSON", "not an object"
MESSAGE, IDENTIFIER = "unknown message", "identifier missing or not a natural number"
TIME, NO_RUN = "time out of range", "no run, or not a plain name"
#: What a line is that is whole but for its session, which nobody knew; it is not malformed.
DEGRADED = "answered without Redis"

#: Columns that query engines read, and their types; :data:`IDS` are null in most lines.
COLUMNS = {
    "message": "string",
    "timestamp": "int64",
    "user": "int64",
    "track": "int32",
    "time": "float64",
    "run": "string",
    "session": "int32",
    "step": "int32",
    "recommendation": "int32",
    "propensity": "float64",
    "user_id": "string",
    "track_id": "string",
}
#: What a user, or a track that the service did not know, is called where it was named by a text; see :func:`ids`.
IDS = ("user_id", "track_id")

#: Columns of :func:`lines_sql`: quick, but a number in quotes passes for a number in those that are doubles, which are what may
#: turn out to be no integer.
SQL_TYPES = {
    "message": "VARCHAR",
    "timestamp": "BIGINT",
    "user": "BIGINT",
    "track": "DOUBLE",
    "time": "DOUBLE",
    "latency": "DOUBLE",
    "recommendation": "BIGINT",
    "experiments": "JSON",
    "run": "VARCHAR",
    "session": "DOUBLE",
    "step": "DOUBLE",
    "source": "VARCHAR",
    "degraded": "BOOLEAN",
    "propensity": "DOUBLE",
    "user_id": "VARCHAR",
    "track_id": "VARCHAR",
}
#: Those that are read as JSON text: a double does not hold every user, and an integer column takes 1.5.
_EXACT = ("user", *IDS)

_RUN, _BASE = re.compile(RUN), re.compile(SHARD_AND_TRY)
_PREVIEW = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}" + SHARD_AND_TRY)


class Record(TypedDict):
    """A whole record. What it may lack, it may also have of any type, but for what :func:`answer` gives."""

    message: Literal["next", "last"]
    timestamp: int
    user: int
    track: int
    time: float
    run: str
    session: int
    step: int
    latency: NotRequired[float | None]
    recommendation: NotRequired[int | None]
    experiments: NotRequired[dict[str, str]]
    version: NotRequired[str]
    event: NotRequired[str | None]
    source: NotRequired[str | None]
    degraded: NotRequired[bool]
    propensity: NotRequired[float | None]
    user_id: NotRequired[str]
    track_id: NotRequired[str]


def log_files(directory: Path, pattern: str = "*.jsonl") -> list[Path]:
    """The log files of a directory, sorted.

    Raises:
        InvalidInputError: there are others in another form, compressed ones say, which would be left out.
    """
    packed = next(directory.glob(f"{pattern}.*"), None)
    if packed:
        raise InvalidInputError(f"{packed} is a log in another form, which nobody reads; unpack it, or move it elsewhere")
    return sorted(directory.glob(pattern))


def reason(line: bytes) -> str | None:
    """Why a line of a log is no whole record; None if it is one.

    >>> reason(b'{"message": "next", "timestamp": 1, "user": 2, "track": 3, "time": 0.5, "run": "r", "session": 0, "step": 0}')
    >>> reason(b'{"message": "stop"}')
    'unknown message'
    """
    found = read(line)
    return found if isinstance(found, str) else None


def read(line: bytes) -> Record | str:
    """The record of a line, or why it is none."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return NO_JSON
    if not isinstance(record, dict):
        return NO_OBJECT
    if record.get("message") not in MESSAGES:
        return MESSAGE
    degraded = record.get("degraded") is True and record.get("session") == NO_SESSION and type(record["session"]) is int
    if not all(_is_natural(record.get(name), end) for name, end in NATURALS.items() if name != "session" or not degraded):
        return IDENTIFIER
    time = record.get("time")
    if (type(time) is not float and type(time) is not int) or not 0 <= time <= 1:
        return TIME
    run = record.get("run")
    if type(run) is not str or not _RUN.fullmatch(run):
        return NO_RUN
    return DEGRADED if degraded else cast(Record, record)


def is_original(line: bytes) -> bool:
    """Whether a line is an event as the original server wrote it, which names no run, session and step."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    placed = ("run", "session", "step")
    return isinstance(record, dict) and record.get("message") in MESSAGES and not any(name in record for name in placed)


def records(path: Path) -> Iterator[Record | str]:
    """The records of a log file; for any other line why it is none, for an unterminated last one too (it was never answered)."""
    with path.open("rb") as file:
        for line in file:
            yield read(line) if line.endswith(b"\n") else UNTERMINATED


def answer(record: Record) -> tuple[int | None, float | None]:
    """What was answered, and the probability with which it was chosen; values that cannot be are as good as none."""
    track, chance = record.get("recommendation"), record.get("propensity")
    possible = (type(chance) is float or type(chance) is int) and 0 < chance <= 1
    return track if _is_natural(track, NATURALS["track"]) else None, chance if possible else None


def ids(record: Record) -> tuple[str | None, str | None]:
    """The texts by which user and track were named, ``user_id`` and ``track_id``; what is no text is as good as none."""
    user, track = record.get("user_id"), record.get("track_id")
    return user if type(user) is str else None, track if type(track) is str else None


def base_of(run: str) -> str:
    """A run id without its shard and try.

    >>> base_of("2026-11-23-0a1b2c3d.0.1"), base_of("live")
    ('2026-11-23-0a1b2c3d', 'live')
    """
    return _BASE.sub("", run)


def preview_base(run: str) -> str:
    """The base of a run id ``<base>.<shard>.<try>``, by which a run is registered.

    >>> preview_base("2026-11-23-0a1b2c3d.0.1")
    '2026-11-23-0a1b2c3d'

    Raises:
        InvalidInputError: it has another form.
    """
    if not _PREVIEW.fullmatch(run):
        raise InvalidInputError(f"run id {run[:100]!r} is not of the form <base>.<shard>.<try>")
    return base_of(run)


def lines_sql(files: str) -> str:
    """A source of lines, in DuckDB's SQL, with the columns of :data:`SQL_TYPES`; ``files`` is the expression of their paths.

    ``user_text`` is beside them: a user who is a text, as in logs of others.
    """
    columns = ", ".join(f"'{name}': '{'JSON' if name in _EXACT else kind}'" for name, kind in SQL_TYPES.items())
    lines = f"read_json({files}, format = 'newline_delimited', ignore_errors = true, columns = {{{columns}}})"
    # A cast of text rounds 1.5.
    number = 'CAST("user" AS VARCHAR)'
    user = f"""CASE WHEN NOT contains({number}, '.') THEN TRY_CAST({number} AS BIGINT) END AS "user\""""
    exact = ", ".join([user, *(f'{text_sql(name)} AS "{name}"' for name in IDS)])
    text = f"{text_sql('user')} AS user_text"
    return f"(SELECT * REPLACE ({exact}), {text} FROM {lines})"  # noqa: S608 - only names of this module


def text_sql(name: str) -> str:
    """The text in a column of JSON values, in DuckDB's SQL; null for anything else."""
    return f"""CASE WHEN starts_with(CAST("{name}" AS VARCHAR), '"') THEN json_extract_string("{name}", '$') END"""


def whole_sql(*, original: bool = False) -> str:
    """The condition, in SQL, that columns of these names and of numeric types make a whole record.

    Args:
        original: take the original server's records too, which have no run, session and step.
    """
    ours = f"{_natural_sql('session')} AND {_natural_sql('step')} AND regexp_full_match(run, '{RUN}')"
    return _event_sql(f"(({ours}) OR (run IS NULL AND session IS NULL AND step IS NULL))" if original else ours)


def degraded_sql() -> str:
    """The condition that such columns make a record of what was answered without Redis."""
    return _event_sql(f"degraded AND session = {NO_SESSION} AND {_natural_sql('step')} AND regexp_full_match(run, '{RUN}')")


def _event_sql(placed: str) -> str:
    """The condition that columns make an event, of which another one tells where it stands."""
    naturals = [_natural_sql(name) for name in ("timestamp", "user", "track")]
    return f"coalesce({' AND '.join([f'message IN {MESSAGES!r}', 'time BETWEEN 0 AND 1', *naturals, placed])}, false)"


def _natural_sql(name: str) -> str:
    # Columns may be wider than integers, so that 1.5 is not rounded.
    return f'"{name}" BETWEEN 0 AND {NATURALS[name] - 1} AND "{name}" = floor("{name}")'


def is_terminated(path: Path) -> bool:
    """Whether the last line ends with a line feed; one that does not was never answered."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read() in (b"", b"\n")


def count_lines(path: Path) -> int:
    """Terminated lines, and an unterminated last one."""
    count, last = 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(2**22):
            count += block.count(b"\n")
            last = block[-1:]
    return count + (last != b"\n")


def _is_natural(value: object, end: int) -> bool:
    return type(value) is int and 0 <= value < end
