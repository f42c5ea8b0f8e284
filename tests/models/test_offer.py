"""What may be recommended: retired tracks and, if wanted, liked ones are in no list, by whatever model."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from recsys.models.base import best, create
from recsys.models.dae import Dae
from recsys.models.offer import NOTHING, Offer
from recsys.models.popularity import Popularity
from tests.support.tastes import taste_matrix


class Own(Popularity):
    """The scores of each row, which ranks by itself."""

    def __init__(self, scores: np.ndarray) -> None:
        self.scores = scores.astype(np.float32)

    def score(self, history: csr_matrix) -> np.ndarray:
        return self.scores


class OwnBest(Own):
    def best(self, history: csr_matrix, k: int) -> tuple[np.ndarray, np.ndarray]:
        tracks = np.argsort(-self.scores, axis=1, kind="stable")[:, :k]
        return tracks, np.take_along_axis(self.scores, tracks, axis=1)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), k=st.integers(1, 30), retired=st.integers(0, 25), keeps=st.booleans())
@pytest.mark.parametrize("kind", [Own, OwnBest])
def test_the_best_of_what_is_on_offer(kind: type[Own], seed: int, k: int, retired: int, keeps: bool) -> None:
    rng = np.random.default_rng(seed)
    rows, size = 4, 26
    scores = rng.permutation(rows * size).reshape(rows, size)
    history = csr_matrix((rng.random((rows, size)) < rng.random((rows, 1))).astype(np.float32))
    available = np.ones(size, bool)
    available[rng.permutation(size)[:retired]] = False
    offer = Offer(available, keeps)
    tracks, found = best(kind(scores), history, k, offer)
    for row in range(rows):
        offered = [t for t in range(size) if available[t] and (keeps or not history[row, t])]
        expected = sorted(offered, key=lambda t: -scores[row, t])[:k]
        listed = tracks[row].tolist()
        assert listed[: len(expected)] == expected
        assert set(listed[len(expected) :]) <= {NOTHING}
        assert found[row, : len(expected)].tolist() == scores[row, expected].tolist()
        assert offer.room(history)[row] == len(offered)
        assert np.isneginf(found[row, len(expected) :]).all()


def test_tracks_that_a_model_does_not_rank_fill_up_lists_as_before() -> None:
    scores = np.full((1, 6), -np.inf)
    scores[0, :3] = [3, 2, 1]
    available = np.array([False, True, True, True, True, True])
    tracks, found = best(Own(scores), csr_matrix((1, 6), dtype=np.float32), 4, Offer(available))
    assert tracks.tolist() == [[1, 2, 3, 4]]
    assert found[0, :2].tolist() == [2, 1]


def test_what_is_no_track_is_left_for_the_gate_to_see() -> None:
    class Nonsense(Own):
        def best(self, history: csr_matrix, k: int) -> tuple[np.ndarray, np.ndarray]:
            return np.array([[0, 10**6]]), np.zeros((1, 2), np.float32)

    tracks, _ = best(Nonsense(np.zeros((1, 5))), csr_matrix((1, 5), dtype=np.float32), 2, Offer(np.arange(5) > 0))
    assert tracks.tolist() == [[10**6, NOTHING]]


def test_the_autoencoder_asks_its_ranking_for_more(tmp_path: Path) -> None:
    history = taste_matrix(users=200, tracks=400)
    model = create("dae", epochs=2)
    assert isinstance(model, Dae)
    model.fit(history, seed=1, work=tmp_path)
    everything, _ = best(model, history, 50, Offer(np.ones(history.shape[1], bool)))
    available = np.ones(history.shape[1], bool)
    available[np.unique(everything[:, :40])[::2]] = False
    tracks, scores = best(model, history, 50, Offer(available, keeps_liked=False))
    dense = model.score(history)
    dense[:, ~available] = -np.inf
    dense[history.nonzero()] = -np.inf
    expected = np.take_along_axis(dense, np.argsort(-dense, axis=1, kind="stable")[:, :50], axis=1)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert not np.isneginf(np.take_along_axis(dense, tracks, axis=1)).any()
