"""Rows become sessions: by their times, or spread over dates; and whoever has a text for an id is a number in the logs."""

from collections import Counter, defaultdict
from datetime import date
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.catalog import number_of, users
from recsys.exceptions import InvalidInputError
from recsys.imports import plays as module
from recsys.logs.record import FIELDS, Record
from recsys.settings import Settings
from tests.support.imports import contents, imported, lines, plays, settings_in, write_csv

AT = 1_767_355_200_000  # 2026-01-02T12:00Z
MINUTE, DAY = 60_000, 86_400_000
SPAN = (date(2026, 1, 1), date(2026, 1, 7))


def sessions(settings: Settings) -> dict[tuple[str, int, int], list[Record]]:
    found = defaultdict(list)
    for day, records in lines(settings).items():
        for record in records:
            found[day, record["user"], record["session"]].append(record)
    return found


def check_sessions(settings: Settings) -> None:
    """What every import of a table keeps."""
    for (day, _, _), steps in sessions(settings).items():
        assert [record["step"] for record in steps] == list(range(len(steps)))
        assert [record["message"] for record in steps] == ["next"] * (len(steps) - 1) + ["last"]
        assert {date.fromtimestamp(record["timestamp"] / 1000).isoformat() for record in steps} == {day}
        times = [record["timestamp"] for record in steps]
        assert times == sorted(times)


def bring(settings: Settings, path: Path, times: list[int | str], user: object = 1, **asked: object) -> None:
    imported(
        settings, write_csv(path, ["user", "track", "at"], [[user, i, at] for i, at in enumerate(times)]), time="at", **asked
    )


