"""Comparison of arms on users: effects, intervals, p-values, and whether the split itself is sound.

In go columns of users (:mod:`recsys.abtest.sessions`) and metric definitions; out come frozen results that hold numbers or a
reason why there is none, never NaN. The unit is the user, because users are what is assigned; sessions of one user are not
independent.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from recsys.abtest.metrics import METRICS, PRIMARY, Columns, Floats, Metric
from recsys.abtest.wording import counted
from recsys.exceptions import InvalidInputError

if TYPE_CHECKING:
    from tea_tasting import RatioOfMeans
    from tea_tasting.aggr import Aggregates
    from tea_tasting.metrics.mean import MeanResult

CONFIDENCE = 0.95
POWER = 0.8
SAMPLE_RATIO_ALARM = 0.001
#: Relative; a smaller spread would pass for a precise measurement.
ROUNDING = 1e-12

#: What users did before the experiment: a value, or two columns whose ratio of sums is one.
EARLIER = ("before", "before_weight")

#: Mean and variance.
Moments = tuple[float, float]
Probability = Annotated[float, Field(ge=0, le=1)]
Role = Literal[
    "primary", "secondary", "validity", "cost", "context", "non_inferiority", "adjusted", "winsorised", "before", "reference"
]


@dataclass(frozen=True)
class Comparison:
    """One metric of one arm against another; ``label`` and ``unit`` are the metric's, for people.

    Effects in percent are of the control mean; their interval treats that mean as estimated. ``p_adjusted`` is Holm's over the
    declared family and None outside it. ``mde_percent`` is the smallest effect found with a probability of 80 %. Where a number
    cannot be given it is None and ``reason`` says why.
    """

    name: str
    arm: str
    control: str
    role: Role
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
    p_value: Probability | None = None
    p_adjusted: Probability | None = None
    mde_percent: float | None = None
    reason: str | None = None
    label: str = ""
    unit: str = ""

    @property
    def interval(self) -> str:
        """What its bounds are, for people."""
        return "95 % interval"

    @property
    def better(self) -> bool:
        """Whether the whole relative interval lies above 0."""
        return self.ci_low_percent is not None and self.ci_low_percent > 0


@dataclass(frozen=True)
class Adjusted(Comparison):
    """A comparison whose noise was reduced by what is known of the users from before the experiment.

    ``correlation`` is that of the metric with the earlier value, over both arms; ``variance_ratio`` the variance of the effect
    that is left (None without a result); ``known`` the share of users with an earlier value.
    """

    correlation: float | None = None
    variance_ratio: float | None = None
    known: float = 0.0


@dataclass(frozen=True)
class SampleRatio:
    """Whether the arms hold as many users as the design says (chi-square; alarm below 0.001)."""

    users: dict[str, int]
    expected: dict[str, float]
    p_value: Probability | None
    ok: bool
    reason: str | None = None


def welch(metric: Metric, control: Columns, treatment: Columns, *, confidence: float = CONFIDENCE) -> Comparison:
    """Compare two groups of users by Welch's t-test, as tea-tasting does.

    The relative interval is that of the log of the ratio of means (delta method), with Welch's degrees of freedom on that scale.
    The variance of ratio metrics is that of the delta method on users (Deng, Knoblich and Lu 2018).

    Raises:
        InvalidInputError: ``confidence`` is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise InvalidInputError(f"confidence is {confidence!r}; it must lie between 0 and 1, such as 0.95")
    groups = [metric.parts(users) for users in (control, treatment)]
    result = _empty(metric, metric.role, len(groups[0][0]), len(groups[1][0]))
    for name, (numerator, denominator) in zip(("control", "treatment"), groups, strict=True):
        if len(numerator) < 2:
            users = counted(len(numerator), "user")
            return replace(result, reason=f"the {name} arm has {users} with this metric; at least 2 are needed")
        if not (np.isfinite(numerator).all() and np.isfinite(denominator).all()):
            return replace(result, reason=f"the {name} arm holds infinite or missing values")
        if not denominator.any():
            return replace(result, reason=f"the {name} arm has only zeros to divide by")
    test = _test(metric, confidence)
    arms = [_aggregates(**_tested(metric, *parts)) for parts in groups]
    moments = [(arm.mean("value") / arm.mean(test.denom), arm.ratio_var("value", test.denom)) for arm in arms]
    return _measured(result, test, arms, moments)


def _empty(metric: Metric, role: Role, control_users: int, treatment_users: int) -> Comparison:
    return Comparison(metric.name, "", "", role, control_users, treatment_users, label=metric.label, unit=metric.unit)


