"""Dated directories that appear atomically, on any fsspec filesystem.

In goes a local staging directory; out comes, after one rename, a directory with its files, ``manifest.json`` (counts, bytes,
checksums, schema version) and ``_SUCCESS``. Readers see all of it or nothing. A directory that is published again with the same
content is left alone; with another content the old one moves to ``.trash`` first.
"""

import hashlib
import json
import logging
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import fsspec

from recsys.exceptions import CorruptDataError, InvalidInputError, MissingDataError, UnavailableError
from recsys.schemas import parse_date

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
SUCCESS = "_SUCCESS"


@dataclass(frozen=True)
class StoredFile:
    """A file of a directory: name, size in bytes, hexadecimal SHA-256."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a published directory holds; ``checksum`` covers the names, sizes and hashes of all files."""

    files: tuple[StoredFile, ...]
    counts: dict[str, int]
    checksum: str
    schema: int = SCHEMA_VERSION

    @classmethod
    def of(cls, directory: Path, counts: Mapping[str, int]) -> "Manifest":
        """Measure a local directory (its regular files, not below sub-directories)."""
        files = tuple(
            StoredFile(path.name, path.stat().st_size, _sha256(path))
            for path in sorted(directory.iterdir())
            if path.is_file() and path.name not in (MANIFEST, SUCCESS)
        )
        lines = "".join(f"{f.name} {f.bytes} {f.sha256}\n" for f in files)
        return cls(files, dict(counts), hashlib.sha256(lines.encode()).hexdigest())

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Manifest":
        """Read what :func:`dataclasses.asdict` wrote."""
        return cls(tuple(StoredFile(**f) for f in data["files"]), data["counts"], data["checksum"], data["schema"])


class Storage:
    """The root below which every artefact of every night stands.

    Args:
        url: ``file:///absolute/root`` or any other fsspec URL, such as ``webhdfs://host:9870/root``.
    """

    def __init__(self, url: str) -> None:
        if "://" not in url:
            raise InvalidInputError(f"storage {url!r} is not a URL; give file:///path or webhdfs://host:port/path")
        self.url = url
        try:
            self.fs, self.root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError, OSError) as error:
            raise UnavailableError(f"storage {url!r} cannot be opened: {error}") from None
        self.is_local = self.fs.protocol == "file" or "file" in self.fs.protocol

    def path(self, name: str) -> str:
        """Absolute path of a directory of the store.

        Raises:
            InvalidInputError: the name is empty, absolute or climbs out with ``..``.
        """
        parts = name.split("/")
        if not name or name.startswith("/") or any(part in ("", ".", "..") for part in parts):
            raise InvalidInputError(f"storage name {name!r} must be relative, without empty parts, '.' or '..'")
        return f"{self.root.rstrip('/')}/{name}"

    def is_complete(self, name: str) -> bool:
        """Whether the directory has been published."""
        return bool(self.fs.exists(f"{self.path(name)}/{SUCCESS}"))

    def manifest(self, name: str) -> Manifest:
        """The manifest of a published directory.

        Raises:
            MissingDataError: it has not been published.
        """
        if not self.is_complete(name):
            raise MissingDataError(f"{name} is not in {self.url} (no {SUCCESS}); run the step that writes it first")
        return Manifest.from_json(json.loads(self.fs.cat_file(f"{self.path(name)}/{MANIFEST}")))

    def dates(self, prefix: str) -> list[date]:
        """Dates D for which ``<prefix>/date=D`` has been published, ascending."""
        base = self.path(prefix)
        if not self.fs.exists(base):
            return []
        names = [str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in self.fs.ls(base, detail=False)]
        found = [parse_date(n.removeprefix("date=")) for n in names if n.startswith("date=")]
        return sorted(d for d in found if self.is_complete(f"{prefix}/date={d}"))

    def read_json(self, name: str, file: str) -> Any:
        """One JSON file of a published directory."""
        self.manifest(name)
        return json.loads(self.fs.cat_file(f"{self.path(name)}/{file}"))

    @contextmanager
    def stage(self, name: str, counts: dict[str, int] | None = None) -> Iterator[Path]:
        """Give a local directory to write into; publish it as ``name`` when the block ends without an error."""
        final = self.path(name)
        if self.is_local:
            parent = Path(final).parent
            parent.mkdir(parents=True, exist_ok=True)
            local = Path(tempfile.mkdtemp(prefix=".staging-", dir=parent))
        else:
            local = Path(tempfile.mkdtemp(prefix="recsys-"))
        try:
            yield local
            self._publish(local, name, Manifest.of(local, counts or {}))
        finally:
            shutil.rmtree(local, ignore_errors=True)

    def local(self, name: str) -> Path:
        """A local directory with the published files, verified against the manifest.

        Raises:
            MissingDataError: not published. CorruptDataError: a file differs from the manifest.
        """
        manifest = self.manifest(name)
        source = self.path(name)
        if self.is_local:
            directory = Path(source)
        else:
            directory = Path(tempfile.gettempdir()) / "recsys-cache" / manifest.checksum
            directory.mkdir(parents=True, exist_ok=True)
            for file in manifest.files:
                if not (directory / file.name).exists():
                    partial = directory / f".{file.name}.{uuid.uuid4().hex}"
                    self.fs.get_file(f"{source}/{file.name}", str(partial))
                    partial.rename(directory / file.name)
        for file in manifest.files:
            path = directory / file.name
            if not path.is_file() or path.stat().st_size != file.bytes or _sha256(path) != file.sha256:
                raise CorruptDataError(f"{name}/{file.name} in {self.url} does not match its manifest; restore or rebuild it")
        return directory

    def remove(self, name: str) -> None:
        """Move a published directory to ``.trash``."""
        if self.fs.exists(self.path(name)):
            self._to_trash(name)

    def _publish(self, local: Path, name: str, manifest: Manifest) -> None:
        final = self.path(name)
        if self.is_complete(name):
            if self.manifest(name).checksum == manifest.checksum:
                log.info("%s is already there with the same content", name)
                return
            self._to_trash(name)
        elif self.fs.exists(final):
            self._to_trash(name)
        (local / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1))
        (local / SUCCESS).touch()
        if self.is_local:
            local.chmod(0o755)
            local.rename(final)
        else:
            self._upload(local, final, manifest)
        log.info("published %s: %d files, %s", name, len(manifest.files), manifest.counts)

    def _upload(self, local: Path, final: str, manifest: Manifest) -> None:
        parent, base = final.rsplit("/", 1)
        staging = f"{parent}/.staging-{base}-{uuid.uuid4().hex[:8]}"
        self.fs.makedirs(staging, exist_ok=True)
        for path in sorted(local.iterdir()):
            self.fs.put_file(str(path), f"{staging}/{path.name}")
        for file in manifest.files:
            if hashlib.sha256(self.fs.cat_file(f"{staging}/{file.name}")).hexdigest() != file.sha256:
                raise CorruptDataError(f"{staging}/{file.name} reads back differently from what was written")
        self.fs.mv(staging, final)
        if self.fs.exists(f"{final}/.staging") or not self.fs.exists(f"{final}/{SUCCESS}"):
            raise UnavailableError(f"renaming {staging} to {final} failed")

    def _to_trash(self, name: str) -> None:
        target = self.path(f".trash/{uuid.uuid4().hex[:8]}-{name.replace('/', '-')}")
        self.fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
        self.fs.mv(self.path(name), target, recursive=True)
        log.info("moved %s to %s", name, target)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
