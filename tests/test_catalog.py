"""Tracks and users as everybody reads them, and what is said about bad files."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys import catalog
from recsys.exceptions import InvalidInputError, WorldError

GOOD = [
    {"artist": "B", "title": "x", "track": 2},
    {"artist": "A", "title": "y", "track": 0},
    {"artist": "B", "title": "z", "track": 1},
]


def write(world: Path, name: str, lines: list) -> Path:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (world / name).write_text(text + "\n", encoding="utf-8")
    return world


def test_tracks_in_any_order(tmp_path: Path) -> None:
    read = catalog.load_tracks(write(tmp_path, "tracks.json", GOOD))
    assert read.size == 3
    assert read.artists == ["A", "B"]
    assert read.artist_of.dtype == np.int32
    assert read.artist_of.tolist() == [0, 1, 1]
    assert [read.track_json(i) for i in range(3)] == sorted(GOOD, key=lambda row: row["track"])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "has no tracks; at least one is needed"),
        ([*GOOD, "{"], r"tracks\.json line 4: not JSON"),
        ([GOOD[0], "", GOOD[1]], "line 2: not JSON"),
        ([*GOOD, "[1]"], r"line 4: b'\[1\]' is not a JSON object"),
        ([{"artist": "a", "track": 0}], "line 1: field 'title' is missing"),
        ([{"title": "a", "track": 0}], "line 1: field 'artist' is missing"),
        ([{"title": "a", "artist": "b"}], "line 1: field 'track' is missing"),
        ([{"artist": "a", "title": "b", "track": "0"}], "line 1: track is '0', not an integer from 0"),
        ([{"artist": "a", "title": "b", "track": -1}], "track is -1"),
        ([{"artist": "a", "title": "b", "track": True}], "track is True"),
        ([{"artist": 1, "title": "b", "track": 0}], "artist 1 and title 'b' must be text"),
        ([*GOOD, GOOD[1]], "line 4: track 0 appears a second time"),
        ([GOOD[0], GOOD[1]], "has 2 tracks, but no track 1; ids must be 0 to 1"),
        ([{**GOOD[1], "id": ""}], "line 1: id is '', not a text of 1 to 512 bytes"),
        ([{**GOOD[1], "id": 7}], "line 1: id is '7', not a text"),
        ([{**GOOD[1], "id": "a"}, {**GOOD[2], "id": "a"}], "line 2: id 'a' appears a second time; it is track 0 already"),
        ([{**GOOD[1], "available": 0}], "line 1: available is 0, not true or false"),
    ],
)
def test_bad_tracks(tmp_path: Path, lines: list, message: str) -> None:
    write(tmp_path, "tracks.json", lines)
    with pytest.raises(WorldError, match=message) as caught:
        catalog.load_tracks(tmp_path)
    assert str(tmp_path / "tracks.json") in str(caught.value)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match=rf"{tmp_path}/tracks\.json cannot be read \(No such file"):
        catalog.load_tracks(tmp_path)
    with pytest.raises(WorldError, match=rf"{tmp_path}/users\.json cannot be read"):
        catalog.load_users(tmp_path)
    assert catalog.load_top_tracks(tmp_path) is None


def test_users_are_sorted(tmp_path: Path) -> None:
    users = catalog.load_users(write(tmp_path, "users.json", [{"user": 7, "interests": [1]}, {"user": 2**63 - 1}, {"user": 0}]))
    assert users.dtype == np.int64
    assert users.tolist() == [0, 7, 2**63 - 1]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "has no users"),
        (["nonsense"], r"users\.json line 1: not JSON"),
        ([{"user": 1}, {"id": 2}], "line 2: field 'user' is missing"),
        ([{"user": 1}, {"user": 1}], "line 2: user 1 appears a second time"),
        ([{"user": -1}], "user is -1, not an integer from 0 to 9223372036854775807"),
        ([{"user": 2**63}], "user is 9223372036854775808"),
        ([{"user": "1"}], "user is '1'"),
        ([{"user": 1.0}], "user is 1.0"),
    ],
)
def test_bad_users(tmp_path: Path, lines: list, message: str) -> None:
    with pytest.raises(WorldError, match=message):
        catalog.load_users(write(tmp_path, "users.json", lines))


def test_top_tracks_are_cut_to_a_hundred(tmp_path: Path) -> None:
    (tmp_path / "top_tracks.json").write_text(json.dumps(list(range(300, 0, -1))))
    assert catalog.load_top_tracks(tmp_path) == list(range(300, 200, -1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1", "is not JSON"),
        ("{}", "must be a JSON list of track ids, not dict"),
        ('[1, "2"]', "item 1 is '2', not a track id"),
        ("[1, -2]", "item 1 is -2"),
        ("[1, 2, 1]", "names a track twice"),
    ],
)
def test_bad_top_tracks(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "top_tracks.json").write_text(text)
    with pytest.raises(WorldError, match=message):
        catalog.load_top_tracks(tmp_path)


@given(st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), min_size=1, max_size=20), st.randoms())
def test_whatever_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, names: list, random) -> None:
    world = tmp_path_factory.mktemp("w")
    rows = [{"artist": a, "title": t, "track": i} for i, (a, t) in enumerate(names)]
    read = catalog.load_tracks(write(world, "tracks.json", random.sample(rows, len(rows))))
    assert [read.track_json(i) for i in range(read.size)] == rows


def test_a_track_may_have_an_id_of_its_owner_s_and_be_retired(tmp_path: Path) -> None:
    lines = [{**GOOD[1], "id": "song-y"}, {**GOOD[2], "available": False}, GOOD[0]]
    read = catalog.load_tracks(write(tmp_path, "tracks.json", lines))
    assert read.number_of == {"song-y": 0}
    assert read.retired == {1}
    assert [read.track_json(i) for i in range(3)] == lines


def test_the_first_tracks_are_the_catalogue_before_the_others_came(tmp_path: Path) -> None:
    lines = [{"artist": "A", "title": "y", "track": 0}, {"artist": "B", "title": "z", "track": 1, "id": "b", "available": False}]
    newer = [{"artist": "A", "title": "x", "track": 2}, {"artist": "C", "title": "x", "track": 3, "id": "c"}]
    first = catalog.load_tracks(write(tmp_path, "tracks.json", [*lines, *newer])).first(2)
    assert (first.size, first.artists, first.artist_of.tolist()) == (2, ["A", "B"], [0, 1])
    assert [first.track_json(i) for i in range(2)] == lines
    assert (first.number_of, first.retired) == ({"b": 1}, {1})


def test_a_catalogue_grows_and_never_renumbers(tmp_path: Path) -> None:
    first = [{"artist": "A", "title": "y", "track": 0, "id": "a"}, {"artist": "B", "title": "z", "track": 1}]
    before = catalog.load_tracks(write(tmp_path, "tracks.json", first))

    def grown(*lines: dict) -> None:
        catalog.load_tracks(write(tmp_path, "tracks.json", list(lines))).check_grown_from(before, tmp_path / "tracks.json")

    more = {"artist": "C", "title": "n", "track": 2}
    grown(*first, more)
    grown({**first[0], "title": "corrected"}, {**first[1], "available": False, "id": "b"}, more)
    with pytest.raises(WorldError, match="has 1 tracks, fewer than the 2 before"):
        grown(first[0])
    with pytest.raises(WorldError, match=r"track 0 is 'b', but it was 'a' before"):
        grown({**first[0], "id": "b"}, first[1])
    with pytest.raises(WorldError, match=r"track 1 is 'C - n', but it was 'B - z' before"):
        grown(first[0], {**more, "track": 1}, {**first[1], "track": 2})


def test_users_are_integers_or_texts() -> None:
    assert catalog.number_of("0") == 0
    assert catalog.number_of(str(2**63 - 1)) == 2**63 - 1
    texts = ["00", "-1", "1.0", str(2**63), "9" * 19, "alice", "é" * 64]
    assert len({catalog.number_of(text) for text in texts}) == len(texts)
    for text in ("", "a" * 129, "é" * 65, "\ud800"):
        with pytest.raises(InvalidInputError):
            catalog.number_of(text)
