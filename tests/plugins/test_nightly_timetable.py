"""The timetable of nights: both days that a backfill names, words that a person reads, and the way through Airflow's database."""

from datetime import date, timedelta
from typing import Any

import pytest

from tests.dags.conftest import ROOT


@pytest.fixture
def timetable(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "plugins"))
    from nightly_timetable import Nightly

    return Nightly("0 2 * * *", timezone="UTC")


def dates(timetable: Any, earliest: str, latest: str) -> list[date]:
    """Log dates of a backfill, as Airflow asks for them."""
    import pendulum
    from airflow.timetables.base import TimeRestriction

    restriction = TimeRestriction(pendulum.parse(earliest), pendulum.parse(latest), catchup=True)
    found: list[Any] = [timetable.next_dagrun_info(last_automated_data_interval=None, restriction=restriction)]
    while found[-1]:
        interval = found[-1].data_interval
        found.append(timetable.next_dagrun_info(last_automated_data_interval=interval, restriction=restriction))
    assert all(one.run_after == one.data_interval.end for one in found[:-1])
    return [one.data_interval.start.date() for one in found[:-1]]


@pytest.mark.parametrize("last", ["2026-11-22", "2026-11-22T02:00:00Z", "2026-11-22T23:59:59Z"])
def test_both_days_that_are_named_are_taken(timetable: Any, last: str) -> None:
    first = date(2026, 11, 20)
    assert dates(timetable, "2026-11-20", last) == [first + timedelta(days=day) for day in range(3)]


def test_one_day_is_one_night(timetable: Any) -> None:
    assert dates(timetable, "2026-11-20", "2026-11-20") == [date(2026, 11, 20)]


def test_it_says_when_nights_are_due(timetable: Any) -> None:
    assert timetable.summary == "daily at 02:00 UTC"


def test_it_comes_back_from_the_database(timetable: Any) -> None:
    again = type(timetable).deserialize(timetable.serialize())
    assert (again, again.summary) == (timetable, timetable.summary)
