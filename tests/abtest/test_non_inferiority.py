"""Guardrails as tests: what the margin allows and what it does not, the error budget, and losses that may not add up."""

import math
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from recsys.abtest import sequences
from recsys.abtest.analysis import welch
from recsys.abtest.headline import headline
from recsys.abtest.metrics import METRICS, PRIMARY, Metric
from recsys.abtest.non_inferiority import NonInferiority, guardrail_tests, of_comparison, within_budget
from recsys.abtest.reference import against_reference, last_shown_better
from recsys.abtest.report import analyse
from recsys.abtest.rule import Limit, PromotionRule
from recsys.abtest.schema import Report
from recsys.abtest.sessions import ExperimentLog, read_log
from recsys.experiments import Arm, Experiment
from recsys.storage.store import Storage
from tests.support.arms import heavy_tailed, users
from tests.support.documents import publish
from tests.support.reports import ended, report_of, version_of
from tests.support.traffic import records, write

pytestmark = pytest.mark.slow

DESIGN = Experiment("X", (Arm("C", "contextual"), Arm("T1", "dae"), Arm("L", "dae")))
DAY = date(2026, 1, 5)


def log_of(path: Path, fallback: dict[str, float], **more: Any) -> ExperimentLog:
    """A log in whose arms so large a share of the answers comes from the TOP 100, more for some users than for others."""
    rng, rows = np.random.default_rng(1), records(DESIGN, users=600, sessions=1800)
    prone = rng.gamma(0.5, 2.0, 600)
    for row in rows:
        arm = DESIGN.arm_of(row["user"]).name
        row |= {"source": "top100" if rng.random() < fallback.get(arm, 0.0) * prone[row["user"]] else row["source"], **more}
    return read_log(write(path, rows), "X")


def test_a_share_is_compared_with_the_other_arm_by_users(tmp_path: Path) -> None:
    found = log_of(tmp_path / "a.jsonl", {"T1": 0.08, "L": 0.03, "C": 0.5})
    tests = {test.name: test for test in guardrail_tests(found, PromotionRule(), "T1", "L")}
    assert tests.keys() == {"fallback_share", "degraded_share"}
    test = tests["fallback_share"]
    served = [found.served_of_arm(arm) for arm in ("L", "T1")]
    metric = Metric("f", "", "", "cost", "", "fallback", "sourced", "ratio")
    expected = welch(metric, *served)
    assert (test.ci_low, test.ci_high) == pytest.approx([100 * (expected.ci_low or 0), 100 * (expected.ci_high or 0)])
    for value, arm in ((test.value, "T1"), (test.control_value, "L")):
        assert value == pytest.approx(found.guardrails[arm]["fallback_share"])
    assert not test.ok  # five points more, with an interval around it
    wide = PromotionRule(guardrails={"fallback_share": Limit(margin=0.1)})
    assert guardrail_tests(found, wide, "T1", "L")[0].ok
    assert guardrail_tests(found, PromotionRule(), "T1", "C")[0].ok  # the control falls back much more
    none = tests["degraded_share"]
    assert (none.ok, none.value, none.ci_high) == (True, 0.0, None)
    off = PromotionRule(guardrails={"fallback_share": Limit(), "degraded_share": Limit()})
    assert guardrail_tests(found, off, "T1", "L") == []


def test_a_log_that_tells_no_source_has_no_such_guardrail(tmp_path: Path) -> None:
    found = log_of(tmp_path / "a.jsonl", {}, source=None, degraded=None)
    assert guardrail_tests(found, PromotionRule(), "T1", "L") == []


def test_answers_without_redis_count_by_user(tmp_path: Path) -> None:
    rows = records(DESIGN, users=300, sessions=900)
    alone = [
        {**row, "session": -1, "degraded": True}
        for row in rows
        if row["message"] == "next" and DESIGN.arm_of(row["user"]).name == "T1" and row["user"] % 3
    ]
    found = read_log(write(tmp_path / "a.jsonl", [*rows, *alone]), "X")
    test = next(test for test in guardrail_tests(found, PromotionRule(), "T1", "L") if test.name == "degraded_share")
    assert test.value == pytest.approx(found.guardrails["T1"]["degraded_share"])
    assert not test.ok
    assert test.ci_low is not None
    assert test.ci_low > 10


