"""Nightshift's pages in Airflow: the tab "A/B report" of a DAG run, and "Nights" in the navigation.

Both are documents of ``recsys`` shown in a frame. Only who may read the DAG's runs sees them. A path in the storage is made from
a date alone; the date comes from the run that Airflow has stored, never from the text of a request.
"""

from datetime import date
from typing import Annotated

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.models.dagrun import DagRun
from airflow.plugins_manager import AirflowPlugin
from fastapi import Depends, FastAPI, HTTPException, Path
from fastapi.responses import HTMLResponse, Response
from night_connections import storage_url
from sqlalchemy import select

from recsys.abtest.history import nights
from recsys.exceptions import InvalidInputError, RecsysError
from recsys.inspection import pages
from recsys.night import log_date as log_dates
from recsys.settings import load_settings
from recsys.storage.layout import Dated
from recsys.storage.store import Storage

DAG = "nightly_recommender"
PREFIX = "/nightshift"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-store",
}

app = FastAPI(title="Nightshift", openapi_url=None, docs_url=None, redoc_url=None)

READERS = [Depends(requires_access_dag("GET", DagAccessEntity.RUN, DAG))]
LogDate = Annotated[date, Path()]


@app.get("/nights", dependencies=READERS)
def list_nights() -> Response:
    """Every night: date, verdict, effect, live version, link."""
    try:
        rows = nights(_store())
    except RecsysError as error:
        return _notice("Nights", f"The nights cannot be read: {error}.", 503)
    return _html(pages.nights_page(rows, PREFIX + "/night/{}/report.html"))


@app.get("/night/{log_date}/{name}", dependencies=READERS)
def night_file(log_date: LogDate, name: str) -> Response:
    """A file of one night's report."""
    return _file(log_date, name)


@app.get("/run/{dag_id}/{run_id:path}", dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.RUN))])
def run_report(dag_id: str, run_id: str, session: SessionDep) -> Response:
    """The report of the night that a DAG run made."""
    run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
    if run is None:
        raise HTTPException(404, f"DAG {dag_id[:100]!r} has no run {run_id[:100]!r}")
    if dag_id != DAG:
        return _notice("A/B report", f"Only runs of {DAG} have an A/B report.", 404)
    try:
        run_type = str(getattr(run.run_type, "value", run.run_type))
        day = log_dates.resolve((run.conf or {}).get("log_date"), run.data_interval_start, run_type, run.run_after)
    except InvalidInputError as error:
        return _notice("A/B report", f"This run has no report: {error}.", 404)
    return _file(day, "report.html")


def _file(log_date: date, name: str) -> Response:
    if name not in pages.FILES:
        raise HTTPException(404, f"a report has the files {', '.join(pages.FILES)}")
    try:
        store = _store()
        if not store.is_complete(Dated.REPORTS.on(log_date)):
            return _notice("A/B report", f"The night of {log_date} has no report yet; it comes after the simulation.", 404)
        return Response(pages.report_file(store, log_date, name), media_type=pages.FILES[name], headers=HEADERS)
    except RecsysError as error:
        return _notice("A/B report", f"The report of {log_date} cannot be read: {error}.", 503)


def _store() -> Storage:
    """The storage where tasks find it."""
    return Storage(load_settings(storage=storage_url(load_settings().storage)).storage_url)


def _notice(title: str, sentence: str, status: int) -> Response:
    return _html(pages.notice_page(title, sentence), status)


def _html(text: str, status: int = 200) -> Response:
    return HTMLResponse(text, status, headers=HEADERS)


class NightshiftPages(AirflowPlugin):
    """Registers the application and its two views."""

    name = "nightshift_pages"
    fastapi_apps: list[dict[str, FastAPI | str]] = [{"app": app, "url_prefix": PREFIX, "name": "Nightshift"}]  # noqa: RUF012
    external_views: list[dict[str, str | bool]] = [  # noqa: RUF012
        {
            "name": "A/B report",
            "href": PREFIX + "/run/{DAG_ID}/{RUN_ID}",
            "destination": "dag_run",
            "url_route": "ab_report",
        },
        {"name": "Nights", "href": PREFIX + "/nights", "destination": "nav", "url_route": "nights", "nav_top_level": True},
    ]
