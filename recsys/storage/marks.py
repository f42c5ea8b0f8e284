"""What tells whether a dated directory is still the one that was read: a storage and a family in, a text a date out.

Whoever keeps what he has read of a directory beside its mark may go on using it while the mark is the same.
"""

from collections.abc import Mapping
from datetime import date
from pathlib import Path

from recsys.exceptions import InvalidInputError
from recsys.storage.layout import parse_date
from recsys.storage.store import Storage


def marks(store: Storage, prefix: str, *files: str) -> dict[date, str]:
    """A mark for each directory ``<prefix>/date=D``, published or not; what else is there is left out.

    Args:
        files: names of files whose change in place must change the mark. On HDFS, where no file can be changed in its place, the
            directory tells it, and one request tells the marks of all.
    """
    try:
        entries = store.fs.ls(store.path(prefix), detail=True)
    except FileNotFoundError:
        return {}
    found = {}
    for entry in entries:
        path = str(entry["name"]).rstrip("/")
        day = _date(store, prefix, path.rsplit("/", 1)[-1])
        if day is not None and entry["type"] == "directory":
            parts = [_entry(entry), *(_file(f"{path}/{file}") for file in files if store.is_local)]
            found[day] = " ".join(parts)
    return found


def _date(store: Storage, prefix: str, name: str) -> date | None:
    """The date of a dated directory, or None: another name, a link that leaves the root or goes round in a circle."""
    try:
        store.path(f"{prefix}/{name}")
        return parse_date(name.removeprefix("date=")) if name.startswith("date=") else None
    except (InvalidInputError, RuntimeError):
        return None


def _entry(entry: Mapping[str, object]) -> str:
    """Of a directory: its number, and when something in it came or went."""
    return f"{entry.get('ino', entry.get('fileId'))}:{entry.get('mtime', entry.get('modificationTime'))}"


def _file(path: str) -> str:
    try:
        found = Path(path).stat()
    except OSError:
        return "-"
    return f"{found.st_ino}:{found.st_mtime_ns}:{found.st_size}"
