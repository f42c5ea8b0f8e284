"""Reports made up without logs: the numbers that a test wants, put to the rules as a night's are."""

from datetime import date
from typing import Any

from recsys.abtest.analysis import Comparison, Role, SampleRatio
from recsys.abtest.decision import decide
from recsys.abtest.metrics import PRIMARY
from recsys.abtest.rule import PromotionRule
from recsys.abtest.schema import ArmFigures, Decision, Provenance, Report
from recsys.schemas import Verdict

Interval = tuple[float, float, float]

DAY = date(2026, 1, 5)
LIVE = "2026-01-04-99aabbcc"
COUNTS = {
    "events": 20_000,
    "malformed": 0,
    "repeated": 0,
    "outside": 0,
    "sessions": 2500,
    "unfinished_sessions": 0,
    "users_in_two_arms": 0,
    "users": 900,
    "misassigned": 0,
    "next": 17_500,
    "last": 2500,
    "clock_backwards": 0,
}
GOOD = {"repeat_share": 0.0, "fallback_share": 0.0, "degraded_share": 0.0, "coverage_share": 0.19}


def version_of(day: date) -> str:
    return f"{day}-0a1b2c3d"


def compared(effect: Interval | None, arm: str, control: str, role: Role, mean: float | None = None) -> Comparison:
    """The primary metric with an effect and its interval, or without one; ``mean`` is the treatment's."""
    empty = {"label": PRIMARY.label, "unit": PRIMARY.unit, "control_users": 450, "treatment_users": 450}
    if effect is None:
        return Comparison(PRIMARY.name, arm, control, role, **empty, reason="a mean is not above 0")
    mid, low, high = effect
    control_mean = 4.0 if mean is None else mean / (1 + mid / 100)
    p_value = 0.00001 if low > 0 or high < 0 else 0.4
    return Comparison(
        PRIMARY.name,
        arm,
        control,
        role,
        **empty,
        control_mean=control_mean,
        treatment_mean=control_mean * (1 + mid / 100),
        effect=mid / 25,
        ci_low=low / 25,
        ci_high=high / 25,
        effect_percent=mid,
        ci_low_percent=low,
        ci_high_percent=high,
        p_value=p_value,
        p_adjusted=p_value,
        mde_percent=2.0,
    )


def report_of(
    day: date | None = DAY,
    effect: Interval | None = (36.8, 32.0, 41.7),
    live: Interval | None = None,
    *,
    rule: PromotionRule | None = None,
    ratio: float = 0.4,
    arrivals: bool = True,
    source: str = "",
    **more: Any,
) -> Report:
    """A night's report, or one of given logs (``day`` None), before anything came of it.

    Args:
        effect, live: against the control and the live version, in percent with an interval. ratio: p of the sample ratio.
        arrivals: whether users came equally often. more: ``counts`` and ``guardrails`` that differ.
    """
    rule = rule or PromotionRule.model_validate({})
    counts, values = COUNTS | more.get("counts", {}), GOOD | more.get("guardrails", {})
    primary = compared(effect, "T1", "C", "primary")
    versus = compared(live, "T1", "L", "non_inferiority", primary.treatment_mean) if live else None
    came = compared((0.1, -1.0, 1.2) if arrivals else (9.0, 8.0, 10.0), "T1", "C", "validity")
    split = SampleRatio({"C": 450, "T1": 450}, {"C": 450.0, "T1": 450.0}, ratio, ratio >= rule.sample_ratio_alarm)
    found = decide(primary, versus, rule=rule, ratio=split, validity=[came], guardrails=values, counts=counts)
    arms = {"C": ("contextual", "contextual", ""), "T1": ("new version", "dae", version_of(day or DAY))}
    arms |= {"L": ("live version", "dae", LIVE)} if live else {}
    return Report(
        experiment="DAE_VS_CONTEXTUAL",
        control="C",
        treatments=["T1"],
        candidate="T1",
        live_arm="L" if live else None,
        log_date=str(day) if day else None,
        version=version_of(day) if day else "",
        users=counts["users"],
        sessions=counts["sessions"],
        metrics=[primary, came],
        against_live=versus,
        margin=rule.margin,
        adjusted=None,
        rule=rule,
        srm=split,
        decision=Decision(verdict=found.verdict, reasons=found.reasons, rules=list(found.lines)),
        guardrails=[],
        arms={
            name: ArmFigures(label=label, recommender=kind, version=version, users=450, sessions=1250, plays=9000, means={})
            for name, (label, kind, version) in arms.items()
        },
        activity=[],
        cumulative=[],
        counts=counts,
        warnings=[],
        provenance=Provenance(source=source or (f"experiments/date={day}" if day else "given logs"), assignment="recomputed"),
    )


def refused(day: date = DAY, reason: str = "NDCG@100 is 0.0312, that of popularity 0.0345: not surely better.") -> Report:
    """The report of a night whose model the gate refused."""
    return Report(
        experiment=None,
        control=None,
        treatments=[],
        candidate=None,
        live_arm=None,
        log_date=str(day),
        users=0,
        sessions=0,
        metrics=[],
        against_live=None,
        adjusted=None,
        rule=None,
        srm=SampleRatio({}, {}, None, False, "no experiment"),
        decision=Decision(verdict="gate_refused", reasons=[reason]),
        guardrails=[],
        arms={},
        activity=[],
        cumulative=[],
        counts={},
        warnings=[],
        provenance=Provenance(source=f"gates/date={day}"),
    )


def ended(report: Report, verdict: str, *reasons: str, live: str | None = None) -> Report:
    """The report with what came of the night: the rules' reasons, then others; ``live`` was live afterwards."""
    serving = live if live is not None else report.version if verdict == "promoted" else LIVE
    told = {"verdict": verdict, "reasons": [*report.decision.reasons, *reasons], "version": report.version, "live": serving}
    return report.model_copy(update={"outcome": Verdict.model_validate(told)})
