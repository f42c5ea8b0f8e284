"""A small night as a user runs it: `recsys platform run`, real Airflow, real Valkey, the real service over HTTP."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from recsys.night.log_date import yesterday
from recsys.platform import components, night
from recsys.platform.client import AirflowClient
from recsys.platform.console import Console
from tests.platform.test_platform import own_ports, platform, processes_of
from tests.support import postgres
from tests.support.airflow import wait_until

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

SESSIONS = 3000


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    # Untraced: Airflow's own processes, hundreds of thousands of lines, would all be traced with the platform.
    left_out = ("RECSYS_", "AIRFLOW", "COVERAGE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    tmp_path, ports = tmp_path_factory.mktemp("platform"), own_ports()
    yield kept | ports | {
        "RECSYS_VAR": str(tmp_path / "var"), "RECSYS_WORLD": str(tmp_path / "world"), "RECSYS_EPISODES": str(SESSIONS),
        "RECSYS_TRAFFIC_SESSIONS": str(SESSIONS), "RECSYS_TRAFFIC_DATES": "3",
        "RECSYS_REDIS_URL": f"redis://127.0.0.1:{ports['RECSYS_PORT_REDIS']}/0",
        "OPENLINEAGE__TRANSPORT": json.dumps({"type": "file", "log_file_path": str(tmp_path / "lineage"), "append": True}),
    }  # fmt: skip
    postgres.forget(tmp_path / "var")


def recsys(environment: dict[str, str], *words: str) -> str:
    answer = subprocess.run(
        [sys.executable, "-m", "recsys.cli", *words], env=environment, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


@contextmanager
def kept_up(environment: dict[str, str]) -> Iterator[AirflowClient]:
    """The platform as `make up` starts it; ended by `make down`."""
    words = [sys.executable, "-m", "recsys.cli", "platform", "up"]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if "Ctrl-C" in line:
                    break
            secrets = components.load_secrets(Path(environment["RECSYS_VAR"]))
            url = f"http://127.0.0.1:{environment['RECSYS_PORT_AIRFLOW']}"
            yield AirflowClient(url, components.USER, secrets.password)
        finally:
            assert platform("down", environment).returncode == 0
            process.communicate(timeout=60)


def verified(environment: dict[str, str], day: str) -> str:
    answer = json.loads(recsys(environment, "verify", "--date", day, "--json"))
    assert answer["failures"] == []
    return str(answer["digest"])


@pytest.fixture(scope="module")
def told(environment: dict[str, str]) -> str:
    """What `recsys platform run` prints, from nothing to yesterday's night."""
    recsys(environment, "world", "generate", "--dir", environment["RECSYS_WORLD"], "--tracks", "2000", "--users", "500")
    result = platform("run", environment)
    assert result.returncode == 0, result.stdout + result.stderr
    assert processes_of(environment) == []
    return result.stdout


def finished(environment: dict[str, str]) -> dict[str, Any]:
    """The row of yesterday's night."""
    rows = json.loads(recsys(environment, "nights", "--json"))
    (row,) = [row for row in rows if row["log_date"] == str(yesterday())]
    return dict(row)


def test_a_night_from_nothing(environment: dict[str, str], told: str) -> None:
    report = re.search(r"  report: (/\S+)", told)
    assert report is not None
    assert Path(report[1]).exists()
    (row,) = json.loads(recsys(environment, "nights", "--json"))
    assert row["log_date"] == str(yesterday())
    assert row["verdict"] in ("promoted", "held")
    assert row["sessions"] == SESSIONS
    for task in ("wait_for_logs", "collect", "train", "publish", "upload_logs", "abtest_report", "promote_or_hold"):
        assert f"  {task}: success" in told
    assert "  simulate [shard 1]: success" in told
    verified(environment, str(yesterday()))
    (event,) = Path(environment["RECSYS_VAR"], "..", "lineage").read_text().splitlines()
    told_of = {dataset["name"].split("/storage/")[-1] for dataset in json.loads(event)["outputs"]}
    assert {f"{kind}/date={yesterday()}" for kind in ("models", "recommendations", "experiments", "promotions")} < told_of


@pytest.mark.marathon
def test_the_same_night_again_on_a_platform_that_is_kept_up(environment: dict[str, str], told: str) -> None:
    day, row = str(yesterday()), finished(environment)
    with kept_up(environment) as client:
        first = verified(environment, day)
        # Unpausing lets the schedule start a run of its own first, for the last date that is due.
        client.set_paused(night.NIGHT, False)
        wait_until(
            lambda: client.call("GET", f"/dags/{night.NIGHT}/dagRuns?run_type=scheduled")["dag_runs"], 60, "a scheduled run"
        )
        wait_until(lambda: not client.unfinished_runs(night.NIGHT), 400, "the end of the scheduled run")
        night.run_night(client, yesterday(), Console(), lambda: None)
        assert verified(environment, day) == first
    assert processes_of(environment) == []
    # The scheduled run may have been for another date than yesterday.
    assert finished(environment) == row
