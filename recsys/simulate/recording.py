"""Sessions played in process, kept as arrays: exploratory logs by the million, without a service and without files.

In go listeners and what answers them; out come the plays of each log date.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

import numpy as np
import numpy.typing as npt

from recsys.simulate import rng
from recsys.simulate.listeners import Listeners
from recsys.simulate.play import Ints, Plays, Recommender
from recsys.simulate.rng import Purpose
from recsys.simulate.run import run_in_process

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Logged:
    """Plays of one log date, arrays of one length in the order of episode and step.

    Attributes:
        user, track: int64, ids. time: int64, hundredths of the track. session: int64, numbers. step: int64, from 0 on.
        propensity: float64, of the answer that the play is; NaN for first tracks.
    """

    day: date
    user: Ints
    track: Ints
    time: Ints
    session: Ints
    step: Ints
    propensity: Floats


class Answering(Recommender, Protocol):
    """A recommender that knows how likely its latest answers were."""

    propensity: Floats


class Explorer:
    """An unplayed track uniformly at random.

    Attributes:
        propensity: float64, of the latest answers.
    """

    def __init__(self, listeners: Listeners, seed: int) -> None:
        self._users, self._tracks, self._seed = np.sort(listeners.users), listeners.catalogue.size, seed
        self._heard = np.full((len(self._users), 16), -1, np.int64)
        self.propensity: Floats = np.zeros(0)

    def next(self, plays: Plays) -> Ints:
        """A track for each session; a draw that was played already is drawn again."""
        row = np.searchsorted(self._users, plays.user)
        longest = int(plays.step.max()) + 1
        if longest > self._heard.shape[1]:
            self._heard = np.concatenate([self._heard, np.full_like(self._heard, -1)], axis=1)
        self._heard[row[plays.step == 0]] = -1
        self._heard[row, plays.step] = plays.track
        keys = rng.keys(self._seed, plays.episode)
        answer = rng.below(self._tracks, keys, plays.step, Purpose.RECOMMENDATION)
        again = np.arange(len(row))
        for redraw in range(1, 100):
            again = again[(self._heard[row[again], :longest] == answer[again, None]).any(axis=1)]
            if not len(again):
                break
            keys = rng.keys(self._seed + redraw, plays.episode[again])
            answer[again] = rng.below(self._tracks, keys, plays.step[again], Purpose.RECOMMENDATION)
        self.propensity = 1.0 / np.maximum(1, self._tracks - plays.step - 1)
        return answer

    def last(self, plays: Plays) -> None:
        """Nothing is remembered."""


class Recorder:
    """Passes on what another recommender answers, and keeps every play."""

    def __init__(self, behind: Answering) -> None:
        self._behind = behind
        self._parts: list[Plays] = []
        self._answers: list[tuple[Ints, Ints, Floats]] = []

    def next(self, plays: Plays) -> Ints:
        """The answer, noted."""
        answer = self._behind.next(plays)
        self._parts.append(plays)
        self._answers.append((plays.episode, plays.step + 1, self._behind.propensity))
        return answer

    def last(self, plays: Plays) -> None:
        """The last play, noted."""
        self._behind.last(plays)
        self._parts.append(plays)

    def logged(self, day: date) -> Logged:
        """Everything so far, in order."""
        user, track, time, episode, step = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        order = np.lexsort((step, episode))
        propensity = np.full(len(order), np.nan)
        answered, at, chance = (np.concatenate(column) for column in zip(*self._answers, strict=True))
        propensity[step[order] > 0] = chance[np.lexsort((at, answered))]
        return Logged(day, user[order], track[order], time[order], episode[order], step[order], propensity)


def record(listeners: Listeners, behind: Answering, sessions: int, seed: int, days: Sequence[date]) -> list[Logged]:
    """Play sessions, as many on each day."""
    found = []
    for number, day in enumerate(days):
        recorder = Recorder(behind)
        first = sessions * number // len(days)
        share = sessions * (number + 1) // len(days) - first
        run_in_process(listeners, recorder, episodes=share, seed=seed, first_episode=first, progress=False)
        found.append(recorder.logged(day))
    return found
