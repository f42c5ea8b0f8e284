"""Valkey and services as processes of a measure's own: free ports of 127.0.0.1, ended by pid when their block ends."""

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from recsys.platform import servers
from recsys.platform.ports import HOST, free_port
from recsys.platform.servers import Service, Valkey, wait_until

ROOT = Path(__file__).resolve().parent.parent


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
    directory = Path(tempfile.mkdtemp(prefix="valkey-", dir=scratch))
    with servers.running(Valkey(directory, () if durable else ("--appendonly", "no"), port or 0)) as server:
        yield server.url


@contextmanager
def nightshift(scratch: Path, world: Path, redis_url: str) -> Iterator[tuple[str, float]]:
    """Our service as a user starts it; gives its URL and the seconds until it was ready."""
    environment = {
        "RECSYS_WORLD": str(world),
        "RECSYS_REDIS_URL": redis_url,
        "RECSYS_SERVICE_LOGS": tempfile.mkdtemp(prefix="logs-", dir=scratch),
    }
    started = time.perf_counter()
    with servers.running(Service(environment, directory=ROOT, output=scratch / "nightshift.log")) as service:
        yield service.url, time.perf_counter() - started


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
        wait_until(process, lambda: _answers_get(url + ready), output)
        yield url, time.perf_counter() - started


def _answers_get(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
        return answer.status == 200
    return False
