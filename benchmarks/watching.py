"""``python -m benchmarks.watching [error] [power] [--world DIR] [--runs N]``: experiments that somebody looks at every night.

In go a world and a number of experiments without a difference; out comes a table of how often each way of analysing them says
"better" or "worse" at any night, with the band that a true 5 % would stay within, and, where one arm is 5 % better, how often and
when that is found. Listeners return: half of the variance of session times is a lasting trait of the listener, and the times are
those that the world's listeners spend with a recommender that knows them, heavy tails included.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from recsys.abtest.plan import users_needed
from recsys.abtest.sequences import Arm, Bounds, relative
from recsys.abtest.watch import LEAST_USERS, means
from recsys.exceptions import InvalidInputError, RecsysError
from recsys.settings import load_settings
from recsys.simulate.listeners import load_listeners
from recsys.simulate.oracle import Oracle
from recsys.simulate.play import Plays
from recsys.simulate.run import run_in_process

SEED = 31337
LEVEL, BAND = 0.05, 0.99
#: Share of the variance of session times that is the listener's own, and the planted effect.
LASTING, LIFT = 0.5, 0.05
#: Sessions of an average listener, and nights of the window that reports used to read.
SESSIONS, WINDOW = 8.0, 7
PARTS = ("error", "power")
#: Listeners by whom a large experiment is planned.
MANY = 20_000
HEAD = "| experiment | way | false | power | median night | width |\n|---|---|---|---|---|---|"


class Sessions(NamedTuple):
    """Sessions of an arm: user and night from 0, time in tracks."""

    user: np.ndarray
    night: np.ndarray
    time: np.ndarray


@dataclass(frozen=True)
class Setting:
    """An experiment: nights, listeners an arm, how they come, and how many of both arms are planned.

    ``opened``: newcomers arrive evenly over the nights. Otherwise all are there from the first night, and those who stay longer
    come more often, so that the first nights are theirs.
    """

    nights: int
    users: int
    opened: bool
    planned: int

    @property
    def name(self) -> str:
        """For the table."""
        return f"{self.nights} nights, {'newcomers' if self.opened else 'all from the first'}, {self.users:,} an arm"


@dataclass(frozen=True)
class Row:
    """What one way of looking gave; ``nights`` is the median night of the decision, ``width`` relative to one look."""

    setting: str
    way: str
    false_percent: float
    allowed_percent: float
    power_percent: float
    once_percent: float
    nights: float | None
    width: float


class Times:
    """A recommender whose listeners' session times are noted, in tracks."""

    def __init__(self, behind: Oracle, episodes: int) -> None:
        self._behind, self.hundredths = behind, np.zeros(episodes)

    def next(self, plays: Plays) -> np.ndarray:
        """The answer of the recommender behind."""
        self.hundredths[plays.episode] += plays.time
        return self._behind.next(plays)

    def last(self, plays: Plays) -> None:
        """The last play counts as well."""
        self.hundredths[plays.episode] += plays.time


def session_times(world: Path, episodes: int) -> np.ndarray:
    """Session times of a world's listeners, in tracks heard, float64 [sessions]."""
    listeners = load_listeners(world)
    times = Times(Oracle(listeners, SEED, episodes), episodes)
    run_in_process(listeners, times, episodes=episodes, seed=SEED, progress=False)
    return times.hundredths / 100


def sessions(rng: np.random.Generator, setting: Setting, times: np.ndarray) -> Sessions:
    """User, night and time of each session of an arm."""
    users, nights = setting.users, setting.nights
    own = rng.choice(times, users)
    rate = rng.gamma(1.0, SESSIONS, users)
    if setting.opened:
        first = rng.integers(0, nights, users)
        later = rng.poisson(rate * (nights - first) / nights)
    else:
        first = np.zeros(users, np.int64)
        later = rng.poisson(rate * own / times.mean())
    user = np.repeat(np.arange(users), later)
    night = first[user] + (rng.random(len(user)) * (nights - first[user])).astype(np.int64)
    if setting.opened:
        user, night = np.concatenate([user, np.arange(users)]), np.concatenate([night, first])
    # A session is the listener's own time with a chance whose square is the lasting share of the variance, else anybody's.
    lasts = rng.random(len(user)) < np.sqrt(LASTING)
    return Sessions(user, night, np.where(lasts, own[user], rng.choice(times, len(user))))


