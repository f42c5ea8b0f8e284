"""Nights of a platform with real listeners: their requests are stored, and the report reads them."""

import json
import os
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from recsys.abtest.schema import Decision, Report
from recsys.exceptions import CorruptDataError, InvalidInputError, MissingDataError, UnavailableError
from recsys.experiments import ORIGINAL, Experiment, RunSpec
from recsys.inspection.verify import verify
from recsys.logs import real_listeners
from recsys.night import steps, traffic
from recsys.night.night import Night
from recsys.night.promote import of_live_requests
from recsys.schemas import DatedCatalogue
from recsys.settings import Settings, load_settings
from recsys.storage.store import Storage
from recsys.versions import keyspace, lease
from tests.support.components import Valkey
from tests.support.night import DAY, USERS, tastes, write_interactions, write_world
from tests.support.traffic import lean

pytestmark = pytest.mark.slow

BEFORE = DAY - timedelta(days=1)


@pytest.fixture
def settings(tmp_path: Path, valkey: Valkey) -> Settings:
    return load_settings(
        var=tmp_path / "var",
        world=write_world(tmp_path / "world"),
        redis_url=valkey.url,
        experiment_source="live",
        planned_users=200,
        shards=1,
    )


def world() -> DatedCatalogue:
    return DatedCatalogue(tracks=400, retired=(7,))


def write_requests(settings: Settings, day: date, sessions: int, seed: int) -> int:
    """A worker's file of a day, as the service writes it for requests without a run id; T1's listeners stay longer."""
    rng = np.random.default_rng(seed)
    lines = []
    midnight = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
    for number in range(sessions):
        user = int(rng.integers(USERS))
        arm = ORIGINAL.arm_of(user)
        steps = int(rng.integers(2, 6)) + (6 if arm.name == "T1" else 0)
        tracks = rng.choice(400, steps, replace=False).tolist()
        for step in range(steps):
            last = step == steps - 1
            record = {
                "message": "last" if last else "next",
                "timestamp": midnight + number * 1000 + step,
                "user": user,
                "track": tracks[step],
                "time": float(rng.integers(60, 101) / 100),
                "latency": 0.001,
                "recommendation": None if last else tracks[step + 1],
                "experiments": {ORIGINAL.name: arm.name},
                "run": "live",
                "version": "",
                "session": seed * 1000 + number,
                "step": step,
                "event": None,
                "source": None if last else arm.recommender,
                "degraded": False,
                "propensity": None if last else 1.0,
            }
            lines.append(json.dumps(record) + "\n")
    directory = settings.log_dir / "live"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{day}-17-abc-1.jsonl"
    path.write_text("".join(lines))
    os.utime(path, (time.time() - 60, time.time() - 60))
    return len(lines)


def test_a_day_becomes_a_log_date_once(settings: Settings) -> None:
    events = write_requests(settings, DAY, 100, 1)
    write_requests(settings, BEFORE, 10, 2)
    store = Storage(settings.storage_url)
    counts = real_listeners.upload(settings, DAY, world)
    assert counts["next"] + counts["last"] == events
    assert counts["episodes"] == 100
    assert store.manifest(f"logs/date={DAY}").counts == counts
    spec = store.read(RunSpec, f"logs/date={DAY}")
    assert (spec.experiment, spec.catalogue, spec.retired) == (ORIGINAL, 400, (7,))
    assert [path.name[:10] for path in (settings.log_dir / "live").iterdir()] == [str(BEFORE)]
    assert traffic.collect(Night(DAY, settings), 5, run="x") == counts  # nobody is played
    assert traffic.collect(Night(BEFORE, settings), 5, run="x")["episodes"] == 10


def test_a_day_that_is_not_over_or_had_no_requests_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    write_requests(settings, DAY, 10, 1)
    with pytest.raises(InvalidInputError, match="is not over"):
        real_listeners.upload(settings, DAY, world, now=datetime(DAY.year, DAY.month, DAY.day, 23, 59, tzinfo=UTC))
    with pytest.raises(MissingDataError, match=str(BEFORE)):
        real_listeners.upload(settings, BEFORE, world)
    with pytest.raises(InvalidInputError, match="is not over"):
        traffic.collect(Night(datetime.now(UTC).date(), settings), 5, run="x")
    assert Storage(settings.storage_url).dates("catalogue") == []  # that of a day is taken when the day is over
    with pytest.raises(MissingDataError, match="collect it first"):
        real_listeners.course(settings, Storage(settings.storage_url), DAY)
    monkeypatch.setattr(real_listeners, "LIVE_WAIT_SECONDS", 0.0)
    next((settings.log_dir / "live").iterdir()).touch()
    with pytest.raises(UnavailableError, match="still being written"):
        real_listeners.upload(settings, DAY, world)


def test_logs_of_the_original_server_are_not_stored_as_if_nobody_had_come(settings: Settings) -> None:
    write_requests(settings, DAY, 10, 1)
    [path] = (settings.log_dir / "live").iterdir()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in lean(rows)))
    os.utime(path, (1, 1))
    with pytest.raises(CorruptDataError, match="recsys import --format botify"):
        real_listeners.upload(settings, DAY, world)
    assert path.exists()
    assert Storage(settings.storage_url).dates("logs") == []


