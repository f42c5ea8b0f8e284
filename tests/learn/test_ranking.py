"""Exact top lists from rough candidates, and artist spreading against a plain statement of its rule."""

import numpy as np
import pytest

from recsys.learn.fatigue import Discount, estimate
from recsys.learn.offline_metrics import top_k
from recsys.learn.ranking import LinearRanking, spread
from tests.support.listens import group_plays


@pytest.mark.parametrize("scale", [0.001, 0.1, 10.0])
@pytest.mark.parametrize("tracks", [60, 3000, 5000])
def test_the_best_by_float32_are_found(scale: float, tracks: int) -> None:
    rng = np.random.default_rng(0)
    weight = (rng.normal(size=(tracks, 24)) * scale).astype(np.float32)
    bias = rng.normal(size=tracks).astype(np.float32) * np.float32(scale)
    units = np.tanh(rng.normal(size=(40, 24))).astype(np.float32)
    ids, scores = LinearRanking(weight, bias).best(units, 50)
    wide = units.astype(np.float64) @ weight.T.astype(np.float64) + bias
    expected = np.take_along_axis(wide, top_k(wide.astype(np.float32), 50), axis=1)
    np.testing.assert_allclose(np.take_along_axis(wide, ids, axis=1), expected, atol=2e-6 * max(1, scale * 10))
    np.testing.assert_allclose(scores, expected, atol=2e-5 * max(1, scale))
    assert all(len(set(row)) == 50 for row in ids.tolist())


def test_equal_scores_come_by_id() -> None:
    ids, _ = LinearRanking(np.zeros((500, 4), np.float32), np.zeros(500, np.float32)).best(np.ones((2, 4), np.float32), 10)
    assert ids.tolist() == [list(range(10))] * 2


def test_rows_with_many_equal_scores_are_ranked_among_others() -> None:
    weight = np.zeros((3000, 2), np.float32)
    weight[:, 0] = np.arange(3000)
    ids, scores = LinearRanking(weight, np.zeros(3000, np.float32)).best(np.array([[1, 0], [0, 1], [-1, 0]], np.float32), 50)
    assert ids.tolist() == [list(range(2999, 2949, -1)), list(range(50)), list(range(50))]
    assert scores[:, 0].tolist() == [2999, 0, 0]


def test_spreading_is_greedy() -> None:
    rng = np.random.default_rng(1)
    artist_of = rng.integers(0, 4, 40)
    tracks = np.stack([rng.permutation(40)[:15] for _ in range(6)])
    values = -np.sort(-rng.random((6, 15)), axis=1)
    found = spread(tracks, values, artist_of, 0.7, 8)
    for row in range(6):
        left = dict(zip(tracks[row].tolist(), values[row].tolist(), strict=True))
        heard: list[int] = []
        for answer in found[row].tolist():
            best = max(left, key=lambda t: left[t] * 0.7 ** heard.count(artist_of[t]))
            assert answer == best
            heard.append(artist_of[best])
            del left[best]


def test_without_a_discount_lists_keep_their_order() -> None:
    tracks = np.arange(20)[None, ::-1].copy()
    assert Discount().lists(tracks, -np.arange(20.0)[None], np.zeros(20, int), 5).tolist() == [[19, 18, 17, 16, 15]]


def test_the_discount_is_told_by_second_plays() -> None:
    plays = group_plays(gamma=0.5)
    score = np.where(plays.track % 10 == plays.row % 10, 3.0, -1.0)
    found = estimate(plays, score)
    assert found.gamma == pytest.approx(0.5, abs=0.02)
    assert found.times(np.array([3.0, -1.0])) == pytest.approx([0.9, 0.1], abs=0.01)


def test_little_evidence_tells_nothing() -> None:
    plays = group_plays(users=2, sessions=2)
    assert estimate(plays, np.ones(len(plays.row))) == Discount()
    constant = group_plays()
    assert estimate(constant, np.ones(len(constant.row))) == Discount()


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_spreading_ends_where_a_row_has_no_more(gamma: float) -> None:
    artist_of = np.array([0, 0, 1, 1])
    tracks = np.array([[0, 1, 2, -1], [3, -1, -1, -1], [2, 3, 0, 1]])
    values = np.array([[0.9, 0.8, 0.0, 0.0], [0.4, 0.0, 0.0, 0.0], [0.9, 0.8, 0.7, 0.6]])
    found = spread(tracks, values, artist_of, gamma, 5)
    assert sorted(found[0].tolist()) == [-1, -1, 0, 1, 2]
    assert found[:, 3:].tolist() == [[-1, -1], [-1, -1], [found[2, 3], -1]]
    assert found[1].tolist() == [3, -1, -1, -1, -1]
    assert found[2, :2].tolist() == [2, 0]
    assert sorted(found[2].tolist()) == [-1, 0, 1, 2, 3]
