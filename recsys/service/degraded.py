"""What live listeners get while Redis is away: the TOP 100 from process memory.

Departures are remembered, so that the sessions they end are closed once Redis is back. However long that takes, the memory is
bounded: the oldest is forgotten first.
"""

import logging
from collections import OrderedDict
from collections.abc import Sequence

import prometheus_client as prom

from recsys.logs.record import NO_SESSION
from recsys.service.answers import Answers, Moment, body_of, line_of
from recsys.service.choose import Candidates, Choice, from_any, pick, request_hash, unplayed
from recsys.service.requests import Event
from recsys.service.state import Scope

#: How many tracks of listeners and how many departures are remembered; some 20 MiB each.
MAX_PLAYS = 100_000
MAX_DEPARTURES = 50_000

FORGOTTEN = prom.Counter(
    "recsys_degraded_forgotten", "Listeners whose plays or whose departure had to be forgotten while Redis was away", ["what"]
)

log = logging.getLogger(__name__)


class Degraded:
    """The memory of one outage; ``tracks`` is the size of the catalogue."""

    def __init__(self, tracks: int) -> None:
        self._tracks = tracks
        self._plays: OrderedDict[int, set[int]] = OrderedDict()
        self._size = 0  # tracks in _plays
        self._departed: OrderedDict[int, Event] = OrderedDict()
        self._told: set[str] = set()

    @property
    def has_departed(self) -> bool:
        """Whether departures wait for Redis."""
        return bool(self._departed)

    def take_departed(self, count: int) -> list[Event]:
        """At most so many of the departures to be recorded, the oldest first."""
        return [self._departed.popitem(last=False)[1] for _ in range(min(count, len(self._departed)))]

    def put_back(self, departed: Sequence[Event]) -> None:
        """Remember departures that could not be recorded after all; a newer one of the same user wins."""
        self._departed = OrderedDict((event.user, event) for event in departed) | self._departed
        self._forget()

    def end(self) -> None:
        """Redis answers: what was played while it was away does not matter any more."""
        self._plays.clear()
        self._size = 0
        self._told.clear()

    def answers(self, scope: Scope, events: Sequence[Event], now: float, latency: float) -> Answers:
        """Answers from the TOP 100; ``now`` and ``latency`` as in :meth:`recsys.service.answers.Answerer.answers`."""
        answers = Answers([], [], [])
        moment = Moment(now, latency, degraded=True)
        for event in events:
            played = self._plays.pop(event.user, set())
            step = len(played)
            self._size -= step
            choice: Choice | None = None
            if event.last:
                self._departed.pop(event.user, None)
                self._departed[event.user] = event
            else:
                choice = self._choose(scope, event, played)
                self._plays[event.user] = played
                self._size += len(played)
                answers.sources.append(choice.source)
            answers.bodies.append(body_of(event, choice))
            answers.lines.append(line_of(moment, scope.slot_of(event.user), event, NO_SESSION, step, choice))
        self._forget()
        return answers

    def _forget(self) -> None:
        """Keep to the bounds; of the listeners those go first who have been silent longest."""
        while self._size > MAX_PLAYS:
            self._size -= len(self._plays.popitem(last=False)[1])
            self._tell("plays")
        while len(self._departed) > MAX_DEPARTURES:
            self._departed.popitem(last=False)
            self._tell("departures")

    def _tell(self, what: str) -> None:
        FORGOTTEN.labels(what).inc()
        if what not in self._told:
            self._told.add(what)
            log.warning(
                "Redis is away for so long that the oldest %s are forgotten; recsys_degraded_forgotten_total counts them", what
            )

    def _choose(self, scope: Scope, event: Event, played: set[int]) -> Choice:
        """An unplayed track of the TOP 100, else any unplayed one; ``played`` grows by what was played and what is answered."""
        played.add(event.track)
        draw = request_hash(scope.seed, event.user, 0, len(played), event.track)
        found = from_any(scope.version.top, played, "top100")
        choice = pick(found or Candidates((unplayed(self._tracks, played, draw),), "top100"), draw)
        played.add(choice.track)
        return choice
