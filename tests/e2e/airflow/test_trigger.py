"""A person at the web UI, in a real browser: fills the trigger form, watches the run go green, opens its report."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from recsys.platform import components, night
from recsys.platform.client import FINISHED
from tests.support.airflow import DATES, Stack, wait_until
from tests.support.browser import chromium, framed_text, log_in

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("airflow"), pytest.mark.timeout(1800)]

PATIENCE = 120
DAY, SESSIONS, SEED = DATES[-1], 1500, 42


@pytest.fixture(scope="module")
def browser(platform: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        log_in(driver, platform.client.url, components.USER, platform.password, PATIENCE)
        yield driver


def find(browser: Chrome, selector: str, text: str = "") -> WebElement:
    """The first visible element, once there is one."""

    def look(driver: Chrome) -> WebElement | bool:
        found = driver.find_elements(By.CSS_SELECTOR, selector)
        return next((e for e in found if e.is_displayed() and text in e.text), False)

    found = WebDriverWait(browser, PATIENCE, ignored_exceptions=[Exception]).until(look)
    assert isinstance(found, WebElement)
    return found


def wait_for_state(browser: Chrome, state: str) -> None:
    """Wait until the page's first badge, the run's own, tells a state; those of its tasks follow."""
    WebDriverWait(browser, PATIENCE, ignored_exceptions=[Exception]).until(
        lambda d: d.find_elements(By.CSS_SELECTOR, "[data-testid=state-badge]")[0].text == state
    )


def names(platform: Stack) -> set[str]:
    """Ids of all nights that were triggered by hand."""
    return {run["dag_run_id"] for run in platform.runs(night.NIGHT) if run["run_type"] == "manual"}


def open_form(browser: Chrome, platform: Stack) -> None:
    browser.get(f"{platform.client.url}/dags/{night.NIGHT}")
    find(browser, "[data-testid=trigger-dag-button]").click()
    find(browser, "[name=element_episodes]")


def fill(browser: Chrome, name: str, text: str) -> None:
    """Replace what stands in a field."""
    field = find(browser, f"[name={name}]")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", field)
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(text, Keys.TAB)


def test_a_night_is_triggered_watched_and_read(platform: Stack, browser: Chrome, artefacts: Path) -> None:
    platform.forget(DAY)
    open_form(browser, platform)
    fill(browser, "element_log_date", f"{DAY:%m%d%Y}")
    fill(browser, "element_episodes", str(SESSIONS))
    fill(browser, "element_seed", str(SEED))
    assert find(browser, "[name=element_log_date]").get_attribute("value") == str(DAY)
    browser.execute_script("arguments[0].scrollIntoView()", find(browser, "[role=dialog] button", "Run Parameters"))
    browser.save_screenshot(str(artefacts / "airflow-form.png"))
    before = names(platform)
    find(browser, "[data-testid=trigger-dag-submit]").click()

    (run,) = wait_until(lambda: names(platform) - before, PATIENCE, "the run")
    assert platform.night(run)["conf"] == {
        "log_date": str(DAY), "episodes": SESSIONS, "shards": 2, "seed": SEED, "window": 7, "promote": "auto",
        "rebuild": False, "dry_run": False,
    }  # fmt: skip
    browser.get(f"{platform.client.url}/dags/{night.NIGHT}/runs/{run}")
    wait_for_state(browser, "Running")
    browser.save_screenshot(str(artefacts / "airflow-running.png"))
    found = wait_until(lambda: platform.night(run)["state"] in FINISHED and platform.night(run), 600, "the end of the run")
    assert found["state"] == "success", platform.story(night.NIGHT, run)
    # The page is not loaded again: it follows the run by itself.
    wait_for_state(browser, "Success")
    browser.save_screenshot(str(artefacts / "airflow-green.png"))

    find(browser, "a", "A/B report").click()
    text = framed_text(browser, "Session time", PATIENCE)
    assert str(DAY) in text
    browser.switch_to.default_content()
    browser.save_screenshot(str(artefacts / "airflow-run-report.png"))
    platform.verified(DAY)


def test_the_form_holds_numbers_within_their_bounds(platform: Stack, browser: Chrome) -> None:
    open_form(browser, platform)
    for name, text, bound in (("episodes", "0", "1"), ("seed", "-1", "0"), ("shards", "1000", "64"), ("window", "1", "2")):
        WebDriverWait(browser, PATIENCE, poll_frequency=1).until(lambda _, n=name, t=text, b=bound: holds(browser, n, t, b))


def holds(browser: Chrome, name: str, text: str, bound: str) -> bool:
    """Whether a field makes its bound of what is typed; a form that is drawn anew after it was filled is filled again."""
    field = find(browser, f"[name=element_{name}]")
    if field.get_attribute("value") == bound:
        return True
    if field.get_attribute("value") != text:
        fill(browser, f"element_{name}", text)
    return False
