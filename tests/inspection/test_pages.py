"""The pages' documents: what is live, nights in order, words escaped, nights compared, trials, the runbook, reports."""

import html
import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from recsys.abtest.history import NightRow
from recsys.exceptions import MissingDataError
from recsys.inspection import health, leaderboards, pages
from recsys.inspection.diff import Row
from recsys.inspection.health import Part
from recsys.inspection.leaderboards import Leaderboard
from recsys.inspection.listing import Entry, Run, entries, listing, neighbours
from recsys.inspection.pages import (
    Overview,
    change_page,
    compare_page,
    night_page,
    nights_page,
    notice_page,
    report_file,
    tuning_page,
)
from recsys.inspection.runbook import runbook
from recsys.inspection.standing import Held, Standing
from recsys.rollout.look import Evidence, Look, Moments
from recsys.storage.store import Storage
from recsys.versions import pointer
from recsys.versions.pointer import Pointer
from recsys.versions.rollout import Rollout
from tests.support.hdfs import SCHEMES
from tests.support.markdown import ROOT, anchors
from tests.support.pages import Page

DAY = date(2026, 1, 5)
HOME = "/n"
EFFECT = {"effect_percent": -3.21, "ci_low_percent": -5.0, "ci_high_percent": -1.5}
LIVE = {"live_effect_percent": 2.5, "live_ci_low_percent": 1.0, "live_ci_high_percent": 4.0}


def page_of(every: list[Entry], standing: Standing | None = None, parts: tuple[Part, ...] = (), **query: str) -> str:
    text = nights_page(Overview(listing(every, query), standing or Standing(), parts), home=HOME)
    assert Page(text).open == []
    return text


def test_nights_are_listed_newest_first_with_links_where_there_is_a_report() -> None:
    night = NightRow("2026-01-04", "held", report="x", version="v<1>", reason="Held: <b> is no tag.", **EFFECT, **LIVE)
    started = datetime(2026, 1, 5, 2, tzinfo=UTC)
    runs = {date(2026, 1, 4): Run("scheduled__2026-01-05T02:00:00+00:00", "success", started, started + timedelta(minutes=63))}
    text = page_of(entries([night, NightRow("2026-01-05")], runs, {}))
    rows = text[text.index("<tbody>") :]
    assert rows.index("2026-01-05") < rows.index("2026-01-04")
    assert 'href="/n/night/2026-01-04/report.html"' in text
    assert 'href="/n/night/2026-01-05/report.html"' not in text
    assert "−3.2 %" in rows
    assert "+2.5 %" in rows
    assert "v&lt;1&gt;" in text
    assert "&lt;b&gt; is no tag." in text
    assert "Not finished" in rows
    assert "1 h 3 min" in rows
    assert 'href="/dags/nightly_recommender/runs/scheduled__2026-01-05T02%3A00%3A00%2B00%3A00"' in rows
    assert "<svg" in text
    assert "http-equiv" not in text
    assert "no night yet" in page_of([])
    assert "&lt;b&gt;" in notice_page("t", "<b>", home=HOME)


def test_a_running_night_is_a_row_and_the_page_follows_it() -> None:
    every = entries([], {DAY: Run("manual__1", "running", datetime.now(UTC))}, {})
    text = page_of(every)
    assert '<span class="pill running">Running</span>' in text
    assert f'http-equiv="refresh" content="{pages.WAIT}"' in text


def test_a_damaged_night_says_why_and_hides_no_other() -> None:
    text = page_of(
        entries([NightRow("2026-01-04", "damaged", reason="report.json is cut"), NightRow("2026-01-05", "held")], {}, {})
    )
    assert "Report.json is cut" in text
    assert '<span class="pill held">' in text


def test_what_is_live_says_since_when_by_whom_and_what_is_held() -> None:
    move = pointer.Entry("2026-01-05T03:10:00+00:00", "promote", "", "v1", "person ann", "better <b>")
    held = Held("*", "2026-01-06T09:00:00+00:00", "person bob", "holidays")
    text = page_of([], Standing(Pointer("v1", 3), move, [held]), (Part("Valkey", False, "away", runbook="valkey-is-full"),))
    for words in ("v1", "2026-01-05 03:10 UTC", "person ann", "better &lt;b&gt;", "All promotions", "person bob: holidays"):
        assert words in text
    assert 'href="/n/runbook#valkey-is-full"' in text
    assert 'href="/dags/change_live"' in text
    assert "Nothing is live" in page_of([])
    assert "What is live is not known" in page_of([], Standing(known=False))


def test_a_year_of_nights_is_turned_and_filtered() -> None:
    rows = [NightRow(str(DAY + timedelta(days=n)), "held" if n % 2 else "promoted", version=f"v{n}") for n in range(365)]
    every = entries(rows, {}, {})
    text = page_of(every)
    assert text.count('<th scope="row">') == 30
    assert "Page 1 of 13" in text
    assert 'href="/n/nights?page=2"' in text
    text = page_of(every, verdict="held", page="7")
    assert "182 of 365 nights" in text
    assert 'href="/n/nights?verdict=held&amp;page=6"' in text
    assert "Older" not in text
    text = page_of(every, since="2026-13-01", page="0", version="<i>")
    assert text.count('class="problem"') == 3
    assert "<i>" not in text


