"""A real browser for tests: Chromium without a display, with its clock, fonts and size fixed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

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
