"""The first night of a stack: traffic for the log dates that lack it, then yesterday's night, both through Airflow's web API.

Afterwards both DAGs are on, and go on by their schedule. Switching a DAG on starts its run for the last day that is over, so that
day is not triggered, but waited for.
"""

import os
import sys
import time
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

from recsys.exceptions import RecsysError
from recsys.night.log_date import yesterday
from recsys.platform.client import FINISHED, AirflowClient
from recsys.platform.console import Console
from recsys.platform.night import NIGHT, TRAFFIC, RunFailedError, collect_missing_traffic, run_night, summarize
from recsys.settings import load_settings
from recsys.storage.layout import Dated
from recsys.storage.store import Storage

#: How long after a DAG was switched on its scheduled run may appear.
SCHEDULE_SECONDS = 45.0


def scheduled_run(client: AirflowClient, dag: str) -> dict[str, Any] | None:
    """Switch a DAG on; the run that its schedule starts, once it has ended, or None if there is none."""
    client.set_paused(dag, False)
    if os.environ.get("AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE", "True").lower() != "true":
        return None
    run = _until(lambda: _last_scheduled(client, dag), SCHEDULE_SECONDS)
    if run is None:
        return None
    name = run["dag_run_id"]
    return _until(lambda: found if (found := client.run(dag, name))["state"] in FINISHED else None, 6 * 3600)


def _last_scheduled(client: AirflowClient, dag: str) -> dict[str, Any] | None:
    runs = client.call("GET", f"/dags/{dag}/dagRuns?run_type=scheduled&order_by=-run_after&limit=1")["dag_runs"]
    return dict(runs[0]) if runs else None


def _until(find: Callable[[], dict[str, Any] | None], seconds: float) -> dict[str, Any] | None:
    deadline = time.monotonic() + seconds
    while not (found := find()) and time.monotonic() < deadline:
        time.sleep(1)
    return found


def _day_of(run: dict[str, Any]) -> date:
    return datetime.fromisoformat(run["data_interval_start"]).date()


def main() -> None:
    """Do what is missing; doing it again does nothing twice."""
    console, settings = Console(), load_settings()
    password = Path("/run/secrets/airflow_admin_password").read_text().strip()
    client = AirflowClient("http://api-server:8080", os.environ["AIRFLOW_ADMIN_USER"], password)
    day = yesterday()
    for dag in (TRAFFIC, NIGHT):
        if not _until(lambda dag=dag: {"there": True} if client.has_dag(dag) else None, 120):
            sys.exit(f"first night: {dag} has not been parsed: {client.import_errors() or 'see the log of dag-processor'}")
    if day in Storage(settings.storage_url).dates(Dated.PROMOTIONS):
        console.say(f"The night of {day} has been")
    else:
        scheduled_run(client, TRAFFIC)
        collect_missing_traffic(client, settings, day, console, lambda: None)
        run = scheduled_run(client, NIGHT)
        if run is None or _day_of(run) != day:
            run_night(client, day, console, lambda: None)
        elif run["state"] != "success":
            raise RunFailedError(f"{NIGHT} {run['dag_run_id']} failed; open it in the web UI")
        else:
            console.say(f"{NIGHT} {day}: {run['dag_run_id']}")
    for dag in (TRAFFIC, NIGHT):
        client.set_paused(dag, False)
    summarize(settings, day, console)


if __name__ == "__main__":
    try:
        main()
    except RecsysError as error:
        sys.exit(f"first night: {error}")
