"""Sessions played with a model's lists, and the same ones with those of other arms.

In go a bench and a world; out come rows of mean times and differences, of the world and of all worlds together.
"""

from array import array
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from recsys.experiments import Arm
from recsys.learn.held_out import split
from recsys.learn.offline_metrics import coverage
from recsys.models.base import MODELS
from recsys.models.neighbours import Neighbours
from recsys.night.recommend import top_tracks
from recsys.score.bench import OF_T1, Bench, DataSet
from recsys.score.document import ARMS, TOGETHER, SessionRow
from recsys.score.figures import Mean
from recsys.score.fit import Arrays
from recsys.score.given import SEED, of_logs
from recsys.score.served import Served
from recsys.score.worlds import World
from recsys.service.state import Version

#: Seed of the sessions that are played, none of which is in the logs; of the split of a world's listeners.
PLAYED, SPLIT = 20_261_128, 0


class Played:
    """One world, each arm's sessions, and what follows from them."""

    def __init__(self, bench: Bench, data: DataSet, world: World, sessions: int) -> None:
        self._bench, self._data, self._world, self._sessions = bench, data, world, sessions
        self.lists = {"T1": OF_T1, bench.arm: bench.model}
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
        model = self.lists.get(arm)
        code = self._bench.code(__name__, f"{__package__}.served", "recsys.simulate.audience")
        identity: dict[str, object] = {"arm": arm, "world": self._world.digest, "sessions": self._sessions, "code": code}
        if model:
            identity |= {"arm": "list", "fit": self._bench.identity(model, self._data)}
        is_kept = model is None or model in MODELS
        found = self._bench.results.of(identity, lambda: self._play(arm)) if is_kept else self._play(arm)
        self._users = found["user"]
        return found["time"] / 100

    def _play(self, arm: str) -> Arrays:
        audience = self._world.audience
        if arm == "oracle":
            return audience.play_oracle(self._sessions, PLAYED)._asdict()
        lists: Mapping[int, array[int]] = {}
        if arm in self.lists:
            fitted = self._bench.fit(self.lists[arm], self._data)
            rows = zip(fitted["users"].tolist(), fitted["lists"].tolist(), strict=True)
            lists = {user: array("I", [track for track in row if track >= 0]) for user, row in rows}
        served = Served(audience.tracks, Arm(arm, "dae" if lists else "contextual"), self._version, lists, SEED)
        return audience.play(served, self._sessions, PLAYED)._asdict()

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


def together(worlds: Sequence[Played]) -> list[SessionRow]:
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
