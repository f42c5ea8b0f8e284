"""Models by name, and a night with a class of one's own from training to the lists."""

import sys
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from recsys.exceptions import InvalidInputError
from recsys.models.base import MODELS, create, label
from recsys.night.gate import decide
from recsys.night.night import Night
from recsys.night.recommend import recommend
from recsys.night.train import train
from recsys.schemas import Card
from recsys.settings import load_settings
from recsys.versions.content import LISTS, lists_in
from tests.support.night import DAY, GROUPS, USERS, tastes, write_interactions, write_world

OWN = '''
"""Tracks of the same remainder modulo ten as what the user liked most."""

from pathlib import Path
from typing import cast

import numpy as np


class Remainders:
    config = {"modulo": 10}

    def fit(self, history, *, seed, work):
        self.popularity = np.asarray(history.sum(axis=0)).ravel().astype(np.float32)
        return {"tracks": int((self.popularity > 0).sum())}

    def score(self, history):
        tracks = np.arange(history.shape[1])
        liked = np.stack([np.asarray(history[:, tracks % 10 == r].sum(axis=1)).ravel() for r in range(10)], axis=1)
        return (liked[:, tracks % 10] + self.popularity / 1000).astype(np.float32)

    def save(self, directory):
        np.save(Path(directory) / "remainders.npy", self.popularity)

    def load(self, directory):
        self.popularity = np.load(Path(directory) / "remainders.npy")


class NoScore:
    def fit(self, history, *, seed, work): ...
    def save(self, directory): ...
    def load(self, directory): ...
'''


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_models.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("own_models", None)
    return "own_models"


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_that_comes_along_can_be_made(name: str) -> None:
    assert type(create(name)).__name__.lower() == name
    assert label(name) == name


def test_what_is_no_model_is_named(own_package: str) -> None:
    cases = {
        "nonsense": "none of dae",
        f"{own_package}:Absent": "cannot be imported",
        "no.such.package:Model": "cannot be imported",
        f"{own_package}:NoScore": "no method score",
    }
    for name, message in cases.items():
        with pytest.raises(InvalidInputError, match=message):
            create(name)
    with pytest.raises(InvalidInputError, match="cannot be made"):
        create("dae", layers=(5,), nonsense=1)


def test_a_night_with_a_model_of_ones_own(tmp_path: Path, own_package: str) -> None:
    model = f"{own_package}:Remainders"
    settings = load_settings(var=tmp_path / "var", world=write_world(tmp_path / "world"), model=model)
    night = Night(DAY, settings)
    write_interactions(night.store, tastes())
    assert cast(int, train(night)["tracks"]) > 0
    card = Card.read(night.store, DAY)
    assert card.model == model
    assert card.configurations == {"Remainders": {"modulo": 10}}
    gate = decide(night)
    assert gate.passed, gate.reasons
    assert gate.metrics is not None
    assert gate.metrics.candidate == "Remainders"
    recommend(night)
    lists = dict(lists_in(night.store.local(night.recommendations) / LISTS))
    assert len(lists) == USERS
    assert np.mean([[t % GROUPS == user % GROUPS for t in tracks[:20]] for user, tracks in lists.items()]) > 0.95
