"""Days of the loop: the traffic of each day is served by what is live, then that day's night decides what is live next."""

import json
import os
from datetime import date, timedelta
from pathlib import Path

import pytest

from recsys.inspection.days import by_day, difference, draw
from recsys.platform import night
from recsys.storage.store import Storage
from tests.support.airflow import TRACKS, Stack, days

pytestmark = [pytest.mark.real, pytest.mark.marathon, pytest.mark.xdist_group("airflow"), pytest.mark.timeout(3000)]

#: Far enough from all other dates that no night reads both.
WEEK = days(date(2025, 3, 9), int(os.environ.get("NIGHTSHIFT_DAYS", "3")))
SESSIONS = 4000


def test_days_in_a_row(platform: Stack, artefacts: Path) -> None:
    assert platform.live() == ""
    platform.play(WEEK[0] - timedelta(days=1), sessions=SESSIONS)
    served = []
    for day in WEEK:
        served.append(platform.live())
        platform.play(day, sessions=SESSIONS)
        if day in (WEEK[0], WEEK[-1]):
            platform.finish(night.NIGHT, f"week-{day}", {"log_date": str(day), "episodes": SESSIONS})
        else:  # the same night in a third of the time, as others show
            platform.cli("nightly", "--date", str(day), "--episodes", str(SESSIONS))
        platform.verified(day)
        if day == WEEK[0] and not platform.live():
            platform.make_live(str(day))  # a person does, so that the days after it are served by lists
    verdicts = {row["log_date"]: row["verdict"] for row in json.loads(platform.cli("nights", "--json"))}
    assert "promoted" in {verdicts[str(day)] for day in WEEK}, verdicts

    store = Storage(platform.settings.storage_url)
    week = [day for day in by_day(store, TRACKS) if day.log_date in WEEK]
    assert [list(day.versions) for day in week] == [[version] for version in served]
    draw(week, artefacts / "week.png")
    change = difference(store, WEEK[0], WEEK[-1])
    for day in week:
        print(f"{day.log_date}: session time {day.mean:.2f} [{day.low:.2f}, {day.high:.2f}], coverage {day.coverage:.1%}")
    interval = f"[{change.low:+.2f}, {change.high:+.2f}]"
    print(f"day {len(WEEK)} minus day 1, by user: {change.mean:+.2f} {interval} tracks, {change.users} users")
    assert change.low > 0, change
    assert all(0 < day.coverage <= 1 for day in week)
