"""When listeners leave, learned from logs: how likely a play is the last one, by the time lost on it and before it.

In go the plays of whole sessions; out come :class:`Departures`, which tell how long sessions last whose times are known or
expected. The clock is not the number of tracks but the time lost on them (1 - time): occurrence over exposure in bins of the time
lost before, with a part that grows with the time lost on the play itself, by least squares. So sessions that last much longer
than any in the logs are those whose clock goes slowly, and nothing is extrapolated but that.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.learn.plays import Plays

Floats = npt.NDArray[np.float64]

#: Time lost before, in tracks, that falls into one bin; bins; plays below which a bin is like the one before it.
WIDTH, BINS, FEWEST = 0.5, 24, 200
#: The least probability to leave with which the last of some given steps is taken to go on.
LEAST = 0.02


@dataclass(frozen=True)
class Departures:
    """Probability to leave after a play: constant + slope * (time lost on it); rates: float64 [BINS, 2]."""

    rates: Floats

    @classmethod
    def of(cls, plays: Plays) -> "Departures":
        """Learn from whole sessions."""
        answered = plays.step > 0
        lost = np.where(answered, 1 - plays.time / 100, 0.0)
        total = np.cumsum(lost)
        starts = np.flatnonzero(plays.step == 0)
        before = total - lost - np.repeat(total[starts], np.diff(np.append(starts, len(total))))
        leaves = np.append(plays.step[1:] == 0, True).astype(np.float64)
        place = _place(before)
        rates = np.zeros((BINS, 2))
        for number in range(BINS):
            here = answered & (place == number)
            if here.sum() >= FEWEST:
                known = np.stack([np.ones(int(here.sum())), lost[here]], axis=1)
                rates[number] = np.linalg.lstsq(known, leaves[here], rcond=None)[0]
            elif number:
                rates[number] = rates[number - 1]
        return cls(rates)

    def session_time(self, times: Floats) -> Floats:
        """Expected time of sessions, the whole first track included.

        Args:
            times: [sessions, steps], of each answer if the listener is still there; what follows the last one is like it.

        Returns:
            float64 [sessions].
        """
        sessions, steps = times.shape
        found, there, lost = np.ones(sessions), np.ones(sessions), np.zeros(sessions)
        leaves = np.ones(sessions)
        for step in range(steps):
            found += there * times[:, step]
            rate = self.rates[_place(lost)]
            leaves = np.clip(rate[:, 0] + rate[:, 1] * (1 - times[:, step]), 0, 1)
            there = there * (1 - leaves)
            lost += 1 - times[:, step]
        return np.asarray(found + there * times[:, -1] / np.maximum(leaves, LEAST))


def _place(lost: Floats) -> npt.NDArray[np.int64]:
    return np.minimum((lost / WIDTH).astype(np.int64), BINS - 1)
