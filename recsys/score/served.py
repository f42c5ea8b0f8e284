"""What the service answers, without a service: an arm of a version, choice by choice through the service's own code.

In go plays of simulated listeners; out come tracks.
"""

from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recsys.experiments import Arm
from recsys.service.candidates import candidates
from recsys.service.choose import Choice, Stock, explore, request_hash
from recsys.service.state import Version

if TYPE_CHECKING:
    from recsys.simulate.play import Plays

_NONE = array("I")


class Served:
    """See the module.

    Args:
        tracks: how many the catalogue has. arm: the arm that all listeners are in. lists: each user's entry, as published.
        exploration: share of random answers.

    Attributes:
        propensity: float64, of the latest answers.
    """

    def __init__(
        self,
        tracks: int,
        arm: Arm | None,
        version: Version,
        lists: Mapping[int, "array[int]"],
        seed: int,
        exploration: float = 0.0,
    ) -> None:
        self._stock, self._arm, self._version, self._lists = Stock.of(tracks), arm, version, lists
        self._seed, self._exploration = seed, exploration
        self._plays: dict[int, list[int]] = {}
        self._session: dict[int, int] = {}
        self.propensity: npt.NDArray[np.float64] = np.zeros(0)

    def next(self, plays: "Plays") -> npt.NDArray[np.int64]:
        """A track for each session, one after another."""
        columns = (plays.user.tolist(), plays.track.tolist(), plays.time.tolist(), plays.step.tolist())
        choices = [self._next(*play) for play in zip(*columns, strict=True)]
        self.propensity = np.array([choice.propensity for choice in choices])
        return np.array([choice.track for choice in choices])

    def _next(self, user: int, track: int, time: int, step: int) -> Choice:
        heard = self._plays.setdefault(user, [])
        if step == 0:
            heard.clear()
            self._session[user] = self._session.get(user, -1) + 1
        heard += (track, time * 100)
        played = set(heard[::2])
        draw = request_hash(self._seed, user, self._session[user], step, track)
        greedy = candidates(self._arm, self._version, self._lists.get(user, _NONE), heard, played, self._stock)
        return explore(greedy, self._exploration, self._stock, played, draw)

    def last(self, plays: "Plays") -> None:
        """The next play of these users starts a new session."""