def all_nights(found: Sessions, nights: int) -> Arm:
    """Of all sessions so far, as the report has it."""
    return means(*found, nights)


def rolling(found: Sessions, nights: int, days: int) -> Arm:
    """Of the sessions of the last nights."""
    seen = (found.night[:, None] + np.arange(days)).ravel()
    inside = seen < nights
    user, time = (np.repeat(column, days)[inside] for column in (found.user, found.time))
    cells, inverse = np.unique(seen[inside] * (found.user.max() + 1) + user, return_inverse=True)
    mean = np.bincount(inverse, time) / np.bincount(inverse)
    night = cells // (found.user.max() + 1)
    return Arm.of_sums(*(np.bincount(night, weights, nights) for weights in (None, mean, mean * mean)))


def first_nights(found: Sessions, nights: int, days: int, *, complete: bool = False) -> Arm:
    """Of each user's first nights; ``complete``: a user counts once these have passed."""
    first = np.full(found.user.max() + 1, nights)
    np.minimum.at(first, found.user, found.night)
    since = found.night - first[found.user]
    user, night, time = (column[since < days] for column in found)
    if complete:
        night = first[user] + days - 1
        over = night < nights
        user, night, time = user[over], night[over], time[over]
    return means(user, night, time, nights)


@dataclass(frozen=True)
class Way:
    """A way of looking: what users' values are, and which bounds are trusted at each night."""

    values: Callable[[Sessions, int], Arm]
    is_sequence: bool = True
    scale: Literal["log", "linear"] = "log"

    def bounds(self, control: Arm, treatment: Arm, setting: Setting) -> Bounds:
        """Of the treatment against the control, night after night."""
        planned = setting.planned if self.is_sequence else None
        effect, low, high = relative(control, treatment, planned=planned, level=LEVEL, scale=self.scale)
        enough = (control.users >= LEAST_USERS) & (treatment.users >= LEAST_USERS)
        return Bounds(effect, np.where(enough, low, -np.inf), np.where(enough, high, np.inf))


ONE_LOOK = "one look's interval, all nights"
REPORTED = "sequence, all nights (the report)"
WAYS = {
    f"one look's interval, last {WINDOW} nights": Way(partial(rolling, days=WINDOW), is_sequence=False),
    ONE_LOOK: Way(all_nights, is_sequence=False),
    REPORTED: Way(all_nights),
    "sequence, all nights, linear scale": Way(all_nights, scale="linear"),
    "sequence, a user's first night": Way(partial(first_nights, days=1)),
    f"sequence, a user's first {WINDOW} nights": Way(partial(first_nights, days=WINDOW)),
    f"sequence, users whose {WINDOW} nights are over": Way(partial(first_nights, days=WINDOW, complete=True)),
}


