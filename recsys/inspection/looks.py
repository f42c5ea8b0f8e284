"""The picture of looks at a rollout: looks in, where everything of it stands out; a template makes an SVG element of that."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from recsys.abtest.decision import percent
from recsys.abtest.wording import counted
from recsys.inspection.effects import LEFT, MOST, RIGHT, TOLD, WIDTH, ticks_of
from recsys.rollout.look import Look

#: Height in pixels at its full width, and the room for labels: shares above, times below.
HEIGHT, TOP, BOTTOM = 210, 26, 26
#: Times below the picture, at most, and half the width of one.
TIMES, MARGIN = 6, 40
#: Bounds beyond these, in percent, are cut off: the first looks at few listeners tell next to nothing.
LOWEST, HIGHEST = -60.0, 40.0


@dataclass(frozen=True)
class Spot:
    """A look, in pixels: where its column begins, its middle, the interval and the effect; None of what it did not tell."""

    left: float
    x: float
    low: float | None
    high: float | None
    effect: float | None
    action: str
    told: str


@dataclass(frozen=True)
class Stretch:
    """A stage: from where to where, at which share, in percent; where its margin lies, if its looks tell."""

    left: float
    right: float
    share: str
    margin: float | None


@dataclass(frozen=True)
class Picture:
    """All of the picture; ``ticks`` are (y, text, whether it is 0), ``times`` (x, text)."""

    title: str
    told: str
    step: float
    ticks: Sequence[tuple[float, str, bool]]
    times: Sequence[tuple[float, str]]
    spots: Sequence[Spot]
    stages: Sequence[Stretch]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def looks_picture(looks: Sequence[Look]) -> Picture | None:
    """Effects against live with their bounds, and the losses that must be excluded; None if no look has told an effect.

    Args:
        looks: ascending, of one candidate; the newest are drawn.
    """
    drawn = looks[-MOST:]
    if not any(one.effect is not None for one in drawn):
        return None
    percents = [100 * value for one in drawn for value in (one.effect, one.low, one.high, _margin(one)) if value is not None]
    shown = [min(max(value, LOWEST), HIGHEST) for value in percents]
    ticks = ticks_of(min(0.0, *shown), max(0.0, *shown))
    step = (WIDTH - LEFT - RIGHT) / len(drawn)

    def y(fraction: float | None) -> float | None:
        if fraction is None:
            return None
        cut = min(max(100 * fraction, ticks[0]), ticks[-1])
        return round(TOP + (ticks[-1] - cut) / (ticks[-1] - ticks[0]) * (HEIGHT - TOP - BOTTOM), 1)

    spots, stages, place = [], [], 0
    for _, of_stage in itertools.groupby(drawn, key=lambda one: one.experiment):
        group, begin = list(of_stage), round(LEFT + place * step, 1)
        stages.append(Stretch(begin, round(begin + len(group) * step, 1), f"{group[0].share:g} %", y(_margin(group[-1]))))
        for one in group:
            left = LEFT + place * step
            spots.append(
                Spot(round(left, 1), round(left + step / 2, 1), y(one.low), y(one.high), y(one.effect), one.action, _told(one))
            )
            place += 1
    every = math.ceil(len(drawn) / TIMES)
    return Picture(
        title=f"Effect on session time against live, {counted(len(drawn), 'look')}",
        told="The last: " + "; ".join(_told(one) for one in drawn[-TOLD:]) + ".",
        step=round(step, 1),
        ticks=[(float(y(tick / 100) or 0.0), f"{tick:+g} %".replace("-", "−") if tick else "0 %", tick == 0) for tick in ticks],
        times=[(min(spot.x, WIDTH - MARGIN), _moment(one.at)) for spot, one in list(zip(spots, drawn, strict=True))[::every]],
        spots=spots,
        stages=stages,
    )


def _margin(one: Look) -> float | None:
    return None if one.margin is None else -one.margin


def _told(one: Look) -> str:
    """A look in words."""
    if one.effect is None or one.low is None or one.high is None:
        figures = "no telling yet"
    else:
        effect, low, high = (percent(100 * value) for value in (one.effect, one.low, one.high))
        figures = f"{effect} ({low} to {high})"
    return f"{_moment(one.at)}, {one.share:g} % of listeners: {figures}, {one.action}"


def _moment(at: datetime) -> str:
    return f"{at:%m-%d %H:%M}"
