"""The first sentence of a report says what came of the night and by which number, whatever came of it."""

from dataclasses import replace

import pytest

from recsys.abtest.headline import BACKFILL, GATE_ALONE, NOT_ASKED, NOTHING_LIVE, beside_rules, headline
from recsys.abtest.rule import PromotionRule
from recsys.abtest.schema import Report
from tests.support.reports import DAY, LIVE, ended, refused, report_of, version_of

NONE, WORSE = (0.4, -1.0, 1.8), (-3.1, -5.0, -1.0)
WORSE_THAN_LIVE, NOT_SURE = (-14.8, -18.0, -11.0), (-0.5, -3.1, 2.1)
AT_LEAST_2 = PromotionRule.model_validate({"minimum_effect_percent": 2})
MOVED = "The live version moved to 2026-01-03-11111111 after this night began."
REQUESTS = "logs/date=2026-01-04, logs/date=2026-01-05"
LONGER = "listeners stay 36.8 % longer than with the control"


@pytest.mark.parametrize(
    ("report", "title"),
    [
        (ended(report_of(), "promoted"), f"Promoted: {LONGER}."),
        (ended(report_of(live=(1.2, -0.5, 3.0)), "promoted"), f"Promoted: {LONGER}."),
        (ended(report_of(live=WORSE_THAN_LIVE), "held"), "Held: listeners stay 14.8 % shorter than with the live version."),
        (
            ended(report_of(live=NOT_SURE), "held"),
            "Held: more than 2 % worse than the live version cannot be ruled out (−0.5 %, 95 % interval −3.1 % to +2.1 %).",
        ),
        (
            ended(report_of(effect=NONE), "held"),
            "Held: no difference from the control is shown (+0.4 %, 95 % interval −1.0 % to +1.8 %).",
        ),
        (
            ended(report_of(effect=WORSE, live=WORSE_THAN_LIVE), "held"),
            "Held: listeners stay 3.1 % shorter than with the control.",
        ),
        (
            ended(report_of(effect=(2.1, 0.5, 3.9), rule=AT_LEAST_2), "held"),
            "Held: not surely more than +2.0 % against the control (+2.1 %, 95 % interval +0.5 % to +3.9 %).",
        ),
        (ended(report_of(effect=None), "held"), "Held: no effect can be measured, because a mean is not above 0."),
        (ended(report_of(ratio=1e-6), "held"), "Held: the split between the arms is broken (p < 0.0001)."),
        (
            ended(report_of(counts={"users_in_two_arms": 1}), "held"),
            "Held: the split between the arms is broken: 1 user in two arms or in another than the design says.",
        ),
        (
            ended(report_of(arrivals=False, effect=NONE), "held"),
            "Held: listeners of one arm came more often, which no recommendation can cause.",
        ),
        (
            ended(report_of(counts={"malformed": 900}), "held"),
            "Held: too many lines of the logs are malformed, or too many sessions unfinished.",
        ),
        (ended(report_of(guardrails={"repeat_share": 0.07}), "held"), "Held: repeats 7.00 %, allowed at most 0.10 %."),
        (ended(report_of(), "held", NOT_ASKED), f"Held, although {LONGER}: promotion was not asked for."),
        (ended(report_of(), "held", BACKFILL), f"Held, although {LONGER}: a backfill promotes nothing unless it is asked to."),
        (
            ended(report_of(), "held", MOVED),
            f"Held, although {LONGER}: the live version moved to 2026-01-03-11111111 after this night began.",
        ),
        (
            ended(report_of(), "held", f"Not promoted: all promotions are held; {LIVE} stays live."),
            f"Held, although {LONGER}: all promotions are held; {LIVE} stays live.",
        ),
        (
            ended(report_of(), "held", f"Not promoted: {version_of(DAY)} was rolled back or held."),
            f"Held, although {LONGER}: 2026-01-05-0a1b2c3d was rolled back or held.",
        ),
        (refused(), "Refused by the gate: NDCG@100 is 0.0312, that of popularity 0.0345: not surely better."),
        (refused(reason="Only 1 user liked something new."), "Refused by the gate: only 1 user liked something new."),
        (report_of(), f"Not decided yet; the rules say promote: {LONGER}."),
        (
            report_of(live=WORSE_THAN_LIVE),
            "Not decided yet; the rules say hold: listeners stay 14.8 % shorter than with the live version.",
        ),
        (report_of(None), f"Better: {LONGER}."),
        (report_of(None, effect=WORSE), "Worse: listeners stay 3.1 % shorter than with the control."),
        (
            report_of(None, effect=NONE),
            "No difference from the control is shown (+0.4 %, 95 % interval −1.0 % to +1.8 %).",
        ),
        (report_of(None, live=WORSE_THAN_LIVE), "Not as good as live: listeners stay 14.8 % shorter than with the live version."),
        (report_of(None, ratio=1e-6), "Not to be trusted: the split between the arms is broken (p < 0.0001)."),
        (report_of(None, guardrails={"repeat_share": 0.07}), "A guardrail fails: repeats 7.00 %, allowed at most 0.10 %."),
        (report_of(None, effect=None), "No answer: no effect can be measured, because a mean is not above 0."),
        (
            ended(report_of(source=REQUESTS), "promoted", GATE_ALONE),
            f"Promoted: with what was live, {LONGER}.",
        ),
        (
            ended(report_of(effect=NONE, source=REQUESTS), "promoted", NOTHING_LIVE),
            "Promoted: nothing was live yet, and the candidate has passed the gate.",
        ),
        (ended(report_of(effect=NONE, source=REQUESTS), "held", NOTHING_LIVE, NOT_ASKED), "Held: promotion was not asked for."),
    ],
)
def test_the_first_sentence_is_what_came_of_it(report: Report, title: str) -> None:
    found = headline(report)
    assert found.title == title
    assert title.startswith(found.word)


