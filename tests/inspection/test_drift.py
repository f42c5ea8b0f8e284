"""Noticing when the simulator stops resembling the traffic."""

import numpy as np
import pyarrow as pa
import pytest

from recsys.exceptions import MissingDataError
from recsys.inspection.drift import compare


def sessions(seed: int, n: int, longer: float = 1.0) -> pa.Table:
    rng = np.random.default_rng(seed)
    steps = 5 + rng.geometric(0.4, n)
    return pa.table({"steps": steps, "time": rng.gamma(2.0, longer, n)})


def test_samples_of_one_kind_are_alike() -> None:
    found = compare(sessions(1, 5000), sessions(2, 5000))
    assert not found.drifted
    assert [c.name for c in found.comparisons] == ["steps", "time"]


def test_a_longer_session_time_is_noticed() -> None:
    found = compare(sessions(1, 5000), sessions(2, 5000, longer=1.2))
    assert [c.drifted for c in found.comparisons] == [False, True]


def test_a_difference_that_does_not_matter_is_not_called_drift() -> None:
    assert not compare(sessions(1, 200_000), sessions(2, 200_000, longer=1.01)).drifted


def test_nothing_to_compare_is_an_error() -> None:
    with pytest.raises(MissingDataError, match="0 simulated"):
        compare(sessions(1, 10), sessions(2, 0))
