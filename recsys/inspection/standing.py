"""What is live now: since when, by whom and why, what is held, and who works on which log date.

In goes Redis, or the copy of what is live in files while Redis is away; out comes a :class:`Standing`.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date

import redis

from recsys.exceptions import RecsysError
from recsys.rollout.look import Look, Looks
from recsys.storage.store import Storage
from recsys.versions import lease, pointer, restore, rollout
from recsys.versions.pointer import EVERY, Entry, Pointer
from recsys.versions.rollout import Rollout

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Held:
    """A version that may not be promoted, or ``*`` for every one; the others are empty where the trail no longer tells."""

    version: str
    since: str = ""
    who: str = ""
    why: str = ""

    @property
    def name(self) -> str:
        """What is held, for people."""
        return "All promotions" if self.version == EVERY else self.version


@dataclass(frozen=True)
class Standing:
    """What is live.

    Attributes:
        move: the line of the audit trail by which it became live. held: what may not be promoted. holders: the run that works on
            a log date. copied: whether this is the copy in files, which may be older. known: False if nothing could be read.
        rollout: the newest one, which files do not tell. looks: those at its candidate so far, ascending.
    """

    live: Pointer = field(default_factory=Pointer)
    move: Entry | None = None
    held: Sequence[Held] = ()
    holders: dict[date, str] = field(default_factory=dict)
    trail: Sequence[Entry] = ()
    copied: bool = False
    known: bool = True
    rollout: Rollout = field(default_factory=Rollout)
    looks: Sequence[Look] = ()


def standing(client: redis.Redis, store: Storage | None = None) -> Standing:
    """What Redis says, and the storage of looks at the rollout; what is live is told without these, too."""
    live, blocked, trail, now = pointer.read(client), pointer.blocked(client), pointer.audit(client), rollout.read(client)
    found = Standing(live, _move(live, trail), _held(blocked, trail), lease.holders(client), trail, rollout=now)
    if store is None or not now.log_date:
        return found
    try:
        looks = (Looks.find(store, date.fromisoformat(now.log_date)) or Looks()).looks
    except (RecsysError, OSError) as error:
        log.warning("looks at the rollout cannot be read: %s", error)
        return found
    return replace(found, looks=[one for one in looks if one.experiment.startswith(f"ROLLOUT-{now.candidate}-")])


def standing_in_files(store: Storage) -> Standing:
    """What the copy in the storage says; nothing if there is none, or none that can be read."""
    try:
        copy = store.read(restore.LiveCopy, restore.COPY)
    except (RecsysError, OSError):
        return Standing(copied=True, known=False)
    return Standing(copy.pointer, _move(copy.pointer, copy.audit), _held(copy.blocked, copy.audit), {}, copy.audit, copied=True)


def _move(live: Pointer, trail: Sequence[Entry]) -> Entry | None:
    """The newest line by which what is live became so."""
    moves = [entry for entry in trail if entry.action in ("promote", "rollback", "restore") and entry.to == live.version]
    return moves[-1] if moves and live.version else None


def _held(blocked: Sequence[str], trail: Sequence[Entry]) -> list[Held]:
    """What is held, with the line that holds it: a hold of its name, the rollback that left it, the abort of its rollout."""
    found = []
    for version in blocked:
        lines = [entry for entry in trail if version == (entry.to if entry.action == "hold" else _left(entry))]
        last = lines[-1] if lines else None
        found.append(Held(version, last.at, last.who, last.why) if last else Held(version))
    return found


def _left(entry: Entry) -> str:
    """The version that a line leaves and blocks, if it does."""
    return entry.source if entry.action in ("rollback", "abort") else ""
