"""Trials, their leaderboard, and how a night adopts the best."""

import json
from pathlib import Path

import pytest

from recsys.exceptions import InvalidInputError, MissingDataError
from recsys.models.dae import Dae
from recsys.night.night import Night
from recsys.night.train import train
from recsys.night.tune import adopted, configurations, leaderboard, trial
from recsys.schemas import Card
from recsys.settings import load_settings
from tests.support.night import DAY, tastes, write_interactions, write_world

SMALL = {"layers": [[16]], "epochs": [2], "learning_rate": [1e-4, 2e-2]}


def test_trials_are_ranked_kept_and_adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    night = Night(DAY, load_settings(var=tmp_path / "var", world=write_world(tmp_path / "world")))
    write_interactions(night.store, tastes())
    results = [trial(night, configuration) for configuration in configurations(SMALL)]
    best, path = leaderboard(night, results)
    assert best.configuration["learning_rate"] == 2e-2
    directory = night.store.local(f"tuning/date={DAY}/leaderboard")
    ranked = json.loads((directory / "leaderboard.json").read_text())
    assert [row["ndcg_100"] for row in ranked] == sorted((row.ndcg_100 for row in results), reverse=True)
    assert (directory / "leaderboard.png").read_bytes().startswith(b"\x89PNG")

    def fail(*arguments: object, **named: object) -> None:
        raise AssertionError("a finished trial was trained again")

    with monkeypatch.context() as patch:
        patch.setattr(Dae, "fit", fail)
        assert [trial(night, configuration) for configuration in configurations(SMALL)] == results
    with monkeypatch.context() as patch:
        patch.setattr("recsys.night.tune.code_of", lambda modules: f"edited {modules}")
        assert trial(night, results[0].configuration).trial != results[0].trial
    tuned = Night(DAY, load_settings(var=night.settings.var, world=night.world, dae=Path(path)))
    train(tuned)
    adopted_by = Card.read(night.store, DAY).configurations["dae"]
    assert adopted_by == {**Dae().config, "layers": [16], "epochs": 2, "learning_rate": 2e-2}


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"layers": [16]}, "cannot be made"),
        ({"layers": []}, "at least one value"),
        ({"layer": [[16]]}, "cannot be made"),
        ({"epochs": list(range(201))}, "more than 200"),
        ({"precision": ["float8"]}, "float8"),
    ],
)
def test_what_is_no_grid_is_named(grid: dict, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        configurations(grid)


def test_no_trial_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no trial"):
        leaderboard(Night(DAY, load_settings(var=tmp_path)), [])


@pytest.mark.parametrize("text", [None, "nonsense", "[1]"])
def test_what_cannot_be_adopted_is_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "best.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InvalidInputError, match="RECSYS_DAE"):
        adopted(path)
    assert adopted(None) == {}
