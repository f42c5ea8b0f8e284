"""A small night twice, with its storage on a local disk and on a real HDFS: the same digest, nothing left behind locally."""

import json
import os
import subprocess
import sys
import urllib.request
from datetime import date, timedelta
from pathlib import Path

import pytest

from recsys.inspection.verify import verify
from recsys.night import steps, traffic
from recsys.night.night import Night
from recsys.platform.hdfs import Hdfs
from recsys.settings import Settings, environment_of, load_settings
from recsys.simulate.world import generate
from recsys.storage.store import Storage
from tests.support.components import Service, Valkey, running

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

DAY = date(2026, 1, 5)
SESSIONS = 1500


def night(directory: Path, world: Path, storage: str) -> tuple[Settings, str]:
    """Three days of traffic and the night of the last one; its settings and digest."""
    with running(Valkey(directory)) as valkey:
        settings = load_settings(
            var=directory, world=world, redis_url=valkey.url, storage=storage, service_logs=directory / "logs",
            episodes=SESSIONS, batch=256,
        )  # fmt: skip
        environment = environment_of(settings)
        with running(Service(environment)) as service:
            settings = settings.model_copy(update={"service_url": service.url})
            for back in (2, 1, 0):
                traffic.collect(Night(DAY - timedelta(days=back), settings), SESSIONS, run="t")
            steps.run(Night(DAY, settings), run_id="n")
        found = verify(Night(DAY, settings))
        assert found.failures == []
        words = [sys.executable, "-m", "recsys.cli", "verify", "--date", str(DAY), "--json"]
        told = subprocess.run(words, env=os.environ | environment, capture_output=True, text=True, check=True)
        assert json.loads(told.stdout)["digest"] == found.digest
    return settings, found.digest


def test_a_night_on_hdfs_is_that_on_files(tmp_path: Path, hdfs: Hdfs, hdfs_root: str, scratch: Path) -> None:
    world = tmp_path / "world"
    generate(world, tracks=2000, artists=400, users=400, seed=5)
    _, on_files = night(tmp_path / "file", world, f"file://{tmp_path}/file/storage")
    settings, on_hdfs = night(tmp_path / "hdfs", world, hdfs_root)
    assert on_hdfs == on_files

    store = Storage(hdfs_root)
    assert store.dates("logs") == [DAY - timedelta(days=back) for back in (2, 1, 0)]
    assert store.dates("reports") == store.dates("promotions") == [DAY]
    root = hdfs_root.removeprefix(hdfs.url)
    page = f"http://127.0.0.1:{hdfs.ports[1]}/webhdfs/v1{root}/reports/date%3D{DAY}/report.html?op=OPEN"
    with urllib.request.urlopen(page) as answer:
        assert b"<html" in answer.read()
    # The service's own copies are gone, and no step has written beside HDFS.
    assert list(settings.log_dir.iterdir()) == []
    assert not (settings.var / "storage").exists()
    store.sweep(-1)
    assert list(scratch.rglob("*.jsonl")) == []
