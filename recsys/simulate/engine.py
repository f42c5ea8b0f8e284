"""Many sessions played in lockstep: arrays of sessions in, arrays of plays out.

An :class:`Engine` has numbered slots, each with at most one session. The caller starts sessions in slots, gives recommendations
for any group of slots and learns who leaves. What happens in a session depends on (seed, episode) and the recommendations only,
not on the group it is played in: every sum runs over one row in double precision, and times are integer hundredths.
"""

import numpy as np
import numpy.typing as npt

from recsys.simulate import rng
from recsys.simulate.listeners import Listeners
from recsys.simulate.rng import Purpose

Ints = npt.NDArray[np.int64]

#: A fully played track, in hundredths.
WHOLE = 100


class Engine:
    """Sessions in flight.

    Attributes:
        user: int64 [slots], the listener's row. episode: int64 [slots].
        track: int64 [slots], the track just played. time: int64 [slots], hundredths of it played.
        step: int64 [slots], 0 while the listener's own first track is the latest.
        total: int64 [slots], hundredths played in the session so far.
    """

    def __init__(self, listeners: Listeners, slots: int) -> None:
        self.listeners = listeners
        self._artist_of = listeners.catalogue.artist_of
        self.user, self.episode, self.track, self.time, self.step, self.total, self._interest, self._budget = np.zeros(
            (8, slots), np.int64
        )
        self._key = np.zeros(slots, np.uint64)
        # Track and artist of each step; -1 beyond the latest, so that a stale entry never counts.
        self._tracks = np.full((slots, 16), -1, np.int32)
        self._artists = np.full((slots, 16), -1, np.int32)

    def start(self, slots: Ints, users: Ints, episodes: Ints, keys: rng.Words) -> None:
        """Begin a session in each slot: draw its interest and play the listener's own first track, whole.

        Args:
            users: the listeners' rows. episodes: their numbers. keys: :func:`recsys.simulate.rng.keys` of these.
        """
        them = self.listeners
        begin = them.starts[users]
        entry = begin + rng.below(them.starts[users + 1] - begin, keys, 0, Purpose.INTEREST)
        place = rng.below(them.neighbours[users], keys, 0, Purpose.FIRST_TRACK)
        first = them.first_tracks[them.first_row[entry], place].astype(np.int64)
        self.user[slots], self.episode[slots], self._interest[slots] = users, episodes, them.interests[entry]
        self._budget[slots], self._key[slots] = them.budget[users], keys
        self.track[slots], self.time[slots], self.step[slots], self.total[slots] = first, WHOLE, 0, WHOLE
        self._tracks[slots], self._artists[slots] = -1, -1
        self._tracks[slots, 0], self._artists[slots, 0] = first, self._artist_of[first]

    def play(self, slots: Ints, recommended: Ints) -> npt.NDArray[np.bool_]:
        """Play a recommended track in each slot; returns who leaves after it, bool [slots]."""
        them = self.listeners
        user, step = self.user[slots], self.step[slots] + 1
        longest = int(step.max())
        if longest >= self._tracks.shape[1]:
            self._lengthen()
        artist = self._artist_of[recommended]
        repeated = (self._tracks[slots, :longest] == recommended[:, None]).any(axis=1)
        earlier = (self._artists[slots, :longest] == artist[:, None]).sum(axis=1)
        score = self._affinity(self._interest[slots], recommended)
        # Beyond 40 the sigmoid is 0 or 1 to the hundredth, and the exponential might overflow.
        logit = np.clip((score - them.bias[user]) * them.sharpness[user], -40, 40)
        taste = 1 / (1 + np.exp(-logit))
        time = np.rint(taste * them.gamma[user] ** earlier * WHOLE).astype(np.int64)
        time[repeated] = 0

        # A whole number below 100 that is not below the hundredths: probability 1 - time, exactly.
        disappointed = rng.below(WHOLE, self._key[slots], step, Purpose.BUDGET) >= time
        budget = self._budget[slots] - disappointed
        self._budget[slots], self.step[slots], self.track[slots], self.time[slots] = budget, step, recommended, time
        self.total[slots] += time
        self._tracks[slots, step], self._artists[slots, step] = recommended, artist
        leaves: npt.NDArray[np.bool_] = budget == 0
        return leaves

    def _affinity(self, interest: Ints, recommended: Ints) -> npt.NDArray[np.float64]:
        """Inner products row by row, so that they do not depend on how many rows there are, as a matrix product's would."""
        space = self.listeners.embeddings
        left, right = space[interest].astype(np.float64), space[recommended].astype(np.float64)
        affinity: npt.NDArray[np.float64] = np.einsum("ij,ij->i", left, right)
        return affinity

    def _lengthen(self) -> None:
        more = np.full_like(self._tracks, -1)
        self._tracks = np.concatenate([self._tracks, more], axis=1)
        self._artists = np.concatenate([self._artists, more], axis=1)
