"""What a version holds, read from files.

In goes a directory with recommendations.json, top_tracks.json, neighbours.npy and, if the session-aware arm was trained,
sessions.npz and tastes.npy; out comes a :class:`Content`, whose checksum gives the version its name ``D-<8 hexadecimal digits>``.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import orjson

from recsys.catalog import MAX_USER, Catalogue, number_of
from recsys.exceptions import InvalidInputError, MissingDataError
from recsys.schemas import LIST_LENGTH, NEIGHBOURS, TOP_LENGTH
from recsys.storage.layout import Dated, parse_date
from recsys.storage.store import Storage
from recsys.versions import keyspace

#: File of the users' lists.
LISTS = "recommendations.json"
#: Label of a directory of lists that names the version which they make.
VERSION = "version"
#: Lists that a person has published, a directory a version.
PUBLISHED = "published"


class Digest:
    """SHA-256 of a version's content, as it is made: users by ascending id, then the catalogue-sized parts."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, user: int, packed: bytes) -> None:
        """The next user's entry; users below 2**32 are four bytes, as they always were, so that versions keep their names."""
        self._digest.update(user.to_bytes(4 if user < 2**32 else 8, "little") + packed)

    def hexadecimal(self, top: bytes, neighbours: bytes, sessions: bytes) -> str:
        """The whole, once every user has been added."""
        digest = self._digest.copy()
        digest.update(top + neighbours + sessions)
        return digest.hexdigest()


@dataclass(frozen=True)
class Content:
    """A version's content: packed list (and groups) by user, packed TOP 100, packed neighbours, session lists."""

    lists: dict[int, bytes]
    top: bytes
    neighbours: bytes
    sessions: bytes = b""

    @property
    def checksum(self) -> str:
        """Hexadecimal SHA-256 over all of it."""
        digest = Digest()
        for user in sorted(self.lists):
            digest.add(user, self.lists[user])
        return digest.hexadecimal(self.top, self.neighbours, self.sessions)

    def version(self, log_date: date) -> str:
        """The name of the version that this is, of a log date."""
        return version_name(log_date, self.checksum)


def read_content(
    recommendations: Path, top: Path, neighbours: Path | None, catalogue: Catalogue | None = None, sessions: Path | None = None
) -> Content:
    """Read the original's file formats (and ``neighbours.npy``, uint32 [tracks, 20], and ``sessions.npz``).

    Args:
        catalogue: what tracks are checked against, if they are: all must be its own, and none retired.

    Raises:
        MissingDataError: a file is absent. InvalidInputError: a line is malformed; the message names file and line.
    """
    for path in (recommendations, top, *([neighbours] if neighbours else [])):
        if not path.is_file():
            raise MissingDataError(f"{path} is missing; run the recommend step or name another file")
    lists = {user: keyspace.pack(listed) for user, listed in lists_in(recommendations, catalogue)}
    if not lists:
        raise InvalidInputError(f"{recommendations} has no users; at least one must have a list")
    try:
        popular = json.loads(top.read_bytes())
        _check_list(popular, catalogue, None)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{top} is not a list of tracks: {error}") from None
    rows = _read_neighbours(neighbours, catalogue) if neighbours else b""
    return Content(lists, keyspace.pack(popular[:TOP_LENGTH]), rows, sessions.read_bytes() if sessions else b"")


def _read_neighbours(path: Path, catalogue: Catalogue | None) -> bytes:
    """The packed neighbours of every track."""
    tracks = catalogue.size if catalogue else None
    try:
        table = np.load(path, allow_pickle=False)
        shape = table.shape
    except Exception as error:  # NumPy raises what its parser of headers raises, a SyntaxError too; an archive has no shape
        raise InvalidInputError(f"{path} is not an array in NumPy's format: {error}") from None
    if len(shape) != 2 or shape[1] != NEIGHBOURS or shape[0] != (shape[0] if tracks is None else tracks):
        raise InvalidInputError(f"{path} has shape {shape}; it must be [{tracks or 'tracks'}, {NEIGHBOURS}]: a row a track")
    if table.dtype.kind not in "iu":
        raise InvalidInputError(f"{path} holds {table.dtype}; it must hold whole numbers, the ids of tracks")
    strange = table[(table < 0) | (table >= (tracks or keyspace.TASTE))]
    if strange.size:
        raise InvalidInputError(f"{path} names track {strange[0]}, which is not in the catalogue of {tracks or keyspace.TASTE}")
    if catalogue:
        # A row with fewer than 20 neighbours is filled with its own track.
        others = table[table != np.arange(len(table))[:, None]]
        retired = others[~catalogue.available[others]]
        if retired.size:
            raise InvalidInputError(f"{path} names track {retired[0]}, which is retired; leave it out")
    return np.ascontiguousarray(table, dtype="<u4").tobytes()


