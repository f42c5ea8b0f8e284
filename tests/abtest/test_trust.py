"""What makes numbers worth trust: arms before the experiment, winsorised effects, CUPED of ratios, latency by user."""

from pathlib import Path

import duckdb
import numpy as np
import pytest
from scipy import stats

from recsys.abtest.analysis import adjust, welch
from recsys.abtest.headline import headline
from recsys.abtest.metrics import METRICS, PRIMARY
from recsys.abtest.report import analyse
from recsys.abtest.served import latency_intervals
from recsys.abtest.sessions import read_log
from recsys.abtest.trust import arms_before, winsorise
from recsys.experiments import Arm, Experiment
from tests.support.arms import heavy_tailed, users
from tests.support.traffic import records, write

pytestmark = pytest.mark.slow

RATIO = next(m for m in METRICS if m.name == "time_per_session")
DESIGN = Experiment("X", (Arm("C", "contextual"), Arm("T1", "dae")))


def test_a_winsorised_effect_is_that_of_values_drawn_in_to_both_arms_quantiles() -> None:
    rng = np.random.default_rng(1)
    values = heavy_tailed(rng, 900), np.append(heavy_tailed(rng, 700), 5000.0)
    found = winsorise(PRIMARY, *map(users, values), share=0.02)
    assert found is not None
    low, high = np.quantile(np.concatenate(values), [0.02, 0.98])
    expected = stats.ttest_ind(values[1].clip(low, high), values[0].clip(low, high), equal_var=False)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert (found.low, found.high, found.share, found.role) == (pytest.approx(low), pytest.approx(high), 0.02, "winsorised")
    assert found.moved == sum(int(((v < low) | (v > high)).sum()) for v in values)
    plain = welch(PRIMARY, *map(users, values))
    assert plain.effect is not None
    assert found.effect is not None
    assert plain.effect > 5 > found.effect


def test_a_winsorised_effect_there_is_not() -> None:
    values = users(heavy_tailed(np.random.default_rng(1), 50))
    assert winsorise(RATIO, values, values, share=0.01) is None
    assert winsorise(PRIMARY, values, values, share=0.0) is None
    nobody = {name: column[:0] for name, column in values.items()}
    assert "0 users" in str(getattr(winsorise(PRIMARY, nobody, values, share=0.01), "reason", None))
    assert "0 users" in str(getattr(winsorise(PRIMARY, nobody, nobody, share=0.01), "reason", None))


def test_heavy_tails_hide_an_effect_that_the_winsorised_row_shows() -> None:
    rng, found = np.random.default_rng(2), {"plain": 0, "winsorised": 0}
    for _ in range(60):
        arms = [users(lift * rng.pareto(1.6, 2000)) for lift in (1.0, 1.2)]
        rows = {"plain": welch(PRIMARY, *arms), "winsorised": winsorise(PRIMARY, *arms, share=0.01)}
        for name, row in rows.items():
            found[name] += row is not None and row.better
    assert found["winsorised"] > 2 * found["plain"]


def test_a_ratio_is_adjusted_by_a_ratio_from_before() -> None:
    rng, covered, ratios = np.random.default_rng(3), 0, []
    for _ in range(100):
        arms = []
        for lift in (1.0, 1.05):
            level, now, then = heavy_tailed(rng, 500), rng.poisson(4, 500), rng.poisson(4, 500)
            arm = users(lift * level * rng.lognormal(0, 0.3, 500), now.astype(float))
            before = level * rng.lognormal(0, 0.3, 500) * then
            unknown = rng.random(500) < 0.1
            arms.append(
                arm
                | {"before": np.where(unknown, np.nan, before), "before_weight": np.where(unknown, np.nan, then.astype(float))}
            )
        found = adjust(RATIO, *arms)
        assert found.ci_low_percent is not None
        assert found.ci_high_percent is not None
        covered += found.ci_low_percent <= 5 <= found.ci_high_percent
        ratios.append(found.variance_ratio or 1.0)
        assert found.known == pytest.approx(0.9, abs=0.05)
    low, high = stats.binom.interval(0.999, 100, 0.95)
    assert low <= covered <= high
    assert np.mean(ratios) < 0.7


def test_nothing_before_divides_nothing() -> None:
    rng = np.random.default_rng(4)
    arm = users(heavy_tailed(rng, 50)) | {"before": np.zeros(50), "before_weight": np.zeros(50)}
    assert "before the experiment" in str(adjust(RATIO, arm, arm).reason)


