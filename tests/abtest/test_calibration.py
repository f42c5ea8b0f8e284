"""Calibration on logs: it passes where nothing is wrong, and would not pass with an unsound test."""

from pathlib import Path

import numpy as np
import pytest

from recsys.abtest import calibration
from recsys.abtest.analysis import welch
from recsys.abtest.calibration import calibrate, store_calibration, stored_calibration
from recsys.abtest.metrics import Columns, Metric
from recsys.abtest.sessions import ExperimentLog, read_log
from recsys.exceptions import InvalidInputError
from recsys.experiments import Arm, Experiment
from recsys.storage.store import Storage
from tests.support.traffic import records, write

DESIGN = Experiment("X", (Arm("C", "contextual"), Arm("T1", "dae")))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> ExperimentLog:
    path = tmp_path_factory.mktemp("logs") / "a.jsonl"
    return read_log(write(path, records(DESIGN, users=300, sessions=1500)), "X")


@pytest.mark.slow
def test_real_logs_are_split_and_the_outcome_is_kept(found: ExperimentLog, tmp_path: Path) -> None:
    document = calibrate(found, "C", repetitions=300, seed=1, source="given logs")
    assert document == calibrate(found, "C", repetitions=300, seed=1, source="given logs")
    assert document.ok, document
    assert {row.name for row in document.metrics} == {
        "mean_session_time",
        "mean_session_length",
        "time_per_session",
        "time_per_play",
    }
    assert [row.effect_percent for row in document.coverage] == [0.0, 2.0, 20.0, 100.0]
    store = Storage(f"file://{tmp_path}")
    store_calibration(store, document)
    assert stored_calibration(store) == document


@pytest.mark.slow
def test_an_unsound_test_is_caught(found: ExperimentLog, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_sure(metric: Metric, control: Columns, treatment: Columns) -> object:
        # Every user counted four times, as if sessions of a user were independent.
        return welch(metric, *({k: np.tile(v, 4) for k, v in users.items()} for users in (control, treatment)))

    monkeypatch.setattr(calibration, "welch", too_sure)
    document = calibrate(found, "C", repetitions=200, seed=1, source="given logs")
    assert not document.ok
    assert not document.metrics[0].ok
    assert not document.coverage[0].ok


def test_too_little_to_say_anything_is_an_error(found: ExperimentLog) -> None:
    with pytest.raises(InvalidInputError, match="'T9' has 0 users"):
        calibrate(found, "T9", repetitions=200, seed=1, source="x")
    with pytest.raises(InvalidInputError, match="5 repetitions"):
        calibrate(found, "C", repetitions=5, seed=1, source="x")
