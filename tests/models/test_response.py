"""The response model: learns groups and the artist discount from plays, repeats itself, resumes, refuses nonsense."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from recsys.exceptions import CorruptDataError, MissingDataError
from recsys.learn.plays import Plays
from recsys.models.response import Response
from recsys.versions.session_lists import SessionLists
from tests.support.listens import group_plays
from tests.support.night import GROUPS

pytestmark = pytest.mark.slow


def history(plays: Plays) -> csr_matrix:
    liked = np.unique(np.stack([plays.row, plays.track])[:, plays.time > 80], axis=1)
    return csr_matrix((np.ones(liked.shape[1], np.float32), tuple(liked)), shape=(plays.users, len(plays.artist_of)))


def fitted(work: Path, plays: Plays, seed: int = 1, epochs: int = 8) -> Response:
    model = Response(8, epochs=epochs, batch=512, rate=0.2)
    model.fit(history(plays), seed=seed, work=work, plays=plays)
    return model


def test_candidates_are_of_the_first_tracks_group(tmp_path: Path) -> None:
    plays = group_plays()
    model = fitted(tmp_path, plays)
    lists = model.lists
    first = np.arange(300)
    best = lists.tracks[lists.row_of[first]][:, :10].astype(np.int64)
    assert (best % GROUPS == first[:, None] % GROUPS).mean() > 0.9
    assert (np.diff(lists.scores.astype(int), axis=1) <= 0).all()
    assert 0.4 < model.gamma < 0.6


def test_scores_prefer_the_users_group(tmp_path: Path) -> None:
    plays = group_plays()
    scores = fitted(tmp_path, plays).score(history(plays))
    best = scores.argsort(axis=1)[:, -10:]
    assert scores.shape == (plays.users, 300)
    assert (best % GROUPS == np.arange(plays.users)[:, None] % GROUPS).mean() > 0.9


def test_same_seed_same_bytes_and_saved_is_loaded(tmp_path: Path) -> None:
    plays = group_plays(users=40, sessions=6)
    models = [fitted(tmp_path / str(i), plays, seed) for i, seed in enumerate((1, 1, 2))]
    first, second, third = (model.lists.to_bytes() for model in models)
    assert first == second != third
    models[0].save(tmp_path)
    loaded = Response()
    loaded.load(tmp_path)
    assert (loaded.lists.to_bytes(), loaded.gamma, loaded.config) == (first, models[0].gamma, models[0].config)


def test_training_goes_on_from_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plays = group_plays(users=40, sessions=6)
    whole = fitted(tmp_path / "whole", plays, epochs=4)
    epoch, calls = Response._epoch, []

    def killed(self: Response, *arguments: object) -> float:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return epoch(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Response, "_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "work", plays, epochs=4)
    assert fitted(tmp_path / "work", plays, epochs=4).lists.to_bytes() == whole.lists.to_bytes()
    assert len(calls) == 3 + 2


def test_no_answers_is_an_error(tmp_path: Path) -> None:
    plays = group_plays(users=5, sessions=3, steps=1)
    with pytest.raises(MissingDataError, match="no answered plays"):
        fitted(tmp_path, plays)


@pytest.mark.parametrize("shape", [{"users": 1, "sessions": 5}, {"tracks": 20, "users": 3}, {"users": 30, "sessions": 1}])
def test_odd_logs_give_lists(tmp_path: Path, shape: dict[str, int]) -> None:
    plays = group_plays(**shape)
    lists = fitted(tmp_path, plays, epochs=1).lists
    assert len(lists.row_of) == len(plays.artist_of)
    assert all(len(set(row)) == len(row) for row in lists.tracks.tolist())


def test_lists_that_do_not_fit_are_refused() -> None:
    two, one = np.array([[0, 1]], np.uint32), np.ones(1, np.uint32)
    wide, points = two.astype(np.uint16), np.zeros((2, 3), np.int8)
    beyond = np.array([0, 5], np.uint32)
    broken = SessionLists(beyond, two, wide, np.zeros((1, 1024), np.uint16), points, points[:1], one, beyond, one)
    with pytest.raises(CorruptDataError, match="do not fit"):
        SessionLists.from_bytes(broken.to_bytes())
    with pytest.raises(CorruptDataError, match="cannot be read"):
        SessionLists.from_bytes(b"nonsense")


def test_retired_tracks_are_no_candidates(tmp_path: Path) -> None:
    plays = group_plays(users=40, sessions=8)
    available = np.arange(300) >= 100
    model = fitted(tmp_path, replace(plays, available=available), epochs=2)
    assert model.lists.tracks.min() >= 100
    assert len(model.lists.row_of) == 300, "a session may begin with one"
    with pytest.raises(MissingDataError, match="every track that was played has been retired"):
        fitted(tmp_path / "none", replace(plays, available=np.zeros(300, bool)), epochs=1)
