"""Clean copies of log files that hold other lines than whole records.

In goes a log file; out come a copy that holds only whole records, and the malformed lines with their reasons.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import orjson

from recsys.logs.record import DEGRADED, IDS, REQUIRED, UNTERMINATED, Record, answer, ids, read


def sieve(source: Path, whole: Path, malformed: IO[str]) -> Counter[str]:
    """Copy the whole records of a log file, in the shortest form that every reader takes.

    Args:
        malformed: every other line is written to it as JSON: file, line (from 1), reason, text; but not what was answered
            without Redis.

    Returns:
        Lines that are no whole records, by reason.
    """
    found: Counter[str] = Counter()
    with whole.open("wb") as kept:
        for number, line in enumerate(_lines(source), 1):
            record = read(line) if line.endswith(b"\n") else UNTERMINATED
            if not isinstance(record, str):
                kept.write(_shortest(record))
                continue
            found[record] += 1
            if record == DEGRADED:
                continue
            text = line.decode(errors="backslashreplace").rstrip("\n")
            row = {"file": source.name, "line": number, "reason": record, "text": text}
            malformed.write(json.dumps(row, ensure_ascii=False) + "\n")
    return found


def _shortest(record: Record) -> bytes:
    """A line with the fields that query engines read."""
    kept: dict[str, object] = {name: value for name, value in record.items() if name in REQUIRED}
    kept["recommendation"], kept["propensity"] = answer(record)
    kept |= {name: text for name, text in zip(IDS, ids(record), strict=True) if text is not None}
    # A brace or the sign for no text, within a text, is one that the cautious reader of Spark leaves out.
    plain = orjson.dumps(kept)[:-1].replace(b"}", rb"\u007d").replace("\ufffd".encode(), rb"\ufffd")
    return plain + b"}\n"


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file
