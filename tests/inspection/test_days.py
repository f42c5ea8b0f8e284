"""Days: figures of hand-made logs."""

import json
from datetime import date
from pathlib import Path

import pytest

from recsys.exceptions import MissingDataError
from recsys.inspection.days import by_day, difference, draw
from recsys.storage.store import Storage

DAY = date(2026, 1, 5)


def record(user: int, step: int, time: float, recommendation: int | None) -> dict[str, object]:
    message = "last" if recommendation is None else "next"
    return {
        "message": message,
        "timestamp": step,
        "user": user,
        "track": 10 * user + step,
        "time": time,
        "latency": 0.001,
        "recommendation": recommendation,
        "experiments": {},
        "run": "base.0.a",
        "version": "v",
        "session": 0,
        "step": step,
        "event": None,
        "source": None,
        "degraded": False,
        "propensity": None,
    }


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    return Storage(f"file://{tmp_path}")


def test_means_over_users_and_coverage(store: Storage, tmp_path: Path) -> None:
    rows = [record(1, 0, 1.0, 11), record(1, 1, 0.5, None), record(2, 0, 1.0, 21), record(2, 1, 1.0, 11), record(2, 2, 0.5, None)]
    with store.stage(f"logs/date={DAY}") as staging:
        (staging / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (day,) = by_day(store, 20)
    assert (day.log_date, day.users, day.sessions, day.mean) == (DAY, 2, 2, 2.0)
    # Half a track between two users: t quantile 12.706 times the standard error 0.5.
    assert day.high - day.mean == pytest.approx(12.7062 * 0.5, rel=1e-4)
    assert (day.coverage, day.versions) == (0.1, {"v": 1.0})
    draw([day], tmp_path / "days.png")
    assert (tmp_path / "days.png").read_bytes().startswith(b"\x89PNG")


def test_the_difference_of_two_dates_is_paired_by_user(store: Storage) -> None:
    later = date(2026, 1, 6)
    first = [record(1, 0, 1.0, 11), record(1, 1, 0.5, None), record(2, 0, 1.0, 21), record(2, 1, 1.0, None)]
    # User 1 gains half a track, user 2 one and a half; user 3 has no day before.
    last = [record(1, 0, 1.0, 11), record(1, 1, 1.0, None), record(2, 0, 1.0, 21), record(2, 1, 1.0, 11), record(2, 2, 1.0, 12)]
    last += [record(2, 3, 0.5, None), record(3, 0, 1.0, 31), record(3, 1, 0.1, None)]
    for day, rows in ((DAY, first), (later, last)):
        with store.stage(f"logs/date={day}") as staging:
            (staging / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = difference(store, DAY, later)
    assert (found.users, found.mean) == (2, 1.0)
    assert found.mean - found.low == pytest.approx(12.7062 * 0.5, rel=1e-4)


def test_nobody_listened_on_both_dates(store: Storage) -> None:
    later = date(2026, 1, 6)
    for user, day in ((1, DAY), (2, later)):
        with store.stage(f"logs/date={day}") as staging:
            (staging / "a.jsonl").write_text(json.dumps(record(user, 0, 0.5, None)) + "\n")
    with pytest.raises(MissingDataError, match="no user listened both"):
        difference(store, DAY, later)


def test_no_logs(store: Storage) -> None:
    with pytest.raises(MissingDataError, match="holds no logs"):
        by_day(store, 20)
