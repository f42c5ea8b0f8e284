"""Tracks and users of a world, for everyone: names and ids only.

In goes a world directory (``tracks.json``, ``users.json``, optionally ``top_tracks.json``: one JSON object a line, the last one a
JSON list); out come a :class:`Catalogue`, the user ids and the fallback list. What listeners like (embeddings, interests) is not
read here: only the simulator may know it.
"""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson

from recsys.exceptions import WorldError
from recsys.schemas import TOP_LENGTH

TRACKS = "tracks.json"
USERS = "users.json"
TOP_TRACKS = "top_tracks.json"

#: User ids end below this, so that they fit a signed 32-bit column.
MAX_USER = 2**31


@dataclass(frozen=True)
class Catalogue:
    """The tracks of a world; track i is row i everywhere.

    Attributes:
        artist_of: int32 [size], index of each track's artist in ``artists``.
        artists: names of the distinct artists, in the order in which they first appear by track id.
        titles: [size] titles.
    """

    artist_of: npt.NDArray[np.int32]
    artists: list[str]
    titles: list[str]

    @property
    def size(self) -> int:
        """Number of tracks."""
        return len(self.titles)

    def track_json(self, track: int) -> dict[str, str | int]:
        """The track as its line in ``tracks.json`` has it."""
        return {"artist": self.artists[self.artist_of[track]], "title": self.titles[track], "track": track}


def load_tracks(world: Path) -> Catalogue:
    """Read the tracks of a world directory.

    Raises:
        WorldError: see :func:`read_tracks`.
    """
    return read_tracks(world / TRACKS)


def read_tracks(path: Path) -> Catalogue:
    """Read a file of ``{"artist": str, "title": str, "track": int}`` lines.

    Raises:
        WorldError: the file is missing or empty, a line is not such an object, or the ids are not 0 to n - 1, each once.
    """
    found: dict[int, tuple[str, str]] = {}
    for number, line in json_lines(path):
        try:
            track, artist, title = line["track"], line["artist"], line["title"]
        except KeyError as error:
            raise _malformed(path, number, f"field {error.args[0]!r} is missing") from None
        if type(track) is not int or track < 0:
            raise _malformed(path, number, f"track is {track!r}, not an integer from 0")
        if type(artist) is not str or type(title) is not str:
            raise _malformed(path, number, f"artist {artist!r} and title {title!r} must be text")
        if track in found:
            raise _malformed(path, number, f"track {track} appears a second time; ids must be 0 to n - 1, each once")
        found[track] = artist, title
    n = len(found)
    if n == 0:
        raise WorldError(f"{path} has no tracks; at least one is needed")
    if max(found) != n - 1:
        missing = next(i for i in range(n) if i not in found)
        raise WorldError(f"{path} has {n} tracks, but no track {missing}; ids must be 0 to {n - 1}, each once")
    ordered = [found[i] for i in range(n)]
    index: dict[str, int] = {}
    artist_of = np.fromiter((index.setdefault(artist, len(index)) for artist, _ in ordered), np.int32, n)
    return Catalogue(artist_of, list(index), [title for _, title in ordered])


def load_users(world: Path) -> npt.NDArray[np.int64]:
    """Ids of the users of a world directory, ascending.

    Raises:
        WorldError: the file is missing or empty, or a line is not an object with an unused id in ``user``.
    """
    path = world / USERS
    seen: set[int] = set()
    for number, line in json_lines(path):
        seen.add(user_id(path, number, line, seen))
    if not seen:
        raise WorldError(f"{path} has no users; at least one is needed")
    return np.array(sorted(seen), np.int64)


def user_id(path: Path, number: int, line: Mapping[str, object], seen: Container[int]) -> int:
    """The checked ``user`` of a line of a users file; ``seen`` holds the ids of the lines before.

    Raises:
        WorldError: absent, not an integer from 0 to 2**31 - 1, or seen before.
    """
    if "user" not in line:
        raise _malformed(path, number, "field 'user' is missing")
    user = line["user"]
    if type(user) is not int or not 0 <= user < MAX_USER:
        raise _malformed(path, number, f"user is {user!r}, not an integer from 0 to {MAX_USER - 1}")
    if user in seen:
        raise _malformed(path, number, f"user {user} appears a second time; ids must be unique")
    return user


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


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Line numbers (from 1) and objects of a file with one JSON object a line; empty lines at its end do not count.

    Raises:
        WorldError: the file cannot be read, or a line is not a JSON object; names the file and the line.
    """
    try:
        lines = path.read_bytes().rstrip().split(b"\n")
    except OSError as error:
        raise WorldError(f"{path} cannot be read ({error.strerror}); give a world directory, or write one first") from None
    if lines == [b""]:
        return
    loads = orjson.loads
    for number, line in enumerate(lines, 1):
        try:
            data = loads(line)
        except orjson.JSONDecodeError as error:
            raise _malformed(path, number, f"not JSON ({error}): {line[:80]!r}") from None
        if type(data) is not dict:
            raise _malformed(path, number, f"{line[:80]!r} is not a JSON object")
        yield number, data


def _malformed(path: Path, number: int, what: str) -> WorldError:
    return WorldError(f"{path} line {number}: {what}")
