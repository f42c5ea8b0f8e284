"""The copy of what is live in files, and back: a storage in, a rebuilt Redis out.

A copy of pointer, blocked versions and audit trail is kept in the storage as ``live/``, so that a lost Redis can be rebuilt.
"""

import json
import logging
from dataclasses import asdict
from typing import Any

import redis

from recsys.exceptions import MissingDataError
from recsys.storage.store import Storage
from recsys.versions import keyspace, pointer, publish
from recsys.versions.content import read_directory, version_date
from recsys.versions.functions import LIBRARY
from recsys.versions.pointer import Pointer

log = logging.getLogger(__name__)

COPY = "live"
_KEYS = (3, keyspace.LIVE, keyspace.BLOCKED, keyspace.AUDIT)


def save(client: redis.Redis, store: Storage) -> None:
    """Copy pointer, blocked versions and trail to ``live/``."""
    document = {
        "pointer": asdict(pointer.read(client)),
        "blocked": pointer.blocked(client),
        "audit": [asdict(entry) for entry in pointer.audit(client)],
    }
    with store.stage(COPY) as staging:
        (staging / "live.json").write_text(json.dumps(document, indent=1, sort_keys=True))


def restore(client: redis.Redis, store: Storage, *, who: str) -> str:
    """Rebuild what is live from files: the copy in ``live/``, else the newest promoted night; returns a sentence.

    Raises:
        MissingDataError: the files name no live version, or its lists are gone or differ.
    """
    saved, held = _saved(store)
    restored = []
    for version in dict.fromkeys(v for v in (saved.version, saved.previous) if v):
        try:
            publish_again(client, store, version)
            restored.append(version)
        except MissingDataError:
            if version == saved.version:
                raise
            log.warning("the previous version %s has no files any more; there is nothing to roll back to", version)
    previous = saved.previous if saved.previous in restored else ""
    outcome, current, generation = client.fcall(
        LIBRARY.function("restore"),
        *_KEYS,
        saved.version,
        saved.generation,
        saved.log_date,
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
    found = publish.publish_version(client, read_directory(store.local(f"recommendations/date={when}")), when)
    if found != version:
        raise MissingDataError(f"version {version} is neither in Redis nor in the files of {when}, which hold {found}")


def _saved(store: Storage) -> tuple[Pointer, list[str]]:
    if store.is_complete(COPY):
        document: dict[str, Any] = store.read_json(COPY, "live.json")
        saved = Pointer(**document["pointer"])
        if saved.version:
            return saved, list(document["blocked"])
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
    return Pointer(promoted[-1], len(promoted), promoted[-1][:10], previous), []
