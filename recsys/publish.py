"""Versions in Redis: publish immutable ones, register runs that preview them, move the live pointer.

In goes a directory with recommendations.json, top_tracks.json, neighbours.npy and, if the session-aware arm was trained,
sessions.npz and tastes.npy; out comes a version ``D-<8 hex of its content>`` that was read back and compared before it counts.
"""

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import orjson
import redis

from recsys import keyspace
from recsys.exceptions import ConflictError, CorruptDataError, InvalidInputError, MissingDataError
from recsys.schemas import LIST_LENGTH, NEIGHBOURS, TOP_LENGTH, RunSpec

log = logging.getLogger(__name__)

RUN_TTL = 14 * 86_400
LEASE_TTL = 3600
_CHUNK = 200


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


@dataclass(frozen=True)
class Live:
    """The live pointer; ``version`` is "" before the first promotion."""

    version: str = ""
    generation: int = 0
    log_date: str = ""
    previous: str = ""


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


def publish_version(client: redis.Redis, content: Content, log_date: date) -> str:
    """Write a version and read it back; the live pointer stays where it is. Publishing the same content again changes nothing.

    Raises:
        CorruptDataError: Redis gave back something else than was written.
    """
    checksum = content.checksum
    version = f"{log_date}-{checksum[:8]}"
    key = keyspace.version_key(version)
    if client.hget(key, "state") == b"complete" and _read_back(client, version, content):
        log.info("version %s is already in Redis", version)
        return version
    client.hset(key, mapping={"state": "loading", "log_date": str(log_date), "checksum": checksum})
    client.sadd(keyspace.VERSIONS, version)
    by_bucket: dict[int, dict[int, bytes]] = {}
    for user, packed in content.lists.items():
        by_bucket.setdefault(keyspace.bucket(user), {})[user] = packed
    with client.pipeline(transaction=False) as pipe:
        for b, lists in by_bucket.items():
            pipe.delete(keyspace.lists_key(version, b))
            pipe.hset(keyspace.lists_key(version, b), mapping=lists)  # type: ignore[arg-type]
            if len(pipe) >= _CHUNK:
                pipe.execute()
        pipe.set(keyspace.version_key(version, "top"), content.top)
        pipe.set(keyspace.version_key(version, "neighbours"), content.neighbours)
        if content.sessions:
            pipe.set(keyspace.version_key(version, "sessions"), content.sessions)
        pipe.execute()
    if not _read_back(client, version, content):
        raise CorruptDataError(f"version {version} reads back from Redis differently from what was written; publish again")
    client.hset(key, mapping={"state": "complete", "users": len(content.lists)})
    log.info("published version %s: %d users", version, len(content.lists))
    return version


def _read_back(client: redis.Redis, version: str, content: Content) -> bool:
    lists: dict[int, bytes] = {}
    for start in range(0, keyspace.BUCKETS, _CHUNK):
        with client.pipeline(transaction=False) as pipe:
            for b in range(start, min(start + _CHUNK, keyspace.BUCKETS)):
                pipe.hgetall(keyspace.lists_key(version, b))
            for found in pipe.execute():
                lists.update({int(user): packed for user, packed in found.items()})
    top = client.get(keyspace.version_key(version, "top"))
    rows = client.get(keyspace.version_key(version, "neighbours"))
    sessions = client.get(keyspace.version_key(version, "sessions")) or b""
    return (lists, top, rows, sessions) == (content.lists, content.top, content.neighbours, content.sessions)


def matches(client: redis.Redis, version: str, content: Content) -> bool:
    """Whether Redis holds exactly this content under this version."""
    return _read_back(client, version, content)


def open_run(client: redis.Redis, spec: RunSpec) -> None:
    """Register what the run ids ``<base>.<shard>.<try>`` are served from; kept for two weeks.

    Raises:
        ConflictError: the base is registered with something else.
    """
    key, data = keyspace.run_key(spec.base), json.dumps(spec.to_json(), sort_keys=True)
    if not client.set(key, data, ex=RUN_TTL, nx=True) and client.get(key) != data.encode():
        raise ConflictError(f"run {spec.base} is registered with another specification; wait for its end or change the seed")


