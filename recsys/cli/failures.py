"""What fails in a command without being an error of ours: in goes what Redis, the system or Python raised; out comes one of ours.

So every command ends with one line and an exit status, whatever breaks under it. A fault of the program itself is a line, too;
``recsys -v`` shows where it is.
"""

import errno
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import redis

from recsys.exceptions import CorruptDataError, InvalidInputError, RecsysError, UnavailableError

log = logging.getLogger(__name__)

#: What the system says of a path that somebody gave, as opposed to what may pass.
_OF_PATHS = {
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EACCES,
    errno.EPERM, errno.EROFS, errno.ENOTEMPTY, errno.ENOTSUP, errno.ENXIO, errno.ENODEV,
}  # fmt: skip


@contextmanager
def told() -> Iterator[None]:
    """Raise what fails in the block as a :class:`RecsysError`, and write what it has printed.

    Raises:
        RecsysError: something failed.
    """
    try:
        try:
            yield
        finally:
            _flush()
    except RecsysError:
        raise
    except Exception as error:
        log.debug("%r", error, exc_info=True)
        raise of(error) from error


def of(error: Exception) -> RecsysError:
    """The error of ours that says what failed, and has the exit status for it."""
    if isinstance(error, redis.ResponseError) and "WRONGTYPE" in str(error):
        return CorruptDataError(f"a key of ours in Redis holds a value of another kind: {error}; delete it, then restore-live")
    if isinstance(error, redis.RedisError):
        return UnavailableError(f"Redis does not do what was asked of it: {error}; see what is wrong with it, then try again")
    if isinstance(error, OSError):
        what = f"{error.strerror or error}" + (f": {error.filename!r:.300}" if error.filename else "")
        if error.errno in _OF_PATHS:
            return InvalidInputError(f"the system refuses a path ({what}); name another, or change its rights")
        return UnavailableError(f"the system fails ({what}); mend that, then try again")
    if isinstance(error, MemoryError):
        return UnavailableError("memory is used up; ask for less, or give the command more")
    if isinstance(error, RecursionError):
        return InvalidInputError("a file is nested too deeply to be read")
    return RecsysError(f"unexpected {type(error).__name__}: {error}; this is a fault of recsys ('recsys -v …' shows where)")


def require_text(words: Sequence[str]) -> None:
    """See that arguments are text, which is what Redis, JSON and a terminal take.

    Raises:
        InvalidInputError: one holds bytes that are no UTF-8; the message shows it.
    """
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise InvalidInputError(f"argument {os.fsencode(word)!r:.300} is not UTF-8") from None


def _flush() -> None:
    """Write what was printed; if that fails, nothing more is printed, lest the interpreter fail by it again at its end.

    Whoever has read enough, as ``head`` does, ends the command without a word.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            sys.exit(1)
        raise
