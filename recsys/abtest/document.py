"""From an experiment's log to the report's document: numbers and words, without files and pictures.

In goes an :class:`~recsys.abtest.sessions.ExperimentLog`; out comes a :class:`~recsys.abtest.schema.Report`, without pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from recsys.abtest.analysis import (
    CONFIDENCE,
    POWER,
    Adjusted,
    Comparison,
    against_live,
    compare_arms,
    sample_ratio,
    welch,
)
from recsys.abtest.decision import decide
from recsys.abtest.methods import methods_of
from recsys.abtest.metrics import METRICS, PRIMARY, Columns, Guardrail
from recsys.abtest.non_inferiority import NonInferiority, guardrail_tests, of_comparison, within_budget
from recsys.abtest.reference import against_reference
from recsys.abtest.rule import PromotionRule
from recsys.abtest.schema import ArmFigures, Brief, Decision, GuardrailRow, Provenance, Report
from recsys.abtest.sessions import Before, ExperimentLog
from recsys.abtest.trust import Winsorised, adjusted, arms_before, earlier_of, winsorise
from recsys.abtest.watch import Plan, watch

#: Names of arms that are looked for.
CONTROL, CANDIDATE = "C", "T1"
#: Bounds of sessions a user between the groups of the effect by activity.
ACTIVITY = ((1, 1), (2, 3), (4, None))
MAX_CUMULATIVE = 12


def document_of(
    found: ExperimentLog,
    control: str,
    treatments: list[str],
    live: str | None,
    *,
    shares: Mapping[str, float],
    rule: PromotionRule,
    before: Before | None = None,
    plan: Plan | None = None,
    reference: Report | None = None,
) -> Report:
    """The report's document: everything that the log alone says.

    Args:
        shares: weights of the arms that the design has. before: the users' earlier sessions, for the adjusted comparison.
        plan: of an experiment that is looked at every night, for the comparison that decides.
        reference: the report of the last version that was shown better.
    """
    context = [live] if live else []
    users = {arm: found.of_arm(arm) for arm in dict.fromkeys([control, *treatments, *context])}
    compared = compare_arms(users, control, treatments, context=context)
    candidate = CANDIDATE if CANDIDATE in treatments else next(iter(treatments), None)
    primary = next((c for c in compared if c.role == "primary" and c.arm == candidate), None)
    versus = against_live(users[candidate], users[live], candidate, live) if candidate and live else None
    ratio = sample_ratio({arm: len(found.of_arm(arm)["user"]) for arm in shares}, shares, alarm=rule.sample_ratio_alarm)
    before_columns = {arm: before.of(columns["user"]) for arm, columns in users.items()} if before else {}
    cuped = _adjusted(users, control, candidate, before_columns)
    drawn_in = _winsorised(users, control, candidate, rule.winsorised_share)
    alike = arms_before(PRIMARY, before_columns, control, [*treatments, *context]) if before else []
    lasting = against_reference(primary, reference) if reference else None
    tests = _tests(found, rule, candidate, live or control, [(versus, rule.margin), (lasting, rule.total_margin)], plan)
    watched = watch(found, control, candidate, plan) if plan and candidate else None
    decision = decide(
        watched or primary,
        versus,
        rule=rule,
        ratio=ratio,
        validity=[c for c in compared if c.role == "validity"],
        guardrails=found.guardrails.get(candidate or "", {}),
        counts=found.counts,
        before=alike,
        reference=lasting,
        tests=[test for test in tests if test.name != PRIMARY.name],
    )
    return Report(
        experiment=found.experiment,
        control=control,
        treatments=treatments,
        candidate=candidate,
        live_arm=live,
        users=found.counts["users"],
        sessions=found.counts["sessions"],
        metrics=compared,
        against_live=versus,
        against_reference=lasting,
        guardrail_tests=tests,
        margin=rule.margin,
        watched=watched,
        adjusted=next((row for row in cuped if row.name == PRIMARY.name), None),
        also_adjusted=[row for row in cuped if row.name != PRIMARY.name],
        winsorised=drawn_in,
        before=alike,
        methods=methods_of(
            compared, cuped, drawn_in, "the users' sessions in the logs from", guardrails=len(tests), watched=watched
        ),
        rule=rule,
        confidence=CONFIDENCE,
        power=POWER,
        srm=ratio,
        decision=Decision(verdict=decision.verdict, reasons=decision.reasons, rules=list(decision.lines)),
        guardrails=_guardrail_rows(found, list(users), rule.limited()),
        arms={arm: _arm(arm, columns) for arm, columns in users.items()},
        activity=_activity(users, control, candidate),
        cumulative=_cumulative(found, control, candidate),
        counts=found.counts,
        warnings=list(found.warnings),
        provenance=Provenance(source=""),
    )


def _adjusted(users: Mapping[str, Columns], control: str, candidate: str | None, before: Mapping[str, Columns]) -> list[Adjusted]:
    """The candidate's comparisons with CUPED, the primary one first; none where nothing is known from before the experiment."""
    if candidate is None or not before:
        return []
    rows = []
    for metric in (metric for metric in METRICS if metric.role in ("primary", "secondary")):
        earlier = {arm: earlier_of(metric, before[arm]) for arm in (control, candidate)}
        known = {arm: columns for arm, columns in earlier.items() if columns is not None}
        if len(known) == len(earlier):
            rows.append(adjusted(metric, users, known, control, candidate))
    return rows


