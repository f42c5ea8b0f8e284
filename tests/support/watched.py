"""Nights of real listeners: the logs of an experiment from its first day on, and what a night's report needs beside them."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from recsys.experiments import ORIGINAL, RunSpec
from recsys.night.night import Night
from recsys.settings import Settings, load_settings
from recsys.storage.store import Storage
from tests.support.documents import card, gate, publish
from tests.support.traffic import records, write

FIRST = date(2026, 9, 20)


def live_settings(var: Path, planned_users: int = 1000) -> Settings:
    """Settings of a platform with real listeners."""
    return load_settings(var=var, experiment_source="live", planned_users=planned_users)


def store_day(settings: Settings, number: int, lift: float, sessions: int = 220) -> date:
    """The requests of a day from 0; each day there are new listeners, and some return. T1's stay ``lift`` times as long."""
    day, store = FIRST + timedelta(days=number), Storage(settings.storage_url)
    midnight = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
    rows = records(ORIGINAL, users=200 + 100 * number, sessions=sessions, lift={"T1": lift}, seed=number, run="live")
    moved = [{**row, "timestamp": midnight + i, "session": row["session"] + 1000 * number} for i, row in enumerate(rows)]
    with store.stage(f"logs/date={day}") as staging:
        write(staging / "0.jsonl", moved)
        RunSpec("live", "", 0.0, 1, ORIGINAL, 500).write(staging)
    return day


def watched_night(settings: Settings, lift: float, nights: int) -> Night:
    """The last night of an experiment, up to its report."""
    days = [store_day(settings, number, lift) for number in range(nights)]
    night = Night(days[-1], settings)
    for document in (gate(), card(night.log_date)):
        publish(night.store, night.log_date, document)
    return night
