"""What live listeners get while Redis is away: the TOP 100 from process memory.

Departures are remembered, so that the sessions they end are closed once Redis is back.
"""

from collections import Counter
from collections.abc import Sequence

from recsys.service.answers import Answers, Moment, body_of, line_of
from recsys.service.choose import Candidates, Choice, from_any, pick, request_hash, unplayed
from recsys.service.requests import Event
from recsys.service.state import Scope

#: Session number in the log of events that no session state stands behind.
NO_SESSION = -1


class Degraded:
    """The memory of one outage; ``tracks`` is the size of the catalogue."""

    def __init__(self, tracks: int) -> None:
        self._tracks = tracks
        self._plays: dict[int, set[int]] = {}
        self._departed: dict[int, Event] = {}

    @property
    def has_departed(self) -> bool:
        """Whether departures wait for Redis."""
        return bool(self._departed)

    def take_departed(self) -> list[Event]:
        """The departures to be recorded; the memory of the outage is gone."""
        departed = list(self._departed.values())
        self._departed, self._plays = {}, {}
        return departed

    def put_back(self, departed: Sequence[Event]) -> None:
        """Remember departures that could not be recorded after all; a newer one of the same user wins."""
        self._departed = {event.user: event for event in departed} | self._departed

    def answers(self, scope: Scope, events: Sequence[Event], now: float, latency: float) -> Answers:
        """Answers from the TOP 100; ``now`` and ``latency`` as in :meth:`recsys.service.answers.Answerer.answers`."""
        answers = Answers([], [], Counter())
        moment = Moment(now, latency, degraded=True)
        for event in events:
            played = self._plays.setdefault(event.user, set())
            step = len(played)
            choice: Choice | None = None
            if event.last:
                del self._plays[event.user]
                self._departed[event.user] = event
            else:
                choice = self._choose(scope, event, played)
                answers.sources[choice.source] += 1
            answers.bodies.append(body_of(event, choice))
            answers.lines.append(line_of(moment, scope.slot_of(event.user), event, NO_SESSION, step, choice))
        return answers

    def _choose(self, scope: Scope, event: Event, played: set[int]) -> Choice:
        """An unplayed track of the TOP 100, else any unplayed one; ``played`` grows by what was played and what is answered."""
        played.add(event.track)
        draw = request_hash(scope.seed, event.user, 0, len(played), event.track)
        found = from_any(scope.version.top, played, "top100")
        choice = pick(found or Candidates((unplayed(self._tracks, played, draw),), "top100"), draw)
        played.add(choice.track)
        return choice
