"""Dated directories that appear atomically, on a local disk (``file://``) or on HDFS (``webhdfs://``), through fsspec.

In goes a local staging directory; out comes, after one rename, a directory with its files, ``manifest.json`` (counts, bytes,
checksums, schema version) and ``_SUCCESS``. Readers see all of it or nothing. A directory that is published again with the same
content is left alone; one with another content, or a damaged one, moves to ``.trash`` first. What a killed writer leaves is an
unfinished directory that nobody reads: the next writer of the same name removes it, as does :meth:`Storage.sweep`.
"""

import errno
import hashlib
import logging
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

import fsspec

from recsys import urls
from recsys.exceptions import ConflictError, CorruptDataError, InvalidInputError, MissingDataError, UnavailableError
from recsys.storage import copies
from recsys.storage.document import Readable
from recsys.storage.layout import parse_date
from recsys.storage.manifest import SUCCESS, Manifest
from recsys.storage.staging import PREFIX, is_abandoned, is_staging, staging_name

log = logging.getLogger(__name__)

D = TypeVar("D", bound=Readable)

TRASH = ".trash"
#: Parts of a name; what HDFS or a shell would read otherwise is left out.
_PART = re.compile(r"[\w.=@,+-]+")
_STAMP = "%Y%m%dT%H%M%SZ"


