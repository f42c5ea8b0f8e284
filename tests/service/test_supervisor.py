"""Several workers as one service: one that dies is replaced, one answers for all, all end together."""

import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from recsys.service.app import WORLD_EVERY
from tests.service.test_service import Stage, serving, wait_until
from tests.support.components import Valkey

pytestmark = pytest.mark.real

WORKERS = 3
PLAY = {"track": 1, "time": 0.5}


@pytest.fixture
def stage(tmp_path: Path, valkey: Valkey) -> Iterator[Stage]:
    with serving(tmp_path, valkey, workers=WORKERS, output=tmp_path / "output") as stage:
        yield stage


def workers(stage: Stage) -> list[psutil.Process]:
    assert stage.service.process is not None
    children = psutil.Process(stage.service.process.pid).children()
    return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]


def test_a_worker_that_dies_is_replaced(stage: Stage, tmp_path: Path) -> None:
    before = {process.pid for process in workers(stage)}
    assert len(before) == WORKERS
    for process in workers(stage):
        process.send_signal(signal.SIGKILL)
    # Connections wait for the new ones instead of being refused.
    assert stage.service.post("/next/3", PLAY)[0] == 200
    wait_until(lambda: len(workers(stage)) == WORKERS, 20)
    assert not before & {process.pid for process in workers(stage)}
    assert stage.service.get("/readyz")[0] == 200
    told = (tmp_path / "output").read_text()
    assert [told.count(f"worker {number} ended with status -9") for number in (1, 2, 3)] == [1, 1, 1]


def test_a_world_that_is_replaced_is_served_after_a_restart_and_not_by_halves(stage: Stage, tmp_path: Path) -> None:
    assert stage.service.get("/track/7") == (200, {"artist": "a7", "title": "t7", "track": 7, "recommendations": []})
    path = tmp_path / "world" / "tracks.json"
    lines = path.read_text().replace('"a7"', '"another"').splitlines(keepends=True)
    path.write_text("".join(lines[:20]))
    path.with_name("top_tracks.json").write_text("[19]")
    for process in workers(stage)[:2]:
        process.kill()
    wait_until(lambda: len(workers(stage)) == WORKERS, 20)
    for user in range(40):
        assert stage.service.get("/track/7") == (200, {"artist": "a7", "title": "t7", "track": 7, "recommendations": []})
        assert stage.service.post(f"/next/{user}", {"track": 200, "time": 0.5})[0] == 200
    time.sleep(2 * WORLD_EVERY + 1)
    assert "fewer than the 300 before" in stage.service.get("/readyz")[1]["trouble"]
    for user in range(40):
        assert stage.service.get("/track/7") == (200, {"artist": "a7", "title": "t7", "track": 7, "recommendations": []})
        assert stage.service.post(f"/next/{user}", {"track": 200, "time": 0.5})[0] == 200
    assert len({record["recommendation"] for record in stage.records("live")}) > 20


def test_each_worker_serves_logs_and_tells_of_all(stage: Stage, tmp_path: Path) -> None:
    files = {process.pid: 0 for process in workers(stage)}
    asked = 0
    while not all(files.values()):
        asked += 1
        assert asked < 400
        assert stage.service.post("/next/3", PLAY)[0] == 200
        assert stage.service.get("/readyz")[0] == 200
        for path in (stage.logs / "live").glob("*.jsonl"):
            files[int(path.name.split("-")[3])] = 1
    with urllib.request.urlopen(stage.service.url + "/metrics") as answer:
        text = answer.read().decode()
    counted = re.findall(r'^recsys_requests_total\{route="next",status="200"\} ([0-9.]+)$', text, re.MULTILINE)
    assert [float(each) for each in counted] == [float(asked)]
    assert len(stage.records("live")) == asked
    # Not only the first process sets logging up.
    stage.valkey.kill()
    stage.valkey.start()
    wait_until(lambda: (tmp_path / "output").read_text().count("connected to Redis") == WORKERS, 20)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_service_ends_its_workers(stage: Stage, number: signal.Signals) -> None:
    process, children = stage.service.process, workers(stage)
    assert process is not None
    process.send_signal(number)
    assert process.wait(30) == 128 + number
    stage.service.process = None
    assert not any(child.is_running() for child in children)


def test_workers_end_when_the_service_is_killed(stage: Stage) -> None:
    process, children = stage.service.process, workers(stage)
    assert process is not None
    process.kill()
    process.wait()
    stage.service.process = None
    _, alive = psutil.wait_procs(children, 30)
    assert alive == []


def test_a_port_in_use_is_told(stage: Stage) -> None:
    words = [sys.executable, "-m", "recsys.cli", "serve", "--port", str(stage.service.port), "--workers", "2"]
    environment = {**stage.service.environment, "PATH": "/usr/bin:/bin"}
    answer = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert answer.returncode == 5
    assert f"port {stage.service.port} on 127.0.0.1 cannot be used" in answer.stderr
