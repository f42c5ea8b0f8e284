"""What a published directory holds, as ``manifest.json`` beside its files tells.

In goes a local directory; out comes its :class:`Manifest`: counts, and name, size and SHA-256 of every file.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, NonNegativeInt, StrictInt, StrictStr

from recsys.exceptions import InvalidInputError
from recsys.storage.document import Document, Part

SUCCESS = "_SUCCESS"


def _plain(name: str) -> str:
    if name != Path(name).name or name in ("", ".."):
        raise ValueError(f"file name {name!r} must be plain")
    return name


class StoredFile(Part):
    """A file of a directory: name, size in bytes, hexadecimal SHA-256."""

    name: Annotated[StrictStr, AfterValidator(_plain)]
    bytes: Annotated[NonNegativeInt, Field(strict=True)]
    sha256: StrictStr

    def matches(self, path: Path) -> bool:
        """Whether the local file at ``path`` has this size and content."""
        return path.is_file() and path.stat().st_size == self.bytes and sha256(path) == self.sha256


class Manifest(Document):
    """What a published directory holds; ``checksum`` covers the names, sizes and hashes of all files.

    ``labels`` say what else is known of it, such as the ``version`` that its lists make.
    """

    FILE: ClassVar[str] = "manifest.json"

    files: tuple[StoredFile, ...]
    counts: dict[str, StrictInt]
    checksum: StrictStr
    format: Annotated[Literal[1], Field(alias="schema")] = 1
    labels: dict[str, StrictStr] = Field(default_factory=dict)

    @classmethod
    def of(cls, directory: Path, counts: Mapping[str, int], labels: Mapping[str, str] | None = None) -> Self:
        """Measure a local directory (its regular files, not below sub-directories) by reading it."""
        paths = [path for path in sorted(directory.iterdir()) if path.name not in (cls.FILE, SUCCESS)]
        links = [path.name for path in paths if path.is_symlink()]
        if links:
            raise InvalidInputError(f"{directory} holds the symbolic link {links[0]!r}; only plain files are stored")
        files = tuple(
            StoredFile(name=path.name, bytes=path.stat().st_size, sha256=sha256(path)) for path in paths if path.is_file()
        )
        lines = "".join(f"{f.name} {f.bytes} {f.sha256}\n" for f in files)
        checksum = hashlib.sha256(lines.encode()).hexdigest()
        return cls(files=files, counts=dict(counts), checksum=checksum, labels=dict(labels or {}))


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
