"""Report files: complete, self-contained, the same for the same logs, and plain about bad logs."""

import json
import re
import shutil
from dataclasses import replace
from datetime import date, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.abtest import report
from recsys.abtest.report import analyse, build_refused_report, build_report, finish_report
from recsys.exceptions import InvalidInputError, MissingDataError
from recsys.schemas import Arm, Experiment
from recsys.settings import Settings
from recsys.storage.store import Storage
from tests.support.traffic import lean, records, write

NIGHT = date(2026, 11, 23)
DESIGN = Experiment(
    "DAE_VS_CONTEXTUAL",
    (Arm("C", "contextual"), Arm("T1", "dae", "2026-11-23-0a1b2c3d"), Arm("L", "dae", "2026-11-20-99aabbcc")),
    salt="2026-11-23",
)
PICTURES = ("effects", "session-time", "survival", "cumulative")


def night(root: Path, rows: list[dict[str, Any]]) -> Storage:
    """A store that holds the night's experiment."""
    store = Storage(f"file://{root}")
    with store.stage(f"experiments/date={NIGHT}") as staging:
        write(staging / "0000-a.jsonl", rows)
        (staging / "run.json").write_text(json.dumps({"catalogue": 500}))
    return store


SHAPE = json.loads((Path(report.__file__).parent / "report.schema.json").read_bytes())


def strict(path: Path) -> dict[str, Any]:
    """JSON of the committed shape, without NaN or infinities."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in {path}")

    document = json.loads(path.read_text(), parse_constant=refuse)
    jsonschema.Draft202012Validator(SHAPE).validate(document)
    return dict(document)


class Page(HTMLParser):
    """Tags with their attributes, and whether they nest."""

    VOID = ("meta", "img", "source", "br", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def assert_self_contained(text: str) -> None:
    page = Page(text)
    assert page.open == []
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    for tag, attrs in page.tags:
        assert tag not in ("script", "link", "iframe", "object")
        for name in ("src", "srcset", "href", "data"):
            value = attrs.get(name)
            assert value is None or value.startswith(("data:image/png;base64,", "#"))
            assert value is None or not value.startswith("#") or value[1:] in ids
        if tag == "img":
            assert len(attrs.get("alt") or "") > 20
        if tag == "th":
            assert attrs.get("scope") in ("col", "row", "rowgroup")
        for reference in ("aria-labelledby",):
            assert attrs.get(reference) is None or attrs[reference] in ids
    assert not re.search(r"(?:https?:)?//[a-z]|@import|url\(", re.sub(r"base64,[^\"]*", "", text))
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert "nan" not in re.sub(r"base64,[^\"]*", "", text).lower().split()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, dict[str, Any], list[dict[str, Any]]]:
    rows = records(DESIGN, users=600, sessions=2400, lift={"T1": 1.8, "L": 1.4})
    store = night(tmp_path_factory.mktemp("store"), rows)
    gate = {"passed": True, "reasons": ["Better than popularity."], "metrics": {"dae": {"ndcg_100": 0.41}}}
    return store, build_report(store, NIGHT, Settings(), DESIGN, gate=gate, model={"epochs": 3}), rows


def test_report_of_a_better_candidate_promotes(finished) -> None:
    store, document, rows = finished
    directory = store.local(f"reports/date={NIGHT}")
    assert strict(directory / "report.json") == json.loads(json.dumps(document))
    assert document["decision"]["verdict"] == "promote", document["decision"]
    assert (document["experiment"], document["control"], document["candidate"]) == ("DAE_VS_CONTEXTUAL", "C", "T1")
    assert document["live_arm"] == "L"
    assert (document["log_date"], document["version"]) == ("2026-11-23", "2026-11-23-0a1b2c3d")
    assert document["sessions"] == document["counts"]["last"] == 2400
    assert document["counts"]["events"] == len(rows)
    needed = {
        "name", "arm", "control_mean", "treatment_mean", "effect_percent", "ci_low_percent", "ci_high_percent", "p_value",
        "p_adjusted", "role",
    }  # fmt: skip
    assert all(needed <= row.keys() for row in document["metrics"])
    primary = document["metrics"][0]
    assert primary["ci_low_percent"] < primary["effect_percent"] < primary["ci_high_percent"]
    assert sum(arm["users"] for arm in document["arms"].values()) == document["users"]
    assert next(r for r in document["guardrails"] if r["name"] == "coverage_share")["value"] > 0.9


def test_page_is_self_contained_and_readable(finished) -> None:
    store, document, _ = finished
    directory = store.local(f"reports/date={NIGHT}")
    text = (directory / "report.html").read_text()
    assert_self_contained(text)
    assert "Better: listeners stay" in text
    assert "contextual" in text
    for reason in document["decision"]["reasons"]:
        assert reason.split(":")[0] in text
    for name in PICTURES:
        for suffix in ("", "-dark"):
            assert (directory / f"{name}{suffix}.png").read_bytes().startswith(b"\x89PNG")


def test_same_logs_give_the_same_files_and_timings_stand_apart(finished, tmp_path: Path) -> None:
    store, _, rows = finished
    slower = night(tmp_path, [{**row, "latency": row["latency"] * 3} for row in rows[::-1]])
    gate = {"passed": True, "reasons": ["Better than popularity."], "metrics": {"dae": {"ndcg_100": 0.41}}}
    build_report(slower, NIGHT, Settings(), DESIGN, gate=gate, model={"epochs": 3})
    second = slower.local(f"reports/date={NIGHT}")
    first = store.local(f"reports/date={NIGHT}")

    def without_times(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: without_times(v) for k, v in value.items() if k != "timing" and k not in report.CONTEXT}
        if isinstance(value, list):
            timed = ("mean_request_time", "latency_p50", "latency_p99")
            return [without_times(v) for v in value if not (isinstance(v, dict) and v.get("name") in timed)]
        return value

    assert without_times(strict(second / "report.json")) == without_times(strict(first / "report.json"))
    for name in PICTURES:
        assert (second / f"{name}.png").read_bytes() == (first / f"{name}.png").read_bytes()


def test_the_committed_shape_is_a_schema_and_refuses_other_documents(finished) -> None:
    jsonschema.Draft202012Validator.check_schema(SHAPE)
    _, document, _ = finished
    check = jsonschema.Draft202012Validator(SHAPE)
    assert check.is_valid(json.loads(json.dumps(document)))
    assert not check.is_valid({**document, "metrics": [{**document["metrics"][0], "p_value": 1.5}]})
    assert not check.is_valid({name: value for name, value in document.items() if name != "srm"})


def promotions(store: Storage, day: date, verdict: str, version: str) -> dict[str, Any]:
    """A night's recorded verdict."""
    outcome = {"verdict": verdict, "reasons": ["Promotion was not asked for."], "version": version, "live": version}
    with store.stage(f"promotions/date={day}") as staging:
        (staging / "promotion.json").write_text(json.dumps(outcome))
    return outcome


