"""Whole nights in this process on logs of listeners whom nobody simulated: what the gate alone decides, and by which words."""

import json
from collections import defaultdict
from datetime import date, timedelta
from pathlib import Path

import pytest

from recsys.abtest.headline import BACKFILL, NO_EXPERIMENT, NOTHING_LIVE
from recsys.abtest.history import night_row
from recsys.abtest.schema import Report
from recsys.exceptions import InvalidInputError, MissingDataError
from recsys.experiments import RunSpec
from recsys.inspection.verify import verify
from recsys.night import steps, traffic
from recsys.night.dry_run import dry_run
from recsys.night.night import Night
from recsys.schemas import Verdict
from recsys.settings import Settings, load_settings
from recsys.storage.store import Storage
from recsys.versions import keyspace, pointer
from tests.support.components import Valkey
from tests.support.night import DAY, TRACKS, tastes, write_world

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(tmp_path: Path, valkey: Valkey) -> Settings:
    """No service is there: who plays a session fails."""
    found = load_settings(
        var=tmp_path / "var", world=write_world(tmp_path / "world"), redis_url=valkey.url, experiment_source="none", model="ease"
    )
    write_logs(found, tastes())
    return found


def write_logs(settings: Settings, liked: list[tuple[int, int, date]]) -> None:
    """``logs/date=D`` of what listeners played to its end, a session a user and day, before anything was live."""
    sessions: defaultdict[date, defaultdict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for user, track, day in liked:
        sessions[day][user].append(track)
    store = Storage(settings.storage_url)
    for day, users in sessions.items():
        rows = [
            {
                "message": "next" if step < len(tracks) - 1 else "last", "timestamp": 1000 * user + step, "user": user,
                "track": track, "time": 1.0, "latency": None, "recommendation": None, "experiments": {}, "run": "live",
                "version": "", "session": day.toordinal(), "step": step, "event": None, "source": None, "degraded": False,
                "propensity": None,
            }
            for user, tracks in users.items() for step, track in enumerate(tracks)
        ]  # fmt: skip
        last = sum(row["message"] == "last" for row in rows)
        with store.stage(f"logs/date={day}", {"next": len(rows) - last, "last": last, "episodes": last}) as staging:
            (staging / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            RunSpec("live", "", 0.0, 0, None, TRACKS).write(staging)


def page(night: Night) -> str:
    return (night.store.local(night.report) / "report.html").read_text()


def test_without_experiments_a_night_ends_as_the_gate_says(settings: Settings) -> None:
    night = Night(DAY, settings)
    verdict = steps.run(night, run_id="a")
    assert (verdict.verdict, verdict.reasons) == ("promoted", [NO_EXPERIMENT])
    assert pointer.read(keyspace.connect(settings)).version == verdict.version == verdict.live
    report = Report.read(night.store, DAY)
    assert (report.experiment, report.decision.verdict, report.outcome) == (None, "promote", verdict)
    assert report.gate is not None
    assert report.gate.passed
    assert report.model is not None
    assert night_row(night.store, DAY).outcome == "promoted"
    assert night_row(night.store, DAY).reason == "Promoted: there is no experiment, and the candidate has passed the gate."
    assert f"Version {verdict.version} serves the listeners from then on.</b>" in page(night)
    assert "Every rule" not in page(night)
    assert not night.store.is_complete(night.experiment)
    result = verify(night)
    assert result.failures == []
    # The same night again.
    assert steps.run(night, run_id="b") == verdict
    assert verify(night).digest == result.digest


def test_a_backfill_without_experiments_promotes_only_if_it_is_asked_to(settings: Settings) -> None:
    night = Night(DAY, settings)
    verdict = steps.run(night, run_id="a", backfill=True)
    assert (verdict.verdict, verdict.reasons, verdict.live) == ("held", [NO_EXPERIMENT, BACKFILL], "")
    said = "Held, although the candidate has passed the gate: a backfill promotes nothing unless it is asked to."
    assert night_row(night.store, DAY).reason == said
    assert page(night).count(BACKFILL) == 1
    assert steps.run(night, run_id="b", backfill=True, wanted=True).verdict == "promoted"


def test_without_experiments_the_next_night_follows(settings: Settings) -> None:
    night = Night(DAY, settings)
    first = steps.run(night, run_id="a")
    later = DAY + timedelta(days=1)
    write_logs(settings, [(user, track, later) for user, track, day in tastes(seed=1) if day == DAY])
    second = steps.run(Night(later, settings), run_id="b")
    assert second.verdict == "promoted"
    assert second.version != first.version


def test_listeners_before_anything_was_live_took_part_in_no_experiment_and_the_gate_decides(settings: Settings) -> None:
    night = Night(DAY, settings.model_copy(update={"experiment_source": "live"}))
    verdict = steps.run(night, run_id="a")
    assert verdict.verdict == "promoted"
    assert verdict.reasons[-1] == NOTHING_LIVE
    report = Report.read(night.store, DAY)
    assert (report.users, report.sessions, report.counts["outside"]) == (0, 0, report.counts["events"])
    said = "Promoted: nothing was live yet, and the candidate has passed the gate."
    assert night_row(night.store, DAY).reason == said
    assert verify(night).failures == []
    assert steps.run(night, run_id="again") == verdict
    # The next night has something to win against, and nobody has taken part in an experiment yet.
    later = DAY + timedelta(days=1)
    write_logs(settings, [(user, track, later) for user, track, day in tastes(seed=1) if day == DAY])
    second = steps.run(Night(later, night.settings), run_id="b")
    assert (second.verdict, second.live) == ("held", verdict.version)
    assert Verdict.read(night.store, later) == second


def test_nobody_is_simulated_and_a_date_that_nobody_has_stored_is_named(settings: Settings) -> None:
    assert traffic.collect(Night(DAY, settings), 5, run="x")["last"] == 200
    missing = Night(DAY + timedelta(days=1), settings)
    with pytest.raises(MissingDataError, match=r"logs/date=2026-01-06 is not in .*recsys import"):
        traffic.collect(missing, 5, run="x")
    with pytest.raises(InvalidInputError, match="cannot be played again"):
        traffic.collect(Night(DAY, settings), 5, run="x", rebuild=True)


@pytest.mark.parametrize(
    ("source", "experiment"),
    [
        ("none", "none; the gate alone decides"),
        ("live", "that of real listeners, from its first day on"),
        ("simulate", "DAE_VS_CONTEXTUAL: C, T1"),
    ],
)
def test_a_dry_run_says_what_the_candidate_is_measured_by(settings: Settings, source: str, experiment: str) -> None:
    found = dry_run(Night(DAY, settings.model_copy(update={"experiment_source": source})))
    assert found["experiment"] == experiment
    assert ("sessions" in found) == (source == "simulate")
