"""Local copies of remote directories, below the machine's temporary directory.

In goes a checksum; out comes a directory for the files that have it. A copy that nobody asks for any more is removed.
"""

import os
import shutil
import tempfile
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from recsys.storage.staging import is_abandoned

#: How long a copy is kept after its last use.
KEEP = timedelta(days=2)


def scratch() -> Path:
    """Where copies stand, and directories that are on their way to a remote storage."""
    return Path(tempfile.gettempdir()) / f"recsys-{os.getuid()}"


def copy_of(checksum: str) -> Path:
    """Directory of the copy of what has this checksum, new or used before."""
    scratch().mkdir(mode=0o700, parents=True, exist_ok=True)
    directory = scratch() / f"cache-{checksum}"
    directory.mkdir(exist_ok=True)
    os.utime(directory)
    forget(datetime.now(UTC) - KEEP)
    return directory


def forget(before: datetime) -> list[str]:
    """Remove what is older, or whose writer is dead.

    Returns:
        The paths that were removed.
    """
    removed = []
    for path in scratch().glob("*"):
        with suppress(FileNotFoundError):
            if is_abandoned(path.name) or datetime.fromtimestamp(path.stat().st_mtime, UTC) < before:
                shutil.rmtree(path, ignore_errors=True)
                removed.append(str(path))
    return removed
