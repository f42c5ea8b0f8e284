"""Pictures of the A/B report, drawn by matplotlib without a display.

In go the report's document and the experiment's log; out come PNG files, each in a light and a dark variant, and their
descriptions for readers who cannot see them. Timings are not drawn, so that equal nights give equal pictures.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recsys.abtest.analysis import Comparison
from recsys.abtest.metrics import Columns
from recsys.abtest.nights_picture import nights
from recsys.abtest.schema import Picture, Report, percents
from recsys.abtest.sessions import ExperimentLog

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Theme:
    """Colours of one variant."""

    suffix: str
    ink: str
    faint: str
    grid: str
    arms: tuple[str, ...]
    good: str
    bad: str


LIGHT = Theme("", "#1d2733", "#66727f", "#e3e7eb", ("#7b8794", "#0b7a75", "#c2620e", "#6b4fbb"), "#0b7a75", "#b3362c")
DARK = Theme("-dark", "#e6ebf0", "#97a3af", "#2b3540", ("#9aa7b4", "#3cc4bb", "#f0a35e", "#b39cf2"), "#3cc4bb", "#f08a80")


#: Draws one picture into axes; None where the data do not allow it.
Drawing = Callable[["Axes", Report, ExperimentLog, Theme], Picture | None]

#: Width and height in inches; the two in the middle stand side by side. That of effects is as high as it has lines.
SIZES = {
    "nights": (8.8, 3.7),
    "_times": (4.7, 3.5),
    "_survival": (4.7, 3.5),
    "_cumulative": (8.8, 2.9),
    "_history": (8.8, 2.9),
}

#: Of the picture of effects, and of the one for phones: width, least height, height of a line.
EFFECTS, FOR_PHONES, NARROW = (8.8, 2.4, 0.29), (4.7, 4.4, 0.31), "-narrow"

#: zlib's level: smaller files than 1, much faster than its usual 6.
COMPRESSION = 3


def draw_all(report: Report, log: ExperimentLog, directory: Path) -> list[Picture]:
    """Write every picture that the data allow as ``<name>.png`` and ``<name>-dark.png``, that of effects for phones too."""
    pictures = []
    for draw in (nights, _effects, _times, _survival, _cumulative, _history):
        size = SIZES.get(draw.__name__) or _size_of_effects(report, *EFFECTS)
        picture = _draw(draw, size, report, log, directory)
        if picture is not None:
            pictures.append(picture)
        if picture is not None and draw is _effects:
            _draw(draw, _size_of_effects(report, *FOR_PHONES), report, log, directory, NARROW)
    return pictures


def draw_table(report: Report, spread: Drawing, directory: Path) -> list[Picture]:
    """Write the pictures of a table of users, which has no log: effects, and ``spread``, how users' values are spread."""
    nothing = ExperimentLog("", (), {}, {}, {}, {}, ())
    effects = _draw(_effects, _size_of_effects(report, *EFFECTS), report, nothing, directory)
    if effects is not None:
        _draw(_effects, _size_of_effects(report, *FOR_PHONES), report, nothing, directory, NARROW)
    return [picture for picture in (effects, _draw(spread, SIZES["_cumulative"], report, nothing, directory)) if picture]


def _draw(
    draw: Drawing, size: tuple[float, float], report: Report, log: ExperimentLog, directory: Path, narrow: str = ""
) -> Picture | None:
    """One picture in both variants; dollar signs in names are signs, no formulas."""
    from matplotlib import rc_context

    picture = layout = None
    for theme in (LIGHT, DARK):
        with rc_context({"text.parse_math": False}):
            figure, axes = _canvas(theme, *size)
            picture = draw(axes, report, log, theme)
        if picture is None:
            return None
        if draw is not _effects:
            axes.set_position(_room(*size))
        elif layout is None:
            figure.set_layout_engine("constrained")
        else:  # The same words in other colours take the same room.
            axes.set_position(layout)
        path = directory / f"{picture.name}{narrow}{theme.suffix}.png"
        figure.savefig(path, transparent=True, pil_kwargs={"compress_level": COMPRESSION})
        layout = axes.get_position()
    return picture


def _room(width: float, height: float) -> tuple[float, float, float, float]:
    """Where the axes stand (left, bottom, width, height as shares): room for tick labels and a label on two sides."""
    left, bottom, right, top = 0.62, 0.5, 0.12, 0.1  # inches
    return left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height