def _winsorised(users: Mapping[str, Columns], control: str, candidate: str | None, share: float) -> Winsorised | None:
    """The primary comparison with the most extreme values drawn in."""
    found = winsorise(PRIMARY, users[control], users[candidate], share) if candidate else None
    return replace(found, arm=candidate or "", control=control) if found else None


def _tests(
    found: ExperimentLog,
    rule: PromotionRule,
    arm: str | None,
    control: str,
    relative: Sequence[tuple[Comparison | None, float]],
    plan: Plan | None,
) -> list[NonInferiority]:
    """What must not get worse: the primary metric, against other versions, then the guardrails; all in one error budget."""
    if arm is None:
        return []
    primary = [of_comparison(row, PRIMARY, margin) for row, margin in relative if row is not None]
    users = sum(len(found.of_arm(name)["user"]) for name in (arm, control))
    return within_budget([*primary, *guardrail_tests(found, rule, arm, control)], users, plan.planned_users if plan else None)


def _arm(arm: str, users: Columns) -> ArmFigures:
    counted = len(users["user"])
    means = {m.name: float(m.values(users).mean()) for m in METRICS if m.kind == "mean" and not m.timing} if counted else {}
    sessions, plays = int(users["sessions"].sum()), int(users["steps"].sum())
    return ArmFigures(label=arm, users=counted, sessions=sessions, plays=plays, means=means)


def _guardrail_rows(found: ExperimentLog, arms: Sequence[str], limited: Sequence[Guardrail]) -> list[GuardrailRow]:
    """One row a guardrail and arm; value None where the log does not tell."""
    return [
        _guardrail_row(guardrail, arm, found.guardrails.get(arm, {}).get(guardrail.name), found.latencies.get(arm, {}))
        for guardrail in limited
        for arm in arms
    ]


def _guardrail_row(
    guardrail: Guardrail, arm: str, value: float | None, intervals: Mapping[str, tuple[float, float]]
) -> GuardrailRow:
    low, high = intervals.get(guardrail.name, (None, None))
    return GuardrailRow(
        name=guardrail.name,
        label=guardrail.label,
        unit=guardrail.unit,
        arm=arm,
        value=value,
        at_most=guardrail.at_most,
        at_least=guardrail.at_least,
        margin=guardrail.margin,
        ci_low=low,
        ci_high=high,
        ok=None if value is None else guardrail.holds(value),
    )


def _activity(users: Mapping[str, Columns], control: str, candidate: str | None) -> list[Brief]:
    """The primary effect among users with few and with many sessions; exploratory, decides nothing."""
    if candidate is None:
        return []
    rows = []
    for low, high in ACTIVITY:
        groups = []
        for arm in (control, candidate):
            kept = (users[arm]["sessions"] >= low) & (users[arm]["sessions"] <= (high or np.inf))
            groups.append({name: column[kept] for name, column in users[arm].items()})
        label = f"{low}" if high == low else f"{low} to {high}" if high else f"{low} or more"
        rows.append(_brief(welch(PRIMARY, *groups), label))
    return rows


def _cumulative(found: ExperimentLog, control: str, candidate: str | None) -> list[Brief]:
    """The primary effect when only each user's first k sessions are counted."""
    if candidate is None or not found.counts["sessions"]:
        return []
    ordinal = found.sessions["ordinal"]
    last = min(MAX_CUMULATIVE, int(np.quantile(ordinal, 0.99)) + 1)
    rows = []
    for k in range(1, last + 1):
        groups = []
        for arm in (control, candidate):
            sessions = found.sessions_of_arm(arm)
            first = sessions["ordinal"] < k
            index, inverse = np.unique(sessions["user"][first], return_inverse=True)
            groups.append(
                {
                    "time": np.bincount(inverse, sessions["time"][first], minlength=len(index)),
                    "sessions": np.bincount(inverse, minlength=len(index)),
                }
            )
        rows.append(_brief(welch(PRIMARY, *groups), k))
    return rows


def _brief(result: Comparison, sessions_a_user: str | int) -> Brief:
    return Brief(
        sessions_a_user=sessions_a_user,
        control_users=result.control_users,
        treatment_users=result.treatment_users,
        control_mean=result.control_mean,
        treatment_mean=result.treatment_mean,
        effect_percent=result.effect_percent,
        ci_low_percent=result.ci_low_percent,
        ci_high_percent=result.ci_high_percent,
        reason=result.reason,
    )
