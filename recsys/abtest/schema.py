"""``report.json`` as types: what a report says, and what the pages and pictures are made from.

The JSON Schema beside this module is derived from it: ``recsys abtest schema`` prints it. Effects are in percent of the control
mean; a number that cannot be given is null, and ``reason`` says why.
"""

from typing import Annotated, ClassVar, Literal, Protocol

from pydantic import Field

from recsys.abtest.analysis import Adjusted, Comparison, SampleRatio
from recsys.abtest.calibration import Calibration
from recsys.abtest.decision import Line
from recsys.abtest.non_inferiority import NonInferiority
from recsys.abtest.rule import PromotionRule
from recsys.abtest.trust import Winsorised
from recsys.abtest.watch import Watched
from recsys.schemas import Card, Gate, PredictedEffect, Verdict
from recsys.storage.document import Document, Part
from recsys.storage.layout import Dated

Count = Annotated[int, Field(ge=0)]


class Measured(Protocol):
    """What has an effect in percent of the control mean, with its interval."""

    @property
    def effect_percent(self) -> float | None:
        """The effect."""

    @property
    def ci_low_percent(self) -> float | None:
        """The lower end of its interval."""

    @property
    def ci_high_percent(self) -> float | None:
        """The upper end of its interval."""


def percents(row: Measured) -> tuple[float, float, float] | None:
    """Effect, lower and upper end of its interval, or None if they are not known."""
    effect, low, high = row.effect_percent, row.ci_low_percent, row.ci_high_percent
    return None if effect is None or low is None or high is None else (effect, low, high)


class Decision(Part):
    """What the report says for the promotion, a sentence a reason, and each rule of it."""

    verdict: Literal["promote", "hold", "gate_refused"]
    reasons: Annotated[list[str], Field(min_length=1)]
    rules: list[Line] = Field(default_factory=list)


class GuardrailRow(Part):
    """A guardrail of an arm; ``value`` and ``ok`` are None where the log does not tell.

    ``ci_low`` and ``ci_high``: the 95 % interval of a latency, clustered by user.
    """

    name: str
    label: str
    unit: Literal["share", "tracks", "ms"]
    arm: str
    value: float | None
    at_most: float | None
    at_least: float | None
    margin: float | None = None
    ok: bool | None
    ci_low: float | None = None
    ci_high: float | None = None


class ArmFigures(Part):
    """An arm: what served it, and how much there is of it; ``means`` by the metric's name."""

    label: str
    recommender: str = ""
    version: str = ""
    users: Count
    sessions: Count
    plays: Count
    means: dict[str, float]


class Brief(Part):
    """The primary effect among some of the sessions, for orientation; it decides nothing."""

    sessions_a_user: str | int
    control_users: int
    treatment_users: int
    control_mean: float | None
    treatment_mean: float | None
    effect_percent: float | None
    ci_low_percent: float | None
    ci_high_percent: float | None
    reason: str | None


class TableColumns(Part):
    """What a table of users was read as; ``metrics`` and ``covariates`` say by name how each was measured."""

    file: str
    rows: Count
    unit: str
    arm: str
    metrics: dict[str, str]
    covariates: dict[str, str]


class ReadFiles(Part):
    """Checksum and number of the files that were read; they hold times, so that they differ between equal nights."""

    checksum: str
    files: int


class Provenance(Part):
    """Where the numbers come from: directories, tracks of the catalogue (0: unknown), how assignments were checked."""

    source: str
    catalogue: int = 0
    assignment: str = ""
    timing: ReadFiles | None = None


class PastNight(Part):
    """An earlier night, for the picture of nights: its effect against the control, and what the gate had foretold of it."""

    log_date: str
    verdict: str
    effect_percent: float | None
    ci_low_percent: float | None
    ci_high_percent: float | None
    live: str | None
    predicted_percent: float | None = None
    predicted_low_percent: float | None = None
    predicted_high_percent: float | None = None


class Picture(Part):
    """A picture's file name without suffix, heading, caption and text for readers who cannot see it."""

    name: str
    title: str
    caption: str
    alt: str


