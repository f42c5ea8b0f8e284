"""Counter-based random numbers."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.simulate import rng
from recsys.simulate.rng import Purpose
from tests.support import reference

u64 = st.integers(0, 2**64 - 1)
episodes = st.lists(st.integers(0, 2**62), min_size=1, max_size=20)


@given(u64, episodes, st.integers(0, 2**40), st.sampled_from(list(Purpose)))
def test_vector_scalar_and_reference_agree(seed: int, numbers: list[int], step: int, purpose: Purpose) -> None:
    vector = rng.words(rng.keys(seed, np.array(numbers)), step, purpose)
    expected = [reference.word(seed, n, step, purpose) for n in numbers]
    assert vector.tolist() == expected
    assert [int(rng.words(rng.keys(seed, n), step, purpose)[0]) for n in numbers] == expected


@given(u64, st.integers(1, 2**31), episodes)
def test_below_stays_below(seed: int, limit: int, numbers: list[int]) -> None:
    drawn = rng.below(limit, rng.keys(seed, np.array(numbers)), 0, Purpose.USER)
    assert ((drawn >= 0) & (drawn < limit)).all()
    assert drawn.tolist() == [reference.below(limit, seed, n, 0, Purpose.USER) for n in numbers]


def test_draws_are_uniform_and_unrelated() -> None:
    n = 100_000
    drawn = rng.below(100, rng.keys(31337, np.arange(n)), 0, Purpose.BUDGET)
    counts = np.bincount(drawn, minlength=100)
    # Chi-square with 99 degrees of freedom: mean 99, standard deviation 14.
    assert ((counts - n / 100) ** 2 / (n / 100)).sum() < 99 + 5 * 14
    others = {
        "seed": rng.below(100, rng.keys(31338, np.arange(n)), 0, Purpose.BUDGET),
        "episode": rng.below(100, rng.keys(31337, np.arange(1, n + 1)), 0, Purpose.BUDGET),
        "step": rng.below(100, rng.keys(31337, np.arange(n)), 1, Purpose.BUDGET),
        "purpose": rng.below(100, rng.keys(31337, np.arange(n)), 0, Purpose.INTEREST),
    }
    for name, other in others.items():
        assert abs(np.corrcoef(drawn, other)[0, 1]) < 0.02, name


def test_keys_do_not_collide() -> None:
    grid = rng.words(np.repeat(rng.keys(1, np.arange(300)), 300), np.tile(np.arange(300), 300), Purpose.BUDGET)
    assert len(np.unique(grid)) == 90_000
