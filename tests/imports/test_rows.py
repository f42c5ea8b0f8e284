"""What a row says, or why it says nothing."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from recsys.exceptions import CorruptDataError, InvalidInputError
from recsys.imports import rows
from recsys.imports.request import Asked
from recsys.imports.tables import open_table
from recsys.storage.store import Storage
from tests.support.imports import catalogue, contents, imported, lines, plays, settings_in, write_csv

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
MS = int(NOON.timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-01-02T12:00:00Z", MS),
        ("2026-01-02 12:00:00", MS),
        ("2026-01-02T14:00:00+02:00", MS),
        ("2026-01-02T12:00:00.250", MS + 250),
        (" 2026-01-02 12:00 ", MS),
        ("2026-01-02", MS - 43_200_000),
        (f"{MS // 1000}", MS),
        (f"{MS // 1000}.25", MS + 250),
        (f"{MS}", MS),
        ("874965758", 874_965_758_000),
    ],
)
def test_times_in_every_form(text: str, ms: int, tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    path = write_csv(tmp_path / "a.csv", ["user", "track", "at"], [[1, "a", text]])
    imported(settings, path, time="at")
    assert [record["timestamp"] for record in plays(settings)] == [ms]
    assert list(lines(settings)) == [datetime.fromtimestamp(ms / 1000, UTC).date().isoformat()]


#: Why a row is malformed, and such a row of user, track, at, heard.
WRONG = {
    rows.NO_USER: ["", "a", "2026-01-02", "1"],
    rows.LONG_USER: ["é" * 64 + "x", "a", "2026-01-02", "1"],
    rows.NO_TRACK: ["u", "", "2026-01-02", "1"],
    rows.LONG_TRACK: ["u", "x" * 513, "2026-01-02", "1"],
    rows.NO_TIME: ["u", "a", " ", "1"],
    rows.BAD_TIME: ["u", "a", "20260102", "1"],
    rows.NO_DATE: ["u", "a", "2126-01-02", "1"],
    rows.BAD_PLAYED: ["u", "a", "2026-01-02", "1.01"],
    rows.NO_ROW: ["u", "a"],
}


def test_the_longest_ids_are_ids(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    imported(settings, write_csv(tmp_path / "a.csv", ["user", "track", "at"], [["é" * 64, "x" * 512, MS]]), time="at")
    assert [record["user_id"] for record in plays(settings)] == ["é" * 64]
    assert [track["id"] for track in catalogue(settings)] == ["x" * 512]


@pytest.mark.parametrize("why", WRONG)
def test_one_malformed_row_of_few_is_refused_and_told(why: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ["user", "track", "at", "heard"], [["u", "a", "2026-01-02", "0.5"], WRONG[why]])
    with pytest.raises(CorruptDataError, match=r"1 of 2 rows are malformed \(1 ") as caught:
        imported(settings_in(tmp_path), path, time="at", played="heard")
    assert f"1 {why}, as row " in str(caught.value)
    assert "of a.csv" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert contents(tmp_path / "var") == {}


def test_few_malformed_rows_of_many_go_to_quarantine(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    good = [[f"u{i % 50}", f"t{i % 7}", MS + i, 0.5] for i in range(2000)]
    path = write_csv(tmp_path / "a.csv", ["user", "track", "at", "heard"], [*good[:1000], *WRONG.values(), *good[1000:]])
    card = imported(settings, path, time="at", played="heard")
    assert card.left_out == dict.fromkeys(sorted(WRONG), 1)
    assert (card.rows, card.plays) == (2000 + len(WRONG), 2000)
    assert len(plays(settings)) == 2000
    store = Storage(settings.storage_url)
    assert store.manifest(card.quarantine).counts == card.left_out
    kept = [json.loads(line) for line in store.read_bytes(card.quarantine, "malformed.jsonl").splitlines()]
    assert sorted(row["reason"] for row in kept) == sorted(WRONG)
    found = {row["reason"]: row for row in kept}
    assert json.loads(found[rows.NO_TIME]["text"]) == {"user": "u", "track": "a", "time": " ", "played": "1"}
    assert found[rows.NO_USER]["row"] == 1001
    assert (found[rows.NO_ROW]["text"], found[rows.NO_ROW]["row"]) == ("u,a", 1010)
    again = imported(settings, path, time="at", played="heard")
    assert (again.quarantine, again.written) == (card.quarantine, 0)


def test_an_open_quote_takes_many_rows_with_it_and_each_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("user,track,at\n" + f"1,a,{MS}\n" * 500 + f'2,"b,{MS}\n' + f"3,c,{MS}\n" * 499)
    with pytest.raises(CorruptDataError, match=rf"500 of 1000 rows are malformed \(500 {rows.NO_ROW}"):
        imported(settings_in(tmp_path), path, time="at")


def test_bytes_that_are_no_text_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"user,track,at\n" + b"1,a,%d\n" % MS * 999 + b"2,\xe9t\xe9,%d\n" % MS)
    assert imported(settings_in(tmp_path), path, time="at").left_out == {rows.NO_ROW: 1}


def test_json_lines_that_are_none_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"user": 1, "track": "a", "at": {MS}}}\n' * 300 + 'half a {"line\n[1, 2]\n')
    assert imported(settings_in(tmp_path), path, time="at").left_out == {rows.NO_JSON: 2}


@pytest.mark.parametrize("text", ["", "great", "nan", "inf"])
def test_a_rating_that_is_none(text: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ["user", "track", "at", "stars"], [[1, "a", MS, text]])
    with pytest.raises(CorruptDataError, match=rows.BAD_RATING):
        imported(settings_in(tmp_path), path, time="at", rating="stars", liked=4.0)


def test_ratings_shares_and_neither(tmp_path: Path) -> None:
    given = [3, 4, 4.5, -1]
    path = write_csv(tmp_path / "a.csv", ["user", "track", "at", "v"], [[1, i, MS + i, v] for i, v in enumerate(given)])
    found = {}
    for name, asked in {"rated": {"rating": "v", "liked": 4.0}, "all": {}}.items():
        settings = settings_in(tmp_path / name)
        card = imported(settings, path, time="at", **asked)
        found[name] = [record["time"] for record in plays(settings)], card.liked
    assert found == {"rated": ([0.0, 1.0, 1.0, 0.0], 2), "all": ([1.0] * 4, 4)}
    settings = settings_in(tmp_path / "shares")
    shares = [0, 0.8, 0.81, 1]
    path = write_csv(tmp_path / "b.csv", ["user", "track", "at", "v"], [[1, i, MS + i, v] for i, v in enumerate(shares)])
    assert imported(settings, path, time="at", played="v").liked == 2
    assert [record["time"] for record in plays(settings)] == shares


def test_files_without_a_row(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ["user", "track", "at"], [])
    with pytest.raises(InvalidInputError, match=r"a\.csv holds not one row"):
        imported(settings_in(tmp_path), path, time="at")


CELLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(["", "1", str(MS), "2026-01-02", "nan"])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cells=st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS), min_size=1, max_size=6))
@example(cells=[("a", "b", "1e400", "-0")])
@example(cells=[("\0", "\x01", "infinity", "1")])
def test_every_row_is_checked_whatever_it_holds(cells: list[tuple[str, str, str, str]], tmp_path: Path) -> None:
    import duckdb

    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(dict(zip("uthp", row, strict=True))) + "\n" for row in cells))
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        rows.create(db)
        rows.read(db, 0, open_table(path, tmp_path), Asked((path,), "u", "t", time="h", played="p"))
        found = db.execute('SELECT "user", track, ts, heard, reason, text FROM checked ORDER BY "row"').fetchall()
    assert len(found) == len(cells)
    for user, track, ts, heard, why, text in found:
        assert (why is None) == (text is None)
        if why is None:
            assert 0 < len(user.encode()) <= 128
            assert 0 < len(track.encode()) <= 512
            assert ts >= 0
            assert 0 <= heard <= 1
