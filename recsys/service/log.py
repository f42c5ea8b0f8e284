"""The log of answered requests: one JSON line each, handed to the operating system before the answer leaves.

Every run has a directory of its own; every worker process a file of its own in it, rotated by size and day. A file name is never
reused, so a restarted worker cannot append to a torn line. A file that is being written is locked (flock, shared), which tells
whoever moves logs that it is open; a line that went into a file which was removed meanwhile is written again into a new one.
"""

import fcntl
import os
import time
from collections import OrderedDict
from pathlib import Path

MAX_BYTES = 256 * 2**20
MAX_OPEN = 64


class _Open:
    """A file that is being written."""

    __slots__ = ("day", "fd", "size")

    def __init__(self, fd: int, day: int) -> None:
        self.fd, self.day, self.size = fd, day, 0


class RequestLog:
    """Writer of one worker process.

    Args:
        directory: below it stands one directory a run, and ``live``.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._worker = f"{os.getpid()}-{time.time_ns():x}"
        self._count = 0
        self._files: OrderedDict[str, _Open] = OrderedDict()
        directory.mkdir(parents=True, exist_ok=True)

    def write(self, scope: str, lines: bytes) -> None:
        """Append whole lines to the scope's file.

        Raises:
            OSError: nothing of the lines remains in the file.
        """
        file = self._files.get(scope)
        day = int(time.time()) // 86_400
        if file is None or file.size > MAX_BYTES or file.day != day:
            file = self._rotate(scope, day)
        self._files.move_to_end(scope)
        written = os.write(file.fd, lines)
        if written != len(lines):
            os.ftruncate(file.fd, file.size)
            raise OSError(f"only {written} of {len(lines)} bytes fit into the log")
        file.size += written
        if not os.fstat(file.fd).st_nlink:
            # Looked at after the line was written: who removes a file keeps what stood in it when its name went.
            os.close(self._files.pop(scope).fd)
            self.write(scope, lines)

    def close(self) -> None:
        """Close all files."""
        while self._files:
            os.close(self._files.popitem()[1].fd)

    def _rotate(self, scope: str, day: int) -> _Open:
        old = self._files.pop(scope, None)
        if old is not None:
            os.close(old.fd)
        while len(self._files) >= MAX_OPEN:
            os.close(self._files.popitem(last=False)[1].fd)
        folder = self._directory / scope
        folder.mkdir(parents=True, exist_ok=True)
        stamp = time.strftime("%Y-%m-%d", time.gmtime(day * 86_400))
        self._count += 1
        path = folder / f"{stamp}-{self._worker}-{self._count}.jsonl"
        file = _Open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644), day)
        fcntl.flock(file.fd, fcntl.LOCK_SH)
        self._files[scope] = file
        return file
