"""Models of somebody, in a module on the path."""

import sys
from collections.abc import Iterator

import pytest

MODELS = '''
import os
import signal
import time

import numpy as np


class Counts:
    """Tracks by how many liked them, a little less for those whom one has liked."""

    config = {"kept": 0.5}

    def fit(self, history, *, seed, work):
        self.counts = np.asarray(history.sum(axis=0), np.float32).ravel()
        return {"tracks": int((self.counts > 0).sum())}

    def score(self, history):
        return self.counts[None] - self.config["kept"] * history.toarray()

    def save(self, directory):
        np.save(directory / "counts.npy", self.counts)

    def load(self, directory):
        self.counts = np.load(directory / "counts.npy")


class Short(Counts):
    def score(self, history):
        return super().score(history)[:, 1:]


class NoNumbers(Counts):
    def score(self, history):
        return super().score(history) * np.nan


class NoArray(Counts):
    def score(self, history):
        return super().score(history).tolist()


class Nothing(Counts):
    def score(self, history):
        return super().score(history) - np.inf


class NoFigures(Counts):
    def fit(self, history, *, seed, work):
        super().fit(history, seed=seed, work=work)


class Fails(Counts):
    def fit(self, history, *, seed, work):
        raise RuntimeError("no idea")


class Forgets(Counts):
    def load(self, directory):
        self.counts = np.load(directory / "counts.npy")[::-1]


class Twice(Counts):
    def best(self, history, k):
        return np.zeros((history.shape[0], k), np.int64), np.ones((history.shape[0], k), np.float32)


class Slow(Counts):
    def fit(self, history, *, seed, work):
        (work.parent / "begun").touch()
        time.sleep(600)


class Killed(Counts):
    def fit(self, history, *, seed, work):
        os.kill(os.getpid(), signal.SIGKILL)


class Exits(Counts):
    def fit(self, history, *, seed, work):
        print("that is all", flush=True)
        os._exit(3)


class Needs(Counts):
    def __init__(self):
        raise RuntimeError("a licence")


class NoSave:
    def fit(self): ...
    def score(self): ...
'''


@pytest.fixture(scope="module", autouse=True)
def _models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The modules ``somebody``, and ``broken`` and ``leaving``, which cannot be imported."""
    directory = tmp_path_factory.mktemp("models")
    (directory / "somebody.py").write_text(MODELS)
    (directory / "broken.py").write_text("class Counts:\n    fit = (\n")
    (directory / "leaving.py").write_text("raise SystemExit('bye')\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(directory)
        yield
    for name in ("somebody", "broken", "leaving"):
        sys.modules.pop(name, None)
