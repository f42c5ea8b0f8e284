"""Tables of users: equal to scipy and tea-tasting where effects are planted, and plain about tables that are no good."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tea_tasting as tt
from scipy import stats

from recsys.abtest.schema import Report
from recsys.abtest.table import Asked
from recsys.abtest.table_report import analyse_table
from recsys.exceptions import InvalidInputError
from tests.support.pages import assert_self_contained, strict

pytestmark = pytest.mark.slow

GOOD = pd.DataFrame({"who": ["a", "b", "c", "d", "e", "f"], "arm": ["C", "C", "C", "T", "T", "T"], "x": [1.0, 2, 4, 3, 5, 9]})


def planted(rng: np.random.Generator, n: int = 3000) -> pd.DataFrame:
    """Users of whom the treated spend 10 % more, buy more often, and click as often as the others on more pages."""
    treated = rng.random(n) < 0.4
    level, views = rng.lognormal(1, 0.8, n), rng.poisson(4, n)  # some have no page at all
    return pd.DataFrame(
        {
            "who": [f"user {i}" for i in range(n)],
            "arm": np.where(treated, "on", "off"),
            "spent": level * np.where(treated, 1.1, 1.0) * rng.lognormal(0, 0.3, n),
            "bought": rng.random(n) < np.where(treated, 0.13, 0.1),
            "views": views,
            "clicks": rng.binomial(views, np.where(treated, 0.25, 0.2)),
            "spent_before": level * rng.lognormal(0, 0.3, n),
            "clicks_before": rng.binomial(views, 0.2),
            "views_before": views + rng.poisson(1, n),
        }
    )


def written(path: Path, table: pd.DataFrame) -> Path:
    """The table in the format that the path's name says."""
    match path.suffixes:
        case [".parquet"]:
            table.to_parquet(path, index=False)
        case [".jsonl"]:
            path.write_text("".join(json.dumps(row) + "\n" for row in table.to_dict("records")))
        case _:
            table.to_csv(path, index=False)
    return path


def asked(path: Path, metrics: str = "x=x", control: str = "C", **more: Any) -> Asked:
    return Asked(path, "who", "arm", control, tuple(metrics.split()), **more)


def analysed(tmp_path: Path, table: pd.DataFrame, metrics: str = "x=x", **more: Any) -> Report:
    return analyse_table(asked(written(tmp_path / "table.csv", table), metrics, **more))


def row_of(report: Report, name: str) -> Any:
    return next(row for row in report.metrics if row.name == name)


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz", "table.parquet", "table.jsonl"])
def test_numbers_equal_those_of_scipy_and_tea_tasting(tmp_path: Path, name: str) -> None:
    table = planted(np.random.default_rng(3))
    path = written(tmp_path / name, table)
    metrics = "spent=spent bought=bought rate=clicks/views"
    before = ("spent=spent_before", "rate=clicks_before/views_before")
    report = analyse_table(asked(path, metrics, "off", covariates=before, shares={"off": 6, "on": 4}))
    on, off = (table[table.arm == arm] for arm in ("on", "off"))
    for metric in ("spent", "bought"):
        found, theirs = row_of(report, metric), stats.ttest_ind(on[metric] * 1.0, off[metric] * 1.0, equal_var=False)
        assert found.p_value == pytest.approx(theirs.pvalue, rel=1e-9)
        assert (found.ci_low, found.ci_high) == pytest.approx(theirs.confidence_interval(), rel=1e-9)
    expected = _expected(table)
    rows = {row.name: row for row in report.metrics}
    rows |= {f"{row.name} adjusted": row for row in (report.adjusted, *report.also_adjusted) if row}
    assert rows.keys() == {"spent", "bought", "rate", "spent adjusted", "rate adjusted"}
    for name, found in rows.items():
        theirs = expected[name]
        assert found.p_value == pytest.approx(theirs.pvalue, rel=1e-9)
        assert found.effect == pytest.approx(theirs.effect_size, rel=1e-9)
        assert found.effect_percent == pytest.approx(100 * theirs.rel_effect_size, rel=1e-9)
        assert found.ci_low_percent == pytest.approx(100 * theirs.rel_effect_size_ci_lower, rel=1e-9)
        assert found.ci_high_percent == pytest.approx(100 * theirs.rel_effect_size_ci_upper, rel=1e-9)
    chi = stats.chisquare([len(off), len(on)], [0.6 * len(table), 0.4 * len(table)])
    assert report.srm.p_value == pytest.approx(chi.pvalue, rel=1e-9)
    assert report.decision.verdict == "promote"
    assert rows["bought"].unit == "share of users"
    assert [row.role for row in report.before] == ["before", "before"]


