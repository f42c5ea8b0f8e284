"""Tests of what must not get worse: shares of answers, latency and metrics of the candidate against another arm, with margins.

In go users by arm and the promotion rule; out come frozen results. A guardrail holds if its 95 % interval rules out a loss beyond
the margin. All of them must hold: that gives an error no second chance, so none is corrected for its false positives. But each
may fail by chance, so the power of each must be higher: beta is divided by their number and one, for the metric to be better
(Schultzberg, Ankargren and Frånberg 2024, "Risk-aware product decisions in A/B tests with multiple metrics").
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal

from recsys.abtest.analysis import CONFIDENCE, POWER, Comparison, welch
from recsys.abtest.metrics import METRICS, Columns, Guardrail, Metric
from recsys.abtest.rule import PromotionRule
from recsys.abtest.sequences import radius
from recsys.abtest.sessions import ExperimentLog

_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


@dataclass(frozen=True)
class NonInferiority:
    """One test of non-inferiority.

    ``effect``, its interval and ``margin`` are percentage points of shares, else percent of the other arm's value. ``shows`` is
    the smallest margin that so many users would show of an equal candidate with the power that the error budget asks for.
    ``reason`` says why there is no interval. ``planned_users``: its interval is that of a confidence sequence, narrowest at so
    many users of both arms, and holds at all nights together.
    """

    name: str
    label: str
    arm: str
    control: str
    unit: Literal["points", "percent"]
    higher_is_better: bool
    margin: float
    value: float | None
    control_value: float | None
    effect: float | None
    ci_low: float | None
    ci_high: float | None
    ok: bool
    shows: float | None = None
    reason: str | None = None
    planned_users: int | None = None

    @property
    def interval(self) -> str:
        """What its bounds are, for people."""
        return "95 % interval" if self.planned_users is None else "95 % interval for all nights"


def guardrail_tests(found: ExperimentLog, rule: PromotionRule, arm: str, control: str) -> list[NonInferiority]:
    """Every guardrail that has a margin, of one arm against another; none where the log does not tell it."""
    tests = []
    served = {name: found.served_of_arm(name) for name in (arm, control)}
    users = {name: found.of_arm(name) for name in (arm, control)}
    for guardrail in rule.limited():
        if guardrail.margin is None:
            continue
        if guardrail.part is not None:
            tests.append(_of_share(guardrail, served, arm, control))
        elif guardrail.timing:
            tests.append(_of_latency(guardrail, found, arm, control))
    for metric in METRICS:
        margin = rule.margin_of(metric.name)
        if margin is not None:
            tests.append(
                of_comparison(replace(welch(metric, users[control], users[arm]), arm=arm, control=control), metric, margin)
            )
    return [test for test in tests if test is not None]


def of_comparison(result: Comparison, metric: Metric, margin: float) -> NonInferiority:
    """A relative comparison as a test; ``margin`` is a fraction."""
    low, high = result.ci_low_percent, result.ci_high_percent
    ok = low is not None and high is not None and (low > -100 * margin if metric.higher_is_better else high < 100 * margin)
    return NonInferiority(
        name=result.name,
        label=result.label,
        arm=result.arm,
        control=result.control,
        unit="percent",
        higher_is_better=metric.higher_is_better,
        margin=100 * margin,
        value=result.treatment_mean,
        control_value=result.control_mean,
        effect=result.effect_percent,
        ci_low=low,
        ci_high=high,
        ok=ok,
        reason=result.reason,
    )


def _of_share(guardrail: Guardrail, served: Mapping[str, Columns], arm: str, control: str) -> NonInferiority | None:
    """A share of answers, of which fewer are better; the users' error by the delta method."""
    metric = Metric(
        guardrail.name,
        guardrail.label,
        "share of answers",
        "cost",
        guardrail.definition,
        str(guardrail.part),
        guardrail.whole,
        "ratio",
        higher_is_better=False,
    )
    if not all(served[name][metric.denominator or ""].any() for name in (arm, control)):
        return None
    result, margin = welch(metric, served[control], served[arm]), guardrail.margin or 0.0
    low, high, ok = result.ci_low, result.ci_high, False
    if high is not None:
        ok = high < margin
    elif result.treatment_mean is not None and result.control_mean is not None:
        # Where all users of each arm have the same share there is no error, and most often none of it at all.
        ok = result.treatment_mean <= result.control_mean
    return NonInferiority(
        name=result.name,
        label=result.label,
        arm=arm,
        control=control,
        unit="points",
        higher_is_better=False,
        margin=100 * margin,
        value=result.treatment_mean,
        control_value=result.control_mean,
        effect=_hundred(result.effect),
        ci_low=_hundred(low),
        ci_high=_hundred(high),
        ok=ok,
        reason=None if high is not None else result.reason,
    )


