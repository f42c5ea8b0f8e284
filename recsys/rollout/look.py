"""A look at a stage: a pure function of what the logs say up to a time, the rollout and the rule; it can be replayed.

In go an :class:`Evidence` and a :class:`~recsys.versions.rollout.Rollout`; out comes a :class:`Look`: stay, advance, abort, hold.

The bounds are one-sided confidence sequences (:mod:`recsys.abtest.sequences`), which hold however often one looks. Each stage is
an experiment of its own with its part of the level, so that the stages together keep it. Shares of users are shrunk towards one
half by one more user of each kind (Agresti and Caffo 2000), so that a share of 0 or 1 has an error, too.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from math import lgamma, log
from typing import ClassVar, Literal

import numpy as np

from recsys.abtest.metrics import PRIMARY
from recsys.abtest.sequences import Arm, difference, relative
from recsys.abtest.wording import counted
from recsys.rollout.rule import TROUBLES, RolloutRule, Trouble
from recsys.storage.document import Document, Part
from recsys.storage.layout import Dated
from recsys.versions.rollout import Rollout

Action = Literal["stay", "advance", "abort", "hold"]
#: Odds against the split at which it counts as broken, and how many users' worth the prior of the test weighs.
_BROKEN, _PRIOR = 1000.0, 100.0


class Moments(Part):
    """An arm's users, the mean of their values and the variance of a value; None for what so few users do not tell."""

    users: int
    mean: float | None = None
    variance: float | None = None

    @property
    def arm(self) -> Arm:
        """For sequences."""
        mean, variance = (np.nan if value is None else value for value in (self.mean, self.variance))
        return Arm(np.asarray(float(self.users)), np.asarray(mean), np.asarray(variance))


class Evidence(Part):
    """What the logs say of a stage up to a time.

    Attributes:
        live, candidate: session time of the users with whole sessions. troubles: shares of each user's answers, of both.
        dealt: users with any request, of both.
    """

    live: Moments = Moments(users=0)
    candidate: Moments = Moments(users=0)
    troubles: Mapping[Trouble, tuple[Moments, Moments]] = {}
    dealt: tuple[int, int] = (0, 0)


class Look(Part):
    """What was looked at, and what follows: at which time (UTC), stage and share; effect and its bounds as fractions of live.

    Attributes:
        margin: the loss that must be excluded, a fraction; None in looks of earlier versions.
    """

    at: datetime
    experiment: str
    stage: int
    share: float
    since: datetime
    action: Action
    reason: str
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    margin: float | None = None
    evidence: Evidence = Evidence()


class Looks(Document):
    """``looks.json``: every look at the rollouts of a date's candidates, ascending."""

    FILE: ClassVar[str] = "looks.json"
    KIND: ClassVar[Dated] = Dated.ROLLOUTS

    looks: tuple[Look, ...] = ()

    def with_one(self, look: Look) -> "Looks":
        """The same with another look, which takes the place of one at the same time."""
        others = [other for other in self.looks if (other.at, other.experiment) != (look.at, look.experiment)]
        return Looks(looks=tuple(sorted([*others, look], key=lambda one: one.at)))


def look(now: Rollout, found: Evidence, rule: RolloutRule, at: datetime) -> Look:
    """What a stage's evidence means at a time.

    Args:
        now: the rollout, under way. at: the end of what the evidence covers, UTC.
    """
    level = rule.level / max(1, len(rule.stages) - 1)
    margin, planned = rule.margin_of(now.share), rule.planned_users / (now.share / 100)
    pair = found.live.arm, found.candidate.arm
    is_enough = min(found.live.users, found.candidate.users) >= rule.least_users
    lower = relative(*pair, planned=planned, level=level, side="lower")
    upper = relative(*pair, planned=planned, level=level, side="upper")
    effect = float(lower.effect) if is_enough and np.isfinite(lower.effect) else None
    low, high = (None, None) if effect is None else (float(lower.low), float(upper.high))
    action, reason = _decide(now, found, rule, at, level, planned, margin, effect, low, high)
    return Look(
        at=at,
        experiment=now.experiment,
        stage=now.stage,
        share=now.share,
        since=now.since,
        action=action,
        reason=reason,
        effect=effect,
        low=low,
        high=high,
        margin=margin,
        evidence=found,
    )


