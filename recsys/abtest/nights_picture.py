"""The picture of an experiment that is watched: how the effect stood, night by night.

In go axes and a report; out comes the picture's description. :mod:`recsys.abtest.pictures` draws it in each variant.
"""

from typing import TYPE_CHECKING

import numpy as np

from recsys.abtest.schema import Picture, Report, percents
from recsys.abtest.sessions import ExperimentLog
from recsys.abtest.wording import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from recsys.abtest.pictures import Theme


def nights(axes: "Axes", report: Report, log: ExperimentLog, theme: "Theme") -> Picture | None:
    """The effect as it stood on each night, with the sequence's bounds and, greyed, those of a single look."""
    del log
    known = [look for look in (report.watched.looks if report.watched else ()) if percents(look) is not None]
    if not known:
        return None
    last = known[-1]
    effects, lows, highs, once_lows, once_highs = (
        np.array([getattr(look, name) for look in known], dtype=np.float64)
        for name in ("effect_percent", "ci_low_percent", "ci_high_percent", "once_low_percent", "once_high_percent")
    )
    colour = theme.good if lows[-1] > 0 else theme.bad if highs[-1] < 0 else theme.arms[3]
    x = np.arange(len(known))
    axes.axhline(0, color=theme.faint, linewidth=1)
    if len(known) == 1:
        axes.vlines(x, lows, highs, color=colour, linewidth=2.5, label="95 % for all nights")
        axes.vlines(x + 0.06, once_lows, once_highs, color=theme.faint, linewidth=2, label="for one look")
        axes.set_xlim(-1, 1)
    else:
        axes.fill_between(x, lows, highs, color=colour, alpha=0.18, linewidth=0, label="95 % for all nights")
        for bound in (lows, highs):
            axes.plot(x, bound, color=colour, linewidth=1)
        for bound, label in ((once_lows, "for one look"), (once_highs, None)):
            axes.plot(x, bound, color=theme.faint, linewidth=1, linestyle=(0, (3, 3)), label=label)
        axes.margins(x=0.03)
        # The first nights, of a few users, would press the others flat.
        later = slice(len(known) // 5, None)
        room = 0.12 * (highs[later].max() - lows[later].min())
        axes.set_ylim(min(0.0, lows[later].min()) - room, max(0.0, highs[later].max()) + room)
    axes.plot(x, effects, color=colour, linewidth=2, marker="o" if len(known) < 40 else "", markersize=4)
    every = max(1, -(-len(known) // 7))
    axes.set_xticks(x[::every], [look.log_date for look in known[::every]])
    axes.set_ylabel("effect in percent")
    axes.legend(frameon=False, fontsize=9, labelcolor=theme.ink, loc="upper right", ncols=2)
    shown = next((look.log_date for look, low, high in zip(known, lows, highs, strict=True) if low > 0 or high < 0), None)
    told = f"On {last.log_date}, after {counted(len(known), 'night')}, it is {effects[-1]:+.1f} %"
    told += f" ({lows[-1]:+.1f} to {highs[-1]:+.1f})"
    told += f"; a difference was first shown on {shown}." if shown else "; no night has shown a difference."
    return Picture(
        name="nights",
        title="How the effect stood, night after night",
        caption="The coloured band may be looked at every night: 95 of 100 such bands hold the true effect at all of them. The "
        "grey lines are the interval for one look, which leaves 0 by chance sooner or later; they decide nothing.",
        alt=f"The main effect night by night. {told}",
    )
