"""Ranking metrics against figures worked out by hand, and exact top lists."""

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from recsys.learn.offline_metrics import (
    artist_spread,
    bootstrap_interval,
    by_activity,
    coverage,
    hits,
    ndcg_at_k,
    recall_at_k,
    top_k,
)


def test_metrics_of_a_hand_computed_case() -> None:
    ranked = np.array([[3, 1, 4], [0, 2, 5]])
    held_out = [np.array([1, 4, 9, 8]), np.array([7])]
    found = hits(ranked, held_out, 10)
    sizes = np.array([4, 1])
    assert found.tolist() == [[False, True, True], [False, False, False]]
    assert recall_at_k(found, sizes, 2).tolist() == [0.5, 0.0]
    assert recall_at_k(found, sizes, 3).tolist() == [2 / 3, 0.0]
    gained = 1 / np.log2(3) + 1 / np.log2(4)
    ideal = 1 + 1 / np.log2(3) + 1 / np.log2(4)
    assert ndcg_at_k(found, sizes, 3)[0] == pytest.approx(gained / ideal)
    assert ndcg_at_k(found, sizes, 3)[1] == 0.0
    assert coverage(ranked, 10) == pytest.approx(0.6)


def test_a_perfect_ranking_scores_one() -> None:
    found = np.array([[True, True, False]])
    assert ndcg_at_k(found, np.array([2]), 3)[0] == pytest.approx(1.0)
    assert recall_at_k(found, np.array([2]), 3)[0] == 1.0


def test_ndcg_agrees_with_an_independent_implementation() -> None:
    rng = np.random.default_rng(0)
    scores, relevant = rng.random((20, 50)).astype(np.float32), rng.random((20, 50)) < 0.2
    held_out = [np.flatnonzero(row) for row in relevant]
    found = hits(top_k(scores, 10), held_out, 50)
    ours = ndcg_at_k(found, relevant.sum(axis=1), 10)
    assert ours.mean() == pytest.approx(ndcg_score(relevant, scores, k=10))


def test_top_k_is_exact_with_ties_by_track() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        scores = rng.integers(0, 6, (30, 40)).astype(np.float32)
        expected = np.argsort(-scores, axis=1, kind="stable")[:, :12]
        assert (top_k(scores, 12) == expected).all()
    assert top_k(np.full((1, 5), -np.inf, dtype=np.float32), 3).tolist() == [[0, 1, 2]]


def test_bootstrap_intervals_hold_the_mean_and_repeat() -> None:
    values = np.random.default_rng(2).normal(1.0, 1.0, 500)
    low, high = bootstrap_interval(values, seed=3)
    assert low < values.mean() < high
    assert bootstrap_interval(values, seed=3) == (low, high)
    assert high - low == pytest.approx(2 * 1.96 / np.sqrt(500), rel=0.15)


def test_artist_spread_counts_distinct_artists() -> None:
    artist_of = np.array([0, 0, 1, 2])
    assert artist_spread(np.array([[0, 1, 2], [1, 2, 3]]), artist_of) == pytest.approx((2 / 3 + 1) / 2)


def test_figures_by_activity_start_with_the_least_active() -> None:
    found = by_activity(np.array([0.1, 0.9, 0.5, 0.3]), np.array([7, 1, 3, 9]), parts=2)
    assert found == [
        {"users": 2, "most_positives": 3, "mean": 0.7},
        {"users": 2, "most_positives": 9, "mean": 0.2},
    ]


def test_a_place_without_a_track_is_no_hit() -> None:
    assert hits(np.array([[4, -1], [-1, 0]]), [np.array([4]), np.array([4])], 5).tolist() == [[True, False], [False, False]]
