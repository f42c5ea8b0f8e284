"""Nightshift's pages in Airflow: "Nights" in the navigation, and the tabs "Night" and "A/B report" of a DAG run.

All are documents of ``recsys`` shown in a frame. Only who may read the DAG's runs sees them. A path in the storage is made from
a date alone, and what else a request says is looked up, never put into a path.
"""

import functools
from datetime import date
from typing import Annotated

import redis
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.models.dagrun import DagRun
from airflow.plugins_manager import AirflowPlugin
from fastapi import Depends, FastAPI, HTTPException, Path, Request
from fastapi.responses import HTMLResponse, Response
from night_connections import redis_url, storage_url
from night_runs import log_date_of, runs_by_date
from sqlalchemy import select

from recsys.abtest.history import Nights
from recsys.exceptions import InvalidInputError, MissingDataError, RecsysError
from recsys.inspection import diff, health, leaderboards, listing, pages
from recsys.inspection.standing import Standing, standing, standing_in_files
from recsys.rollout.rule import load_rule
from recsys.settings import Settings, load_settings
from recsys.storage.layout import Dated, parse_date
from recsys.storage.store import Storage
from recsys.versions import keyspace

DAG = "nightly_recommender"
PREFIX = "/nightshift"
POLICY = (
    f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {pages.SCRIPT_SOURCE}; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "private, no-store",
}

app = FastAPI(title="Nightshift", openapi_url=None, docs_url=None, redoc_url=None)

READERS = [Depends(requires_access_dag("GET", DagAccessEntity.RUN, DAG))]
LogDate = Annotated[date, Path()]


@app.exception_handler(RecsysError)
def cannot(_: Request, error: RecsysError) -> Response:
    """What an error on purpose looks like: one sentence."""
    return _notice("Nights", f"This cannot be shown: {error}.", 404 if isinstance(error, MissingDataError) else 503)


@app.get("/nights", dependencies=READERS)
def list_nights(request: Request, session: SessionDep) -> Response:
    """What is live, the parts' health, and every night."""
    settings = _settings()
    store = Storage(settings.storage_url)
    now, problem = _standing(settings, store)
    found = listing.listing(_entries(store, session, now), request.query_params)
    parts = health.look(settings, store, now.live.version if now.known and not now.copied else None)
    return _html(pages.nights_page(pages.Overview(found, now, parts, problem), home=PREFIX))


@app.get("/night/{log_date}", dependencies=READERS)
def one_night(log_date: LogDate, session: SessionDep) -> Response:
    """One night."""
    return _night(log_date, session)


@app.get("/night/{log_date}/{name}", dependencies=READERS)
def night_file(log_date: LogDate, name: str) -> Response:
    """A file of one night's report."""
    return _file(log_date, name)


@app.get("/change", dependencies=READERS)
def change() -> Response:
    """What is live, with forms that go to Airflow's own API, which asks who may."""
    settings = _settings()
    now, problem = _standing(settings, Storage(settings.storage_url))
    try:
        rule = load_rule(settings.rollout)
    except RecsysError as error:  # a candidate can be taken back all the same
        rule, problem = None, problem or str(error)
    return _html(pages.change_page(now, problem, rule, home=PREFIX))


@app.get("/compare", dependencies=READERS)
def compare(first: str = "", second: str = "") -> Response:
    """Two nights side by side; the newest two unless the query names others."""
    store = Storage(_settings().storage_url)
    days = store.dates(Dated.INTERACTIONS)
    chosen: list[date | None] = [days[-2] if len(days) > 1 else None, days[-1] if days else None]
    try:
        chosen = [parse_date(text) if text else day for text, day in zip((first, second), chosen, strict=True)]
        left, right = chosen
        rows = diff.compare(store, left, right) if left and right else []
        problem = "" if left and right else "There are no two nights yet."
    except RecsysError as error:
        rows, problem = [], f"These cannot be compared: {error}."
    return _html(pages.compare_page(days, chosen[0], chosen[1], rows, problem, home=PREFIX))


@app.get("/tuning", dependencies=READERS)
def tuning() -> Response:
    """Trials of hyperparameters."""
    return _html(pages.tuning_page(leaderboards.leaderboards(Storage(_settings().storage_url)), home=PREFIX))


@app.get("/runbook", dependencies=READERS)
def runbook() -> Response:
    """What to do about each signal."""
    return _html(pages.runbook_page(home=PREFIX))