def test_a_gap_ends_a_session(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    bring(settings, tmp_path / "a", [AT, AT + 30 * MINUTE, AT + 60 * MINUTE + 1, AT - 31 * MINUTE])
    check_sessions(settings)
    assert [[r["track"] for r in steps] for steps in sessions(settings).values()] == [[3], [0, 1], [2]]
    other = settings_in(tmp_path / "other")
    bring(other, tmp_path / "a", [AT, AT + 30 * MINUTE, AT + 60 * MINUTE + 1, AT - 31 * MINUTE], gap=31)
    assert [[r["track"] for r in steps] for steps in sessions(other).values()] == [[3, 0, 1, 2]]


def test_midnight_ends_a_session(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    midnight = AT + DAY // 2
    bring(settings, tmp_path / "a", [midnight - 2 * MINUTE, midnight - 1, midnight, midnight + MINUTE])
    check_sessions(settings)
    assert [(day, [r["track"] for r in steps]) for (day, _, _), steps in sessions(settings).items()] == [
        ("2026-01-02", [0, 1]), ("2026-01-03", [2, 3]),
    ]  # fmt: skip


def test_rows_of_one_moment_keep_their_order(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    bring(settings, tmp_path / "a", ["2026-01-02"] * 30)
    assert [record["track"] for record in plays(settings)] == list(range(30))


def test_a_line_has_the_fields_of_a_log_in_their_order(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    path = write_csv(tmp_path / "a", ["user", "track", "at"], [["7", "a", AT], ['O"Hara\n', "b", AT]])
    imported(settings, path, time="at")
    number, text = plays(settings)
    assert tuple(number) == FIELDS[:16]
    assert tuple(text) == (*FIELDS[:16], "user_id")
    assert (text["user_id"], text["user"]) == ('O"Hara\n', number_of('O"Hara\n'))
    common = {"time": 1.0, "timestamp": AT, "version": "", "degraded": False, "experiments": {}, "message": "last"}
    common |= dict.fromkeys(("latency", "recommendation", "event", "source", "propensity"))
    for record in (number, text):
        assert {name: record[name] for name in common} == common  # type: ignore[literal-required]


def test_integers_stay_and_texts_are_hashed(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    names = ["0", "9223372036854775807", "9223372036854775808", "007", "alice", "-1"]
    imported(settings, write_csv(tmp_path / "a", ["user", "track", "at"], [[name, "a", AT] for name in names]), time="at")
    found = {record.get("user_id"): record["user"] for record in plays(settings)}
    assert found.pop(None) in (0, 2**63 - 1)
    assert found == {name: number_of(name) for name in names[2:]}


def test_users_whose_numbers_meet_are_told_apart_by_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody knows two texts that meet: the hash is made a short one.
    monkeypatch.setattr(module, "number_of", lambda text: users.number_of(text) % 1000)
    settings = settings_in(tmp_path)
    path = write_csv(tmp_path / "a", ["user", "track", "at"], [[f"name {i}", "a", AT] for i in range(1001)])
    with pytest.raises(InvalidInputError, match=r"users 'name \d+' and 'name \d+' both have the number \d+"):
        imported(settings, path, time="at")
    assert contents(tmp_path / "var") == {}


def test_rows_without_a_time_are_spread_evenly_and_always_alike(tmp_path: Path) -> None:
    rows = [[user, f"t{user * 3 + i}"] for user in range(40) for i in range(15)]
    settings, again = settings_in(tmp_path / "one"), settings_in(tmp_path / "two")
    card = imported(settings, write_csv(tmp_path / "a", ["user", "track"], rows), dates=SPAN)
    imported(again, write_csv(tmp_path / "b", ["user", "track"], rows), dates=SPAN)
    assert contents(settings.var / "storage") == contents(again.var / "storage")
    check_sessions(settings)
    assert card.dates == [f"2026-01-0{day}" for day in range(1, 8)]
    for user in range(40):
        counts = Counter(day for day, records in lines(settings).items() for r in records if r["user"] == user)
        assert sorted(counts.values()) == [2] * 6 + [3]
    assert {(r["user"], f"t{r['track']}") for r in plays(settings)} != set()
    assert len({(day, r["user"]) for day, records in lines(settings).items() for r in records}) == 40 * 7


def test_a_user_with_few_rows_may_come_on_any_date(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    imported(settings, write_csv(tmp_path / "a", ["user", "track"], [[f"u{i}", "t"] for i in range(300)]), dates=SPAN)
    assert all(20 < len(records) < 70 for records in lines(settings).values())


def test_only_rows_without_a_time_are_spread(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    bring(settings, tmp_path / "a", [AT + 30 * DAY, "", AT + 31 * DAY, ""], dates=(date(2026, 1, 1), date(2026, 1, 2)))
    found = {day: sorted(r["track"] for r in records) for day, records in lines(settings).items()}
    assert (found["2026-02-01"], found["2026-02-02"]) == ([0], [2])
    assert sorted(track for day in ("2026-01-01", "2026-01-02") for track in found[day]) == [1, 3]
    check_sessions(settings)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 4), st.integers(0, 6 * 60).map(lambda n: AT + DAY // 2 + (n - 180) * MINUTE)),
        min_size=1,
        max_size=40,
    ),
    gap=st.integers(1, 90),
)
def test_sessions_are_as_one_would_cut_them_by_hand(
    rows: list[tuple[int, int, int]], gap: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("import")
    settings = settings_in(directory)
    imported(settings, write_csv(directory / "a", ["user", "track", "at"], rows), time="at", gap=gap)
    check_sessions(settings)
    expected = []
    for user in sorted({row[0] for row in rows}):
        heard = sorted((at, i) for i, (who, _, at) in enumerate(rows) if who == user)
        cut = [0, *(n for n, ((a, _), (b, _)) in enumerate(pairwise(heard), 1) if b - a > gap * MINUTE or a // DAY != b // DAY)]
        expected += [[rows[i][1] for _, i in heard[a:b]] for a, b in pairwise([*cut, len(heard)])]
    order = {own: n for n, own in enumerate(dict.fromkeys(str(row[1]) for row in rows))}
    found = [[r["track"] for r in steps] for (_, user, _), steps in sorted(sessions(settings).items(), key=lambda s: s[0][1::-1])]
    assert found == [[order[str(track)] for track in steps] for steps in expected]
