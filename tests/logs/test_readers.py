"""A line that is no whole record and that collection tolerates is left out by every other reader, too: each finds what it finds
without it.
"""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from recsys.abtest.sessions import read_log
from recsys.experiments import Arm, Experiment
from recsys.inspection.days import by_day
from recsys.inspection.explain import explain
from recsys.inspection.verify import log_digest
from recsys.logs.engines import engine
from recsys.logs.record import reason
from recsys.logs.upload import count_events
from recsys.storage.store import Storage
from tests.support.traffic import records

DAY = date(2026, 1, 5)
DESIGN = Experiment("E", (Arm("C", "contextual"), Arm("T1", "dae")), salt=str(DAY))
ROWS = records(DESIGN, users=20, sessions=60)


def spoilt(row: dict[str, Any]) -> list[str]:
    """Lines that are no whole records, each for a reason of its own."""
    lacking = [
        {name: value for name, value in row.items() if name != lost} for lost in ("user", "session", "step", "run", "time")
    ]
    strange = [{**row, **change} for change in (
        {"track": "x"}, {"track": 1.5}, {"step": -1}, {"time": 2}, {"time": None}, {"message": "stop"}, {"run": ["a"]},
        {"timestamp": True}, {"session": 2**31}, {"session": -1}, {"session": -1, "degraded": True},
    )]  # fmt: skip
    return ["", "{", "[]", "null", '"next"', *map(json.dumps, lacking + strange)]


def lines(rows: list[dict[str, Any]], spoil: bool) -> str:
    """A log; each of its first lines has a malformed one before it if asked for."""
    bad = spoilt(rows[0]) if spoil else []
    assert all(reason(line.encode()) for line in bad)
    written = [f"{line}\n{json.dumps(row)}\n" for line, row in zip(bad, rows, strict=False)]
    return "".join([*written, *(json.dumps(row) + "\n" for row in rows[len(bad) :])])


def events(directory: Path) -> object:
    counts = count_events(sorted(directory.glob("*.jsonl")))
    return {name: count for name, count in counts.items() if name not in ("malformed", "degraded")}


def days(directory: Path) -> object:
    return by_day(Storage(f"file://{directory.parents[1]}"), 500)


def explanation(directory: Path) -> object:
    row = ROWS[0]
    return explain(Storage(f"file://{directory.parents[1]}"), directory, row["user"], row["session"], row["step"])


def report(directory: Path) -> object:
    found = read_log(directory, "E")
    return {arm: {name: column.tolist() for name, column in found.of_arm(arm).items()} for arm in found.arms}


def collected(directory: Path) -> object:
    with engine("duckdb", directory.parents[1]) as queries:
        rows = queries.read(sorted(directory.glob("*.jsonl")), DAY).to_pyarrow().to_pylist()
    return sorted(rows, key=lambda row: (row["user"], row["session"], row["step"]))


@pytest.mark.parametrize("read", [events, days, log_digest, explanation, report, collected], ids=lambda read: read.__name__)
def test_every_reader_leaves_it_out(tmp_path: Path, read: Callable[[Path], object]) -> None:
    found = []
    for name, spoil in (("clean", False), ("spoilt", True)):
        store = Storage(f"file://{tmp_path / name}")
        with store.stage(f"logs/date={DAY}", {"sessions": 60}) as staging:
            (staging / "a.jsonl").write_text(lines(ROWS, spoil))
        found.append(read(store.local(f"logs/date={DAY}")))
    assert found[0] == found[1]
