"""Which episodes a shard plays, and in what order they may start.

In go the users, the seed and the shard; out come groups of episodes that may run now. A user's episodes run one after another,
all in one shard. Totals of what was played are kept here too, as integers, so that they do not depend on the order.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.simulate import rng
from recsys.simulate.rng import Purpose

Ints = npt.NDArray[np.int64]


def shard_of(users: Ints, shards: int) -> Ints:
    """The shard, 0 to ``shards`` - 1, of each user id: a hash, the same in every run."""
    return rng.below(shards, rng.keys(0, users), 0, Purpose.SHARD)


class Schedule:
    """The episodes of one shard.

    Args:
        users: ids of all users. Each episode's user is drawn uniformly by (seed, episode).
        episodes: number of episodes of all shards together, from ``first_episode`` on.
    """

    def __init__(self, users: Ints, seed: int, episodes: int, shard: int = 0, shards: int = 1, first_episode: int = 0) -> None:
        every = np.arange(first_episode, first_episode + episodes, dtype=np.int64)
        keys = rng.keys(seed, every)
        row = rng.below(len(users), keys, 0, Purpose.USER)
        mine = shard_of(users[row], shards) == shard
        self.episode, self.row, self.key = every[mine], row[mine], keys[mine]
        self.size = len(self.episode)
        # The next episode of the same user, -1 if there is none.
        order = np.argsort(self.row, kind="stable")
        same = self.row[order][1:] == self.row[order][:-1]
        self._after = np.full(self.size, -1, np.int64)
        self._after[order[:-1][same]] = order[1:][same]
        first = np.ones(self.size, bool)
        first[order[1:][same]] = False
        # Every episode enters this queue once: the users' first ones now, each other when the one before it has ended.
        self._queue = np.empty(self.size, np.int64)
        self._taken, self._filled = 0, int(first.sum())
        self._queue[: self._filled] = np.flatnonzero(first)

    def take(self, count: int) -> Ints:
        """At most ``count`` positions (into ``episode``, ``row`` and ``key``) that may start now; no two share a user."""
        end = min(self._taken + count, self._filled)
        taken = self._queue[self._taken : end]
        self._taken = end
        return taken

    def ended(self, positions: Ints) -> None:
        """Let the users of ended episodes come again."""
        after = self._after[positions]
        after = after[after >= 0]
        self._queue[self._filled : self._filled + len(after)] = after
        self._filled += len(after)


@dataclass
class Totals:
    """Sums over ended episodes; times in hundredths."""

    episodes: int = 0
    next: int = 0
    last: int = 0
    time: int = 0
    time_squares: int = 0
    steps: int = 0
    steps_squares: int = 0

    def add(self, time: Ints, steps: Ints) -> None:
        """Count ended episodes: hundredths and plays of each, the first track included."""
        self.episodes += len(time)
        self.time += int(time.sum())
        self.time_squares += int((time * time).sum())
        self.steps += int(steps.sum())
        self.steps_squares += int((steps * steps).sum())

    @property
    def mean_time(self) -> tuple[float, float]:
        """Mean session time in tracks, and its standard error."""
        mean, error = _mean_and_error(self.episodes, self.time, self.time_squares)
        return mean / 100, error / 100

    @property
    def mean_steps(self) -> tuple[float, float]:
        """Mean number of plays of a session, and its standard error."""
        return _mean_and_error(self.episodes, self.steps, self.steps_squares)


def _mean_and_error(n: int, total: int, squares: int) -> tuple[float, float]:
    """Mean and standard error from exact sums; zeros where they are undefined."""
    if n == 0:
        return 0.0, 0.0
    if n == 1:
        return float(total), 0.0
    return total / n, math.sqrt((n * squares - total * total) / (n * (n - 1)) / n)
