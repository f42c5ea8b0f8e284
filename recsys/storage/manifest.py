"""What a published directory holds, as ``manifest.json`` beside its files tells.

In goes a local directory; out comes its :class:`Manifest`: counts, and name, size and SHA-256 of every file.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recsys.exceptions import InvalidInputError

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
SUCCESS = "_SUCCESS"


@dataclass(frozen=True)
class StoredFile:
    """A file of a directory: name, size in bytes, hexadecimal SHA-256."""

    name: str
    bytes: int
    sha256: str

    def matches(self, path: Path) -> bool:
        """Whether the local file at ``path`` has this size and content."""
        return path.is_file() and path.stat().st_size == self.bytes and sha256(path) == self.sha256


@dataclass(frozen=True)
class Manifest:
    """What a published directory holds; ``checksum`` covers the names, sizes and hashes of all files."""

    files: tuple[StoredFile, ...]
    counts: dict[str, int]
    checksum: str
    schema: int = SCHEMA_VERSION

    @classmethod
    def of(cls, directory: Path, counts: Mapping[str, int]) -> "Manifest":
        """Measure a local directory (its regular files, not below sub-directories) by reading it."""
        paths = [path for path in sorted(directory.iterdir()) if path.name not in (MANIFEST, SUCCESS)]
        links = [path.name for path in paths if path.is_symlink()]
        if links:
            raise InvalidInputError(f"{directory} holds the symbolic link {links[0]!r}; only plain files are stored")
        files = tuple(StoredFile(path.name, path.stat().st_size, sha256(path)) for path in paths if path.is_file())
        lines = "".join(f"{f.name} {f.bytes} {f.sha256}\n" for f in files)
        return cls(files, dict(counts), hashlib.sha256(lines.encode()).hexdigest())

    def to_json(self) -> str:
        """The text of ``manifest.json``."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Manifest":
        """Read what :meth:`to_json` wrote, parsed.

        Raises:
            ValueError: a file is not plainly named, or a value has another type. KeyError, TypeError: something is absent.
        """
        found = cls(tuple(StoredFile(**f) for f in data["files"]), dict(data["counts"]), data["checksum"], data["schema"])
        for file in found.files:
            if not isinstance(file.name, str) or file.name != Path(file.name).name or file.name in ("", ".."):
                raise ValueError(f"file name {file.name!r} must be plain")
            if type(file.bytes) is not int or not isinstance(file.sha256, str):
                raise ValueError(f"size {file.bytes!r} or hash {file.sha256!r} of {file.name} has another type")
        if not isinstance(found.checksum, str) or not all(type(count) is int for count in found.counts.values()):
            raise ValueError(f"checksum {found.checksum!r} must be text, and counts {found.counts!r} integers")
        return found


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
