"""Publishing of versions: a :class:`~recsys.versions.content.Content` in, an immutable version in Redis out.

A version was read back and compared before it counts. Those that nobody needs any more are collected.
"""

import logging
import uuid
from collections.abc import Container, Iterable
from contextlib import suppress
from datetime import date, timedelta

import redis

from recsys.exceptions import ConflictError, CorruptDataError
from recsys.versions import keyspace, lease
from recsys.versions.content import Content, version_date, version_name
from recsys.versions.functions import LIBRARY
from recsys.versions.lease import Lease

log = logging.getLogger(__name__)

_CHUNK = 200
#: How long who publishes by hand, or collects, keeps others from a date after it was killed.
BRIEFLY = timedelta(seconds=30)


def publish_version(client: redis.Redis, content: Content, log_date: date, *, held: Lease | None = None) -> str:
    """Write a version and read it back; the live pointer stays where it is. Publishing the same content again changes nothing.

    Args:
        held: the lease of the run that publishes; without one, the date is held for as long as this lasts.

    Raises:
        ConflictError: another run holds the date. CorruptDataError: Redis gave back something else than was written.
    """
    if held is None:
        with lease.held(client, log_date, f"publish-{uuid.uuid4().hex[:8]}", ttl=BRIEFLY) as held:
            return publish_version(client, content, log_date, held=held)
    checksum = content.checksum
    version = version_name(log_date, checksum)
    key = keyspace.version_key(version)
    if client.hget(key, "state") == b"complete" and _read_back(client, version, content):
        log.info("version %s is already in Redis", version)
        return version
    _describe(client, version, held, state="loading", log_date=str(log_date), checksum=checksum)
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
    _describe(client, version, held, state="complete", users=len(content.lists))
    log.info("published version %s: %d users", version, len(content.lists))
    return version


def _describe(client: redis.Redis, version: str, held: Lease, **fields: str | int) -> None:
    call = (LIBRARY.function("describe"), 2, keyspace.LEASES, keyspace.version_key(version))
    if not client.fcall(*call, str(held.log_date), held.token, *(word for field in fields.items() for word in field)):
        raise lease.lost(client, held)


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


def is_complete(client: redis.Redis, version: str) -> bool:
    """Whether Redis holds the version, whole."""
    return bool(client.hget(keyspace.version_key(version), "state") == b"complete")


def checksum_of(client: redis.Redis, version: str) -> str:
    """The checksum of a version's content, of which its name holds the beginning; "" if the version is not in Redis."""
    return keyspace.text(client.hget(keyspace.version_key(version), "checksum") or "")


def served_lists(client: redis.Redis, version: str, users: Iterable[int]) -> dict[int, list[int]]:
    """The tracks that a version answers with, by user; users without a list are left out."""
    by_bucket: dict[int, list[int]] = {}
    for user in users:
        by_bucket.setdefault(keyspace.bucket(user), []).append(user)
    with client.pipeline(transaction=False) as pipe:
        for b, members in by_bucket.items():
            pipe.hmget(keyspace.lists_key(version, b), [str(user) for user in members])
        replies = pipe.execute()
    found = {}
    for members, packed in zip(by_bucket.values(), replies, strict=True):
        for user, entry in zip(members, packed, strict=True):
            if entry:
                found[user] = list(keyspace.split(keyspace.unpack(entry))[0])
    return found


def matches(client: redis.Redis, version: str, content: Content) -> bool:
    """Whether Redis holds exactly this content under this version."""
    return _read_back(client, version, content)


def collect_garbage(client: redis.Redis, keep: int = 4, needed: Container[str] = ()) -> None:
    """Drop versions that are neither live nor previous nor rolled out, nor among the newest few, nor of a night under way.

    Args:
        needed: further versions that stay.
    """
    versions = sorted(keyspace.text(v) for v in client.smembers(keyspace.VERSIONS))
    for version in versions[:-keep]:
        if version not in needed:
            with suppress(ConflictError):  # a night of that date is under way
                _collect(client, version)


def _collect(client: redis.Redis, version: str) -> None:
    log_date = version_date(version)
    with lease.held(client, log_date, f"{lease.COLLECTOR}{uuid.uuid4().hex[:8]}", ttl=BRIEFLY) as held:
        keys = [keyspace.LIVE, keyspace.LEASES, keyspace.VERSIONS, keyspace.ROLLOUT, keyspace.version_key(version)]
        keys += [keyspace.lists_key(version, b) for b in range(keyspace.BUCKETS)]
        keys += [keyspace.version_key(version, part) for part in ("top", "neighbours", "sessions")]
        if not client.fcall(LIBRARY.function("forget"), len(keys), *keys, version, str(log_date), held.token):
            return
    log.info("collected version %s", version)
