"""The live pointer in people's hands: roll back, hold, release, the audit trail, and its copy in files.

Every move happens inside Redis together with its line of the audit trail. A copy of pointer, blocked versions and trail is kept
in the storage as ``live/``, so that a lost Redis can be rebuilt (:func:`restore`).
"""

import json
import logging
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any, cast

import redis

from recsys import keyspace, publish
from recsys.exceptions import ConflictError, InvalidInputError, MissingDataError
from recsys.schemas import parse_date
from recsys.storage import Storage

log = logging.getLogger(__name__)

#: In the place of a version: every version.
EVERY = "*"
COPY = "live"
_KEYS = (3, keyspace.LIVE, keyspace.BLOCKED, keyspace.AUDIT)


@dataclass(frozen=True)
class Entry:
    """A line of the audit trail; ``at`` is UTC, ``source`` the version that was live, ``to`` the version it is about."""

    at: str
    action: str
    source: str
    to: str
    who: str
    why: str


def audit(client: redis.Redis) -> list[Entry]:
    """The newest lines of the trail, at most a thousand, oldest first."""
    entries = []
    for stream_id, raw in reversed(cast(list[Any], client.xrevrange(keyspace.AUDIT, count=1000))):
        fields = {key.decode(): value.decode() for key, value in raw.items()}
        at = datetime.fromtimestamp(int(stream_id.split(b"-")[0]) / 1000, UTC).isoformat(timespec="seconds")
        entries.append(Entry(at, fields["action"], fields["from"], fields["to"], fields["who"], fields["why"]))
    return entries


def blocked(client: redis.Redis) -> list[str]:
    """Versions that may not be promoted, sorted; ``*`` stands for all."""
    return sorted(member.decode() for member in cast(set[bytes], client.smembers(keyspace.BLOCKED)))


def promote(client: redis.Redis, version: str, *, who: str, why: str) -> str:
    """Make a version live because a person says so, even one of an older log date; returns a sentence.

    Raises:
        MissingDataError: the version is not in Redis. ConflictError: it is blocked, or promotions are held.
    """
    moved, sentence = publish.promote(client, version, version_date(version), who=who, why=why, forced=True)
    if not moved:
        raise ConflictError(f"{sentence}; 'recsys release' ends that")
    return sentence


def rollback(client: redis.Redis, *, who: str, why: str) -> str:
    """Go back to the previous version and block the one that is left; returns a sentence.

    Raises:
        ConflictError: there is no previous version, or the pointer moved meanwhile. MissingDataError: the previous version is no
            longer in Redis.
    """
    pointer = publish.live(client)
    if pointer.previous and client.hget(keyspace.version_key(pointer.previous), "state") != b"complete":
        raise MissingDataError(f"the previous version {pointer.previous} is not in Redis; 'recsys restore-live' brings it back")
    outcome, current, generation = client.fcall("recsys_rollback", *_KEYS, str(pointer.generation), who, why)
    if outcome == b"nowhere":
        raise ConflictError(f"there is no version before {current.decode() or 'the first'} to go back to; promote one by name")
    if outcome == b"moved":
        raise ConflictError(f"the live version moved to {current.decode()} (generation {generation}) meanwhile; look again")
    return f"{current.decode()} is live again (generation {generation}); {pointer.version} is blocked until it is released"


def hold(client: redis.Redis, version: str = EVERY, *, who: str, why: str) -> str:
    """Keep a version, or all, from being promoted until they are released; returns a sentence."""
    return _block(client, "hold", version, who, why)


def release(client: redis.Redis, version: str = EVERY, *, who: str, why: str) -> str:
    """Let a version, or all that is not blocked by name, be promoted again; returns a sentence."""
    return _block(client, "release", version, who, why)


def _block(client: redis.Redis, action: str, version: str, who: str, why: str) -> str:
    if version != EVERY:
        version_date(version)
    changed = client.fcall("recsys_block", *_KEYS, action, version, who, why)
    name = "all promotions" if version == EVERY else version
    state = "held" if action == "hold" else "released"
    return f"{name}: {state}" if changed else f"{name}: {'held already' if action == 'hold' else 'not held'}"


def save(client: redis.Redis, store: Storage) -> None:
    """Copy pointer, blocked versions and trail to ``live/``."""
    document = {
        "pointer": asdict(publish.live(client)), "blocked": blocked(client), "audit": [asdict(e) for e in audit(client)],
    }  # fmt: skip
    with store.stage(COPY) as staging:
        (staging / "live.json").write_text(json.dumps(document, indent=1, sort_keys=True))


def restore(client: redis.Redis, store: Storage, *, who: str) -> str:
    """Rebuild what is live from files: the copy in ``live/``, else the newest promoted night; returns a sentence.

    Raises:
        MissingDataError: the files name no live version, or its lists are gone or differ.
    """
    pointer, held = _saved(store)
    restored = []
    for version in dict.fromkeys(v for v in (pointer.version, pointer.previous) if v):
        try:
            publish_again(client, store, version)
            restored.append(version)
        except MissingDataError:
            if version == pointer.version:
                raise
            log.warning("the previous version %s has no files any more; there is nothing to roll back to", version)
    previous = pointer.previous if pointer.previous in restored else ""
    outcome, current, generation = client.fcall(
        "recsys_restore",
        *_KEYS,
        pointer.version,
        pointer.generation,
        pointer.log_date,
        previous,
        who,
        "restored from files",
        *held,
    )
    if outcome == b"newer":
        return f"{current.decode()} is live (generation {generation}), as new as the files or newer; its lists were checked"
    return f"{current.decode()} is live again (generation {generation})"


def publish_again(client: redis.Redis, store: Storage, version: str) -> None:
    """Put a version that Redis has lost or collected back from its files.

    Raises:
        MissingDataError: the files of its log date are gone, or hold another version.
    """
    if client.hget(keyspace.version_key(version), "state") == b"complete":
        return
    when = version_date(version)
    found = publish.publish_version(client, publish.read_directory(store.local(f"recommendations/date={when}")), when)
    if found != version:
        raise MissingDataError(f"version {version} is neither in Redis nor in the files of {when}, which hold {found}")


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


def _saved(store: Storage) -> tuple[publish.Live, list[str]]:
    if store.is_complete(COPY):
        document: dict[str, Any] = store.read_json(COPY, "live.json")
        pointer = publish.Live(**document["pointer"])
        if pointer.version:
            return pointer, list(document["blocked"])
    promoted = []
    for day in store.dates("promotions"):
        verdict = store.read_json(f"promotions/date={day}", "promotion.json")
        if verdict["verdict"] == "promoted":
            promoted.append(verdict["version"])
    if not promoted:
        raise MissingDataError(
            f"no night in {store.url} was promoted and there is no copy of the pointer; promote a version first"
        )
    previous = promoted[-2] if len(promoted) > 1 else ""
    return publish.Live(promoted[-1], len(promoted), promoted[-1][:10], previous), []