def _of_latency(guardrail: Guardrail, found: ExperimentLog, arm: str, control: str) -> NonInferiority | None:
    """A quantile of latency: the log of the ratio, from the two arms' intervals clustered by user."""
    name, margin = guardrail.name, guardrail.margin or 0.0
    values = [found.guardrails.get(one, {}).get(name) for one in (control, arm)]
    before, now = values
    if before is None or now is None or before <= 0 or now <= 0:
        return None
    test = NonInferiority(
        name=name,
        label=guardrail.label,
        arm=arm,
        control=control,
        unit="percent",
        higher_is_better=False,
        margin=100 * margin,
        value=now,
        control_value=before,
        effect=100 * (now / before - 1),
        ci_low=None,
        ci_high=None,
        ok=False,
    )
    intervals = [found.latencies.get(one, {}).get(name) for one in (control, arm)]
    known = [ends for ends in intervals if ends is not None and ends[0] > 0]
    if len(known) < len(intervals):
        return replace(test, reason="too few users or requests tell how exact it is")
    half = math.hypot(*(math.log(high / low) / 2 for low, high in known))
    low, high = (100 * (now / before * math.exp(side) - 1) for side in (-half, half))
    return replace(test, ci_low=low, ci_high=high, ok=high < 100 * margin)


def within_budget(tests: Sequence[NonInferiority], users: int = 0, planned: int | None = None) -> list[NonInferiority]:
    """The tests with the margins that they can show: at beta divided by their number and one.

    Args:
        users: of both arms. planned: where one looks every night, how many of them make the confidence sequence narrowest.
    """
    beta = (1 - POWER) / (len(tests) + 1)
    bound = float(radius(planned)(users)) if planned else _Z
    watched = [_watched(test, bound / _Z, planned) for test in tests] if planned else tests
    longer = 1 + NormalDist().inv_cdf(1 - beta) / bound
    return [replace(test, shows=_shown(test, longer)) for test in watched]


def _watched(test: NonInferiority, wider: float, planned: int) -> NonInferiority:
    """The test with bounds that hold at every look, for they lie so many times as many standard errors away."""
    ends = test.ci_low, test.ci_high
    if test.effect is None or ends[0] is None or ends[1] is None or min(test.effect, ends[0]) <= -100:
        return replace(test, planned_users=planned)
    if test.unit == "points":
        low, high = (test.effect + wider * (end - test.effect) for end in ends if end is not None)
    else:
        middle = math.log1p(test.effect / 100)
        logs = [middle + wider * (math.log1p(end / 100) - middle) for end in ends if end is not None]
        low, high = (100 * math.expm1(end) for end in logs)
    ok = low > -test.margin if test.higher_is_better else high < test.margin
    return replace(test, ci_low=low, ci_high=high, ok=ok, planned_users=planned)


def _shown(test: NonInferiority, longer: float) -> float | None:
    """The margin that an equal candidate keeps with the power wanted: so many half intervals away from no effect."""
    if test.ci_low is None or test.ci_high is None:
        return None
    if test.unit == "points":
        return longer * (test.ci_high - test.ci_low) / 2
    if test.ci_low <= -100:
        return None
    half = longer * (math.log1p(test.ci_high / 100) - math.log1p(test.ci_low / 100)) / 2
    return 100 * (1 - math.exp(-half)) if test.higher_is_better else 100 * math.expm1(half)


def _hundred(value: float | None) -> float | None:
    return None if value is None else 100 * value
