"""What a version holds, read from files.

In goes a directory with recommendations.json, top_tracks.json, neighbours.npy and, if the session-aware arm was trained,
sessions.npz and tastes.npy; out comes a :class:`Content`, whose checksum gives the version its name ``D-<8 hexadecimal digits>``.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import orjson

from recsys.exceptions import InvalidInputError, MissingDataError
from recsys.schemas import LIST_LENGTH, NEIGHBOURS, TOP_LENGTH, parse_date
from recsys.versions import keyspace


@dataclass(frozen=True)
class Content:
    """A version's content: packed list (and groups) by user, packed TOP 100, packed neighbours, session lists."""

    lists: dict[int, bytes]
    top: bytes
    neighbours: bytes
    sessions: bytes = b""

    @property
    def checksum(self) -> str:
        """Hexadecimal SHA-256 over users in ascending order, the TOP 100 and the catalogue-sized parts."""
        digest = hashlib.sha256()
        for user in sorted(self.lists):
            digest.update(user.to_bytes(4, "little") + self.lists[user])
        digest.update(self.top + self.neighbours + self.sessions)
        return digest.hexdigest()


def read_content(
    recommendations: Path, top: Path, neighbours: Path | None, tracks: int | None = None, sessions: Path | None = None
) -> Content:
    """Read the original's file formats (and ``neighbours.npy``, uint32 [tracks, 20], and ``sessions.npz``).

    Raises:
        MissingDataError: a file is absent. InvalidInputError: a line is malformed; the message names file and line.
    """
    for path in (recommendations, top, *([neighbours] if neighbours else [])):
        if not path.is_file():
            raise MissingDataError(f"{path} is missing; run the recommend step or name another file")
    lists: dict[int, bytes] = {}
    with recommendations.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                record = orjson.loads(line)
                user, listed = record["user"], record["tracks"]
                if type(user) is not int or not 0 <= user < 2**32:
                    raise ValueError(f"user {user!r} must be an integer from 0 to {2**32 - 1}")
                _check_list(listed, tracks, LIST_LENGTH)
                lists[user] = keyspace.pack(listed)
            except (orjson.JSONDecodeError, KeyError, TypeError, OverflowError, ValueError) as error:
                raise InvalidInputError(f"{recommendations} line {number} is not a user's list: {error}") from None
    try:
        popular = json.loads(top.read_bytes())
        _check_list(popular, tracks, None)
    except ValueError as error:
        raise InvalidInputError(f"{top} is not a list of tracks: {error}") from None
    rows = b""
    if neighbours is not None:
        try:
            table = np.load(neighbours, allow_pickle=False)
        except Exception as error:  # NumPy raises what its parser of headers raises, a SyntaxError too
            raise InvalidInputError(f"{neighbours} is not an array in NumPy's format: {error}") from None
        if table.ndim != 2 or table.shape[1] != NEIGHBOURS:
            raise InvalidInputError(f"{neighbours} has shape {table.shape}; it must be [tracks, {NEIGHBOURS}]")
        rows = np.ascontiguousarray(table, dtype="<u4").tobytes()
    return Content(lists, keyspace.pack(popular[:TOP_LENGTH]), rows, sessions.read_bytes() if sessions else b"")


def read_directory(directory: Path) -> Content:
    """The content of a recommendations directory."""
    sessions = directory / "sessions.npz"
    content = read_content(
        directory / "recommendations.json", directory / "top_tracks.json", directory / "neighbours.npy",
        sessions=sessions if sessions.exists() else None,
    )  # fmt: skip
    if sessions.exists():
        for user, *numbers in np.load(directory / "tastes.npy", allow_pickle=False).tolist():
            content.lists[user] += keyspace.pack_taste(number for number in numbers if number >= 0)
    return content


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


def _check_list(listed: object, tracks: int | None, length: int | None) -> None:
    if not isinstance(listed, list) or not listed or not all(type(t) is int and t >= 0 for t in listed):
        raise ValueError("tracks must be a non-empty list of track ids")
    if length is not None and len(listed) > 4 * length:
        raise ValueError(f"{len(listed)} tracks are more than a list may have")
    if tracks is not None and max(listed) >= tracks:
        raise ValueError(f"track {max(listed)} is not in the catalogue of {tracks}")
