"""Worker processes: forked, replaced when they die, ended together.

In goes what a worker does; out comes the signal that ended them all. Workers share the memory of what was loaded before.
"""

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from types import FrameType

log = logging.getLogger(__name__)

#: Seconds from SIGTERM to SIGKILL, and from a worker's start to that of the one that takes its place.
GRACE, INTERVAL = 12.0, 1.0
SIGNALS = frozenset((signal.SIGINT, signal.SIGTERM, signal.SIGHUP))


class Workers:
    """Processes that run until a signal comes.

    Args:
        count: how many. work: what each does, called with its number (from 0) and a file that ends with this process.
        stopping: called here before the workers are ended.
    """

    def __init__(self, count: int, work: Callable[[int, int], None], stopping: Callable[[], None]) -> None:
        self._work, self._stopping = work, stopping
        self._fork = multiprocessing.get_context("fork")
        self._processes: dict[int, ForkProcess] = {}
        self._started: dict[int, float] = {}
        self._due = dict.fromkeys(range(count), 0.0)
        self._life = os.pipe()

    def run(self) -> int:
        """Keep the workers running until SIGINT, SIGTERM or SIGHUP; gives its number."""
        with _signals() as arrived:
            try:
                while True:
                    self._start()
                    pause = max(0.0, min(self._due.values()) - time.monotonic()) if self._due else None
                    if arrived in wait([arrived, *[process.sentinel for process in self._processes.values()]], pause):
                        return os.read(arrived, 1)[0]
                    self._bury()
            finally:
                self._stopping()
                self._end()

    def _start(self) -> None:
        now = time.monotonic()
        for number in [number for number, due in self._due.items() if due <= now]:
            del self._due[number]
            process = self._fork.Process(target=self._begin, args=(number,), name=f"worker-{number + 1}")
            # Until it handles signals itself, one that comes waits.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            process.start()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            self._processes[number], self._started[number] = process, now

    def _begin(self, number: int) -> None:
        """What a new process does."""
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN if each == signal.SIGHUP else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        theirs, ours = self._life
        os.close(ours)
        self._work(number, theirs)

    def _bury(self) -> None:
        """Take note of workers that have ended."""
        for number, process in list(self._processes.items()):
            if not process.is_alive():
                log.error("worker %d ended with status %s; another one takes its place", number + 1, process.exitcode)
                del self._processes[number]
                self._due[number] = max(time.monotonic(), self._started[number] + INTERVAL)

    def _end(self) -> None:
        deadline = time.monotonic() + GRACE
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()


@contextmanager
def _signals() -> Iterator[int]:
    """A file from which the numbers of signals can be read while the block runs."""
    read, write = os.pipe()
    os.set_blocking(write, False)

    def note(number: int, _frame: FrameType | None) -> None:
        os.write(write, bytes([number]))

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield read
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(read)
        os.close(write)
