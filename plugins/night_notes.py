"""The note of a run: its log date as soon as it runs, its outcome at the end, as in "2026-11-24 · held · −14.8 % against live".

A look at a rollout has the outcome alone. A task cannot write notes. It leaves the outcome for the listener, which writes where
Airflow changes a run's state, in the scheduler or the api-server. A note that a person wrote stays, unless it begins as these do.
"""

import logging
from typing import TYPE_CHECKING

from airflow.listeners import hookimpl
from airflow.models.dagrun import DagRunNote
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.plugins_manager import AirflowPlugin
from airflow.sdk import get_current_context
from airflow.utils.state import TaskInstanceState
from night_runs import log_date_of
from sqlalchemy import select
from sqlalchemy.orm import object_session

from recsys.exceptions import InvalidInputError

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

log = logging.getLogger(__name__)

#: The DAGs whose runs are for a log date.
DATED = ("nightly_recommender", "collect_traffic", "tune_dae")
#: The DAG whose runs have an outcome alone.
ROLLOUT = "rollout"
#: Under this key a task leaves its run's outcome.
KEY = "outcome"
#: The author of these notes; Airflow notes which user wrote one.
AUTHOR = "nightshift"


def leave(outcome: str) -> None:
    """What the current run's note shall say once it has ended well; of several tasks the last one that ended well is heard."""
    get_current_context()["ti"].xcom_push(KEY, outcome)


class Notes:
    """Listens to the states of runs."""

    @hookimpl
    def on_dag_run_running(self, dag_run: "DagRun") -> None:
        """Note the log date; of a run that was cleared, instead of its earlier outcome."""
        _write(dag_run)

    @hookimpl
    def on_dag_run_success(self, dag_run: "DagRun") -> None:
        """Note the outcome."""
        _write(dag_run, _outcome(dag_run))

    @hookimpl
    def on_dag_run_failed(self, dag_run: "DagRun") -> None:
        """Note that there is none."""
        _write(dag_run, "failed")


def _write(run: "DagRun", outcome: str = "") -> None:
    about = _about(run)
    text = " · ".join(part for part in (about, outcome) if part)
    if about is None or not text:
        return
    earlier = run.dag_run_note
    if earlier is None:
        run.dag_run_note = DagRunNote(text, AUTHOR)
    # The UI's dialogs for marking and clearing send the note that they showed, as who is logged in.
    elif earlier.user_id == AUTHOR or (about and (earlier.content == about or earlier.content.startswith(f"{about} · "))):
        earlier.content, earlier.user_id = text, AUTHOR


def _about(run: "DagRun") -> str | None:
    """What a run's note begins with: its log date; nothing for a look at a rollout; None for a run without a note."""
    if run.dag_id == ROLLOUT:
        return ""
    if run.dag_id not in DATED:
        return None
    try:
        return str(log_date_of(run.conf or {}, run.data_interval_start, run.run_type, run.run_after))
    except InvalidInputError as error:
        log.info("run %s %s has no note: %s", run.dag_id, run.run_id, error)
        return None


def _outcome(run: "DagRun") -> str:
    """What a task of the run has left, if any; what a task left that was cleared or skipped since then is void."""
    session = object_session(run)
    if session is None:
        return ""
    left = select(XComModel.value).join(XComModel.task).order_by(XComModel.timestamp.desc())
    ended = TaskInstance.state == TaskInstanceState.SUCCESS
    found = session.scalar(left.where(XComModel.dag_run_id == run.id, XComModel.key == KEY, ended).limit(1))
    return str(found or "")


class NightNotes(AirflowPlugin):
    """Registers the listener."""

    name = "night_notes"
    listeners: list[object] = [Notes()]  # noqa: RUF012
