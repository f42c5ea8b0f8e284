"""A signal to a command that plays or holds a date: its shards end with it, and the date is free again."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import psutil
import pytest

from recsys.settings import load_settings
from recsys.simulate.world import generate
from recsys.storage.store import Storage
from recsys.versions import keyspace, lease
from tests.support.components import Valkey

pytestmark = [pytest.mark.real, pytest.mark.slow]

DAY = date(2026, 1, 5)


@pytest.fixture
def environment(tmp_path: Path, valkey: Valkey) -> dict[str, str]:
    generate(tmp_path / "world", tracks=200, artists=20, users=20, seed=1)
    return {
        "RECSYS_VAR": str(tmp_path / "var"),
        "RECSYS_WORLD": str(tmp_path / "world"),
        "RECSYS_REDIS_URL": valkey.url,
        "RECSYS_STORAGE": f"file://{tmp_path}/storage",
    }


@contextmanager
def command(environment: dict[str, str], *words: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-m", "recsys.cli", *words], env={**os.environ, **environment})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_until(ready: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.drill("commands", "a signal to traffic without --embedded", "its shards end with it")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_traffic_ends_its_shards(environment: dict[str, str], number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment["RECSYS_SERVICE_URL"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with command(environment, "traffic", "--date", str(DAY), "--sessions", "100") as process:
            silent.accept()  # a shard plays
            shards = psutil.Process(process.pid).children()
            assert len(shards) == 2
            process.send_signal(number)
            assert process.wait(60) == 128 + number
            assert not [shard for shard in shards if shard.is_running() and shard.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.drill("commands", "a signal to a night without --embedded", "its log date is free at once")
def test_a_signal_to_a_night_lets_go_of_the_date(environment: dict[str, str], tmp_path: Path) -> None:
    with Storage(f"file://{tmp_path}/storage").stage(f"logs/date={DAY}", {"next": 1}) as staging:
        (staging / "a.jsonl").write_text("{}\n" * 200_000)
    client = keyspace.connect(load_settings(redis_url=environment["RECSYS_REDIS_URL"]))
    with command(environment, "nightly", "--date", str(DAY)) as process:
        wait_until(lambda: lease.holders(client))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert not lease.holders(client)


@pytest.mark.drill("commands", "a signal while a world is generated", "no directory of it is left")
def test_a_signal_while_a_world_is_generated_leaves_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    place = tmp_path / "worlds"
    with command(environment, "world", "generate", "--dir", str(place / "big"), "--tracks", "100000") as process:
        wait_until(lambda: place.is_dir() and any(place.iterdir()))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert not any(place.iterdir())