def test_a_hold_is_told_by_the_number_that_decided_it() -> None:
    found = headline(ended(report_of(live=WORSE_THAN_LIVE), "held"))
    assert found.style == "hold"
    assert found.sure.startswith("The true effect against the live version lies between −18.0 % and −11.0 %")
    assert "Against the control it is +36.8 %" in found.sure
    assert "with L (live version)" in found.size
    assert found.outcome == f"{LIVE} stays live. 1 of 8 rules fails."
    assert headline(ended(report_of(effect=NONE, live=WORSE_THAN_LIVE), "held", live="")).outcome == (
        "Nothing is live. 2 of 8 rules fail."
    )


def test_what_cannot_be_trusted_is_not_told_as_if_it_could() -> None:
    assert headline(ended(report_of(ratio=1e-6), "held")).sure == (
        "No figure of this report can be trusted until that is explained."
    )


def test_a_report_without_a_night_promotes_nothing_and_one_without_a_verdict_says_so() -> None:
    assert "this report promotes nothing" in headline(report_of(None)).outcome
    assert "Nothing has been moved" in headline(report_of()).outcome
    assert headline(report_of()).style == "open"


def test_reports_of_real_listeners_say_what_they_speak_of() -> None:
    report = ended(report_of(source=REQUESTS), "promoted", GATE_ALONE)
    assert headline(report).outcome.endswith(GATE_ALONE)
    assert beside_rules(report) == [GATE_ALONE]
    assert beside_rules(report_of()) == []


@pytest.mark.parametrize(
    ("p_value", "said"), [(0.00001, "fewer than 1 of 10,000"), (0.0097, "about 97 of 10,000"), (1.0, "100 of 100")]
)
def test_a_p_value_is_told_as_so_many_of_so_many(p_value: float, said: str) -> None:
    report = report_of()
    primary = report.primary()
    assert primary
    metrics = [replace(primary, p_value=p_value), *report.metrics[1:]]
    assert said in headline(report.model_copy(update={"metrics": metrics})).sure
