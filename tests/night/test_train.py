"""Training as a process: killed, it goes on to the same model; and it opens nothing that only the simulator may know.

What was trained by other code is trained again.
"""

import importlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from recsys.models.identity import code_of
from recsys.night.night import Night
from recsys.night.train import train
from recsys.schemas import Card
from recsys.settings import load_settings
from recsys.simulate.world import generate
from recsys.storage.store import Storage
from tests.support.listens import two_days, write_plays
from tests.support.night import DAY, tastes, write_interactions, write_world

STEPS = """
import sys, time
from datetime import date
from pathlib import Path
opened = []
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
from recsys.night.gate import decide
from recsys.models.dae import Dae
from recsys.models.response import Response
from recsys.night.night import Night
from recsys.night.recommend import recommend
from recsys.night.train import train
from recsys.settings import load_settings
var, world, pause = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
for kind in (Dae, Response):
    def slow(self, *arguments, epoch=kind._epoch):
        time.sleep(pause)
        return epoch(self, *arguments)
    kind._epoch = slow
night = Night(date(2026, 1, 5), load_settings(var=var, world=world, session_arm=True))
train(night)
decide(night)
recommend(night)
strange = [name for name in sys.modules if name.startswith(("recsys.simulate", "recsys.simulate.world", "benchmarks"))]
known = [path for path in opened if Path(path).name in ("tracks.npy", "env.yml") or "first-tracks" in path]
print([strange, known])
"""


@pytest.fixture
def world(tmp_path: Path) -> Path:
    generate(tmp_path / "world", tracks=300, artists=60, users=120)
    return tmp_path / "world"


def start(var: Path, world: Path, pause: float) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", STEPS, str(var), str(world), str(pause)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)


def run(var: Path, world: Path) -> str:
    process = start(var, world, 0.0)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return output.strip().splitlines()[-1]


def inputs(var: Path) -> Storage:
    store = Storage(load_settings(var=var).storage_url)
    write_plays(store, two_days())
    return store


def contents(store: Storage, name: str) -> dict[str, str]:
    """Checksums of the files of a directory, but for the card, which holds times."""
    return {file.name: file.sha256 for file in store.manifest(f"{name}/date={DAY}").files if file.name != "card.json"}


@pytest.mark.drill(
    "training", "killed after a checkpoint, of either model", "nothing is shown; the rerun goes on to the same models and lists"
)
@pytest.mark.parametrize("checkpoint", ["dae/checkpoint.pt", "response/response.pt"])
@pytest.mark.slow
def test_killed_training_goes_on_to_the_same_model(tmp_path: Path, world: Path, checkpoint: str) -> None:
    whole, killed = inputs(tmp_path / "whole"), inputs(tmp_path / "killed")
    run(tmp_path / "whole", world)
    code = code_of(["recsys.models.dae", "recsys.models.response", "recsys.models.neighbours"])
    assert Card.read(whole, DAY).code == code
    process = start(tmp_path / "killed", world, 0.2)
    for _ in range(3000):
        if any((tmp_path / "killed").glob(f"work/train-*/{checkpoint}")) or process.poll() is not None:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
    assert not killed.is_complete(f"models/date={DAY}")
    run(tmp_path / "killed", world)
    assert contents(killed, "models") == contents(whole, "models")
    assert contents(killed, "recommendations") == contents(whole, "recommendations")


@pytest.mark.slow
def test_nothing_that_only_the_simulator_may_know_is_read(tmp_path: Path, world: Path) -> None:
    assert (world / "tracks.npy").exists()
    assert "interests" in (world / "users.json").read_text()
    there = inputs(tmp_path / "there")
    assert run(tmp_path / "there", world) == "[[], []]"
    # The same night in a world that keeps names and ids only gives the same models and lists, byte for byte.
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(world / "tracks.json", bare)
    users = [json.loads(line)["user"] for line in (world / "users.json").read_text().splitlines()]
    (bare / "users.json").write_text("".join(json.dumps({"user": user}) + "\n" for user in users))
    blind = inputs(tmp_path / "blind")
    run(tmp_path / "blind", bare)
    for name in ("models", "recommendations"):
        assert contents(blind, name) == contents(there, name)
    assert {"sessions.npz", "tastes.npy"} <= set(contents(there, "recommendations"))


OWN = """
import numpy as np


class Weighted:
    def fit(self, history, *, seed, work):
        from zoo.weights import WEIGHT

        self.scores = WEIGHT * np.asarray(history.sum(axis=0), dtype=np.float32).ravel()
        return {}

    def score(self, history):
        return np.tile(self.scores, (history.shape[0], 1))

    def save(self, directory):
        np.save(directory / "weighted.npy", self.scores)

    def load(self, directory):
        self.scores = np.load(directory / "weighted.npy")
"""


def test_what_other_code_trained_is_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    package = tmp_path / "project" / "zoo"
    package.mkdir(parents=True)
    (package / "models.py").write_text(OWN)
    (package / "weights.py").write_text("WEIGHT = 1.0\n")
    (package / "unused.py").write_text("")
    monkeypatch.syspath_prepend(package.parent)
    world = write_world(tmp_path / "world")
    night = Night(DAY, load_settings(var=tmp_path / "var", world=world, model="zoo.models:Weighted"))
    write_interactions(night.store, tastes())

    def trained() -> tuple[str, float]:
        """The card's fingerprint, and the highest score, after training in what is like a new process."""
        for name in [name for name in sys.modules if name.partition(".")[0] == "zoo"]:
            monkeypatch.delitem(sys.modules, name)
        importlib.invalidate_caches()
        train(night)
        scores = np.load(night.store.local(night.models) / "weighted.npy")
        return Card.read(night.store, DAY).fingerprint, float(scores.max())

    def skipped() -> int:
        return sum("is there already" in record.getMessage() for record in caplog.records)

    caplog.set_level(logging.INFO, "recsys.night.train")
    first, score = trained()
    assert Card.read(night.store, DAY).code == code_of(["zoo.models", "recsys.models.neighbours"])
    assert trained() == (first, score)
    (package / "unused.py").write_text("# what no model imports\n")
    assert trained() == (first, score)
    assert skipped() == 2
    (package / "weights.py").write_text("WEIGHT = 2.0  # heavier\n")
    second, heavier = trained()
    assert heavier == 2 * score
    (package / "models.py").write_text(OWN.replace("WEIGHT *", "2.0 * WEIGHT *"))
    third, heaviest = trained()
    assert heaviest == 4 * score
    assert len({first, second, third}) == 3
    assert skipped() == 2
