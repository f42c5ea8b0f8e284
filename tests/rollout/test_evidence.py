"""What logs say of a stage: only what came up to a time, of its own experiment, with each listener's troubles."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from recsys.experiments import Arm, Experiment
from recsys.rollout.evidence import evidence, evidence_of
from recsys.rollout.look import Evidence
from recsys.settings import load_settings
from recsys.storage.store import Storage
from tests.support.traffic import records, write

SINCE = datetime(2026, 1, 5, 22, tzinfo=UTC)
STAGE = Experiment("ROLLOUT-v-1", (Arm("candidate", "dae"), Arm("live", "dae"), Arm("live", "dae")))


def at(hours: float) -> datetime:
    return SINCE + timedelta(hours=hours)


def rows(**more: Any) -> list[dict[str, Any]]:
    """Requests of four hours."""
    found = records(STAGE, run="live", **more)
    begin, step = SINCE.timestamp() * 1000, 4 * 3_600_000 / len(found)
    return [{**row, "timestamp": int(begin + step * n)} for n, row in enumerate(found)]


def test_what_came_later_changes_nothing(tmp_path: Path) -> None:
    every = rows()
    until = at(2).timestamp() * 1000
    early = [row for row in every if row["timestamp"] < until]
    whole = evidence_of([write(tmp_path / "all.jsonl", every)], STAGE.name, at(2))
    assert whole == evidence_of([write(tmp_path / "early.jsonl", early)], STAGE.name, at(2))
    assert whole != evidence_of([tmp_path / "all.jsonl"], STAGE.name, at(5))
    assert Evidence.model_validate_json(whole.model_dump_json()) == whole
    assert whole.candidate.users + whole.live.users <= sum(whole.dealt)


def test_other_stages_and_no_stage_are_left_out(tmp_path: Path) -> None:
    every = rows()
    mixed = [{**row, "user": row["user"] + 1000, "experiments": {"ROLLOUT-v-2": "candidate"}} for row in every]
    plain = [{**row, "user": row["user"] + 2000, "experiments": {}} for row in every]
    alone = evidence_of([write(tmp_path / "one.jsonl", every)], STAGE.name, at(5))
    assert evidence_of([write(tmp_path / "all.jsonl", every + mixed + plain)], STAGE.name, at(5)) == alone
    assert evidence_of([tmp_path / "all.jsonl"], "ROLLOUT-v-3", at(5)).dealt == (0, 0)


def test_a_session_that_spans_a_change_of_the_stage_is_left_out(tmp_path: Path) -> None:
    every = rows()
    first = {(row["user"], row["session"]): row["step"] for row in every if row["message"] == "last" and row["step"] > 2}
    user, session = min(first)
    changed = [
        {**row, "experiments": {"ROLLOUT-v-0": "live"}}
        if (row["user"], row["session"]) == (user, session) and row["step"] < 2
        else row
        for row in every
    ]
    others = [row for row in every if (row["user"], row["session"]) != (user, session)]
    found = evidence_of([write(tmp_path / "a.jsonl", changed)], STAGE.name, at(5))
    expected = evidence_of([write(tmp_path / "b.jsonl", others)], STAGE.name, at(5))
    assert (found.live, found.candidate) == (expected.live, expected.candidate)


@pytest.mark.parametrize("name", ["fallback_share", "degraded_share", "unanswered_share"])
def test_troubles_are_those_of_their_arm(tmp_path: Path, name: str) -> None:
    troubled = []
    for row in rows():
        if row["experiments"][STAGE.name] == "candidate" and row["message"] == "next" and row["step"] == 1:
            if name == "unanswered_share":
                continue
            if name == "fallback_share":
                row = {**row, "source": "top100"}
            else:
                troubled.append({**row, "session": -1, "degraded": True})
        troubled.append(row)
    found = evidence_of([write(tmp_path / "a.jsonl", troubled)], STAGE.name, at(5)).troubles
    live, candidate = found[name]
    assert live.mean == 0
    assert candidate.mean
    assert 0.05 < candidate.mean < 0.6
    assert all(both[1].mean == 0 for other, both in found.items() if other != name)


def test_files_of_the_service_and_of_the_storage_are_read_once_each(tmp_path: Path) -> None:
    settings, every = load_settings(var=tmp_path, service_logs=tmp_path / "logs"), rows()
    store = Storage(settings.storage_url)
    assert evidence(settings, store, STAGE.name, SINCE, at(5)) == Evidence()
    parts = {
        day: [row for row in every if datetime.fromtimestamp(row["timestamp"] / 1000, UTC).date() == day]
        for day in (SINCE.date(), at(3).date())
    }
    for day, part in parts.items():
        write(settings.log_dir / "live" / f"{day}-1.jsonl", part)
    write(settings.log_dir / "live" / "2026-01-01-1.jsonl", [{**row, "user": row["user"] + 5000} for row in every])
    found = evidence(settings, store, STAGE.name, SINCE, at(5))
    assert found.dealt == evidence_of([write(tmp_path / "all.jsonl", every)], STAGE.name, at(5)).dealt
    # Uploaded meanwhile, and still there: an event counts once.
    day = SINCE.date()
    with store.stage(f"logs/date={day}") as staging:
        write(staging / "0.jsonl", parts[day])
    assert evidence(settings, store, STAGE.name, SINCE, at(5)) == found
    (settings.log_dir / "live" / f"{day}-1.jsonl").unlink()
    assert evidence(settings, store, STAGE.name, SINCE, at(5)) == found
    assert json.loads(found.model_dump_json())["dealt"] == list(found.dealt)
