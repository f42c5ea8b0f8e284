"""Training as a process: killed, it goes on to the same model; and it opens nothing that only the simulator may know."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recsys.settings import load_settings
from recsys.simulate.world import generate
from recsys.storage.store import Storage
from tests.support.listens import two_days, write_plays
from tests.support.night import DAY

STEPS = """
import sys, time
from datetime import date
from pathlib import Path
opened = []
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
from recsys.night.gate import decide
from recsys.models.dae import Dae
from recsys.models.response import Response
from recsys.night.recommend import recommend
from recsys.settings import load_settings
from recsys.storage.store import Storage
from recsys.night.train import train
var, world, pause = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
for kind in (Dae, Response):
    def slow(self, *arguments, epoch=kind._epoch):
        time.sleep(pause)
        return epoch(self, *arguments)
    kind._epoch = slow
settings = load_settings(var=var, world=world, session_arm=True)
store, day = Storage(settings.storage_url), date(2026, 1, 5)
train(store, day, world, settings)
decide(store, day, world, settings)
recommend(store, day, world, settings)
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
