"""What a model is worth: fitted as a night fits it, judged by listeners whom it has not seen, and played against the baselines.

In go settings and what is asked; out comes a :class:`~recsys.score.document.Score`. Whatever comes with Nightshift is fitted and
played once for each state of its code, the worlds and the sizes; a person's model is fitted anew by every call.
"""

import hashlib
import logging
import tempfile
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recsys import __version__
from recsys.exceptions import UnavailableError
from recsys.experiments import Arm
from recsys.learn.held_out import split
from recsys.learn.offline_metrics import bootstrap_interval, coverage
from recsys.models.base import MODELS, config_of, create, label, module_of, uses_plays
from recsys.models.identity import code_of
from recsys.models.neighbours import Neighbours
from recsys.night.recommend import top_tracks
from recsys.score import process, public_data
from recsys.score.document import ARMS, TOGETHER, Estimate, HeldOutRow, Score, SessionRow, Worlds
from recsys.score.figures import Mean
from recsys.score.fit import HISTORY, Arrays, Job
from recsys.score.given import SEED, of_logs
from recsys.score.progress import Steps
from recsys.score.results import Results
from recsys.score.served import Served
from recsys.score.worlds import FULL, SEEDS, Size, World, prepare
from recsys.service.state import Version
from recsys.settings import Settings

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

log = logging.getLogger(__name__)

#: Models that every other one stands beside; the last one is that of arm T1.
BASELINES = ("popularity", "ease", "dae")
#: Seed of the sessions that are played, none of which is in the logs; seeds of the splits of public data, and of a world.
PLAYED, SPLITS, SPLIT = 20_261_128, (0, 1, 2), 0
NO_PLAYS = "it learns from plays, which these data do not hold"


@dataclass(frozen=True)
class Asked:
    """What is asked.

    Attributes:
        model: a name of :func:`recsys.models.base.create`. size: of the worlds. seeds: of each world.
        public: whether public data count; data: a directory with those of HetRec; fetch: whether ml-100k may be fetched.
        limit: seconds that a model may take with one data set. rebuild: whether nothing that was kept counts.
    """

    model: str
    size: Size = FULL
    seeds: Sequence[int] = SEEDS
    public: bool = True
    data: Path | None = None
    fetch: bool = True
    limit: float = 600
    rebuild: bool = False


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


def score(settings: Settings, asked: Asked) -> Score:
    """Fit, judge, play.

    Raises:
        InvalidInputError: the model cannot be made, breaks its interface, fails or takes too long; or ``data`` has no such file.
    """
    began = time.monotonic()
    notes: list[str] = []
    public = list(_public(asked, notes))
    models = list(dict.fromkeys([*BASELINES, asked.model]))
    # A world is made, then played by C, the oracle and the lists of T1 and the model.
    steps = Steps(len(asked.seeds) * (3 + len(models) + len({BASELINES[-1], asked.model})) + len(public) * len(models))
    directory = settings.var / "score"
    try:
        bench = _Bench(asked, Results(directory / "kept", rebuild=asked.rebuild), directory, steps)
        sessions, held_out = [], []
        for seed in asked.seeds:
            steps.begin(f"world {seed}")
            world = prepare(directory, seed, asked.size)
            data = DataSet(world.name, world.digest, [SPLIT], world)
            held_out += bench.judge(data, models)
            sessions.append(_Played(bench, data, world))
        held_out += [row for data in public for row in bench.judge(data, models)]
    finally:
        steps.close()
    size = asked.size
    return Score(
        model=asked.model,
        label=bench.label,
        arm=bench.arm,
        code=bench.code(module_of(asked.model)),
        config=config_of(create(asked.model)),
        worlds=Worlds(worlds=len(asked.seeds), tracks=size.tracks, users=size.users, explored=size.explored, played=size.played),
        sessions=[*(row for played in sessions for row in played.rows), *_together(sessions)],
        held_out=held_out,
        notes=notes,
        seconds=round(time.monotonic() - began, 1),
        version=__version__,
    )


def _public(asked: Asked, notes: list[str]) -> Iterator[DataSet]:
    """Public data that are at hand; notes what is not."""
    if not asked.public:
        notes.append("Public data were left out.")
        return
    try:
        yield _of_matrix("ml-100k", public_data.raters_of_films(fetch=asked.fetch))
    except UnavailableError as error:
        notes.append(f"ml-100k is left out: {error}.")
    if asked.data:
        yield _of_matrix("hetrec", public_data.listeners_of_artists(asked.data))
    else:
        notes.append("HetRec Last.fm is left out: no --data names its directory.")


def _of_matrix(name: str, history: "csr_matrix") -> DataSet:
    digest = hashlib.sha256(str(history.shape).encode())
    digest.update(history.indptr.tobytes())
    digest.update(history.indices.tobytes())
    return DataSet(name, digest.hexdigest(), SPLITS, history=history)


class _Bench:
    """Fits models, and keeps what comes of those that stay the same."""

    def __init__(self, asked: Asked, results: Results, directory: Path, steps: Steps) -> None:
        self.asked, self.results, self.steps = asked, results, steps
        self.label = label(asked.model) if label(asked.model) not in ARMS else asked.model
        self.arm = "T1" if asked.model == BASELINES[-1] else self.label
        self._directory = directory
        self._fitted: dict[tuple[str, str], Arrays] = {}
        self._codes: dict[tuple[str, ...], str] = {}

    def label_of(self, model: str) -> str:
        """What a model is called in tables."""
        return self.label if model == self.asked.model else label(model)

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
            others = {other: each for other, each in found.items() if other != name} if model == self.asked.model else {}
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
            return process.run(data.job(model, Path(scratch)), Path(scratch), self.asked.limit, self.steps.tick)