def _decide(
    now: Rollout,
    found: Evidence,
    rule: RolloutRule,
    at: datetime,
    level: float,
    planned: float,
    margin: float,
    effect: float | None,
    low: float | None,
    high: float | None,
) -> tuple[Action, str]:
    broken = _split(now.share / 100, found) or _troubles(found, rule, level, planned)
    if broken:
        return "abort", broken
    users = f"{counted(found.candidate.users, 'listener')} on the candidate, {found.live.users:,} on live"
    if effect is None or low is None or high is None:
        told = f"{PRIMARY.label}: no telling yet ({users})"
    else:
        told = f"{PRIMARY.label} against live {_percent(effect)} ({users})"
        if high < 0:
            return "abort", f"{told}; it is worse: at best {_percent(high)}"
    lasted = at - now.since
    is_excluded = low is not None and low > -margin
    loss = f"a loss of {100 * margin:g} %"
    if now.state == "held":
        return "stay", f"{told}; a person decides"
    if is_excluded and lasted >= timedelta(hours=rule.least_hours):
        return "advance", f"{told}; {loss} is excluded: at worst {_percent(low or 0.0)}"
    if lasted >= timedelta(hours=rule.longest_hours):
        return "hold", f"{told}; {loss} could not be excluded in {rule.longest_hours:g} hours"
    if is_excluded:
        return "stay", f"{told}; {loss} is excluded, but a stage lasts {rule.least_hours:g} hours"
    at_worst = "" if low is None else f": at worst {_percent(low)}"
    return "stay", f"{told}; {loss} is not excluded yet{at_worst}"


def _troubles(found: Evidence, rule: RolloutRule, level: float, planned: float) -> str | None:
    """The first share that is larger for the candidate than it may be."""
    for name, margin in rule.guardrails.items():
        live, candidate = found.troubles.get(name, (Moments(users=0), Moments(users=0)))
        if min(live.users, candidate.users) < rule.least_users:
            continue
        shrunk = _shrunk(live), _shrunk(candidate)
        bounds = difference(*shrunk, planned=planned, level=level, side="lower")
        if float(bounds.low) > margin:
            shares = f"{100 * (candidate.mean or 0):.1f} % for the candidate, {100 * (live.mean or 0):.1f} % for live"
            return f"{TROUBLES[name]}: {shares}, which is surely more than {100 * margin:g} % above"
    return None


def _shrunk(share: Moments) -> Arm:
    """The arm with one more user of share 0 and one of share 1."""
    total = share.users * (share.mean or 0.0)
    squares = (share.users - 1) * (share.variance or 0.0) + total * (share.mean or 0.0)
    return Arm.of_sums(share.users + 2, total + 1, squares + 1)


def _split(share: float, found: Evidence) -> str | None:
    """Whether the users who came are not those that the split deals: odds that hold at every look (Lindon and Malek 2020)."""
    live, candidate = found.dealt
    if share >= 1 or not live + candidate:
        return None
    first, second = _PRIOR * share, _PRIOR * (1 - share)
    odds = _log_beta(first + candidate, second + live) - _log_beta(first, second)
    if odds - candidate * log(share) - live * log(1 - share) < log(_BROKEN):
        return None
    return (
        f"{counted(candidate, 'listener')} of {live + candidate:,} met the candidate, not {100 * share:g} %: the split is "
        "broken, or the candidate does not answer"
    )


def _log_beta(first: float, second: float) -> float:
    return lgamma(first) + lgamma(second) - lgamma(first + second)


def _percent(value: float) -> str:
    return f"{100 * value:+.1f} %".replace("-", "−")
