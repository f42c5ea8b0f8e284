"""A week of the loop: the traffic of each day is served by what is live, then that day's night decides what is live next."""

import json
import os
from pathlib import Path

import pytest

from recsys.platform import night
from tests.e2e.airflow import Stack, days
from tests.e2e.conftest import LAST

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

WEEK = days(LAST, 15)[:7]
SESSIONS = 6000


def test_seven_days_in_a_row(platform: Stack, tmp_path: Path) -> None:
    for dag in (night.TRAFFIC, night.NIGHT):
        platform.client.set_paused(dag, False)
    for number, day in enumerate(WEEK):
        platform.finish(night.TRAFFIC, f"week-{day}", {"log_date": str(day), "sessions": SESSIONS})
        if number:  # A night needs a day to learn from and a day to judge by.
            platform.finish(night.NIGHT, f"week-{day}", {"log_date": str(day), "episodes": SESSIONS})
            platform.verified(day)
    verdicts = {row["log_date"]: row["verdict"] for row in json.loads(platform.cli("nights", "--json"))}
    assert "promoted" in verdicts.values(), verdicts
    picture = Path(os.environ.get("NIGHTSHIFT_ARTEFACTS", tmp_path)) / "days.png"
    found = {d["log_date"]: d for d in json.loads(platform.cli("days", "--json", "--out", str(picture)))}
    assert picture.stat().st_size > 10_000
    first, last = found[str(WEEK[0])], found[str(WEEK[-1])]
    assert first["versions"] == {"": 1.0}
    assert "" not in last["versions"]
    assert last["low"] > first["high"], (first, last)
    assert 0 < last["coverage"] <= 1
