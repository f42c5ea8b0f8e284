"""Log files as tables: how many there are costs next to nothing, and what is malformed is told of the file that holds it."""

import io
import json
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from recsys.logs.engines import Engine, engine
from recsys.logs.reading import SMALL, Reading

if TYPE_CHECKING:
    import ibis.expr.types as ir

DAY = date(2026, 1, 5)
SMALL_FILES = 100


def record(user: int, step: int) -> bytes:
    row = {"message": "next", "timestamp": 1, "user": user, "track": 3, "time": 0.5, "run": "r.0.a", "session": 0, "step": step}
    return json.dumps(row).encode() + b"\n"


class Counting:
    """DuckDB, and the files that it has opened."""

    def __init__(self, queries: Engine) -> None:
        self._queries = queries
        self.keep = queries.keep
        self.write = queries.write
        self.opened: list[Path] = []

    def read(self, files: Sequence[Path], log_date: date | None) -> "ir.Table":
        self.opened += files
        return self._queries.read(files, log_date)


@pytest.fixture
def queries(tmp_path: Path) -> Iterator[Counting]:
    with engine("duckdb", tmp_path) as found:
        yield Counting(found)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Small files of a line each, and a large one."""
    directory = tmp_path / "logs"
    directory.mkdir()
    for user in range(SMALL_FILES):
        (directory / f"{user:03}.jsonl").write_bytes(record(user, 0))
    (directory / "large.jsonl").write_bytes(b"".join(record(SMALL_FILES, step) for step in range(SMALL // 100)))
    assert (directory / "large.jsonl").stat().st_size >= SMALL
    return sorted(directory.iterdir())


def users(table: "ir.Table") -> set[int]:
    return set(table.user.to_pyarrow().to_pylist())


def test_an_engine_opens_small_files_as_one(queries: Counting, files: list[Path], tmp_path: Path) -> None:
    reading = Reading(queries, tmp_path, io.StringIO())
    assert users(reading.records(files, DAY)) == set(range(SMALL_FILES + 1))
    assert len(queries.opened) == 2
    assert (reading.lines, reading.found.total()) == (SMALL_FILES + SMALL // 100, 0)


@pytest.mark.parametrize("bad", [b"garbage\n", b'{"message":"ne'])
def test_a_malformed_line_is_told_of_its_file_and_costs_no_query_a_file(
    queries: Counting, files: list[Path], tmp_path: Path, bad: bytes
) -> None:
    files[40].write_bytes(record(40, 0) + bad)
    malformed = io.StringIO()
    reading = Reading(queries, tmp_path, malformed)
    assert users(reading.records(files, DAY)) == set(range(SMALL_FILES + 1))
    assert len(queries.opened) <= 5
    assert queries.opened.count(files[-1]) > 1  # what is large is read where it is
    rows = [json.loads(line) for line in malformed.getvalue().splitlines()]
    assert [(row["file"], row["line"], row["text"]) for row in rows] == [("040.jsonl", 2, bad.decode().rstrip())]
    assert reading.lines == SMALL_FILES + SMALL // 100 + 1
