"""The tracks of a world, for everyone: names and ids only.

In goes a world directory (``tracks.json``, optionally ``top_tracks.json``: one JSON object a line, the last one a JSON list); out
come a :class:`Catalogue` and the fallback list. What listeners like (embeddings, interests) is not read here: only the simulator
may know it.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson

from recsys.catalog.lines import json_lines, malformed
from recsys.exceptions import WorldError
from recsys.schemas import TOP_LENGTH

TRACKS = "tracks.json"
TOP_TRACKS = "top_tracks.json"

#: Bytes of UTF-8 of what the owner calls a track.
MAX_ID_BYTES = 512


@dataclass(frozen=True)
class Catalogue:
    """The tracks of a world; track i is row i everywhere.

    Attributes:
        artist_of: int32 [size], index of each track's artist in ``artists``.
        artists: names of the distinct artists, in the order in which they first appear by track id.
        titles: [size] titles.
        ids: [size] what the owner calls each track, None where it has no name of its own.
        available: bool [size], whether a track may be recommended; a retired one stays valid in histories and in training.
    """

    artist_of: npt.NDArray[np.int32]
    artists: list[str]
    titles: list[str]
    ids: list[str | None]
    available: npt.NDArray[np.bool_]

    @property
    def size(self) -> int:
        """Number of tracks."""
        return len(self.titles)

    def track_json(self, track: int) -> dict[str, str | int | bool]:
        """The track as its line in ``tracks.json`` has it."""
        line: dict[str, str | int | bool] = {
            "artist": self.artists[self.artist_of[track]],
            "title": self.titles[track],
            "track": track,
        }
        own = self.ids[track]
        if own is not None:
            line["id"] = own
        if not self.available[track]:
            line["available"] = False
        return line

    @cached_property
    def number_of(self) -> dict[str, int]:
        """Tracks by the owner's ids."""
        return {own: track for track, own in enumerate(self.ids) if own is not None}

    @cached_property
    def retired(self) -> frozenset[int]:
        """Tracks that may not be recommended any more."""
        return frozenset(np.flatnonzero(~self.available).tolist())

    def first(self, tracks: int) -> "Catalogue":
        """Its first so many tracks: the catalogue before the others were appended, with what has been retired since."""
        artist_of = self.artist_of[:tracks]
        # Artists are in the order in which they first appear.
        artists = self.artists[: int(artist_of.max(initial=-1)) + 1]
        return Catalogue(artist_of, artists, self.titles[:tracks], self.ids[:tracks], self.available[:tracks])

    def check_grown_from(self, earlier: "Catalogue", where: Path | str, when: str = "before") -> None:
        """See that this catalogue is the earlier one with tracks appended, renamed by their owner's ids, or retired.

        A track is known by its owner's id, or by artist and title where it has none.

        Args:
            where, when: its file, and when or where the tracks were as in the earlier one, for people.

        Raises:
            WorldError: a track has gone, or its number belongs to another track now.
        """
        if self.size < earlier.size:
            raise WorldError(
                f"{where} has {self.size} tracks, fewer than the {earlier.size} {when}; a track stays, and is retired with "
                '"available": false'
            )
        for track in range(earlier.size):
            before, now = earlier.ids[track], self.ids[track]
            if before is None and now is None:
                before, now = earlier._told(track), self._told(track)
            if before != now and before is not None:
                raise WorldError(
                    f"{where}: track {track} is {now!r}, but it was {before!r} {when}; a track keeps its number, and "
                    "new ones are appended"
                )

    def _told(self, track: int) -> str:
        return f"{self.artists[self.artist_of[track]]} - {self.titles[track]}"


def load_tracks(world: Path) -> Catalogue:
    """Read the tracks of a world directory.

    Raises:
        WorldError: see :func:`read_tracks`.
    """
    return read_tracks(world / TRACKS)


def read_tracks(path: Path) -> Catalogue:
    """Read a file of ``{"artist": str, "title": str, "track": int}`` lines, which may also have ``"id"`` and ``"available"``.

    Raises:
        WorldError: the file is missing or empty, a line is not such an object, or the numbers are not 0 to n - 1, each
            once, or an ``"id"`` stands for two tracks, or no track is available.
    """
    found: dict[int, tuple[str, str, str | None, bool]] = {}
    owned: dict[str, int] = {}
    for number, line in json_lines(path):
        try:
            track, artist, title = line["track"], line["artist"], line["title"]
        except KeyError as error:
            raise malformed(path, number, f"field {error.args[0]!r} is missing") from None
        if type(track) is not int or track < 0:
            raise malformed(path, number, f"track is {track!r}, not an integer from 0")
        if type(artist) is not str or type(title) is not str:
            raise malformed(path, number, f"artist {artist!r} and title {title!r} must be text")
        if track in found:
            raise malformed(path, number, f"track {track} appears a second time; ids must be 0 to n - 1, each once")
        own, available = _own_id(path, number, line.get("id")), line.get("available", True)
        if own is not None and owned.setdefault(own, track) != track:
            raise malformed(path, number, f"id {own!r} appears a second time; it is track {owned[own]} already")
        if type(available) is not bool:
            raise malformed(path, number, f"available is {available!r}, not true or false")
        found[track] = artist, title, own, available
    n = len(found)
    if n == 0:
        raise WorldError(f"{path} has no tracks; at least one is needed")
    if max(found) != n - 1:
        missing = next(i for i in range(n) if i not in found)
        raise WorldError(f"{path} has {n} tracks, but no track {missing}; ids must be 0 to {n - 1}, each once")
    ordered = [found[i] for i in range(n)]
    index: dict[str, int] = {}
    artist_of = np.fromiter((index.setdefault(artist, len(index)) for artist, *_ in ordered), np.int32, n)
    _, titles, ids, available = zip(*ordered, strict=True)
    if not any(available):
        raise WorldError(f"{path} has {n} tracks, all of them retired; at least one must be available")
    return Catalogue(artist_of, list(index), list(titles), list(ids), np.array(available, bool))


def _own_id(path: Path, number: int, own: object) -> str | None:
    if own is None:
        return None
    if type(own) is not str or not 0 < len(own.encode(errors="replace")) <= MAX_ID_BYTES:
        raise malformed(path, number, f"id is {str(own)[:80]!r}, not a text of 1 to {MAX_ID_BYTES} bytes")
    return own


def load_top_tracks(world: Path) -> list[int] | None:
    """The TOP 100 fallback list of a world directory, best first, or None if it has none; longer lists are cut.

    Raises:
        WorldError: the file is not a JSON list of distinct non-negative integers.
    """
    path = world / TOP_TRACKS
    if not path.exists():
        return None
    try:
        tracks = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise WorldError(f"{path} is not JSON: {error}") from None
    if type(tracks) is not list:
        raise WorldError(f"{path} must be a JSON list of track ids, not {type(tracks).__name__}")
    for i, track in enumerate(tracks):
        if type(track) is not int or track < 0:
            raise WorldError(f"{path}: item {i} is {track!r}, not a track id (an integer from 0)")
    if len(set(tracks)) != len(tracks):
        raise WorldError(f"{path} names a track twice; every track may stand there once")
    return tracks[:TOP_LENGTH]
