"""Days in a world that lives: listeners and tracks arrive, tracks are retired, and the service is never restarted.

Three days; a week with ``NIGHTSHIFT_DAYS=7``.
"""

import os
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys.inspection.verify import verify
from recsys.logs.record import log_files, records
from recsys.night import steps, traffic
from recsys.night.night import Night
from recsys.schemas import LIST_LENGTH, Verdict
from recsys.settings import Settings, load_settings
from recsys.simulate.growth_record import WorldRecord
from recsys.simulate.world import generate
from recsys.versions import pointer
from recsys.versions.content import read_directory
from recsys.versions.keyspace import split, unpack
from tests.support.components import Service, Valkey, running

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

FIRST, DAYS = date(2026, 1, 5), int(os.environ.get("NIGHTSHIFT_DAYS", "3"))
TRACKS, USERS, SESSIONS = 1500, 250, 2500
#: Liked tracks from which on a list must be a listener's own.
KNOWN = 5


def test_listeners_and_tracks_arrive_every_day(tmp_path: Path, valkey: Valkey) -> None:
    generate(tmp_path / "world", tracks=TRACKS, artists=330, users=USERS, seed=5)
    settings = load_settings(
        var=tmp_path / "var",
        world=tmp_path / "world",
        redis_url=valkey.url,
        episodes=SESSIONS,
        batch=traffic.BATCH,
        traffic_growth="users=25,tracks=60,retire=20",
    )
    dates = [FIRST + timedelta(days=n) for n in range(DAYS)]
    environment = {
        "RECSYS_WORLD": str(settings.world),
        "RECSYS_REDIS_URL": valkey.url,
        "RECSYS_SERVICE_LOGS": str(settings.log_dir),
    }
    with running(Service(environment)) as service:
        settings = settings.model_copy(update={"service_url": service.url})
        collect(settings, FIRST - timedelta(days=1))
        nights = {FIRST: night_of(settings, FIRST)}
        # Whatever came of it, somebody makes it live, so that the days after it are served by lists.
        version = Verdict.read(Night(FIRST, settings).store, FIRST).version
        pointer.make_live(valkey.client, version, who="a person", why="lists at last")
        nights |= {day: night_of(settings, day) for day in dates[1:]}
        for day in dates[:-1]:
            again = night_of(settings, day, attempt="again", rebuild=day == FIRST)
            assert again == nights[day], f"{day} played again in a larger world"
    growth = WorldRecord.read(settings.world).growth
    assert [step.log_date for step in growth] == [str(day) for day in (FIRST - timedelta(days=1), *dates)]
    retired: set[int] = set()
    for step in growth:
        retired.update(step.retired)
        night = Night(date.fromisoformat(step.log_date), settings)
        answered = answers(night)
        assert answered
        assert retired.isdisjoint(answered), night.log_date
        assert max(answered) < step.tracks_after
        if night.store.is_complete(night.recommendations):
            check_lists(night, retired)


def check_lists(night: Night, retired: set[int]) -> None:
    """See that new tracks are listed and retired ones are not, and that newcomers have lists of their own."""
    content = read_directory(night.store.local(night.recommendations))
    lists = {user: list(split(unpack(packed))[0]) for user, packed in content.lists.items()}
    top = list(unpack(content.top))
    assert retired.isdisjoint({*top, *(track for listed in lists.values() for track in listed)})
    assert any(track >= TRACKS for listed in lists.values() for track in listed)
    newcomers = [user for user, liked in likes(night).items() if user >= USERS and liked >= KNOWN]
    assert len(newcomers) > 10
    assert [user for user in newcomers if lists[user] == top[:LIST_LENGTH]] == []


def collect(settings: Settings, day: date) -> None:
    counts = traffic.collect(Night(day, settings), SESSIONS, run=f"traffic-{day}")
    assert counts["episodes"] == SESSIONS


def night_of(settings: Settings, day: date, *, attempt: str = "first", rebuild: bool = False) -> dict[str, str]:
    """Digests of the parts of a date's night, after its traffic if that is not there yet."""
    night = Night(day, settings)
    collect(settings, day)
    steps.run(night, run_id=f"{attempt}-{day}", rebuild=rebuild)
    found = verify(night)
    assert found.failures == []
    return found.parts


def answers(night: Night) -> set[int]:
    """What was recommended on a date, in its traffic and in its night's experiment."""
    kept = [name for name in (night.logs, night.experiment) if night.store.is_complete(name)]
    lines = (line for name in kept for path in log_files(night.store.local(name)) for line in records(path))
    return {line["recommendation"] for line in lines if line["message"] == "next"}


def likes(night: Night) -> dict[int, int]:
    """How many tracks each user of the night's window has liked."""
    table = pq.read_table(night.store.local(night.interactions) / "interactions.parquet")
    pairs = np.unique(np.stack([table["user"].to_numpy(), table["track"].to_numpy()]), axis=1)
    users, counts = np.unique(pairs[0], return_counts=True)
    return dict(zip(users.tolist(), counts.tolist(), strict=True))
