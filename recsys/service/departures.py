"""Who left while Redis was away, until Redis knows: noted where every worker sees it.

In go ``last`` events that Redis did not record; out come the commands that close their users' sessions. A user who comes back to
any worker has that session closed first, and a worker that dies takes no note with it. A command closes only a session that is
older than the departure, so that it does no harm to send it late or twice.
"""

import fcntl
import logging
import mmap
import os
import time
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import prometheus_client as prom

from recsys.service.link import Word
from recsys.service.requests import Event
from recsys.versions import keyspace
from recsys.versions.functions import LIBRARY

log = logging.getLogger(__name__)

_DEPART = LIBRARY.function("depart")
#: Notes that all workers see, 32 bytes each, of memory that is taken as notes come; in how many places, from the one that the
#: user's hash names, a user's note may stand.
PLACES, NEXT_PLACES = 2**20, 32
#: Notes of one worker alone, for users whose places are all taken.
OWN_NOTES = 100_000
#: Places that are looked through at a time.
_BLOCK = 2**12
#: How many departures were noted, and how many of them had been when last all were known to Redis.
_NOTED, _DONE, _HEAD = 0, 1, 16
_MIXED = np.uint64(0x9E3779B97F4A7C15)

FORGOTTEN = prom.Counter("recsys_departures_forgotten", "Departures that found no place while Redis was away")


class Departure(NamedTuple):
    """A user who left; ``place`` (-1: of this worker alone) and ``left`` tell which note it was."""

    user: int
    place: int
    left: int
    event: bytes


class Departures:
    """Notes in memory that is shared with processes forked later; as much for few users as for many.

    Args:
        places: how many notes fit. own: how many more each worker holds.
    """

    def __init__(self, places: int = PLACES, own: int = OWN_NOTES) -> None:
        blocks = -(-places // _BLOCK)
        # Blocks are padded, so that the columns behind them are aligned.
        users = _HEAD + -(-blocks // 16) * 16
        # A file without a name: a lock on it ends with the process that holds it.
        self._file = os.memfd_create("departures")
        os.ftruncate(self._file, users + 32 * places)
        memory = mmap.mmap(self._file, 0)
        self._counts = memoryview(memory)[:_HEAD].cast("Q")
        #: Whether a block may hold notes; users; when each left, in milliseconds of the system's clock that every process shares
        #: (0: no note); keys of their events.
        self._used = np.frombuffer(memory, np.uint8, blocks, _HEAD)
        self._users = np.frombuffer(memory, np.uint64, places, users)
        self._left = np.frombuffer(memory, np.uint64, places, users + 8 * places)
        self._events = np.frombuffer(memory, "V16", places, users + 16 * places)
        self._offsets = np.arange(min(NEXT_PLACES, places), dtype=np.uint64)
        self._own: OrderedDict[int, tuple[int, bytes]] = OrderedDict()
        self._most = own
        self._told = False

    @property
    def waiting(self) -> bool:
        """Whether departures may wait for Redis."""
        return self._counts[_NOTED] != self._counts[_DONE] or bool(self._own)

    def note(self, event: Event) -> None:
        """Remember that the event's user has left now; a later departure replaces an earlier one."""
        user, now = event.user, _now()
        with self._locked():
            places = self._places_of([user])[0]
            left = self._left[places]
            own = np.flatnonzero((left != 0) & (self._users[places] == user))
            free = own if len(own) else np.flatnonzero(left == 0)
            if len(free):
                place = places[free[0]]
                # In this order: who dies on the way leaves something to look for, and no half of a note.
                self._counts[_NOTED] += 1
                self._used[place // _BLOCK] = 1
                self._users[place], self._events[place] = user, event.digest
                self._left[place] = now
        self._own.pop(user, None)
        if not len(free):
            self._own[user] = now, event.digest
            self._forget_oldest()

    def of(self, users: Iterable[int]) -> list[Departure]:
        """Those of some users who have left."""
        wanted = list(users)
        with self._locked():
            places = self._places_of(wanted)
            noted = (self._users[places] == np.array(wanted, np.uint64)[:, None]) & (self._left[places] != 0)
            found = self._at(places[noted])
        return found + [Departure(user, -1, *self._own[user]) for user in wanted if user in self._own]

    def some(self, count: int) -> list[Departure]:
        """At most so many, whoever they are; once there are none, none is waiting."""
        found: list[Departure] = []
        with self._locked():
            for block in np.flatnonzero(self._used).tolist():
                start = block * _BLOCK
                places = np.flatnonzero(self._left[start : start + _BLOCK])[: count - len(found)] + start
                found += self._at(places)
                if not len(places):
                    self._used[block] = 0
                if len(found) == count:
                    return found
            if not found:
                self._counts[_DONE] = self._counts[_NOTED]
        own = list(self._own.items())[: count - len(found)]
        return found + [Departure(user, -1, *note) for user, note in own]

    def forget(self, departures: Iterable[Departure]) -> None:
        """Redis knows of these; who has left again since stays noted."""
        with self._locked():
            for user, place, left, event in departures:
                if place < 0:
                    if self._own.get(user) == (left, event):
                        del self._own[user]
                elif self._left[place] == left and self._users[place] == user:
                    self._left[place] = 0

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """No other worker reads or writes notes meanwhile."""
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def _places_of(self, users: Sequence[int]) -> npt.NDArray[np.int64]:
        """Places [users, NEXT_PLACES] in which the users' notes may stand."""
        places = np.uint64(len(self._left))
        first = (np.array(users, np.uint64) * _MIXED >> np.uint64(32)) % places
        return ((first[:, None] + self._offsets) % places).astype(np.int64)

    def _at(self, places: npt.NDArray[np.int64]) -> list[Departure]:
        columns = (self._users[places], places, self._left[places], self._events[places])
        return [Departure(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]

    def _forget_oldest(self) -> None:
        if len(self._own) > self._most:
            self._own.popitem(last=False)
            FORGOTTEN.inc()
            if not self._told:
                self._told = True
                log.warning("more listeners leave than can be noted; recsys_departures_forgotten_total counts the others")


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
