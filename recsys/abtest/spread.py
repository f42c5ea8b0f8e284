"""The picture of how users' values of a metric are spread: users by arm in, a drawing for :mod:`recsys.abtest.pictures` out."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from recsys.abtest.metrics import Columns, Floats, Metric
from recsys.abtest.pictures import Drawing, Theme
from recsys.abtest.schema import Picture, Report
from recsys.abtest.sessions import ExperimentLog
from recsys.abtest.trust import Winsorised

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Quantiles at which the picture ends; what lies beyond is drawn in its first and last bar.
LOWEST, HIGHEST = 0.002, 0.985
BARS = 40


def spread_of(metric: Metric, users: Mapping[str, Columns], winsorised: Winsorised | None) -> Drawing:
    """The drawing of a metric's values by arm; None is drawn where there are too few different ones to be worth a look.

    Args:
        users: by arm. winsorised: marks the bounds to which values were drawn in.
    """
    values = {arm: _values(metric, columns) for arm, columns in users.items()}
    found = {arm: column for arm, column in values.items() if len(column)}

    def draw(axes: "Axes", report: Report, log: ExperimentLog, theme: Theme) -> Picture | None:
        del report, log
        together = np.concatenate(list(found.values())) if found else np.zeros(0)
        if len(np.unique(together[:100_000])) < 3 or not np.isfinite(together).all():
            return None
        low, high = (float(edge) for edge in np.quantile(together, [LOWEST, HIGHEST]))
        low = 0.0 if together.min() >= 0 and low < 0.2 * high else low
        if not np.isfinite(high - low) or high <= low:
            return None
        bins, told = np.linspace(low, high, BARS + 1), []
        for i, (arm, column) in enumerate(found.items()):
            colour = theme.arms[i % len(theme.arms)]
            heights = 100 * np.histogram(column.clip(low, high), bins)[0] / len(column)
            axes.stairs(heights, bins, color=colour, linewidth=1.8, label=arm)
            axes.stairs(heights, bins, color=colour, fill=True, alpha=0.10)
            axes.axvline(float(np.clip(column.mean(), low, high)), color=colour, linewidth=1.2, linestyle=(0, (4, 3)))
            told.append(f"{arm}: mean {column.mean():,.4g}, median {np.median(column):,.4g}, highest {column.max():,.4g}")
        for bound in (winsorised.low, winsorised.high) if winsorised else ():
            if bound is not None and low < bound < high:
                axes.axvline(bound, color=theme.faint, linewidth=1, linestyle=(0, (1, 2)))
        axes.set_xlim(low, high)
        axes.set_ylim(0, 1.25 * axes.get_ylim()[1])  # room for the legend
        axes.set_xlabel(f"{metric.name} of a user; first and last bar: and beyond")
        axes.set_ylabel("% of users")
        axes.legend(frameon=False, fontsize=9, labelcolor=theme.ink, loc="upper right")
        return Picture(
            name="spread",
            title="How users' values are spread",
            caption="Distribution of the deciding metric by arm; dashed lines mark the means, dotted ones the winsorised bounds.",
            alt=f"Distribution of {metric.name}. " + "; ".join(told) + ".",
        )

    return draw


def _values(metric: Metric, users: Columns) -> Floats:
    """The metric of each user; of a ratio where there is something to divide by."""
    numerator, denominator = metric.parts(users)
    kept = denominator > 0
    return numerator[kept] / denominator[kept]
