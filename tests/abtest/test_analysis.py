"""The comparison of arms: equal to scipy and tea-tasting, honest intervals, reasons instead of wrong numbers."""

import dataclasses
import math

import numpy as np
import pytest
import tea_tasting as tt
from scipy import stats

from recsys.abtest.analysis import adjust, against_live, compare_arms, holm, sample_ratio, welch
from recsys.abtest.metrics import METRICS, PRIMARY, Metric
from recsys.exceptions import InvalidInputError
from tests.support.arms import heavy_tailed, users

RATIO = next(m for m in METRICS if m.name == "time_per_session")


def inside(hits: int, n: int, probability: float, level: float = 0.999) -> bool:
    """Whether a count lies within the binomial band."""
    low, high = stats.binom.interval(level, n, probability)
    return bool(low <= hits <= high)


@pytest.mark.parametrize("sizes", [(5, 7), (300, 200), (4000, 9000)])
def test_p_value_and_interval_equal_scipys_welch(sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(sum(sizes))
    control, treatment = heavy_tailed(rng, sizes[0]), 1.1 * heavy_tailed(rng, sizes[1])
    expected = stats.ttest_ind(treatment, control, equal_var=False)
    low, high = expected.confidence_interval(0.95)
    found = welch(PRIMARY, users(control), users(treatment))
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-12, abs=1e-12)
    assert found.ci_low == pytest.approx(low, rel=1e-12, abs=1e-12)
    assert found.ci_high == pytest.approx(high, rel=1e-12, abs=1e-12)
    assert found.effect == pytest.approx(treatment.mean() - control.mean(), rel=1e-12)


@pytest.mark.parametrize("metric", [PRIMARY, RATIO], ids=lambda m: m.name)
def test_equals_tea_tasting_on_rows(metric: Metric) -> None:
    rng = np.random.default_rng(5)
    frames, columns = [], []
    for arm in (0, 1):
        columns.append(users(heavy_tailed(rng, 800) * (1 + 0.1 * arm), rng.integers(1, 9, 800).astype(float)))
        mean = columns[-1]["time"] / columns[-1]["sessions"]
        frames.append({"variant": np.full(800, arm), "mean": mean, **columns[-1]})
    import pandas as pd

    data = pd.concat([pd.DataFrame(frame) for frame in frames])
    theirs = tt.Mean("mean") if metric is PRIMARY else tt.RatioOfMeans("time", "sessions")
    expected = tt.Experiment(m=theirs).analyze(data)["m"]
    found = welch(metric, *columns)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.effect_percent == pytest.approx(100 * expected.rel_effect_size, rel=1e-9)
    assert found.ci_low_percent == pytest.approx(100 * expected.rel_effect_size_ci_lower, rel=1e-9)
    assert found.ci_high_percent == pytest.approx(100 * expected.rel_effect_size_ci_upper, rel=1e-9)


@pytest.mark.parametrize("lift", [0.5, 1.0, 1.03, 1.5, 3.5])
@pytest.mark.slow
def test_intervals_cover_planted_effects(lift: float) -> None:
    rng = np.random.default_rng(int(1000 * lift))
    repetitions, covered = 500, 0
    for _ in range(repetitions):
        found = welch(PRIMARY, users(heavy_tailed(rng, 1500)), users(lift * heavy_tailed(rng, 1500)))
        assert found.ci_low_percent is not None
        assert found.ci_high_percent is not None
        covered += found.ci_low_percent <= 100 * (lift - 1) <= found.ci_high_percent
    assert inside(covered, repetitions, 0.95)


@pytest.mark.parametrize("metric", [PRIMARY, RATIO], ids=lambda m: m.name)
@pytest.mark.slow
def test_false_positives_of_equal_arms_and_uniform_p(metric: Metric) -> None:
    rng = np.random.default_rng(11)
    repetitions = 2000 if metric is PRIMARY else 600
    # Sessions of a user resemble each other: session-level tests would fail here.
    level, sessions = heavy_tailed(rng, 1200), rng.integers(1, 12, 1200).astype(float)
    pool = users(level * rng.lognormal(0, 0.2, 1200), sessions)
    p_values = np.empty(repetitions)
    for i in range(repetitions):
        split = rng.random(1200) < 0.5
        arms = [{name: column[mask] for name, column in pool.items()} for mask in (split, ~split)]
        p_value = welch(metric, *arms).p_value
        assert p_value is not None
        p_values[i] = p_value
    false = int((p_values < 0.05).sum())
    assert inside(false, repetitions, 0.05)
    if repetitions == 2000:
        assert 0.0345 <= false / repetitions <= 0.0665
    assert stats.kstest(p_values, "uniform").pvalue > 0.001


