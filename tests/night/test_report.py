"""The report of a night: complete, the same for the same logs, and finished by the verdict."""

import json
import shutil
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.abtest.calibration import LAST, CalibratedMetric, Calibration, Coverage
from recsys.abtest.schema import Paired, PairedComparison, Report
from recsys.exceptions import MissingDataError
from recsys.experiments import Arm, Experiment
from recsys.night.night import Night
from recsys.night.report import build_refused_report, build_report, finish_report
from tests.support.documents import as_json, card, experiment, full_gate, gate, inputs, night_of, publish, verdict
from tests.support.pages import SHAPE, assert_self_contained, strict
from tests.support.reports import report_of, version_of
from tests.support.traffic import records

pytestmark = pytest.mark.slow

NIGHT = date(2026, 11, 23)
VERSION = "2026-11-23-0a1b2c3d"
DESIGN = Experiment(
    "DAE_VS_CONTEXTUAL",
    (Arm("C", "contextual"), Arm("T1", "dae", VERSION), Arm("L", "dae", "2026-11-20-99aabbcc")),
    salt="2026-11-23",
)
PICTURES = ("effects", "session-time", "survival", "cumulative")
#: What depends on more than the night's own data: what happened afterwards, and what else stands in the storage.
CONTEXT = ("outcome", "calibration", "paired", "history", "pictures")

