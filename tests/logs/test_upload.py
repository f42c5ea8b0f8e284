"""Uploading the logs of finished runs."""

import json
import os
from pathlib import Path

import pytest

from recsys.exceptions import CorruptDataError, MissingDataError
from recsys.experiments import RunSpec
from recsys.logs import upload as logs
from recsys.logs.upload import publish_files, upload_shards
from recsys.schemas import ShardResult
from recsys.storage.store import Storage

SPEC = RunSpec("base", "", 1.0, 1)


def record(user: int, step: int, message: str = "next") -> bytes:
    whole = {"message": message, "timestamp": 1, "user": user, "track": 5, "time": 0.5, "run": "base.0.a", "session": 0}
    return json.dumps(whole | {"step": step}).encode() + b"\n"


def result(shard: int, nexts: int, lasts: int) -> ShardResult:
    return ShardResult(f"base.{shard}.a", shard, lasts, nexts, lasts, 1.0, 0.1, 2.0, 0.1)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for shard in (0, 1):
        run = tmp_path / "logs" / f"base.{shard}.a"
        run.mkdir(parents=True)
        (run / "w.jsonl").write_bytes(record(shard, 0) + record(shard, 1, "last"))
    return tmp_path / "logs"


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    return Storage(f"file://{tmp_path}/store")


def test_shards_are_published_together_and_cleaned_up(directory: Path, store: Storage) -> None:
    counts = upload_shards(
        store, directory, [result(0, 1, 1), result(1, 1, 1)], "experiments/date=2026-01-02", SPEC, cleanup=True
    )
    assert counts == {"episodes": 2, "next": 2, "last": 2, "repeated": 0, "degraded": 0, "malformed": 0}
    assert store.manifest("experiments/date=2026-01-02").counts == counts
    assert store.read(RunSpec, "experiments/date=2026-01-02") == SPEC
    assert not any(directory.iterdir())


@pytest.mark.drill("service's log", "a line is torn, another repeated", "both are counted; the repeated event counts once")
def test_repeated_and_torn_lines_are_counted(directory: Path, store: Storage) -> None:
    with (directory / "base.0.a" / "v.jsonl").open("wb") as file:
        file.write(record(0, 0) + b"{]\n" + record(0, 9)[:-5])
    counts = upload_shards(store, directory, [result(0, 1, 1)], "experiments/date=2026-01-02", SPEC)
    assert (counts["repeated"], counts["malformed"]) == (1, 2)
    assert (directory / "base.0.a").exists()


def test_logs_of_the_original_server_are_told_how_they_come_in(directory: Path, store: Storage) -> None:
    names = ("message", "timestamp", "user", "track", "time")
    for path in directory.glob("*/*.jsonl"):
        rows = [json.loads(line) for line in path.read_bytes().splitlines()]
        path.write_text("".join(json.dumps({name: row[name] for name in names}) + "\n" for row in rows))
        os.utime(path, (1, 1))
    with pytest.raises(CorruptDataError, match="recsys import --format botify"):
        publish_files(store, directory, "user/ann/d")
    assert not store.is_complete("user/ann/d")


def test_answers_without_redis_are_counted_apart(directory: Path, store: Storage) -> None:
    with (directory / "base.0.a" / "v.jsonl").open("wb") as file:
        file.write(record(0, 0).replace(b'"session": 0', b'"session": -1, "degraded": true'))
    counts = upload_shards(store, directory, [result(0, 1, 1)], "experiments/date=2026-01-02", SPEC)
    assert counts == {"episodes": 1, "next": 1, "last": 1, "repeated": 0, "degraded": 1, "malformed": 0}


@pytest.mark.drill("service's log", "an answered event is missing from it", "nothing is uploaded; the error counts them")
def test_a_log_without_the_answered_events_is_not_uploaded(
    directory: Path, store: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "WAIT_SECONDS", 0.0)
    with pytest.raises(CorruptDataError, match="answered 2 next and 1 last events, but its log holds 1 and 1"):
        upload_shards(store, directory, [result(0, 2, 1)], "experiments/date=2026-01-02", SPEC)
    with pytest.raises(MissingDataError, match=r"base\.7\.a left no log"):
        upload_shards(store, directory, [result(7, 2, 1)], "experiments/date=2026-01-02", SPEC)
    assert not store.is_complete("experiments/date=2026-01-02")


@pytest.mark.drill("simulation", "two tries of one shard are to be uploaded", "refused")
def test_two_tries_of_a_shard_are_refused(directory: Path, store: Storage) -> None:
    with pytest.raises(CorruptDataError, match="distinct"):
        upload_shards(store, directory, [result(0, 1, 1), result(0, 1, 1)], "experiments/date=2026-01-02", SPEC)
