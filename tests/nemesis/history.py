"""Everything that a night leaves behind, as the checker reads it: clients' own records, log lines, Redis, storage, commands.

Nothing here is read through the readers of ``recsys``: formats are those that the documents tell.
"""

import json
import struct
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tests.nemesis.client import Event
from tests.nemesis.stage import Ran

Line = dict[str, Any]
#: Of an entry in a user's list, this bit marks what is no track.
NO_TRACK = 2**31
POINTER = "recsys:{pointer}:"

#: Asks Redis, word by word; gives what it replies.
Ask = Callable[..., Awaitable[Any]]


class Snapshot(NamedTuple):
    """The pointer at a moment."""

    generation: int
    version: str


class Move(NamedTuple):
    """A line of the audit trail."""

    action: str
    source: str
    to: str
    who: str


class Lease(NamedTuple):
    """Who holds a log date, and for how many seconds from now."""

    log_date: str
    run: str
    seconds: float


@dataclass
class Redis:
    """What Redis holds at the end.

    Attributes:
        pointer: what is live. lists: its lists by user. snapshots: the pointer as it was seen meanwhile, in order of time.
    """

    pointer: Snapshot
    moves: list[Move] = field(default_factory=list)
    lists: dict[int, list[int]] = field(default_factory=dict)
    leases: list[Lease] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)


class Reference(NamedTuple):
    """An undisturbed night: its digest, and its local storage."""

    digest: str
    storage: Path


@dataclass
class History:
    """All of it.

    Attributes:
        events: what listeners sent and were answered. unanswered: those that got no answer though everything was whole again.
        logs: the service's directory of logs. storage: the local storage, or a copy of the remote one.
        digests: of each finished night by its log date. expected: the undisturbed night of the same baseline, by log date.
        commands: each try. outputs: what the service and others printed. left: processes that were left running.
        seen: directories that were seen by halves. service_restarted: whether all of the service was ended at once.
        alone: whether no two nights ran at once.
    """

    tracks: int
    exploration: float
    events: list[Event]
    unanswered: list[Event]
    logs: Path
    storage: Path
    redis: Redis
    digests: dict[str, str] = field(default_factory=dict)
    expected: dict[str, Reference] = field(default_factory=dict)
    commands: list[Ran] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    service_restarted: bool = False
    alone: bool = True


def lines_of(directory: Path) -> Iterator[tuple[Path, list[Line | bytes]]]:
    """The lines of each log file of a directory: JSON objects, or the bytes of what is none.

    An unterminated last line is left out: it was never answered.
    """
    for path in sorted(directory.glob("*.jsonl")):
        found: list[Line | bytes] = []
        for line in path.read_bytes().split(b"\n")[:-1]:
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            found.append(record if isinstance(record, dict) else line)
        yield path, found


def unpacked(packed: bytes) -> list[int]:
    """The tracks of a list as Redis holds it."""
    return [number for number in struct.unpack(f"<{len(packed) // 4}I", packed) if number < NO_TRACK]


async def read_redis(ask: Ask, snapshots: list[Snapshot]) -> Redis:
    """What Redis holds now.

    Args:
        snapshots: the pointer as it was seen before.
    """
    generation, version = await ask("HMGET", f"{POINTER}live", "generation", "version")
    live = Snapshot(int(generation or 0), (version or b"").decode())
    moves = []
    for _, words in await ask("XRANGE", f"{POINTER}audit", "-", "+"):
        pairs = words.items() if isinstance(words, dict) else zip(words[::2], words[1::2], strict=True)
        told = {name.decode(): value.decode() for name, value in pairs}
        moves.append(Move(told["action"], told["from"], told["to"], told["who"]))
    leases = {day.decode(): json.loads(lease) for day, lease in (await ask("HGETALL", f"{POINTER}leases")).items()}
    now = float((await ask("TIME"))[0])
    held = [Lease(day, lease["run"], lease["till"] / 1000 - now) for day, lease in leases.items()]
    found = Redis(live, moves, leases=held, snapshots=snapshots)
    for key in await ask("KEYS", f"recsys:{{*}}:lists:{live.version}") if live.version else []:
        found.lists |= {int(user): unpacked(packed) for user, packed in (await ask("HGETALL", key)).items()}
    return found
