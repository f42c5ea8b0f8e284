"""The log date of a run, whatever started it."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from recsys.exceptions import InvalidInputError
from recsys.night.log_date import resolve

START = datetime(2026, 11, 22, 2, tzinfo=UTC)
AFTER = datetime(2026, 11, 24, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("param", "start", "run_type", "after", "expected"),
    [
        ("2026-11-20", None, "manual", AFTER, date(2026, 11, 20)),
        ("2026-11-20", START, "manual", AFTER, date(2026, 11, 20)),
        ("2026-11-24", None, "manual", AFTER, date(2026, 11, 24)),
        (None, START, "manual", AFTER, date(2026, 11, 22)),
        (None, START, "scheduled", START + timedelta(days=1), date(2026, 11, 22)),
        (None, START, "backfill", AFTER, date(2026, 11, 22)),
        (None, None, "manual", AFTER, date(2026, 11, 23)),
        (None, None, "manual", datetime(2026, 11, 24, 0, 0, tzinfo=UTC), date(2026, 11, 23)),
        # 01:00 on the 24th in UTC+3 is still the 23rd in UTC.
        (None, None, "manual", datetime(2026, 11, 24, 1, tzinfo=timezone(timedelta(hours=3))), date(2026, 11, 22)),
    ],
)
def test_resolves(param: str | None, start: datetime | None, run_type: str, after: datetime, expected: date) -> None:
    assert resolve(param, start, run_type, after) == expected


@pytest.mark.parametrize(
    ("param", "start", "run_type", "message"),
    [
        ("2026-11-20", START, "scheduled", "2026-11-20"),
        ("2026-11-20", START, "backfill", "takes its log date from its data interval"),
        ("2026-11-25", None, "manual", "lies after the run's own day 2026-11-24"),
        ("20261120", None, "manual", "not a date of the form YYYY-MM-DD"),
        ("2026-02-30", None, "manual", "not a date"),
        (None, None, "asset_triggered", "has no log date"),
    ],
)
def test_refuses(param: str | None, start: datetime | None, run_type: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        resolve(param, start, run_type, AFTER)
