"""Which lines of a log are whole records, and why the others are not. Every query engine agrees with this.

In goes a log file; out come a copy that holds only whole records, and the malformed lines with their reasons.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import orjson

#: Reasons, in the order in which they are looked for.
UNTERMINATED, NO_JSON, NO_OBJECT = "unterminated", "not JSON", "not an object"
MESSAGE, IDENTIFIER = "unknown message", "identifier missing or not a natural number"
TIME, NO_RUN = "time out of range", "no run, or not a plain name"

FIELDS = ("message", "timestamp", "user", "track", "time", "run", "session", "step")
#: Fields that a whole record may lack; values that cannot be are as good as none.
OPTIONAL = ("recommendation", "propensity")
IDENTIFIERS = ("user", "track", "session", "step")
#: Identifiers are stored as 32-bit integers, timestamps (milliseconds) as 64-bit ones.
IDENTIFIER_END, TIMESTAMP_END = 2**31, 2**63
#: What a run id looks like.
RUN = "[A-Za-z0-9_.-]{1,200}"


def reason(line: bytes) -> str | None:
    """Why a line of a log is malformed; None if it is a whole record.

    >>> reason(b'{"message": "next", "timestamp": 1, "user": 2, "track": 3, "time": 0.5, "run": "r", "session": 0, "step": 0}')
    >>> reason(b'{"message": "stop"}')
    'unknown message'
    """
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return NO_JSON
    if not isinstance(record, dict):
        return NO_OBJECT
    if record.get("message") not in ("next", "last"):
        return MESSAGE
    natural = all(_is_natural(record.get(name), IDENTIFIER_END) for name in IDENTIFIERS)
    if not natural or not _is_natural(record.get("timestamp"), TIMESTAMP_END):
        return IDENTIFIER
    time = record.get("time")
    if not isinstance(time, int | float) or isinstance(time, bool) or not 0 <= time <= 1:
        return TIME
    run = record.get("run")
    return None if isinstance(run, str) and re.fullmatch(RUN, run) else NO_RUN


def _answer(record: dict[str, Any]) -> dict[str, Any]:
    """The optional fields of a record."""
    track, chance = (record.get(name) for name in OPTIONAL)
    possible = isinstance(chance, int | float) and not isinstance(chance, bool) and 0 < chance <= 1
    return {"recommendation": track if _is_natural(track, IDENTIFIER_END) else None, "propensity": chance if possible else None}


def _is_natural(value: object, end: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < end


def sieve(source: Path, whole: Path, malformed: IO[str]) -> Counter[str]:
    """Copy the whole records of a log file, in the shortest form that every reader takes.

    Args:
        malformed: every other line is written to it as JSON: file, line (from 1), reason, text.

    Returns:
        Malformed lines by reason.
    """
    found: Counter[str] = Counter()
    with whole.open("wb") as kept:
        for number, line in enumerate(_lines(source), 1):
            why = reason(line) if line.endswith(b"\n") else UNTERMINATED
            if why is None:
                record = orjson.loads(line)
                kept.write(
                    orjson.dumps({name: record[name] for name in FIELDS} | _answer(record), option=orjson.OPT_APPEND_NEWLINE)
                )
                continue
            found[why] += 1
            text = line.decode(errors="backslashreplace").rstrip("\n")
            row = {"file": source.name, "line": number, "reason": why, "text": text}
            malformed.write(json.dumps(row, ensure_ascii=False) + "\n")
    return found


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


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
