"""A real browser for tests: Chromium without a display, with its clock, fonts and size fixed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

WIDTH, HEIGHT = 1400, 1000


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
