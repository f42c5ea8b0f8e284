"""The ceiling of a world: a policy that knows sessions' interests, embeddings and the artist discount; a yardstick alone.

In go listeners; out come answers that maximise the time of each next track, as the simulator will compute it.
"""

import numpy as np

from recsys.simulate import rng
from recsys.simulate.listeners import Listeners
from recsys.simulate.play import Ints, Plays
from recsys.simulate.rng import Purpose

CANDIDATES = 256
CHUNK = 512


class Oracle:
    """Greedy with full knowledge, among the 256 tracks nearest to the session's interest.

    Args:
        seed, episodes: of the simulation that it answers; from them it knows every session's interest.
    """

    def __init__(self, listeners: Listeners, seed: int, episodes: int) -> None:
        self._them = listeners
        keys = rng.keys(seed, np.arange(episodes))
        user = rng.below(len(listeners.users), keys, 0, Purpose.USER)
        begin = listeners.starts[user]
        entry = begin + rng.below(listeners.starts[user + 1] - begin, keys, 0, Purpose.INTEREST)
        interests, self._row = np.unique(listeners.interests[entry], return_inverse=True)
        count = min(CANDIDATES, listeners.catalogue.size)
        self._tracks = np.empty((len(interests), count), np.int64)
        self._affinity = np.empty((len(interests), count))
        for start in range(0, len(interests), CHUNK):
            scores = listeners.embeddings[interests[start : start + CHUNK]] @ listeners.embeddings.T
            best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
            self._tracks[start : start + CHUNK] = best
            self._affinity[start : start + CHUNK] = np.take_along_axis(scores, best, axis=1)
        self._order = np.argsort(listeners.users)
        self._heard = np.full((len(listeners.users), 64), -1, np.int64)

    def next(self, plays: Plays) -> Ints:
        """A track for each session."""
        them = self._them
        user = self._order[np.searchsorted(them.users, plays.user, sorter=self._order)]
        longest = int(plays.step.max()) + 1
        while longest > self._heard.shape[1]:
            self._heard = np.concatenate([self._heard, np.full_like(self._heard, -1)], axis=1)
        self._heard[user[plays.step == 0]] = -1
        self._heard[user, plays.step] = plays.track
        row = self._row[plays.episode]
        tracks, artists = self._tracks[row], them.catalogue.artist_of[self._tracks[row]]
        earlier, repeated = np.zeros(tracks.shape), np.zeros(tracks.shape, bool)
        for step in range(longest):
            heard = self._heard[user, step]
            repeated |= tracks == heard[:, None]
            earlier += (artists == them.catalogue.artist_of[heard][:, None]) & (heard >= 0)[:, None]
        logit = (self._affinity[row] - them.bias[user][:, None]) * them.sharpness[user][:, None]
        time = them.gamma[user][:, None] ** earlier / (1 + np.exp(-np.clip(logit, -40, 40)))
        time[repeated] = -1
        answer: Ints = tracks[np.arange(len(tracks)), time.argmax(axis=1)]
        return answer

    def last(self, plays: Plays) -> None:
        """Nothing is remembered."""
