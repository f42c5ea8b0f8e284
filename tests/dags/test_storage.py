"""Where the storage is HDFS, the night waits through the provider's sensor and finds the NameNode by its connection."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from recsys.platform.hdfs import Hdfs
from recsys.storage.store import Storage
from tests.dags.conftest import DAGS

PROGRAM = """
import sys, json
from datetime import datetime, timezone
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
assert bag.import_errors == {}, bag.import_errors
import night_connections, run_context
dag = bag.dags["nightly_recommender"]
sensor = dag.get_task("wait_for_logs")
run = SimpleNamespace(run_type="manual", data_interval_start=None, run_after=datetime(2026, 1, 6, tzinfo=timezone.utc))
context = {"dag_run": run, "params": {"log_date": sys.argv[2]}, "success_file": run_context.success_file}
sensor.render_template_fields(context)
print(json.dumps([
    type(sensor).__name__, sensor.filepath, sensor.poke(context), night_connections.storage_url("webhdfs:///a/b"),
    night_connections.storage_url("webhdfs://given:1/a"), sensor.mode,
]))
"""


@pytest.mark.real
def test_the_sensor_and_the_url_come_from_the_connection(hdfs: Hdfs, hdfs_root: str, scratch: Path) -> None:
    port = hdfs.ports[1]
    path = hdfs_root.removeprefix(hdfs.url)
    with Storage(hdfs_root).stage("logs/date=2026-01-05") as staging:
        (staging / "a").touch()
    connection = {"conn_type": "webhdfs", "host": "127.0.0.1", "port": port, "login": "root"}
    environment = os.environ | {
        "RECSYS_STORAGE": f"webhdfs://{path}",
        "AIRFLOW_CONN_WEBHDFS_DEFAULT": json.dumps(connection),
        "PYTHONPATH": str(DAGS.parent),
    }
    for day, there in (("2026-01-05", True), ("2026-01-04", False)):
        words = [sys.executable, "-c", PROGRAM, str(DAGS), day]
        answer = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stderr
        assert json.loads(answer.stdout.splitlines()[-1]) == [
            "WebHdfsSensor",
            f"{path}/logs/date={day}/_SUCCESS",
            there,
            f"webhdfs://root@127.0.0.1:{port}/a/b",
            "webhdfs://given:1/a",
            "reschedule",
        ]
