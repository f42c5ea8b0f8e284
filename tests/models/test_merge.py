"""Groups of one user that answers cannot tell apart become one; groups that differ stay apart."""

import numpy as np

from recsys.models.firsts import Tastes
from recsys.models.merge import merge
from recsys.models.refine import Answers

DIMS, TRACKS, USERS, PLAYS = 4, 300, 60, 100


def told(true: np.ndarray, vectors: np.ndarray, rng: np.random.Generator) -> tuple[Answers, np.ndarray]:
    """Answers of sessions of ten random tracks, ``PLAYS`` answers for each place."""
    taste = np.repeat(np.arange(len(true)), PLAYS)
    track = rng.integers(0, TRACKS, len(taste))
    slope, bias = np.full(len(taste), 2.0, np.float32), np.full(len(taste), 0.5, np.float32)
    heard = 1 / (1 + np.exp(-slope * ((vectors[track] * true[taste]).sum(axis=1) - bias)))
    return Answers(taste, track, heard.astype(np.float32), slope, bias), np.arange(len(taste)) // 10


def groups(places: np.ndarray, row: np.ndarray, size: np.ndarray) -> Tastes:
    return Tastes(places, np.ones(len(places)), row, size.astype(np.float32), places, places)


def test_two_groups_of_one_taste_become_one() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((TRACKS, DIMS)).astype(np.float32)
    # Of every user's three groups the first and the last are one taste, seen twice.
    true = rng.standard_normal((USERS, 3, DIMS)).astype(np.float32) * 1.5
    true[:, 2] = true[:, 0]
    true = true.reshape(-1, DIMS)
    places = true + 0.3 * rng.standard_normal(true.shape).astype(np.float32)
    row, size = np.repeat(np.arange(USERS), 3), np.tile([30.0, 20.0, 10.0], USERS)
    answers, session = told(true, vectors, rng)
    fewer, of = merge(groups(places, row, size), vectors, answers, session, seed=1)
    of = of.reshape(USERS, 3)
    assert (of[:, 0] == of[:, 2]).mean() > 0.9
    assert (of[:, 0] != of[:, 1]).mean() > 0.9
    np.testing.assert_array_equal(fewer.row[of], row.reshape(USERS, 3))
    np.testing.assert_allclose(fewer.size.sum(), size.sum())
    both = of[0, 0]
    np.testing.assert_allclose(fewer.mean[both], (30 * places[0] + 10 * places[2]) / 40, rtol=1e-5)
    np.testing.assert_array_equal(of.ravel(), merge(groups(places, row, size), vectors, answers, session, seed=1)[1])


def test_tastes_that_differ_stay_apart() -> None:
    rng = np.random.default_rng(2)
    vectors = rng.standard_normal((TRACKS, DIMS)).astype(np.float32)
    true = rng.standard_normal((USERS * 2, DIMS)).astype(np.float32) * 1.5
    row, size = np.repeat(np.arange(USERS), 2), np.tile([2.0, 1.0], USERS)
    answers, session = told(true, vectors, rng)
    _, of = merge(groups(true, row, size), vectors, answers, session, seed=1)
    assert len(np.unique(of)) > 0.95 * len(of)


def test_without_answers_nothing_is_merged() -> None:
    places = np.zeros((4, DIMS), np.float32)
    nothing = np.zeros(0, np.int64)
    answers = Answers(nothing, nothing, *(np.zeros(0, np.float32),) * 3)
    tastes = groups(places, np.array([0, 0, 1, 1]), np.ones(4))
    merged, of = merge(tastes, places, answers, nothing, seed=1)
    assert merged is tastes
    np.testing.assert_array_equal(of, np.arange(4))
