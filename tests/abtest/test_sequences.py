"""Confidence sequences: growthbook's vector, and that many looks err as seldom as promised."""

from typing import Any

import numpy as np
import pytest

from recsys.abtest.sequences import Arm, difference, radius, relative
from recsys.exceptions import InvalidInputError

#: The published test vector of growthbook's statistics for sequential tests.
CONTROL, TREATMENT = Arm.of_sums(3000, 1396.87, 52377.9767), Arm.of_sums(3461, 2422.7, 134698.29)


def test_on_the_linear_scale_the_relative_sequence_is_growthbooks() -> None:
    found = relative(CONTROL, TREATMENT, planned=1000, scale="linear")
    assert [round(float(number), 5) for number in found] == [0.50336, -0.55844, 1.56516]


def test_the_difference_lies_around_the_relative_effect_times_the_control_mean() -> None:
    found = difference(CONTROL, TREATMENT, planned=1000)
    assert float(found.effect) == pytest.approx(0.50336 * float(CONTROL.mean), abs=1e-4)
    assert found.low < 0 < found.high


def test_looks_are_vectorised_and_each_is_its_own() -> None:
    users = np.array([10.0, 100.0, 3000.0])
    looks = relative(Arm.of_sums(users, users * 2, users * 5), Arm.of_sums(users, users * 2.1, users * 6), planned=500)
    for i, count in enumerate(users):
        single = relative(Arm.of_sums(count, count * 2, count * 5), Arm.of_sums(count, count * 2.1, count * 6), planned=500)
        assert [float(bound[i]) for bound in looks] == [float(bound) for bound in single]


def test_it_is_narrowest_near_the_planned_users() -> None:
    counts = np.arange(100.0, 40_000.0, 100.0)
    for side in ("both", "lower"):
        widths = np.stack([radius(planned, side=side)(5000) for planned in counts])
        assert counts[widths.argmin()] == pytest.approx(5000, rel=0.1)


def test_one_bound_is_closer_than_two() -> None:
    both, lower = (relative(CONTROL, TREATMENT, planned=6000, side=side) for side in ("both", "lower"))
    upper = relative(CONTROL, TREATMENT, planned=6000, side="upper")
    assert both.low < lower.low < lower.effect
    assert both.high > upper.high
    assert [float(lower.high), float(upper.low)] == [np.inf, -1.0]
    # Around the logarithm of the ratio of means.
    assert float((1 + lower.low) * (1 + upper.high)) == pytest.approx(float((1 + both.effect) ** 2))


def test_exchanged_arms_give_the_inverse_ratio() -> None:
    one, other = relative(CONTROL, TREATMENT, planned=6000), relative(TREATMENT, CONTROL, planned=6000)
    assert float((1 + one.low) * (1 + other.high)) == pytest.approx(1)


def test_nobody_one_user_no_spread_and_no_control_mean_exclude_nothing() -> None:
    arms = [(0, 0, 0), (1, 2, 4), (5, 10, 20), (3, 0.3, 0.03)]
    for users, total, squares in arms:
        same = Arm.of_sums(users, total, squares)
        for compare, least in ((difference, -np.inf), (relative, -1.0)):
            effect, *bounds = compare(same, same, planned=100)
            assert np.isnan(effect)
            assert bounds == [least, np.inf]
    zero = Arm.of_sums(100, 0, 100)
    assert np.isnan(relative(zero, TREATMENT, planned=100).effect)
    assert relative(TREATMENT, zero, planned=100).low == -1
    assert np.isfinite(difference(zero, TREATMENT, planned=100).effect)


def test_values_and_sums_are_the_same_arm() -> None:
    values = np.array([1.0, 4.0, 2.5, 0.0])
    one, other = Arm.of_values(values), Arm.of_sums(len(values), values.sum(), (values**2).sum())
    assert float(one.mean) == float(other.mean)
    assert float(one.variance) == pytest.approx(float(other.variance))
    assert np.isnan(Arm.of_values(values[:0]).mean)


@pytest.mark.parametrize("wrong", [{"planned": 0}, {"planned": np.inf}, {"planned": 10, "level": 1.0}])
def test_wrong_plans_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="must"):
        difference(CONTROL, TREATMENT, **wrong)


def test_a_hundred_looks_err_as_seldom_as_promised() -> None:
    rng = np.random.default_rng(7)
    values = rng.exponential(size=(2, 1000, 2000))
    looks = np.linspace(40, 2000, 100).astype(int)
    arms = [Arm.of_sums(looks, np.cumsum(arm, axis=1)[:, looks - 1], np.cumsum(arm**2, axis=1)[:, looks - 1]) for arm in values]
    found = relative(*arms, planned=4000)
    ever = ((found.low > 0) | (found.high < 0)).any(axis=1).mean()
    single = relative(*arms, planned=None)
    once = ((single.low > 0) | (single.high < 0))[:, -1].mean()
    assert ever < 0.05
    assert 0.03 < once < 0.07