def test_a_night_leads_to_its_run_its_report_and_its_neighbours() -> None:
    rows = [NightRow(str(DAY + timedelta(days=n)), "held", version=f"v{n}", report="x", **EFFECT) for n in (0, 2, 5)]
    every = entries(rows, {DAY + timedelta(days=2): Run("manual__1", "success")}, {})
    held = Standing(Pointer("v0"), held=[Held("v2", "2026-01-06T09:00:00+00:00", "person bob", "odd")])
    text = night_page(neighbours(every, DAY + timedelta(days=2)), held, home=HOME)
    assert Page(text).open == []
    for link in (
        "/n/night/2026-01-05",
        "/n/night/2026-01-10",
        "/n/night/2026-01-07/report.html",
        "/n/compare?first=2026-01-05&amp;second=2026-01-07",
        "/dags/nightly_recommender/runs/manual__1",
        "/n/runbook#a-candidate-is-held",
        "/dags/change_live",
    ):
        assert f'href="{link}"' in text
    assert "by person bob: odd" in text
    assert "live now" not in text
    assert "v0, live now" in night_page(neighbours(every, DAY), held, home=HOME)
    assert "Not finished" in night_page(neighbours([], DAY), Standing(known=False), home=HOME)


def offered(text: str) -> dict[str, tuple[str, dict[str, object], bool]]:
    """The forms that trigger a DAG: DAG, conf and whether a reason is asked for, by what is written on them."""
    page = Page(text)
    assert page.open == []
    summaries = [html.unescape(found) for found in re.findall(r"<summary>(.*?)</summary>", text)]
    forms = [attrs for tag, attrs in page.tags if tag == "form" and "data-dag" in attrs]
    asked = ['name="why"' in part.partition("</form>")[0] for part in text.split("<form ")[1:] if "data-dag" in part]
    found = zip(summaries, forms, asked, strict=True)
    return {said: (str(form["data-dag"]), json.loads(str(form["data-conf"])), why) for said, form, why in found}


def test_what_is_live_is_changed_from_its_page() -> None:
    now = Standing(Pointer("v2", 3, previous="v1"), held=[Held("v<0>")])
    text = change_page(now, "", home=HOME)
    assert "v1 becomes live; v2 is blocked" in text
    assert offered(text) == {
        "Roll back": ("change_live", {"action": "rollback"}, True),
        "Hold all promotions": ("change_live", {"action": "hold", "version": "*"}, True),
        "Release: v<0>": ("change_live", {"action": "release", "version": "v<0>"}, True),
    }
    # Nothing to go back to, and all is held already.
    text = change_page(Standing(held=[Held("*")]), "Redis is <away>.", home=HOME)
    assert "Redis is &lt;away&gt;." in text
    assert offered(text) == {"Release: All promotions": ("change_live", {"action": "release", "version": "*"}, True)}


MOMENT = datetime(2026, 1, 6, 9, tzinfo=UTC)
WHY = "no harm beyond <30 %>"
ROLLOUT = Rollout("v2", "2026-01-05", "v1", "serving", 2, 5.0, "ROLLOUT-v2-2", MOMENT, MOMENT, 2, "run <r>", WHY)
LOOK = Look(
    at=MOMENT,
    experiment="ROLLOUT-v2-2",
    stage=2,
    share=5.0,
    since=MOMENT,
    action="stay",
    reason="no telling yet",
    effect=-0.03,
    low=-0.12,
    high=0.07,
    margin=0.1,
    evidence=Evidence(candidate=Moments(users=1234)),
)


@pytest.mark.parametrize(
    ("state", "share", "said"),
    [("serving", 5.0, "Under way"), ("held", 5.0, "Held"), ("aborted", 0.0, "Taken back"), ("done", 0.0, "Live")],
)
def test_a_rollout_says_how_it_stands_and_is_changed_from_the_page(state: Any, share: float, said: str) -> None:
    now = Standing(Pointer("v1"), rollout=replace(ROLLOUT, state=state, share=share), looks=[LOOK])
    text = change_page(now, "", home=HOME)
    assert Page(text).open == []
    assert f">{said}</span>" in text
    for words in ("no harm beyond &lt;30 %&gt;", "run &lt;r&gt;", "−3.0 %", "1,234", "1 look, the newest", "<svg"):
        assert words in text
    assert ("5 % of listeners</small>" in text) == (share > 0)
    changes = {
        "Take the candidate back": ("change_live", {"action": "abort", "version": "v2"}, True),
        "Serve it to 25 % of listeners": ("change_live", {"action": "advance", "version": "v2", "share": 25.0}, True),
    }
    found = offered(text)
    assert all((found.get(name) == change) == (share > 0) for name, change in changes.items())
    assert f">{said}</span>" in page_of([], now)
    assert 'aria-label="Rollout"' not in page_of([], Standing(Pointer("v1")))