def watch(setting: Setting, times: np.ndarray, runs: int, ways: Sequence[str]) -> Iterator[Row]:
    """Ways of looking at the same experiments."""
    from scipy import stats

    false, at_once, widths = dict.fromkeys(ways, 0), dict.fromkeys(ways, 0), {way: [] for way in ways}
    found: dict[str, list[int]] = {way: [] for way in ways}
    valued = dict.fromkeys([all_nights, *(WAYS[way].values for way in ways)])
    for seed in np.random.SeedSequence([SEED, setting.nights, setting.users, setting.opened]).spawn(runs):
        rng = np.random.default_rng(seed)
        control, treatment = (sessions(rng, setting, times) for _ in range(2))
        arms = {values: (values(control, setting.nights), values(treatment, setting.nights)) for values in valued}
        once = WAYS[ONE_LOOK].bounds(*arms[all_nights], setting)
        for way in ways:
            before, after = arms[WAYS[way].values]
            lifted = Arm(after.users, after.mean * (1 + LIFT), after.variance * (1 + LIFT) ** 2)
            _, low, high = WAYS[way].bounds(before, after, setting)
            false[way] += bool(((low > 0) | (high < 0)).any())
            widths[way].append(float((high - low)[-1] / (once.high - once.low)[-1]))
            better = WAYS[way].bounds(before, lifted, setting).low > 0
            at_once[way] += bool(better[-1])
            if better.any():
                found[way].append(int(better.argmax()) + 1)
    allowed = float(stats.binom.interval(BAND, runs, LEVEL)[1])
    for way in ways:
        night = float(np.median(found[way])) if found[way] else None
        shares = (100 * count / runs for count in (false[way], allowed, len(found[way]), at_once[way]))
        yield Row(setting.name, way, *shares, night, float(np.median(widths[way])))


def large_enough(setting: Setting, times: np.ndarray) -> Setting:
    """The experiment with so many listeners that the planted effect is found at its end with a probability of 80 %."""
    arm = all_nights(sessions(np.random.default_rng(SEED), setting, times), setting.nights)
    planned = users_needed(float(np.sqrt(arm.variance[-1]) / arm.mean[-1]), LIFT, nightly=True)
    return replace(setting, users=round(planned / 2 * setting.users / float(arm.users[-1])), planned=planned)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables; returns the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        if unknown := set(arguments.parts) - set(PARTS):
            raise InvalidInputError(f"{sorted(unknown)[0]!r} is none of the parts {' and '.join(PARTS)}")
        if arguments.runs < 100:
            raise InvalidInputError(f"--runs {arguments.runs}: at least 100 are needed to tell anything")
        times = session_times(arguments.world or load_settings().world, arguments.sessions)
    except RecsysError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return error.exit_code
    centred = (times - times.mean()) / times.std()
    told = "mean {:.2f} tracks, deviation {:.2f}, skewness {:.1f}, kurtosis {:.1f}"
    print("session times:", told.format(times.mean(), times.std(), (centred**3).mean(), (centred**4).mean()))
    rows = []
    for part in arguments.parts or PARTS:
        runs, ways = (arguments.runs, tuple(WAYS)) if part == "error" else (arguments.runs // 5, (ONE_LOOK, REPORTED))
        print(f"\n{part}, {runs:,} experiments each\n\n{HEAD}")
        for nights in arguments.nights:
            for opened in (True, False):
                setting = Setting(nights, arguments.users, opened, 2 * arguments.users)
                if part == "power":
                    setting = large_enough(replace(setting, users=MANY), times)
                for row in watch(setting, times, runs, ways):
                    print(_line(row), flush=True)
                    rows.append(row)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.watching", description="Experiments that are looked at every night.")
    parser.add_argument("parts", nargs="*", metavar="PART", help="error (small experiments), power (large ones); default both")
    parser.add_argument("--world", type=Path, default=None, help="world directory; default RECSYS_WORLD")
    parser.add_argument("--runs", type=int, default=2000, help="experiments of each setting; a fifth for the power")
    parser.add_argument("--nights", type=int, nargs="+", default=[60, 365], help="nights of an experiment")
    parser.add_argument("--users", type=int, default=1000, help="listeners an arm of small experiments")
    parser.add_argument("--sessions", type=int, default=20_000, help="sessions that are played for their times")
    parser.add_argument("--json", type=Path, default=None, help="writes the rows there, too")
    return parser


def _line(row: Row) -> str:
    night = "-" if row.nights is None else f"{row.nights:.0f}"
    return (
        f"| {row.setting} | {row.way} | {row.false_percent:.1f} % (up to {row.allowed_percent:.1f}) | {row.power_percent:.0f} % "
        f"({row.once_percent:.0f} % at the end) | {night} | {row.width:.2f} |"
    )


if __name__ == "__main__":
    sys.exit(main())
