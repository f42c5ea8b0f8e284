"""The report of real listeners: the sequence decides, figures for one look stand beside it, and nothing is chosen afterwards."""

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.abtest.headline import headline
from recsys.abtest.history import night_row
from recsys.abtest.schema import Report
from recsys.night.night import Night
from recsys.night.report import build_report
from tests.support.documents import card, gate, publish
from tests.support.pages import assert_self_contained
from tests.support.watched import FIRST, live_settings, watched_night

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """A night whose effect is shown to who looks once, and not yet to who looks every night."""
    return watched_night(live_settings(tmp_path_factory.mktemp("night")), 1.125, 6)


@pytest.fixture(scope="module")
def report(night: Night) -> Report:
    return build_report(night)


def test_one_look_alone_would_promote_and_the_sequence_holds(report: Report) -> None:
    primary, watched = report.primary(), report.watched
    assert primary
    assert watched
    assert primary.better, primary
    assert not watched.better
    assert (watched.effect_percent or 0) == pytest.approx(primary.effect_percent)
    assert report.decision.verdict == "hold"
    assert [line.rule for line in report.decision.rules if not line.ok] == ["better than control"]
    said = headline(report)
    assert "no difference from the control is shown" in said.title
    assert "95 % interval for all nights" in said.title
    assert "of 1,000 planned ones" in said.sure
    assert "If the two were equal" not in said.sure


def test_the_page_shows_the_nights_and_greys_what_holds_once(night: Night, report: Report) -> None:
    directory = night.store.local(night.report)
    text = (directory / "report.html").read_text()
    assert_self_contained(text)
    assert [picture.name for picture in report.pictures][:2] == ["nights", "effects"]
    assert "after 6 nights" in report.pictures[0].alt
    assert "for one look" in report.pictures[1].caption
    assert text.count('<tr class="main">') == 1
    assert text.count('<tr class="once">') == len(report.metrics) + 1, "and the winsorised row"
    assert {test.planned_users for test in report.guardrail_tests} == {1000}
    assert report.methods["deciding effect"].startswith("Asymptotic confidence sequence")
    assert (directory / "nights-dark.png").exists()
    assert "logs/date=2026-09-20 to logs/date=2026-09-25: 6 log dates; each is named in report.json" in text
    row = night_row(night.store, night.log_date)
    assert report.watched
    assert (row.ci_low_percent, row.ci_high_percent) == (report.watched.ci_low_percent, report.watched.ci_high_percent)


def test_a_rerun_says_the_same_and_cannot_change_what_was_planned(night: Night, report: Report) -> None:
    again = Night(night.log_date, night.settings.model_copy(update={"planned_users": 50_000}))
    assert build_report(again).to_json() == report.to_json()
    earlier = Night(night.log_date - timedelta(days=2), again.settings)
    for document in (gate(), card(earlier.log_date)):
        publish(night.store, earlier.log_date, document)
    looks = build_report(earlier).watched
    assert looks
    assert report.watched
    assert looks.looks == report.watched.looks[:4]


def test_earlier_sessions_are_those_from_before_the_first_day(tmp_path: Path) -> None:
    night = watched_night(live_settings(tmp_path), 1.0, 2)
    time = np.random.default_rng(1).gamma(2.0, 2.0, 200)
    sessions = pa.table({"user": pa.array(range(200), pa.int64()), "steps": np.ones(200, np.int32), "time": time})
    with night.store.stage(night.interactions) as staging:
        pq.write_table(sessions, staging / "sessions.parquet")
    assert build_report(night).adjusted is None, "what the night learned from is the experiment itself"
    with night.store.stage(f"interactions/date={FIRST - timedelta(days=1)}") as staging:
        pq.write_table(sessions, staging / "sessions.parquet")
    report = build_report(night)
    assert report.adjusted
    assert [row.role for row in report.before] == ["before"]


def test_a_report_says_what_it_is_until_it_is_read_again(night: Night, report: Report) -> None:
    found = Report.read(night.store, night.log_date)
    assert found == report
    assert json.loads(report.to_json())["watched"]["planned_users"] == 1000
    once = found.model_copy(update={"watched": None})
    assert "watched" not in json.loads(once.to_json())
