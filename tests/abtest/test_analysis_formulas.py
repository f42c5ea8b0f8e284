"""The comparison of arms beside its formulas, written out with numpy and scipy: equal numbers, and reasons in the same places."""

import math
from collections.abc import Callable
from dataclasses import fields, replace
from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from recsys.abtest.analysis import Comparison, Role, adjust, welch
from recsys.abtest.metrics import METRICS, PRIMARY, Floats, Metric
from tests.support.arms import heavy_tailed, users

RATIO = next(m for m in METRICS if m.name == "time_per_session")
SESSIONS = next(m for m in METRICS if m.name == "sessions")

#: Groups of users by what their values are like: the generator gives so many of them.
GROUPS: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "heavy": heavy_tailed,
    "lifted": lambda rng, n: 1.1 * heavy_tailed(rng, n),
    "sparse": lambda rng, n: np.where(rng.random(n) < 0.05, heavy_tailed(rng, n), 0.0),
    "around 0": lambda rng, n: rng.standard_normal(n),
    "negative": lambda rng, n: rng.standard_normal(n) - 3,
    "far from 0": lambda rng, n: rng.standard_normal(n) + 100,
    "equal": lambda _, n: np.full(n, 0.1),
    "huge": lambda rng, n: 1e30 * heavy_tailed(rng, n),
    "tiny": lambda rng, n: 1e-30 * heavy_tailed(rng, n),
    "infinite": lambda rng, n: np.where(np.arange(n) == 0, np.inf, rng.standard_normal(n)),
    "overflowing": lambda rng, n: 1e307 * (1 + rng.random(n)),
}


def by_formula(result: Comparison, values: list[Floats], confidence: float) -> Comparison:
    """Welch (1947) on values of each arm's users, with the delta method for the relative interval, written out."""
    control, treatment = means = [float(v.mean()) for v in values]
    effect = treatment - control
    result = replace(result, control_mean=control, treatment_mean=treatment, effect=effect)
    n, variance = np.array([len(v) for v in values]), np.array([v.var(ddof=1) for v in values])
    if (variance <= (1e-12 * np.array(means)) ** 2).all():
        return replace(result, reason="same value")

    def welch_quantile(parts: Floats) -> tuple[float, float]:
        freedom = float(parts.sum() ** 2 / (parts**2 / (n - 1)).sum())
        return float(stats.t.ppf((1 + confidence) / 2, freedom)), freedom

    error = math.sqrt((variance / n).sum())
    quantile, freedom = welch_quantile(variance / n)
    low, high = effect - quantile * error, effect + quantile * error
    p_value = float(2 * stats.t.sf(abs(effect) / error, freedom))
    result = replace(result, ci_low=low, ci_high=high, p_value=p_value)
    if min(means) <= 0:
        return replace(result, reason="not above 0")
    if quantile * math.sqrt(variance[0] / n[0]) >= control:
        return replace(result, reason="too uncertain")
    parts = variance / n / np.array(means) ** 2
    with np.errstate(over="ignore"):
        factor = float(np.exp(welch_quantile(parts)[0] * np.sqrt(parts.sum())))
    mde = 100 * (quantile + NormalDist().inv_cdf(0.8)) * error / control
    percent = [100 * (treatment / control * by - 1) for by in (1.0, 1 / factor, factor)]
    if not all(math.isfinite(number) for number in (*percent, mde)):
        return replace(result, reason="too large for a number")
    return replace(result, effect_percent=percent[0], ci_low_percent=percent[1], ci_high_percent=percent[2], mde_percent=mde)


def blank(metric: Metric, role: Role, arms: list[dict[str, np.ndarray]]) -> Comparison:
    """A comparison that holds no number yet."""
    counts = [len(metric.parts(arm)[0]) for arm in arms]
    return Comparison(metric.name, "", "", role, counts[0], counts[1], label=metric.label, unit=metric.unit)


