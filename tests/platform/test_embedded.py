"""A command's own Valkey is found wherever temporary files stand, and by commands in other shells while it runs."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import psutil
import pytest
from pydantic import SecretStr

from recsys.cli.options import beside
from recsys.experiments import ORIGINAL
from recsys.platform import components
from recsys.platform.embedded import Address, address, embedded
from recsys.platform.ports import free_port
from recsys.platform.processes import Recorded
from recsys.settings import Settings, load_settings
from recsys.versions import keyspace
from tests.support.night import TRACKS, write_world


@pytest.mark.real
def test_temporary_files_may_stand_in_a_directory_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="100%41?#@ ") as directory:
        monkeypatch.setattr("tempfile.tempdir", directory)
        with embedded(Settings(var=tmp_path / "var", world=tmp_path / "world"), service=False) as settings:
            assert keyspace.connect(settings).ping()
            assert keyspace.connect(beside(load_settings(var=tmp_path / "var"))).ping()
    assert address(tmp_path / "var") is None


class Served:
    """``recsys serve --embedded`` on a directory, and commands of other shells that know the directory alone."""

    def __init__(self, var: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RECSYS_")}
        self.environment = {**kept, "RECSYS_VAR": str(var)}
        self.port = free_port()
        words = [*components.service_words(self.port), "--embedded"]
        self.process = subprocess.Popen(words, env=self.environment)
        deadline = time.monotonic() + 120
        while not components.service_answers(f"http://127.0.0.1:{self.port}"):
            assert self.process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "recsys.cli", *words]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120, check=False)

    def next(self, user: int) -> int:
        body = json.dumps({"track": 0, "time": 1.0}).encode()
        request = Request(f"http://127.0.0.1:{self.port}/next/{user}", body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=30) as answer:
            return int(json.loads(answer.read())["track"])

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    write_world(tmp_path / "var" / "world")
    found = Served(tmp_path / "var")
    yield found
    found.end()


def lists(directory: Path, first: int) -> tuple[str, ...]:
    """Words that publish lists in which every user's first track is ``first``."""
    directory.mkdir()
    rows = [{"user": user, "tracks": list(range(first, first + 50))} for user in range(20)]
    (directory / "r.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (directory / "top.json").write_text(json.dumps(list(range(TRACKS - 100, TRACKS))))
    return ("publish", "--recommendations", str(directory / "r.json"), "--top", str(directory / "top.json"))


def wait_for(served: Served, user: int, first: int) -> None:
    """The service follows what is live within a second or two; the user's list is that from then on."""
    deadline = time.monotonic() + 30
    while served.next(user) not in range(first, first + 50):
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.real
@pytest.mark.slow
def test_commands_in_other_shells_find_what_runs_embedded(served: Served, tmp_path: Path) -> None:
    user = next(user for user in range(20) if ORIGINAL.arm_of(user).name == "T1")
    published = served.run(*lists(tmp_path / "a", 100))
    assert published.returncode == 0, published.stderr
    first = published.stdout.split()[1].rstrip(":")
    wait_for(served, user, 100)
    second = served.run(*lists(tmp_path / "b", 200), "--no-promote").stdout.split()[1].rstrip(":")
    promoted = served.run("promote", second, "--why", "a test")
    assert promoted.returncode == 0, promoted.stderr
    wait_for(served, user, 200)
    assert served.run("rollback", "--why", "a test").returncode == 0
    wait_for(served, user, 100)
    assert first in served.run("restore-live").stdout
    assert len(json.loads(served.run("audit", "--json").stdout)) >= 3
    refused = served.run("publish", *lists(tmp_path / "c", 300)[1:], "--embedded")
    assert (refused.returncode, "leave out --embedded to work beside it" in refused.stderr) == (6, True)
    # A variable counts more.
    served.environment["RECSYS_REDIS_URL"] = "redis://127.0.0.1:1/0"
    elsewhere = served.run("audit")
    assert (elsewhere.returncode, "127.0.0.1:1" in elsewhere.stderr) == (5, True)
    del served.environment["RECSYS_REDIS_URL"]
    served.end()
    assert not (tmp_path / "var" / Address.FILE).exists()


@pytest.mark.parametrize("started", [1.0, None])
def test_who_has_died_is_nobody_to_work_beside(tmp_path: Path, started: float | None) -> None:
    own = psutil.Process()
    owner = Recorded("owner", own.pid if started else 2**31 - 1, started or own.create_time())
    told = {"owner": owner.__dict__, "redis_url": "redis://127.0.0.1:1/0", "service_url": ""}
    (tmp_path / Address.FILE).write_text(json.dumps(told))
    settings = Settings(var=tmp_path)
    assert beside(settings) == settings
    (tmp_path / Address.FILE).write_text("{]")
    assert beside(settings) == settings


def test_variables_count_more_than_what_runs(tmp_path: Path) -> None:
    own = psutil.Process()
    told = {"owner": {"name": "owner", "pid": own.pid, "started": own.create_time()}, "redis_url": "r", "service_url": "http://s"}
    (tmp_path / Address.FILE).write_text(json.dumps(told))
    found = beside(Settings(var=tmp_path))
    assert (found.redis_url.get_secret_value(), found.service_url) == ("r", "http://s")
    given = Settings(var=tmp_path, redis_url=SecretStr("redis://x"))
    assert beside(given) == given
    assert beside(Settings(var=tmp_path, service_url="http://x")).service_url == "http://x"
