"""Notes of runs, written as a run's state changes."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.dags.conftest import ROOT

DUE = datetime(2026, 11, 25, 2, tzinfo=UTC)


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "plugins"))
    import night_notes

    return night_notes


def run_of(dag: str = "nightly_recommender", **more: Any) -> Any:
    from airflow.models.dagrun import DagRun
    from airflow.utils.types import DagRunType

    return DagRun(dag_id=dag, run_id="r", run_after=DUE, run_type=DagRunType.MANUAL, **more)


def test_a_run_says_its_log_date_at_once_and_its_end(notes: Any) -> None:
    listener, run = notes.Notes(), run_of(conf={"log_date": "2026-11-20"})
    listener.on_dag_run_running(run)
    assert run.note == "2026-11-20"
    listener.on_dag_run_failed(run)
    assert run.note == "2026-11-20 · failed"
    listener.on_dag_run_running(run)  # it was cleared
    assert run.note == "2026-11-20"
    listener.on_dag_run_success(run)  # by hand: no task has left an outcome
    assert run.note == "2026-11-20"


@pytest.mark.parametrize("dag", ["nightly_recommender", "collect_traffic", "tune_dae"])
def test_the_log_date_is_what_the_tasks_take(notes: Any, dag: str) -> None:
    run = run_of(dag)
    notes.Notes().on_dag_run_running(run)
    assert run.note == "2026-11-24"


@pytest.mark.parametrize("author", ["ann", None])
def test_what_a_person_wrote_stays(notes: Any, author: str | None) -> None:
    run = run_of()
    run.note = ("2026-11-24 is the day of the festival", author)
    for happened in ("running", "failed", "success"):
        getattr(notes.Notes(), f"on_dag_run_{happened}")(run)
        assert run.note == "2026-11-24 is the day of the festival"


def test_a_note_that_a_person_edited_stays(notes: Any) -> None:
    run = run_of()
    notes.Notes().on_dag_run_running(run)
    run.dag_run_note.content, run.dag_run_note.user_id = "2026-11-24: wrong world", "ann"
    notes.Notes().on_dag_run_failed(run)
    assert run.note == "2026-11-24: wrong world"


def test_what_the_ui_sends_back_is_no_person_s(notes: Any) -> None:
    run = run_of()
    notes.Notes().on_dag_run_running(run)
    run.dag_run_note.user_id = "ann"  # its dialog for marking a run sends the note that it shows
    notes.Notes().on_dag_run_failed(run)
    assert run.note == "2026-11-24 · failed"
    run.dag_run_note.user_id = "ann"
    notes.Notes().on_dag_run_running(run)
    assert run.note == "2026-11-24"


def test_runs_without_a_log_date_have_no_note(notes: Any) -> None:
    for run in (run_of("change_live"), run_of(conf={"log_date": "2026-12-24"}), run_of(conf={"log_date": "soon"})):
        notes.Notes().on_dag_run_running(run)
        assert run.note is None


def test_a_look_at_a_rollout_says_what_followed(notes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    listener, run = notes.Notes(), run_of("rollout")
    listener.on_dag_run_running(run)
    assert run.note is None
    monkeypatch.setattr(notes, "_outcome", lambda _: "abort")
    listener.on_dag_run_success(run)
    assert run.note == "abort"
    listener.on_dag_run_failed(run)  # it was cleared
    assert run.note == "failed"
    run.dag_run_note.content, run.dag_run_note.user_id = "that was me", "ann"
    listener.on_dag_run_success(run)
    assert run.note == "that was me"
