"""Starts processes for a night: a process of one thread that has what commands load already in memory, and forks them.

In go requests over a socket, a JSON object a line; out come process ids and, once they have ended, statuses. Whatever it has
started dies with it, and what these leave behind is its own child, so that nothing is lost sight of.
"""

import asyncio
import ctypes
import faulthandler
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Be killed when the thread that forked this process ends."""
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def adopt_orphans() -> None:
    """Be the parent of descendants whose parents have ended."""
    _LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@dataclass
class Child:
    """A process that was started; ``ended`` gets its status, negative for a signal."""

    words: Sequence[str]
    pid: int = 0
    ended: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self.ended.result() if self.ended.done() else None

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal, unless it has ended."""
        if not self.ended.done():
            with suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(self.pid, number)


class Launcher:
    """The side of the night; made before its event loop begins."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            ours.close()
            try:
                _serve(theirs)
            finally:
                os._exit(1)
        theirs.close()
        self._socket = ours
        self._starting: list[tuple[Child, asyncio.Future[None]]] = []
        self._children: dict[int, Child] = {}

    async def open(self) -> None:
        """Begin to listen."""
        reader, self._writer = await asyncio.open_connection(sock=self._socket)
        self._task = asyncio.create_task(self._listen(reader))

    async def start(self, words: Sequence[str], environment: Mapping[str, str], output: Path, *, forked: bool = False) -> Child:
        """Start a process, leader of a session of its own.

        Args:
            output: gets what it prints, after what stands there.
            forked: the words are those of ``recsys``, run in a fork that has libraries loaded.
        """
        child, known = Child(words), asyncio.get_running_loop().create_future()
        self._starting.append((child, known))
        request = {"words": list(words), "environment": dict(environment), "output": str(output), "forked": forked}
        self._writer.write(json.dumps(request).encode() + b"\n")
        await known
        return child

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            told = json.loads(line)
            if "status" not in told:
                child, known = self._starting.pop(0)
                child.pid = told["pid"]
                self._children[child.pid] = child
                known.set_result(None)
            elif (child := self._children.pop(told["pid"], None)) and not child.ended.done():
                child.ended.set_result(told["status"])
        for future in (*(known for _, known in self._starting), *(child.ended for child in self._children.values())):
            if not future.done():
                future.set_exception(ChildProcessError("the launcher has ended"))


def _serve(channel: socket.socket) -> None:
    die_with_parent()
    adopt_orphans()
    children: set[int] = set()
    buffer = b""
    while True:
        readable, _, _ = select.select([channel], [], [], 0.02)
        if readable:
            data = channel.recv(65536)
            if not data:
                break
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                pid = _start(json.loads(line), channel)
                children.add(pid)
                channel.sendall(json.dumps({"pid": pid}).encode() + b"\n")
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                children.discard(found[0])
                status = os.waitstatus_to_exitcode(found[1])
                channel.sendall(json.dumps({"pid": found[0], "status": status}).encode() + b"\n")
    for pid in children:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    os._exit(0)


def _start(request: dict, channel: socket.socket) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.setsid()
        die_with_parent()
        if os.getppid() != parent:
            os._exit(1)
        channel.close()
        output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, nothing), (1, output), (2, output)):
            os.dup2(source, target)
        os.closerange(3, 64)
        if not request["forked"]:
            os.execvpe(request["words"][0], request["words"], request["environment"])
        os.environ.clear()
        os.environ.update(request["environment"])
        status = _command(request["words"])
    except BaseException as error:
        print(f"launcher: {error!r}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _command(words: list[str]) -> int:
    from tests.nemesis import clock

    clock.follow()
    faulthandler.register(signal.SIGUSR1)
    import recsys.cli

    sys.argv = ["recsys", *words]
    try:
        recsys.cli.main()
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    return 0
