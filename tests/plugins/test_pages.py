"""The pages in a real Airflow: its api-server and dag-processor, a real browser with a logged-in user, and strangers."""

import json
import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from recsys.experiments import Arm, Experiment
from recsys.night.report import build_refused_report, build_report
from recsys.platform import components
from tests.support.browser import PHONE, chopped, chromium, colours, framed_text, log_in, overflowing, resize, shot
from tests.support.documents import experiment, gate, inputs, night_of, publish, verdict
from tests.support.site import Site, airflow
from tests.support.traffic import records

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

VIEWER = "viewer"
DAG, RUN = "nightly_recommender", "run__2026-01-05__a"
NIGHT, REFUSED, UNFINISHED = date(2026, 1, 5), date(2026, 1, 4), date(2026, 1, 6)
VERSION = "2026-01-05-0a1b2c3d"
DESIGN = Experiment("DAE_VS_CONTEXTUAL", (Arm("C", "contextual"), Arm("T1", "dae", VERSION)), salt=str(NIGHT))


def nights(root: Path) -> None:
    """A promoted night, a refused one and one that has only begun."""
    night, refused = night_of(root, NIGHT), night_of(root, REFUSED)
    experiment(night, DESIGN, records(DESIGN, users=500, sessions=2000, lift={"T1": 1.6}))
    build_report(night)
    publish(refused.store, REFUSED, gate(passed=False, reason="Worse than popularity."))
    build_refused_report(refused)
    publish(night.store, NIGHT, verdict("promoted", VERSION, reason="better"))
    publish(night.store, REFUSED, verdict("gate_refused", "", reason="Worse than popularity."))
    for day in (NIGHT, REFUSED, UNFINISHED):
        publish(night.store, day, inputs(day))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("airflow")
    nights(root)
    people = {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{components.USER}:admin,{VIEWER}:viewer"}
    with airflow(root, "api-server", "dag-processor", **people) as site:
        site.wait_until(lambda client: client.has_dag(DAG))
        site.client.trigger(DAG, RUN, {"log_date": str(NIGHT)})
        site.client.trigger(DAG, "unfinished", {"log_date": str(UNFINISHED)})
        yield site


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = Path(os.environ.get("SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@pytest.fixture(scope="module")
def browser(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        log_in(driver, site.url, components.USER, site.password)
        yield driver


def test_the_run_page_has_a_tab_with_the_report(site: Site, browser: Chrome, screenshots: Path) -> None:
    browser.get(f"{site.url}/dags/{DAG}/runs/{RUN}")
    tab = WebDriverWait(browser, 60).until(lambda d: d.find_elements(By.PARTIAL_LINK_TEXT, "A/B report"))[0]
    tab.click()
    text = framed_text(browser, "listeners stay")
    assert VERSION in text
    browser.switch_to.default_content()
    browser.save_screenshot(str(screenshots / "airflow-report.png"))


def test_the_run_page_has_a_tab_with_the_night_which_leads_back(site: Site, browser: Chrome, screenshots: Path) -> None:
    browser.get(f"{site.url}/dags/{DAG}/runs/{RUN}")
    WebDriverWait(browser, 60).until(lambda d: d.find_elements(By.LINK_TEXT, "Night"))[0].click()
    framed_text(browser, f"Night of {NIGHT}")
    browser.save_screenshot(str(screenshots / "airflow-night.png"))
    browser.find_element(By.PARTIAL_LINK_TEXT, f"Night before: {REFUSED}").click()
    framed_text(browser, f"Night of {REFUSED}")
    browser.find_element(By.PARTIAL_LINK_TEXT, f"Night after: {NIGHT}").click()
    framed_text(browser, f"Night of {NIGHT}")
    browser.find_element(By.PARTIAL_LINK_TEXT, f"Compare with {REFUSED}").click()
    framed_text(browser, "Two nights compared")
    browser.switch_to.default_content()
    browser.save_screenshot(str(screenshots / "airflow-compare.png"))
    # A link to Airflow's own page opens outside of the frame.
    browser.get(f"{site.url}/plugin/nights/nightshift/night/{NIGHT}")
    framed_text(browser, f"Night of {NIGHT}")
    browser.find_element(By.LINK_TEXT, RUN).click()
    browser.switch_to.default_content()
    WebDriverWait(browser, 60).until(lambda d: d.current_url.startswith(f"{site.url}/dags/{DAG}/runs/{RUN}"))


def test_the_pages_follow_airflow_s_own_colours(site: Site, browser: Chrome, screenshots: Path) -> None:
    browser.get(f"{site.url}/plugin/nights")
    framed_text(browser, "Nights")
    found = {}
    for theme in ("dark", "light"):
        browser.switch_to.default_content()
        browser.execute_script("document.documentElement.className = arguments[0]", theme)
        framed_text(browser, "Nights")
        found[theme] = colours(browser)
        browser.switch_to.default_content()
        browser.save_screenshot(str(screenshots / f"airflow-nights-{theme}.png"))
    assert found["light"][0] > 600 > 150 > found["dark"][0]
    assert found["light"][1] < 200 < 600 < found["dark"][1]


def test_the_navigation_leads_to_the_nights(site: Site, browser: Chrome, screenshots: Path) -> None:
    browser.get(site.url)
    entry = WebDriverWait(browser, 60).until(lambda d: d.find_elements(By.CSS_SELECTOR, 'a[href$="/plugin/nights"]'))[0]
    entry.click()
    text = framed_text(browser, "Nights")
    assert VERSION in text
    days = [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, "tbody th")]
    assert days == [str(UNFINISHED), str(NIGHT), str(REFUSED)]
    assert text.count("Report") >= 2
    assert "not well" in text  # neither the service nor Valkey runs here
    browser.switch_to.default_content()
    browser.save_screenshot(str(screenshots / "airflow-nights.png"))
    framed_text(browser, "Nights")
    browser.find_element(By.CSS_SELECTOR, f'a[aria-label="Report of {NIGHT}"]').click()
    framed_text(browser, "listeners stay")


def fill(browser: Chrome, said: str, reason: str) -> str:
    """Fill a form of a night's page in the frame, and give what it says afterwards."""
    form = browser.find_element(By.XPATH, f"//details[summary='{said}']")
    form.find_element(By.TAG_NAME, "summary").click()
    form.find_element(By.NAME, "why").send_keys(reason)
    form.find_element(By.TAG_NAME, "button").click()
    output = form.find_element(By.TAG_NAME, "output")
    WebDriverWait(browser, 60).until(lambda _: output.text not in ("", "Airflow is asked …"))
    return output.text


def test_a_version_is_promoted_from_its_page_by_who_is_logged_in(site: Site, browser: Chrome, screenshots: Path) -> None:
    site.wait_until(lambda client: client.has_dag("change_live"))
    browser.get(f"{site.url}/plugin/nights/nightshift/night/{NIGHT}")
    framed_text(browser, f"Night of {NIGHT}")
    assert fill(browser, "Promote", "as the report says").startswith("Triggered")
    browser.switch_to.default_content()
    browser.save_screenshot(str(screenshots / "airflow-promote.png"))
    (run,) = site.client.call("GET", "/dags/change_live/dagRuns")["dag_runs"]
    assert run["conf"] == {"action": "promote", "version": VERSION, "why": "as the report says"}
    assert run["triggering_user_name"] == components.USER
    framed_text(browser, f"Night of {NIGHT}")
    browser.find_element(By.PARTIAL_LINK_TEXT, "its run").click()
    browser.switch_to.default_content()
    WebDriverWait(browser, 60).until(lambda d: "/dags/change_live/runs/" in d.current_url)


def test_who_may_not_change_anything_is_told_so(site: Site, tmp_path: Path) -> None:
    passwords = Path(site.environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
    password = json.loads(passwords.read_text())[VIEWER]
    runs = len(site.client.call("GET", "/dags/change_live/dagRuns")["dag_runs"])
    with chromium(tmp_path) as driver:
        log_in(driver, site.url, VIEWER, password)
        driver.get(f"{site.url}/plugin/nights/nightshift/night/{NIGHT}")
        framed_text(driver, f"Night of {NIGHT}")
        assert fill(driver, "Hold", "I want to") == "You may not do this."
    assert len(site.client.call("GET", "/dags/change_live/dagRuns")["dag_runs"]) == runs


def test_the_nights_are_filtered_in_the_frame(site: Site, browser: Chrome) -> None:
    browser.get(f"{site.url}/plugin/nights")
    framed_text(browser, "3 of 3 nights")
    browser.find_element(By.CSS_SELECTOR, "select[name=verdict] option[value=gate_refused]").click()
    browser.find_element(By.CSS_SELECTOR, "form.row button").click()
    text = framed_text(browser, "1 of 3 nights")
    assert "Worse than popularity" in text
    # The address of what is seen can be handed on.
    browser.switch_to.default_content()
    WebDriverWait(browser, 60).until(lambda d: "verdict=gate_refused" in d.current_url)
    browser.get(browser.current_url)
    framed_text(browser, "1 of 3 nights")


def test_a_phone_shows_the_nights(site: Site, browser: Chrome, screenshots: Path) -> None:
    resize(browser, PHONE)
    try:
        browser.get(f"{site.url}/nightshift/nights")
        WebDriverWait(browser, 60).until(lambda d: "Nights" in d.find_element(By.TAG_NAME, "body").text)
        shot(browser, screenshots / f"airflow-nights-{PHONE}.png")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= PHONE
        assert overflowing(browser) == []
        assert chopped(browser) == []
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


PATHS = [
    "/nightshift/nights",
    "/nightshift/change",
    f"/nightshift/night/{NIGHT}",
    f"/nightshift/night/{NIGHT}/report.html",
    f"/nightshift/run/{DAG}/{RUN}",
    f"/nightshift/night-of/{DAG}/{RUN}",
    f"/nightshift/compare?first={REFUSED}&second={NIGHT}",
    "/nightshift/compare",
    "/nightshift/tuning",
    "/nightshift/runbook",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_stranger_sees_nothing(site: Site, path: str) -> None:
    status, body, _ = site.get(path)
    assert status == 401
    assert "listeners stay" not in body
    assert "Nightshift" not in body
    assert site.get(path, "not.a.token")[0] in (401, 403)
    status, _, headers = site.get(path, site.token())
    assert status == 200
    assert "frame-ancestors 'self'" in headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        f"/nightshift/run/{DAG}/../../x",
        f"/nightshift/run/{DAG}/..%2F..%2Fx",
        f"/nightshift/run/{DAG}/%2e%2e/%2e%2e/x",
        f"/nightshift/run/{DAG}/no-such-run",
        f"/nightshift/run/{DAG}/unfinished",
        "/nightshift/run/collect_traffic/x",
        f"/nightshift/night-of/{DAG}/no-such-run",
        "/nightshift/night/2026-02-30",
        "/nightshift/run/..%2F..%2Fetc/passwd",
        "/nightshift/night/..%2F..%2Fetc/report.html",
        "/nightshift/night/2026-02-30/report.html",
        "/nightshift/night/2026-01-06/report.html",
        f"/nightshift/night/{NIGHT}/..%2Fmanifest.json",
        f"/nightshift/night/{NIGHT}/manifest.json",
        f"/nightshift/night/{NIGHT}%00/report.html",
    ],
)
def test_a_strange_path_is_refused(site: Site, path: str) -> None:
    status, body, _ = site.get(path, site.token())
    assert 400 <= status < 500, (status, body[:300])
    assert "root:" not in body


def test_the_report_is_fetched_as_json(site: Site) -> None:
    status, body, headers = site.get(f"/nightshift/night/{NIGHT}/report.json", site.token())
    assert status == 200
    assert headers["content-type"] == "application/json"
    assert json.loads(body)["log_date"] == str(NIGHT)
