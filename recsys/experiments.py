"""Experiments: arms, how users are dealt to them, and what a run of requests is served from.

The live experiment, which says between which arms live requests are split, comes from a file::

    experiment: DAE_VS_CONTEXTUAL    # or null: everybody gets the live version's lists
    salt: ""
    arms:
      - {name: C, recommender: contextual}
      - {name: T1, recommender: dae, weight: 1}
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import mmh3
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from recsys.exceptions import InvalidInputError
from recsys.storage.document import refuse
from recsys.yaml_file import read_yaml

EXPERIMENT = "DAE_VS_CONTEXTUAL"
MAX_WEIGHT = 100

Recommender = Literal["dae", "contextual", "top100", "session"]


@lru_cache(maxsize=2**17)
def _slot(user: int | str, seed: int, slots: int) -> int:
    return mmh3.hash(str(user), seed=seed, signed=False) % slots


@dataclass(frozen=True)
class Arm:
    """One arm of an experiment: which recommender answers, from which version ("" means none yet)."""

    name: str
    recommender: Recommender
    version: str = ""


@dataclass(frozen=True)
class Experiment:
    """An experiment with equal splits; arm i serves the users whose hash is i modulo the number of arms."""

    name: str
    arms: Annotated[tuple[Arm, ...], Field(min_length=1)]
    salt: str = ""

    def arm_of(self, user: int | str) -> Arm:
        """The user's arm: ``murmur3_32(str(user), seed=murmur3_32(name + salt)) % len(arms)``, unsigned.

        The id counts as it was given: an integer, as in the original, or a text.

        A salt deals the users anew, so that no user is treated every night:

        >>> arms = Arm("C", "contextual"), Arm("T1", "dae")
        >>> [Experiment("X", arms).arm_of(user).name for user in range(6)]
        ['T1', 'C', 'T1', 'T1', 'C', 'T1']
        >>> [Experiment("X", arms, "2026-11-24").arm_of(user).name for user in range(6)]
        ['C', 'T1', 'T1', 'C', 'C', 'T1']
        """
        return self.arms[self.slot_of(user)]

    def slot_of(self, user: int | str) -> int:
        """The place of the user's arm in ``arms``."""
        return _slot(user, self.hash_seed, len(self.arms))

    @cached_property
    def hash_seed(self) -> int:
        """The seed of the assignment hash."""
        return mmh3.hash(self.name + self.salt, signed=False)


@dataclass(frozen=True)
class Split:
    """Listeners of a rollout's stage: some get the candidate, the others what is live; an experiment of its own in the log.

    Attributes:
        name: of the experiment. share: percent of the listeners who get the candidate.
    """

    CANDIDATE: ClassVar[Arm] = Arm("candidate", "dae")
    LIVE: ClassVar[Arm] = Arm("live", "dae")

    name: str
    candidate: str
    live: str
    share: float

    def takes(self, user: int | str) -> bool:
        """Whether the user, whose id counts as it was given, gets the candidate; also at every larger share.

        >>> small, large = (Split("X", "2026-11-23-0a1b2c3d", "", share) for share in (1, 25))
        >>> sum(map(small.takes, range(10_000))), sum(map(large.takes, range(10_000)))
        (86, 2430)
        >>> all(large.takes(user) for user in range(10_000) if small.takes(user))
        True
        """
        return mmh3.hash(str(user), self._seed, signed=False) < self._below

    def arm_of(self, user: int | str) -> Arm:
        """The user's arm."""
        return self.CANDIDATE if self.takes(user) else self.LIVE

    @cached_property
    def _seed(self) -> int:
        return mmh3.hash(self.candidate, signed=False)

    @cached_property
    def _below(self) -> float:
        return self.share / 100 * 2**32


@dataclass(frozen=True)
class RunSpec:
    """What a simulated run is served from; registered in Redis under ``base`` before the first request.

    A run id is ``<base>.<shard>.<try>``: every shard and try has histories and log files of its own, all served alike. Beside the
    logs of a run it stands as ``run.json``.

    Attributes:
        catalogue: how many tracks may be played and answered; 0 in logs that do not know. retired: those of them that are never
            answered.
    """

    FILE: ClassVar[str] = "run.json"

    base: str
    version: str
    exploration: Annotated[float, Field(ge=0, le=1)]
    seed: int
    experiment: Experiment | None = None
    catalogue: int = 0
    retired: tuple[int, ...] = ()

    def to_json(self) -> str:
        """One line of JSON; equal specifications have equal lines."""
        return json.dumps(self._told(), sort_keys=True)

    def write(self, directory: Path) -> None:
        """Write ``run.json``."""
        (directory / self.FILE).write_text(json.dumps(self._told(), indent=1, sort_keys=True))

    def _told(self) -> dict[str, object]:
        """Its fields; a catalogue of which nothing is retired is told as it always was, so that runs keep their names."""
        return {name: value for name, value in asdict(self).items() if name != "retired" or value}

    def marked(self) -> Self:
        """The same with four hexadecimal digits of its content behind its base: another content is another run."""
        mark = hashlib.sha256(self.to_json().encode()).hexdigest()[:4]
        return replace(self, base=f"{self.base}-{mark}")

    @classmethod
    def parse(cls, text: bytes | str, where: str) -> Self:
        """Read what :meth:`to_json` or :meth:`write` gave.

        Args:
            where: what it is called, for people.

        Raises:
            CorruptDataError: a part is absent, of another type or out of range.
        """
        try:
            return TypeAdapter(cls).validate_json(text, strict=True)
        except ValidationError as error:
            raise refuse(where, error) from None


class _LiveArm(BaseModel):
    """An arm in the file of the live experiment."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1)]
    recommender: Recommender
    weight: Annotated[int, Field(ge=1, le=MAX_WEIGHT)] = 1


class _LiveExperiment(BaseModel):
    """The file of the live experiment."""

    model_config = ConfigDict(extra="forbid", strict=True)

    experiment: str | None
    salt: str = ""
    arms: list[_LiveArm] = Field(default_factory=list)

    @model_validator(mode="after")
    def _arms_differ(self) -> Self:
        if self.experiment is not None:
            if len(self.arms) < 2:
                raise ValueError(f"arms must be a list of at least two, not {len(self.arms)}")
            if len({arm.name for arm in self.arms}) != len(self.arms):
                raise ValueError("names of arms must be distinct")
        return self


ORIGINAL = Experiment(EXPERIMENT, (Arm("C", "contextual"), Arm("T1", "dae")))


def load_live_experiment(path: Path | None) -> Experiment | None:
    """Read the experiment of live requests; the original's half-and-half split without a file.

    Raises:
        InvalidInputError: the file is missing or malformed; the message names the key.
    """
    if path is None:
        return ORIGINAL
    try:
        found = _LiveExperiment.model_validate(read_yaml(path, "experiments file"))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise InvalidInputError(f"experiments file {path}: {key} is {first['input']!r}: {first['msg']}") from None
    if found.experiment is None:
        return None
    slots = [Arm(arm.name, arm.recommender) for arm in found.arms for _ in range(arm.weight)]
    return Experiment(found.experiment, tuple(slots), found.salt)
