"""Names of unfinished directories that tell whether their writer still lives.

A mark is ``<space>-<pid>-<start>``: the space stands for a running machine and its set of process ids, so that a mark of another
machine or container is never taken for that of a dead process of this one.
"""

import hashlib
import os
import re
import socket
import uuid
from functools import cache
from pathlib import Path

PREFIX = ".staging-"
_MARK = re.compile(r"\.([0-9a-f]{8})-([0-9]+)-([0-9]+)-[0-9a-f]{6}$")


def staging_name(base: str) -> str:
    """A new name for what will become ``base``; it tells which process writes it."""
    return f"{PREFIX}{base}.{_space()}-{os.getpid()}-{_started(os.getpid())}-{uuid.uuid4().hex[:6]}"


def is_staging(name: str, base: str) -> bool:
    """Whether this is a name that :func:`staging_name` gave for ``base``."""
    return name.startswith(PREFIX) and _MARK.sub("", name.removeprefix(PREFIX)) == base


def is_abandoned(name: str) -> bool:
    """Whether the writer is a process of this machine that no longer runs."""
    mark = _MARK.search(name)
    return mark is not None and mark[1] == _space() and _started(int(mark[2])) != int(mark[3])


@cache
def _space() -> str:
    # Where /proc has no answer the host's name alone must do.
    boot = Path("/proc/sys/kernel/random/boot_id")
    ids = Path("/proc/self/ns/pid")
    parts = [socket.gethostname(), boot.read_text() if boot.exists() else "", str(ids.readlink()) if ids.is_symlink() else ""]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _started(pid: int) -> int:
    """When the process started, in ticks since the boot; 0 if it does not run."""
    try:
        # The name of the program, in brackets, may hold spaces and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])
