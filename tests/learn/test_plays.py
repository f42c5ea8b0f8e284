"""Plays from logs to arrays."""

from pathlib import Path

import numpy as np
import pytest

from recsys.exceptions import CorruptDataError
from recsys.learn.plays import load_plays
from recsys.night.catalogue import tracks_of
from recsys.night.collect import collect
from recsys.night.night import Night
from recsys.settings import load_settings
from recsys.storage.store import Storage
from tests.night.test_collect import publish, record
from tests.support.listens import two_days, write_plays
from tests.support.night import DAY, catalogue_of, write_world


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
    night = Night(DAY, load_settings(window=2, storage=store.url, world=world))
    collect(night)
    plays = load_plays(store, DAY, tracks_of(night))
    assert plays.row.tolist() == [1] * 5, "the session without its first track is left out"
    assert plays.track.tolist() == [5, 45, 7, 5, 8]
    assert plays.time.tolist() == [100, 57, 90, 0, 100]
    assert plays.first.tolist() == [5, 5, 5, 5, 8]
    assert plays.step.tolist() == [0, 1, 2, 3, 0]
    assert plays.earlier.tolist() == [0, 1, 0, 2, 0]
    assert plays.repeated.tolist() == [False, False, False, True, False]
    np.testing.assert_array_equal(plays.propensity, [np.nan, 0.25, np.nan, 0.125, np.nan])


def test_dates_are_kept_apart(store: Storage) -> None:
    parts = two_days()
    write_plays(store, parts)
    plays = load_plays(store, DAY, catalogue_of(300))
    assert len(plays.row) == sum(len(part.row) for part in parts)
    for name in ("row", "track", "time", "first", "step", "repeated"):
        np.testing.assert_array_equal(getattr(plays.before(DAY), name), getattr(parts[0], name))


def test_what_is_not_of_the_catalogue_is_named(store: Storage) -> None:
    write_plays(store, two_days())
    with pytest.raises(CorruptDataError, match=r"track 2\d\d, beyond the date's catalogue of 200; collect the date again"):
        load_plays(store, DAY, catalogue_of(200))
