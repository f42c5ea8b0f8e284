"""What cannot be meant is told before a file is opened."""

from datetime import date
from pathlib import Path

import pytest

from recsys.exceptions import InvalidInputError
from recsys.imports.request import Asked, parse_dates

FILES = (Path("a.csv"),)
SPAN = (date(2026, 1, 1), date(2026, 1, 3))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, "no column tells the track"),
        ({"artist": "a"}, "no column tells the track"),
        ({"track": "t"}, "no column tells the time"),
        ({"track": "t", "dates": SPAN, "rating": "r"}, "belong together"),
        ({"track": "t", "dates": SPAN, "liked": 4.0}, "belong together"),
        ({"track": "t", "dates": SPAN, "rating": "r", "liked": 4.0, "played": "p"}, "give one of them"),
        ({"track": "t", "dates": SPAN, "gap": 0}, "at least one minute"),
    ],
)
def test_what_cannot_be_meant_together(asked: dict[str, object], told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        Asked(FILES, "u", **asked)  # type: ignore[arg-type]


def test_a_track_is_told_by_its_id_or_by_artist_and_title() -> None:
    assert Asked(FILES, "u", "t", dates=SPAN).columns == {"user": "u", "track": "t"}
    assert Asked(FILES, "u", artist="a", title="b", dates=SPAN).days == [date(2026, 1, day) for day in (1, 2, 3)]
    assert Asked(FILES, "u", "t", time="w").days == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("2026-01-02", "FROM..TO"),
        ("2026-01-02..2026-01-03..2026-01-04", "FROM..TO"),
        ("2026-01-02..2026-01-32", "2026-01-32"),
        ("2026-01-02..2026-01-01", "backwards"),
        ("1969-12-31..2026-01-01", "between 1970-01-01 and today"),
        ("2026-01-02..2026-03-02", "between 1970-01-01 and today"),
    ],
)
def test_dates_that_are_none(text: str, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        parse_dates(text, date(2026, 3, 1))
    assert parse_dates("2026-03-01..2026-03-01", date(2026, 3, 1)) == (date(2026, 3, 1), date(2026, 3, 1))