def live(client: redis.Redis) -> Live:
    """The live pointer."""
    found = {_text(k): _text(v) for k, v in client.hgetall(keyspace.LIVE).items()}
    return Live(found.get("version", ""), int(found.get("generation", 0)), found.get("log_date", ""), found.get("previous", ""))


def promote(
    client: redis.Redis, version: str, log_date: date, *, who: str, why: str, generation: int | None = None, forced: bool = False
) -> tuple[bool, str]:
    """Make a version live, if the pointer is still at ``generation`` and not at a later log date.

    Args:
        forced: let a version of an older log date follow, as a person may want.

    Returns:
        Whether the version is live now, and a sentence that says why or why not.

    Raises:
        MissingDataError: the version is not in Redis.
    """
    if client.hget(keyspace.version_key(version), "state") != b"complete":
        raise MissingDataError(f"version {version} is not in Redis; publish it first")
    expected = "" if generation is None else str(generation)
    outcome, current, now = client.fcall(
        "recsys_promote",
        3,
        keyspace.LIVE,
        keyspace.BLOCKED,
        keyspace.AUDIT,
        expected,
        version,
        str(log_date),
        who,
        why,
        "1" if forced else "0",
    )
    current = _text(current)
    sentences = {
        "promoted": f"{version} is live now (generation {now})",
        "already": f"{version} was live already (generation {now})",
        "moved": f"the live version moved to {current} (generation {now}) meanwhile",
        "older": f"the live version {current} is of a later log date",
        "blocked": f"{version} was rolled back or held and has not been released",
        "held": f"all promotions are held; {current or 'nothing'} stays live",
    }
    word = _text(outcome)
    if word == "promoted":
        collect_garbage(client)
    return word in ("promoted", "already"), sentences[word]


def collect_garbage(client: redis.Redis, keep: int = 4) -> None:
    """Drop versions that are neither live nor previous, nor among the newest few, nor of a night that is under way."""
    pointer = live(client)
    versions = sorted(_text(v) for v in client.smembers(keyspace.VERSIONS))
    for version in versions[:-keep]:
        if version in (pointer.version, pointer.previous) or client.exists(keyspace.lease_key(version[:10])):
            continue
        with client.pipeline(transaction=False) as pipe:
            for b in range(keyspace.BUCKETS):
                pipe.unlink(keyspace.lists_key(version, b))
            for part in ("", "top", "neighbours", "sessions"):
                pipe.unlink(keyspace.version_key(version, part))
            pipe.srem(keyspace.VERSIONS, version)
            pipe.execute()
        log.info("collected version %s", version)


def take_lease(client: redis.Redis, log_date: date, run: str) -> None:
    """Hold a log date for a run; again for the same run renews it.

    Raises:
        ConflictError: another run holds it; the message names that run.
    """
    key = keyspace.lease_key(str(log_date))
    if client.set(key, run, nx=True, ex=LEASE_TTL):
        return
    holder = client.get(key)
    if holder is not None and holder != run.encode():
        raise ConflictError(f"log date {log_date} is held by run {_text(holder)}; wait for it or end it")
    client.set(key, run, ex=LEASE_TTL)


def drop_lease(client: redis.Redis, log_date: date, run: str) -> None:
    """Let go of a log date if this run holds it."""
    key = keyspace.lease_key(str(log_date))
    if client.get(key) == run.encode():
        client.delete(key)


@contextmanager
def lease(client: redis.Redis, log_date: date, run: str) -> Iterator[None]:
    """Hold a log date while the block runs."""
    take_lease(client, log_date, run)
    try:
        yield
    finally:
        drop_lease(client, log_date, run)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _check_list(listed: object, tracks: int | None, length: int | None) -> None:
    if not isinstance(listed, list) or not listed or not all(type(t) is int and t >= 0 for t in listed):
        raise ValueError("tracks must be a non-empty list of track ids")
    if length is not None and len(listed) > 4 * length:
        raise ValueError(f"{len(listed)} tracks are more than a list may have")
    if tracks is not None and max(listed) >= tracks:
        raise ValueError(f"track {max(listed)} is not in the catalogue of {tracks}")
