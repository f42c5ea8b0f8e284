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
from recsys.catalog import number_of
from recsys.cli import app
from recsys.experiments import Arm, Experiment
from recsys.inspection.days import by_day
from recsys.inspection.explain import explain
from recsys.inspection.verify import log_digest
from recsys.logs.engines import engine
from recsys.logs.record import NO_TRACK, ids, reason
from recsys.logs.record import records as records_of
from recsys.logs.upload import count_events
from recsys.storage.store import Storage
from tests.support.traffic import records, write

DAY = date(2026, 1, 5)
DESIGN = Experiment("E", (Arm("C", "contextual"), Arm("T1", "dae")), salt=str(DAY))
ROWS = records(DESIGN, users=20, sessions=60)


def named(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same plays of other listeners: half are called by texts, the numbers of the others are hardly to be told apart."""
    out = []
    for row in rows:
        text = f"listener {row['user']}"
        own = {"user": number_of(text), "user_id": text} if row["user"] % 2 else {"user": 2**63 - 1 - row["user"]}
        out.append(row | own)
    out[0] |= {"track": NO_TRACK, "track_id": "a song"}
    return out


LOGS = {"numbers": ROWS, "texts": named(ROWS)}


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
    row = next(record for record in records_of(sorted(directory.glob("*.jsonl"))[0]) if not isinstance(record, str))
    return explain(Storage(f"file://{directory.parents[1]}"), directory, row["user"], row["session"], row["step"])


def report(directory: Path) -> object:
    found = read_log(directory, "E")
    return {arm: {name: column.tolist() for name, column in found.of_arm(arm).items()} for arm in found.arms}


def collected(directory: Path) -> list[dict[str, Any]]:
    with engine("duckdb", directory.parents[1]) as queries:
        rows = queries.read(sorted(directory.glob("*.jsonl")), DAY).to_pyarrow().to_pylist()
    return sorted(rows, key=lambda row: (row["user"], row["session"], row["step"]))


READERS = (events, days, log_digest, explanation, report, collected)


@pytest.mark.parametrize("rows", LOGS.values(), ids=LOGS)
@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
def test_every_reader_leaves_it_out(tmp_path: Path, read: Callable[[Path], object], rows: list[dict[str, Any]]) -> None:
    found = []
    for name, spoil in (("clean", False), ("spoilt", True)):
        store = Storage(f"file://{tmp_path / name}")
        with store.stage(f"logs/date={DAY}", {"sessions": 60}) as staging:
            (staging / "a.jsonl").write_text(lines(rows, spoil))
        found.append(read(store.local(f"logs/date={DAY}")))
    assert found[0] == found[1]


def test_every_reader_tells_all_users_apart_and_knows_what_they_are_called(tmp_path: Path) -> None:
    rows = LOGS["texts"]
    path = write(tmp_path / f"logs/date={DAY}/a.jsonl", rows)
    expected = [(row["user"], row.get("user_id"), row.get("track_id")) for row in rows]
    assert [(record["user"], *ids(record)) for record in records_of(path) if not isinstance(record, str)] == expected
    with engine("duckdb", tmp_path) as queries:
        found = queries.read([path], DAY).to_pyarrow().to_pylist()
    assert [(row["user"], row["user_id"], row["track_id"]) for row in found] == expected
    users = read_log(path, "E").users["user"]
    assert users.tolist() == sorted({user for user, _, _ in expected})
    assert len(users) == len({row["user"] for row in ROWS})


def test_an_answer_to_somebody_with_a_name_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = LOGS["texts"]
    row = next(row for row in rows if "user_id" in row and row["message"] == "next")
    path = write(tmp_path / "logs/a.jsonl", rows)
    words = ["explain", row["user_id"], str(row["session"]), str(row["step"] + 1), "--logs", str(path.parent), "--json"]
    app(words, standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["user"] == row["user"]


@pytest.mark.parametrize("user", ["1.5", "1.0", "1e3", '"7"', "true", "null", str(2**63), "-1", "[1]"])
def test_a_user_who_is_no_integer_is_nobody_to_any_reader(tmp_path: Path, user: str) -> None:
    line = json.dumps(ROWS[0] | {"user": "?", "session": 10**6}).replace('"?"', user)
    assert reason(line.encode()) == "identifier missing or not a natural number"
    directory = tmp_path / f"logs/date={DAY}"
    write(directory / "a.jsonl", ROWS, line + "\n")
    assert len(collected(directory)) == len(ROWS)
    counts = read_log(directory, "E").counts
    assert (counts["events"], counts["malformed"]) == (len(ROWS), 1)
