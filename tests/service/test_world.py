"""The files of a world as they change: what is taken, what is not, and what is told."""

import json
import logging
from array import array
from pathlib import Path

import pytest

from recsys.exceptions import WorldError
from recsys.service.world import Follower, Neighbours
from tests.support.tracks import tracks_of, world_of, write_tracks


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write_tracks(tmp_path, tracks_of(10))
    return tmp_path


@pytest.fixture
def follower(directory: Path) -> Follower:
    return Follower(directory)


def look(follower: Follower) -> bool:
    """Whether there is another world once files have settled."""
    return sum(follower.look() for _ in range(3)) > 0


def test_a_catalogue_grows_and_shrinks(directory: Path, follower: Follower) -> None:
    first = follower.world
    assert not look(follower)
    write_tracks(directory, [*tracks_of(12), {"artist": "x", "title": "y", "track": 12, "id": "song-12", "available": False}])
    assert look(follower)
    world = follower.world
    assert (world.tracks.size, first.tracks.size) == (13, 10)
    assert list(world.stock.available) == list(range(12))
    assert world.stock.barred == {12}
    assert world.known.number_of == {"song-12": 12}
    assert (world.id_of(12), world.id_of(3), world.id_of(99)) == ("song-12", None, None)
    assert not look(follower)


def renumbered() -> str:
    lines = tracks_of(10)
    lines[3]["title"], lines[4]["title"] = lines[4]["title"], lines[3]["title"]
    return "".join(json.dumps(line) + "\n" for line in lines)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has no tracks"),
        ("".join(json.dumps(line) + "\n" for line in tracks_of(12))[:-20], "line 12: not JSON"),
        ("".join(json.dumps(line) + "\n" for line in tracks_of(9)), "fewer than the 10 before"),
        (renumbered(), "track 3 is 'a3 - t4', but it was 'a3 - t3' before"),
        ("".join(json.dumps(line | {"available": False}) + "\n" for line in tracks_of(11)), "has 11 tracks, all of them retired"),
        (None, "cannot be read"),
    ],
    ids=["empty", "half written", "shorter", "renumbered", "all retired", "gone"],
)
def test_a_catalogue_that_cannot_be_taken_changes_nothing(
    directory: Path, follower: Follower, text: str | None, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = follower.world
    path = directory / "tracks.json"
    before = path.read_text()
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    assert not look(follower)
    assert follower.world is world
    assert told in follower.trouble
    assert [told in record.message for record in caplog.records if record.levelno >= logging.ERROR] == [True]
    path.write_text(before)
    assert look(follower)
    assert follower.trouble == ""


def test_a_world_is_not_served_by_halves(directory: Path, follower: Follower) -> None:
    (directory / "top_tracks.json").write_text("[9, 8]")
    assert not follower.look()
    (directory / "tracks.json").write_text(renumbered())
    assert not look(follower)
    assert follower.world.top == tuple(range(10))
    write_tracks(directory, tracks_of(10))
    assert look(follower)
    assert follower.world.top == (9, 8)


def test_other_files_come_and_change_and_go(directory: Path, follower: Follower) -> None:
    assert follower.world.top == tuple(range(10))
    assert follower.world.neighbours is None
    (directory / "top_tracks.json").write_text("[3, 1, 12]")
    (directory / "tracks_recs.json").write_text('{"track": 3, "recommendations": [4, 5, 11], "title": "t"}\n')
    assert look(follower)
    assert follower.world.top == (3, 1, 12)
    assert follower.world.neighbours is not None
    assert list(follower.world.neighbours.near(3)) == [4, 5, 11]
    assert follower.world.stock.barred == {11, 12}
    (directory / "top_tracks.json").write_text("[3, 1, 3]")
    assert not look(follower)
    assert "top_tracks.json cannot be taken" in follower.trouble
    # The others go on.
    write_tracks(directory, [line | {"available": line["track"] != 3} for line in tracks_of(12)])
    assert look(follower)
    assert follower.world.stock.barred == {3, 12}
    for name in ("top_tracks.json", "tracks_recs.json"):
        (directory / name).unlink()
    assert look(follower)
    assert (follower.world.top, follower.world.neighbours) == ((0, 1, 2, *range(4, 12)), None)
    assert follower.trouble == ""


@pytest.mark.parametrize("line", ['{"track": -1, "recommendations": []}', '{"track": 1}', '{"track": 1, "recommendations": [-1]}',
    '{"track": 1, "recommendations": [4294967296]}', '{"track": 0, "recommendations": []}', "[]", "{"])  # fmt: skip
def test_neighbours_that_are_none_are_refused(directory: Path, line: str) -> None:
    (directory / "tracks_recs.json").write_text('{"track": 0, "recommendations": [1]}\n' + line)
    with pytest.raises(WorldError, match=r"tracks_recs.json line 2: "):
        Follower(directory)


def test_neighbours_of_one_track_of_many() -> None:
    found = Neighbours({2**31 - 1: array("I", [1, 2**31 - 1])})
    assert list(found.near(2**31 - 1)) == [1, 2**31 - 1]
    assert list(found.near(0)) == []
    assert found.beyond(10) == {2**31 - 1}
    assert found.beyond(2**31) == set()


def test_a_run_has_a_catalogue_of_its_own() -> None:
    world = world_of(10, retired=[3], ids={4: "song-4"})
    earlier = world.of_run(8, frozenset({5}))
    assert (earlier.known.size, earlier.known.strict) == (8, True)
    assert earlier.known.number_of == {"song-4": 4}
    assert list(earlier.stock.available) == [0, 1, 2, 3, 4, 6, 7]
    # The TOP 100 of the files are of today.
    assert earlier.stock.barred == {5, 8, 9}
    assert world.of_run(0, frozenset()).known.size == 10
    later = world.of_run(12, frozenset())
    assert later.stock.available == range(12)
    assert later.id_of(11) is None
