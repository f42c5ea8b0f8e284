"""Comparison of arms on users: effects, intervals, p-values, and whether the split itself is sound.

In go columns of users (:mod:`recsys.abtest.sessions`) and metric definitions; out come frozen results that hold numbers or a
reason why there is none, never NaN. The unit is the user, because users are what is assigned; sessions of one user are not
independent.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from recsys.abtest.metrics import METRICS, PRIMARY, Columns, Floats, Metric
from recsys.exceptions import InvalidInputError

CONFIDENCE = 0.95
POWER = 0.8
SAMPLE_RATIO_ALARM = 0.001


@dataclass(frozen=True)
class Comparison:
    """One metric of one arm against another.

    Effects in percent are of the control mean; their interval treats that mean as estimated. ``p_adjusted`` is Holm's over the
    declared family and None outside it. ``mde_percent`` is the smallest effect found with a probability of 80 %. Where a number
    cannot be given it is None and ``reason`` says why.
    """

    name: str
    arm: str
    control: str
    role: Literal["primary", "secondary", "validity", "cost", "context", "non_inferiority", "adjusted"]
    control_users: int
    treatment_users: int
    control_mean: float | None = None
    treatment_mean: float | None = None
    effect: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    effect_percent: float | None = None
    ci_low_percent: float | None = None
    ci_high_percent: float | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    mde_percent: float | None = None
    reason: str | None = None

    @property
    def better(self) -> bool:
        """Whether the whole relative interval lies above 0."""
        return self.ci_low_percent is not None and self.ci_low_percent > 0


@dataclass(frozen=True)
class Adjusted:
    """A comparison whose noise was reduced by what is known of the users from before the experiment.

    ``correlation`` is that of the metric with the earlier value, over both arms; ``variance_ratio`` the variance of the effect
    that is left (None without a result); ``known`` the share of users with an earlier value.
    """

    result: Comparison
    correlation: float | None
    variance_ratio: float | None
    known: float


@dataclass(frozen=True)
class SampleRatio:
    """Whether the arms hold as many users as the design says (chi-square; alarm below 0.001)."""

    users: dict[str, int]
    expected: dict[str, float]
    p_value: float | None
    ok: bool
    reason: str | None = None


def welch(metric: Metric, control: Columns, treatment: Columns, *, confidence: float = CONFIDENCE) -> Comparison:
    """Compare two groups of users by Welch's t-test.

    The relative interval is that of the log of the ratio of means (delta method), with Welch's degrees of freedom on that scale.
    Ratio metrics are linearised on users: numerator minus ratio times denominator (Deng, Knoblich and Lu 2018).

    Raises:
        InvalidInputError: ``confidence`` is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise InvalidInputError(f"confidence is {confidence!r}; it must lie between 0 and 1, such as 0.95")
    groups = [metric.parts(users) for users in (control, treatment)]
    result = Comparison(metric.name, "", "", metric.role, len(groups[0][0]), len(groups[1][0]))
    for name, (numerator, denominator) in zip(("control", "treatment"), groups, strict=True):
        if len(numerator) < 2:
            return replace(result, reason=f"the {name} arm has {len(numerator)} users with this metric; at least 2 are needed")
        if not (np.isfinite(numerator).all() and np.isfinite(denominator).all()):
            return replace(result, reason=f"the {name} arm holds infinite or missing values")
    with np.errstate(over="ignore", invalid="ignore"):
        moments = [_mean_and_variance(metric, *group) for group in groups]
    if not all(math.isfinite(value) for pair in moments for value in pair):
        return replace(result, reason="the values are too large to average")
    (control_mean, _), (treatment_mean, _) = moments
    effect = treatment_mean - control_mean
    result = replace(result, control_mean=control_mean, treatment_mean=treatment_mean, effect=effect)
    # A spread that is only rounding of equal values would pass for a precise measurement.
    if all(var <= (1e-12 * mean) ** 2 for mean, var in moments):
        return replace(result, reason="all users of each arm have the same value, so its spread is unknown")
    return _measured(result, moments, effect, confidence)


def _mean_and_variance(metric: Metric, numerator: Floats, denominator: Floats) -> tuple[float, float]:
    if metric.kind == "mean":
        values = numerator / denominator
        return float(values.mean()), float(values.var(ddof=1))
    ratio = float(numerator.sum() / denominator.sum())
    return ratio, float((numerator - ratio * denominator).var(ddof=1) / denominator.mean() ** 2)


def _measured(result: Comparison, moments: list[tuple[float, float]], effect: float, confidence: float) -> Comparison:
    """Fill in the intervals and the p-value from mean and variance of both groups, of two users at least and with some spread."""
    import tea_tasting as tt
    from scipy import stats
    from tea_tasting.aggr import Aggregates

    (control_mean, control_var), (treatment_mean, treatment_var) = moments
    n_control, n_treatment = result.control_users, result.treatment_users
    part_control, part_treatment = control_var / n_control, treatment_var / n_treatment
    error = math.sqrt(part_control + part_treatment)
    freedom = (part_control + part_treatment) ** 2 / (part_control**2 / (n_control - 1) + part_treatment**2 / (n_treatment - 1))
    quantile = float(stats.t.ppf((1 + confidence) / 2, freedom))
    half = quantile * error
    result = replace(
        result,
        ci_low=effect - half,
        ci_high=effect + half,
        p_value=float(2 * stats.t.sf(abs(effect) / error, freedom)),
    )
    if control_mean <= 0 or treatment_mean <= 0:
        return replace(result, reason="a mean is not above 0, so there is no relative effect")
    # A control mean that may as well be 0 leaves the ratio unbounded (Fieller 1954).
    if quantile * math.sqrt(part_control) >= control_mean:
        return replace(result, reason="the control mean is too uncertain for a relative effect")
    measured = tt.Mean("x", confidence_level=confidence, equal_var=False, use_t=True).analyze_aggregates(
        Aggregates(n_control, {"x": control_mean}, {"x": control_var}, {}),
        Aggregates(n_treatment, {"x": treatment_mean}, {"x": treatment_var}, {}),
    )
    detectable = (quantile + stats.norm.ppf(POWER)) * error / control_mean
    numbers = (measured.rel_effect_size, measured.rel_effect_size_ci_lower, measured.rel_effect_size_ci_upper, detectable)
    if not all(math.isfinite(number) for number in numbers):
        return replace(result, reason="the relative effect is too large for a number")
    percent = [100 * float(number) for number in numbers]
    return replace(
        result, effect_percent=percent[0], ci_low_percent=percent[1], ci_high_percent=percent[2], mde_percent=percent[3]
    )