RUN_READERS = [Depends(requires_access_dag("GET", DagAccessEntity.RUN))]


@app.get("/run/{dag_id}/{run_id:path}", dependencies=RUN_READERS)
def run_report(dag_id: str, run_id: str, session: SessionDep) -> Response:
    """The report of the night that a DAG run made."""
    found = _of_run(dag_id, run_id, session, "A/B report")
    return found if isinstance(found, Response) else _file(found, "report.html")


@app.get("/night-of/{dag_id}/{run_id:path}", dependencies=RUN_READERS)
def run_night(dag_id: str, run_id: str, session: SessionDep) -> Response:
    """The night that a DAG run made."""
    found = _of_run(dag_id, run_id, session, "Night")
    return found if isinstance(found, Response) else _night(found, session)


def _of_run(dag_id: str, run_id: str, session: SessionDep, title: str) -> date | Response:
    """The log date of a run, or a notice that it has none."""
    run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
    if run is None:
        raise HTTPException(404, f"DAG {dag_id[:100]!r} has no run {run_id[:100]!r}")
    if dag_id != DAG:
        return _notice(title, f"Only runs of {DAG} have this page.", 404)
    try:
        return log_date_of(run.conf or {}, run.data_interval_start, run.run_type, run.run_after)
    except InvalidInputError as error:
        return _notice(title, f"This run has no night: {error}.", 404)


def _night(log_date: date, session: SessionDep) -> Response:
    settings = _settings()
    store = Storage(settings.storage_url)
    now, _ = _standing(settings, store)
    return _html(pages.night_page(listing.neighbours(_entries(store, session, now), log_date), now, home=PREFIX))


def _file(log_date: date, name: str) -> Response:
    if name not in pages.FILES:
        raise HTTPException(404, f"a report has the files {', '.join(pages.FILES)}")
    try:
        store = Storage(_settings().storage_url)
        if not store.is_complete(Dated.REPORTS.on(log_date)):
            return _notice("A/B report", f"The night of {log_date} has no report yet; it comes after the simulation.", 404)
        return Response(pages.report_file(store, log_date, name), media_type=pages.FILES[name], headers=HEADERS)
    except RecsysError as error:
        return _notice("A/B report", f"The report of {log_date} cannot be read: {error}.", 503)


def _entries(store: Storage, session: SessionDep, now: Standing) -> list[listing.Entry]:
    return listing.entries(_nights(store.url).rows(), runs_by_date(session, DAG), now.holders)


@functools.lru_cache(maxsize=2)
def _nights(url: str) -> Nights:
    """What this process has read of a storage's nights."""
    return Nights(Storage(url))


def _standing(settings: Settings, store: Storage) -> tuple[Standing, str]:
    """What is live; from the copy in files, with a sentence, while Redis is away."""
    try:
        return standing(keyspace.connect(settings, patience=health.PATIENCE), store), ""
    except (RecsysError, redis.RedisError, OSError) as error:
        return standing_in_files(store), f"From the copy in files, which may be older, for Redis cannot be asked: {error}"


def _settings() -> Settings:
    """Redis and the storage where tasks find them.

    Raises:
        RecsysError: a connection leads nowhere.
    """
    return load_settings(storage=storage_url(load_settings().storage), redis_url=redis_url())


def _notice(title: str, sentence: str, status: int) -> Response:
    return _html(pages.notice_page(title, sentence, home=PREFIX), status)


def _html(text: str, status: int = 200) -> Response:
    return HTMLResponse(text, status, headers=HEADERS)


class NightshiftPages(AirflowPlugin):
    """Registers the application and its views."""

    name = "nightshift_pages"
    fastapi_apps: list[dict[str, FastAPI | str]] = [{"app": app, "url_prefix": PREFIX, "name": "Nightshift"}]  # noqa: RUF012
    external_views: list[dict[str, str | bool]] = [  # noqa: RUF012
        {"name": "Nights", "href": PREFIX + "/nights", "destination": "nav", "url_route": "nights", "nav_top_level": True},
        {"name": "Night", "href": PREFIX + "/night-of/{DAG_ID}/{RUN_ID}", "destination": "dag_run", "url_route": "night"},
        {"name": "A/B report", "href": PREFIX + "/run/{DAG_ID}/{RUN_ID}", "destination": "dag_run", "url_route": "ab_report"},
    ]