def _tested(metric: Metric, numerator: Floats, denominator: Floats) -> dict[str, Floats]:
    """The columns that are tested, of what :meth:`Metric.parts` gives."""
    return {"value": numerator, "weight": denominator} if metric.kind == "ratio" else {"value": numerator / denominator}


def _test(metric: Metric | None, confidence: float, covariate: Sequence[str] = ()) -> "RatioOfMeans":
    """Welch's test of the column ``value`` or of its ratio to ``weight``, whatever tea-tasting's defaults are set to.

    Args:
        covariate: a column, or the two whose ratio is one.
    """
    import tea_tasting as tt

    columns = ["value", "weight" if metric and metric.kind == "ratio" else None, *covariate]
    return tt.RatioOfMeans(*columns, confidence_level=confidence, equal_var=False, use_t=True)


def _aggregates(**columns: Floats) -> "Aggregates":
    """What the test wants to know of an arm's users, float64 [users] a column.

    By numpy: tea-tasting takes longer to read a table than to test.
    """
    from tea_tasting.aggr import Aggregates

    names, table = list(columns), np.stack(list(columns.values()))
    with np.errstate(over="ignore", invalid="ignore"):
        means = table.mean(axis=1)
        table -= means[:, None]
        covariances = (table @ table.T / (table.shape[1] - 1)).tolist()
    pairs = {(a, b): covariances[i][j] for i, a in enumerate(names) for j, b in enumerate(names)}
    variances = {name: pairs[name, name] for name in names}
    return Aggregates(table.shape[1], dict(zip(names, means.tolist(), strict=True)), variances, pairs)


def _measured(result: Comparison, test: "RatioOfMeans", arms: Sequence["Aggregates"], moments: Sequence[Moments]) -> Comparison:
    """Fill in what the test finds in the control and the treatment, or the reason why there is no such number.

    Args:
        moments: mean and variance of each arm's users as the test sees them. The library tells no variances, but the refusals and
            the detectable effect need them.
    """
    if not all(math.isfinite(number) for pair in moments for number in pair):
        return replace(result, reason="the values are too large to average")
    (control_mean, control_var), (treatment_mean, treatment_var) = moments
    result = replace(result, control_mean=control_mean, treatment_mean=treatment_mean, effect=treatment_mean - control_mean)
    # What is left where terms cancel may lie below 0.
    control_part, treatment_part = max(0.0, control_var) / arms[0].count(), max(0.0, treatment_var) / arms[1].count()
    square = control_part + treatment_part
    if square <= sum(_rounding(test, arm, mean) for arm, (mean, _) in zip(arms, moments, strict=True)):
        return replace(result, reason="all users of each arm have the same value, so its spread is unknown")
    if not 0 < square * square < math.inf:  # the degrees of freedom hold the square
        return replace(result, reason="the values are too large or too small for a test")
    measured = _analysed(test, arms, moments)
    low, high = float(measured.effect_size_ci_lower), float(measured.effect_size_ci_upper)
    result = replace(result, ci_low=low, ci_high=high, p_value=float(measured.pvalue))
    if control_mean <= 0 or treatment_mean <= 0:
        return replace(result, reason="a mean is not above 0, so there is no relative effect")
    half, error = (high - low) / 2, math.sqrt(square)
    # A control mean that may as well be 0 leaves the ratio unbounded (Fieller 1954).
    if half / error * math.sqrt(control_part) >= control_mean:
        return replace(result, reason="the control mean is too uncertain for a relative effect")
    detectable = (half + NormalDist().inv_cdf(POWER) * error) / control_mean
    numbers = (measured.rel_effect_size, measured.rel_effect_size_ci_lower, measured.rel_effect_size_ci_upper, detectable)
    if not all(math.isfinite(number) for number in numbers):
        return replace(result, reason="the relative effect is too large for a number")
    percent = [100 * float(number) for number in numbers]
    return replace(
        result, effect_percent=percent[0], ci_low_percent=percent[1], ci_high_percent=percent[2], mde_percent=percent[3]
    )


def _rounding(test: "RatioOfMeans", arm: "Aggregates", mean: float) -> float:
    """Variance of an arm's mean that may be no more than rounding: of equal values, or of terms that cancel."""
    cancelled = arm.var("value") / arm.mean(test.denom) / arm.mean(test.denom)
    return float(ROUNDING * (ROUNDING * mean * mean + cancelled) / arm.count())