Finished = tuple[Night, dict[str, Any], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    rows = records(DESIGN, users=600, sessions=2400, lift={"T1": 1.8, "L": 1.4})
    night = night_of(tmp_path_factory.mktemp("night"), NIGHT)
    experiment(night, DESIGN, rows)
    return night, as_json(build_report(night)), rows


def test_report_of_a_better_candidate_promotes(finished: Finished) -> None:
    night, document, rows = finished
    directory = night.store.local(night.report)
    assert strict(directory / "report.json") == document
    assert document["decision"]["verdict"] == "promote", document["decision"]
    assert (document["experiment"], document["control"], document["candidate"]) == ("DAE_VS_CONTEXTUAL", "C", "T1")
    assert document["live_arm"] == "L"
    assert (document["log_date"], document["version"]) == ("2026-11-23", VERSION)
    assert document["sessions"] == document["counts"]["last"] == 2400
    assert document["counts"]["events"] == len(rows)
    needed = {
        "name",
        "arm",
        "control_mean",
        "treatment_mean",
        "effect_percent",
        "ci_low_percent",
        "ci_high_percent",
        "p_value",
        "p_adjusted",
        "role",
    }
    assert all(needed <= row.keys() for row in document["metrics"])
    primary = document["metrics"][0]
    assert primary["ci_low_percent"] < primary["effect_percent"] < primary["ci_high_percent"]
    assert sum(arm["users"] for arm in document["arms"].values()) == document["users"]
    assert next(r for r in document["guardrails"] if r["name"] == "coverage_share")["value"] > 0.9


def test_page_is_self_contained_and_readable(finished: Finished) -> None:
    night, document, _ = finished
    directory = night.store.local(night.report)
    text = (directory / "report.html").read_text()
    assert_self_contained(text)
    assert "</b>; the rules say promote: listeners stay" in text
    assert "contextual" in text
    for reason in document["decision"]["reasons"]:
        assert reason.split(":")[0] in text
    for name in PICTURES:
        for suffix in ("", "-dark"):
            assert (directory / f"{name}{suffix}.png").read_bytes().startswith(b"\x89PNG")


def test_same_logs_give_the_same_files_and_timings_stand_apart(finished: Finished, tmp_path: Path) -> None:
    night, _, rows = finished
    slower = night_of(tmp_path, NIGHT)
    experiment(slower, DESIGN, [{**row, "latency": row["latency"] * 3} for row in rows[::-1]])
    build_report(slower)
    second = slower.store.local(slower.report)
    first = night.store.local(night.report)

    def without_times(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: without_times(v) for k, v in value.items() if k != "timing" and k not in CONTEXT}
        if isinstance(value, list):
            timed = ("mean_request_time", "latency_p50", "latency_p99")
            return [without_times(v) for v in value if not (isinstance(v, dict) and v.get("name") in timed)]
        return value

    assert without_times(strict(second / "report.json")) == without_times(strict(first / "report.json"))
    for name in PICTURES:
        assert (second / f"{name}.png").read_bytes() == (first / f"{name}.png").read_bytes()


def test_the_committed_shape_is_derived_from_the_types_and_refuses_other_documents(finished: Finished) -> None:
    assert Report.model_json_schema(mode="serialization") == SHAPE, "run: recsys abtest schema > recsys/abtest/report.schema.json"
    jsonschema.Draft202012Validator.check_schema(SHAPE)
    _, document, _ = finished
    check = jsonschema.Draft202012Validator(SHAPE)
    assert check.is_valid(document)
    assert not check.is_valid({**document, "metrics": [{**document["metrics"][0], "p_value": 1.5}]})
    assert not check.is_valid({name: value for name, value in document.items() if name != "srm"})


@pytest.mark.parametrize(("kind", "label"), [("artist", "same artist"), ("sessions", "heard in the same sessions")])
def test_the_control_is_called_by_what_its_neighbours_are_made_from(tmp_path: Path, kind: str, label: str) -> None:
    night = night_of(tmp_path, NIGHT)
    experiment(night, DESIGN, records(DESIGN, users=100, sessions=200, lift={}))
    publish(night.store, NIGHT, card(NIGHT).model_copy(update={"neighbours": {"from": kind}}))
    arms = build_report(night).arms
    assert {name: arm.label for name, arm in arms.items()} == {"C": label, "T1": "new version", "L": "live version"}


@pytest.mark.slow
def test_what_came_of_it_is_written_into_the_report_and_found_again(tmp_path: Path) -> None:
    night = night_of(tmp_path, NIGHT)
    experiment(night, DESIGN, records(DESIGN, users=600, sessions=2400, lift={"T1": 1.8, "L": 1.4}))
    first = as_json(build_report(night))
    directory = night.store.local(night.report)
    assert first["outcome"] is None
    assert "Not decided yet" in (directory / "report.html").read_text()
    pictures = {path.name: path.read_bytes() for path in directory.glob("*.png")}
    for found, said in (("held", "Held</b>, although listeners stay"), ("promoted", "Promoted</b>: listeners stay")):
        outcome = verdict(found, VERSION)
        publish(night.store, NIGHT, outcome)
        finish_report(night, outcome)
        directory = night.store.local(night.report)
        assert strict(directory / "report.json") == first | {"outcome": json.loads(outcome.to_json())}
        text = (directory / "report.html").read_text()
        assert_self_contained(text)
        assert said in text
        assert {path.name: path.read_bytes() for path in directory.glob("*.png")} == pictures
    assert build_report(night).outcome == outcome
    publish(night.store, NIGHT, verdict("promoted", "2026-11-23-ffffffff"))
    assert build_report(night).outcome is None


@pytest.mark.slow
def test_earlier_nights_calibration_and_paired_run_are_shown(tmp_path: Path) -> None:
    design = replace(DESIGN, arms=DESIGN.arms[:2])
    night, later = night_of(tmp_path, NIGHT), night_of(tmp_path, date(2026, 11, 24))
    store = night.store
    experiment(night, design, records(design, users=600, sessions=1500, lift={"T1": 1.3}))
    build_report(night)
    for name in (night.interactions, later.interactions):
        with store.stage(name) as staging:
            users, times = np.repeat(np.arange(300), 2), np.random.default_rng(1).gamma(2.0, 2.0, 600)
            columns = {"user": pa.array(users, pa.int32()), "steps": pa.array(users + 1, pa.int32()), "time": times}
            pq.write_table(pa.table(columns), staging / "sessions.parquet")
    publish(store, NIGHT, verdict("promoted", VERSION))
    experiment(later, design, records(design, users=600, sessions=1500, seed=4))
    allowed = {"ok": True, "low_percent": 3.0, "high_percent": 7.0}
    calibration = Calibration(
        experiment="E",
        arm="C",
        source="x",
        users=300,
        repetitions=2000,
        seed=1,
        ok=True,
        metrics=[CalibratedMetric(name="n", label="Session time", false_positive_percent=5.1, uniform_p=0.4, **allowed)],
        coverage=[Coverage(effect_percent=20.0, covered_percent=94.8, **allowed)],
    )
    with store.stage(LAST) as staging:
        calibration.write(staging)
    pair = PairedComparison(
        arm="T1",
        control="C",
        users=600,
        control_mean=1.0,
        treatment_mean=1.0,
        effect_percent=1.0,
        ci_low_percent=0.5,
        ci_high_percent=1.5,
        unpaired_low_percent=-4.0,
        unpaired_high_percent=6.0,
        correlation=0.93,
        gain=14.2,
    )
    publish(store, later.log_date, Paired(log_date=str(later.log_date), sessions_an_arm=1, seed=1, comparisons=[pair]))
    # A third night is between its report and its verdict.
    under_way = night_of(tmp_path, NIGHT - timedelta(days=1))
    publish(store, under_way.log_date, inputs(under_way.log_date))
    with store.stage(under_way.report) as staging:
        shutil.copyfile(store.local(night.report) / "report.json", staging / "report.json")
    document = as_json(build_report(later))
    directory = store.local(later.report)
    strict(directory / "report.json")
    found = [(row["log_date"], row["verdict"]) for row in document["history"]]
    assert found == [(str(under_way.log_date), "failed"), (str(NIGHT), "promoted")]
    assert document["adjusted"]["known"] == pytest.approx(0.5, abs=0.1)
    text = (directory / "report.html").read_text()
    assert_self_contained(text)
    for said in ("Night after night", "Simulation only", "14.20 times", "2,000 times", "Less noise"):
        assert said in text
    assert (directory / "history.png").exists()


def test_the_candidate_is_compared_with_the_reference_that_the_night_began_with(tmp_path: Path) -> None:
    night, day = night_of(tmp_path, NIGHT), date(2026, 11, 18)
    experiment(night, DESIGN, records(DESIGN, users=300, sessions=900, lift={"T1": 1.5, "L": 1.2}))
    publish(night.store, day, report_of(day, effect=(90.0, 88.0, 92.0)))
    publish(night.store, NIGHT, inputs(NIGHT, "2026-11-20-99aabbcc", reference=str(day)))
    report = build_report(night)
    assert report.against_reference is not None
    assert report.against_reference.control == version_of(day)
    assert "not worse than reference" in [rule.rule for rule in report.decision.rules if not rule.ok]
    assert [test.control for test in report.guardrail_tests][:2] == ["L", version_of(day)]


def test_a_reference_whose_control_was_another_is_none(tmp_path: Path) -> None:
    night, day = night_of(tmp_path, NIGHT), date(2026, 11, 18)
    experiment(night, DESIGN, records(DESIGN, users=200, sessions=400))
    other = card(day).model_copy(update={"neighbours": {"from": "sessions"}})
    publish(night.store, day, report_of(day).model_copy(update={"model": other}))
    publish(night.store, NIGHT, inputs(NIGHT, "2026-11-20-99aabbcc", reference=str(day)))
    assert build_report(night).against_reference is None


def test_equal_arms_are_held(tmp_path: Path) -> None:
    design = replace(DESIGN, arms=DESIGN.arms[:2])
    night = night_of(tmp_path, NIGHT)
    experiment(night, design, records(design, users=600, sessions=1500))
    report = build_report(night)
    assert report.decision.verdict == "hold"
    assert report.against_live is None
    text = (night.store.local(night.report) / "report.html").read_text()
    assert_self_contained(text)
    assert "no difference from the control is shown" in text


def test_equal_values_give_no_number(tmp_path: Path) -> None:
    night = night_of(tmp_path, NIGHT)
    experiment(night, DESIGN, [row | {"time": 0.5} for row in records(DESIGN, lift={"C": 0, "T1": 0, "L": 0})])
    report = build_report(night)
    assert report.metrics[0].effect_percent is None
    assert "same value" in (report.metrics[0].reason or "")
    assert report.decision.verdict == "hold"
    assert "no effect can be measured" in (night.store.local(night.report) / "report.html").read_text()


def test_missing_experiment_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="experiments/date"):
        build_report(night_of(tmp_path, NIGHT))