def _expected(table: pd.DataFrame) -> dict[str, Any]:
    metrics = {
        "spent": tt.Mean("spent"),
        "bought": tt.Mean("bought"),
        "rate": tt.RatioOfMeans("clicks", "views"),
        "spent adjusted": tt.Mean("spent", "spent_before"),
        "rate adjusted": tt.RatioOfMeans("clicks", "views", "clicks_before", "views_before"),
    }
    data = table.assign(bought=table.bought * 1.0, arm=(table.arm == "on") * 1)
    return dict(tt.Experiment(metrics, "arm").analyze(data))


def test_the_same_report_of_every_format_and_order(tmp_path: Path) -> None:
    table = planted(np.random.default_rng(4), 400)
    reports = []
    for name in ("a.csv", "a.parquet", "a.jsonl"):
        report = analyse_table(asked(written(tmp_path / name, table), "spent=spent", "off"))
        reports.append([report.metrics, report.srm, report.decision, report.winsorised])
    assert reports[0] == reports[1] == reports[2]


def test_the_page_and_the_json_hold_hostile_names(tmp_path: Path) -> None:
    table = planted(np.random.default_rng(5), 300).rename(columns={"spent": "a=b/<script>"})
    evil = "<img src=x onerror=alert(1)>$"
    table["arm"] = table.arm.where(table.arm == "off", evil)
    path = written(tmp_path / "<b>.csv", table)
    report = analyse_table(asked(path, "$\\frac$<i>=a=b/<script>", "off"), out=tmp_path / "out")
    page = (tmp_path / "out/report.html").read_text()
    assert_self_contained(page)
    assert evil not in page
    assert report.treatments == [evil]
    assert strict(tmp_path / "out/report.json")["metrics"][0]["name"] == "$\\frac$<i>"


@pytest.mark.parametrize(
    ("change", "metrics", "message"),
    [
        ({"who": ["a", "a", "c", "d", "e", "f"]}, "x=x", "1 user has several rows, 'a' has 2; the unit is the user"),
        ({"who": ["a", None, "c", "d", "e", "f"]}, "x=x", "1 row names no user in column 'who', the first is row 2"),
        ({"arm": [None] * 6}, "x=x", "column 'arm' names no arm in any row"),
        (
            {"x": ["1", "2", "many", "4", "5", "many"]},
            "x=x",
            "column 'x' .*: 'many' in row 3 is no number, nor true or false .1 more",
        ),
        ({"x": [1.0, 2, 3, float("inf"), 5, 6]}, "x=x", "'inf' in row 4 is infinite"),
        ({"x": [None] * 6}, "x=x", "column 'x' .* is empty in every row"),
        ({"y": [1, 2, -3, 4, 5, 6]}, "x=x/y", "'-3' in row 3 is below 0, but divides"),
        ({"x": ["true", "false", "1", "true", "true", "true"]}, "x=x", "'1' in row 3 is no number, nor true"),
        ({}, "y=y", r"column 'y' is not in .*; there are 'who', 'arm', 'x'"),
        ({}, "y=x/y", r"column 'y' is not in"),
        ({}, "x", "'x' names no column; write NAME=COLUMN"),
        ({}, "x=x x=who", "--metric 'x' is given twice"),
        ({"a/b": 1, "a": 2, "b": 3}, "x=a/b", "'a/b' may mean 'a/b' or 'a' by 'b'; rename a column"),
        ({"arm": ["C", "T", "t1", "t2", "t3", "t4"]}, "x=x", None),
    ],
)
def test_a_bad_table_is_told_in_a_line(tmp_path: Path, change: dict[str, Any], metrics: str, message: str | None) -> None:
    table = GOOD.assign(**change)
    if message is None:
        assert "1 user" in str(row_of(analysed(tmp_path, table, metrics), "x").reason)
        return
    with pytest.raises(InvalidInputError, match=message) as caught:
        analysed(tmp_path, table, metrics)
    assert "\n" not in str(caught.value)


def test_what_is_no_table_is_told(tmp_path: Path) -> None:
    def refused(content: bytes, message: str) -> None:
        path = tmp_path / "a.csv"
        path.write_bytes(content)
        with pytest.raises(InvalidInputError, match=message):
            analyse_table(asked(path))

    refused(b"", "is empty")
    refused(b"who,arm,x\n", "a header and no rows")
    refused(b"\0\1\2\0", "is no table")
    refused(b"PAR1 and nothing", "cannot be read as Parquet")
    refused(gzip.compress(b"who,arm,x\na,C,1\n")[:-9], "cannot be unpacked as gzip")
    refused(b"who,arm,x\na,C,1\nb,C\nc,T,2\n", "1 line cannot be read as a row of 3 columns, the first of them line 3")
    refused(b"who,arm,x,x\na,C,1,2\n", "two columns 'x'")
    refused(b'{"who":1,"arm":"C","x":1}\nnothing\n', "1 row are no JSON|1 row is no JSON")
    with pytest.raises(InvalidInputError, match="is no file"):
        analyse_table(asked(tmp_path / "nothing.csv"))


