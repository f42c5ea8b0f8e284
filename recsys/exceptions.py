"""Every error that Nightshift raises on purpose.

Tree::

    RecsysError                 base; the command line prints it as one line and exits with its code
    ├── InvalidInputError       a value given by a person or a client breaks a constraint
    │   └── WorldError          a file of the world (tracks, users, embeddings) is missing or malformed
    ├── MissingDataError        a dated directory that a step needs is absent or unfinished
    ├── CorruptDataError        bytes do not match their manifest, or counts do not agree
    ├── UnavailableError        Redis, the service or the storage cannot be reached (worth a retry)
    ├── ConflictError           somebody else holds the date, or the live pointer moved meanwhile
    └── SimulationError         the service answered something that a listener cannot use

A message says what, which value, which constraint, and what to do. A signal is no error: it raises :class:`Stopped`.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class RecsysError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1


class InvalidInputError(RecsysError):
    """A given value breaks a constraint."""

    exit_code = 2


class WorldError(InvalidInputError):
    """A world file is missing or malformed."""


class MissingDataError(RecsysError):
    """A needed dated directory is absent or unfinished."""

    exit_code = 3


class CorruptDataError(RecsysError):
    """Bytes or counts do not match what was recorded."""

    exit_code = 4


class UnavailableError(RecsysError):
    """A component cannot be reached; a retry may help."""

    exit_code = 5


class ConflictError(RecsysError):
    """Another run holds the date, or the live pointer moved meanwhile."""

    exit_code = 6


class SimulationError(RecsysError):
    """The service answered something that a listener cannot use."""

    exit_code = 7


class Stopped(BaseException):
    """A signal asked the command to end; whatever it started ends with it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


@contextmanager
def stopped_by_signals() -> Iterator[Callable[[], None]]:
    """SIGINT, SIGTERM and SIGHUP raise :class:`Stopped` in the block; gives a function after which they are ignored.

    Some libraries end by an error of their own when a signal's handler raises: DuckDB says "Query interrupted". After a signal
    every error that leaves the block is :class:`Stopped`. Only in the main thread, which alone gets signals; in others nothing
    changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return

    came: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        raise Stopped(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}

    def ignore() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)

    try:
        yield ignore
    except Exception as error:
        if came:
            raise Stopped(came[0]) from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
