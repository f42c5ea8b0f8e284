"""Runs of a real Airflow: a failed night is cleared, by the API and the command line, and a run that has ended holds no date."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from recsys.settings import load_settings
from recsys.versions import keyspace, lease
from tests.dags.conftest import ROOT
from tests.support.components import Valkey
from tests.support.site import Site, airflow

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

DAG = "nightly_recommender"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with airflow(tmp_path_factory.mktemp("airflow"), "api-server", "dag-processor") as site:
        site.wait_until(lambda client: client.has_dag(DAG))
        yield site


def fail(site: Site, run: str) -> str:
    site.client.trigger(DAG, run, {"log_date": "2026-01-05"})
    site.client.call("PATCH", f"/dags/{DAG}/dagRuns/{run}/taskInstances/collect", {"new_state": "failed"})
    site.client.fail_run(DAG, run)
    assert site.client.run(DAG, run)["state"] == "failed"
    return run


@pytest.fixture
def failed(site: Site, request: pytest.FixtureRequest) -> str:
    """A run that fails long before its deadline."""
    return fail(site, request.node.name)


def clear_tasks(site: Site, **body: Any) -> None:
    site.client.call("POST", f"/dags/{DAG}/clearTaskInstances", {"dry_run": False, "reset_dag_runs": True, **body})


def test_its_failed_tasks_are_cleared(site: Site, failed: str) -> None:
    clear_tasks(site, dag_run_id=failed, only_failed=True)
    assert site.client.run(DAG, failed)["state"] == "queued"


def test_the_whole_run_is_cleared(site: Site, failed: str) -> None:
    site.client.call("POST", f"/dags/{DAG}/dagRuns/{failed}/clear", {"dry_run": False, "only_failed": False})
    assert site.client.run(DAG, failed)["state"] == "queued"


def test_a_task_is_cleared_with_what_follows(site: Site, failed: str) -> None:
    clear_tasks(site, dag_run_id=failed, task_ids=["collect"], include_downstream=True, only_failed=False)
    assert site.client.run(DAG, failed)["state"] == "queued"


def test_it_is_queued_again_by_hand(site: Site, failed: str) -> None:
    site.client.call("PATCH", f"/dags/{DAG}/dagRuns/{failed}?update_mask=state", {"state": "queued"})
    assert site.client.run(DAG, failed)["state"] == "queued"


def test_it_says_its_log_date_and_its_end_unless_a_person_has_a_note(site: Site, failed: str) -> None:
    run = f"/dags/{DAG}/dagRuns/{failed}"
    assert site.client.call("GET", run)["note"] == "2026-01-05 · failed"
    site.client.call("PATCH", f"{run}?update_mask=state", {"state": "success"})
    assert site.client.call("GET", run)["note"] == "2026-01-05"
    site.client.call("PATCH", f"{run}?update_mask=note", {"note": "The wrong world."})
    site.client.fail_run(DAG, failed)
    assert site.client.call("GET", run)["note"] == "The wrong world."


def test_several_runs_are_cleared_by_the_command_line(site: Site, failed: str) -> None:
    """It clears every failed run of the DAG."""
    second = fail(site, f"{failed}-second")
    site.cli("tasks", "clear", DAG, "--yes", "--only-failed")
    assert {site.client.run(DAG, run)["state"] for run in (failed, second)} == {"queued"}
    # A server whose session had broken would no longer see the runs.
    for _ in range(8):
        assert site.client.run(DAG, second)["state"] == "queued"


# The connection is looked up in the database, whose session is in use: as in a scheduler that is in the midst of its loop.
AMIDST_A_TRANSACTION = """
import sys
from types import SimpleNamespace
from airflow.models import Connection, Variable
from airflow.settings import Session
from airflow.utils.session import create_session
from night_leases import Leases

with create_session(scoped=False) as session:
    session.add(Connection("redis_default", "redis", host="127.0.0.1", port=int(sys.argv[1])))
session = Session()
unfinished = Variable("unfinished", "business")
session.add(unfinished)
session.flush()
Leases().on_dag_run_failed(SimpleNamespace(dag_id="nightly_recommender", run_id="ended"))
assert unfinished in session, "the session was closed"
session.rollback()
with create_session(scoped=False) as other:
    assert not other.query(Variable).filter_by(key="unfinished").count(), "the transaction was ended"
"""


def test_dates_are_freed_amidst_the_transaction_that_ends_a_run(site: Site, valkey: Valkey) -> None:
    client = keyspace.connect(load_settings(redis_url=valkey.url))
    for day in (5, 6):
        lease.take(client, date(2026, 1, day), "nightly_recommender ended")
    lease.take(client, date(2026, 1, 7), "nightly_recommender other")
    script = [sys.executable, "-c", AMIDST_A_TRANSACTION, str(valkey.port)]
    environment = {name: value for name, value in site.environment.items() if name != "AIRFLOW_CONN_REDIS_DEFAULT"}
    environment["PYTHONPATH"] = str(ROOT / "plugins")
    answer = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert lease.holders(client) == {date(2026, 1, 7): "nightly_recommender other"}
