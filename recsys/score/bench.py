"""Models fitted to data sets, and judged by listeners whom they have not seen.

In go names of models and data sets; out come rows of figures. Whatever comes with Nightshift is fitted once for each state of its
code and the data; a person's model is fitted anew.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recsys.learn.offline_metrics import bootstrap_interval
from recsys.models.base import MODELS, config_of, create, label, module_of, uses_plays
from recsys.models.identity import code_of
from recsys.score import process
from recsys.score.document import ARMS, Estimate, HeldOutRow
from recsys.score.fit import HISTORY, Arrays, Job
from recsys.score.given import SEED
from recsys.score.progress import Steps
from recsys.score.results import Results
from recsys.score.worlds import World

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: The model whose lists are arm T1.
OF_T1 = "dae"
NO_PLAYS = "it learns from plays, which these data do not hold"


@dataclass(frozen=True)
class DataSet:
    """What models are fitted to: a world, or a matrix."""

    name: str
    digest: str
    splits: Sequence[int]
    world: World | None = None
    history: "csr_matrix | None" = None

    def job(self, model: str, directory: Path) -> Job:
        """The job of fitting a model to it in a directory."""
        if self.world is None:
            from scipy.sparse import save_npz

            save_npz(directory / HISTORY, self.history)
            return Job(model=model, data=self.name, splits=list(self.splits))
        night = self.world.night
        return Job(model=model, data=self.name, splits=list(self.splits), storage=night.store.url, world=str(night.world))


class Bench:
    """Fits models, and keeps what comes of those that stay the same.

    Args:
        model: the one that is scored. limit: seconds that a model may take with one data set. directory: for what is in work.

    Attributes:
        label: what the model is called in tables. arm: what its sessions are called.
    """

    def __init__(self, model: str, limit: float, results: Results, directory: Path, steps: Steps) -> None:
        self.model, self.results, self.steps = model, results, steps
        # A class of one's own may be called as something else is.
        self.label = model if model not in MODELS and label(model) in {*ARMS, *MODELS} else label(model)
        self.arm = "T1" if model == OF_T1 else self.label
        self._limit, self._directory = limit, directory
        self._fitted: dict[tuple[str, str], Arrays] = {}
        self._codes: dict[tuple[str, ...], str] = {}

    def label_of(self, model: str) -> str:
        """What a model is called in tables."""
        return self.label if model == self.model else label(model)

    def identity(self, model: str, data: DataSet) -> dict[str, object]:
        """Everything that a fit follows from."""
        code = self.code(module_of(model), f"{__package__}.fit")
        return {
            "model": model,
            "config": config_of(create(model)),
            "code": code,
            "data": data.digest,
            "splits": list(data.splits),
        }

    def code(self, *modules: str) -> str:
        """The digest of some modules' code, read once."""
        if modules not in self._codes:
            self._codes[modules] = code_of(modules)
        return self._codes[modules]

    def fit(self, model: str, data: DataSet) -> Arrays:
        """What came of fitting a model to a data set, see :mod:`recsys.score.fit`."""
        key = model, data.name
        if key not in self._fitted:
            if model in MODELS:
                self._fitted[key] = self.results.of(self.identity(model, data), lambda: self._fit(model, data))
            else:
                self._fitted[key] = self._fit(model, data)
        return self._fitted[key]

    def judge(self, data: DataSet, models: Sequence[str]) -> list[HeldOutRow]:
        """A row a model."""
        found: dict[str, Arrays] = {}
        rows = []
        for model in models:
            self.steps.begin(f"{data.name}: {self.label_of(model)} is fitted")
            name = self.label_of(model)
            if data.world is None and uses_plays(create(model)):
                rows.append(HeldOutRow(data=data.name, model=name, skipped=NO_PLAYS))
                continue
            found[name] = fitted = self.fit(model, data)
            others = {other: each for other, each in found.items() if other != name} if model == self.model else {}
            rows.append(
                HeldOutRow(
                    data=data.name,
                    model=name,
                    users=len(fitted["ndcg_100"]),
                    ndcg_100=_over_users(fitted["ndcg_100"]),
                    recall_20=_over_users(fitted["recall_20"]),
                    recall_50=_over_users(fitted["recall_50"]),
                    against={other: _over_users(fitted["ndcg_100"] - each["ndcg_100"]) for other, each in others.items()},
                    seconds=round(float(fitted["seconds"]), 2),
                    listing=round(float(fitted["listing"]), 2),
                    mib=round(float(fitted["mib"]), 1),
                )
            )
        return rows

    def _fit(self, model: str, data: DataSet) -> Arrays:
        with tempfile.TemporaryDirectory(prefix="fit-", dir=self._directory) as scratch:
            return process.run(data.job(model, Path(scratch)), Path(scratch), self._limit, self.steps.tick)


def _over_users(values: npt.NDArray[np.float64]) -> Estimate:
    low, high = bootstrap_interval(values, SEED)
    return Estimate(value=round(float(values.mean()), 4), low=round(low, 4), high=round(high, 4))