def test_refused_night_has_a_report(tmp_path: Path) -> None:
    night = night_of(tmp_path, NIGHT)
    reason = "Only 1 user liked something new; NDCG@100 of the candidate is 0.051, that of popularity 0.060."
    publish(night.store, NIGHT, gate(passed=False, reason=reason))
    document = as_json(build_refused_report(night))
    assert document["decision"] == {"verdict": "gate_refused", "reasons": [reason], "rules": []}
    directory = night.store.local(night.report)
    assert strict(directory / "report.json")["metrics"] == []
    text = (directory / "report.html").read_text()
    assert_self_contained(text)
    assert reason in text


def test_what_the_gate_foretold_stands_beside_what_was_measured(tmp_path: Path) -> None:
    for back in (1, 0):
        night = night_of(tmp_path, NIGHT - timedelta(days=back))
        design = replace(DESIGN, salt=str(night.log_date))
        experiment(night, design, records(design, users=100, sessions=300, lift={}))
        publish(night.store, night.log_date, full_gate())
        report = build_report(night)
    before = report.history[-1]
    assert (before.log_date, before.predicted_percent, before.predicted_low_percent) == ("2026-11-22", 6.2, -1.5)
    page = (night.store.local(night.report) / "report.html").read_text()
    table = page[page.index("Predicted and measured") : page.index("The gate before the test")]
    primary = report.primary()
    assert primary is not None
    assert primary.effect_percent is not None
    rows = [row for row in table.split("<tr>") if "2026-11-2" in row]
    assert [day in row for day, row in zip(("2026-11-23", "2026-11-22"), rows, strict=True)] == [True, True]
    assert all("+6.2" in row and "−1.5" in row for row in rows)
    assert f"{abs(primary.effect_percent):.1f}" in rows[0]
    assert f"{abs(before.effect_percent or 0):.1f}" in rows[1]


def test_without_a_prediction_there_is_no_table_of_them(finished: Finished) -> None:
    night, _, _ = finished
    assert "Predicted and measured" not in (night.store.local(night.report) / "report.html").read_text()
