"""The promotion rule: every condition can hold the candidate back, and says so."""

from dataclasses import replace
from typing import Any

import pytest

from recsys.abtest.analysis import Comparison, SampleRatio
from recsys.abtest.decision import decide
from recsys.abtest.non_inferiority import NonInferiority
from recsys.abtest.rule import Limit, PromotionRule

COUNTS = {
    "events": 10_000,
    "malformed": 0,
    "repeated": 0,
    "sessions": 1000,
    "unfinished_sessions": 0,
    "users": 900,
    "users_in_two_arms": 0,
    "misassigned": 0,
}
BETTER = Comparison(
    "mean_session_time", "T1", "C", "primary", 450, 450, 2.0, 2.2, 0.2, 0.1, 0.3, 10.0, 5.0, 15.0, 0.001, 0.004, 7.0
)
LIVE = replace(BETTER, control="L", role="non_inferiority", effect_percent=0.5, ci_low_percent=-1.5, ci_high_percent=2.5)
ARRIVALS = replace(BETTER, name="sessions", role="validity", p_value=0.4)
FALLBACK = NonInferiority(
    "fallback_share", "Fallback", "T1", "L", "points", False, 5.0, 0.02, 0.01, 1.0, -0.5, 2.5, ok=True, shows=2.0
)
RATIO = SampleRatio({"C": 450, "T1": 450}, {"C": 450.0, "T1": 450.0}, 1.0, True)
GUARDRAILS = {"repeat_share": 0.0, "fallback_share": 0.01, "degraded_share": 0.0, "coverage_share": 0.3, "latency_p99": 4.0}


def verdict(**changes: Any) -> tuple[str, list[str]]:
    """The verdict with some inputs changed, and the names of the rules that fail."""
    given: dict[str, Any] = {
        "primary": BETTER,
        "live": LIVE,
        "rule": PromotionRule(),
        "ratio": RATIO,
        "validity": [ARRIVALS],
        "guardrails": GUARDRAILS,
        "counts": COUNTS,
        **changes,
    }
    primary, live = given.pop("primary"), given.pop("live")
    found = decide(primary, live, **given)
    assert len(found.reasons) == len(found.lines)
    assert all(reason.endswith(".") for reason in found.reasons)
    return found.verdict, [line.rule for line in found.lines if not line.ok]


def test_all_rules_hold() -> None:
    assert verdict() == ("promote", [])
    assert verdict(live=None) == ("promote", [])
    assert verdict(tests=[FALLBACK], before=[replace(ARRIVALS, role="before")]) == ("promote", [])
    assert verdict(reference=replace(LIVE, ci_low_percent=-2.9)) == ("promote", [])


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"primary": replace(BETTER, ci_low_percent=-0.1)}, "better than control"),
        ({"primary": replace(BETTER, effect_percent=-9.0, ci_low_percent=-12.0, ci_high_percent=-6.0)}, "better than control"),
        ({"primary": None}, "better than control"),
        ({"primary": replace(BETTER, effect_percent=None, ci_low_percent=None, reason="why")}, "better than control"),
        ({"live": replace(LIVE, ci_low_percent=-2.5)}, "not worse than live"),
        ({"live": replace(LIVE, ci_low_percent=-9.0, ci_high_percent=-5.0)}, "not worse than live"),
        ({"live": replace(LIVE, effect_percent=None, ci_low_percent=None, reason="why")}, "not worse than live"),
        ({"ratio": replace(RATIO, p_value=1e-9, ok=False)}, "sample ratio"),
        ({"ratio": SampleRatio({}, {}, None, False, "there are no users")}, "sample ratio"),
        ({"counts": {**COUNTS, "users_in_two_arms": 1}}, "assignment"),
        ({"counts": {**COUNTS, "misassigned": 3}}, "assignment"),
        ({"counts": {**COUNTS, "malformed": 200}}, "logs"),
        ({"counts": {**COUNTS, "unfinished_sessions": 20}}, "logs"),
        ({"validity": [replace(ARRIVALS, p_value=1e-5)]}, "arrivals"),
        ({"guardrails": {**GUARDRAILS, "repeat_share": 0.01}}, "repeat_share"),
        ({"tests": [FALLBACK, replace(FALLBACK, ci_high=5.1, ok=False)]}, "fallback_share"),
        ({"tests": [replace(FALLBACK, ci_low=None, ci_high=None, ok=False, reason="why")]}, "fallback_share"),
        ({"reference": replace(LIVE, control="2026-01-01-0a1b2c3d", ci_low_percent=-3.1)}, "not worse than reference"),
        ({"before": [replace(ARRIVALS, role="before", p_value=1e-5)]}, "before"),
        ({"guardrails": {**GUARDRAILS, "coverage_share": 0.001}}, "coverage_share"),
    ],
)
def test_one_broken_rule_holds_the_candidate(changes: dict[str, Any], rule: str) -> None:
    assert verdict(**changes) == ("hold", [rule])


def test_timings_and_what_is_not_logged_decide_nothing() -> None:
    assert verdict(guardrails={**GUARDRAILS, "latency_p99": 9e9}) == ("promote", [])
    assert verdict(guardrails={"repeat_share": 0.0, "coverage_share": None}) == ("promote", [])


def test_the_configured_limits_apply() -> None:
    assert verdict(rule=PromotionRule(minimum_effect_percent=6)) == ("hold", ["better than control"])
    assert verdict(rule=PromotionRule(margin=0.01)) == ("hold", ["not worse than live"])
    assert verdict(rule=PromotionRule(guardrails={"coverage_share": Limit(at_least=0.5)})) == ("hold", ["coverage_share"])
    assert verdict(rule=PromotionRule(arrivals_alarm=0.5)) == ("hold", ["arrivals"])
    lost = {**COUNTS, "malformed": 200}
    assert verdict(rule=PromotionRule(max_dropped=0.05), counts=lost) == ("promote", [])