@pytest.mark.slow
def test_what_came_of_it_is_written_into_the_report_and_found_again(tmp_path: Path) -> None:
    rows = records(DESIGN, users=600, sessions=2400, lift={"T1": 1.8, "L": 1.4})
    store = night(tmp_path, rows)
    first = build_report(store, NIGHT, Settings(), DESIGN)
    directory = store.local(f"reports/date={NIGHT}")
    assert first["outcome"] is None
    assert "To be promoted" in (directory / "report.html").read_text()
    pictures = {path.name: path.read_bytes() for path in directory.glob("*.png")}
    for verdict, said in (("held", "It was held"), ("promoted", "It was promoted")):
        outcome = promotions(store, NIGHT, verdict, DESIGN.arms[1].version)
        finish_report(store, NIGHT, outcome)
        directory = store.local(f"reports/date={NIGHT}")
        assert strict(directory / "report.json") == json.loads(json.dumps(first | {"outcome": outcome}))
        text = (directory / "report.html").read_text()
        assert_self_contained(text)
        assert said in text
        assert {path.name: path.read_bytes() for path in directory.glob("*.png")} == pictures
    assert build_report(store, NIGHT, Settings(), DESIGN)["outcome"] == outcome
    promotions(store, NIGHT, "promoted", "2026-11-23-ffffffff")
    assert build_report(store, NIGHT, Settings(), DESIGN)["outcome"] is None


