"""Who left while Redis was away, until Redis knows: noted where every worker sees it.

In go ``last`` events that Redis did not record; out come the commands that close their users' sessions. A user who comes back to
any worker has that session closed first, and a worker that dies takes no note with it. A command closes only a session that is
older than the departure, so that it does no harm to send it late or twice.
"""

import mmap
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from recsys.service.link import Word
from recsys.service.requests import Event
from recsys.versions import keyspace
from recsys.versions.functions import LIBRARY

_DEPART = LIBRARY.function("depart")
#: When the user left, in milliseconds of the system's clock that every process shares, or 0; and the key of the event.
_NOTE = np.dtype([("left", "<u8"), ("event", "V16")])
#: How many departures were noted, and how many of them had been when last all were known to Redis.
_NOTED, _DONE, _HEAD = 0, 1, 16


class Departure(NamedTuple):
    """A user who left; ``place`` and ``left`` tell which note it was."""

    user: int
    place: int
    left: int
    event: bytes


class Departures:
    """Notes in memory that is shared with processes forked later, 24 bytes a user.

    Args:
        places: a place from 0 for each user.
    """

    def __init__(self, places: Mapping[int, int]) -> None:
        self._places = places
        self._users = np.fromiter(places, np.int64, len(places))
        memory = mmap.mmap(-1, _HEAD + _NOTE.itemsize * len(places))
        self._counts = memoryview(memory)[:_HEAD].cast("Q")
        self._notes = np.frombuffer(memory, _NOTE, offset=_HEAD)

    @property
    def waiting(self) -> bool:
        """Whether departures may wait for Redis."""
        return self._counts[_NOTED] != self._counts[_DONE]

    def note(self, event: Event) -> None:
        """Remember that the event's user has left now; a later departure replaces an earlier one."""
        self._notes[self._places[event.user]] = (_now(), event.digest)
        # Afterwards: who finds no note has seen the count before.
        self._counts[_NOTED] += 1

    def of(self, users: Iterable[int]) -> list[Departure]:
        """Those of some users who have left."""
        return self._at([self._places[user] for user in users])

    def some(self, count: int) -> list[Departure]:
        """At most so many, whoever they are; once there are none, none is waiting."""
        noted = self._counts[_NOTED]
        found = self._at(np.flatnonzero(self._notes["left"])[:count].tolist())
        if not found:
            self._counts[_DONE] = noted
        return found

    def forget(self, departures: Iterable[Departure]) -> None:
        """Redis knows of these; who has left again since stays noted."""
        for departure in departures:
            if self._notes["left"][departure.place] == departure.left:
                self._notes["left"][departure.place] = 0

    def _at(self, places: list[int]) -> list[Departure]:
        rows = zip(places, self._users[places].tolist(), self._notes[places].tolist(), strict=True)
        return [Departure(user, place, left, event) for place, user, (left, event) in rows if left]


def commands(
    departures: Iterable[Departure], history: Sequence[str], version: str, ttl: int, first_session: int
) -> list[tuple[tuple[Word, ...], list[Departure]]]:
    """Commands that close the sessions of users who have left, each with its departures: of one bucket, as Redis wants them.

    Args:
        history: prefix of the history key by bucket. version: what is live. ttl, first_session: as for other events.
    """
    buckets: dict[int, list[Departure]] = defaultdict(list)
    for departure in departures:
        buckets[keyspace.bucket(departure.user)].append(departure)
    now = _now()
    return [
        (
            (
                "FCALL", _DEPART, len(found), *[f"{history[bucket]}{each.user}" for each in found], version, ttl, first_session,
                *[each.event + b"%d" % (now - each.left) for each in found],
            ),
            found,
        )
        for bucket, found in buckets.items()
    ]  # fmt: skip


def _now() -> int:
    return time.monotonic_ns() // 1_000_000
