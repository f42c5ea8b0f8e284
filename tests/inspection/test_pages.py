"""The pages' documents: nights in order, words escaped, reports from any storage."""

from datetime import date
from pathlib import Path

import pytest

from recsys.abtest.history import NightRow
from recsys.exceptions import MissingDataError
from recsys.inspection.pages import nights_page, notice_page, report_file
from recsys.storage.store import Storage
from tests.support.hdfs import SCHEMES

DAY = date(2026, 1, 5)


def test_nights_are_listed_newest_first_with_links_where_there_is_a_report() -> None:
    effect = {"effect_percent": -3.21, "ci_low_percent": -5.0, "ci_high_percent": -1.5}
    text = nights_page([NightRow("2026-01-04", "held", report="x", live="v<1>", **effect), NightRow("2026-01-05")], "/n/{}")
    assert text.index("2026-01-05") < text.index("2026-01-04")
    assert 'href="/n/2026-01-04"' in text
    assert 'href="/n/2026-01-05"' not in text
    assert "−3.2\u00a0%" in text
    assert "v&lt;1&gt;" in text
    assert "Not finished" in text
    assert "no night yet" in nights_page([], "/n/{}")
    assert "&lt;b&gt;" in notice_page("t", "<b>")


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
