"""The promotion rule: the limits that a night must keep, from configuration.

In goes a YAML file such as ``config/promotion.yml``; out comes a :class:`PromotionRule`. What it leaves out keeps its default.
"""

from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from recsys.abtest.metrics import GUARDRAILS, Guardrail
from recsys.exceptions import InvalidInputError
from recsys.yaml_file import read_yaml


class Limit(BaseModel):
    """Bounds of a guardrail; None leaves a side open."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at_most: float | None = None
    at_least: float | None = None


class PromotionRule(BaseModel):
    """When a candidate is promoted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    minimum_effect_percent: float = Field(0.0, ge=-100, description="The interval against the control must lie above this.")
    margin: float = Field(0.02, ge=0, lt=1, description="How much worse than the live version is still not worse, a fraction.")
    sample_ratio_alarm: float = Field(0.001, gt=0, lt=1, description="p below which the split is broken.")
    arrivals_alarm: float = Field(0.001, gt=0, lt=1, description="p below which sessions a user differ.")
    before_alarm: float = Field(0.001, gt=0, lt=1, description="p below which the arms differed before the experiment.")
    winsorised_share: float = Field(
        0.01, ge=0, lt=0.5, description="Share of users drawn in at each end for the winsorised effect, which decides nothing."
    )
    max_dropped: float = Field(0.01, ge=0, le=1, description="Share of malformed records or unfinished sessions allowed.")
    guardrails: dict[str, Limit] = Field(default_factory=dict, description="Limits that replace a guardrail's own, by name.")

    @field_validator("guardrails")
    @classmethod
    def _known(cls, limits: dict[str, Limit]) -> dict[str, Limit]:
        unknown = sorted(set(limits) - {guardrail.name for guardrail in GUARDRAILS})
        if unknown:
            raise ValueError(f"{unknown[0]} is none of {', '.join(guardrail.name for guardrail in GUARDRAILS)}")
        return limits

    def limited(self) -> tuple[Guardrail, ...]:
        """Every guardrail with the limits that apply."""
        return tuple(
            replace(g, at_most=self.guardrails[g.name].at_most, at_least=self.guardrails[g.name].at_least)
            if g.name in self.guardrails
            else g
            for g in GUARDRAILS
        )


def load_rule(path: Path | None) -> PromotionRule:
    """Read the rule; the default one without a file.

    Raises:
        InvalidInputError: the file is missing or malformed; the message names the key.
    """
    if path is None:
        return PromotionRule.model_validate({})
    data = read_yaml(path, "promotion rule")
    try:
        return PromotionRule.model_validate(data or {})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise InvalidInputError(f"promotion rule {path}: {key} is {first['input']!r}: {first['msg']}") from None
