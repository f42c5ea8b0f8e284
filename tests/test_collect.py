"""Raw logs to interactions and sessions."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from recsys.collect import collect_interactions
from recsys.exceptions import MissingDataError
from recsys.settings import load_settings
from recsys.storage import Storage

DAY = date(2026, 1, 5)
SETTINGS = load_settings(window=3, malformed=1.0)


def record(user: int, step: int, track: int, time: float, message: str = "next", **more: Any) -> str:
    row = {
        "message": message, "timestamp": 1000 + step, "user": user, "track": track, "time": time, "latency": 0.001,
        "recommendation": 1, "experiments": {}, "run": "traffic.0.a", "version": "", "session": 0, "step": step, "event": None,
        "source": "exploration", "degraded": False, "propensity": 0.1,
    }  # fmt: skip
    return json.dumps(row | more) + "\n"


def publish(store: Storage, day: str, text: str) -> None:
    with store.stage(f"logs/date={day}") as staging:
        (staging / "0000-w.jsonl").write_text(text)
        (staging / "run.json").write_text("{}")


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    store = Storage(f"file://{tmp_path}/store")
    publish(store, "2026-01-02", record(9, 0, 9, 1.0))  # before the window
    publish(store, "2026-01-03", record(2, 0, 7, 1.0) + record(2, 1, 8, 0.8) + record(2, 2, 7, 0.0, "last"))
    liked = record(1, 0, 5, 1.0)
    text = liked + liked + record(1, 1, 6, 0.81) + record(1, 2, 5, 0.9, "last", session=0) + record(1, 0, 5, 1.0, session=1)
    publish(store, "2026-01-05", text)
    return store


def read(store: Storage, name: str) -> list[dict[str, Any]]:
    return pq.read_table(store.local(f"interactions/date={DAY}") / name).to_pylist()


def test_positives_are_distinct_and_sorted(store: Storage) -> None:
    counts = collect_interactions(store, DAY, SETTINGS, live="v")
    rows = [(r["user"], r["track"], r["weight"], r["log_date"]) for r in read(store, "interactions.parquet")]
    assert rows == [(2, 7, 1.0, date(2026, 1, 3)), (1, 5, 1.0, DAY), (1, 6, 1.0, DAY)]
    assert (counts["repeated"], counts["malformed"], counts["sessions"]) == (1, 0, 3)
    assert store.read_json(f"interactions/date={DAY}", "inputs.json")["live"] == "v"


def test_sessions_sum_their_plays(store: Storage) -> None:
    collect_interactions(store, DAY, SETTINGS)
    rows = [(r["user"], r["session"], r["steps"], r["time"], r["first_track"]) for r in read(store, "sessions.parquet")]
    assert rows == [(2, 0, 3, 1.8, 7), (1, 0, 3, 2.71, 5), (1, 1, 1, 1.0, 5)]


@pytest.mark.parametrize(
    "line",
    [
        "{]\n", "[1]\n", '"text"\n',
        record(3, 0, 1, 1.5), record(-3, 0, 1, 1.0), record(3, 0, -1, 1.0), record(3, 0, 1, 1.0, "stop"),
        '{"user": null, "message": "next"}\n', record(3, 0, 1, 1.0, session="x"), record(3, 0, 1, 1.0)[:-20],
        record(3, 0, 1, 1.0)[:-1],
    ],
)  # fmt: skip
def test_malformed_lines_are_dropped_and_counted(store: Storage, line: str) -> None:
    publish(store, "2026-01-05", record(1, 0, 5, 1.0) + line)
    counts = collect_interactions(store, DAY, SETTINGS)
    assert counts["malformed"] == 1
    assert [r["user"] for r in read(store, "interactions.parquet")] == [2, 1]


def test_a_rerun_writes_the_same_bytes(store: Storage) -> None:
    collect_interactions(store, DAY, SETTINGS)
    before = store.manifest(f"interactions/date={DAY}")
    store.remove(f"interactions/date={DAY}")
    collect_interactions(store, DAY, SETTINGS)
    assert store.manifest(f"interactions/date={DAY}") == before


def test_a_date_without_logs_is_named(store: Storage) -> None:
    with pytest.raises(MissingDataError, match="logs/date=2026-01-04"):
        collect_interactions(store, date(2026, 1, 4), SETTINGS)
    assert not store.is_complete("interactions/date=2026-01-04")


def test_logs_without_a_valid_record_are_an_error(tmp_path: Path) -> None:
    store = Storage(f"file://{tmp_path}/store")
    publish(store, "2026-01-05", "garbage\n")
    with pytest.raises(MissingDataError, match="none of the 1 lines"):
        collect_interactions(store, DAY, SETTINGS)
    assert not store.is_complete(f"interactions/date={DAY}")


def test_two_tries_of_a_shard_count_once(store: Storage) -> None:
    publish(store, "2026-01-05", record(1, 0, 5, 1.0) + record(1, 0, 5, 1.0, run="traffic.0.b"))
    assert collect_interactions(store, DAY, SETTINGS)["repeated"] == 1
