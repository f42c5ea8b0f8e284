"""Sessions of one shard on their way: which slots start, what they ask, what an answer does to them.

:class:`Play` joins schedule, engine and totals, and knows nothing of transport. :func:`play_in_process` drives one against a
recommender that is a Python object; :mod:`recsys.simulate.client` drives one over HTTP.
"""

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from recsys.exceptions import SimulationError
from recsys.simulate.engine import Engine
from recsys.simulate.listeners import Listeners
from recsys.simulate.progress import Progress
from recsys.simulate.schedule import Schedule, Totals

Ints = npt.NDArray[np.int64]

#: Sessions that an in-process recommender is asked about together.
TOGETHER = 2048


class Plays(NamedTuple):
    """The latest play of some sessions; int64 arrays of one length: user ids, tracks, hundredths, episodes, steps."""

    user: Ints
    track: Ints
    time: Ints
    episode: Ints
    step: Ints


class Recommender(Protocol):
    """What answers listeners in process."""

    def next(self, plays: Plays) -> Ints:
        """The next track of each session."""

    def last(self, plays: Plays) -> None:
        """These sessions end with these plays."""


class Play:
    """Sessions in flight; slot numbers tie them to whoever carries requests."""

    def __init__(self, listeners: Listeners, schedule: Schedule, slots: int, progress: Progress) -> None:
        self.engine = Engine(listeners, slots)
        self.totals = Totals()
        self.size = schedule.size
        self._schedule = schedule
        self._position = np.zeros(slots, np.int64)
        self._users = listeners.users
        self._tracks = listeners.catalogue.size
        self._progress = progress

    @property
    def done(self) -> bool:
        """Whether every episode has ended."""
        return self.totals.episodes == self.size

    def start(self, slots: Ints) -> Ints:
        """Begin sessions in free slots; returns those slots that got one."""
        taken = self._schedule.take(len(slots))
        slots = slots[: len(taken)]
        if len(taken):
            self._position[slots] = taken
            s = self._schedule
            self.engine.start(slots, s.row[taken], s.episode[taken], s.key[taken])
        return slots

    def plays(self, slots: Ints) -> Plays:
        """What these sessions report: user ids and their latest plays."""
        e = self.engine
        return Plays(self._users[e.user[slots]], e.track[slots], e.time[slots], e.episode[slots], e.step[slots])

    def answer(self, slots: Ints, recommended: Ints) -> npt.NDArray[np.bool_]:
        """Play the answered tracks; returns which of the sessions want to end.

        Raises:
            SimulationError: an answer is no track of the catalogue.
        """
        unknown = (recommended < 0) | (recommended >= self._tracks)
        if unknown.any():
            i = int(np.argmax(unknown))
            user = int(self._users[self.engine.user[slots[i]]])
            raise unknown_track(int(recommended[i]), user, self._tracks)
        self.totals.next += len(slots)
        return self.engine.play(slots, recommended)

    def end(self, slots: Ints) -> None:
        """Count sessions whose last event was answered; their slots are free."""
        if not len(slots):
            return
        self.totals.last += len(slots)
        self.totals.add(self.engine.total[slots], self.engine.step[slots] + 1)
        self._schedule.ended(self._position[slots])
        self._progress.update(self.totals.episodes)


def unknown_track(track: object, user: int, tracks: int) -> SimulationError:
    """The error for a recommendation that is no track."""
    return SimulationError(
        f"user {user} was recommended track {track!r}, which is not in the catalogue (0 to {tracks - 1}); "
        "service and simulator must use the same world"
    )


def play_in_process(play: Play, recommender: Recommender, slots: int) -> None:
    """Play all sessions against a Python object."""
    running = play.start(np.arange(slots))
    free = np.arange(len(running), slots)
    while len(running):
        ends = play.answer(running, np.asarray(recommender.next(play.plays(running)), np.int64))
        over = running[ends]
        if len(over):
            recommender.last(play.plays(over))
            play.end(over)
            free = np.concatenate([free, over])
            started = play.start(free)
            free = free[len(started) :]
            running = np.concatenate([running[~ends], started])
