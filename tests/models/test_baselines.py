"""Popularity, EASE and neighbours against small cases."""

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from recsys.models.ease import Ease
from recsys.models.neighbours import Neighbours
from recsys.models.popularity import Popularity
from tests.support.tastes import GROUPS, taste_matrix


def test_popularity_counts_users(tmp_path: Path) -> None:
    matrix = csr_matrix(np.array([[1, 0, 1], [1, 0, 0]], np.float32))
    model, loaded = Popularity(), Popularity()
    model.fit(matrix)
    model.save(tmp_path)
    loaded.load(tmp_path)
    assert loaded.score(matrix).tolist() == [[2, 0, 1]] * 2


def test_ease_solves_its_least_squares_problem(tmp_path: Path) -> None:
    matrix = taste_matrix(users=40, tracks=30, liked=3)
    model, loaded = Ease(ridge=2.0), Ease()
    model.fit(matrix)
    model.save(tmp_path)
    loaded.load(tmp_path)
    x = matrix.toarray().astype(np.float64)[:, :20]
    # Column j regresses track j on all the others with the ridge: solve each one by itself.
    weights = np.zeros((20, 20))
    for j in range(20):
        rest = np.arange(20) != j
        weights[rest, j] = np.linalg.solve(x[:, rest].T @ x[:, rest] + 2 * np.eye(19), x[:, rest].T @ x[:, j])
    np.testing.assert_allclose(loaded.score(matrix)[:, :20], x @ weights, atol=1e-4)


def test_ease_leaves_out_what_is_not_popular() -> None:
    matrix = csr_matrix(np.array([[1, 1, 0, 1], [1, 1, 0, 0], [1, 1, 0, 0]], np.float32))
    model = Ease(most=2)
    model.fit(matrix)
    assert np.isfinite(model.score(matrix)[0]).tolist() == [True, True, False, False]


POPULAR = np.arange(40)


def test_neighbours_share_the_group_and_are_never_the_track_itself() -> None:
    model = Neighbours(factors=GROUPS)
    model.fit(taste_matrix(users=600, tracks=190), seed=1)
    table = model.table(POPULAR, np.ones(190, bool))
    assert (table.dtype, table.shape) == (np.uint32, (190, 20))
    for track, row in enumerate(table):
        assert len(set(row.tolist()) - {track}) == 20
    liked = np.arange(180)
    assert (table[liked] % GROUPS == liked[:, None] % GROUPS).mean() > 0.95


def test_tracks_without_evidence_get_popular_ones() -> None:
    model = Neighbours(factors=GROUPS)
    model.fit(taste_matrix(users=300, tracks=190), seed=1)
    assert model.table(POPULAR, np.ones(190, bool))[-1].tolist() == list(range(20))


@pytest.mark.parametrize("users", [1, 3])
def test_neighbours_of_a_tiny_log(users: int) -> None:
    matrix = csr_matrix((users, 60), dtype=np.float32).tolil()
    matrix[:, 5] = 1
    model = Neighbours()
    model.fit(matrix.tocsr(), seed=1)
    table = model.table(POPULAR, np.ones(60, bool))
    assert 5 not in table[5]
    assert table[5].tolist() == [0, 1, 2, 3, 4, *range(6, 21)]


def test_neighbours_repeat_themselves() -> None:
    matrix = taste_matrix(users=300)
    tables = []
    for _ in range(2):
        model = Neighbours(factors=4)
        model.fit(matrix, seed=3)
        tables.append(model.table(POPULAR, np.ones(matrix.shape[1], bool)))
    np.testing.assert_array_equal(*tables)


def test_retired_tracks_have_neighbours_and_are_none() -> None:
    model = Neighbours(factors=GROUPS)
    model.fit(taste_matrix(users=600, tracks=190), seed=1)
    available = np.ones(190, bool)
    available[:60] = False
    table = model.table(np.arange(60, 100), available)
    assert table.min() >= 60
    for track, row in enumerate(table):
        assert len(set(row.tolist()) - {track}) == 20
    assert (table[:60] % GROUPS == np.arange(60)[:, None] % GROUPS).mean() > 0.6


def test_where_few_are_available_rows_end_with_the_track_itself() -> None:
    model = Neighbours(factors=GROUPS)
    model.fit(taste_matrix(users=300, tracks=190), seed=1)
    available = np.zeros(190, bool)
    available[[3, 8]] = True
    table = model.table(np.array([8, 3]), available)
    assert table[0].tolist() == [8, 3] + [0] * 18
    assert table[3].tolist() == [8] + [3] * 19
    assert table[8].tolist() == [3] + [8] * 19
