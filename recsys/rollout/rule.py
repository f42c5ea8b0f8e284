"""The rule of rollouts: stages, margins and limits, from configuration.

In goes a YAML file such as ``config/rollout.yml``; out comes a :class:`RolloutRule`. What it leaves out keeps its default.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from recsys.exceptions import InvalidInputError
from recsys.yaml_file import read_yaml

#: Share of sessions and answers that may be worse for the candidate than for live; see :mod:`recsys.rollout.evidence`.
Trouble = Literal["fallback_share", "degraded_share", "unanswered_share"]
TROUBLES: dict[Trouble, str] = {
    "fallback_share": "Answers taken from the TOP 100",
    "degraded_share": "Answers given without the store",
    "unanswered_share": "Requests without an answer",
}

#: Hours and listeners beyond which a number is a slip.
YEAR, MANY = 8760, 1_000_000_000


class Stage(BaseModel):
    """Percent of the listeners who get the candidate, and the harm that must be excluded before the next stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float = Field(ge=0.001, le=100)
    margin: float = Field(default=0.05, gt=0, lt=1)


class RolloutRule(BaseModel):
    """When a candidate gets more listeners, and when it is taken back."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stages: tuple[Stage, ...] = Field(
        (Stage(share=1, margin=0.5), Stage(share=5, margin=0.15), Stage(share=25, margin=0.05), Stage(share=100)),
        min_length=1,
        description="Shares in percent, each with the loss of session time, a fraction, that must be excluded at it.",
    )
    level: float = Field(0.05, ge=0.0001, lt=0.5, description="Chance that a candidate as good as live is ever taken back.")
    least_hours: float = Field(2, ge=0, le=YEAR, description="A stage lasts at least so long.")
    longest_hours: float = Field(72, gt=0, le=YEAR, description="After so long a stage is held until a person decides.")
    least_users: int = Field(100, ge=50, le=MANY, description="Listeners an arm below which nothing is concluded.")
    planned_users: int = Field(1000, ge=100, le=MANY, description="Listeners on the candidate at which the bounds are narrowest.")
    guardrails: dict[Trouble, Annotated[float, Field(ge=0, lt=1)]] = Field(
        {"fallback_share": 0.05, "degraded_share": 0.02, "unanswered_share": 0.02},
        description="By how much a share may be larger for the candidate than for live.",
    )

    @model_validator(mode="after")
    def _ascends(self) -> Self:
        shares = [stage.share for stage in self.stages]
        if sorted(set(shares)) != shares or shares[-1] != 100:
            raise ValueError(f"shares of stages must ascend and end with 100, not {', '.join(f'{share:g}' for share in shares)}")
        if odd := [share for share in shares if round(share, 3) != share]:
            raise ValueError(f"share {odd[0]!r} has more than three decimals")
        if self.least_hours > self.longest_hours:
            raise ValueError(f"least_hours {self.least_hours:g} must not be above longest_hours {self.longest_hours:g}")
        return self

    def margin_of(self, share: float) -> float:
        """The margin of the stage with a share, or of the last one below it."""
        return [stage for stage in self.stages if stage.share <= share or stage is self.stages[0]][-1].margin

    def after(self, share: float) -> tuple[int, Stage]:
        """Number and stage of what follows a share.

        >>> [RolloutRule().after(share)[1].share for share in (0, 1, 5, 10, 25)]
        [1.0, 5.0, 25.0, 25.0, 100.0]
        """
        return next((number, stage) for number, stage in enumerate(self.stages, 1) if stage.share > share)


def load_rule(path: Path | None) -> RolloutRule:
    """Read the rule; the default one without a file.

    Raises:
        InvalidInputError: the file is missing or malformed; the message names the key.
    """
    data = read_yaml(path, "rollout rule") if path else {}
    try:
        return RolloutRule.model_validate(data or {})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        given = f" is {first['input']!r}" if first["loc"] else ""
        raise InvalidInputError(f"rollout rule {path}: {key}{given}: {first['msg'].removeprefix('Value error, ')}") from None
