"""`recsys abtest report`, `abtest calibrate` and `diff`: what they say, and what they refuse."""

import json
from pathlib import Path

import pytest

from recsys.cli import app
from recsys.exceptions import InvalidInputError
from recsys.experiments import Arm, Experiment
from recsys.storage.store import Storage
from tests.inspection.test_diff import DAYS, night
from tests.support.traffic import records, write

pytestmark = pytest.mark.slow

DESIGN = Experiment("X", (Arm("C", "contextual"), Arm("T1", "dae")))


def run(*words: str) -> None:
    app(list(words), standalone_mode=False)


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RECSYS_STORAGE", f"file://{tmp_path}/storage")
    write(tmp_path / "logs" / "a.jsonl", records(DESIGN, users=300, sessions=1500, lift={"T1": 1.5}))
    return tmp_path / "logs"


def test_any_directory_of_logs_gets_a_report(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("abtest", "report", "--experiment", "X", "--control", "C", "--out", str(tmp_path / "report"), "--logs")
    run(*words, str(logs))
    assert capsys.readouterr().out.startswith(f"{tmp_path}/report/report.html: promote")
    with pytest.raises(InvalidInputError, match="nowhere is not a directory"):
        run(*words, "nowhere")
    run(*words, str(logs), "--shares", "C=9,T1=1")
    told = capsys.readouterr().out
    assert told.startswith(f"{tmp_path}/report/report.html: hold")
    assert "not as the design says; the split is broken" in told


@pytest.mark.parametrize("shares", ["", "C", "C=", "=1", "C=0,T1=1", "C=-1", "C=x", "C=inf", "C=nan", "C=1,C=2", "C=1,,T1=1"])
def test_shares_that_are_none_are_shown(logs: Path, tmp_path: Path, shares: str) -> None:
    words = ("abtest", "report", "--experiment", "X", "--control", "C", "--out", str(tmp_path / "report"), "--logs", str(logs))
    with pytest.raises(InvalidInputError, match=r"is not ARM=SHARE .* write C=2,T1=1 say"):
        run(*words, "--shares", shares)
    assert not (tmp_path / "report").exists()


@pytest.mark.slow
def test_splits_of_one_arm_find_nothing(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("abtest", "calibrate", "--experiment", "X", "--repetitions", "100", "--seed", "1", "--logs", str(logs))
    run(*words)
    told = capsys.readouterr().out
    assert "100 splits of" in told
    assert "FAIL" not in told
    assert "planted +20 %" in told
    run(*words, "--json")
    assert json.loads(capsys.readouterr().out)["ok"]
    with pytest.raises(InvalidInputError, match="either --date or --logs"):
        run("abtest", "calibrate")


def test_two_nights_are_compared(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Storage(f"file://{tmp_path}/storage")
    for number, day in enumerate(DAYS, 1):
        night(store, day, number, number)
    run("diff", *map(str, DAYS))
    told = capsys.readouterr().out
    assert "seed" in told
    assert "1  ->  2" in told
    run("diff", *map(str, DAYS), "--json")
    assert {(row["name"], row["first"], row["second"]) for row in json.loads(capsys.readouterr().out)} >= {("seed", 1, 2)}


def test_a_table_of_users_gets_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "users.csv"
    table.write_text("who,arm,spent\n" + "".join(f"u{i},{'on' if i % 2 else 'off'},{i % 7 + 9 * (i % 2)}\n" for i in range(200)))
    words = ("abtest", "table", str(table), "--unit", "who", "--arm", "arm", "--control", "off", "--out", str(tmp_path / "out"))
    run(*words, "--metric", "spent=spent", "--share", "on=1", "--share", "off=1")
    told = capsys.readouterr().out
    assert told.startswith(f"{tmp_path}/out/report.html: Higher: spent of on is ")
    assert "Sample ratio: users on 100, off 100" in told
    assert json.loads((tmp_path / "out/report.json").read_text())["decision"]["verdict"] == "promote"
    for share in ("on", "on=0", "=1"):
        with pytest.raises(InvalidInputError, match=r"is not ARM=SHARE .* write --share C=2 --share T1=1 say"):
            run(*words, "--metric", "spent=spent", "--share", share)