def test_a_version_is_promoted_held_and_released_from_its_night_s_page_and_the_date_rebuilt() -> None:
    every = entries([NightRow(str(DAY), "held", version="v0")], {}, {})
    around = neighbours(every, DAY)
    anew = {"log_date": str(DAY), "rebuild": True}
    rebuilds = {
        "Rebuild this night": ("nightly_recommender", anew, False),
        "Rebuild the traffic of this date": ("collect_traffic", anew, False),
    }
    hold = {"Hold": ("change_live", {"action": "hold", "version": "v0"}, True)}
    release = {"Release": ("change_live", {"action": "release", "version": "v0"}, True)}
    promote = {"Promote": ("change_live", {"action": "promote", "version": "v0"}, True)}
    assert offered(night_page(around, Standing(Pointer("v9")), home=HOME)) == promote | hold | rebuilds
    assert offered(night_page(around, Standing(Pointer("v0")), home=HOME)) == hold | rebuilds
    assert offered(night_page(around, Standing(held=[Held("v0")]), home=HOME)) == promote | release | rebuilds
    assert offered(night_page(neighbours([], DAY), Standing(), home=HOME)) == rebuilds


def test_two_nights_are_compared_what_differs_first() -> None:
    rows = [Row("gate", "users", 100, 100), Row("gate", "gain<", 0.25, None)]
    text = compare_page([DAY, date(2026, 1, 6)], DAY, date(2026, 1, 6), rows, "", home=HOME)
    assert Page(text).open == []
    assert "1 of 2 differs." in text
    assert text.index("gain&lt;") < text.index("The same in both: 1")
    assert "<td>0.25</td><td>-</td>" in text
    assert "no two" in compare_page([], None, None, [], "There are no two nights", home=HOME)


def test_trials_are_ranked_and_a_damaged_leaderboard_hides_no_other(tmp_path: Path) -> None:
    store = Storage(f"file://{tmp_path}")
    trial = '{"trial": "abc", "configuration": {"dropout": 0.5}, "ndcg_100": 0.0823, "figures": {}, "seconds": 12.3}'
    for day, text in ((4, "[]"), (5, f"[{trial}]"), (6, "{")):
        with store.stage(f"tuning/date=2026-01-0{day}/leaderboard") as staging:
            (staging / "leaderboard.json").write_text(text)
    with store.stage("tuning/date=2026-01-07/abc") as staging:
        (staging / "trial.json").write_text(trial)
    found = leaderboards.leaderboards(store)
    assert [board.log_date.day for board in found] == [6, 5, 4]
    text = tuning_page(found, home=HOME)
    assert Page(text).open == []
    assert "The leaderboard of 2026-01-06 cannot be read" in text
    assert "dropout 0.5" in text
    assert "0.0823" in text
    assert f"RECSYS_DAE={tmp_path}/tuning/date=2026-01-05/leaderboard/best.json" in text
    assert "no trials yet" in tuning_page([], home=HOME)
    assert "the defaults" in tuning_page(
        [Leaderboard(DAY, [found[1].trials[0].model_copy(update={"configuration": {}})])], home=HOME
    )


def test_the_runbook_has_the_anchors_that_pages_link_to(tmp_path: Path) -> None:
    text = pages.runbook_page(home=HOME)
    assert Page(text).open == []
    source = (ROOT / "docs" / "runbook.md").read_text()
    ids = set(re.findall(r'<h[23] id="([^"]+)"', text))
    assert ids == anchors(source) - {"runbook"}
    linked = set(re.findall(r'"([a-z0-9]+(?:-[a-z0-9]+){2,})"', Path(health.__file__).read_text())) | set(pages.HELP.values())
    assert len(linked) >= 8
    assert linked <= ids
    assert set(re.findall(r'href="#([^"]+)"', text)) <= ids
    assert "runbook.md" not in "".join(re.findall(r'href="[^"]*"', text))
    with pytest.raises(MissingDataError, match="nowhere"):
        runbook(tmp_path / "nowhere.md")


def test_the_only_script_is_the_one_that_the_policy_names() -> None:
    text = page_of([])
    assert text.count("<script") == 1
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", pages.SCRIPT_SOURCE)
    assert not re.search(r' on[a-z]+="', text)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_report_is_read_from_any_storage(tmp_path: Path, scheme: str, request: pytest.FixtureRequest) -> None:
    store = Storage(f"file://{tmp_path}" if scheme == "file" else request.getfixturevalue("hdfs_root"))
    with store.stage(f"reports/date={DAY}") as staging:
        (staging / "report.html").write_text("<p>hello</p>")
    assert report_file(store, DAY, "report.html") == b"<p>hello</p>"
    with pytest.raises(MissingDataError, match="no file of a report"):
        report_file(store, DAY, "../manifest.json")
    with pytest.raises(MissingDataError, match="2026-01-06"):
        report_file(store, date(2026, 1, 6), "report.html")
