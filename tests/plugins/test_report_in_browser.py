"""The report as a person meets it: offline, on a phone, in the dark, by keyboard, on paper."""

import base64
import os
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from recsys.abtest.report import analyse
from recsys.experiments import Arm, Experiment
from tests.support.browser import chromium
from tests.support.traffic import records, write

pytestmark = pytest.mark.real

DESIGN = Experiment("DAE_VS_CONTEXTUAL", (Arm("C", "contextual"), Arm("T1", "dae"), Arm("L", "dae")))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    rows = records(DESIGN, users=600, sessions=2400, lift={"T1": 1.6, "L": 1.3})
    analyse(write(root / "logs/a.jsonl", rows), DESIGN.name, "C", ["T1"], live="L", design=DESIGN, out=root / "out")
    return root / "out" / "report.html"


def show(driver: Chrome, report: Path, width: int = 1100) -> None:
    driver.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get(report.as_uri())


def shot(driver: Chrome, tmp_path: Path, name: str) -> None:
    directory = Path(os.environ.get("SCREENSHOTS", tmp_path))
    taken = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True})
    (directory / name).write_bytes(base64.b64decode(taken["data"]))


def test_pictures_show_and_nothing_is_fetched(report: Path, tmp_path: Path) -> None:
    with chromium(tmp_path / "profile") as driver:
        show(driver, report)
        widths = driver.execute_script("return [...document.images].map(image => image.naturalWidth)")
        assert len(widths) == 4
        assert min(widths) > 500
        fetched = driver.execute_script("return performance.getEntriesByType('resource').map(r => r.name)")
        assert all(name.startswith("data:") for name in fetched)
        shot(driver, tmp_path, "report.png")


@pytest.mark.parametrize("width", [380, 800, 1100])
def test_nothing_is_wider_than_the_screen(report: Path, tmp_path: Path, width: int) -> None:
    with chromium(tmp_path / "profile") as driver:
        show(driver, report, width)
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        shot(driver, tmp_path, f"report-{width}.png")


def test_it_is_dark_where_the_reader_is(report: Path, tmp_path: Path) -> None:
    found = {}
    for dark in (False, True):
        with chromium(tmp_path / f"profile-{dark}", dark=dark) as driver:
            show(driver, report)
            colour = driver.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
            source = driver.execute_script("return document.images[0].currentSrc")
            found[dark] = (sum(int(part) for part in colour.strip("rgba()").split(",")[:3]), source)
            shot(driver, tmp_path, f"report-{'dark' if dark else 'light'}.png")
    assert found[False][0] > 600
    assert found[True][0] < 150
    assert found[False][1] != found[True][1]


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
