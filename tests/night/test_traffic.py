"""Traffic of a log date in a world that grows: by how much, when, once, and what is refused."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from recsys import catalog
from recsys.exceptions import InvalidInputError, WorldError
from recsys.night import traffic
from recsys.night.night import Night
from recsys.settings import load_settings
from recsys.simulate.growth_record import WorldRecord
from recsys.simulate.world import generate
from tests.support.components import Valkey

pytestmark = [pytest.mark.real, pytest.mark.slow]

DAY = date(2026, 1, 5)
NEXT = DAY + timedelta(days=1)


@pytest.fixture
def night(tmp_path: Path, valkey: Valkey) -> Night:
    generate(tmp_path / "world", tracks=300, artists=60, users=40)
    return night_of(tmp_path, valkey, "users=10,tracks=20,retire=3")


def night_of(tmp_path: Path, valkey: Valkey, growth: str, **more: object) -> Night:
    known = {"var": tmp_path / "var", "world": tmp_path / "world", "redis_url": valkey.url, "traffic_growth": growth}
    return Night(DAY, load_settings(**known | more))


def sizes(night: Night) -> tuple[int, int, int]:
    tracks = catalog.load_tracks(night.world)
    return len(catalog.load_users(night.world)), tracks.size, len(tracks.retired)


def test_each_date_finds_a_larger_world_once(night: Night) -> None:
    first = traffic.plan(night)
    assert sizes(night) == (50, 320, 3)
    assert (first["listeners"], first["tracks"]) == (50, 320)
    assert traffic.plan(night) == first, "a retry"
    assert sizes(night) == (50, 320, 3)
    traffic.plan(Night(NEXT, night.settings))
    assert sizes(night) == (60, 340, 6)
    traffic.plan(night, rebuild=True)
    assert sizes(night) == (60, 340, 6)
    growth = WorldRecord.read(night.world).growth
    assert [step.log_date for step in growth] == [str(DAY), str(NEXT)]
    assert len({step.seed for step in growth}) == 2


def test_the_dates_may_come_in_any_order(night: Night) -> None:
    for day in (NEXT, DAY, NEXT):
        traffic.plan(Night(day, night.settings))
    assert sizes(night) == (60, 340, 6)


def test_a_date_that_is_there_lets_nothing_grow(night: Night) -> None:
    with night.store.stage(night.logs) as staging:
        (staging / "x.jsonl").write_text("")
    assert traffic.plan(night)["done"]
    traffic.plan(night, rebuild=True)
    assert sizes(night) == (40, 300, 0)


def test_without_the_setting_the_world_stays(night: Night, tmp_path: Path, valkey: Valkey) -> None:
    found = traffic.plan(night_of(tmp_path, valkey, ""))
    assert (found["listeners"], found["tracks"]) == (40, 300)
    assert sizes(night) == (40, 300, 0)


def test_a_read_only_world_cannot_grow(night: Night) -> None:
    night.world.chmod(0o555)
    with pytest.raises(WorldError, match=r"RECSYS_TRAFFIC_GROWTH is 'users=10,.*': world .* is read-only, as the stack's is"):
        traffic.plan(night)
    assert sizes(night) == (40, 300, 0)


def test_real_listeners_arrive_by_themselves(tmp_path: Path, valkey: Valkey, night: Night) -> None:
    with pytest.raises(InvalidInputError, match="but RECSYS_EXPERIMENT_SOURCE is live: only simulated listeners arrive that way"):
        traffic.plan(night_of(tmp_path, valkey, "users=10", experiment_source="live"))
    assert sizes(night) == (40, 300, 0)


def test_more_than_there_is_cannot_be_retired(tmp_path: Path, valkey: Valkey, night: Night) -> None:
    with pytest.raises(InvalidInputError, match="RECSYS_TRAFFIC_GROWTH is 'retire=301': 301 tracks are to be retired, but 300"):
        traffic.plan(night_of(tmp_path, valkey, "retire=301"))


@pytest.mark.parametrize("text", ["users", "users=-1", "tracks=5;users=3", "listeners=3"])
def test_a_setting_that_says_nothing_of_the_kind(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"setting traffic_growth \(RECSYS_TRAFFIC_GROWTH\) is"):
        load_settings(traffic_growth=text)