@pytest.mark.slow
def test_earlier_nights_calibration_and_paired_run_are_shown(tmp_path: Path) -> None:
    design = replace(DESIGN, arms=DESIGN.arms[:2])
    store = night(tmp_path, records(design, users=600, sessions=1500, lift={"T1": 1.3}))
    build_report(store, NIGHT, Settings(), design)
    later = date(2026, 11, 24)
    for day in (NIGHT, later):
        with store.stage(f"interactions/date={day}") as staging:
            users, times = np.repeat(np.arange(300), 2), np.random.default_rng(1).gamma(2.0, 2.0, 600)
            pq.write_table(pa.table({"user": pa.array(users, pa.int32()), "time": times}), staging / "sessions.parquet")
    promotions(store, NIGHT, "promoted", "2026-11-23-0a1b2c3d")
    with store.stage(f"experiments/date={later}") as staging:
        write(staging / "0000-a.jsonl", records(design, users=600, sessions=1500, seed=4))
    row = {"ok": True, "low_percent": 3.0, "high_percent": 7.0}
    with store.stage("calibration") as staging:
        found = {
            "arm": "C", "users": 300, "repetitions": 2000, "source": "x", "ok": True,
            "metrics": [{"label": "Session time", "false_positive_percent": 5.1, "uniform_p": 0.4, **row}],
            "coverage": [{"effect_percent": 20.0, "covered_percent": 94.8, **row}],
        }  # fmt: skip
        (staging / "calibration.json").write_text(json.dumps(found))
    with store.stage(f"paired/date={later}") as staging:
        pair = {
            "arm": "T1", "control": "C", "users": 600, "effect_percent": 1.0, "ci_low_percent": 0.5, "ci_high_percent": 1.5,
            "unpaired_low_percent": -4.0, "unpaired_high_percent": 6.0, "correlation": 0.93, "gain": 14.2,
        }  # fmt: skip
        (staging / "paired.json").write_text(json.dumps({"simulation_only": True, "comparisons": [pair]}))
    # A third night is between its report and its verdict.
    under_way = NIGHT - timedelta(days=1)
    with store.stage(f"interactions/date={under_way}") as staging:
        (staging / "inputs.json").write_text("{}")
    with store.stage(f"reports/date={under_way}") as staging:
        shutil.copyfile(store.local(f"reports/date={NIGHT}") / "report.json", staging / "report.json")
    document = build_report(store, later, Settings(), design)
    directory = store.local(f"reports/date={later}")
    strict(directory / "report.json")
    found = [(row["log_date"], row["verdict"]) for row in document["history"]]
    assert found == [(str(under_way), "failed"), (str(NIGHT), "promoted")]
    assert document["adjusted"]["known"] == pytest.approx(0.5, abs=0.1)
    text = (directory / "report.html").read_text()
    assert_self_contained(text)
    for said in ("Night after night", "Simulation only", "14.20 times", "2,000 times", "Less noise"):
        assert said in text
    assert (directory / "history.png").exists()


def test_earlier_logs_must_be_earlier(tmp_path: Path) -> None:
    design = Experiment("X", (Arm("C", "contextual"), Arm("T1", "dae")))
    rows = records(design, users=300, sessions=1500)
    logs = write(tmp_path / "logs/a.jsonl", rows)
    earlier = [{**row, "timestamp": row["timestamp"] - 10**9} for row in records(design, users=300, sessions=900, seed=3)]
    before = write(tmp_path / "before/a.jsonl", lean(earlier))
    document = analyse(logs, "X", "C", before=before)
    assert document["adjusted"]["role"] == "adjusted"
    assert document["adjusted"]["known"] > 0.9
    assert document["metrics"] == analyse(logs, "X", "C")["metrics"]
    with pytest.raises(InvalidInputError, match="the experiment began at"):
        analyse(logs, "X", "C", before=write(tmp_path / "late/a.jsonl", [*earlier, rows[0]]))


def test_infinite_values_are_dropped_and_a_broken_log_is_held(tmp_path: Path) -> None:
    design = Experiment("X", (Arm("C", "contextual"), Arm("T1", "dae")))
    rows = records(design, users=300, sessions=900, lift={"T1": 2.0})
    path = write(tmp_path / "logs/a.jsonl", rows)
    lines = path.read_text().splitlines(keepends=True)
    broken = [line.replace('"time": 0.', '"time": Infinity, "was": 0.') if i % 9 == 0 else line for i, line in enumerate(lines)]
    path.write_text("".join(broken))
    document = analyse(path, "X", "C", out=tmp_path / "out")
    assert document["counts"]["malformed"] > 500
    assert document["decision"]["verdict"] == "hold"
    assert "logs" in [rule["rule"] for rule in document["decision"]["rules"] if not rule["ok"]]
    strict(tmp_path / "out/report.json")


def test_equal_arms_are_held(tmp_path: Path) -> None:
    design = replace(DESIGN, arms=DESIGN.arms[:2])
    store = night(tmp_path, records(design, users=600, sessions=1500))
    document = build_report(store, NIGHT, Settings(), design)
    assert document["decision"]["verdict"] == "hold"
    assert document["against_live"] is None
    text = (store.local(f"reports/date={NIGHT}") / "report.html").read_text()
    assert_self_contained(text)
    assert "No difference is shown" in text


