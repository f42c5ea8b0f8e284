"""Runs of the night by log date, from Airflow's own database, for the pages: a session in, the newest run of each date out."""

from collections.abc import Mapping
from datetime import date, datetime

from airflow.models.dagrun import DagRun
from sqlalchemy import select
from sqlalchemy.orm import Session

from recsys.exceptions import InvalidInputError
from recsys.inspection.listing import Run
from recsys.night import log_date as log_dates

#: Newest runs that are looked at: a year of nights with as many repeats.
MOST = 1000


def runs_by_date(session: Session, dag_id: str) -> dict[date, Run]:
    """The newest run of each log date; dry runs, and runs for no date, are left out."""
    wanted = (
        DagRun.run_id,
        DagRun.state,
        DagRun.start_date,
        DagRun.end_date,
        DagRun.conf,
        DagRun.data_interval_start,
        DagRun.run_type,
        DagRun.run_after,
    )
    found: dict[date, Run] = {}
    for row in session.execute(select(*wanted).where(DagRun.dag_id == dag_id).order_by(DagRun.id.desc()).limit(MOST)):
        conf = row.conf or {}
        if conf.get("dry_run"):
            continue
        try:
            day = log_date_of(conf, row.data_interval_start, row.run_type, row.run_after)
        except InvalidInputError:
            continue
        found.setdefault(day, Run(row.run_id, _plain(row.state), row.start_date, row.end_date))
    return found


def log_date_of(conf: Mapping[str, str | None], start: datetime | None, run_type: object, run_after: datetime) -> date:
    """The log date of a run.

    Raises:
        InvalidInputError: it is for no date.
    """
    return log_dates.resolve(conf.get("log_date"), start, _plain(run_type), run_after)


def _plain(value: object) -> str:
    """The text of an enumeration's value, or of a text."""
    return str(getattr(value, "value", value))
