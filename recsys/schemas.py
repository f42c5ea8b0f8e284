"""Shapes that several modules share: log records, experiments, arms, run specifications.

Times that a listener spends on a track are fractions of it, 0 to 1, kept as integer hundredths where they decide something.
"""

import json
import re
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import cache, cached_property, lru_cache
from typing import Any, Literal

import mmh3
from pydantic import TypeAdapter, ValidationError

from recsys.exceptions import CorruptDataError, InvalidInputError

LIST_LENGTH = 50
TOP_LENGTH = 100
NEIGHBOURS = 20
POSITIVE_TIME = 0.8

EXPERIMENT = "DAE_VS_CONTEXTUAL"

#: Order of the fields in a log line; the original's come first.
LOG_FIELDS = (
    "message", "timestamp", "user", "track", "time", "latency", "recommendation", "experiments",
    "run", "version", "session", "step", "event", "source", "degraded", "propensity",
)  # fmt: skip

Recommender = Literal["dae", "contextual", "top100", "session"]

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}\.[0-9]{1,4}\.[A-Za-z0-9_-]{1,40}")


@lru_cache(maxsize=2**17)
def _slot(user: int, seed: int, slots: int) -> int:
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
    arms: tuple[Arm, ...]
    salt: str = ""

    def arm_of(self, user: int) -> Arm:
        """The user's arm: ``murmur3_32(str(user), seed=murmur3_32(name + salt)) % len(arms)``, unsigned.

        A salt deals the users anew, so that no user is treated every night:

        >>> arms = Arm("C", "contextual"), Arm("T1", "dae")
        >>> [Experiment("X", arms).arm_of(user).name for user in range(6)]
        ['T1', 'C', 'T1', 'T1', 'C', 'T1']
        >>> [Experiment("X", arms, "2026-11-24").arm_of(user).name for user in range(6)]
        ['C', 'T1', 'T1', 'C', 'C', 'T1']
        """
        return self.arms[self.slot_of(user)]

    def slot_of(self, user: int) -> int:
        """The place of the user's arm in ``arms``."""
        return _slot(user, self.hash_seed, len(self.arms))

    @cached_property
    def hash_seed(self) -> int:
        """The seed of the assignment hash."""
        return mmh3.hash(self.name + self.salt, signed=False)


@dataclass(frozen=True)
class RunSpec:
    """What a simulated run is served from; registered in Redis under ``base`` before the first request.

    A run id is ``<base>.<shard>.<try>``: every shard and try has histories and log files of its own, all served alike.
    """

    base: str
    version: str
    exploration: float
    seed: int
    experiment: Experiment | None = None
    catalogue: int = 0

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "RunSpec":
        """The inverse of :meth:`to_json`.

        Raises:
            CorruptDataError: a part is absent, of another type or out of range.
        """
        found: RunSpec = _read(cls, json.dumps(data))
        if not 0 <= found.exploration <= 1 or (found.experiment and not found.experiment.arms):
            raise CorruptDataError(f"run specification {data!r} has an exploration beyond 0 to 1, or no arms")
        return found


@dataclass(frozen=True)
class ShardResult:
    """What a finished simulation shard reports (its last output line, as JSON)."""

    run: str
    shard: int
    episodes: int
    next: int
    last: int
    mean_time: float
    se_time: float
    mean_steps: float
    se_steps: float
    seconds: float = field(default=0.0, compare=False)

    @classmethod
    def from_json(cls, line: bytes | str) -> "ShardResult":
        """Read the last output line of a shard.

        Raises:
            CorruptDataError: a part is absent or of another type.
        """
        found: ShardResult = _read(cls, line)
        return found


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _read(kind: Any, text: bytes | str) -> Any:
    try:
        return _adapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise CorruptDataError(f"{kind.__name__} {text[:200]!r}: {place} cannot be taken: {first['msg']}") from None


def run_base(run: str) -> str:
    """The part of a run id that names its specification.

    >>> run_base("2026-11-23-0a1b2c3d.0.1")
    '2026-11-23-0a1b2c3d'

    Raises:
        InvalidInputError: not of the form ``<base>.<shard>.<try>``.
    """
    if not _RUN_ID.fullmatch(run):
        raise InvalidInputError(f"run id {run[:100]!r} is not of the form <base>.<shard>.<try>")
    return run.rsplit(".", 2)[0]


def parse_date(text: str, name: str = "log date") -> date:
    """Read an ISO date, without a week or an ordinal.

    >>> parse_date("2026-11-23")
    datetime.date(2026, 11, 23)
    >>> parse_date("2026-11-31", "Param log_date")
    Traceback (most recent call last):
    recsys.exceptions.InvalidInputError: Param log_date '2026-11-31' is not a date of the form YYYY-MM-DD, such as 2026-11-23

    Raises:
        InvalidInputError: not a calendar date written as YYYY-MM-DD.
    """
    try:
        found = date.fromisoformat(text)
    except (TypeError, ValueError):
        found = None
    if found is None or found.isoformat() != text:
        raise InvalidInputError(f"{name} {text!r} is not a date of the form YYYY-MM-DD, such as 2026-11-23")
    return found


def plain_user(text: str) -> str:
    """The name of a user of HDFS, as it stands in paths and requests.

    Raises:
        InvalidInputError: it holds anything but letters, digits and ``_.-``, such as a ``/``.
    """
    if not _USER.fullmatch(text):
        raise InvalidInputError(f"user name {text[:100]!r} must be a plain name of letters, digits and _.-, without '/'")
    return text


def night_seed(seed: int, log_date: date) -> int:
    """The seed of one night: a 32-bit hash of the base seed and the log date."""
    return mmh3.hash(f"{seed}:{log_date.isoformat()}", signed=False)