def lists_in(recommendations: Path, catalogue: Catalogue | None = None) -> Iterator[tuple[int, list[int]]]:
    """Users and their tracks, a line a user; who is called by a text is given by that text's number.

    Args:
        catalogue: what tracks are checked against, if they are: all must be its own, and none retired.

    Raises:
        InvalidInputError: a line is malformed; the message names file and line.
    """
    seen: set[int] = set()
    with recommendations.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                record = orjson.loads(line)
                user, listed = record["user"], record["tracks"]
                if type(user) is str:
                    user = number_of(user)
                if type(user) is not int or not 0 <= user < MAX_USER:
                    raise ValueError(f"user {user!r} must be an integer from 0 to {MAX_USER - 1}, or a text")
                if user in seen:
                    raise ValueError(f"user {user} appears a second time; a user has one list")
                seen.add(user)
                _check_list(listed, catalogue, LIST_LENGTH)
            except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, InvalidInputError) as error:
                raise InvalidInputError(f"{recommendations} line {number} is not a user's list: {error}") from None
            yield user, listed


def read_directory(directory: Path) -> Content:
    """The content of a recommendations directory."""
    sessions, neighbours = directory / "sessions.npz", directory / "neighbours.npy"
    content = read_content(
        directory / LISTS,
        directory / "top_tracks.json",
        neighbours if neighbours.exists() else None,
        sessions=sessions if sessions.exists() else None,
    )
    if sessions.exists():
        for user, *numbers in np.load(directory / "tastes.npy", allow_pickle=False).tolist():
            content.lists[user] += keyspace.pack_taste(number for number in numbers if number >= 0)
    return content


def name_of(store: Storage, version: str) -> str:
    """Name of the directory with the files of a version: that of its night, or what a person has published.

    Raises:
        MissingDataError: there is none, or the files of its log date are another version's by now.
    """
    published = f"{PUBLISHED}/version={version}"
    if store.is_complete(published):
        return published
    log_date = version_date(version)
    name = Dated.RECOMMENDATIONS.on(log_date)
    if not store.is_complete(name):
        raise MissingDataError(f"the lists of version {version} are not in {store.url}: there is no {name}")
    found = store.manifest(name).labels.get(VERSION) or read_directory(store.local(name)).version(log_date)
    if found != version:
        raise MissingDataError(f"the lists of version {version} are not in {store.url}: {name} holds {found} by now")
    return name


def directory_of(store: Storage, version: str) -> Path:
    """Local directory with the files of a version, as :func:`name_of`."""
    return store.local(name_of(store, version))


def keep_files(store: Storage, version: str, recommendations: Path, top: Path, neighbours: Path | None) -> None:
    """Keep the files of a version that a person publishes, so that nights, explanations and a restored Redis find its lists."""
    with store.stage(f"{PUBLISHED}/version={version}", labels={VERSION: version}) as staging:
        for path, name in ((recommendations, LISTS), (top, "top_tracks.json"), (neighbours, "neighbours.npy")):
            if path is not None:
                shutil.copyfile(path, staging / name)


def version_name(log_date: date, checksum: str) -> str:
    """The name of a version: its log date and the first 8 digits of its checksum."""
    return f"{log_date}-{checksum[:8]}"


def version_date(version: str) -> date:
    """The log date of a version ``D-<8 hexadecimal digits>``.

    >>> version_date("2026-11-23-0a1b2c3d")
    datetime.date(2026, 11, 23)

    Raises:
        InvalidInputError: it has another form.
    """
    mark = version[11:]
    if len(mark) != 8 or version[10:11] != "-" or any(c not in "0123456789abcdef" for c in mark):
        raise InvalidInputError(f"version {version!r} is not of the form YYYY-MM-DD-<8 hexadecimal digits>; see 'recsys nights'")
    return parse_date(version[:10], "date of version")


def _check_list(listed: object, catalogue: Catalogue | None, length: int | None) -> None:
    if not isinstance(listed, list) or not listed or not all(type(t) is int and t >= 0 for t in listed):
        raise ValueError("tracks must be a non-empty list of track ids")
    if length is not None and len(listed) > 4 * length:
        raise ValueError(f"{len(listed)} tracks are more than a list may have")
    tracks = catalogue.size if catalogue else keyspace.TASTE
    if max(listed) >= tracks:
        raise ValueError(f"track {max(listed)} is not in the catalogue of {tracks}")
    retired = catalogue.retired.intersection(listed) if catalogue else None
    if retired:
        raise ValueError(f"track {min(retired)} is retired; leave it out")