class PairedComparison(Part):
    """The primary metric of one arm against another, on the same users.

    ``gain`` is how many times more sessions an unpaired comparison of independent listeners would need for an interval as short:
    the variance of its effect over that of the paired one, at an equal number of sessions; None if the two arms gave every user
    the same.
    """

    arm: str
    control: str
    users: int
    control_mean: float
    treatment_mean: float
    effect_percent: float
    ci_low_percent: float
    ci_high_percent: float
    unpaired_low_percent: float
    unpaired_high_percent: float
    correlation: float
    gain: float | None


class Paired(Document):
    """``paired.json``: a night's arms played again, each for the same simulated listeners and random numbers."""

    FILE: ClassVar[str] = "paired.json"
    KIND: ClassVar[Dated] = Dated.PAIRED

    log_date: str
    simulation_only: Literal[True] = True
    sessions_an_arm: int
    seed: int
    comparisons: list[PairedComparison]


class Report(Document):
    """``report.json`` of a night or of any directory of logs.

    Attributes:
        control, treatments, live_arm: names of arms. candidate: the treatment that the decision is about.
        against_reference: the primary metric against the last version that was shown better, where that is not the live one.
        guardrail_tests: what must not get worse, against the live version or the control.
        adjusted, also_adjusted: the primary comparison with CUPED, and those of other metrics. winsorised: the primary one with
            the most extreme values drawn in. before: the arms by what their users did before the experiment.
        methods: how the numbers were made, and which adjustment was applied, by what it is about.
        table: set where users come from a table instead of logs.
        margin: how much worse than the live version is still not worse, a fraction. srm: the sample ratio.
        counts: records, sessions and users, and what was dropped. salt, version: of the night's experiment.
        watched: of real listeners, the comparison that decides, for it may be looked at every night; absent where one looks once.
        outcome, calibration, paired, history, pictures: what else was known when the report was written; it may differ between
            equal nights.
    """

    FILE: ClassVar[str] = "report.json"
    KIND: ClassVar[Dated] = Dated.REPORTS

    format: Annotated[Literal[2], Field(alias="schema")] = 2
    experiment: str | None
    control: str | None
    treatments: list[str]
    candidate: str | None
    live_arm: str | None
    log_date: str | None = None
    version: str = ""
    salt: str = ""
    users: Count
    sessions: Count
    metrics: list[Comparison]
    against_live: Comparison | None
    against_reference: Comparison | None = None
    guardrail_tests: list[NonInferiority] = Field(default_factory=list)
    margin: float | None = None
    adjusted: Adjusted | None
    also_adjusted: list[Adjusted] = Field(default_factory=list)
    winsorised: Winsorised | None = None
    before: list[Comparison] = Field(default_factory=list)
    methods: dict[str, str] = Field(default_factory=dict)
    table: TableColumns | None = None
    rule: PromotionRule | None
    confidence: float | None = None
    power: float | None = None
    srm: SampleRatio
    decision: Decision
    guardrails: list[GuardrailRow]
    arms: dict[str, ArmFigures]
    activity: list[Brief]
    cumulative: list[Brief]
    counts: dict[str, Count]
    warnings: list[str]
    gate: Gate | None = None
    model: Card | None = None
    provenance: Provenance
    outcome: Verdict | None = None
    calibration: Calibration | None = None
    paired: Paired | None = None
    watched: Watched | None = Field(default=None, exclude_if=lambda watched: watched is None)
    history: list[PastNight] = Field(default_factory=list)
    pictures: list[Picture] = Field(default_factory=list)

    def primary(self, arm: str | None = None) -> Comparison | None:
        """The primary comparison of an arm, the candidate by default, for one look."""
        wanted = arm or self.candidate
        return next((row for row in self.metrics if row.role == "primary" and row.arm == wanted), None)

    def deciding(self) -> Comparison | None:
        """The primary comparison of the candidate by which it is judged."""
        return self.watched or self.primary()

    def predicted(self) -> PredictedEffect | None:
        """What the gate foretold of the effect against the control, if it is the candidate's own that was measured."""
        judged = self.gate.metrics if self.gate and not self.watched else None
        return next((told for told in judged.predicted if told.against == "control"), None) if judged else None
