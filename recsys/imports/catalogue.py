"""Tracks of an import and the numbers that they have in the catalogue: known ones keep theirs, new ones are appended.

In go a world directory, which may not be there yet, and tracks by the owner's id, or by artist and title where they have none;
out come their numbers and a ``tracks.json`` that has grown, in one rename. A name that was not known so far is filled in; one
that contradicts what is known is refused, for the id would change its meaning.
"""

import fcntl
import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import orjson

from recsys.catalog import TRACKS, USERS, Catalogue, json_lines, load_tracks, read_tracks
from recsys.catalog.tracks import MAX_ID_BYTES
from recsys.exceptions import InvalidInputError, WorldError
from recsys.imports.tables import Table
from recsys.storage.staging import PREFIX, is_abandoned, staging_name

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

log = logging.getLogger(__name__)


class Named(NamedTuple):
    """What an import calls a track; None stands for what it does not tell."""

    own: str | None
    artist: str | None
    title: str | None


@dataclass
class _Entry:
    """A track of the catalogue. A title that is only its id, and an artist without a name, were not known."""

    own: str | None
    artist: str
    title: str

    def take(self, told: Named) -> bool:
        """Fill in what was not known; whether that was anything.

        Raises:
            InvalidInputError: something else was known.
        """
        before = self.artist, self.title
        if self.title == self.own and told.title is not None:
            self.title = told.title
        if not self.artist and told.artist is not None:
            self.artist = told.artist
        for what, known, given in (("artist", self.artist, told.artist), ("title", self.title, told.title)):
            if given is not None and given != known:
                raise InvalidInputError(
                    f"track {self.own!r} would change its meaning: its {what} is {known!r} in the catalogue, and {given!r} in "
                    f"the import; correct one of them, or leave --{what} out"
                )
        return before != (self.artist, self.title)


class Growth:
    """A catalogue, and what an import makes of it; nothing is written before :meth:`write`.

    Attributes:
        known: tracks before. entries: tracks after.
    """

    def __init__(self, world: Path) -> None:
        self._path = world / TRACKS
        self._catalogue = load_tracks(world) if self._path.exists() else None
        old = self._catalogue
        self.known = old.size if old else 0
        self.entries = [_Entry(own, old.artists[artist], title) for own, artist, title in _rows(old)] if old else []
        self._by_id = {entry.own: number for number, entry in enumerate(self.entries) if entry.own is not None}
        self._by_name: dict[tuple[str, str], int] = {}
        for number, entry in enumerate(self.entries):
            if entry.own is None:
                self._by_name.setdefault((entry.artist, entry.title), number)
        self._filled: set[int] = set()

    def number_of(self, told: Named) -> int:
        """The track's number, which is a new one if it is a new track.

        Raises:
            InvalidInputError: its id would change its meaning.
        """
        if told.own is None:
            name = (told.artist or "", told.title or "")
            number = self._by_name.setdefault(name, len(self.entries))
        else:
            number = self._by_id.setdefault(told.own, len(self.entries))
        if number == len(self.entries):
            self.entries.append(_Entry(told.own, told.artist or "", told.title or told.own or ""))
        elif self.entries[number].take(told) and number < self.known:
            self._filled.add(number)
        return number

    def write(self) -> None:
        """Replace ``tracks.json`` by one with the new tracks behind the others, whose lines stay as they are.

        Raises:
            WorldError: what was written is no catalogue that has grown from the one before.
        """
        if len(self.entries) == self.known and not self._filled:
            return
        directory = self._path.parent
        for path in directory.glob(f"{PREFIX}{TRACKS}.*"):
            if is_abandoned(path.name):
                path.unlink(missing_ok=True)
        partial = directory / staging_name(TRACKS)
        try:
            with partial.open("wb") as file:
                file.writelines(self._lines())
                file.flush()
                os.fsync(file.fileno())
            grown = read_tracks(partial)
            if self._catalogue:
                grown.check_grown_from(self._catalogue, self._path)
            partial.chmod(self._path.stat().st_mode & 0o777 if self._catalogue else 0o644)
            partial.replace(self._path)
        finally:
            partial.unlink(missing_ok=True)
        log.info("%s: %d new tracks, %d names filled in", self._path, len(self.entries) - self.known, len(self._filled))

    def require_own_world(self) -> None:
        """See that no track is appended to a world of simulated listeners, where nobody would know what it is like.

        Raises:
            WorldError: one would be.
        """
        directory = self._path.parent
        if len(self.entries) > self.known and (directory / USERS).exists():
            raise WorldError(
                f"{directory} is a world of simulated listeners, as its {USERS} says: they know its {self.known:,} tracks, and "
                f"{len(self.entries) - self.known:,} tracks of the import are not in it; give the import a place of its own: "
                "RECSYS_VAR, and RECSYS_WORLD if that is set"
            )

    def mark(self, tracks: int) -> str:
        """What tells a catalogue whose first so many tracks are others: digests of their ids, and of their artists and titles."""
        ids, names = hashlib.sha256(), hashlib.sha256()
        for entry in self.entries[:tracks]:
            ids.update(orjson.dumps(entry.own))
            names.update(orjson.dumps((entry.artist, entry.title)))
        return f"{tracks} {ids.hexdigest()[:16]} {names.hexdigest()[:16]}"

    def has_grown_from(self, mark: str) -> bool:
        """Whether the tracks of a :meth:`mark` still have their numbers: their ids are the same, or else their names."""
        tracks, *before = mark.split(" ")
        now = self.mark(int(tracks)).split(" ")[1:]
        return self.known >= int(tracks) and any(old == new for old, new in zip(before, now, strict=True))

    def _lines(self) -> Iterator[bytes]:
        if self._catalogue:
            if self._filled:
                for _, line in json_lines(self._path):
                    number = line["track"]
                    if number in self._filled:
                        entry = self.entries[int(str(number))]
                        line |= {"artist": entry.artist, "title": entry.title}
                    yield orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
            else:
                yield self._path.read_bytes().rstrip() + b"\n"
        for number, entry in enumerate(self.entries[self.known :], self.known):
            line = {"artist": entry.artist, "title": entry.title, "track": number}
            yield orjson.dumps(line | ({} if entry.own is None else {"id": entry.own}), option=orjson.OPT_APPEND_NEWLINE)


