"""A real browser for tests: Chromium without a display, with its clock, fonts and size fixed."""

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

WIDTH, HEIGHT = 1400, 1000
#: Width of a phone.
PHONE = 390


@contextmanager
def chromium(profile: Path, dark: bool = False) -> Iterator[webdriver.Chrome]:
    """A browser that ends with the block; ``profile`` is a directory of its own."""
    options = webdriver.ChromeOptions()
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        raise RuntimeError("chromium and chromedriver are missing; tests/system_packages.sh installs them")
    options.binary_location = binary
    for word in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "no-first-run",
        "disable-dev-shm-usage",
        f"user-data-dir={profile}",
    ):
        options.add_argument(f"--{word}")
    options.add_argument(f"--window-size={WIDTH},{HEIGHT}")
    browser = webdriver.Chrome(options, Service(driver))
    try:
        if dark:
            browser.execute_cdp_cmd(
                "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
            )
        yield browser
    finally:
        browser.quit()


def log_in(browser: webdriver.Chrome, url: str, user: str, password: str, seconds: float = 60) -> None:
    """Pass Airflow's login page."""
    browser.get(f"{url}/auth/login")
    WebDriverWait(browser, seconds).until(lambda d: d.find_elements(By.NAME, "username"))
    browser.find_element(By.NAME, "username").send_keys(user)
    browser.find_element(By.NAME, "password").send_keys(password)
    browser.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
    WebDriverWait(browser, seconds).until(lambda d: "/auth/login" not in d.current_url)


def framed_text(browser: webdriver.Chrome, wanted: str, seconds: float = 60) -> str:
    """The text inside the page's frame, once it holds what is wanted."""

    def look(_: webdriver.Chrome) -> str | bool:
        browser.switch_to.default_content()
        for frame in browser.find_elements(By.TAG_NAME, "iframe"):
            browser.switch_to.frame(frame)
            text = browser.find_element(By.TAG_NAME, "body").text
            if wanted in text:
                return text
            browser.switch_to.default_content()
        return False

    return str(WebDriverWait(browser, seconds, ignored_exceptions=[Exception]).until(look))


def resize(browser: webdriver.Chrome, width: int, height: int = 900) -> None:
    """The screen; a narrow one is a phone's."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def shot(browser: webdriver.Chrome, path: Path, whole: bool = True) -> None:
    """A picture of the page, the whole of it or what the screen shows."""
    taken = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(base64.b64decode(taken["data"]))


def colours(browser: webdriver.Chrome) -> tuple[int, int]:
    """How bright page and ink are, 0 to 765."""
    body = browser.find_element(By.TAG_NAME, "body")
    page, ink = (body.value_of_css_property(name) for name in ("background-color", "color"))
    return _brightness(page), _brightness(ink)


def _brightness(colour: str) -> int:
    return sum(int(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3])


def overflowing(browser: webdriver.Chrome) -> list[str]:
    """What reaches beyond the right edge of the screen, unless it stands in a box of its own that scrolls."""
    return list(browser.execute_script(_OVERFLOWING))


def chopped(browser: webdriver.Chrome) -> list[str]:
    """Texts that are broken into lines of a few characters."""
    return list(browser.execute_script(_CHOPPED))


_OVERFLOWING = """
return [...document.querySelectorAll('body *')]
  .filter(e => e.getClientRects().length && !e.closest('.scroll') && !e.closest('.skip'))
  .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map(e => e.tagName + ': ' + e.textContent.trim().slice(0, 60))
"""
_CHOPPED = """
const range = document.createRange(), found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode.textContent.trim();
  range.selectNodeContents(walker.currentNode);
  const lines = new Set([...range.getClientRects()].filter(r => r.width > 0).map(r => Math.round(r.top)));
  if (lines.size > 2 && text.length / lines.size < 8) found.push(text.slice(0, 60));
}
return found
"""