def _canvas(theme: Theme, width: float, height: float) -> "tuple[Figure, Axes]":
    # Figure alone, not pyplot: nothing global, no display, safe in a worker thread.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=160)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(theme.grid)
    axes.tick_params(colors=theme.faint, labelsize=9, length=0)
    axes.grid(axis="y", color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(theme.faint)
        label.set_fontsize(9)
    return figure, axes


def _by_pair(report: Report) -> dict[str, list[tuple[Comparison, tuple[float, float, float]]]]:
    """Effects with their intervals by the arms that are compared, the primary metric on top."""
    roles = ("primary", "secondary", "validity")
    rows = [row for row in report.metrics if row.role in roles and row.arm in report.treatments]
    mine = [row for row in rows if row.arm == report.candidate]
    rows = [*mine, *([report.against_live] if report.against_live else []), *(row for row in rows if row not in mine)]
    found: dict[str, list[tuple[Comparison, tuple[float, float, float]]]] = {}
    for row in rows:
        measured = percents(row)
        if measured is not None:
            found.setdefault(f"{row.arm} against {row.control}", []).append((row, measured))
    return found


def _size_of_effects(report: Report, width: float, least: float, line: float) -> tuple[float, float]:
    """Inches that hold a line a pair of arms and a line an effect."""
    lines = sum(1 + len(rows) for rows in _by_pair(report).values())
    return width, max(least, line * lines + 0.6)


def _effects(axes: "Axes", report: Report, log: ExperimentLog, theme: Theme) -> Picture | None:
    """Relative effects with their intervals, by the arms that are compared."""
    del log
    pairs = _by_pair(report)
    if not pairs:
        return None
    told: list[str] = []
    labels: list[str] = []
    axes.grid(visible=False)
    axes.axvline(0, color=theme.faint, linewidth=1)
    for pair, rows in pairs.items():
        labels.append(pair)
        for row, (mid, low, high) in rows:
            y = len(labels)
            labels.append(row.label)
            colour = theme.good if low > 0 else theme.bad if high < 0 else theme.faint
            if row.role == "validity" or report.watched:
                colour = theme.faint
            width = 3.2 if row.role == "primary" else 2
            axes.plot([low, high], [y, y], color=colour, linewidth=width, solid_capstyle="round")
            axes.plot([mid], [y], "o", color=colour, markersize=8 if row.role == "primary" else 6)
            axes.annotate(
                f"{mid:+.1f} %".replace("-", "−"),
                (low if high < 0 else max(high, 0), y),
                xytext=(-7 if high < 0 else 7, 0),
                textcoords="offset points",
                ha="right" if high < 0 else "left",
                va="center",
                fontsize=9,
                color=theme.ink,
            )
            if row is report.against_live:
                margin = -100 * (report.margin or 0.0)
                axes.plot([margin] * 2, [y - 0.4, y + 0.4], color=theme.bad, linewidth=1.2, linestyle=(0, (2, 2)))
            told.append(f"{row.label}, {pair}: {mid:+.1f} % ({low:+.1f} to {high:+.1f})")
    axes.set_yticks(range(len(labels)), labels, color=theme.ink)
    for label in axes.get_yticklabels():
        if label.get_text() in pairs:
            label.set_color(theme.faint)
            label.set_fontweight("bold")
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.margins(x=0.08)
    once = " for one look" if report.watched else ""
    axes.set_xlabel(f"effect in percent, with 95 % interval{once}")
    caption = "Each dot is the measured effect, each bar its 95 % interval. A bar that touches the line at 0 shows no difference."
    if report.against_live:
        caption += " The dashed mark is the margin against the live version."
    if report.watched:
        caption += " These intervals hold for one look, not night after night, and decide nothing."
    return Picture(
        name="effects",
        title="How large the effects are",
        caption=caption,
        alt="Effects with 95 % intervals. " + "; ".join(told) + ".",
    )


def _each_arm(report: Report, log: ExperimentLog, theme: Theme) -> list[tuple[str, str, Columns]]:
    """Arm, colour and sessions of every arm that has some."""
    order = [arm for arm in report.arms if arm in log.arms]
    found = [(arm, theme.arms[i % len(theme.arms)], log.sessions_of_arm(arm)) for i, arm in enumerate(order)]
    return [entry for entry in found if len(entry[2]["time"])]


def _legend(axes: "Axes", theme: Theme) -> None:
    axes.legend(frameon=False, fontsize=9, labelcolor=theme.ink, loc="upper right")


def _arm_label(report: Report, arm: str) -> str:
    label = report.arms[arm].label
    return arm if label == arm else f"{arm} · {label}"


def _times(axes: "Axes", report: Report, log: ExperimentLog, theme: Theme) -> Picture | None:
    """Share of sessions by session time, with the mean of each arm."""
    arms = _each_arm(report, log, theme)
    if not arms:
        return None
    top = max(2.0, float(np.quantile(np.concatenate([s["time"] for _, _, s in arms]), 0.985)))
    bins = np.linspace(0, top, 41)
    told = []
    for arm, colour, sessions in arms:
        inside = np.minimum(sessions["time"], top)
        heights = 100 * np.histogram(inside, bins)[0] / len(inside)
        axes.stairs(heights, bins, color=colour, linewidth=1.8, label=_arm_label(report, arm))
        axes.stairs(heights, bins, color=colour, fill=True, alpha=0.10)
        mean = float(sessions["time"].mean())
        axes.axvline(min(mean, top), color=colour, linewidth=1.2, linestyle=(0, (4, 3)))
        told.append(f"{arm}: mean {mean:.2f}, median {np.median(sessions['time']):.2f}")
    axes.set_xlim(0, top)
    axes.set_ylim(0, 1.3 * axes.get_ylim()[1])  # room for the legend
    axes.set_xlabel("session time in tracks heard; last bin: and longer")
    axes.set_ylabel("% of sessions")
    _legend(axes, theme)
    return Picture(
        name="session-time",
        title="How long listeners stay",
        caption="Distribution of session time by arm; dashed lines mark the means.",
        alt="Distribution of session time. " + "; ".join(told) + ".",
    )


def _survival(axes: "Axes", report: Report, log: ExperimentLog, theme: Theme) -> Picture | None:
    """Share of sessions that reach each play."""
    arms = _each_arm(report, log, theme)
    if not arms:
        return None
    top = max(3, int(np.quantile(np.concatenate([s["steps"] for _, _, s in arms]), 0.99)))
    told = []
    for arm, colour, sessions in arms:
        ended = np.bincount(np.minimum(sessions["steps"], top + 1), minlength=top + 2)
        reached = 100 * ended[::-1].cumsum()[::-1][1 : top + 1] / len(sessions["steps"])
        axes.step(np.arange(1, top + 1), reached, where="mid", color=colour, linewidth=2, label=_arm_label(report, arm))
        marks = [k for k in (5, 10, 20) if k <= top]
        told.append(f"{arm}: " + ", ".join(f"{reached[k - 1]:.0f} % reach play {k}" for k in marks))
    axes.set_xlim(1, top)
    axes.set_ylim(0, 103)
    axes.set_xlabel("play of the session (1: the listener's own)")
    axes.set_ylabel("% of sessions still going")
    _legend(axes, theme)
    return Picture(
        name="survival",
        title="Who is still listening",
        caption="Share of sessions that reach each play.",
        alt="Share of sessions that reach each play. " + "; ".join(told) + ".",
    )


def _cumulative(axes: "Axes", report: Report, log: ExperimentLog, theme: Theme) -> Picture | None:
    """The primary effect over each user's first k sessions."""
    del log
    rows = [(row.sessions_a_user, measured) for row in report.cumulative if (measured := percents(row)) is not None]
    if len(rows) < 2:
        return None
    x = [int(k) for k, _ in rows]
    effects, lows, highs = zip(*(measured for _, measured in rows), strict=True)
    axes.axhline(0, color=theme.faint, linewidth=1)
    colour, once = (theme.faint, " for one look") if report.watched else (theme.good, "")
    axes.fill_between(x, lows, highs, color=colour, alpha=0.16, linewidth=0)
    axes.plot(x, effects, color=colour, linewidth=2, marker="o", markersize=4)
    axes.set_xticks(x)
    axes.set_xlabel("sessions of each user that are counted, from the first")
    axes.set_ylabel("effect in percent")
    told = f"from {effects[0]:+.1f} % at each user's first session to {effects[-1]:+.1f} % at {x[-1]}"
    return Picture(
        name="cumulative",
        title="Does the effect last",
        caption=f"The main effect with its 95 % interval{once} when only each user's first sessions are counted.",
        alt=f"Effect by number of sessions counted: {told}.",
    )


MAX_HISTORY = 60
_WORDS = {"promoted": "promoted", "held": "held", "tested": "this night"}


def _history(axes: "Axes", report: Report, log: ExperimentLog, theme: Theme) -> Picture | None:
    """The primary effect of every finished night up to this one; others may be under way."""
    del log
    primary = report.deciding()
    tested = percents(primary) if primary else None
    rows = [(row.log_date, row.verdict, measured) for row in report.history if (measured := percents(row)) is not None]
    rows = [row for row in rows if row[1] in _WORDS]
    if not rows or tested is None:
        return None
    rows = [*rows, (report.log_date or "", "tested", tested)][-MAX_HISTORY:]
    colours = {"promoted": theme.good, "held": theme.arms[2], "tested": theme.ink}
    axes.axhline(0, color=theme.faint, linewidth=1)
    for verdict, word in _WORDS.items():
        mine = [(x, measured) for x, (_, found, measured) in enumerate(rows) if found == verdict]
        if mine:
            x = [place for place, _ in mine]
            effects, lows, highs = zip(*(measured for _, measured in mine), strict=True)
            axes.vlines(x, lows, highs, color=colours[verdict], linewidth=2)
            axes.plot(x, effects, "o", color=colours[verdict], markersize=6, label=word)
    every = max(1, len(rows) // 8)
    axes.set_xticks(range(0, len(rows), every), [log_date for log_date, _, _ in rows[::every]])
    axes.margins(x=0.06)
    axes.set_ylabel("effect in percent")
    axes.legend(frameon=False, fontsize=9, labelcolor=theme.ink, loc="best", ncols=3)
    told = "; ".join(f"{log_date}: {effect:+.1f} %, {_WORDS[verdict]}" for log_date, verdict, (effect, _, _) in rows[-8:])
    return Picture(
        name="history",
        title="Night after night",
        caption="The main effect of each night's candidate against the control, with its 95 % interval.",
        alt=f"Effects of the last nights. {told}.",
    )