@pytest.mark.parametrize("missing", ["C", "T1", "L"])
def test_an_arm_without_users_is_told(tmp_path: Path, missing: str) -> None:
    rows = [row for row in records(DESIGN, users=300) if DESIGN.arm_of(row["user"]).name != missing]
    out = tmp_path / "out" if missing == "T1" else None
    document = analyse(write(tmp_path / "a.jsonl", rows), DESIGN.name, "C", ["T1"], live="L", design=DESIGN, out=out)
    assert document["decision"]["verdict"] == "hold"
    assert not document["srm"]["ok"]
    assert document["arms"][missing]["users"] == 0
    if out:
        assert_self_contained((out / "report.html").read_text())


def test_equal_values_give_no_number(tmp_path: Path) -> None:
    rows = [row | {"time": 0.5} for row in records(DESIGN, lift={"C": 0, "T1": 0, "L": 0})]
    store = night(tmp_path, rows)
    document = build_report(store, NIGHT, Settings(), DESIGN)
    assert document["metrics"][0]["effect_percent"] is None
    assert "same value" in document["metrics"][0]["reason"]
    assert document["decision"]["verdict"] == "hold"
    assert "give no answer" in (store.local(f"reports/date={NIGHT}") / "report.html").read_text()


def test_unfinished_sessions_only_mean_no_users(tmp_path: Path) -> None:
    rows = [row for row in records(DESIGN, sessions=60) if row["message"] == "next"]
    document = analyse(write(tmp_path / "a.jsonl", rows), DESIGN.name, "C", ["T1"], live="L", design=DESIGN, out=tmp_path / "o")
    assert (document["users"], document["sessions"], document["decision"]["verdict"]) == (0, 0, "hold")


def test_every_user_in_two_arms(tmp_path: Path) -> None:
    rows = [row | {"experiments": {DESIGN.name: "C" if row["step"] else "T1"}} for row in records(DESIGN, sessions=60)]
    document = analyse(write(tmp_path / "a.jsonl", rows), DESIGN.name, "C", ["T1"], live="L", design=DESIGN, out=tmp_path / "o")
    assert document["counts"]["users_in_two_arms"] > 0
    assert (document["users"], document["decision"]["verdict"]) == (0, "hold")


def test_hostile_names_are_escaped(tmp_path: Path) -> None:
    design = Experiment("<script>alert(1)</script>", (Arm("C", "contextual"), Arm('T1"><img src=x onerror=y>', "dae")))
    path = write(tmp_path / "logs/a.jsonl", records(design, sessions=200))
    analyse(path, design.name, "C", out=tmp_path / "out")
    assert_self_contained((tmp_path / "out/report.html").read_text())


def test_missing_experiment_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="experiments/date"):
        build_report(Storage(f"file://{tmp_path}"), NIGHT, Settings(), DESIGN)


def test_refused_night_has_a_report(tmp_path: Path) -> None:
    store = Storage(f"file://{tmp_path}")
    reasons = ["NDCG@100 of the candidate is 0.051, that of popularity 0.060."]
    document = build_refused_report(store, NIGHT, {"passed": False, "reasons": reasons, "metrics": {"ndcg_100": 0.051}})
    assert document["decision"] == {"verdict": "gate_refused", "reasons": reasons, "rules": []}
    directory = store.local(f"reports/date={NIGHT}")
    assert strict(directory / "report.json")["metrics"] == []
    text = (directory / "report.html").read_text()
    assert_self_contained(text)
    assert reasons[0] in text


def test_any_logs_of_the_original_format(tmp_path: Path) -> None:
    design = Experiment("RECOMMENDERS", (Arm("C", "contextual"), Arm("T1", "dae")))
    rows = lean(records(design, users=500, sessions=2000, lift={"T1": 1.5}))
    logs = write(tmp_path / "logs/data.json", rows).parent
    document = analyse(logs, "RECOMMENDERS", "C", out=tmp_path / "out")
    assert document | {"pictures": []} == analyse(logs, "RECOMMENDERS", "C", ["T1"])
    assert strict(tmp_path / "out/report.json")["treatments"] == ["T1"]
    assert document["decision"]["verdict"] == "promote"
    assert_self_contained((tmp_path / "out/report.html").read_text())
    with pytest.raises(InvalidInputError, match=r"arm 'A' .* C, T1"):
        analyse(logs, "RECOMMENDERS", "A")
    with pytest.raises(InvalidInputError, match="distinct"):
        analyse(logs, "RECOMMENDERS", "C", ["C"])


def test_only_the_control_in_the_logs(tmp_path: Path) -> None:
    design = Experiment("X", (Arm("C", "contextual"),))
    document = analyse(write(tmp_path / "a.jsonl", records(design, sessions=100)), "X", "C", out=tmp_path / "out")
    assert document["metrics"] == []
    assert document["decision"]["verdict"] == "hold"
    assert "only one arm" in document["srm"]["reason"]
    assert_self_contained((tmp_path / "out/report.html").read_text())