def test_a_live_experiment_must_be_there(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "experiments.yml").write_text("experiment: null\n")
    with pytest.raises(InvalidInputError, match="RECSYS_EXPERIMENT_SOURCE"):
        real_listeners.experiment(settings.model_copy(update={"experiments": tmp_path / "experiments.yml"}))


def test_a_night_reads_what_real_listeners_did(settings: Settings) -> None:
    night = Night(DAY, settings)
    events = write_requests(settings, DAY, 900, 1) + write_requests(settings, BEFORE, 900, 2)
    for day in (BEFORE, DAY):
        traffic.collect(Night(day, settings), 5, run="x")
    client = keyspace.connect(settings)
    with lease.held(client, DAY, "n") as held:
        write_interactions(night.store, tastes())
        steps.train(night)
        assert steps.evaluate_gate(night).passed
        steps.recommend(night)
        candidate = steps.publish_candidate(night, held)
        assert steps.build_report(night).sessions == 1800
        verdict = steps.promote_or_hold(night, candidate["version"], held)
    assert verdict.verdict == "promoted"
    assert "Nothing was live yet, and the candidate has passed the gate." in verdict.reasons
    report = Report.read(night.store, DAY)
    assert report.counts["next"] + report.counts["last"] == events
    assert report.counts["misassigned"] == 0
    assert report.decision.verdict == "promote", report.decision
    assert report.watched
    assert [look.log_date for look in report.watched.looks] == [str(BEFORE), str(DAY)]
    assert report.watched.planned_users == 200
    assert "95 % interval for all nights" in report.decision.reasons[0]
    assert not night.store.is_complete(night.experiment)
    result = verify(night)
    assert result.failures == []
    assert any("2 log dates" in line for line in result.checks)


def write_logs(settings: Settings, day: date, design: Experiment | None, base: str = "live") -> None:
    """The logs of a day, of which only the design matters."""
    store = Storage(settings.storage_url)
    with store.stage(f"logs/date={day}") as staging:
        RunSpec(base, "", 0.0, 1, design, 400).write(staging)


def dates_of(settings: Settings, day: date) -> tuple[int, list[int]]:
    """Planned users and the days from DAY of the experiment of a day."""
    found = real_listeners.course(settings, Storage(settings.storage_url), day)
    return found.began.planned_users, [(date - DAY).days for date in found.dates]


def test_an_experiment_is_read_from_its_first_day_on(settings: Settings) -> None:
    days = [DAY + timedelta(days=number) for number in range(11)]
    other, resalted = ORIGINAL.arms + ORIGINAL.arms[:1], "another"
    designs = [
        replace(ORIGINAL, arms=other),  # other shares
        ORIGINAL,
        ORIGINAL,
        None,  # a pause
        ORIGINAL,
        replace(ORIGINAL, salt=resalted),
        ORIGINAL,
        ORIGINAL,
    ]
    for day, design in zip(days, designs, strict=False):
        write_logs(settings, day, design)
    write_logs(settings, days[8], ORIGINAL, base="import")
    write_logs(settings, days[9], ORIGINAL)
    later = settings.model_copy(update={"planned_users": 5000})
    assert dates_of(settings, days[4]) == (200, [2, 4]), "the day of the change counts for neither design"
    assert dates_of(later, days[4]) == (200, [2, 4]), "what was planned is kept"
    assert dates_of(later, days[2]) == (200, [2]), "a backfill reads the same beginning"
    assert dates_of(settings, days[0]) == (200, [0])
    assert dates_of(later, days[5]) == (5000, [5]), "the night of the day of a change reads that day alone"
    assert dates_of(later, days[9]) == (5000, [7, 9]), "a design that comes back is another experiment"
    assert dates_of(settings, days[9]) == (5000, [7, 9])
    with pytest.raises(MissingDataError, match="collect it first"):
        dates_of(settings, days[10])


def test_what_was_noted_stays_the_first_day_whatever_comes_to_light_or_is_lost(settings: Settings) -> None:
    days = [DAY + timedelta(days=number) for number in range(4)]
    for day in days[1:3]:
        write_logs(settings, day, ORIGINAL)
    assert dates_of(settings, days[2]) == (200, [1, 2])
    write_logs(settings, days[0], ORIGINAL)
    write_logs(settings, days[3], ORIGINAL)
    assert dates_of(settings, days[3]) == (200, [1, 2, 3])
    Storage(settings.storage_url).remove(f"logs/date={days[1]}")
    with pytest.raises(MissingDataError, match="another salt"):
        dates_of(settings, days[3])


@pytest.mark.parametrize(("serving", "verdict"), [("", "promote"), ("2026-01-01-aaaaaaaa", "hold")])
def test_a_candidate_nobody_has_met_follows_the_report_unless_nothing_is_live(serving: str, verdict: str) -> None:
    found = of_live_requests(Decision(verdict="hold", reasons=["No effect."]), serving=serving)
    assert found.verdict == verdict
    assert found.reasons[0] == "No effect."
    assert "gate" in found.reasons[1]
