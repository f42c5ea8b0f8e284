"""Every metric of the A/B report, defined once.

In go the columns that :mod:`recsys.abtest.sessions` gives for each user; out come values that :mod:`recsys.abtest.analysis`
compares. A new metric is one more entry of :data:`METRICS`; a new guardrail one more of :data:`GUARDRAILS`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from recsys.abtest.wording import counted

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
#: A column of a table of users or sessions, and such a table: columns of one length by name.
Column = Ints | Floats
Columns = Mapping[str, Column]

#: primary and secondary metrics share one error rate; validity checks, costs and what was before never count as a success.
Role = Literal["primary", "secondary", "validity", "cost", "before"]


#: The unit of a proportion.
SHARE = "share of users"


@dataclass(frozen=True)
class Metric:
    """A metric of users.

    ``kind`` mean: the mean over users of numerator / denominator (1 without one). ``kind`` ratio: the sum of the numerators over
    the sum of the denominators, its error by the delta method on users (Deng, Knoblich and Lu 2018). ``timing`` marks values
    that differ between two runs of the same night.
    """

    name: str
    label: str
    unit: str
    role: Role
    definition: str
    numerator: str
    denominator: str | None = None
    kind: Literal["mean", "ratio"] = "mean"
    higher_is_better: bool = True
    timing: bool = False

    def kept(self, users: Columns) -> npt.NDArray[np.bool_]:
        """Whether each user has this metric, bool [users].

        A mean needs something to divide by; a ratio of sums counts those, too, who have nothing, but nobody whose denominator is
        missing (NaN).
        """
        if self.denominator is None:
            return np.ones(len(users[self.numerator]), dtype=bool)
        denominator = np.asarray(users[self.denominator], dtype=np.float64)
        return ~np.isnan(denominator) if self.kind == "ratio" else denominator > 0

    def parts(self, users: Columns) -> tuple[Floats, Floats]:
        """Numerator and denominator of each user who has the metric, float64 [users] both."""
        kept = self.kept(users)
        numerator = np.asarray(users[self.numerator], dtype=np.float64)[kept]
        if self.denominator is None:
            return numerator, np.ones_like(numerator)
        return numerator, np.asarray(users[self.denominator], dtype=np.float64)[kept]

    def values(self, users: Columns) -> Floats:
        """The metric of each user, float64 [users]; only for ``kind`` mean.

        The second user has no whole session and is left out:

        >>> PRIMARY.values({"time": np.array([3.5, 0.0]), "sessions": np.array([2, 0])}).tolist()
        [1.75]
        """
        numerator, denominator = self.parts(users)
        return numerator / denominator


METRICS: tuple[Metric, ...] = (
    Metric(
        "mean_session_time", "Session time", "tracks heard", "primary",
        "Mean over users of a user's mean session time; the listener's own first track counts.",
        "time", "sessions",
    ),
    Metric(
        "mean_session_length", "Session length", "plays", "secondary",
        "Mean over users of a user's mean number of plays a session.",
        "steps", "sessions",
    ),
    Metric(
        "time_per_session", "Time per session", "tracks heard", "secondary",
        "All session time over all sessions of an arm: busy listeners weigh more.",
        "time", "sessions", "ratio",
    ),
    Metric(
        "time_per_play", "Share of a track heard", "of a track", "secondary",
        "All session time over all plays of an arm: how much of a track is heard before it is skipped.",
        "time", "steps", "ratio",
    ),
    Metric(
        "sessions", "Sessions a user", "sessions", "validity",
        "Sessions that a user started. Recommendations cannot change it within a night: a difference would be a fault.",
        "sessions",
    ),
    Metric(
        "mean_request_time", "Request time", "ms", "cost",
        "Mean over users of a user's mean time to an answer.",
        "latency_ms", "requests", higher_is_better=False, timing=True,
    ),
)  # fmt: skip

PRIMARY = METRICS[0]


@dataclass(frozen=True)
class Guardrail:
    """A value of an arm that must not get worse; without a limit or a margin it is only shown.

    ``at_most`` and ``at_least`` limit the arm by itself, which only faults need. ``margin`` is how much worse than another arm is
    still not worse: a difference of shares (``part`` by ``whole``, columns of :mod:`recsys.abtest.served`), else a fraction.
    """

    name: str
    label: str
    unit: Literal["share", "tracks", "ms"]
    definition: str
    at_most: float | None = None
    at_least: float | None = None
    timing: bool = False
    margin: float | None = None
    part: str | None = None
    whole: str | None = None

    def holds(self, value: float) -> bool:
        """Whether the value is within the limits."""
        return (self.at_most is None or value <= self.at_most) and (self.at_least is None or value >= self.at_least)

    def text(self, value: float) -> str:
        """The value with its unit, for people.

        >>> GUARDRAILS[0].text(0.00125), GUARDRAILS[4].text(12345)
        ('0.12 %', '12,345 tracks')
        """
        if self.unit == "share":
            return f"{100 * value:.2f} %"
        return f"{value:.2f} ms" if self.unit == "ms" else counted(round(value), "track")


GUARDRAILS: tuple[Guardrail, ...] = (
    Guardrail("repeat_share", "Repeats", "share", "Plays of a track already played in the session, of all plays.", at_most=0.001),
    Guardrail(
        "fallback_share",
        "Fallback",
        "share",
        "Answers taken from the TOP 100, of all answers.",
        margin=0.05,
        part="fallback",
        whole="sourced",
    ),
    Guardrail(
        "degraded_share",
        "Degraded",
        "share",
        "Answers given without the store, of all answers.",
        margin=0.01,
        part="degraded",
        whole="known",
    ),
    Guardrail("exploration_share", "Exploration", "share", "Answers drawn at random on purpose, of all answers."),
    Guardrail("coverage_tracks", "Different tracks", "tracks", "Different tracks recommended."),
    Guardrail("coverage_share", "Catalogue coverage", "share", "Different tracks recommended, of the catalogue.", at_least=0.005),
    Guardrail("latency_p50", "Latency p50", "ms", "Median time to an answer.", timing=True),
    Guardrail("latency_p99", "Latency p99", "ms", "99 % of answers came within this time.", timing=True),
)