def _analysed(test: "RatioOfMeans", arms: Sequence["Aggregates"], moments: Sequence[Moments]) -> "MeanResult":
    """The library's result; without a relative interval where that is too large for a number."""
    from tea_tasting.aggr import Aggregates

    try:
        return test.analyze_aggregates(*arms)
    except OverflowError:
        # A mean lies too near 0. A difference does not depend on where 0 lies.
        (control_mean, control_var), (treatment_mean, treatment_var) = moments
        return _test(None, test.confidence_level).analyze_aggregates(
            Aggregates(arms[0].count(), {"value": 0.0}, {"value": control_var}),
            Aggregates(arms[1].count(), {"value": treatment_mean - control_mean}, {"value": treatment_var}),
        )


def adjust(metric: Metric, control: Columns, treatment: Columns, *, confidence: float = CONFIDENCE) -> Adjusted:
    """The comparison of :func:`welch` with CUPED (Deng, Xu, Kohavi and Walker 2013).

    A user's value y becomes y - theta (x - mean x), x the column ``before``: the same metric before the experiment, NaN for a
    user who was not there; such a user gets the mean of the others. theta = cov(x, y) / var(x) over both arms. Where y or x is a
    ratio of sums (x: ``before`` by ``before_weight``), its variance and covariance are those of the delta method on users.
    """
    plain = replace(welch(metric, control, treatment, confidence=confidence), role="adjusted")
    names = [name for name in EARLIER if name in control]
    earlier = [
        np.stack([np.asarray(users[name], dtype=np.float64) for name in names])[:, metric.kept(users)]
        for users in (control, treatment)
    ]
    together = np.concatenate(earlier, axis=1)
    known = np.asarray(np.isfinite(together).all(axis=0))
    share = float(known.mean()) if known.size else 0.0
    if plain.p_value is None:
        return Adjusted(**asdict(plain), known=share)
    middle = together[:, known].mean(axis=1, keepdims=True) if known.any() else np.zeros((len(names), 1))
    arms = [
        _aggregates(**_tested(metric, *metric.parts(users)), **dict(zip(names, _filled(x, middle), strict=True)))
        for users, x in zip((control, treatment), earlier, strict=True)
    ]
    total, test = arms[0] + arms[1], _test(metric, confidence, names)
    y, x = ("value", test.denom), ("before", test.denom_covariate)
    nothing = float(total.mean(test.denom_covariate)) == 0
    if nothing or known.sum() < 2 or total.ratio_var(*x) <= (ROUNDING * _ratio(total, x)) ** 2:
        reason = "nothing tells the users apart from before the experiment"
        return Adjusted(**asdict(replace(plain, reason=reason)), known=share)
    theta = total.ratio_cov(*y, *x) / total.ratio_var(*x)
    moments = [
        (
            _ratio(arm, y) - theta * (_ratio(arm, x) - _ratio(total, x)),
            arm.ratio_var(*y) + theta * theta * arm.ratio_var(*x) - 2 * theta * arm.ratio_cov(*y, *x),
        )
        for arm in arms
    ]
    empty = _empty(metric, "adjusted", plain.control_users, plain.treatment_users)
    result = _measured(empty, test, arms, moments)
    if result.p_value is None:
        return Adjusted(**asdict(result), known=share)
    correlation = total.ratio_cov(*y, *x) / math.sqrt(total.ratio_var(*y) * total.ratio_var(*x))
    before = sum(arm.ratio_var(*y) / arm.count() for arm in arms)
    after = sum(variance / arm.count() for arm, (_, variance) in zip(arms, moments, strict=True))
    return Adjusted(**asdict(result), correlation=correlation, variance_ratio=after / before, known=share)


def _filled(columns: Floats, middle: Floats) -> Floats:
    """Earlier values with the means of those who have some for those who have none, float64 [columns, users]."""
    return np.where(np.isfinite(columns).all(axis=0), columns, middle)


def _ratio(arm: "Aggregates", columns: tuple[str, str | None]) -> float:
    return float(arm.mean(columns[0]) / arm.mean(columns[1]))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the given order (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    import tea_tasting as tt
    from tea_tasting.experiment import ExperimentResult

    family = ExperimentResult({str(i): {"pvalue": p_value} for i, p_value in enumerate(p_values)})
    (adjusted,) = tt.adjust_fwer(family, arbitrary_dependence=True, method="bonferroni").values()
    return [float(result["pvalue_adj"]) for result in adjusted.values()]


def compare_arms(
    arms: Mapping[str, Columns],
    control: str,
    treatments: Sequence[str],
    *,
    context: Sequence[str] = (),
    metrics: Sequence[Metric] = METRICS,
) -> list[Comparison]:
    """Every metric of every treatment, then of every context arm, against the control.

    Primary and secondary metrics of the treatments form one family for Holm; context arms are shown without being tested.
    """
    found: list[Comparison] = []
    for arm in (*treatments, *context):
        for metric in metrics:
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
