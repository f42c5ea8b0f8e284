"""The live experiment's configuration."""

from pathlib import Path

import mmh3
import pytest

from recsys.exceptions import InvalidInputError
from recsys.experiments import ORIGINAL, Experiment, load_live_experiment


def test_the_shipped_file_is_the_original_split() -> None:
    assert load_live_experiment(Path("config/experiments.yml")) == ORIGINAL == load_live_experiment(None)


def test_assignment_is_the_originals_hash() -> None:
    for user in (0, 1, 17, 9999):
        seed = mmh3.hash("DAE_VS_CONTEXTUAL") & 0xFFFFFFFF
        expected = ("C", "T1")[mmh3.hash(str(user), seed=seed, signed=False) % 2]
        assert ORIGINAL.arm_of(user).name == expected


def test_weights_and_salt_shift_the_split(tmp_path: Path) -> None:
    path = tmp_path / "e.yml"
    path.write_text("experiment: X\nsalt: s\narms: [{name: A, recommender: top100, weight: 3}, {name: B, recommender: dae}]")
    experiment = load_live_experiment(path)
    assert isinstance(experiment, Experiment)
    share = sum(experiment.arm_of(user).name == "A" for user in range(20_000)) / 20_000
    assert share == pytest.approx(0.75, abs=0.02)


def test_null_means_no_experiment(tmp_path: Path) -> None:
    (tmp_path / "e.yml").write_text("experiment: null")
    assert load_live_experiment(tmp_path / "e.yml") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "not YAML"),
        ("arms: []", "experiment is"),
        ("experiment: X", "at least two"),
        ("experiment: 3\narms: []", "experiment is 3: Input should be a valid string"),
        ("experiment: X\narms: [{name: A, recommender: magic}, {name: B, recommender: dae}]", "magic"),
        (
            "experiment: X\narms: [{name: A, recommender: dae, weight: 0}, {name: B, recommender: dae}]",
            r"arms\.0\.weight is 0: Input should be greater than or equal to 1",
        ),
        ("experiment: X\narms: [{name: A, recommender: dae}, {name: A, recommender: top100}]", "distinct"),
        ("experiment: X\narms: [1, 2]", r"arms\.0 is 1"),
    ],
)
def test_malformed_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "e.yml").write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        load_live_experiment(tmp_path / "e.yml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"none\.yml"):
        load_live_experiment(tmp_path / "none.yml")