@pytest.mark.parametrize("name", ["latency_p99", "mean_request_time"])
def test_latency_may_be_a_guardrail(tmp_path: Path, name: str) -> None:
    rows = records(DESIGN, users=600, sessions=1800)
    slow = [{**row, "latency": row["latency"] * (1.5 if DESIGN.arm_of(row["user"]).name == "T1" else 1)} for row in rows]
    found = read_log(write(tmp_path / "a.jsonl", slow), "X")

    def tested(margin: float) -> NonInferiority:
        return next(
            t for t in guardrail_tests(found, PromotionRule(guardrails={name: Limit(margin=margin)}), "T1", "C") if t.name == name
        )

    assert not tested(0.2).ok
    assert tested(1.0).ok
    assert tested(1.0).effect == pytest.approx(50, abs=25)


def test_a_metric_may_be_a_guardrail(tmp_path: Path) -> None:
    found = read_log(write(tmp_path / "a.jsonl", records(DESIGN, users=600, sessions=1800)), "X")
    rule = PromotionRule(guardrails={"time_per_play": Limit(margin=0.1)})
    test = next(test for test in guardrail_tests(found, rule, "T1", "C") if test.name == "time_per_play")
    assert test.ok
    assert not of_comparison(replace(welch(METRICS[3], found.of_arm("C"), found.of_arm("T1"))), METRICS[3], 1e-6).ok


def test_a_test_that_is_looked_at_every_night_has_the_bounds_of_a_confidence_sequence(tmp_path: Path) -> None:
    found = log_of(tmp_path / "a.jsonl", {"T1": 0.08, "L": 0.03}, latency=None)
    rule = PromotionRule(guardrails={"time_per_play": Limit(margin=0.2)})
    users = sum(len(found.of_arm(arm)["user"]) for arm in ("T1", "L"))
    once = guardrail_tests(found, rule, "T1", "L")
    share, _, metric = within_budget(once, users, 1000)
    served = [found.served_of_arm(arm) for arm in ("L", "T1")]
    arms = []
    for columns in served:
        part, whole = (np.asarray(columns[name], np.float64) for name in ("fallback", "sourced"))
        mean = part.sum() / whole.sum()
        arms.append(sequences.Arm.of_values(mean + (part - mean * whole) / whole.mean()))
    bounds = sequences.difference(*arms, planned=1000)
    assert (share.ci_low, share.ci_high) == pytest.approx([100 * float(bounds.low), 100 * float(bounds.high)], rel=0.02)
    assert share.interval == "95 % interval for all nights"
    plain = once[2]
    wider = float(sequences.radius(1000)(users)) / stats.norm.ppf(0.975)
    for end, far in ((plain.ci_low, metric.ci_low), (plain.ci_high, metric.ci_high)):
        told = [math.log1p((value or 0.0) / 100) for value in (plain.effect, end, far)]
        assert told[2] - told[0] == pytest.approx(wider * (told[1] - told[0]))
    narrow = replace(plain, margin=((plain.ci_high or 0) + (metric.ci_high or 0)) / 2, ok=True, higher_is_better=False)
    assert not within_budget([narrow], users, 1000)[0].ok  # ruled out at one look, but not at all nights


def test_the_error_budget_keeps_the_power_of_all_tests_together() -> None:
    """At the margins that are shown, an equal candidate passes all tests and finds the effect with 80 % together."""
    rng, count = np.random.default_rng(2), 4
    results = [welch(PRIMARY, users(heavy_tailed(rng, 2000)), users(heavy_tailed(rng, 2000))) for _ in range(count)]
    points = NonInferiority("f", "", "T1", "L", "points", False, 5.0, 0.0, 0.0, 0.0, -1.0, 1.0, ok=True)
    budget = within_budget([*(of_comparison(result, PRIMARY, 0.02) for result in results), points])
    beta, z = 0.2 / (count + 2), stats.norm.ppf(0.975)
    for test in budget:
        assert test.ci_low is not None
        assert test.ci_high is not None
        assert test.shows is not None
        half, margin = (test.ci_high - test.ci_low) / 2, test.shows
        if test.unit == "percent":
            half, margin = (math.log1p(test.ci_high / 100) - math.log1p(test.ci_low / 100)) / 2, -math.log1p(-test.shows / 100)
        passes = stats.norm.cdf(margin / half * z - z)
        assert passes == pytest.approx(1 - beta)
    assert within_budget([]) == []


