"""Documents that the steps of a night write for each other and for people, and lengths that all of them share.

Times that a listener spends on a track are fractions of it, 0 to 1, kept as integer hundredths where they decide something.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self

from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from recsys.storage.document import Document, Part, refuse
from recsys.storage.layout import Dated

LIST_LENGTH = 50
TOP_LENGTH = 100
NEIGHBOURS = 20
#: A play of more than this share of a track is a positive.
POSITIVE_TIME = 0.8

#: What a model tells about its training.
Figures = dict[str, JsonValue]
Interval = tuple[float, float]


class Learning(Part):
    """Settings of a night that decide what it learns from: the window in log dates, and the share that makes a positive."""

    window: int
    positive_time: float


class DatedCatalogue(Document):
    """``catalogue.json``: how large a log date's copy of the catalogue is, and who was there to be simulated.

    Attributes:
        tracks: how many there are. retired: those of them that may not be recommended, ascending.
        listeners: lines of the world's ``users.json``, whom the simulator plays; None if it has none.
    """

    FILE: ClassVar[str] = "catalogue.json"
    KIND: ClassVar[Dated] = Dated.CATALOGUES

    tracks: int
    retired: tuple[int, ...] = ()
    listeners: int | None = None


class Inputs(Document):
    """``inputs.json``: all that a night has read.

    Attributes:
        live: the version that was live when it began, "" for none; the candidate is compared with it. A backfill compares with
            none.
        reference: the log date of the last version that was shown better, "" for none; the candidate is compared with it, too.
        backfill: whether the night was a backfill.
        seed: the night's own. logs: checksum of each directory of logs by name. catalogue: that of the date's copy of the
            catalogue, "" in nights from before there were copies. counts: lines, events and rows.
    """

    FILE: ClassVar[str] = "inputs.json"
    KIND: ClassVar[Dated] = Dated.INTERACTIONS

    log_date: str
    live: str = ""
    reference: str = ""
    backfill: bool = False
    seed: int = 0
    settings: Learning | None = None
    logs: dict[str, str] = Field(default_factory=dict)
    catalogue: str = ""
    counts: dict[str, int] = Field(default_factory=dict)


class Card(Document):
    """``card.json``: what was trained, on what, how well.

    Attributes:
        fingerprint: of everything that decides what the models are. data, plays: checksums of what they were trained on.
        code: digest of the sources of the models. model: the setting; configurations: of each model by its name.
        positives, users, tracks: how many there were. metrics: figures of the model behind T1; models: of each one.
        timing: seconds of each part.
    """

    FILE: ClassVar[str] = "card.json"
    KIND: ClassVar[Dated] = Dated.MODELS

    log_date: str
    fingerprint: str
    data: str
    plays: str
    seed: int
    code: str
    model: str
    configurations: dict[str, Figures]
    positives: int
    users: int
    tracks: int
    metrics: Figures
    models: dict[str, Figures]
    neighbours: Figures
    timing: dict[str, float]


class ByActivity(Part):
    """A figure among users of similar activity: how many there are, the most positives of one, the mean."""

    users: int
    most_positives: int
    mean: float


class RankingFigures(Part):
    """How well a model ranks what users liked on the held-out date."""

    ndcg_100: float
    ndcg_100_interval: Interval
    ndcg_100_by_activity: list[ByActivity]
    recall_20: float
    recall_50: float
    coverage_100: float
    artist_spread_100: float


class AgainstLive(Part):
    """NDCG@50 of the candidate's lists and of the live ones; interval of the candidate's minus the tolerated share of live's."""

    ndcg_50: float
    live_ndcg_50: float
    difference: Interval


class OffPolicyFigures(Part):
    """What the logs say that the candidate's lists would have earned; see :mod:`recsys.learn.off_policy`."""

    time: float | None
    low: float | None
    high: float | None
    plays: int
    effective: float
    reliable: bool


class PredictedEffect(Part):
    """What a candidate would change about mean session time, foretold from logs: relative effect with its 95 % interval.

    Attributes:
        against: the contextual control, or the lists that are live. answers: random answers that the candidate might have given.
    """

    against: Literal["control", "live"]
    effect_percent: float
    ci_low_percent: float
    ci_high_percent: float
    answers: int


class Judgement(Part):
    """What the gate has measured.

    Attributes:
        candidate: name of the candidate among ``models``. finite: whether its scores are numbers. fewest_ranked: tracks that it
            ranks for some user. gain: interval of its NDCG@100 minus that of popularity. predicted: effects on session time,
            which decide nothing; none where too few answers of the logs were random.
    """

    candidate: str
    models: dict[str, RankingFigures]
    finite: bool
    fewest_ranked: int
    gain: Interval
    off_policy: OffPolicyFigures | None = None
    live: AgainstLive | None = None
    predicted: list[PredictedEffect] = Field(default_factory=list)


class Gate(Document):
    """``gate.json``: whether the candidate may be shown to anybody, the reasons as sentences, how many users judged it."""

    FILE: ClassVar[str] = "gate.json"
    KIND: ClassVar[Dated] = Dated.GATES

    passed: bool
    reasons: list[str]
    users: int
    metrics: Judgement | None = None


class Verdict(Document):
    """``promotion.json``: what came of a night, why, its version, and the version that was live afterwards ("" for none)."""

    FILE: ClassVar[str] = "promotion.json"
    KIND: ClassVar[Dated] = Dated.PROMOTIONS

    verdict: Literal["promoted", "held", "gate_refused", "rolling_out"]
    reasons: list[str]
    version: str
    live: str


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
    def from_json(cls, line: bytes | str) -> Self:
        """Read the last output line of a shard.

        Raises:
            CorruptDataError: a part is absent or of another type.
        """
        try:
            return TypeAdapter(cls).validate_json(line, strict=True)
        except ValidationError as error:
            raise refuse(f"a shard's result {line[:200]!r}", error) from None
