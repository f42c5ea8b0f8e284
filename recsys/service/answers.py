"""From events to Redis calls, and from the replies to answers and log lines.

A call records the events of one bucket and version; its reply holds, for each event, the new state of the user's session and the
user's list. What follows is a pure function of scope, event and reply.
"""

import struct
from array import array
from collections.abc import Callable, Sequence
from typing import NamedTuple

import orjson

from recsys.service.candidates import candidates
from recsys.service.choose import Choice, explore, request_hash
from recsys.service.link import Word
from recsys.service.requests import Event
from recsys.service.state import Scope, Slot, Version
from recsys.service.world import World
from recsys.versions import keyspace
from recsys.versions.functions import LIBRARY

_RECORD = LIBRARY.function("events")
_EVENT = struct.Struct("<BII16s").pack
#: session, step, whether the session is open, key of its last event, length of the version's name
_STATE = struct.Struct("<IIB16sB")


class Call(NamedTuple):
    """A command, and the events that it records: their places in the request and what serves them."""

    words: tuple[Word, ...]
    events: Sequence[tuple[int, Event, Slot]]


class Answers(NamedTuple):
    """What a request is answered: JSON bodies and log lines in the order of the events, and what chose each track."""

    bodies: list[bytes]
    lines: list[bytes]
    sources: list[str]


def calls(scope: Scope, events: Sequence[Event], ttl: int, first_session: int, deadline: int) -> list[Call]:
    """The commands that record events of different users.

    Args:
        ttl: seconds that an idle history is kept. first_session: number of a user's first session. deadline: until when they may
            be executed, as :attr:`recsys.service.link.RedisLink.deadline`.
    """
    groups: dict[str, tuple[str, list[str], list[bytes], list[tuple[int, Event, Slot]]]] = {}
    for place, event in enumerate(events):
        user = event.user
        slot = scope.slot_of(user if event.user_id is None else event.user_id)
        b = user % keyspace.BUCKETS
        lists = slot.version.lists[b]
        group = groups.get(lists)
        if group is None:
            groups[lists] = group = (slot.version.name, [], [], [])
        flags = 1 if event.last else 2 if slot.wants_list else 0
        group[1].append(f"{scope.history[b]}{user}")
        group[2].append(_EVENT(flags, event.track, round(event.time * 10_000), event.digest) + b"%d" % user)
        group[3].append((place, event, slot))
    return [
        Call(("FCALL", _RECORD, len(keys) + 1, lists, *keys, version, ttl, first_session, deadline, *packed), recorded)
        for lists, (version, keys, packed, recorded) in groups.items()
    ]


class Answerer:
    """Answers to recorded events; ``loaded`` finds a version in memory by its name."""

    def __init__(self, loaded: Callable[[str], Version | None]) -> None:
        self._loaded = loaded

    def answers(self, scope: Scope, recorded: Sequence[tuple[Call, list[bytes]]], now: float, latency: float) -> Answers:
        """Answers to a request.

        Args:
            recorded: the calls with their replies.
            now: seconds since the epoch. latency: seconds that the request has taken.
        """
        count = sum(len(call.events) for call, _ in recorded)
        bodies, lines = [b""] * count, [b""] * count
        sources: list[str] = []
        moment = Moment(now, latency)
        for call, reply in recorded:
            for (place, event, slot), state, packed in zip(call.events, reply[::2], reply[1::2], strict=True):
                session, step, _, _, size = _STATE.unpack_from(state)
                plays = _STATE.size + size
                held = state[_STATE.size : plays].decode()
                if scope.withdrawn and held == scope.withdrawn != slot.version.name:
                    packed = b""  # the list of a version that nobody may get again
                elif held != slot.version.name:
                    # A repeated event gets the answer that it got before the version changed.
                    slot = scope.from_version(slot, self._loaded(held) or slot.version)
                choice: Choice | None = None
                if not event.last:
                    choice = self._choose(scope, slot, event, session, step, packed, keyspace.unpack(state[plays:]))
                    sources.append(choice.source)
                bodies[place] = body_of(event, choice, scope.world)
                lines[place] = line_of(moment, slot, event, session, step, choice)
        return Answers(bodies, lines, sources)

    def _choose(
        self, scope: Scope, slot: Slot, event: Event, session: int, step: int, packed: bytes, heard: "array[int]"
    ) -> Choice:
        played = set(heard[::2])
        draw = request_hash(scope.seed, event.user, session, step, event.track)
        listed = keyspace.unpack(packed)
        greedy = candidates(slot.arm, slot.version, listed, heard, played, scope.stock, scope.newcomers)
        return explore(greedy, slot.exploration, scope.stock, played, draw)


class Moment:
    """What the log lines of events answered together share: the time, and how long the answer took; whether Redis was away."""

    __slots__ = ("degraded", "head", "latency")

    def __init__(self, now: float, latency: float, degraded: bool = False) -> None:
        self.head = b'","timestamp":%d,"user":' % int(now * 1000)
        self.latency = b',"latency":%a,"recommendation":' % latency
        self.degraded = b'","degraded":true,"propensity":%a}\n' if degraded else b'","degraded":false,"propensity":%a}\n'


def line_of(moment: Moment, slot: Slot, event: Event, session: int, step: int, choice: Choice | None) -> bytes:
    """The log line of an event: the fields of :data:`recsys.logs.record.FIELDS` in their order, then names that are texts."""
    key = b"null" if event.key is None else orjson.dumps(event.key)
    if choice is None:
        answered, chosen = b"null", (b"null" + moment.degraded[1:]).replace(b"%a", b"null")
    else:
        answered = b"%d" % choice.track
        chosen = b'"' + choice.source.encode() + moment.degraded % choice.propensity
    line = b'{"message":"%b%b%d,"track":%d,"time":%a%b%b,%b,"session":%d,"step":%d,"event":%b,"source":%b' % (
        b"last" if event.last else b"next", moment.head, event.user, event.track, event.time, moment.latency,
        answered, slot.logged, session, step, key, chosen,
    )  # fmt: skip
    if event.user_id is not None:
        line = b'%b,"user_id":%b}\n' % (line[:-2], orjson.dumps(event.user_id))
    if event.track_id is not None:
        line = b'%b,"track_id":%b}\n' % (line[:-2], orjson.dumps(event.track_id))
    return line


def body_of(event: Event, choice: Choice | None, world: World) -> bytes:
    """The JSON answer to an event: the user as given, and the track with its owner's id."""
    user = b"%d" % event.user if event.user_id is None else orjson.dumps(event.user_id)
    if choice is None:
        return b'{"user":%b}' % user
    own = world.id_of(choice.track)
    if own is None:
        return b'{"user":%b,"track":%d}' % (user, choice.track)
    return b'{"user":%b,"track":%d,"id":%b}' % (user, choice.track, orjson.dumps(own))