def test_the_report_says_which_guardrail_fails(tmp_path: Path) -> None:
    rng, rows = np.random.default_rng(4), records(DESIGN, users=600, sessions=1800, lift={"T1": 2.0})
    for row in rows:
        if DESIGN.arm_of(row["user"]).name == "T1" and rng.random() < 0.2:
            row["source"] = "top100"
    logs = write(tmp_path / "a.jsonl", rows)
    report = analyse(logs, "X", "C", ["T1"], live="L", out=tmp_path / "out")
    assert [rule.rule for rule in report.decision.rules if not rule.ok] == ["fallback_share"]
    assert [test.name for test in report.guardrail_tests] == ["mean_session_time", "fallback_share", "degraded_share"]
    assert "it is more than 5 points worse" in report.decision.reasons[-2]
    assert headline(report).title.startswith("A guardrail fails: fallback of T1 against L ")
    assert "What must not get worse" in (tmp_path / "out/report.html").read_text()


def nights(store: Storage, *given: tuple[tuple[float, float, float] | None, str]) -> list[date]:
    """Nights from DAY on: the effect against what was live (None: nothing was), and the verdict."""
    days = []
    for number, (live, verdict) in enumerate(given):
        day = DAY + timedelta(days=number)
        report = ended(report_of(day, live=live), verdict)
        assert report.outcome
        publish(store, day, report)
        publish(store, day, report.outcome)
        days.append(day)
    return days


def test_the_reference_is_the_last_version_that_was_shown_better(tmp_path: Path) -> None:
    store = Storage(f"file://{tmp_path}")
    first, better, *later = nights(
        store,
        (None, "promoted"),
        ((4.0, 1.0, 7.0), "promoted"),
        ((-0.5, -1.9, 0.9), "promoted"),
        ((9.0, 5.0, 12.0), "held"),
        ((-0.4, -1.8, 1.0), "promoted"),
    )
    tonight = DAY + timedelta(days=9)
    assert last_shown_better(store, tonight, version_of(later[-1])) == better
    assert last_shown_better(store, tonight, version_of(better)) is None  # it is live: they meet on the same night
    assert last_shown_better(store, later[0], version_of(better)) is None
    assert last_shown_better(store, tonight, version_of(first)) is None
    assert last_shown_better(store, tonight, "") is None
    # A person went back to the first one, and the next night promoted nothing.
    assert last_shown_better(store, better, version_of(first)) is None


def test_small_losses_cannot_add_up(tmp_path: Path) -> None:
    then = report_of(DAY, effect=(30.0, 29.0, 31.0))
    now = report_of(DAY + timedelta(days=5), effect=(26.0, 25.0, 27.0)).primary()
    found = against_reference(now, then)
    assert found is not None
    assert (found.role, found.arm, found.control) == ("reference", "T1", version_of(DAY))
    assert found.effect_percent == pytest.approx(100 * (1.26 / 1.30 - 1))
    half = math.hypot(math.log(1.27 / 1.25), math.log(1.31 / 1.29)) / 2
    assert found.ci_low_percent == pytest.approx(100 * (1.26 / 1.30 * math.exp(-half) - 1))
    rule = PromotionRule()
    assert rule.total_margin == pytest.approx(0.03)
    assert found.ci_low_percent < -3  # three per cent worse than the reference cannot be ruled out
    assert against_reference(None, then) is None
    assert against_reference(now, report_of(DAY, effect=None)) is None


def test_intervals_against_the_reference_cover() -> None:
    rng, covered, runs = np.random.default_rng(6), 0, 150
    for _ in range(runs):
        nightly = []
        for worth, lift in ((3.0, 1.3), (4.0, 1.25)):
            arms = [worth * heavy_tailed(rng, 500), lift * worth * heavy_tailed(rng, 500)]
            nightly.append(replace(welch(PRIMARY, *map(users, arms)), arm="T1", control="C", role="primary"))
        then: Report = report_of(DAY).model_copy(update={"metrics": [nightly[0]]})
        found = against_reference(nightly[1], then)
        assert found is not None
        covered += (found.ci_low_percent or 0) <= 100 * (1.25 / 1.3 - 1) <= (found.ci_high_percent or 0)
    low, high = stats.binom.interval(0.999, runs, 0.95)
    assert low <= covered <= high
