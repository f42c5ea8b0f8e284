"""Tastes move to where their users' answers put them, as far as the answers are worth it."""

import numpy as np
import pytest

from recsys.models.refine import Answers, alternate, refine

DIMS, TRACKS, TASTES, PLAYS = 4, 300, 90, 120


def answers(true: np.ndarray, vectors: np.ndarray, rng: np.random.Generator, plays: int = PLAYS) -> tuple[Answers, np.ndarray]:
    """Plays of random tracks, a session each, by listeners of a taste."""
    taste = np.repeat(np.arange(len(true)), plays)
    track = rng.integers(0, len(vectors), len(taste))
    slope, bias = np.full(len(taste), 2.0, np.float32), np.full(len(taste), 0.5, np.float32)
    score = (vectors[track] * true[taste]).sum(axis=1)
    heard = (1 / (1 + np.exp(-slope * (score - bias)))).astype(np.float32)
    return Answers(taste, track, heard, slope, bias), np.arange(len(taste))


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((TRACKS, DIMS)).astype(np.float32)


def test_answers_move_places_towards_the_truth(vectors: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    true = rng.standard_normal((TASTES, DIMS)).astype(np.float32)
    places = true + 0.5 * rng.standard_normal(true.shape).astype(np.float32)
    told, session = answers(true, vectors, rng)
    moved = refine(places, vectors, told, session, np.arange(TASTES), seed=1)
    before, after = (np.linalg.norm(at - true, axis=1).mean() for at in (places, moved))
    assert after < before / 3
    np.testing.assert_array_equal(moved, refine(places, vectors, told, session, np.arange(TASTES), seed=1))


def test_answers_that_say_nothing_new_move_nothing(vectors: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    true = rng.standard_normal((TASTES, DIMS)).astype(np.float32)
    told, session = answers(true, vectors, rng, plays=12)
    noise = (rng.random(len(told.heard)) < told.heard).astype(np.float32)
    moved = refine(true, vectors, Answers(told.taste, told.track, noise, told.slope, told.bias), session, np.arange(TASTES), 1)
    assert np.linalg.norm(moved - true, axis=1).mean() < 0.3


def test_a_taste_without_answers_stays(vectors: np.ndarray) -> None:
    rng = np.random.default_rng(3)
    true = rng.standard_normal((TASTES, DIMS)).astype(np.float32)
    places = true + 0.5
    told, session = answers(true[:-1], vectors, rng)
    moved = refine(places, vectors, told, session, np.arange(TASTES), seed=1)
    np.testing.assert_array_equal(moved[-1], places[-1])
    assert (moved[:-1] != places[:-1]).any(axis=1).all()


def test_no_answers_leave_places(vectors: np.ndarray) -> None:
    places = np.zeros((3, DIMS), np.float32)
    told, session = answers(places[:0], vectors, np.random.default_rng(4))
    np.testing.assert_array_equal(refine(places, vectors, told, session, np.arange(3), seed=1), places)


def test_vectors_are_moved_towards_what_all_listeners_heard(vectors: np.ndarray) -> None:
    rng = np.random.default_rng(5)
    true = rng.standard_normal((TASTES, DIMS)).astype(np.float32)
    told, session = answers(true, vectors, rng)
    wrong = (vectors + rng.normal(0, 0.5, vectors.shape)).astype(np.float32)
    places, moved = alternate(true, wrong, told, session, np.arange(TASTES), seed=1)
    scores = true @ vectors.T
    before, after = (np.abs(at @ tracks.T - scores).mean() for at, tracks in ((true, wrong), (places, moved)))
    assert after < before / 3
    again = alternate(true, wrong, told, session, np.arange(TASTES), seed=1)
    np.testing.assert_array_equal(places, again[0])
    np.testing.assert_array_equal(moved, again[1])
