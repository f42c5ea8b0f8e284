"""Models on a small taste: they learn it, repeat it from the same seed, and survive odd inputs."""

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from recsys.evaluate import top_k
from recsys.exceptions import CorruptDataError, InvalidInputError, MissingDataError
from recsys.models.dae import CHECKPOINT, Dae
from recsys.models.ease import Ease
from recsys.models.neighbours import Neighbours
from recsys.models.popularity import Popularity
from tests.night import GROUPS, TRACKS, USERS, tastes


@pytest.fixture(scope="module")
def history() -> csr_matrix:
    rows = tastes()
    matrix = csr_matrix((np.ones(len(rows), np.float32), ([r[0] for r in rows], [r[1] for r in rows])), shape=(USERS, TRACKS))
    matrix.sum_duplicates()
    matrix.sort_indices()
    matrix.data[:] = 1
    return matrix


def small(epochs: int = 6) -> Dae:
    return Dae((16,), epochs=epochs, batch=20, learning_rate=0.02, patience=epochs)


def share_in_group(scores: np.ndarray) -> float:
    return float((top_k(scores, 20) % GROUPS == np.arange(USERS)[:, None] % GROUPS).mean())


def test_the_autoencoder_learns_the_taste(history: csr_matrix, tmp_path: Path) -> None:
    model = small()
    figures = model.fit(history, seed=1, work=tmp_path)
    assert share_in_group(model.score(history)) > 0.9
    assert figures["ndcg_100"] > 0.3


def test_ease_learns_the_taste_and_popularity_does_not(history: csr_matrix, tmp_path: Path) -> None:
    ease, popularity = Ease(), Popularity()
    for model in (ease, popularity):
        model.fit(history)
        model.save(tmp_path)
    assert share_in_group(ease.score(history)) > 0.9
    assert share_in_group(popularity.score(history)) < 0.2
    again = Ease()
    again.load(tmp_path)
    assert (again.score(history) == ease.score(history)).all()


def test_neighbours_are_of_the_same_taste_without_repeats(history: csr_matrix) -> None:
    model = Neighbours(factors=12)
    model.fit(history, seed=1)
    table = model.table(np.arange(100))
    assert table.shape == (TRACKS, 20)
    for track, row in enumerate(table):
        assert len(set(row.tolist())) == 20
        assert track not in row
    assert (table % GROUPS == np.arange(TRACKS)[:, None] % GROUPS).mean() > 0.9


def test_tracks_that_nobody_liked_get_popular_neighbours(history: csr_matrix) -> None:
    lonely = history.copy().tolil()
    lonely[:, 3] = 0
    model = Neighbours(factors=12)
    model.fit(lonely.tocsr(), seed=1)
    assert model.table(np.arange(100))[3].tolist() == [t for t in range(21) if t != 3]


def test_the_same_seed_gives_the_same_weights(history: csr_matrix, tmp_path: Path) -> None:
    for name in ("a", "b"):
        model = small(2)
        model.fit(history, seed=5, work=tmp_path / f"work-{name}")
        (tmp_path / name).mkdir()
        model.save(tmp_path / name)
    assert (tmp_path / "a" / "dae.safetensors").read_bytes() == (tmp_path / "b" / "dae.safetensors").read_bytes()


def test_an_interrupted_training_ends_with_the_same_model(
    history: csr_matrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = small(4), small(4)
    whole.fit(history, seed=5, work=tmp_path / "whole")
    epochs = iter([True, True, False])
    train_epoch = Dae._epoch

    def stop_in_the_third(self: Dae, *arguments: object) -> float:
        if not next(epochs):
            raise KeyboardInterrupt
        return train_epoch(self, *arguments)

    monkeypatch.setattr(Dae, "_epoch", stop_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        broken.fit(history, seed=5, work=tmp_path / "broken")
    monkeypatch.undo()
    assert (tmp_path / "broken" / CHECKPOINT).exists()
    resumed = small(4)
    resumed.fit(history, seed=5, work=tmp_path / "broken")
    assert (resumed.score(history) == whole.score(history)).all()


def test_a_loaded_model_scores_as_the_saved_one(history: csr_matrix, tmp_path: Path) -> None:
    model, loaded = Dae((8, 4), epochs=1, batch=50), Dae()
    model.fit(history, seed=2, work=tmp_path / "w")
    model.save(tmp_path)
    loaded.load(tmp_path)
    assert (loaded.score(history) == model.score(history)).all()
    assert loaded.config == model.config


def test_weights_that_are_no_numbers_are_refused(history: csr_matrix, tmp_path: Path) -> None:
    model = small(1)
    model.fit(history, seed=2, work=tmp_path / "w")
    model._net.out.bias.data[0] = float("nan")
    model.save(tmp_path)
    with pytest.raises(CorruptDataError, match=r"out\.bias"):
        Dae().load(tmp_path)


@pytest.mark.parametrize(
    "matrix",
    [np.ones((1, 30)), np.ones((30, 1)), np.eye(1), np.vstack([np.ones((1, 30)), np.eye(30)])],
    ids=["one user", "one track", "one pair", "a user with everything"],
)
def test_degenerate_histories_give_sane_models(matrix: np.ndarray, tmp_path: Path) -> None:
    history = csr_matrix(matrix.astype(np.float32))
    model = small(1)
    model.fit(history, seed=0, work=tmp_path)
    assert np.isfinite(model.score(history)).any(axis=1).all()
    neighbours = Neighbours()
    neighbours.fit(history, seed=0)
    if history.shape[1] > 20:
        assert neighbours.table(np.arange(30)).shape == (history.shape[1], 20)
    else:
        with pytest.raises(InvalidInputError, match=f"catalogue of {history.shape[1]} tracks"):
            neighbours.table(np.arange(history.shape[1]))


def test_no_positives_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no positives"):
        small().fit(csr_matrix((5, 5), dtype=np.float32), seed=0, work=tmp_path)