class Storage:
    """The root below which every artefact of every night stands.

    Args:
        url: ``file:///absolute/root`` or ``webhdfs://[user@]host[:port]/absolute/root``; ``RECSYS_HDFS_…`` variables say how HDFS
            is reached (:class:`recsys.settings.HdfsOptions`).
    """

    def __init__(self, url: str) -> None:
        scheme = urls.split(url, "storage").scheme
        # Two colons would let fsspec chain filesystems; a URL of HDFS is not read by it.
        if scheme not in ("file", "webhdfs") or (scheme == "file" and "::" in url):
            raise InvalidInputError(
                f"storage {url!r} is not a URL of a known kind; give file:///path or webhdfs://host:port/path"
            )
        self.url = url.rstrip("/")
        self.is_local = scheme == "file"
        self.fs: fsspec.AbstractFileSystem
        self.root: str
        self.fs, self.root = fsspec.core.url_to_fs(url) if self.is_local else _hdfs(url)

    def path(self, name: str) -> str:
        """Absolute path of a directory of the store.

        Raises:
            InvalidInputError: the name is empty, absolute, climbs out with ``..`` or through a symbolic link, or is reserved.
        """
        parts = name.split("/")
        if not name or name.startswith("/") or any(part in ("", ".", "..") for part in parts):
            raise InvalidInputError(f"storage name {name!r} must be relative, without empty parts, '.' or '..'")
        if not all(_PART.fullmatch(part) and not part.startswith(PREFIX) for part in parts):
            raise InvalidInputError(
                f"storage name {name!r} may hold letters, digits and _.=@,+- and no part may begin with {PREFIX}"
            )
        path = f"{self.root.rstrip('/')}/{name}"
        if self.is_local and not Path(path).resolve().is_relative_to(Path(self.root).resolve()):
            raise InvalidInputError(f"storage name {name!r} leaves {self.root} through a symbolic link to {Path(path).resolve()}")
        return path

    def is_complete(self, name: str) -> bool:
        """Whether the directory has been published."""
        return bool(self.fs.exists(f"{self.path(name)}/{SUCCESS}"))

    def is_intact(self, name: str) -> bool:
        """Whether the directory has been published, and every file of it is as its manifest says; reads all of it."""
        try:
            files = self.manifest(name).files
            return all(self._sha256(f"{self.path(name)}/{file.name}") == file.sha256 for file in files)
        except (MissingDataError, CorruptDataError, FileNotFoundError):
            return False

    def manifest(self, name: str) -> Manifest:
        """The manifest of a published directory.

        Raises:
            MissingDataError: it has not been published. CorruptDataError: its manifest cannot be read.
        """
        if not self.is_complete(name):
            raise MissingDataError(f"{name} is not in {self.url} (no {SUCCESS}); run the step that writes it first")
        return Manifest.parse(self._content(name, Manifest.FILE), f"{name}/{Manifest.FILE} in {self.url}")

    def dates(self, prefix: str) -> list[date]:
        """Dates D for which ``<prefix>/date=D`` has been published, ascending; what else is named ``date=…`` is left out."""
        dated = {entry: self._date(prefix, entry) for entry in self._entries(self.path(prefix)) if entry.name.startswith("date=")}
        strays = sorted(entry.name for entry, day in dated.items() if day is None)
        if strays:
            log.warning(
                "left out of %s in %s, for they are no dated directories: %s", prefix, self.url, ", ".join(map(repr, strays))
            )
        return sorted(day for day in dated.values() if day and self.is_complete(f"{prefix}/date={day}"))

    def read(self, kind: type[D], name: str) -> D:
        """The document of a kind that was published in a directory.

        Raises:
            MissingDataError: not published, or without such a file. CorruptDataError: the file differs from the manifest, or is
                no such document.
        """
        return kind.parse(self.read_bytes(name, kind.FILE), f"{name}/{kind.FILE} in {self.url}")

    def read_bytes(self, name: str, file: str) -> bytes:
        """One file of a published directory, as it was published.

        Raises:
            MissingDataError: not published, or without such a file. CorruptDataError: the file differs from the manifest.
        """
        wanted = next((f.sha256 for f in self.manifest(name).files if f.name == file), None)
        if wanted is None:
            raise MissingDataError(f"{name} in {self.url} holds no {file}; run the step that writes it again")
        content = self._content(name, file)
        if hashlib.sha256(content).hexdigest() != wanted:
            raise CorruptDataError(f"{name}/{file} in {self.url} does not match its manifest; restore or rebuild it")
        return content

    def _content(self, name: str, file: str) -> bytes:
        """A file's bytes; none if it is not there."""
        try:
            return bytes(self.fs.cat_file(f"{self.path(name)}/{file}"))
        except FileNotFoundError:
            return b""

    def require_writable(self) -> None:
        """Raise what the system (OSError) or HDFS raises unless directories can be made: before what must be recorded here."""
        probe = f"{self.root.rstrip('/')}/{staging_name('probe')}"
        self.fs.makedirs(probe, exist_ok=True)
        self.fs.rm(probe, recursive=True)

    @contextmanager
    def stage(
        self, name: str, counts: Mapping[str, int] | None = None, labels: Mapping[str, str] | None = None
    ) -> Iterator[Path]:
        """Give a local directory to write into; publish it as ``name`` when the block ends without an error.

        Args:
            counts, labels: for the manifest; the block may still fill them.

        Raises:
            UnavailableError: the disk or HDFS is full or away. ConflictError: another writer published the name meanwhile.
            CorruptDataError: what was written reads back differently.
        """
        parent, base = self.path(name).rsplit("/", 1)
        self._remove_abandoned(parent, base)
        beside = Path(parent) if self.is_local else copies.scratch()
        try:
            beside.mkdir(mode=0o755 if self.is_local else 0o700, parents=True, exist_ok=True)
            local = beside / staging_name(base)
            local.mkdir()
            try:
                yield local
                self._publish(local, name, Manifest.of(local, counts or {}, labels))
            finally:
                shutil.rmtree(local, ignore_errors=True)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise UnavailableError(
                f"no space is left below {beside} to write {name}; free some, or run 'recsys storage clean' ({error})"
            ) from error

    def local(self, name: str) -> Path:
        """A local directory with the published files, verified against the manifest.

        Raises:
            MissingDataError: not published. CorruptDataError: a file differs from the manifest.
        """
        manifest = self.manifest(name)
        source = self.path(name)
        directory = Path(source) if self.is_local else copies.copy_of(manifest.checksum)
        for file in manifest.files:
            path = directory / file.name
            if not self.is_local and not file.matches(path):
                partial = directory / f".{file.name}.{uuid.uuid4().hex}"
                self.fs.get_file(f"{source}/{file.name}", str(partial))
                partial.rename(path)
            if not file.matches(path):
                raise CorruptDataError(f"{name}/{file.name} in {self.url} does not match its manifest; restore or rebuild it")
        return directory

    def remove(self, name: str) -> None:
        """Move a published directory to ``.trash``."""
        if self.fs.exists(self.path(name)):
            self._to_trash(name)

    def sweep(self, days: float) -> list[str]:
        """Delete what nobody will read: trash and unfinished directories older than ``days``, and those of dead writers.

        Returns:
            The paths that were deleted, ascending.
        """
        before = datetime.now(UTC) - timedelta(days=days)
        old = [entry.path for entry in self._entries(f"{self.root.rstrip('/')}/{TRASH}") if _trashed(entry.name) < before]
        old += [e.path for e in self._unfinished(self.root.rstrip("/")) if is_abandoned(e.name) or e.modified < before]
        for path in old:
            self.fs.rm(path, recursive=True)
        return sorted([*old, *([] if self.is_local else copies.forget(before))])

    def _date(self, prefix: str, entry: "_Entry") -> date | None:
        """The date of a dated directory, or None: a file, another name, a link that leaves the root or goes round in a circle."""
        try:
            self.path(f"{prefix}/{entry.name}")
            return None if entry.kind == "file" else parse_date(entry.name.removeprefix("date="))
        except (InvalidInputError, RuntimeError):
            return None

    def _publish(self, local: Path, name: str, manifest: Manifest) -> None:
        if self._holds(name, manifest) and self.is_intact(name):
            log.info("%s is already there with the same content", name)
            return
        final = self.path(name)
        manifest.write(local)
        (local / SUCCESS).touch()
        local.chmod(0o755)
        staging = str(local) if self.is_local else f"{final.rsplit('/', 1)[0]}/{local.name}"
        try:
            if not self.is_local:
                self._upload(local, staging, manifest)
            if self.fs.exists(final):
                self._to_trash(name)
            self._rename(staging, final)
        except ConflictError:
            # Another writer was faster; the same content is a success.
            if not self._holds(name, manifest):
                raise
        finally:
            if not self.is_local:
                self.fs.discard(staging)
        if not self._holds(name, manifest):
            raise CorruptDataError(f"{name} in {self.url} is not what was published; another writer is at work on it")
        log.info("published %s: %d files, %s", name, len(manifest.files), manifest.counts)

    def _holds(self, name: str, manifest: Manifest) -> bool:
        try:
            return self.manifest(name).checksum == manifest.checksum
        except (MissingDataError, CorruptDataError):
            return False

    def _sha256(self, path: str) -> str:
        with self.fs.open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _upload(self, local: Path, staging: str, manifest: Manifest) -> None:
        self.fs.makedirs(staging, exist_ok=True)
        for file in manifest.files:
            self.fs.put_file(str(local / file.name), f"{staging}/{file.name}")
        for file in manifest.files:
            if self._sha256(f"{staging}/{file.name}") != file.sha256:
                raise CorruptDataError(f"{staging}/{file.name} reads back differently from what was written")
        for name in (Manifest.FILE, SUCCESS):
            self.fs.put_file(str(local / name), f"{staging}/{name}")

    def _rename(self, source: str, target: str) -> None:
        if not self.is_local:
            self.fs.mv(source, target)
            return
        try:
            Path(source).rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            raise ConflictError(f"{target} exists already, so {source} was not renamed") from None

    def _to_trash(self, name: str) -> None:
        stamp = datetime.now(UTC).strftime(_STAMP)
        target = f"{self.root.rstrip('/')}/{TRASH}/{stamp}-{uuid.uuid4().hex[:8]}-{name.replace('/', '-')}"
        self.fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
        self._rename(self.path(name), target)
        log.info("moved %s to %s", name, target)

    def _remove_abandoned(self, parent: str, base: str) -> None:
        for entry in self._entries(parent):
            if is_staging(entry.name, base) and is_abandoned(entry.name):
                log.info("removing %s, which a killed writer left", entry.path)
                self.fs.rm(entry.path, recursive=True)

    def _unfinished(self, directory: str, depth: int = 4) -> Iterator["_Entry"]:
        for entry in self._entries(directory):
            if entry.name.startswith(PREFIX):
                yield entry
            elif depth and entry.is_directory and entry.name != TRASH:
                yield from self._unfinished(entry.path, depth - 1)

    def _entries(self, directory: str) -> list["_Entry"]:
        try:
            found = self.fs.ls(directory, detail=True)
        except FileNotFoundError:
            return []
        return [_Entry.of(info) for info in found]


@dataclass(frozen=True)
class _Entry:
    """What a directory lists; ``kind`` is directory, file or something else, such as a link."""

    path: str
    kind: str
    modified: datetime

    @property
    def is_directory(self) -> bool:
        return self.kind == "directory"

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @classmethod
    def of(cls, info: Mapping[str, str | float]) -> "_Entry":
        seconds = float(info["mtime"]) if "mtime" in info else float(info["modificationTime"]) / 1000
        return cls(str(info["name"]).rstrip("/"), str(info["type"]), datetime.fromtimestamp(seconds, UTC))


def _hdfs(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    from recsys.storage.webhdfs import StrictWebHdfs

    parts = urls.split(url, "storage")
    if not parts.hostname or ".." in parts.path.split("/"):
        raise InvalidInputError(f"storage {url!r} must be of the form webhdfs://[user@]host[:port]/path, without '..'")
    return StrictWebHdfs(parts.hostname, parts.port or 9870, unquote(parts.username or "")), parts.path.rstrip("/") or "/"


def _trashed(name: str) -> datetime:
    try:
        return datetime.strptime(name.partition("-")[0], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
