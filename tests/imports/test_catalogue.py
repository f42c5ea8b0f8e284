"""Tracks get numbers once, and keep them."""

import json
import threading
from pathlib import Path

import pytest

from recsys.catalog import load_tracks
from recsys.exceptions import InvalidInputError, WorldError
from recsys.imports.catalogue import Growth, Named, alone
from recsys.imports.steps import Card
from recsys.settings import Settings
from tests.support.imports import catalogue, contents, imported, lines, settings_in, write_csv
from tests.support.night import write_world

HEADER = ["user", "track", "at", "artist", "title"]
AT = 1_767_355_200_000
DAY_MS = 86_400_000


def bring(settings: Settings, path: Path, rows: list[list[object]], *, named: bool = True, **asked: object) -> Card:
    names = {"artist": "artist", "title": "title"} if named else {}
    return imported(settings, write_csv(path, HEADER, rows), time="at", **names, **asked)


def test_new_tracks_are_appended_in_the_order_of_their_rows(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    bring(settings, tmp_path / "a", [[1, "z", AT, "A", "Z"], [1, "b", AT - 1, "A", "B"], [2, "z", AT, "A", "Z"]])
    first = (settings.world / "tracks.json").read_bytes()
    bring(settings, tmp_path / "b", [[1, "a", AT + DAY_MS, "C", "A"], [1, "z", AT + DAY_MS, "A", "Z"]])
    assert (settings.world / "tracks.json").read_bytes().startswith(first)
    assert [(line["track"], line["id"], line["title"]) for line in catalogue(settings)] == [
        (0, "z", "Z"), (1, "b", "B"), (2, "a", "A"),
    ]  # fmt: skip
    assert set(contents(settings.world)) == {"tracks.json"}
    assert {r["track"] for r in lines(settings)["2026-01-03"]} == {0, 2}


def test_an_existing_catalogue_keeps_its_lines(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    write_world(settings.world, tracks=5)
    (settings.world / "users.json").unlink()
    before = (settings.world / "tracks.json").read_bytes()
    (settings.world / "tracks.json").write_bytes(before.rstrip())
    card = bring(settings, tmp_path / "a", [[1, "3", AT, "", ""], [1, "", AT, "a2", "t2"], [1, "", AT, "a2", "new"]])
    assert (settings.world / "tracks.json").read_bytes().startswith(before)
    assert (card.new_tracks, card.catalogue) == (2, 7)
    assert catalogue(settings)[5:] == [
        {"artist": "", "title": "3", "track": 5, "id": "3"},
        {"artist": "a2", "title": "new", "track": 6},
    ]
    assert sorted(r["track"] for r in lines(settings)["2026-01-02"]) == [2, 5, 6]


@pytest.mark.parametrize("column", ["artist", "title"])
def test_an_id_that_changes_its_meaning_is_refused(column: str, tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    bring(settings, tmp_path / "a", [[1, "z", AT, "A", "Z"]])
    before = contents(settings.var)
    changed = ["B", "Z"] if column == "artist" else ["A", "Y"]
    with pytest.raises(InvalidInputError, match=f"track 'z' would change its meaning: its {column} is '[AZ]' .* and '[BY]'"):
        bring(settings, tmp_path / "b", [[1, "new", AT + DAY_MS, "A", "N"], [1, "z", AT + DAY_MS, *changed]])
    assert contents(settings.var) == before
    assert bring(settings, tmp_path / "b", [[1, "z", AT + DAY_MS, "", ""]]).written == 1


def test_one_file_that_says_two_things_of_an_id_is_refused(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    with pytest.raises(InvalidInputError, match="'z' would change its meaning"):
        bring(settings, tmp_path / "a", [[1, "z", AT, "A", "Z"], [2, "z", AT, "A", "Zz"]])
    assert not settings.var.exists() or contents(settings.var) == {}
    assert not settings.world.exists()


def test_a_name_that_was_not_known_is_filled_in(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    rows = [[1, "z", AT, "A", "Z"], [1, "y", AT, "", "Y"], [2, "y", AT, "A", ""]]
    bring(settings, tmp_path / "a", rows, named=False)
    assert [(line["artist"], line["title"]) for line in catalogue(settings)] == [("", "z"), ("", "y")]
    (settings.world / "tracks.json").write_text("".join(json.dumps(line | {"year": 1999}) + "\n" for line in catalogue(settings)))
    card = bring(settings, tmp_path / "a", rows)
    assert (card.written, card.new_tracks) == (0, 0)
    assert catalogue(settings) == [
        {"artist": "A", "title": "Z", "track": 0, "id": "z", "year": 1999},
        {"artist": "A", "title": "Y", "track": 1, "id": "y", "year": 1999},
    ]


def test_a_table_of_tracks_comes_first(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    table = write_csv(tmp_path / "t", ["title", "id", "artist", "year"], [["N", "never", "A", 1], ["Z", "z", "A", 2]])
    card = bring(settings, tmp_path / "a", [[1, "other", AT, "", ""], [1, "z", AT, "", ""]], named=False, tracks=table)
    assert [(line["id"], line["artist"], line["title"]) for line in catalogue(settings)] == [
        ("never", "A", "N"), ("z", "A", "Z"), ("other", "", "other"),
    ]  # fmt: skip
    assert (card.tracks, card.new_tracks) == (2, 3)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ID,title\n1,a\n", "column 'id' is not in"),
        ("id,title\n1,a\n,b\n", "row 2 of .* has no id"),
        ("id,title\n1,a\n2\n", "line 3 of .* is not a row"),
        (f"id,title\n{'x' * 513},a\n", "an id has 1 to 512 bytes"),
        ("id,title\n1,a\n1,b\n", "'1' would change its meaning"),
    ],
)
def test_a_table_of_tracks_that_is_none(text: str, told: str, tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    (tmp_path / "t").write_text(text)
    with pytest.raises(InvalidInputError, match=told):
        bring(settings, tmp_path / "a", [[1, "z", AT, "", ""]], tracks=tmp_path / "t")
    assert not settings.world.exists()


def test_a_catalogue_that_was_renumbered_is_refused(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    bring(settings, tmp_path / "a", [[1, "z", AT, "A", "Z"], [1, "y", AT, "A", "Y"]])
    found = catalogue(settings)
    path = settings.world / "tracks.json"

    def write(*order: int) -> None:
        path.write_text("".join(json.dumps(found[i] | {"track": n}) + "\n" for n, i in enumerate(order)))

    rows: list[list[object]] = [[1, "x", AT + DAY_MS, "A", "X"]]
    for order in ((1, 0), (0,)):
        write(*order)
        before = contents(settings.var)
        with pytest.raises(WorldError, match="does not have the tracks, each with its number, by which logs/date=2026-01-02"):
            bring(settings, tmp_path / "b", rows)
        assert contents(settings.var) == before
    write(0, 1)
    assert bring(settings, tmp_path / "b", rows).written == 1


def test_retired_and_renamed_tracks_are_still_themselves(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    bring(settings, tmp_path / "a", [[1, "z", AT, "A", "Z"], [1, "y", AT, "A", "Y"]])
    found = catalogue(settings)
    found[0] |= {"available": False, "title": "Z (live)"}
    (settings.world / "tracks.json").write_text("".join(json.dumps(line) + "\n" for line in found))
    bring(settings, tmp_path / "b", [[1, "z", AT + DAY_MS, "", ""], [1, "x", AT + DAY_MS, "", ""]])
    assert load_tracks(settings.world).retired == {0}
    assert catalogue(settings)[0]["title"] == "Z (live)"


def test_two_at_once_append_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "tracks.json").write_text('{"artist":"A","title":"T","track":0}\n')
    entered = threading.Event()

    def grow(prefix: str, *, first: bool) -> None:
        with alone(tmp_path):
            growth = Growth(tmp_path)
            entered.set()
            for i in range(200):
                growth.number_of(Named(f"{prefix}{i}", None, None))
            growth.write()

    threads = [threading.Thread(target=grow, args=(name,), kwargs={"first": name == "a"}) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert load_tracks(tmp_path).size == 401
    assert [path.name for path in tmp_path.iterdir()] == ["tracks.json"]


def test_a_world_of_simulated_listeners_gets_no_tracks_that_they_do_not_know(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    write_world(settings.world, tracks=5)
    before = contents(tmp_path)
    for dry_run in (True, False):
        with pytest.raises(WorldError, match=r"simulated listeners.* 5 tracks.* 1 tracks of the import.*RECSYS_VAR"):
            bring(settings, tmp_path / "a", [[1, "3", AT, "", ""]], dry_run=dry_run)
    assert set(contents(tmp_path)) == {*before, "a"}


def test_a_world_that_is_a_file_is_refused(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    settings.var.mkdir()
    settings.world.write_text("")
    with pytest.raises(WorldError, match="is no directory"):
        bring(settings, tmp_path / "a", [[1, "z", AT, "A", "Z"]])