def test_holm_is_step_down_monotone_and_capped() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_only_declared_metrics_of_treatments_are_adjusted() -> None:
    rng = np.random.default_rng(2)
    arms = {arm: users(heavy_tailed(rng, 400), rng.integers(1, 5, 400).astype(float)) for arm in ("C", "T1", "L")}
    for arm in arms:
        arms[arm]["steps"] = np.rint(arms[arm]["time"] * 2 + 1)
    found = compare_arms(arms, "C", ["T1"], context=["L"])
    family = {"mean_session_time", "mean_session_length", "time_per_session", "time_per_play"}
    assert {c.name for c in found if c.p_adjusted is not None} == family
    assert all(c.p_adjusted is None for c in found if c.arm == "L" or c.role in ("validity", "cost"))
    assert all(c.p_adjusted >= c.p_value for c in found if c.p_adjusted is not None and c.p_value is not None)
    versus = against_live(arms["T1"], arms["L"], "T1", "L")
    assert (versus.arm, versus.control, versus.role) == ("T1", "L", "non_inferiority")


def test_sample_ratio_catches_one_percent_in_a_million_users() -> None:
    shares = {"C": 1.0, "T1": 1.0}
    assert not sample_ratio({"C": 505_000, "T1": 495_000}, shares).ok
    assert sample_ratio({"C": 500_400, "T1": 499_600}, shares).ok
    assert sample_ratio({"C": 900, "T1": 100}, {"C": 9, "T1": 1}).p_value == 1.0
    missing = sample_ratio({"C": 1000}, shares)
    assert missing.users == {"C": 1000, "T1": 0}
    assert not missing.ok


def test_sample_ratio_has_reasons_where_it_has_no_number() -> None:
    for users_by_arm, shares in (({"C": 5}, {"C": 1.0}), ({}, {"C": 1.0, "T1": 1.0})):
        found = sample_ratio(users_by_arm, shares)
        assert found.p_value is None
        assert found.reason
        assert not found.ok


@pytest.mark.parametrize(
    ("control", "treatment", "reason"),
    [
        ([], [1.0, 2.0], "control arm has 0 users"),
        ([1.0, 2.0], [1.0], "treatment arm has 1 user with"),
        ([1.0, 1.0, 1.0], [2.0, 2.0], "same value"),
        ([0.1] * 1000, [0.1] * 1000, "same value"),
        ([1.0, math.inf], [1.0, 2.0], "infinite"),
        ([1.0, 2.0], [math.nan, 2.0], "infinite or missing"),
        ([0.0, 0.0], [1.0, 2.0], "no relative effect"),
        ([1e308, 1.5e308], [1.0, 2.0], "too large"),
        ([0.0] * 99 + [1e-100], [1.0, 2.0] * 3, "too uncertain"),
        ([0.0] * 99 + [1.0], [1.0, 2.0] * 3, "too uncertain"),
        ([1e-30, 2e-30], [0.1, 0.1], "same value"),  # 0.1 is a rounded number, the difference no more exact than it
        ([1e80, 2e80], [1e80, 3e80], "too large or too small for a test"),
        ([1e-90, 2e-90], [1e-90, 3e-90], "too large or too small for a test"),
        ([-1.0, 1.0 + 1e-9], [1.0, 2.0], "too uncertain"),
        ([1.0, 1.1], [-1.0, 1.0 + 1e-9], "too large for a number"),
    ],
)
def test_degenerate_data_give_a_reason_and_no_number(control: list[float], treatment: list[float], reason: str) -> None:
    found = welch(PRIMARY, users(np.array(control)), users(np.array(treatment)))
    assert {found.effect_percent, found.ci_low_percent, found.mde_percent} == {None}
    assert found.reason is not None
    assert reason in found.reason
    assert not found.better
    for value in dataclasses.asdict(found).values():
        assert not (isinstance(value, float) and not math.isfinite(value))


def test_detectable_effect_is_found_with_the_stated_power() -> None:
    rng = np.random.default_rng(8)
    found = welch(PRIMARY, users(heavy_tailed(rng, 4000)), users(heavy_tailed(rng, 4000)))
    assert found.mde_percent is not None
    lift = 1 + found.mde_percent / 100
    runs = [welch(PRIMARY, users(heavy_tailed(rng, 4000)), users(lift * heavy_tailed(rng, 4000))) for _ in range(300)]
    share = np.mean([(run.p_value or 1.0) < 0.05 for run in runs])
    assert 0.70 < share < 0.90