def test_arms_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"control 'A' does not occur in column 'arm' .* holds 'C', 'T'"):
        analysed(tmp_path, GOOD, control="A")
    with pytest.raises(InvalidInputError, match="holds 30 different values, more than 20; name the column of the arm"):
        analysed(tmp_path, pd.DataFrame({"who": range(30), "arm": [f"C{i}" for i in range(30)], "x": 1}))
    with pytest.raises(InvalidInputError, match="--share is given of C, but not of T"):
        analysed(tmp_path, GOOD, shares={"C": 1.0})
    with pytest.raises(InvalidInputError, match="--covariate 'y' is no metric; a covariate has the name of one of x"):
        analysed(tmp_path, GOOD, covariates=("y=x",))
    typo = analysed(tmp_path, GOOD, shares={"C": 1.0, "T": 1.0, "T2": 1.0})
    assert typo.arms["T2"].users == 0
    assert not typo.srm.users.get("T2")
    alone = analysed(tmp_path, GOOD.assign(arm="C"))
    assert alone.decision.verdict == "hold"
    assert "only one arm" in str(alone.srm.reason)


def test_users_in_two_arms_and_without_one_are_left_out_and_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    table = planted(rng, 600)
    plain = analysed(tmp_path, table, "spent=spent", control="off")
    more = pd.DataFrame({"who": ["user 7", "both", "both", "lost"], "arm": ["off", "on", "off", None], "spent": 1e6})
    twice = table[table.who == "user 7"].arm.item()
    more.loc[0, "arm"] = "off" if twice == "on" else "on"
    report = analysed(tmp_path, pd.concat([table, more]), "spent=spent", control="off")
    assert (report.counts["users_in_two_arms"], report.counts["without_arm"], report.users) == (2, 1, 599)
    assert [rule.rule for rule in report.decision.rules if rule.rule == "assignment" and not rule.ok]
    assert report.decision.verdict == "hold"
    assert report.warnings[0] == "1 row names no arm and was left out."
    assert row_of(report, "spent").treatment_mean == pytest.approx(row_of(plain, "spent").treatment_mean, rel=0.02)


def test_missing_values_are_left_out_of_their_metric_and_told_by_arm(tmp_path: Path) -> None:
    table = planted(np.random.default_rng(7), 500)
    table.loc[:9, "spent"] = np.nan
    report = analysed(tmp_path, table, "spent=spent rate=spent/views", control="off")
    kept = table[table.spent.notna()]
    theirs = stats.ttest_ind(kept[kept.arm == "on"].spent, kept[kept.arm == "off"].spent, equal_var=False)
    assert row_of(report, "spent").p_value == pytest.approx(theirs.pvalue, rel=1e-9)
    assert row_of(report, "rate").control_users == (kept.arm == "off").sum()
    assert "10 users have no value" in report.warnings[0]
    assert report.users == 500


def test_no_spread_no_relative_effect_and_nothing_to_divide_by_are_told(tmp_path: Path) -> None:
    table = pd.DataFrame({"who": range(8), "arm": ["C", "T"] * 4, "same": 1, "loss": [-1.0, 8, -3, 9, -2, 7, -4, 6], "none": 0})
    report = analysed(tmp_path, table, "loss=loss same=same ratio=same/none")
    assert "same value" in row_of(report, "same").reason
    assert "only zeros to divide by" in row_of(report, "ratio").reason
    assert row_of(report, "loss").effect_percent is None
    assert report.decision.verdict == "promote"
    assert "difference +10 (95 % interval" in report.decision.reasons[0]


def test_arms_that_differed_before_are_not_to_be_trusted(tmp_path: Path) -> None:
    table = planted(np.random.default_rng(8))
    table["spent_before"] *= np.where(table.arm == "on", 1.3, 1.0)
    report = analysed(
        tmp_path, table, "spent=spent", control="off", covariates=("spent=spent_before",), shares={"off": 6, "on": 4}
    )
    assert [rule.rule for rule in report.decision.rules if not rule.ok] == ["before"]
    assert report.decision.verdict == "hold"
