"""The promotion rule: the limits that a night must keep, from configuration.

In goes a YAML file such as ``config/promotion.yml``; out comes a :class:`PromotionRule`. What it leaves out keeps its default.
"""

from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from recsys.abtest.metrics import GUARDRAILS, METRICS, Guardrail
from recsys.exceptions import InvalidInputError
from recsys.yaml_file import read_yaml

#: Guardrails with a limit of their own: a repeat is a fault whichever other arm has it, and a model that recommends next to
#: nothing is broken, which no mean over users tells.
FAULTS = ("repeat_share", "coverage_tracks", "coverage_share")
#: Metrics that may be guardrails.
MARGINS = tuple(metric.name for metric in METRICS if metric.role in ("secondary", "cost"))


class Limit(BaseModel):
    """Bounds of a guardrail by itself, or the margin by which it may be worse than another arm; None leaves it open."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at_most: float | None = None
    at_least: float | None = None
    margin: float | None = Field(None, gt=0, le=10)


class PromotionRule(BaseModel):
    """When a candidate is promoted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    minimum_effect_percent: float = Field(0.0, ge=-100, description="The interval against the control must lie above this.")
    margin: float = Field(0.02, ge=0, lt=1, description="How much worse than the live version is still not worse, a fraction.")
    reference_margin: float | None = Field(
        None, ge=0, lt=1, description="How much worse than the reference is still not worse; unset: 1.5 times the margin."
    )
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
        known = {guardrail.name: guardrail for guardrail in GUARDRAILS}
        for name, limit in sorted(limits.items()):
            if name not in known and name not in MARGINS:
                raise ValueError(f"{name} is none of {', '.join([*known, *MARGINS])}")
            is_fault = name in FAULTS
            if name == "exploration_share":
                raise ValueError(f"{name} is drawn on purpose, so it is no guardrail; leave it out")
            if is_fault and limit.margin is not None:
                raise ValueError(f"{name} is a fault whoever else has it and is compared with nothing; give at_most or at_least")
            if not is_fault and (limit.at_most is not None or limit.at_least is not None):
                raise ValueError(
                    f"{name} is tested against the live version or the control; instead of at_most or at_least give margin: "
                    "how much worse than that is still not worse"
                )
        return limits

    def limited(self) -> tuple[Guardrail, ...]:
        """Every guardrail with the limits that apply."""
        return tuple(replace(g, **self.guardrails[g.name].model_dump()) if g.name in self.guardrails else g for g in GUARDRAILS)

    def margin_of(self, metric: str) -> float | None:
        """How much worse a metric may be than that of another arm, a fraction; None if it is no guardrail."""
        limit = self.guardrails.get(metric)
        return limit.margin if limit and metric in MARGINS else None

    @property
    def total_margin(self) -> float:
        """How much worse than the reference is still not worse, a fraction."""
        return min(0.999, 1.5 * self.margin) if self.reference_margin is None else self.reference_margin


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
