"""A Valkey and a service, each a process of its own that can be killed and started again: what tests and benchmarks start.

In go a directory or an environment; out come a URL and a process. A command's own parts are :mod:`recsys.platform.embedded`'s.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar
from urllib.parse import quote

import redis

from recsys.exceptions import UnavailableError
from recsys.platform import components
from recsys.platform.ports import HOST, free_port

START_SECONDS = 180.0


@dataclass
class Valkey:
    """A Valkey server.

    Args:
        directory: it has ``valkey`` below it, for the data.
        options: further ones of the command line, which count more.
        port: 0 for a server that is reached over a unix socket alone.
    """

    directory: Path
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    _sockets: Path | None = field(default=None, init=False, repr=False)

    @property
    def url(self) -> str:
        """Where it is reached, without a password."""
        return f"redis://{HOST}:{self.port}/0" if self.port else f"unix://{quote(str(self._socket()))}"

    @property
    def client(self) -> redis.Redis:
        """A connection without a password."""
        return redis.Redis(port=self.port) if self.port else redis.Redis(unix_socket_path=str(self._socket()))

    def start(self) -> Self:
        """Start it and wait until it answers.

        Raises:
            UnavailableError: it does not; the message ends with what it printed.
        """
        listening = ["--bind", HOST, "--port", str(self.port)]
        if not self.port:
            listening += ["--unixsocket", str(self._socket()), "--unixsocketperm", "700"]
        words = components.valkey_words(self.directory, *listening, *self.options)
        output = self.directory / "valkey" / "output"
        with output.open("ab") as sink:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
        with self.client as client:
            wait_until(self.process, lambda: components.valkey_answers(client), output)
        return self

    def kill(self, how: int = signal.SIGKILL) -> None:
        """End it; by default as a power cut would."""
        if self.process:
            self.process.send_signal(how)
            self.process.wait()
            self.process = None

    def end(self) -> None:
        """End it for good."""
        self.kill()
        if self._sockets:
            shutil.rmtree(self._sockets, ignore_errors=True)

    def _socket(self) -> Path:
        # A socket's path may have 107 characters at most, so it cannot stand below an arbitrary directory.
        self._sockets = self._sockets or Path(tempfile.mkdtemp(prefix="recsys-"))
        return self._sockets / "valkey.sock"


@dataclass
class Service:
    """The service as a user starts it, by ``recsys serve``.

    Args:
        environment: added to this process's.
        directory: its working directory; a program there comes before the installed one.
        output: file that gets what it prints; by default that goes where this process's goes.
    """

    environment: Mapping[str, str]
    workers: int = 1
    directory: Path | None = None
    output: Path | None = None
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"http://{HOST}:{self.port}"

    def start(self) -> Self:
        """Start it and wait until it is ready.

        Raises:
            UnavailableError: it is not.
        """
        words = [*components.service_words(self.port), "--workers", str(self.workers)]
        environment = {**os.environ, **self.environment}
        sink = self.output.open("ab") if self.output else None
        self.process = subprocess.Popen(
            words, env=environment, cwd=self.directory, stdout=sink, stderr=sink, start_new_session=True
        )
        if sink:
            sink.close()
        wait_until(self.process, lambda: components.service_answers(self.url), self.output)
        return self

    def kill(self, how: int = signal.SIGKILL) -> None:
        """End it with its workers."""
        if self.process:
            os.killpg(self.process.pid, how)
            self.process.wait()
            self.process = None

    def end(self) -> None:
        """End it as an operator would, then for certain."""
        self.kill(signal.SIGTERM)


Server = TypeVar("Server", bound="Valkey | Service")


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """A started server; ended with the block."""
    try:
        server.start()
        yield server
    finally:
        server.end()


def wait_until(process: "subprocess.Popen[bytes]", ready: Callable[[], bool], output: Path | None = None) -> None:
    """Wait until a process is ready.

    Raises:
        UnavailableError: it has ended, or is not ready in time; the message ends with what it printed.
    """
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            what = "was not ready in time" if process.returncode is None else f"ended with status {process.returncode}"
            tail = output.read_text(errors="replace")[-500:] if output else ""
            raise UnavailableError(f"{process.args!r} {what}: {tail}")
        time.sleep(0.02)
