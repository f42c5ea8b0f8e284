"""The report as a person meets it: offline, on a phone, in the dark, by keyboard, on paper."""

import base64
import os
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from recsys.abtest.report import analyse, write_report
from recsys.experiments import Arm, Experiment
from recsys.night.report import build_report
from tests.support.browser import PHONE, chopped, chromium, colours, overflowing, resize, shot
from tests.support.documents import full_card, full_gate
from tests.support.reports import ended
from tests.support.traffic import records, write
from tests.support.watched import live_settings, watched_night

pytestmark = pytest.mark.real

DESIGN = Experiment("DAE_VS_CONTEXTUAL", (Arm("C", "contextual"), Arm("T1", "dae"), Arm("L", "dae")))
#: Pixels that a night's report may be high on a phone; what people rarely need is folded there.
HIGHEST = 8000


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a night that was held leaves it, with the gate's and the model's figures."""
    root = tmp_path_factory.mktemp("report")
    rows = records(DESIGN, users=600, sessions=2400, lift={"T1": 1.3, "L": 1.6})
    logs, out = write(root / "logs/a.jsonl", rows), root / "out"
    found = analyse(logs, DESIGN.name, "C", ["T1"], live="L", design=DESIGN, out=out)
    more = {"gate": full_gate(), "model": full_card(), "log_date": "2026-01-05", "version": "2026-01-05-0a1b2c3d"}
    write_report(out, ended(found.model_copy(update=more), "held"), None)
    return out / "report.html"


def show(driver: Chrome, report: Path, width: int = 1100) -> None:
    driver.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    resize(driver, width)
    driver.get(report.as_uri())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where screenshots go."""
    return Path(os.environ.get("SCREENSHOTS", tmp_path))


def test_pictures_show_and_nothing_is_fetched(report: Path, tmp_path: Path, directory: Path) -> None:
    with chromium(tmp_path / "profile") as driver:
        show(driver, report)
        widths = driver.execute_script("return [...document.images].map(image => image.naturalWidth)")
        assert len(widths) == 4
        assert min(widths) > 500
        fetched = driver.execute_script("return performance.getEntriesByType('resource').map(r => r.name)")
        assert all(name.startswith("data:") for name in fetched)
        shot(driver, directory / "report.png")


def test_the_first_screen_says_what_came_of_it(report: Path, tmp_path: Path) -> None:
    with chromium(tmp_path / "profile") as driver:
        show(driver, report)
        headline = driver.find_element(By.TAG_NAME, "h1")
        assert headline.text.startswith("Held: listeners stay")
        assert headline.text.endswith("shorter than with the live version.")
        assert headline.rect["y"] + headline.rect["height"] < 900


@pytest.mark.parametrize("width", [360, PHONE, 560, 800, 1100])
def test_nothing_is_wider_than_the_screen_or_chopped(report: Path, tmp_path: Path, directory: Path, width: int) -> None:
    with chromium(tmp_path / "profile") as driver:
        show(driver, report, width)
        shot(driver, directory / f"report-{width}.png")
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        assert overflowing(driver) == []
        driver.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true })")
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        assert chopped(driver) == []


def test_a_phone_shows_a_page_of_sensible_height_with_pictures_of_its_own(report: Path, tmp_path: Path) -> None:
    with chromium(tmp_path / "profile") as driver:
        show(driver, report, PHONE)
        assert driver.execute_script("return document.documentElement.scrollHeight") < HIGHEST
        narrow, *_ = driver.find_elements(By.CSS_SELECTOR, "figure img")
        assert narrow.rect["height"] > 0.8 * narrow.rect["width"]


def test_it_is_dark_where_the_reader_is(report: Path, tmp_path: Path, directory: Path) -> None:
    found = {}
    for dark in (False, True):
        with chromium(tmp_path / f"profile-{dark}", dark=dark) as driver:
            show(driver, report)
            source = driver.execute_script("return document.images[0].currentSrc")
            found[dark] = (*colours(driver), source)
            shot(driver, directory / f"report-{'dark' if dark else 'light'}.png")
            resize(driver, PHONE)
            shot(driver, directory / f"report-{'dark' if dark else 'light'}-{PHONE}.png")
    (light_page, light_ink, light_picture), (dark_page, dark_ink, dark_picture) = found[False], found[True]
    assert light_page > 600 > 150 > dark_page
    assert light_ink < 200 < 600 < dark_ink
    assert light_picture != dark_picture


def test_the_keyboard_reaches_the_numbers_first(report: Path, tmp_path: Path) -> None:
    with chromium(tmp_path / "profile") as driver:
        show(driver, report)
        driver.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
        link = driver.switch_to.active_element
        assert link.text == "Skip to the numbers"
        assert link.rect["x"] >= 0
        link.send_keys(Keys.ENTER)
        assert driver.current_url.endswith("#numbers")
        headings = [heading.tag_name for heading in driver.find_elements(By.CSS_SELECTOR, "h1, h2, h3")]
        assert headings.count("h1") == 1
        assert headings[0] == "h1"


def test_it_prints(report: Path, tmp_path: Path) -> None:
    with chromium(tmp_path / "profile") as driver:
        show(driver, report)
        paper = base64.b64decode(driver.print_page())
    assert paper.startswith(b"%PDF")
    assert 2 <= paper.count(b"/Type /Page\n") <= 8


def test_the_nights_of_a_watched_experiment_come_first_and_the_rest_is_grey(tmp_path: Path, directory: Path) -> None:
    night = watched_night(live_settings(tmp_path / "night"), 1.125, 6)
    build_report(night)
    page = night.store.local(night.report) / "report.html"
    with chromium(tmp_path / "profile") as driver:
        for width in (1100, PHONE):
            show(driver, page, width)
            shot(driver, directory / f"watched-{width}.png")
            assert driver.execute_script("return document.documentElement.scrollWidth") <= width
            assert overflowing(driver) == []
            assert chopped(driver) == []
        assert (
            driver.find_element(By.CSS_SELECTOR, "figure img").get_attribute("alt").startswith("The main effect night by night.")
        )
        colour = "return getComputedStyle(document.querySelector(arguments[0])).color"
        assert driver.execute_script(colour, "tr.once td") == driver.execute_script(colour, "p.soft")
