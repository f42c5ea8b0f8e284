"""Plays from logs to arrays."""

from pathlib import Path

import numpy as np
import pytest

from recsys.exceptions import CorruptDataError
from recsys.learn.plays import load_plays
from recsys.night.collect import collect
from recsys.night.night import Night
from recsys.settings import load_settings
from recsys.storage.store import Storage
from tests.night.test_collect import publish, record
from tests.support.listens import two_days, write_plays
from tests.support.night import DAY, write_world


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    return Storage(f"file://{tmp_path}/store")


def test_logs_become_plays(store: Storage, tmp_path: Path) -> None:
    world = write_world(tmp_path / "world", tracks=50, users=5)  # the artist of track t is t modulo 40
    text = (
        record(1, 0, 5, 1.0, recommendation=45, propensity=0.25)
        + record(1, 1, 45, 0.57, recommendation=6, propensity=0.5)
        + record(1, 2, 7, 0.9, recommendation=5, propensity=0.125)
        + record(1, 3, 5, 0.0, "last")
        + record(0, 1, 3, 0.2, "last")
        + record(1, 0, 8, 1.0, "last", session=1)
    )
    publish(store, str(DAY), text)
    collect(Night(DAY, load_settings(window=2, storage=store.url)))
    plays = load_plays(store, DAY, world)
    assert plays.row.tolist() == [1] * 5, "the session without its first track is left out"
    assert plays.track.tolist() == [5, 45, 7, 5, 8]
    assert plays.time.tolist() == [100, 57, 90, 0, 100]
    assert plays.first.tolist() == [5, 5, 5, 5, 8]
    assert plays.step.tolist() == [0, 1, 2, 3, 0]
    assert plays.earlier.tolist() == [0, 1, 0, 2, 0]
    assert plays.repeated.tolist() == [False, False, False, True, False]
    np.testing.assert_array_equal(plays.propensity, [np.nan, 0.25, np.nan, 0.125, np.nan])


def test_dates_are_kept_apart(store: Storage, tmp_path: Path) -> None:
    world = write_world(tmp_path / "world", tracks=300, users=120)
    parts = two_days()
    write_plays(store, parts)
    plays = load_plays(store, DAY, world)
    assert len(plays.row) == sum(len(part.row) for part in parts)
    for name in ("row", "track", "time", "first", "step", "repeated"):
        np.testing.assert_array_equal(getattr(plays.before(DAY), name), getattr(parts[0], name))


@pytest.mark.parametrize(("users", "tracks", "message"), [(100, 300, "user 100"), (120, 200, "track 2")])
def test_what_is_not_of_this_world_is_named(store: Storage, tmp_path: Path, users: int, tracks: int, message: str) -> None:
    write_plays(store, two_days())
    with pytest.raises(CorruptDataError, match=message):
        load_plays(store, DAY, write_world(tmp_path / "world", tracks=tracks, users=users))
