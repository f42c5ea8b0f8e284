"""Means with intervals, over listeners: those of sessions of one arm, and those of differences between two.

In go values of sessions and who listened; out comes a :class:`Mean`. Sessions of a listener resemble each other, so listeners are
what varies: with r the sum of a listener's deviations from the mean of all sessions, and n listeners, the error is the root of
n / (n - 1) times the sum of r**2, over the number of sessions (the linearised ratio of two sums; Cochran, Sampling Techniques,
3rd ed., section 2.11).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from recsys.score.document import Estimate

#: Half the width of a 95 % interval, in standard errors.
NORMAL = 1.959964


class Mean(NamedTuple):
    """A mean and its standard error."""

    value: float
    error: float

    @classmethod
    def of(cls, user: npt.NDArray[np.integer], value: npt.NDArray[np.number]) -> "Mean":
        """The mean over sessions; arrays of one length: who listened, and the session's value.

        Two listeners, each with two sessions of one length: it is as if there were one session of each.

        >>> Mean.of(np.array([1, 1, 2, 2]), np.array([3.0, 3.0, 5.0, 5.0]))
        Mean(value=4.0, error=1.0)
        """
        row = np.unique(user, return_inverse=True)[1]
        users, mean = int(row.max()) + 1, float(value.mean())
        deviations = np.bincount(row, weights=value - mean)
        return cls(mean, float(np.sqrt((deviations**2).sum() * users / max(1, users - 1)) / len(value)))

    @classmethod
    def together(cls, means: "Sequence[Mean]") -> "Mean":
        """The mean of means of independent worlds, each counting the same."""
        values, errors = np.array(means).T
        return cls(float(values.mean()), float(np.sqrt((errors**2).sum()) / len(means)))

    @property
    def estimate(self) -> Estimate:
        """With its 95 % interval."""
        half = NORMAL * self.error
        return Estimate(value=round(self.value, 4), low=round(self.value - half, 4), high=round(self.value + half, 4))
