"""What a world's files say, followed while the service runs.

In goes a directory with ``tracks.json`` and, where they are there, ``top_tracks.json`` and ``tracks_recs.json`` (the original's
neighbours: ``{"track": 7, "recommendations": [3, 9, …]}`` a line); out comes a :class:`World`, and another one once a file has
changed. A file that cannot be taken changes nothing: what was read before goes on.
"""

import logging
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from recsys import catalog
from recsys.catalog.lines import malformed
from recsys.exceptions import WorldError
from recsys.schemas import TOP_LENGTH
from recsys.service.choose import Stock
from recsys.service.requests import Known

log = logging.getLogger(__name__)

NEIGHBOURS = "tracks_recs.json"
#: Track numbers end below this: they are packed as 32-bit integers.
_END = 2**31

T = TypeVar("T")


class Neighbours:
    """Tracks that go with a track, as the owner of a world lists them.

    Args:
        lists: each track's.
    """

    def __init__(self, lists: "Mapping[int, array[int]]") -> None:
        self._lists = lists
        self._end = max((max(listed) + 1 for listed in lists.values() if listed), default=0)

    def near(self, track: int) -> Sequence[int]:
        """The neighbours of a track; empty if it has none."""
        return self._lists.get(track, ())

    def beyond(self, size: int) -> set[int]:
        """The tracks from ``size`` on among them."""
        if self._end <= size:
            return set()
        return {track for listed in self._lists.values() for track in listed if track >= size}


@dataclass(frozen=True)
class World:
    """One state of a world's files.

    Attributes:
        tracks: the catalogue. top: the TOP 100, before a version is live. neighbours: the world's own, for versions without.
        known: what events may name. stock: what may be answered.
    """

    tracks: catalog.Catalogue
    top: tuple[int, ...]
    neighbours: Neighbours | None
    known: Known
    stock: Stock

    @classmethod
    def of(cls, tracks: catalog.Catalogue, top: Sequence[int] | None = None, neighbours: Neighbours | None = None) -> "World":
        """A world of live listeners: they also play what the catalogue does not know yet.

        Args:
            top: without one, the first available tracks.
        """
        if top is None:
            top = np.flatnonzero(tracks.available)[:TOP_LENGTH].tolist()
        known = Known(tracks.size, tracks.number_of, strict=False)
        return cls(tracks, tuple(top), neighbours, known, _stock(tracks.size, tracks.retired, top, neighbours))

    def of_run(self, size: int, retired: frozenset[int]) -> "World":
        """The same files for a run that has a catalogue of its own: no other tracks are played or answered.

        Args:
            size: 0: that of these files.
        """
        size = size or self.tracks.size
        known = Known(size, self.tracks.number_of, strict=True)
        return replace(self, known=known, stock=_stock(size, retired, self.top, self.neighbours))

    def id_of(self, track: int) -> str | None:
        """What its owner calls a track, if anything."""
        ids = self.tracks.ids
        return ids[track] if track < len(ids) else None


def _stock(size: int, retired: frozenset[int], top: Sequence[int], neighbours: Neighbours | None) -> Stock:
    named = neighbours.beyond(size) if neighbours else set()
    return Stock.of(size, retired).without(named.union(track for track in top if track >= size))


class Follower:
    """The files of a directory, read now and whenever they change.

    Raises:
        WorldError: a file is missing or malformed now.
    """

    def __init__(self, directory: Path) -> None:
        self._tracks = _File(directory / catalog.TRACKS, _read_tracks)
        self._top = _File(directory / catalog.TOP_TRACKS, lambda _path, _before: catalog.load_top_tracks(directory))
        self._neighbours = _File(directory / NEIGHBOURS, _read_neighbours)
        self.world = self._read()

    @property
    def trouble(self) -> str:
        """Which file has changed into one that cannot be taken, and why; empty if none has."""
        return "; ".join(filter(None, (file.trouble for file in (self._tracks, self._top, self._neighbours))))

    def look(self) -> bool:
        """Whether there is another world now. Reading one takes a while: call this in a thread, one call at a time."""
        changed = [self._tracks.has_changed()]
        if not self._tracks.trouble:
            # Else they may be another world's. They wait for one look more, as tracks.json may be about to be replaced, too.
            changed += [file.has_changed(settled=True) for file in (self._top, self._neighbours)]
        if not any(changed):
            return False
        self.world = self._read()
        return True

    def _read(self) -> World:
        return World.of(self._tracks.content, self._top.content, self._neighbours.content)


class _File(Generic[T]):
    """A file and what was last read of it.

    Args:
        read: reads the path; gets what was read before, None at first.
    """

    def __init__(self, path: Path, read: Callable[[Path, T | None], T]) -> None:
        self._path, self._read = path, read
        self._mark = self._seen = self._look()
        self.content = read(path, None)
        self.trouble = ""

    def has_changed(self, *, settled: bool = False) -> bool:
        """Read it again if it is another file, or another state of it, than before; whether something new was taken.

        Args:
            settled: wait until it is the same at two looks.
        """
        seen, self._seen = self._seen, self._look()
        mark = self._seen
        if mark == self._mark or (settled and mark != seen):
            return False
        # Looked at before it is read: what changes meanwhile is read again.
        self._mark = mark
        try:
            self.content = self._read(self._path, self.content)
        except (WorldError, OSError) as error:
            if not self.trouble:
                log.error("%s has changed, but cannot be taken; what was read before goes on: %s", self._path, error)
            self.trouble = f"{self._path.name} cannot be taken: {error}"
            return False
        log.info("%s has changed and is taken", self._path)
        self.trouble = ""
        return True

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def _read_tracks(path: Path, before: catalog.Catalogue | None) -> catalog.Catalogue:
    tracks = catalog.read_tracks(path)
    if before is not None:
        tracks.check_grown_from(before, path)
    return tracks


def _read_neighbours(path: Path, _before: Neighbours | None) -> Neighbours | None:
    if not path.exists():
        return None
    lists: dict[int, array[int]] = {}
    for number, line in catalog.json_lines(path):
        track, listed = line.get("track"), line.get("recommendations")
        if type(track) is not int or not 0 <= track < _END or track in lists:
            raise malformed(path, number, f"track is {track!r}, not an integer from 0 that no line before has")
        if type(listed) is not list or not all(type(other) is int and 0 <= other < _END for other in listed):
            raise malformed(path, number, f"recommendations is {str(listed)[:80]}, not a list of tracks")
        lists[track] = array("I", listed)
    return Neighbours(lists)
