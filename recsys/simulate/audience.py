"""The listeners of a world for whoever plays them in process: what they like stays inside.

In go a world directory and recommenders; out come exploratory logs to learn from, and how long each session lasted.
"""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recsys.simulate.growth_record import WorldRecord
from recsys.simulate.listeners import load_listeners
from recsys.simulate.oracle import Oracle
from recsys.simulate.play import Ints, Plays, Recommender
from recsys.simulate.recording import Explorer, Logged, record
from recsys.simulate.run import run_in_process


class Lasted(NamedTuple):
    """Sessions by number, int64 arrays of one length: who listened, and for how many hundredths of tracks, the first included."""

    user: Ints
    time: Ints


class Audience:
    """See the module.

    Attributes:
        checksum: of the world's files, as written down when it was made. users, tracks: how many there are.
    """

    def __init__(self, world: Path) -> None:
        self._listeners = load_listeners(world)
        self.checksum = WorldRecord.read(world).checksum or ""
        self.users, self.tracks = len(self._listeners.users), self._listeners.catalogue.size

    def explored(self, sessions: int, seed: int, days: Sequence[date]) -> list[Logged]:
        """Sessions in which every answer is an unplayed track at random, as many on each day."""
        return record(self._listeners, Explorer(self._listeners, seed), sessions, seed, days)

    def play(self, recommender: Recommender, sessions: int, seed: int) -> Lasted:
        """Play sessions: for the same seed the same listeners, interests, first tracks and random numbers, whatever answers."""
        tally = _Tally(recommender, sessions)
        run_in_process(self._listeners, tally, episodes=sessions, seed=seed, progress=False)
        return Lasted(tally.user, tally.time)

    def play_oracle(self, sessions: int, seed: int) -> Lasted:
        """The same sessions, answered by a policy that knows the world."""
        return self.play(Oracle(self._listeners, seed, sessions), sessions, seed)


class _Tally:
    """Passes on what another recommender answers, and adds up the time of each session."""

    def __init__(self, behind: Recommender, sessions: int) -> None:
        self._behind = behind
        self.user, self.time = np.zeros(sessions, np.int64), np.zeros(sessions, np.int64)

    def next(self, plays: Plays) -> Ints:
        self._add(plays)
        return self._behind.next(plays)

    def last(self, plays: Plays) -> None:
        self._add(plays)
        self._behind.last(plays)

    def _add(self, plays: Plays) -> None:
        self.user[plays.episode] = plays.user
        self.time[plays.episode] += plays.time