def test_confidence_must_be_a_probability() -> None:
    with pytest.raises(InvalidInputError, match="confidence"):
        welch(PRIMARY, users(np.ones(3)), users(np.ones(3)), confidence=95)


def with_history(rng: np.random.Generator, n: int, lift: float = 1.0, known: float = 1.0) -> dict[str, np.ndarray]:
    """Users whose session time resembles that of before the experiment."""
    level = heavy_tailed(rng, n)
    before = level * rng.lognormal(0, 0.3, n)
    before[rng.random(n) >= known] = np.nan
    return users(lift * level * rng.lognormal(0, 0.3, n), rng.integers(1, 9, n).astype(float)) | {"before": before}


def test_cuped_equals_tea_tasting() -> None:
    import pandas as pd

    rng = np.random.default_rng(21)
    arms = [with_history(rng, 900), with_history(rng, 700, 1.1)]
    frames = [pd.DataFrame({"variant": i, "y": arm["time"] / arm["sessions"], "x": arm["before"]}) for i, arm in enumerate(arms)]
    expected = tt.Experiment(m=tt.Mean("y", "x")).analyze(pd.concat(frames))["m"]
    found = adjust(PRIMARY, *arms)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    for ours, theirs in (
        (found.effect_percent, expected.rel_effect_size),
        (found.ci_low_percent, expected.rel_effect_size_ci_lower),
        (found.ci_high_percent, expected.rel_effect_size_ci_upper),
    ):
        assert ours == pytest.approx(100 * theirs, rel=1e-9)


@pytest.mark.slow
def test_cuped_covers_and_shortens_the_interval() -> None:
    rng = np.random.default_rng(22)
    repetitions, covered, ratios = 500, 0, []
    for _ in range(repetitions):
        arms = [with_history(rng, 600, known=0.8), with_history(rng, 600, 1.05, known=0.8)]
        found = adjust(PRIMARY, *arms)
        assert found.variance_ratio is not None
        assert found.ci_low_percent is not None
        assert found.ci_high_percent is not None
        covered += found.ci_low_percent <= 5 <= found.ci_high_percent
        ratios.append(found.variance_ratio)
        assert found.known == pytest.approx(0.8, abs=0.06)
    assert inside(covered, repetitions, 0.95)
    assert np.mean(ratios) < 0.6


def test_cuped_without_a_history_has_a_reason() -> None:
    rng = np.random.default_rng(23)
    arms = [with_history(rng, 50, known=0.0), with_history(rng, 50, known=0.0)]
    found = adjust(PRIMARY, *arms)
    assert (found.correlation, found.variance_ratio, found.known) == (None, None, 0.0)
    assert found.reason is not None
    assert "before the experiment" in found.reason
    found = adjust(PRIMARY, *(arm | {"before": np.full(50, 0.1)} for arm in arms))
    assert "before the experiment" in str(found.reason)
    nobody = {name: column[:0] for name, column in arms[0].items()}
    assert "0 users" in str(adjust(PRIMARY, nobody, arms[1]).reason)


def test_cuped_tells_only_its_own_numbers_and_reasons() -> None:
    def arm(values: list[float], before: list[float]) -> dict[str, np.ndarray]:
        return users(np.array(values)) | {"before": np.array(before)}

    arms = arm([6.0, 1.0, 4.0], [7.0, 4.0, 0.0]), arm([7.0, 6.0, 7.0, 2.0, 1.0], [34.0, 0.0, 21.0, 3.0, 11.0])
    assert "too uncertain" in str(welch(PRIMARY, *arms).reason)
    found = adjust(PRIMARY, *arms)
    assert found.reason is None
    assert found.effect_percent is not None
    arms = arm([8.0, 2.0, 7.0], [3.0, 0.0, 8.0]), arm([8.0, 1.0, 5.0, 7.0, 7.0], [16.0, 34.0, 33.0, 4.0, 0.0])
    assert welch(PRIMARY, *arms).effect_percent is not None
    found = adjust(PRIMARY, *arms)
    assert "too uncertain" in str(found.reason)
    assert (found.effect_percent, found.ci_low_percent, found.mde_percent) == (None, None, None)
    assert found.p_value is not None


def test_cuped_refuses_a_spread_that_is_only_rounding() -> None:
    rng = np.random.default_rng(3)
    arms = [users(values) | {"before": 2 * values} for values in (heavy_tailed(rng, 50), heavy_tailed(rng, 40))]
    found = adjust(PRIMARY, *arms)
    assert "same value" in str(found.reason)
    assert (found.p_value, found.effect_percent, found.variance_ratio) == (None, None, None)
