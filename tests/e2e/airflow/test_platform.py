"""What a running platform shows: who may reach it, what a person reads of a task, Airflow's own command line."""

import ipaddress
import json
import re
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta

import psutil
import pytest

from recsys.platform import components, night
from recsys.platform.processes import read_state
from tests.support.airflow import DATES, HOUR, Stack, wait_until

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("airflow"), pytest.mark.timeout(1800)]


def test_nothing_listens_beyond_this_machine(paused: Stack) -> None:
    listening: dict[int, set[str]] = {}
    for recorded in read_state(paused.var):
        leader = psutil.Process(recorded.pid)
        for process in (leader, *leader.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):  # a DAG file was parsed, a connection ended
                for connection in process.net_connections("inet"):
                    if connection.status == psutil.CONN_LISTEN:
                        listening.setdefault(connection.laddr.port, set()).add(connection.laddr.ip)
    assert {ip for ips in listening.values() for ip in ips if not ipaddress.ip_address(ip).is_loopback} == set(), listening
    assert set(listening) == set(paused.settings.platform_ports().values())


def test_a_failed_task_ends_with_its_sentence_and_so_does_the_message(paused: Stack) -> None:
    parameters = {"action": "promote", "version": "2000-01-01-0123abcd", "why": "a test"}
    paused.finish("change_live", "impossible", parameters, state="failed")
    seen = paused.log("change_live", "impossible", "change")
    sentence = seen[-1]["event"]
    assert parameters["version"] in sentence
    assert seen[-1]["level"] == "error"
    assert [entry for entry in everything(paused, "change_live", "impossible", "change") if entry.get("error_detail")] == []

    def told() -> list[str]:
        files = (paused.var / "airflow" / "logs" / "dag_processor").glob("*/*/change_live.py.log")
        lines = [line for file in files for line in file.read_text().splitlines()]
        return sorted({str(json.loads(line)["event"]) for line in lines if "a run failed" in line and " impossible," in line})

    (message,) = wait_until(told, 120, "the message")
    link = f"{paused.client.url}/dags/change_live/runs/impossible/tasks/change?try_number=1"
    assert message.endswith(f"Run: change_live impossible, task change: {sentence} {link}")


def test_a_person_reads_what_a_run_would_do(platform: Stack) -> None:
    platform.finish(night.NIGHT, "look", {"log_date": str(DATES[-1]), "dry_run": True})
    seen = [entry["event"] for entry in platform.log(night.NIGHT, "look", "check_run")]
    assert f"log date: {DATES[-1]}" in seen
    assert [line for line in seen if line.startswith("sessions: ")]
    assert "deprecated" not in json.dumps(everything(platform, night.NIGHT, "look", "check_run"))


def everything(platform: Stack, dag: str, run: str, task: str) -> list[dict[str, object]]:
    """A task's log with what Airflow folds together."""
    path = f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/1?full_content=true"
    return list(platform.client.call("GET", path)["content"])


def test_airflow_s_own_command_line(paused: Stack) -> None:
    # Dates that no test backfills: what has a run already is not told.
    first, last = (str(day - timedelta(days=40)) for day in DATES[:2])
    told = paused.airflow("backfill", "create", "--dag-id", night.NIGHT, *span(first, last), "--dry-run")
    assert sorted(set(re.findall(rf"(\d{{4}}-\d\d-\d\d) {HOUR:02d}:00", told))) == [first, last]
    url = f"postgresql+psycopg2://airflow:***@127.0.0.1:{paused.settings.port_database}/postgres"
    assert url in paused.airflow("config", "get-value", "database", "sql_alchemy_conn")
    words = [sys.executable, "-m", "recsys.cli", "platform", "airflow"]
    shown = subprocess.run(
        [*words, "config", "list", "--show-values"], env=paused.environment, capture_output=True, text=True, check=True
    )
    assert "sql_alchemy_conn" in shown.stdout
    for secret in components.load_secrets(paused.var):
        assert secret not in shown.stdout + shown.stderr
    assert subprocess.run([*words, "dags", "details", "nothing"], env=paused.environment, check=False).returncode == 1


def span(first: str, last: str) -> list[str]:
    """Options as a person writes them."""
    return ["--from-date", first, "--to-date", last]
