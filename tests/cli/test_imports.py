"""`recsys import`: what a person types, and what is said."""

import json
from pathlib import Path

import pytest

from recsys.cli import app
from recsys.exceptions import InvalidInputError, RecsysError
from recsys.storage.store import Storage
from tests.support.imports import contents, write_csv

PLAYS = [["alice", "t1", "2026-01-02T10:00:00Z"], ["bob", "t2", "2026-01-03T10:00:00Z"], ["bob", "t1", "2026-01-03T10:04:00Z"]]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("RECSYS_VAR", str(tmp_path / "var"))
    return str(write_csv(tmp_path / "plays.csv", ["user", "track", "at"], PLAYS))


def run(*words: str) -> None:
    app(["import", *words], standalone_mode=False)


def test_an_import_and_again(path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (path, "--user", "user", "--track", "track", "--time", "at")
    run(*words, "--dry-run")
    assert "2 would be written" in capsys.readouterr().out
    assert not (tmp_path / "var").exists()
    run(*words)
    told = capsys.readouterr().out
    assert "3 rows: 3 plays (3 liked) of 2 users in 2 sessions, 2 tracks (2 new, 2 in the catalogue)" in told
    assert f"2 log dates from 2026-01-02 to 2026-01-03 in file://{tmp_path}/var/storage: 2 written, 0 already there" in told
    run(*words)
    assert "storage: already there" in capsys.readouterr().out


def test_the_card(path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(path, "--user", "1", "--track", "2", "--dates", "2026-01-01..2026-01-01", "--world", str(tmp_path / "w"), "--json")
    card = json.loads(capsys.readouterr().out)
    assert card.pop("seconds") > 0
    assert card == {
        "rows": 4, "plays": 4, "liked": 4, "sessions": 3, "users": 3, "tracks": 3, "new_tracks": 3, "catalogue": 3,
        "dates": ["2026-01-01"], "written": 1, "left_out": {}, "quarantine": "", "dry_run": False,
    }  # fmt: skip
    assert (tmp_path / "w" / "tracks.json").exists()


def test_every_column_finds_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECSYS_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("RECSYS_MALFORMED", "0.5")
    rows = [
        ["u", "1", 5, "A", "X", "2026-01-02 10:00"],
        ["u", "1", 2, "A", "X", "2026-01-02 10:10"],
        ["u", "2", "", "B", "Y", ""],
    ]
    path = write_csv(tmp_path / "a.csv", ["who", "what", "stars", "by", "name", "at"], rows)
    tracks = write_csv(tmp_path / "t.csv", ["id", "artist", "title"], [["3", "C", "Z"]])
    words = ["--user", "who", "--track", "what", "--time", "at", "--rating", "stars", "--liked", "4", "--artist", "by"]
    words += ["--title", "name", "--tracks", str(tracks), "--session-gap", "5", "--dates", "2026-01-01..2026-01-02", "--json"]
    run(str(path), *words)
    card = json.loads(capsys.readouterr().out)
    assert (card["liked"], card["sessions"], card["catalogue"], card["left_out"]) == (1, 2, 2, {"rating is no number": 1})
    run(str(path), *words[:-1])
    told = capsys.readouterr().out
    assert f"left out: 1 rating is no number; see {card['quarantine']}" in told
    assert Storage(f"file://{tmp_path}/var/storage").is_intact(card["quarantine"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--track", "track", "--time", "at"], "no column tells the user"),
        (["--user", "user", "--time", "at"], "no column tells the track"),
        (["--user", "user", "--track", "track"], "no column tells the time"),
        (["--user", "user", "--track", "track", "--dates", "2026-01-02..2026-01-01"], "backwards"),
        (["--user", "user", "--track", "track", "--time", "at", "--rating", "at"], "--liked"),
        (["--user", "user", "--track", "trak", "--time", "at"], "'trak' is not in .*the nearest is 'track'"),
        (["--user", "user", "--track", "track", "--time", "user"], "time is no time, as row 1"),
        (["--format", "botify", "--user", "user"], "--user has no meaning"),
        (["--format", "botify"], r"its tracks\.json must be in the world"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(words: list[str], told: str, path: str, tmp_path: Path) -> None:
    with pytest.raises(RecsysError, match=told) as caught:
        run(path, *words)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "var").exists() or contents(tmp_path / "var") == {}


def test_a_log_of_the_original(path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = tmp_path / "var" / "world"
    world.mkdir(parents=True)
    (world / "tracks.json").write_text('{"artist": "A", "title": "T", "track": 0}\n')
    log = tmp_path / "data.json"
    log.write_text('{"message": "last", "timestamp": 1649203199990, "user": 7, "track": 0, "time": 1.0}\n')
    run(str(log), "--format", "botify")
    assert "1 log date from 2022-04-05" in capsys.readouterr().out
    with pytest.raises(InvalidInputError, match="no log of the original"):
        run(path, "--format", "botify")
