"""A failed night is cleared in a real Airflow: by its API, by the command line, a task or the whole run, several runs at once."""

from collections.abc import Iterator
from typing import Any

import pytest

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