def welch_by_formula(metric: Metric, arms: list[dict[str, np.ndarray]], confidence: float) -> Comparison:
    """What :func:`welch` must find."""
    parts = [metric.parts(arm) for arm in arms]
    result = blank(metric, metric.role, arms)
    for name, (numerator, denominator) in zip(("control", "treatment"), parts, strict=True):
        if len(numerator) < 2:
            return replace(result, reason=f"the {name} arm has {len(numerator)} user")
        if not np.isfinite(numerator).all():
            return replace(result, reason="infinite")
        if not denominator.any():
            return replace(result, reason=f"the {name} arm has only zeros to divide by")
    with np.errstate(over="ignore", invalid="ignore"):
        if metric.kind == "mean":
            values = [numerator / denominator for numerator, denominator in parts]
        else:  # linearised on users
            ratios = [numerator.sum() / denominator.sum() for numerator, denominator in parts]
            values = [r + (x - r * w) / w.mean() for r, (x, w) in zip(ratios, parts, strict=True)]
        if not all(np.isfinite([v.mean(), v.var(ddof=1)]).all() for v in values):
            return replace(result, reason="too large to average")
    return by_formula(result, values, confidence)


def assert_equal(found: Comparison, expected: Comparison, context: str) -> None:
    """Numbers to a relative 1e-9, p-values to 1e-12, and the same reason where there are none."""
    assert (found.reason is None) == (expected.reason is None), (context, found.reason, expected.reason)
    assert (expected.reason or "") in (found.reason or ""), context
    for field in fields(Comparison):
        ours, theirs = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(theirs, float):
            # What is left of a difference is as exact as what it is the difference of.
            near = {"p_value": 1e-12, "effect": 1e-14 * abs(found.control_mean or 0.0)}.get(field.name, 0.0)
            assert ours == pytest.approx(theirs, rel=1e-9, abs=near), (context, field.name)
        elif field.name != "reason":
            assert ours == theirs, (context, field.name)


@pytest.mark.parametrize("metric", [PRIMARY, RATIO, SESSIONS], ids=lambda m: m.name)
@pytest.mark.parametrize("kind", GROUPS)
def test_numbers_and_reasons_equal_the_formulas(metric: Metric, kind: str) -> None:
    rng = np.random.default_rng(len(kind))
    # Beside 0.1, which is rounded itself, tiny values have no spread.
    for other in (kind, "heavy", "around 0", "heavy" if kind == "tiny" else "equal"):
        for sizes in ((0, 4), (1, 4), (3, 1), (2, 3), (5, 7), (60, 40), (900, 700)):
            with np.errstate(invalid="ignore"):
                arms = [
                    users(GROUPS[name](rng, n), rng.integers(0, 9, n).astype(float))
                    for name, n in zip((kind, other), sizes, strict=True)
                ]
            confidence = float(rng.choice([0.8, 0.95, 0.99]))
            found = welch(metric, *arms, confidence=confidence)
            assert_equal(found, welch_by_formula(metric, arms, confidence), f"{kind} {other} {sizes} {confidence}")


@pytest.mark.parametrize("known", [1.0, 0.6, 0.1])
@pytest.mark.parametrize("kind", ["heavy", "sparse", "around 0", "negative", "far from 0", "huge", "tiny"])
def test_cuped_equals_the_formulas(kind: str, known: float) -> None:
    rng = np.random.default_rng(int(10 * known) + len(kind))
    for sizes in ((3, 4), (5, 7), (60, 40), (900, 700)):
        arms = []
        for n in sizes:
            values = GROUPS[kind](rng, n)
            before = values + values.std() * rng.standard_normal(n)
            before[rng.random(n) >= known] = np.nan
            arms.append(users(values, rng.integers(0, 9, n).astype(float)) | {"before": before})
        found, plain = adjust(PRIMARY, *arms), welch(PRIMARY, *arms)
        y = [PRIMARY.values(arm) for arm in arms]
        x = [arm["before"][arm["sessions"] > 0] for arm in arms]
        if plain.p_value is None or np.isfinite(np.concatenate(x)).sum() < 2:
            assert found.correlation is None
            continue
        middle = np.nanmean(np.concatenate(x))
        x = [np.where(np.isnan(earlier), middle, earlier) for earlier in x]
        covariance = np.cov(np.concatenate(x), np.concatenate(y))
        theta = covariance[0, 1] / covariance[0, 0]
        moved = [values - theta * (earlier - middle) for values, earlier in zip(y, x, strict=True)]
        empty = blank(PRIMARY, "adjusted", arms)
        assert_equal(found, by_formula(empty, moved, 0.95), f"{sizes}")
        left = [sum(v.var(ddof=1) / len(v) for v in values) for values in (moved, y)]
        assert found.variance_ratio == pytest.approx(left[0] / left[1], rel=1e-9)
        assert found.correlation == pytest.approx(covariance[0, 1] / math.sqrt(covariance[0, 0] * covariance[1, 1]), rel=1e-9)