def adjust(metric: Metric, control: Columns, treatment: Columns, *, confidence: float = CONFIDENCE) -> Adjusted:
    """The comparison of :func:`welch` with CUPED (Deng, Xu, Kohavi and Walker 2013), for metrics of kind mean.

    A user's value y becomes y - theta (x - mean x), x the column ``before``: the same metric before the experiment, NaN for a
    user who was not there; such a user gets the mean of the others. theta = cov(x, y) / var(x) over both arms.
    """
    plain = replace(welch(metric, control, treatment, confidence=confidence), role="adjusted")
    y = [metric.values(users) for users in (control, treatment)]
    x = [np.asarray(users["before"], dtype=np.float64)[_kept(metric, users)] for users in (control, treatment)]
    together = np.concatenate(x)
    known = np.isfinite(together)
    share = float(known.mean()) if len(known) else 0.0
    if plain.p_value is None:
        return Adjusted(plain, None, None, share)
    if known.sum() < 2 or together[known].std() == 0:
        return Adjusted(replace(plain, reason="nothing tells the users apart from before the experiment"), None, None, share)
    mean = float(together[known].mean())
    x = [np.where(np.isfinite(values), values, mean) for values in x]
    covariance = np.cov(np.concatenate(x), np.concatenate(y))
    theta = float(covariance[0, 1] / covariance[0, 0])
    moved = [values - theta * (earlier - mean) for values, earlier in zip(y, x, strict=True)]
    (control_mean, control_var), (treatment_mean, treatment_var) = moments = [
        (float(values.mean()), float(values.var(ddof=1))) for values in moved
    ]
    result = replace(plain, control_mean=control_mean, treatment_mean=treatment_mean, effect=treatment_mean - control_mean)
    before = sum(float(values.var(ddof=1)) / len(values) for values in y)
    after = control_var / len(moved[0]) + treatment_var / len(moved[1])
    return Adjusted(
        _measured(result, moments, treatment_mean - control_mean, confidence),
        float(covariance[0, 1] / math.sqrt(covariance[0, 0] * covariance[1, 1])), after / before, share,
    )  # fmt: skip


def _kept(metric: Metric, users: Columns) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Users that :meth:`Metric.parts` keeps."""
    if metric.denominator is None:
        return np.ones(len(users[metric.numerator]), dtype=bool)
    return np.asarray(users[metric.denominator]) > 0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the given order (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def compare_arms(
    arms: Mapping[str, Columns],
    control: str,
    treatments: Sequence[str],
    *,
    context: Sequence[str] = (),
) -> list[Comparison]:
    """Every metric of every treatment, then of every context arm, against the control.

    Primary and secondary metrics of the treatments form one family for Holm; context arms are shown without being tested.
    """
    found: list[Comparison] = []
    for arm in (*treatments, *context):
        for metric in METRICS:
            result = welch(metric, arms[control], arms[arm])
            role = "context" if arm in context and metric.role in ("primary", "secondary") else metric.role
            found.append(replace(result, arm=arm, control=control, role=role))
    family = [i for i, c in enumerate(found) if c.role in ("primary", "secondary") and c.p_value is not None]
    for i, adjusted in zip(family, holm([found[i].p_value or 0.0 for i in family]), strict=True):
        found[i] = replace(found[i], p_adjusted=adjusted)
    return found


def against_live(candidate: Columns, live: Columns, arm: str, live_arm: str) -> Comparison:
    """The primary metric of the candidate against the live version's arm, for the non-inferiority rule."""
    return replace(welch(PRIMARY, live, candidate), arm=arm, control=live_arm, role="non_inferiority")


def sample_ratio(users: Mapping[str, int], shares: Mapping[str, float], *, alarm: float = SAMPLE_RATIO_ALARM) -> SampleRatio:
    """Chi-square test of the numbers of users against the shares of the design.

    Args:
        users: users by arm. shares: positive weights by arm; an arm without users is expected all the same.
    """
    from scipy import stats

    observed = {arm: int(users.get(arm, 0)) for arm in shares}
    total, weight = sum(observed.values()), sum(shares.values())
    expected = {arm: total * share / weight for arm, share in shares.items()}
    if len(shares) < 2:
        return SampleRatio(observed, expected, None, False, "there is only one arm, so there is no ratio to check")
    if total == 0:
        return SampleRatio(observed, expected, None, False, "there are no users")
    p_value = float(stats.chisquare(list(observed.values()), list(expected.values())).pvalue)
    return SampleRatio(observed, expected, p_value, p_value >= alarm)
