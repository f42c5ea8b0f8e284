"""A log date is taken away on demand, and never under the hands of whoever works on it."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from recsys.cli import app
from recsys.exceptions import ConflictError, InvalidInputError, MissingDataError
from recsys.experiments import RunSpec
from recsys.logs.removal import describe
from recsys.schemas import Inputs
from recsys.settings import load_settings
from recsys.storage.store import Storage
from recsys.versions import keyspace, lease
from tests.logs.test_upload import record
from tests.support.components import Valkey

DAY = date(2026, 1, 5)
NAME = f"logs/date={DAY}"


@pytest.fixture
def store(tmp_path: Path, valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setenv("RECSYS_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("RECSYS_REDIS_URL", valkey.url)
    store = Storage(load_settings().storage_url)
    with store.stage(NAME, {"next": 1, "last": 1}) as staging:
        (staging / "a.jsonl").write_bytes(record(1, 0) + record(1, 1, "last"))
        RunSpec("live", "", 0.0, 1).write(staging)
    return store


def run(*words: str) -> None:
    app(["logs", "remove", *words], standalone_mode=False)


def test_it_is_named_then_moved_to_the_trash(store: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    for day, name in ((DAY, NAME), (DAY + timedelta(days=1), NAME), (DAY + timedelta(days=2), "logs/date=2026-01-07")):
        with store.stage(f"interactions/date={day}") as staging:
            Inputs(log_date=str(day), logs={name: "0"}).write(staging)
    run(str(DAY), "--dry-run")
    told = capsys.readouterr().out
    assert told.startswith(f"{NAME}: ")
    for part in ("bytes in 2 files", "1 next", "1 last", "run live", "read by the nights of 2026-01-05, 2026-01-06\n"):
        assert part in told
    assert store.is_complete(NAME)
    run(str(DAY))
    assert capsys.readouterr().out == f"{told}it is in {store.path('.trash')} now, until 'recsys storage clean' deletes it\n"
    assert not store.is_complete(NAME)
    [kept] = Path(store.path(".trash")).iterdir()
    assert (kept / "a.jsonl").read_bytes().count(b"\n") == 2
    with pytest.raises(MissingDataError, match="recsys storage list logs"):
        run(str(DAY))


@pytest.mark.parametrize("ahead", [0, 1, 6])
def test_what_is_worked_on_stays(store: Storage, ahead: int) -> None:
    client, day = keyspace.connect(load_settings()), DAY + timedelta(days=ahead)
    with lease.held(client, day, "night"), pytest.raises(ConflictError, match="run night"):
        run(str(DAY))
    assert store.is_complete(NAME)
    assert lease.holders(client) == {}
    with lease.held(client, DAY + timedelta(days=7), "night"):
        run(str(DAY))


def test_damaged_logs_are_told_and_go_as_well(store: Storage) -> None:
    (Path(store.path(NAME)) / "run.json").unlink()
    with store.stage(f"interactions/date={DAY}") as staging:
        (staging / "inputs.json").write_text("{]")
    assert describe(store, DAY).endswith("; of an unknown run")
    run(str(DAY))
    assert not store.is_complete(NAME)


@pytest.mark.parametrize("day", ["", "yesterday", "2999-01-01"])
def test_no_date_is_refused(store: Storage, day: str) -> None:
    with pytest.raises(InvalidInputError, match="date"):
        run(day)
