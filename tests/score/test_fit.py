"""A model fitted in a process of its own: what comes of it, and the line that says what is wrong with it."""

import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from scipy.sparse import save_npz

from benchmarks.histories import random_history
from recsys.exceptions import InvalidInputError, UnavailableError
from recsys.learn.held_out import split
from recsys.models.base import create
from recsys.score import process
from recsys.score.fit import HISTORY, Job, fit
from recsys.score.given import of_file
from recsys.score.process import run

pytestmark = pytest.mark.slow


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    save_npz(tmp_path / HISTORY, random_history(120, 150, 20))
    return tmp_path


def job(name: str, *splits: int) -> Job:
    return Job(model=f"somebody:{name}", data="some data", splits=list(splits or (0,)))


def test_figures_of_a_fit_are_those_of_its_lists(directory: Path) -> None:
    found = run(job("Counts", 3, 4), directory, 60, lambda: None)
    history = of_file(directory / HISTORY).history
    wanted = []
    for seed in (3, 4):
        data = split(history, seed)
        model = create("somebody:Counts")
        model.fit(data.train, seed=1, work=directory)
        wanted.append(data.figures(data.rank(model.score(data.fold_in)))["ndcg_100"])
    assert found["ndcg_100"].tolist() == np.concatenate(wanted).tolist()
    assert len(found["recall_20"]) == len(found["recall_50"]) == 24
    assert 0 <= found["seconds"] < 10
    assert 30 < found["mib"] < 2000
    assert "lists" not in found


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Short", r"float32 \[12, 149\]; it must give a float32 array \[12, 150\]"),
        ("NoNumbers", "gives NaN"),
        ("NoArray", "gives a list; it must give a float32 array"),
        ("Nothing", "leaves every track out"),
        ("NoFigures", "returns None; it must return a dictionary"),
        ("Forgets", "scores otherwise once it has been saved and loaded"),
    ],
)
def test_a_model_that_breaks_its_interface_is_told_how(directory: Path, name: str, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        fit(job(name), directory)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere:Model", "cannot be imported: No module named 'nowhere'; is its package on the path"),
        ("somebody:Nobody", "cannot be imported: module 'somebody' has no attribute 'Nobody'"),
        ("somebody:NoSave", "has no method save"),
        ("somebody:Needs", "cannot be made: a licence"),
        ("broken:Counts", "cannot be imported: SyntaxError"),
        ("leaving:Counts", "cannot be imported: SystemExit: bye"),
    ],
)
def test_a_class_that_cannot_be_had_is_told_in_one_line(name: str, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said) as told:
        create(name)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("Fails", InvalidInputError, r"fails: RuntimeError: no idea \(somebody.py line \d+\) \(some data\)"),
        ("Killed", UnavailableError, "ended by SIGKILL; memory may be used up"),
        ("Exits", InvalidInputError, "ended its process with status 3: that is all"),
    ],
)
def test_a_process_that_fails_is_told_in_one_line(directory: Path, name: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said) as told:
        run(job(name), directory, 60, lambda: None)
    assert "\n" not in str(told.value)


def test_a_model_that_takes_too_long_is_ended(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "PAUSE", 0.01)
    with pytest.raises(InvalidInputError, match=r"was not ready with some data within 0.1 s; give it more by --limit"):
        run(job("Slow"), directory, 0.1, lambda: None)


def test_whoever_interrupts_a_fit_ends_its_process(directory: Path) -> None:
    def interrupt() -> None:
        if (directory / "split-0" / "begun").exists():
            raise KeyboardInterrupt

    before = {child.pid for child in psutil.Process().children()}
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(job("Slow"), directory, 600, interrupt)
    assert time.monotonic() - began < 60
    assert {child.pid for child in psutil.Process().children()} == before
