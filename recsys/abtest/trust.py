"""May the numbers of an experiment be trusted: were the arms alike before it, and do a few users alone make the effect?

In go users' columns by arm; out come comparisons that are shown beside those that decide.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from recsys.abtest.analysis import EARLIER, Adjusted, Comparison, adjust, welch
from recsys.abtest.metrics import Columns, Floats, Metric


@dataclass(frozen=True)
class Winsorised(Comparison):
    """A comparison whose most extreme values were drawn in, at both ends.

    ``share`` of the users, declared in the configuration, has its value drawn in at each end: to ``low`` and ``high``, quantiles
    over both arms. ``moved`` says how many users that changed.
    """

    share: float = 0.0
    low: float | None = None
    high: float | None = None
    moved: int = 0


def winsorise(metric: Metric, control: Columns, treatment: Columns, share: float) -> Winsorised | None:
    """The comparison of means of values drawn in to the quantiles ``share`` and 1 - ``share`` of both arms together.

    The bounds are those of both arms, so that a treatment cannot choose its own (Kohavi, Tang and Xu 2020, chapter 18); they are
    taken as known, which a hundred users and more allow. None for ratios of sums, whose users have no value of their own, and
    where no share is declared.
    """
    if metric.kind == "ratio" or not share:
        return None
    values = [metric.values(users) for users in (control, treatment)]
    together = np.concatenate(values)
    plain = replace(metric, numerator="value", denominator=None)
    if not len(together) or not np.isfinite(together).all():
        empty = welch(plain, *({"value": column} for column in values))
        return Winsorised(**asdict(replace(empty, role="winsorised")), share=share)
    low, high = (float(bound) for bound in np.quantile(together, [share, 1 - share]))
    moved = int(((together < low) | (together > high)).sum())
    found = welch(plain, *({"value": column.clip(low, high)} for column in values))
    return Winsorised(**asdict(replace(found, role="winsorised")), share=share, low=low, high=high, moved=moved)


def arms_before(metric: Metric, arms: Mapping[str, Columns], control: str, others: Sequence[str]) -> list[Comparison]:
    """What users did before the experiment, arm by arm: an experiment cannot have changed it, so a difference is a fault.

    A faulty split, an arm that began earlier or loses its listeners, a treatment that lasts from the night before: all show here
    before they pass for an effect (Kohavi, Tang and Xu 2020, chapter 21).
    """
    found = (replace(welch(metric, arms[control], arms[arm]), arm=arm, control=control, role="before") for arm in others)
    return list(found)


def earlier_of(metric: Metric, before: Columns) -> dict[str, Floats] | None:
    """What users did before, as :func:`recsys.abtest.analysis.adjust` wants it; None if ``before`` does not tell it.

    Args:
        before: columns of the users by name, NaN for who was not there.
    """
    if metric.denominator is None or metric.numerator not in before or metric.denominator not in before:
        return None
    numerator, denominator = (np.asarray(before[name], np.float64) for name in (metric.numerator, metric.denominator))
    if metric.kind == "ratio":
        return dict(zip(EARLIER, (numerator, denominator), strict=True))
    with np.errstate(invalid="ignore", divide="ignore"):
        return {EARLIER[0]: np.where(denominator > 0, numerator / denominator, np.nan)}


def adjusted(metric: Metric, arms: Mapping[str, Columns], earlier: Mapping[str, Columns], control: str, arm: str) -> Adjusted:
    """The comparison of one metric with CUPED.

    Args:
        earlier: by arm, the columns :data:`recsys.abtest.analysis.EARLIER` of its users.
    """
    groups = [{**arms[name], **{c: earlier[name][c] for c in EARLIER if c in earlier[name]}} for name in (control, arm)]
    return replace(adjust(metric, *groups), arm=arm, control=control)