def _over_users(values: npt.NDArray[np.float64]) -> Estimate:
    low, high = bootstrap_interval(values, SEED)
    return Estimate(value=round(float(values.mean()), 4), low=round(low, 4), high=round(high, 4))


class _Played:
    """One world, each arm's sessions, and what follows from them."""

    def __init__(self, bench: _Bench, data: DataSet, world: World) -> None:
        self._bench, self._data, self._world = bench, data, world
        self.lists = {"T1": BASELINES[-1], bench.arm: bench.asked.model}
        self.times = {arm: self._times(arm) for arm in ("C", *self.lists, "oracle")}

    @cached_property
    def means(self) -> dict[str, Mean]:
        """The mean time of each arm."""
        return {arm: Mean.of(self._users, time) for arm, time in self.times.items()}

    @cached_property
    def differences(self) -> dict[str, Mean]:
        """The model's mean minus that of each other arm, session by session."""
        own = self._bench.arm
        return {arm: Mean.of(self._users, self.times[own] - time) for arm, time in self.times.items() if arm != own}

    @property
    def coverages(self) -> dict[str, float]:
        """Share of the catalogue in the lists of each arm that has some."""
        found = {}
        for arm, model in self.lists.items():
            lists = self._bench.fit(model, self._data)["lists"]
            found[arm] = round(coverage(lists[lists >= 0], self._world.audience.tracks), 4)
        return found

    @property
    def rows(self) -> list[SessionRow]:
        """A row an arm."""
        return _rows(self._world.name, self._bench.arm, self.means, self.differences, self.coverages)

    @property
    def own(self) -> str:
        """The arm of the model that is scored."""
        return self._bench.arm

    def _times(self, arm: str) -> npt.NDArray[np.float64]:
        """Each session's time, float64 [sessions]; whose sessions they are is the same for every arm."""
        self._bench.steps.begin(f"{self._world.name}: {ARMS.get(arm, arm)} plays")
        size, model = self._bench.asked.size, self.lists.get(arm)
        code = self._bench.code(__name__, f"{__package__}.served", "recsys.simulate.audience")
        identity: dict[str, object] = {"arm": arm, "world": self._world.digest, "sessions": size.played, "code": code}
        if model:
            identity |= {"arm": "list", "fit": self._bench.identity(model, self._data)}
        is_kept = model is None or model in MODELS
        found = self._bench.results.of(identity, lambda: self._play(arm)) if is_kept else self._play(arm)
        self._users = found["user"]
        return found["time"] / 100

    def _play(self, arm: str) -> Arrays:
        audience, size = self._world.audience, self._bench.asked.size
        if arm == "oracle":
            return audience.play_oracle(size.played, PLAYED)._asdict()
        lists: Mapping[int, array[int]] = {}
        if arm in self.lists:
            fitted = self._bench.fit(self.lists[arm], self._data)
            rows = zip(fitted["users"].tolist(), fitted["lists"].tolist(), strict=True)
            lists = {user: array("I", [track for track in row if track >= 0]) for user, row in rows}
        served = Served(audience.tracks, Arm(arm, "dae" if lists else "contextual"), self._version, lists, SEED)
        return audience.play(served, size.played, PLAYED)._asdict()

    @cached_property
    def _version(self) -> Version:
        """What arms share: TOP 100 and neighbours, of the listeners whom models see."""
        code = self._bench.code(f"{__package__}.given", "recsys.models.neighbours", "recsys.night.recommend")
        found = self._bench.results.of({"version": self._world.digest, "code": code}, self._shared)
        return Version.named("score", tuple(found["top"].tolist()), array("I", found["neighbours"].tobytes()))

    def _shared(self) -> Arrays:
        train = split(of_logs(self._world.night).history, SPLIT).train
        available = np.ones(train.shape[1], bool)
        near = Neighbours()
        near.fit(train, seed=SEED)
        top = top_tracks(train, available)
        return {"top": top, "neighbours": near.table(top, available)}


def _together(worlds: Sequence[_Played]) -> list[SessionRow]:
    """The mean over worlds."""
    means, differences = (
        {arm: Mean.together([each[arm] for each in found]) for arm in found[0]}
        for found in ([played.means for played in worlds], [played.differences for played in worlds])
    )
    covered = [played.coverages for played in worlds]
    shares = {arm: round(float(np.mean([each[arm] for each in covered])), 4) for arm in covered[0]}
    return _rows(TOGETHER, worlds[0].own, means, differences, shares)


def _rows(
    world: str, own: str, means: Mapping[str, Mean], differences: Mapping[str, Mean], coverages: Mapping[str, float]
) -> list[SessionRow]:
    return [
        SessionRow(
            world=world,
            arm=arm,
            time=mean.estimate,
            against={other: difference.estimate for other, difference in differences.items()} if arm == own else {},
            of_oracle=round(mean.value / means["oracle"].value, 4),
            coverage=coverages.get(arm),
        )
        for arm, mean in means.items()
    ]
