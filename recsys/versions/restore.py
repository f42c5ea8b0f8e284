"""The copy of what is live in files, and back: a storage in, a rebuilt Redis out.

A copy of pointer, blocked versions and audit trail is kept in the storage as ``live/``, so that a lost Redis can be rebuilt.
"""

import logging
from dataclasses import replace
from typing import ClassVar

import redis

from recsys.exceptions import MissingDataError
from recsys.schemas import Verdict
from recsys.storage.document import Document
from recsys.storage.store import Storage
from recsys.versions import pointer, publish
from recsys.versions.content import directory_of, read_directory, version_date
from recsys.versions.lease import Lease
from recsys.versions.pointer import Entry, Pointer

log = logging.getLogger(__name__)

COPY = "live"


class LiveCopy(Document):
    """``live.json``: pointer, versions that may not be promoted, and the audit trail."""

    FILE: ClassVar[str] = "live.json"

    pointer: Pointer
    blocked: list[str]
    audit: list[Entry]


def save(client: redis.Redis, store: Storage) -> None:
    """Copy pointer, blocked versions and trail to ``live/``.

    Who has written looks again: another's older copy may have followed a newer one, so the last to write must find what it wrote.
    """
    written: LiveCopy | None = None
    while written != (copy := _live(client)):
        with store.stage(COPY) as staging:
            copy.write(staging)
        written = copy


def _live(client: redis.Redis) -> LiveCopy:
    return LiveCopy(pointer=pointer.read(client), blocked=pointer.blocked(client), audit=pointer.audit(client))


def restore(client: redis.Redis, store: Storage, *, who: str) -> str:
    """Rebuild what is live from files: the copy in ``live/``, else the newest promoted night; returns a sentence.

    Raises:
        MissingDataError: the files name no live version, or its lists are gone or differ.
    """
    saved, held = _saved(store)
    bring_back(client, store, saved.version)
    if saved.previous:
        try:
            bring_back(client, store, saved.previous)
        except MissingDataError:
            log.warning("the previous version %s has no files any more; there is nothing to roll back to", saved.previous)
            saved = replace(saved, previous="")
    return pointer.restore(client, saved, held, who=who)


def bring_back(client: redis.Redis, store: Storage, version: str, *, held: Lease | None = None) -> None:
    """Put a version that Redis has lost or collected back from its files.

    Args:
        held: the lease that serves if the version is of its date.

    Raises:
        MissingDataError: its files are gone, or others stand in their place. ConflictError: another run holds the version's date.
    """
    if not publish.is_complete(client, version):
        log_date = version_date(version)
        ours = held if held and held.log_date == log_date else None
        publish.publish_version(client, read_directory(directory_of(store, version)), log_date, held=ours)


def _saved(store: Storage) -> tuple[Pointer, list[str]]:
    if store.is_complete(COPY):
        copy = store.read(LiveCopy, COPY)
        if copy.pointer.version:
            return copy.pointer, copy.blocked
    verdicts = [Verdict.read(store, day) for day in store.dates(Verdict.KIND)]
    promoted = [verdict.version for verdict in verdicts if verdict.verdict == "promoted"]
    if not promoted:
        raise MissingDataError(
            f"no night in {store.url} was promoted and there is no copy of the pointer; promote a version first"
        )
    previous = promoted[-2] if len(promoted) > 1 else ""
    return Pointer(promoted[-1], len(promoted), promoted[-1][:10], previous), []
