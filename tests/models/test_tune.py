"""Trials, their leaderboard, and how a night adopts the best."""

import json
from pathlib import Path

import pytest

from recsys.exceptions import InvalidInputError, MissingDataError
from recsys.models.dae import Dae
from recsys.models.tune import adopted, configurations, leaderboard, trial
from recsys.night.train import train
from recsys.settings import load_settings
from recsys.storage.store import Storage
from tests.support.night import DAY, tastes, write_interactions, write_world

SMALL = {"layers": [[16]], "epochs": [2], "learning_rate": [1e-4, 2e-2]}


def test_trials_are_ranked_kept_and_adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(var=tmp_path / "var", world=write_world(tmp_path / "world"))
    store = Storage(settings.storage_url)
    write_interactions(store, tastes())
    results = [trial(settings, DAY, configuration) for configuration in configurations(SMALL)]
    best = leaderboard(settings, DAY, results)
    assert best["configuration"]["learning_rate"] == 2e-2
    directory = store.local(f"tuning/date={DAY}/leaderboard")
    ranked = json.loads((directory / "leaderboard.json").read_text())
    assert [row["ndcg_100"] for row in ranked] == sorted((row["ndcg_100"] for row in results), reverse=True)
    assert (directory / "leaderboard.png").read_bytes().startswith(b"\x89PNG")

    def fail(*arguments: object, **named: object) -> None:
        raise AssertionError("a finished trial was trained again")

    with monkeypatch.context() as patch:
        patch.setattr(Dae, "fit", fail)
        assert [trial(settings, DAY, configuration) for configuration in configurations(SMALL)] == results
    tuned = load_settings(var=settings.var, world=settings.world, dae=Path(best["best"]))
    train(store, DAY, tuned.world, tuned)
    card = store.read_json(f"models/date={DAY}", "card.json")
    assert card["configurations"]["dae"] == {**Dae().config, "layers": [16], "epochs": 2, "learning_rate": 2e-2}


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"layers": [16]}, "cannot be made"), ({"layers": []}, "at least one value"), ({"layer": [[16]]}, "cannot be made"),
        ({"epochs": list(range(201))}, "more than 200"), ({"precision": ["float8"]}, "float8"),
    ],
)  # fmt: skip
def test_what_is_no_grid_is_named(grid: dict, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        configurations(grid)


def test_no_trial_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no trial"):
        leaderboard(load_settings(var=tmp_path), DAY, [])


@pytest.mark.parametrize("text", [None, "nonsense", "[1]"])
def test_what_cannot_be_adopted_is_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "best.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InvalidInputError, match="RECSYS_DAE"):
        adopted(path)
    assert adopted(None) == {}
