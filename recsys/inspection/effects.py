"""The picture of effects night by night: rows in, where everything of it stands out; a template makes an SVG element of that.

The element takes its colours from the page, so that it is light or dark as that is; whoever cannot see it gets the last nights in
words.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from recsys.abtest.decision import percent
from recsys.abtest.history import NightRow
from recsys.abtest.schema import percents
from recsys.abtest.wording import counted

#: Size in pixels at its full width, and the room for labels.
WIDTH, HEIGHT = 1000, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 26
#: Nights that are drawn, at most; nights that are told; dates below the picture, at most.
MOST, TOLD, DATES = 366, 8, 9

#: An effect in percent, the lower and the upper end of its interval.
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Mark:
    """An interval with its middle, in pixels; ``live``: against the live version, else against the control."""

    x: float
    middle: float
    low: float
    high: float
    live: bool


@dataclass(frozen=True)
class Column:
    """A night: where it stands, in pixels, and what is said of it."""

    log_date: date
    verdict: str
    left: float
    told: str
    marks: Sequence[Mark]


@dataclass(frozen=True)
class Picture:
    """All of the picture; ``ticks`` are (y, text, whether it is 0), ``dates`` (x, text), ``size`` that of a mark."""

    title: str
    told: str
    step: float
    size: float
    ticks: Sequence[tuple[float, str, bool]]
    dates: Sequence[tuple[float, str]]
    columns: Sequence[Column]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def against_live(row: NightRow) -> Triple | None:
    """A night's effect against the version that was live, with its interval."""
    effect, low, high = row.live_effect_percent, row.live_ci_low_percent, row.live_ci_high_percent
    return None if effect is None or low is None or high is None else (effect, low, high)


def effects_picture(rows: Sequence[NightRow]) -> Picture | None:
    """Effects against the control and against the live version, with their intervals; None if no night has any.

    Args:
        rows: ascending; the newest are drawn.
    """
    found = [(row, percents(row), against_live(row)) for row in rows[-MOST:]]
    drawn = [(row, control, live) for row, control, live in found if control or live]
    if not drawn:
        return None
    values = [value for _, control, live in drawn for triple in (control, live) if triple for value in triple]
    ticks = ticks_of(min(0.0, *values), max(0.0, *values))
    step = (WIDTH - LEFT - RIGHT) / len(drawn)
    beside = min(step / 5, 5.0)

    def y(value: float) -> float:
        return round(TOP + (ticks[-1] - value) / (ticks[-1] - ticks[0]) * (HEIGHT - TOP - BOTTOM), 1)

    columns, dates = [], []
    for n, (row, control, live) in enumerate(drawn):
        middle = LEFT + (n + 0.5) * step
        marks = []
        for triple, is_live in ((control, False), (live, True)):
            if triple:
                at = round(middle + (beside if is_live else -beside), 1)
                middle_y, low, high = map(y, triple)
                marks.append(Mark(at, middle_y, low, high, is_live))
        columns.append(Column(date.fromisoformat(row.log_date), row.verdict, round(middle - step / 2, 1), _told(row), marks))
        if n % math.ceil(len(drawn) / DATES) == 0:
            dates.append((round(middle, 1), row.log_date))
    return Picture(
        title=f"Effect on session time of {counted(len(drawn), 'night')}, with 95 % intervals",
        told="The last: " + "; ".join(_told(row) for row, _, _ in drawn[-TOLD:]) + ".",
        step=round(step, 1),
        size=round(max(1.5, min(4.5, step / 5)), 1),
        ticks=[(y(tick), f"{tick:+g} %".replace("-", "−") if tick else "0 %", tick == 0) for tick in ticks],
        dates=dates,
        columns=columns,
    )


def _told(row: NightRow) -> str:
    """A night in words."""
    parts = []
    for triple, other in ((percents(row), "the control"), (against_live(row), "the live version")):
        if triple:
            effect, low, high = map(percent, triple)
            parts.append(f"{effect} against {other} ({low} to {high})")
    return f"{row.log_date}, {row.verdict.replace('_', ' ')}: {', '.join(parts)}"


def ticks_of(low: float, high: float) -> list[float]:
    """Round numbers, up to eight of them, from ``low`` or below to ``high`` or above.

    >>> ticks_of(-3.2, 41.0)
    [-10.0, 0.0, 10.0, 20.0, 30.0, 40.0, 50.0]
    """
    span = max(high - low, 1.0)
    power = 10.0 ** math.floor(math.log10(span / 5))
    step = next(step * power for step in (1, 2, 5, 10) if span / (step * power) <= 6)
    return [round(step * n, 6) for n in range(math.floor(low / step), math.ceil(high / step) + 1)]
