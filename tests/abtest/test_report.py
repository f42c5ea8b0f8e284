"""Reports of any logs: complete, self-contained, and plain about bad logs."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from recsys.abtest.report import analyse
from recsys.exceptions import InvalidInputError
from recsys.experiments import Arm, Experiment
from tests.support.documents import as_json
from tests.support.pages import assert_self_contained, strict
from tests.support.traffic import lean, records, write

pytestmark = pytest.mark.slow

NIGHT = date(2026, 11, 23)
DESIGN = Experiment(
    "DAE_VS_CONTEXTUAL",
    (Arm("C", "contextual"), Arm("T1", "dae", "2026-11-23-0a1b2c3d"), Arm("L", "dae", "2026-11-20-99aabbcc")),
    salt="2026-11-23",
)


def analysed(*arguments: Any, **named: Any) -> dict[str, Any]:
    """The content of report.json."""
    return as_json(analyse(*arguments, **named))


def test_earlier_logs_must_be_earlier(tmp_path: Path) -> None:
    design = Experiment("X", (Arm("C", "contextual"), Arm("T1", "dae")))
    rows = records(design, users=300, sessions=1500)
    logs = write(tmp_path / "logs/a.jsonl", rows)
    earlier = [{**row, "timestamp": row["timestamp"] - 10**9} for row in records(design, users=300, sessions=900, seed=3)]
    before = write(tmp_path / "before/a.jsonl", lean(earlier))
    document = analysed(logs, "X", "C", before=before)
    assert document["adjusted"]["role"] == "adjusted"
    assert document["adjusted"]["known"] > 0.9
    assert document["metrics"] == analysed(logs, "X", "C")["metrics"]
    with pytest.raises(InvalidInputError, match="the experiment began at"):
        analyse(logs, "X", "C", before=write(tmp_path / "late/a.jsonl", [*earlier, rows[0]]))


def test_infinite_values_are_dropped_and_a_broken_log_is_held(tmp_path: Path) -> None:
    design = Experiment("X", (Arm("C", "contextual"), Arm("T1", "dae")))
    rows = records(design, users=300, sessions=900, lift={"T1": 2.0})
    path = write(tmp_path / "logs/a.jsonl", rows)
    lines = path.read_text().splitlines(keepends=True)
    broken = [line.replace('"time": 0.', '"time": Infinity, "was": 0.') if i % 9 == 0 else line for i, line in enumerate(lines)]
    path.write_text("".join(broken))
    document = analysed(path, "X", "C", out=tmp_path / "out")
    assert document["counts"]["malformed"] > 500
    assert document["decision"]["verdict"] == "hold"
    assert "logs" in [rule["rule"] for rule in document["decision"]["rules"] if not rule["ok"]]
    strict(tmp_path / "out/report.json")


@pytest.mark.parametrize("missing", ["C", "T1", "L"])
def test_an_arm_without_users_is_told(tmp_path: Path, missing: str) -> None:
    rows = [row for row in records(DESIGN, users=300) if DESIGN.arm_of(row["user"]).name != missing]
    out = tmp_path / "out" if missing == "T1" else None
    document = analysed(write(tmp_path / "a.jsonl", rows), DESIGN.name, "C", ["T1"], live="L", design=DESIGN, out=out)
    assert document["decision"]["verdict"] == "hold"
    assert not document["srm"]["ok"]
    assert document["arms"][missing]["users"] == 0
    if out:
        assert_self_contained((out / "report.html").read_text())


def test_unfinished_sessions_only_mean_no_users(tmp_path: Path) -> None:
    rows = [row for row in records(DESIGN, sessions=60) if row["message"] == "next"]
    document = as_json(
        analyse(write(tmp_path / "a.jsonl", rows), DESIGN.name, "C", ["T1"], live="L", design=DESIGN, out=tmp_path / "o")
    )
    assert (document["users"], document["sessions"], document["decision"]["verdict"]) == (0, 0, "hold")


def test_every_user_in_two_arms(tmp_path: Path) -> None:
    rows = [row | {"experiments": {DESIGN.name: "C" if row["step"] else "T1"}} for row in records(DESIGN, sessions=60)]
    document = as_json(
        analyse(write(tmp_path / "a.jsonl", rows), DESIGN.name, "C", ["T1"], live="L", design=DESIGN, out=tmp_path / "o")
    )
    assert document["counts"]["users_in_two_arms"] > 0
    assert (document["users"], document["decision"]["verdict"]) == (0, "hold")


def test_hostile_names_are_escaped(tmp_path: Path) -> None:
    design = Experiment("<script>alert(1)</script>", (Arm("C", "contextual"), Arm('T1"><img src=x onerror=y>', "dae")))
    path = write(tmp_path / "logs/a.jsonl", records(design, sessions=200))
    analyse(path, design.name, "C", out=tmp_path / "out")
    assert_self_contained((tmp_path / "out/report.html").read_text())


def test_any_logs_of_the_original_format(tmp_path: Path) -> None:
    design = Experiment("RECOMMENDERS", (Arm("C", "contextual"), Arm("T1", "dae")))
    rows = lean(records(design, users=500, sessions=2000, lift={"T1": 1.5}))
    logs = write(tmp_path / "logs/data.json", rows).parent
    document = analysed(logs, "RECOMMENDERS", "C", out=tmp_path / "out")
    assert document | {"pictures": []} == analysed(logs, "RECOMMENDERS", "C", ["T1"])
    assert strict(tmp_path / "out/report.json")["treatments"] == ["T1"]
    assert document["decision"]["verdict"] == "promote"
    assert_self_contained((tmp_path / "out/report.html").read_text())
    with pytest.raises(InvalidInputError, match=r"arm 'A' .* C, T1"):
        analyse(logs, "RECOMMENDERS", "A")
    with pytest.raises(InvalidInputError, match="distinct"):
        analyse(logs, "RECOMMENDERS", "C", ["C"])


def test_the_first_screen_shows_every_arms_effect_and_the_picture(tmp_path: Path) -> None:
    design = Experiment("X", (Arm("C", "contextual"), Arm("T1", "dae"), Arm("T2", "session"), Arm("L", "dae")))
    logs = write(tmp_path / "a.jsonl", records(design, users=400, sessions=1200, lift={"T2": 1.3}))
    found = analyse(logs, "X", "C", ["T1", "T2"], live="L", design=design, out=tmp_path / "out")
    text = (tmp_path / "out/report.html").read_text()
    tiles = ("Session time of T1 against C", "Session time of T2 against C", ">Against the live version</dt>")
    places = [text.index(said) for said in (*tiles, 'id="effects"', 'id="why"', 'id="session-time"')]
    assert places == sorted(places)
    assert text.count("decides nothing</small>") == 1
    told = found.pictures[0].alt
    assert told.index("T1 against C") < told.index("T1 against L") < told.index("T2 against C")


def test_declared_shares_are_what_the_sample_ratio_is_tested_against(tmp_path: Path) -> None:
    uneven = Experiment("X", (Arm("C", "contextual"), Arm("C", "contextual"), Arm("T1", "dae")))
    logs = write(tmp_path / "a.jsonl", records(uneven, users=900, sessions=1800))
    assert not analyse(logs, "X", "C").srm.ok
    for shares in ({"C": 2, "T1": 1}, {"T1": 0.1, "C": 0.2}):
        ratio = analyse(logs, "X", "C", shares=shares).srm
        assert ratio.ok
        assert ratio.expected["C"] == pytest.approx(2 * ratio.expected["T1"])
    broken = analyse(logs, "X", "C", shares={"C": 2, "T1": 1, "T2": 3})
    assert (broken.srm.ok, broken.srm.users["T2"]) == (False, 0)
    with pytest.raises(InvalidInputError, match="declared of C, but not of T1"):
        analyse(logs, "X", "C", shares={"C": 1})


def test_logs_of_which_most_is_something_else_are_refused(tmp_path: Path) -> None:
    rows = records(DESIGN, users=300, sessions=900)
    few = len(rows) // 3
    others = [row | {"experiments": {"Y": "C"}, "run": "other.0.a"} for row in rows[few:]]
    assert analyse(write(tmp_path / "a.jsonl", rows, "{]\n" * few), DESIGN.name, "C").counts["malformed"] == few
    lines, bad = len(rows), "{]\n" * (2 * few)
    with pytest.raises(
        InvalidInputError, match=f"{len(others):,} of {lines:,} lines .*0 malformed lines, {len(others):,} records of no"
    ):
        analyse(write(tmp_path / "b.jsonl", [*rows[:few], *others]), DESIGN.name, "C")
    with pytest.raises(InvalidInputError, match=f"{2 * few:,} malformed lines"):
        analyse(write(tmp_path / "c.jsonl", rows[:few], bad), DESIGN.name, "C")


def test_only_the_control_in_the_logs(tmp_path: Path) -> None:
    design = Experiment("X", (Arm("C", "contextual"),))
    document = analysed(write(tmp_path / "a.jsonl", records(design, sessions=100)), "X", "C", out=tmp_path / "out")
    assert document["metrics"] == []
    assert document["decision"]["verdict"] == "hold"
    assert "only one arm" in document["srm"]["reason"]
    assert_self_contained((tmp_path / "out/report.html").read_text())