def test_arms_that_differed_before_are_shown_and_hold(tmp_path: Path) -> None:
    rows = records(DESIGN, users=600, sessions=2400, lift={"T1": 1.5})
    # Before the experiment there were no arms; the lift of those who are in T1 later is the fault.
    past = [
        {**row, "timestamp": row["timestamp"] - 10**9}
        for row in records(DESIGN, users=600, sessions=2400, lift={"T1": 1.5}, seed=3)
    ]
    logs, before = write(tmp_path / "logs/a.jsonl", rows), write(tmp_path / "before/a.jsonl", past)
    report = analyse(logs, "X", "C", before=before)
    assert [rule.rule for rule in report.decision.rules if not rule.ok] == ["before"]
    [row] = report.before
    assert (row.role, row.arm, row.control) == ("before", "T1", "C")
    assert row.effect_percent == pytest.approx(30, abs=15)
    assert {row.name for row in report.also_adjusted} == {"mean_session_length", "time_per_session", "time_per_play"}
    assert report.methods["less noise"].startswith("CUPED of Session time, Session length")
    assert "in rows of their own" in report.methods["less noise"]
    assert headline(report).title == "Not to be trusted: the arms differed already before the experiment."
    even = [{**row, "timestamp": row["timestamp"] - 10**9} for row in records(DESIGN, users=600, sessions=2400, seed=3)]
    sound = analyse(logs, "X", "C", before=write(tmp_path / "even/a.jsonl", even))
    assert sound.decision.verdict == "promote"
    assert arms_before(PRIMARY, {}, "C", []) == []


def test_intervals_of_latency_count_users_and_hold_the_truth() -> None:
    """Users are slow or fast by themselves: intervals of independent requests would hold the median in far fewer than 95 %."""
    rng, runs = np.random.default_rng(5), 60
    covered, naive = {"latency_p50": 0, "latency_p99": 0}, 0
    # The truth: a mixture over users, weighed by their requests.
    level = rng.lognormal(0, 0.6, 100_000)
    many = np.repeat(level, 5) * rng.exponential(1.0, 500_000)
    truth = dict(zip(covered, np.quantile(many, [0.5, 0.99]), strict=True))
    with duckdb.connect() as db:
        for _ in range(runs):
            requests = rng.poisson(20, 300) + 1
            user = np.repeat(np.arange(300), requests)
            latency = rng.lognormal(0, 0.6, 300)[user] * rng.exponential(1.0, len(user))
            events = {"user": user, "latency": np.rint(1e6 * latency).astype(np.int64)}
            db.register("given", _table(events))
            db.execute('CREATE OR REPLACE TEMP TABLE events AS SELECT "user", latency, false AS is_last FROM given')
            db.execute("CREATE OR REPLACE TEMP TABLE people AS SELECT DISTINCT \"user\", 'C' AS arm FROM given")
            values = dict(zip(covered, np.quantile(latency, [0.5, 0.99]).tolist(), strict=True))
            found = latency_intervals(db, {"C": values})["C"]
            for name, (low, high) in found.items():
                covered[name] += low <= truth[name] <= high
            half = 1.96 * 0.5 / np.sqrt(len(latency))
            low, high = np.quantile(latency, [0.5 - half, 0.5 + half])
            naive += low <= truth["latency_p50"] <= high
    band = stats.binom.interval(0.999, runs, 0.95)
    assert band[0] <= covered["latency_p50"] <= band[1]
    assert covered["latency_p99"] >= stats.binom.interval(0.999, runs, 0.9)[0]  # few users are that slow
    assert naive < band[0]


def _table(columns: dict[str, np.ndarray]) -> object:
    import pyarrow as pa

    return pa.table(columns)


def test_latency_of_a_report_has_intervals(tmp_path: Path) -> None:
    found = read_log(write(tmp_path / "a.jsonl", records(DESIGN, users=300, sessions=900)), "X")
    for arm in ("C", "T1"):
        for name in ("latency_p50", "latency_p99"):
            low, high = found.latencies[arm][name]
            assert low <= (found.guardrails[arm][name] or 0.0) <= high
    few = read_log(write(tmp_path / "b.jsonl", records(DESIGN, users=8, sessions=30)), "X")
    assert few.latencies == {}
    silent = [{**row, "latency": None} for row in records(DESIGN, users=60, sessions=90)]
    assert read_log(write(tmp_path / "c.jsonl", silent), "X").latencies == {}
