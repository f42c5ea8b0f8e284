"""Popularity, EASE and neighbours against small cases."""

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from recsys.models import ease
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


@pytest.mark.parametrize("users", [240, 1])
def test_ease_on_all_that_was_liked_together_is_ease(tmp_path: Path, users: int) -> None:
    matrix = taste_matrix(users=users, tracks=60, liked=5)
    sparse, loaded, whole = Ease(2.0, exact=0), Ease(), Ease(2.0)
    assert sparse.fit(matrix)["tracks"] == whole.fit(matrix)["tracks"]
    sparse.save(tmp_path)
    loaded.load(tmp_path)
    assert np.isneginf(loaded.score(matrix)[:, -10:]).all()
    np.testing.assert_allclose(loaded.score(matrix)[:, :50], whole.score(matrix)[:, :50], atol=1e-3)


@pytest.mark.parametrize("at_a_time", [(128, 2**22), (7, 100)])
def test_ease_on_few_features_takes_those_that_explain_most(at_a_time: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(("BLOCK", "LIKES"), at_a_time, strict=True):
        monkeypatch.setattr(ease, name, value)
    rng = np.random.default_rng(0)
    likes = rng.random((200, 30)) < 0.3
    likes[:, 1:4] = likes[:, :1] & (rng.random((200, 3)) < 0.9)  # tracks 0 to 3 go together
    model = Ease(2.0, exact=0, features=3)
    assert model.fit(csr_matrix(likes.astype(np.float32)))["weights"] == 30 * 3
    scores = model.score(csr_matrix(np.eye(30, dtype=np.float32)))
    for track in range(4):
        others = [other for other in range(4) if other != track]
        assert np.flatnonzero(scores[:, track]).tolist() == others
        x, y = likes[:, others].astype(np.float64), likes[:, track]
        np.testing.assert_allclose(scores[others, track], np.linalg.solve(x.T @ x + 2 * np.eye(3), x.T @ y), atol=1e-3)
    np.testing.assert_array_equal(np.diag(scores), 0)


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
