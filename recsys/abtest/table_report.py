"""The A/B report of a table of users: report.json, report.html and pictures of anybody's experiment.

In go the words of :class:`~recsys.abtest.table.Asked`; out comes the same :class:`~recsys.abtest.schema.Report` as of logs,
without what only logs tell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from recsys.abtest.analysis import CONFIDENCE, EARLIER, POWER, Adjusted, compare_arms, sample_ratio
from recsys.abtest.decision import decide_table
from recsys.abtest.methods import methods_of
from recsys.abtest.metrics import Columns, Metric
from recsys.abtest.page import write_page
from recsys.abtest.pictures import draw_table
from recsys.abtest.rule import PromotionRule, load_rule
from recsys.abtest.schema import ArmFigures, Decision, Provenance, ReadFiles, Report, TableColumns
from recsys.abtest.spread import spread_of
from recsys.abtest.table import Asked, UserTable, read_table
from recsys.abtest.trust import adjusted, arms_before, winsorise


def analyse_table(asked: Asked, *, promotion: Path | None = None, out: Path | None = None) -> Report:
    """Analyse a table of users.

    Args:
        promotion: YAML file of the promotion rule: alarms, the least effect, the winsorised share. out: where the files go.

    Raises:
        InvalidInputError: as :func:`recsys.abtest.table.read_table`.
    """
    found, rule = read_table(asked), load_rule(promotion)
    report = document_of_table(found, asked, rule)
    if out is None:
        return report
    out.mkdir(parents=True, exist_ok=True)
    candidate = report.candidate
    arms = {arm: found.of_arm(arm) for arm in (asked.control, candidate) if arm}
    spread = spread_of(found.metrics[0], arms, report.winsorised)
    report = report.model_copy(update={"pictures": draw_table(report, spread, out)})
    report.write(out)
    write_page(out, report)
    return report


def document_of_table(found: UserTable, asked: Asked, rule: PromotionRule) -> Report:
    """The report's document: everything that the table says."""
    known = list(dict.fromkeys([*(asked.shares or ()), *found.arms]))
    control, treatments = asked.control, [arm for arm in known if arm != asked.control]
    users = {arm: found.of_arm(arm) for arm in [control, *treatments]}
    compared = compare_arms(users, control, treatments, metrics=found.metrics)
    candidate, first = next(iter(treatments), None), found.metrics[0]
    primary = next((row for row in compared if row.role == "primary" and row.arm == candidate), None)
    shares = dict(asked.shares or dict.fromkeys(known, 1.0))
    ratio = sample_ratio({arm: len(columns["arm"]) for arm, columns in users.items()}, shares, alarm=rule.sample_ratio_alarm)
    before = [row for metric, _ in found.earlier.values() for row in arms_before(metric, users, control, treatments)]
    cuped = _adjusted(found, users, control, treatments)
    winsorised = None
    if candidate:
        drawn_in = winsorise(first, users[control], users[candidate], rule.winsorised_share)
        winsorised = replace(drawn_in, arm=candidate, control=control) if drawn_in else None
    decision = decide_table(primary, rule=rule, ratio=ratio, before=before, counts=found.counts)
    mine = next((row for row in cuped if row.name == first.name and row.arm == candidate), None)
    return Report(
        experiment=asked.path.name,
        control=control,
        treatments=treatments,
        candidate=candidate,
        live_arm=None,
        users=found.counts["users"],
        sessions=0,
        metrics=compared,
        against_live=None,
        adjusted=mine,
        also_adjusted=[row for row in cuped if row is not mine],
        winsorised=winsorised,
        before=before,
        methods=methods_of(compared, cuped, winsorised, "what the users' covariates say of them"),
        table=_columns(found, asked),
        rule=rule,
        confidence=CONFIDENCE,
        power=POWER,
        srm=ratio,
        decision=Decision(verdict=decision.verdict, reasons=decision.reasons, rules=list(decision.lines)),
        guardrails=[],
        arms={arm: _arm(arm, columns, found.metrics) for arm, columns in users.items()},
        activity=[],
        cumulative=[],
        counts=found.counts,
        warnings=list(found.warnings),
        provenance=Provenance(
            source=f"table {asked.path.name}",
            assignment="as the table says",
            timing=ReadFiles(checksum=found.checksum, files=1),
        ),
    )


def _adjusted(found: UserTable, users: Mapping[str, Columns], control: str, treatments: Sequence[str]) -> list[Adjusted]:
    """Every comparison of a metric that has a covariate, with CUPED."""
    rows = []
    for metric in found.metrics:
        if metric.name in found.earlier:
            _, names = found.earlier[metric.name]
            earlier = {arm: {c: columns[name] for c, name in zip(EARLIER, names, strict=False)} for arm, columns in users.items()}
            rows += [adjusted(metric, users, earlier, control, arm) for arm in treatments]
    return rows


def _columns(found: UserTable, asked: Asked) -> TableColumns:
    return TableColumns(
        file=asked.path.name,
        rows=found.counts["rows"],
        unit=asked.unit,
        arm=asked.arm,
        metrics={metric.name: metric.definition for metric in found.metrics},
        covariates={name: metric.definition for name, (metric, _) in found.earlier.items()},
    )


def _arm(arm: str, users: Columns, metrics: Sequence[Metric]) -> ArmFigures:
    means = {}
    for metric in metrics:
        numerator, denominator = metric.parts(users)
        divided = float(denominator.sum()) if metric.kind == "ratio" else float(len(numerator))
        value = (
            float(numerator.sum() if metric.kind == "ratio" else (numerator / denominator).sum()) / divided if divided else np.nan
        )
        if np.isfinite(value):
            means[metric.name] = value
    return ArmFigures(label=arm, users=len(users["arm"]), sessions=0, plays=0, means=means)
