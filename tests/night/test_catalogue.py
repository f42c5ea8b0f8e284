"""The catalogue of a log date: taken once, kept, and compared with those of the dates around it."""

import json
from datetime import date, timedelta
from pathlib import Path

import pytest

from recsys.exceptions import CorruptDataError, WorldError
from recsys.night import steps
from recsys.night.catalogue import checksum_of, dated, tracks_of
from recsys.night.night import Night
from recsys.schemas import DatedCatalogue, Inputs
from recsys.settings import load_settings
from recsys.storage.store import Storage
from tests.support.night import DAY, catalogue_of
from tests.support.open_world import write_catalogue


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(DAY, load_settings(var=tmp_path / "var", world=write_catalogue(tmp_path / "world", 30, [4, 2])))


def of(night: Night, days: int) -> Night:
    """The night some days later, or earlier."""
    return Night(night.log_date + timedelta(days=days), night.settings)


def spoil(night: Night) -> None:
    """Change a byte of the copy."""
    path = Path(night.store.path(night.catalogue)) / "tracks.json"
    path.write_bytes(path.read_bytes().replace(b"t7", b"x7"))


def test_it_is_taken_once_and_kept(night: Night) -> None:
    assert dated(night) == DatedCatalogue(tracks=30, retired=(2, 4), listeners=None)
    assert night.store.manifest(night.catalogue).counts == {"tracks": 30, "retired": 2}
    (night.world / "users.json").write_text('{"user": 3}\n{"user": 5}\n\n')
    write_catalogue(night.world, 40, [2, 4, 9])
    assert dated(night).tracks == tracks_of(night).size == 30
    assert dated(of(night, 1)) == DatedCatalogue(tracks=40, retired=(2, 4, 9), listeners=2)
    assert tracks_of(of(night, 1)).retired == {2, 4, 9}
    assert checksum_of(night) != checksum_of(of(night, 1))


def test_it_stands_in_any_storage(night: Night, hdfs_root: str) -> None:
    remote = Night(DAY, load_settings(world=night.world, storage=hdfs_root))
    first = dated(remote)
    write_catalogue(night.world, 31)
    assert (dated(remote), tracks_of(remote).size) == (first, 30)
    assert dated(of(remote, 1)).tracks == 31


def test_a_date_before_takes_what_there_is_now(night: Night) -> None:
    dated(night)
    write_catalogue(night.world, 50)
    assert dated(of(night, -3)).tracks == 50


def test_an_older_copy_of_the_world_will_do_for_a_date_before(night: Night) -> None:
    dated(night)
    write_catalogue(night.world, 20)
    assert dated(of(night, -1)).tracks == 20


@pytest.mark.parametrize(
    ("days", "tracks", "message"),
    [
        (1, 29, r"world/tracks.json has 29 tracks, fewer than the 30 on 2026-01-05; a track stays, and is retired with"),
        (1, 30, r"world/tracks.json: track 7 is 'a1 - new', but it was 'a7 - t7' on 2026-01-05; a track keeps its number"),
        (-1, 30, r"world/tracks.json: track 7 is 'a1 - new', but it was 'a7 - t7' on 2026-01-05"),
        (-1, 20, r"catalogue/date=2026-01-05/tracks.json: track 7 is 'a7 - t7', but it was 'a1 - new' in .*world/tracks.json"),
    ],
)
def test_another_catalogue_is_refused_by_track_and_date(night: Night, days: int, tracks: int, message: str) -> None:
    dated(night)
    write_catalogue(night.world, tracks)
    if tracks != 29:
        lines = (night.world / "tracks.json").read_text().splitlines()
        lines[7] = json.dumps({"artist": "a1", "title": "new", "track": 7})
        (night.world / "tracks.json").write_text("\n".join(lines))
    with pytest.raises(WorldError, match=message):
        dated(of(night, days))
    assert not night.store.is_complete(of(night, days).catalogue)
    assert night.store.dates("catalogue") == [DAY]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"world/tracks.json has no tracks"),
        ("{]\n", r"world/tracks.json line 1: not JSON"),
        (
            '{"artist": "a", "title": "t", "track": 0, "available": false}\n',
            "1 tracks, all of them retired; at least one must be",
        ),
        (None, r"world/tracks.json cannot be read"),
    ],
)
def test_a_catalogue_that_is_none_is_named_and_not_taken(night: Night, text: str | None, message: str) -> None:
    path = night.world / "tracks.json"
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(WorldError, match=message):
        dated(night)
    assert night.store.dates("catalogue") == []


def test_what_has_been_damaged_is_not_compared_with(night: Night, caplog: pytest.LogCaptureFixture) -> None:
    dated(of(night, -1))
    dated(night)
    spoil(night)
    with pytest.raises(CorruptDataError, match=r"catalogue/date=2026-01-05/tracks.json"):
        tracks_of(night)
    write_catalogue(night.world, 29)
    with pytest.raises(WorldError, match=f"fewer than the 30 on {DAY - timedelta(days=1)}"):
        dated(of(night, 1))
    assert "was not compared with that of 2026-01-05" in caplog.text


@pytest.mark.drill("catalogue of a date", "bytes have changed", "named; a rebuild takes it anew, whole ones stay")
def test_a_rebuild_keeps_what_is_whole(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps.keyspace, "connect", lambda settings: None)
    monkeypatch.setattr(steps.collect, "collect", lambda night, **noted: {"tracks": tracks_of(night).size})
    dated(night)
    with night.store.stage(night.interactions) as staging:
        Inputs(log_date=str(DAY)).write(staging)
    write_catalogue(night.world, 40)
    assert steps.collect_interactions(night, rebuild=True) == {"tracks": 30}
    spoil(night)
    with pytest.raises(CorruptDataError):
        steps.collect_interactions(night)
    assert steps.collect_interactions(night, rebuild=True) == {"tracks": 40}


def test_the_documents_of_earlier_releases_are_read() -> None:
    assert Inputs.parse('{"log_date": "2026-01-05"}', "inputs.json").catalogue == ""


def test_a_log_date_s_copy_reads_as_it_was(night: Night) -> None:
    found, expected = tracks_of(night), catalogue_of(30, [2, 4])
    assert found.titles == expected.titles
    assert found.available.tolist() == expected.available.tolist()
    assert Storage(night.settings.storage_url).dates("catalogue") == [date(2026, 1, 5)]
