"""The live pointer: which version serves listeners, moved by compare-and-set inside Redis, with a line in the audit trail each.

A night moves it by :func:`move`; a person makes a version live, rolls back, holds and releases. In go a client and a version; out
come sentences that say what happened, or the :class:`Pointer`.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import cast

import redis

from recsys.exceptions import ConflictError, CorruptDataError, MissingDataError
from recsys.versions import keyspace, lease
from recsys.versions.content import version_date
from recsys.versions.functions import LIBRARY
from recsys.versions.lease import Lease

log = logging.getLogger(__name__)

#: In the place of a version: every version.
EVERY = "*"
_KEYS = (keyspace.LIVE, keyspace.BLOCKED, keyspace.AUDIT)


@dataclass(frozen=True)
class Pointer:
    """The live pointer; ``version`` is "" before the first promotion."""

    version: str = ""
    generation: int = 0
    log_date: str = ""
    previous: str = ""


@dataclass(frozen=True)
class Entry:
    """A line of the audit trail; ``at`` is UTC, ``source`` the version that was live, ``to`` the version it is about."""

    at: str
    action: str
    source: str
    to: str
    who: str
    why: str


def read(client: redis.Redis) -> Pointer:
    """The live pointer.

    Raises:
        CorruptDataError: Redis holds something else in its place.
    """
    held = {keyspace.text(k): keyspace.text(v) for k, v in client.hgetall(keyspace.LIVE).items()}
    generation = held.get("generation", "0")
    if not generation.isdecimal():
        raise CorruptDataError(
            f"generation {generation!r} of what is live in Redis is no number; delete {keyspace.LIVE}, then 'recsys restore-live'"
        )
    return Pointer(held.get("version", ""), int(generation), held.get("log_date", ""), held.get("previous", ""))


def move(
    client: redis.Redis,
    version: str,
    log_date: date,
    *,
    who: str,
    why: str,
    generation: int | None = None,
    forced: bool = False,
    held: Lease | None = None,
) -> tuple[bool, str]:
    """Make a version live, if the pointer is still at ``generation`` and not at a later log date.

    Args:
        forced: let a version of an older log date follow, as a person may want.
        held: the lease of the run that moves it; a person needs none.

    Returns:
        Whether the version is live now, and a sentence that says why or why not.

    Raises:
        MissingDataError: the version is not in Redis. ConflictError: the run has lost its lease.
    """
    expected, token = "" if generation is None else generation, held.token if held else ""
    keys = (6, *_KEYS, keyspace.LEASES, keyspace.version_key(version), keyspace.ROLLOUT)
    args = (expected, version, str(log_date), who, why, int(forced), token)
    outcome, current, now = client.fcall(LIBRARY.function("promote"), *keys, *args)
    if outcome == b"missing":
        raise MissingDataError(f"version {version} is not in Redis; publish it first")
    if outcome == b"lost" and held:
        raise lease.lost(client, held)
    current = keyspace.text(current)
    sentences = {
        "promoted": f"{version} is live now (generation {now})",
        "already": f"{version} was live already (generation {now})",
        "moved": f"the live version moved to {current} (generation {now}) meanwhile",
        "older": f"the live version {current} is of a later log date",
        "blocked": f"{version} was rolled back or held and has not been released",
        "held": f"all promotions are held; {current or 'nothing'} stays live",
    }
    word = keyspace.text(outcome)
    return word in ("promoted", "already"), sentences[word]


def make_live(client: redis.Redis, version: str, *, who: str, why: str) -> str:
    """Make a version live because a person says so, even one of an older log date; returns a sentence.

    Raises:
        MissingDataError: the version is not in Redis. ConflictError: it is blocked, or promotions are held.
    """
    moved, sentence = move(client, version, version_date(version), who=who, why=why, forced=True)
    if not moved:
        raise ConflictError(f"{sentence}; 'recsys release' ends that")
    return sentence


def rollback(client: redis.Redis, *, who: str, why: str) -> str:
    """Go back to the previous version and block the one that is left; returns a sentence.

    Raises:
        ConflictError: there is no previous version, or the pointer moved meanwhile. MissingDataError: the previous version is no
            longer in Redis.
    """
    live = read(client)
    keys = (*_KEYS, keyspace.version_key(live.previous), keyspace.ROLLOUT)
    outcome, current, generation = client.fcall(LIBRARY.function("rollback"), len(keys), *keys, str(live.generation), who, why)
    if outcome == b"missing":
        raise MissingDataError(f"the previous version {live.previous} is not in Redis; 'recsys restore-live' brings it back")
    if outcome == b"nowhere":
        raise ConflictError(
            f"there is no version before {keyspace.text(current) or 'the first'} to go back to; promote one by name"
        )
    if outcome == b"moved":
        raise ConflictError(f"the live version moved to {keyspace.text(current)} (generation {generation}) meanwhile; look again")
    return f"{keyspace.text(current)} is live again (generation {generation}); {live.version} is blocked until it is released"


def hold(client: redis.Redis, version: str = EVERY, *, who: str, why: str) -> str:
    """Keep a version, or all, from being promoted until they are released; returns a sentence."""
    return _block(client, "hold", version, who, why)


def release(client: redis.Redis, version: str = EVERY, *, who: str, why: str) -> str:
    """Let a version, or all that is not blocked by name, be promoted again; returns a sentence."""
    return _block(client, "release", version, who, why)


def restore(client: redis.Redis, saved: Pointer, held: Sequence[str], *, who: str) -> str:
    """Set a lost pointer, and the versions that are held, again, unless what is there is as new; returns a sentence.

    Raises:
        MissingDataError: the version's lists are not in Redis.
    """
    where = saved.version, saved.generation, saved.log_date, saved.previous, who, "restored from files"
    keys = (*_KEYS, keyspace.version_key(saved.version), keyspace.version_key(saved.previous), keyspace.ROLLOUT)
    outcome, current, generation = client.fcall(LIBRARY.function("restore"), len(keys), *keys, *where, *held)
    if outcome == b"missing":
        raise MissingDataError(f"version {saved.version} was collected meanwhile; restore it again")
    if outcome == b"newer":
        return f"{keyspace.text(current)} is live (generation {generation}), as new as the files or newer; its lists were checked"
    return f"{keyspace.text(current)} is live again (generation {generation})"


def _block(client: redis.Redis, action: str, version: str, who: str, why: str) -> str:
    if version != EVERY:
        version_date(version)
    changed = client.fcall(LIBRARY.function("block"), len(_KEYS), *_KEYS, action, version, who, why)
    name = "all promotions" if version == EVERY else version
    state = "held" if action == "hold" else "released"
    return f"{name}: {state}" if changed else f"{name}: {'held already' if action == 'hold' else 'not held'}"


def audit(client: redis.Redis) -> list[Entry]:
    """The newest lines of the trail, at most a thousand, oldest first; bytes that are no text are told by their codes."""
    entries = []
    found = cast(list[tuple[bytes, dict[bytes, bytes]]], client.xrevrange(keyspace.AUDIT, count=1000))
    for stream_id, raw in reversed(found):
        fields = {key.decode(): value.decode(errors="backslashreplace") for key, value in raw.items()}
        at = datetime.fromtimestamp(int(stream_id.split(b"-")[0]) / 1000, UTC).isoformat(timespec="seconds")
        entries.append(Entry(at, fields["action"], fields["from"], fields["to"], fields["who"], fields["why"]))
    return entries


def blocked(client: redis.Redis) -> list[str]:
    """Versions that may not be promoted, sorted; ``*`` stands for all."""
    return sorted(keyspace.text(member) for member in cast(set[bytes], client.smembers(keyspace.BLOCKED)))