def _rows(catalogue: Catalogue) -> Iterator[tuple[str | None, int, str]]:
    return zip(catalogue.ids, catalogue.artist_of.tolist(), catalogue.titles, strict=True)


def read_names(db: "DuckDBPyConnection", table: Table) -> list[Named]:
    """The tracks of a table with the column id, and artist and title where it has them.

    Raises:
        InvalidInputError: it has no such column, cannot be read, or a row of it has no id or too long a one.
    """
    import duckdb

    held = [name for name in ("artist", "title") if name in table.names]
    try:
        rows = db.execute(table.select({name: name for name in ("id", *held)})).fetchall()
        broken = db.execute("SELECT min(line) FROM reject_errors").fetchone() if table.kind == "text" else None
    except duckdb.Error as error:
        raise InvalidInputError(f"{table.path} cannot be read: {str(error).splitlines()[0][:300]}") from None
    if broken and broken[0]:
        raise InvalidInputError(f"line {broken[0]} of {table.path} is not a row of the table; correct it")
    found = []
    for number, own, *names, line in rows:
        if line is not None or own is None or len(own.encode()) > MAX_ID_BYTES:
            raise InvalidInputError(
                f"row {number} of {table.path} has {'no id' if own is None else f'the id {own[:50]!r}'}; an id has 1 to "
                f"{MAX_ID_BYTES} bytes"
            )
        told = dict(zip(held, names, strict=True))
        found.append(Named(own, told.get("artist"), told.get("title")))
    return found


@contextmanager
def alone(world: Path) -> Iterator[None]:
    """Make the world directory, which stays if something is written, and keep others from letting its catalogue grow; they wait.

    Raises:
        WorldError: it is no directory.
    """
    if world.exists() and not world.is_dir():
        raise WorldError(f"world {world} is no directory; name one, or one that is to be made")
    is_new = not world.exists()
    world.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(world, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
        if is_new:
            # Nothing was written, so nothing stays.
            with suppress(OSError):
                world.rmdir()
