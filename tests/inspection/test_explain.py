"""Retelling an answer from the log."""

import json
from pathlib import Path

import numpy as np
import pytest

from recsys.catalog import number_of
from recsys.exceptions import InvalidInputError, MissingDataError
from recsys.inspection.explain import explain
from recsys.storage.store import Storage

VERSION = "2026-01-02-0a1b2c3d"


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    store = Storage(f"file://{tmp_path}/store")
    with store.stage("recommendations/date=2026-01-02", labels={"version": VERSION}) as staging:
        (staging / "recommendations.json").write_text('{"user": 1, "tracks": [5, 6, 7, 8]}\n')
        (staging / "top_tracks.json").write_text("[1, 2, 3]")
        np.save(staging / "neighbours.npy", np.array([[9, 10, 11]] * 20, dtype=np.uint32))
    return store


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    plays = [(5, "dae", 6), (6, "dae", 7), (7, "contextual", 10), (10, "top100", 2), (2, "exploration", 19),
        (19, "newcomer_contextual", 11), (11, "newcomer_top100", 3), (20, "contextual", 12)]  # fmt: skip
    common = {
        "timestamp": 1,
        "time": 0.5,
        "run": "base.0.a",
        "user": 1,
        "session": 0,
        "version": VERSION,
        "experiments": {"E": "T1"},
        "degraded": False,
        "propensity": 0.5,
    }
    with (tmp_path / "w.jsonl").open("w") as file:
        for step, (track, source, answer) in enumerate(plays):
            record = {"message": "next", "track": track, "source": source, "recommendation": answer, "step": step}
            file.write(json.dumps(record | common) + "\n")
        last = {"message": "last", "track": 19, "source": None, "recommendation": None, "step": 8}
        file.write(json.dumps(last | common | {"propensity": None}) + "\n")
    return tmp_path


@pytest.mark.parametrize(("step", "position", "skipped"), [(0, 2, (5,)), (1, 3, (5, 6)), (2, 2, ()), (3, 2, ()), (4, None, ()),
    (5, 3, (10,)), (6, 3, (2,)), (7, None, ())])  # fmt: skip
def test_position_and_what_was_skipped(store: Storage, logs: Path, step: int, position: int | None, skipped: tuple) -> None:
    found = explain(store, logs, 1, 0, step)
    assert (found.position, found.skipped) == (position, skipped)
    assert found.arm == "T1"
    assert any(str(found.track) in line for line in found.lines())


def test_an_absent_request_is_named(store: Storage, logs: Path) -> None:
    with pytest.raises(MissingDataError, match="user 1, session 0, step 8; the session has steps 0 to 8"):
        explain(store, logs, 1, 0, 8)
    with pytest.raises(MissingDataError, match="user 2"):
        explain(store, logs, 2, 0, 0)


def test_lists_that_another_version_of_the_date_has_are_not_told_as_its_own(store: Storage, logs: Path) -> None:
    with store.stage("recommendations/date=2026-01-02", labels={"version": "2026-01-02-ffffffff"}) as staging:
        (staging / "recommendations.json").write_text('{"user": 1, "tracks": [9, 6, 7, 8]}\n')
        (staging / "top_tracks.json").write_text("[1, 2, 3]")
    found = explain(store, logs, 1, 0, 0)
    assert (found.position, found.skipped) == (None, ())
    assert any(f"The lists of {VERSION} are not in the storage any more" in line for line in found.lines())


def test_users_are_found_by_what_they_are_called(store: Storage, logs: Path) -> None:
    path = logs / "w.jsonl"
    path.write_text(path.read_text().replace('"user": 1,', f'"user": {number_of("alice")},'))
    assert explain(store, logs, "alice", 0, 0).user == number_of("alice")
    with pytest.raises(MissingDataError, match="no answered request of user bob, session 0, step 0"):
        explain(store, logs, "bob", 0, 0)
    with pytest.raises(InvalidInputError, match="129 bytes"):
        explain(store, logs, "x" * 129, 0, 0)
