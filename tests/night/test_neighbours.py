"""Nights whose control answers from tracks of the same artist, or from what was heard in the same sessions."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from recsys.inspection.verify import verify
from recsys.night import steps
from recsys.night.night import Night
from recsys.schemas import Card
from recsys.settings import Settings, load_settings
from recsys.versions import keyspace, publish
from recsys.versions.content import read_directory
from tests.support.components import Valkey
from tests.support.night import DAY
from tests.support.open_world import GROUPS, write_catalogue, write_requests

pytestmark = [pytest.mark.slow, pytest.mark.real]

TRACKS, ARTISTS = 200, 40


@pytest.fixture
def settings(tmp_path: Path, valkey: Valkey) -> Settings:
    found = load_settings(
        var=tmp_path / "var", world=tmp_path / "world", redis_url=valkey.url, experiment_source="live", live_days=2, model="ease"
    )
    write_catalogue(found.world, TRACKS, retired=[0])
    for back in (2, 1, 0):
        write_requests(Night(DAY, found).store, DAY - timedelta(days=back), range(TRACKS))
    return found


def finished(settings: Settings, **changed: Any) -> tuple[Night, str]:
    """A night from its logs to its verdict, and its version."""
    night = Night(DAY, settings.model_copy(update=changed))
    verdict = steps.run(night, run_id=f"night-{changed}")
    assert verdict.verdict != "gate_refused", verdict.reasons
    assert verify(night).failures == []
    return night, verdict.version


def neighbours(night: Night) -> npt.NDArray[np.uint32]:
    table: npt.NDArray[np.uint32] = np.load(night.store.local(night.recommendations) / "neighbours.npy")
    return table


def test_a_night_says_what_its_neighbours_are_made_from(settings: Settings) -> None:
    night, version = finished(settings)
    vectors, card = neighbours(night), Card.read(night.store, DAY)
    assert set(card.configurations) == {"ease"}
    found = {}
    for kind in ("artist", "sessions"):
        night, found[kind] = finished(settings, neighbours=kind)
        told = Card.read(night.store, DAY)
        assert told.configurations["neighbours"] == {"from": kind}
        assert told.neighbours["from"] == kind
        assert len({told.fingerprint, card.fingerprint}) == len({told.code, card.code}) == 2
        table, own = neighbours(night), np.arange(TRACKS)[:, None]
        like = GROUPS if kind == "sessions" else ARTISTS
        others = table != own
        assert (table % like == own % like)[others].mean() > 0.9
        assert others.any(axis=1).mean() > 0.9
        assert not (table[1:] == 0).any(), "track 0 is retired"
        content = read_directory(night.store.local(night.recommendations))
        assert publish.matches(keyspace.connect(settings), found[kind], content)
    assert len({version, *found.values()}) == 3
    night, again = finished(settings)
    assert again == version
    np.testing.assert_array_equal(neighbours(night), vectors)
