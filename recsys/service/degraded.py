"""What live listeners get while Redis is away, whoever they are: the TOP 100 from process memory.

What they play is remembered, so that nothing comes twice. However long that takes, the memory is bounded: who has been silent
longest is forgotten first. Departures are noted in :mod:`recsys.service.departures`.
"""

import logging
from collections import OrderedDict
from collections.abc import Sequence

import prometheus_client as prom

from recsys.logs.record import NO_SESSION
from recsys.service.answers import Answers, Moment, body_of, line_of
from recsys.service.choose import Candidates, Choice, explore, from_any, request_hash
from recsys.service.departures import Departures
from recsys.service.requests import Event
from recsys.service.state import Scope

#: How many tracks of listeners are remembered; some 20 MiB.
MAX_PLAYS = 100_000

FORGOTTEN = prom.Counter("recsys_degraded_forgotten", "Listeners whose plays had to be forgotten while Redis was away")

log = logging.getLogger(__name__)


class Degraded:
    """The memory of one outage; who leaves is noted in ``departures``."""

    def __init__(self, departures: Departures) -> None:
        self._departures = departures
        self._plays: OrderedDict[int, set[int]] = OrderedDict()
        self._size = 0  # tracks in _plays
        self._told = False

    def end(self) -> None:
        """Redis answers: what was played while it was away does not matter any more."""
        self._plays.clear()
        self._size = 0
        self._told = False

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
                self._departures.note(event)
            else:
                choice = self._choose(scope, event, played)
                self._plays[event.user] = played
                self._size += len(played)
                answers.sources.append(choice.source)
            answers.bodies.append(body_of(event, choice, scope.world))
            slot = scope.slot_of(event.user if event.user_id is None else event.user_id, safely=True)
            answers.lines.append(line_of(moment, slot, event, NO_SESSION, step, choice))
        self._forget()
        return answers

    def _forget(self) -> None:
        """Keep to the bound; of the listeners those go first who have been silent longest."""
        while self._size > MAX_PLAYS:
            self._size -= len(self._plays.popitem(last=False)[1])
            FORGOTTEN.inc()
            if not self._told:
                self._told = True
                log.warning(
                    "Redis is away for so long that the oldest plays are forgotten; recsys_degraded_forgotten_total counts them"
                )

    def _choose(self, scope: Scope, event: Event, played: set[int]) -> Choice:
        """An unplayed track of the TOP 100, else any unplayed one; ``played`` grows by what was played and what is answered."""
        played.add(event.track)
        draw = request_hash(scope.seed, event.user, 0, len(played), event.track)
        found = from_any(scope.version.top, played, scope.stock.barred, "top100")
        choice = explore(found or Candidates((), "top100"), 0.0, scope.stock, played, draw)
        played.add(choice.track)
        return choice
