"""DuckDB and Spark read the same records, and collect the same interactions and sessions from the same logs."""

import errno
import io
import json
import random
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.logs.engines import Engine, engine
from recsys.logs.reading import with_tracks
from recsys.logs.record import IDS, NO_TRACK, REQUIRED, reason
from recsys.logs.sieve import sieve
from recsys.night.collect import collect
from recsys.night.night import Night
from recsys.settings import load_settings
from recsys.storage.store import Storage
from tests.night.test_collect import DAY, publish, record
from tests.support.open_world import write_catalogue

GOOD = record(1, 0, 5, 0.5)
BAD = [
    "", "{]", "[1]", '"text"', "null", "7", GOOD[:-20].rstrip(), GOOD.strip() + " x", GOOD.strip() * 2, GOOD.strip() + "}",
    GOOD.replace('"user": 1', '"user": "1"').strip(), GOOD.replace('"user": 1', '"user": 1.5').strip(),
    GOOD.replace('"user": 1', '"user": true').strip(), GOOD.replace('"user": 1', '"user": 1e3').strip(),
    GOOD.replace('"user": 1', '"user": null').strip(), GOOD.replace('"user": 1', f'"user": {2**63}').strip(),
    GOOD.replace('"user": 1', '"user": -1').strip(), GOOD.replace('"time": 0.5', '"time": "0.5"').strip(),
    GOOD.replace('"time": 0.5', '"time": 1.01').strip(), GOOD.replace('"time": 0.5', '"time": NaN').strip(),
    GOOD.replace('"time": 0.5', '"time": true').strip(), GOOD.replace('"message": "next"', '"message": "stop"').strip(),
    GOOD.replace('"message": "next"', '"message": ["next"]').strip(), GOOD.replace('"run": "traffic.0.a"', '"run": 5').strip(),
    GOOD.replace('"run": "traffic.0.a"', '"run": ""').strip(), GOOD.replace('"session": 0', '"session": "x"').strip(),
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _short_lived_java() -> Iterator[None]:
    """Spark lives for seconds here: to compile it well takes longer than to run it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
        yield


@pytest.fixture(scope="module", params=["duckdb", pytest.param("spark", marks=pytest.mark.real)])
def queries(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine(request.param, tmp_path_factory.mktemp("scratch")) as found:
        yield found


def read(queries: Engine, *paths: Path) -> list[dict[str, Any]]:
    return list(queries.read(paths, DAY).to_pyarrow().to_pylist())


def identity(row: dict[str, Any]) -> tuple[Any, ...]:
    """What tells one record from another."""
    return tuple(row.get(name) for name in (*REQUIRED, *IDS))


def test_a_record_is_read_whole(queries: Engine, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(GOOD)
    expected = {
        "message": "next", "timestamp": 1000, "user": 1, "track": 5, "time": 0.5, "run": "traffic.0.a", "session": 0, "step": 0,
        "recommendation": 1, "propensity": 0.1, "user_id": None, "track_id": None, "log_date": DAY,
    }  # fmt: skip
    assert read(queries, tmp_path / "a.jsonl") == [expected]


#: Texts that a hasty reader would cut short, unescape wrongly or take for the end of the line.
TEXTS = ["alice", "} x", '"run": "x"', "\ufffd", "\x00\n\u2028\\", "\U0001f3b5\u00e9", "5", "null", "%s {0} \\u0041"]


@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_ids_that_are_texts_are_read_as_they_were_given(queries: Engine, tmp_path: Path, ensure_ascii: bool) -> None:
    rows = [
        {"user": 2**63 - 1 - number, "track": NO_TRACK, "step": number, "user_id": text, "track_id": TEXTS[-number]}
        for number, text in enumerate(TEXTS)
    ]
    # What is no text is as good as none.
    odd = [{"user": 2**53 + 1, "user_id": 5, "track_id": ["a"]}, {"user": 2**53 + 2, "user_id": None, "track_id": {}}]
    lines = [json.dumps(json.loads(GOOD) | row, ensure_ascii=ensure_ascii) for row in rows + odd]
    assert not any(reason(line.encode()) for line in lines)
    (tmp_path / "a.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    assert sieve(tmp_path / "a.jsonl", tmp_path / "b.jsonl", io.StringIO()).total() == 0
    expected = [tuple(row[name] for name in ("user", *IDS)) for row in rows]
    expected += [(row["user"], None, None) for row in odd]
    found = [(row["user"], row["user_id"], row["track_id"]) for row in read(queries, tmp_path / "b.jsonl")]
    assert found == expected
    assert {(row["user"], row["user_id"], row["track_id"]) for row in read(queries, tmp_path / "a.jsonl")} <= set(expected)


def test_no_malformed_line_is_taken_and_none_spoils_its_neighbours(queries: Engine, tmp_path: Path) -> None:
    files = {tmp_path / f"{number}.jsonl": bad for number, bad in enumerate(BAD)}
    for path, bad in files.items():
        assert reason(bad.encode()) is not None, bad
        path.write_text(bad + "\n")
    # In one query: one of Spark takes longer than what it reads.
    assert read(queries, *files) == []
    with engine("duckdb", tmp_path) as alone:
        assert [bad for path, bad in files.items() if read(alone, path)] == []


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_spoiled_line_is_taken_that_the_sieve_would_not_take(queries: Engine, tmp_path: Path, data: st.DataObject) -> None:
    lines = []
    named = json.dumps(json.loads(GOOD) | {"user": 2**62 + 1, "user_id": "alice", "track": NO_TRACK, "track_id": "x"})
    for number in range(30):
        line = bytearray((named if number % 3 == 0 else GOOD.strip()).encode())
        for _ in range(data.draw(st.integers(0, 2))):
            at = data.draw(st.integers(0, len(line) - 1))
            line[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=2)).replace(b"\n", b" ")
        lines.append(bytes(line) + b"\n")
    (tmp_path / "a.jsonl").write_bytes(b"".join(lines))
    whole = [json.loads(line) for line in lines if reason(line) is None]
    taken = read(queries, tmp_path / "a.jsonl")
    assert Counter(map(identity, taken)) <= Counter(map(identity, whole)), lines


def test_what_the_sieve_keeps_is_read_whole(queries: Engine, tmp_path: Path) -> None:
    odd = json.dumps(json.loads(GOOD) | {"source": "}{ \ufffd", "experiments": {"a": {}}, "time": 1}) + " \n"
    (tmp_path / "a.jsonl").write_text("".join(f"{bad}\n" for bad in BAD) + odd + GOOD + GOOD.strip())
    malformed = io.StringIO()
    found = sieve(tmp_path / "a.jsonl", tmp_path / "b.jsonl", malformed)
    assert found.total() == len(BAD) + 1 == len(malformed.getvalue().splitlines())
    assert found["unterminated"] == 1
    assert [row["time"] for row in read(queries, tmp_path / "b.jsonl")] == [1.0, 0.5]


def test_a_catalogue_knows_by_now_what_a_track_is_called(queries: Engine, tmp_path: Path) -> None:
    lines = [
        record(1, 0, 5, 0.5),
        record(1, 1, NO_TRACK, 0.5, track_id="new"),
        record(1, 2, NO_TRACK, 0.5, track_id="unheard of"),
        record(1, 3, NO_TRACK, 0.5),
        record(1, 4, 7, 0.5, track_id="new"),
    ]
    (tmp_path / "a.jsonl").write_text("".join(lines))
    records = queries.read([tmp_path / "a.jsonl"], DAY)
    found = with_tracks(records, {"new": 600, "other": 601})
    assert found.schema() == records.schema()
    tracks = {row["step"]: row["track"] for row in found.to_pyarrow().to_pylist()}
    assert tracks == {0: 5, 1: 600, 2: NO_TRACK, 3: NO_TRACK, 4: 7}
    assert with_tracks(records, {}) is records


def rows(path: Path) -> list[Any]:
    """Names and types of the columns, and every row."""
    table = pq.read_table(path)
    return [[(field.name, str(field.type)) for field in table.schema], *table.to_pylist()]


def random_logs(rows: int) -> str:
    """Sessions with repeated events of other tries, and malformed lines and answers without Redis in between."""
    rng = random.Random(3)
    lines = []
    for number in range(rows // 10):
        user, session = rng.randrange(300), number
        for step in range(rng.randrange(2, 16)):
            time = rng.randrange(101) / 100
            track, named = rng.randrange(500), {}
            if number % 50 == 0:
                track, named = NO_TRACK, {"track_id": "new" if user % 2 else "unheard of"}
            run = f"traffic.{user % 2}.a"
            line = record(user, step, track, time, session=session, run=run, timestamp=number, **named)
            lines.append(line)
            if rng.random() < 0.02:
                lines.append(line.replace(".a", ".b"))
            if rng.random() < 0.01:
                lines.append(record(user, step, 7, 0.9, session=session, run=f"traffic.{user % 2}.c", timestamp=number - 1))
    alone = record(1, 0, 5, 0.5, session=-1, degraded=True).strip()
    for bad in [*BAD * 3, alone]:
        lines.insert(rng.randrange(len(lines)), bad + "\n")
    return "".join(lines)


@pytest.mark.real
def test_both_engines_collect_the_same(tmp_path: Path) -> None:
    tables: dict[str, list[Any]] = {}
    counts, world = {}, write_catalogue(tmp_path / "world", 400, ids={3: "new"})
    for name in ("duckdb", "spark"):
        store = Storage(f"file://{tmp_path}/{name}")
        publish(store, "2026-01-04", random_logs(2000))
        publish(store, str(DAY), random_logs(5000) + GOOD.strip())
        settings = load_settings(window=3, malformed=0.1, engine=name, storage=store.url, world=world)
        counts[name] = collect(Night(DAY, settings))
        directory = store.local(f"interactions/date={DAY}")
        tables[name] = [rows(directory / f"{output}.parquet") for output in ("interactions", "sessions")]
        assert store.dates("quarantine") == [date(2026, 1, 4), DAY]
        tables[name] += [store.manifest(f"quarantine/date={day}").checksum for day in store.dates("quarantine")]
    assert counts["duckdb"] == counts["spark"]
    assert counts["duckdb"]["unknown_tracks"] > 0
    assert counts["duckdb"]["malformed"] == 6 * len(BAD) + 1
    assert counts["duckdb"]["degraded"] == 2
    assert counts["duckdb"]["repeated"] > 100
    assert tables["duckdb"] == tables["spark"]
    assert len(tables["duckdb"][0]) > 500


@pytest.mark.drill("disk of the storage", "full while a night collects", "the error names it")
def test_a_full_disk_is_the_systems_error(queries: Engine, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(GOOD * 50)
    with pytest.raises(OSError) as caught:
        queries.write(queries.read([tmp_path / "a.jsonl"], DAY), Path("/dev/full"))
    assert caught.value.errno == errno.ENOSPC
