"""``python -m benchmarks.rollout [--world DIR] [--seeds N] [--users N] [--rule FILE] [--service]``: what comes of rollouts.

In go a world, whose listeners' session times are played once, and a rule; out comes a table: of candidates that are worse by a
fifth, as good as live, or better by a fifth, how many are taken back, held and live in the end, at which share, after how long.

Listeners return, and half of the variance of their session times lasts (:mod:`benchmarks.watching`). The looks are those of
:mod:`recsys.rollout.look`, with the evidence that logs of these sessions would give; with ``--service`` a real service writes
these logs (:mod:`benchmarks.rollout_service`), at about a minute a rollout.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmarks.watching import LASTING, SEED, session_times
from recsys.exceptions import InvalidInputError, RecsysError
from recsys.rollout.look import Action, Evidence, Moments, look
from recsys.rollout.rule import RolloutRule, load_rule
from recsys.settings import load_settings
from recsys.versions.rollout import Rollout

#: What candidates do to session times, as a factor.
LIFTS = {"20 % worse": 0.8, "as good": 1.0, "20 % better": 1.2}
#: Sessions of a listener an hour: a bit more than one a day.
RATE = 0.05
BEGAN = datetime(2026, 1, 5, tzinfo=UTC)
HEAD = "| the candidate is | taken back | held | live | largest share | hours, median |\n|---|---|---|---|---|---|"


@dataclass(frozen=True)
class End:
    """How a rollout ended (abort, hold, or advance: it is live), at which share in percent, and after how many hours."""

    action: Action
    share: float
    hours: float


@dataclass(frozen=True)
class Row:
    """What came of the candidates with one lift; ``largest`` is the largest share in percent at which any of them was served."""

    candidate: str
    aborted: int
    held: int
    live: int
    largest: float
    hours: float


class Crowd:
    """The users of one arm, and the sums of their sessions so far.

    Args:
        times: session times that are drawn from. lift: factor to them.
    """

    def __init__(self, rng: np.random.Generator, times: np.ndarray, size: int, lift: float) -> None:
        self._rng, self._times, self._lift = rng, times, lift
        self._own = rng.choice(times, size)
        self._sums, self._sessions = np.zeros(size), np.zeros(size)

    def play(self, hours: float) -> None:
        """Some come. A session is the user's own time with a chance whose square is the lasting share of the variance."""
        came = np.flatnonzero(self._rng.random(len(self._own)) < RATE * hours)
        lasts = self._rng.random(len(came)) < np.sqrt(LASTING)
        self._sums[came] += self._lift * np.where(lasts, self._own[came], self._rng.choice(self._times, len(came)))
        self._sessions[came] += 1

    @property
    def moments(self) -> Moments:
        """As a log tells them."""
        seen = self._sessions > 0
        means = self._sums[seen] / self._sessions[seen]
        if len(means) < 2:
            return Moments(users=len(means))
        return Moments(users=len(means), mean=float(means.mean()), variance=float(means.var(ddof=1)))


def outcome(times: np.ndarray, rule: RolloutRule, lift: float, seed: int, *, users: int, every: float) -> End:
    """How one rollout ends, looked at every few hours; a stage deals the listeners to new arms, as the service's log does."""
    rng = np.random.default_rng((SEED, seed, round(1000 * lift)))
    now = Rollout("2026-01-05-0a1b2c3d", "2026-01-05", "live", "serving", 1, rule.stages[0].share, "X-1", BEGAN, BEGAN, 1)
    at = BEGAN
    while True:
        offered = round(users * now.share / 100)
        live, candidate = Crowd(rng, times, users - offered, 1.0), Crowd(rng, times, offered, lift)
        action: Action = "stay"
        while action == "stay":
            at += timedelta(hours=every)
            live.play(every)
            candidate.play(every)
            action = look(now, Evidence(live=live.moments, candidate=candidate.moments), rule, at).action
        stage, following = rule.after(now.share)
        if action != "advance" or following.share == 100:
            return End(action, now.share, (at - BEGAN).total_seconds() / 3600)
        now = replace(now, stage=stage, share=following.share, since=at, experiment=f"X-{stage}")


class Play(Protocol):
    """Plays one rollout: :func:`outcome`, or the same by requests."""

    def __call__(self, times: np.ndarray, rule: RolloutRule, lift: float, seed: int, *, users: int, every: float) -> End:
        """How it ends."""


def outcomes(play: Play, times: np.ndarray, rule: RolloutRule, *, seeds: int, users: int, every: float) -> Iterator[Row]:
    """What comes of candidates, one row a lift."""
    for name, lift in LIFTS.items():
        ends = [play(times, rule, lift, seed, users=users, every=every) for seed in range(seeds)]
        counts = [sum(end.action == action for end in ends) for action in ("abort", "hold", "advance")]
        largest = 100.0 if counts[2] else max(end.share for end in ends)
        yield Row(name, *counts, largest, float(np.median([end.hours for end in ends])))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; returns the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        for name in ("seeds", "users", "every"):
            if not getattr(arguments, name) > 0:
                raise InvalidInputError(f"--{name} {getattr(arguments, name):g} must be above 0")
        rule = load_rule(arguments.rule)
        times = session_times(arguments.world or load_settings().world, arguments.sessions)
        play: Play = outcome
        if arguments.service:
            from benchmarks.rollout_service import outcome_of_service as play
    except RecsysError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return error.exit_code
    told = "session times: mean {:.2f} tracks, deviation {:.2f}; {:,} listeners, a look every {:g} hours, {} rollouts each"
    print(told.format(times.mean(), times.std(), arguments.users, arguments.every, arguments.seeds))
    print(f"\n{HEAD}")
    rows = []
    for row in outcomes(play, times, rule, seeds=arguments.seeds, users=arguments.users, every=arguments.every):
        counts = f"{row.aborted} | {row.held} | {row.live}"
        print(f"| {row.candidate} | {counts} | {row.largest:g} % | {row.hours:.0f} |", flush=True)
        rows.append(asdict(row))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks.rollout", description="What comes of rollouts of worse and better candidates."
    )
    parser.add_argument("--world", type=Path, default=None, help="world directory; default RECSYS_WORLD")
    parser.add_argument("--rule", type=Path, default=None, help="rollout rule; default: config/rollout.yml's values")
    parser.add_argument("--seeds", type=int, default=100, help="rollouts of each candidate")
    parser.add_argument("--users", type=int, default=60_000, help="listeners of the site")
    parser.add_argument("--every", type=float, default=3, help="hours between looks")
    parser.add_argument("--sessions", type=int, default=20_000, help="sessions that are played for their times")
    parser.add_argument("--service", action="store_true", help="by requests to a real service, whose log the looks read")
    parser.add_argument("--json", type=Path, default=None, help="writes the rows there, too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
