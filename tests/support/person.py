"""A person at the web UI, in a real browser: opens pages, presses what stands there, waits for what comes of it.

What is looked at is kept as a numbered picture.
"""

from datetime import date
from pathlib import Path

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.support.browser import framed_text

PATIENCE = 120
#: Where Airflow's own pages frame those of Nightshift.
FRAMED = "/plugin/nights/nightshift"


class Person:
    """Somebody who is logged in.

    Args:
        url: Airflow's. pictures: directory of what was looked at.
    """

    def __init__(self, browser: Chrome, url: str, pictures: Path) -> None:
        self.browser, self._url, self._pictures, self._looks = browser, url, pictures, 0

    def open(self, path: str) -> None:
        """A page by its address."""
        self.browser.switch_to.default_content()
        self.browser.get(self._url + path)

    def leave(self) -> None:
        """Look at nothing: a page of Airflow that nobody looks at still asks and draws, at half a core."""
        self.browser.get("about:blank")

    def find(self, selector: str, text: str = "") -> WebElement:
        """The first visible element, once there is one."""

        def look(driver: Chrome) -> WebElement | bool:
            found = driver.find_elements(By.CSS_SELECTOR, selector)
            return next((e for e in found if e.is_displayed() and text in e.text), False)

        found = WebDriverWait(self.browser, PATIENCE, ignored_exceptions=[Exception]).until(look, f"no {selector} {text!r}")
        assert isinstance(found, WebElement)
        return found

    def press(self, selector: str, text: str = "") -> None:
        """Something visible."""
        found = self.find(selector, text)
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
        found.click()

    def choose(self, value: str) -> None:
        """A choice that the page draws around its hidden input."""
        found = self.browser.find_element(By.CSS_SELECTOR, f"[role=dialog] input[value={value}]")
        found.find_element(By.XPATH, "..").click()

    def fill(self, name: str, text: str) -> None:
        """Replace what stands in a field."""
        field = self.find(f"[name={name}]")
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", field)
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(text, Keys.TAB)

    def see(self, text: str) -> str:
        """The page's text, once it holds something."""

        def look(driver: Chrome) -> str | bool:
            found = driver.find_element(By.TAG_NAME, "body").text
            return found if text in found else False

        return str(WebDriverWait(self.browser, PATIENCE, ignored_exceptions=[Exception]).until(look, f"no {text!r}"))

    def see_framed(self, text: str) -> str:
        """The text of the page's frame, once it holds something; what is pressed next stands in the frame."""
        return framed_text(self.browser, text, PATIENCE)

    def see_state(self, state: str) -> None:
        """Wait until the page's first badge, the run's own, tells a state; those of its tasks follow."""
        WebDriverWait(self.browser, PATIENCE, ignored_exceptions=[Exception]).until(
            lambda d: d.find_elements(By.CSS_SELECTOR, "[data-testid=state-badge]")[0].text == state
        )

    def look(self, what: str) -> None:
        """Keep a picture."""
        self._looks += 1
        self._pictures.mkdir(parents=True, exist_ok=True)
        self.browser.save_screenshot(str(self._pictures / f"{self._looks:02d}-{what.replace(' ', '-')}.png"))

    def open_form(self, dag: str) -> None:
        """The form of a DAG's trigger."""
        self.open(f"/dags/{dag}")
        self.press("[data-testid=trigger-dag-button]")
        self.find("[role=dialog] [data-testid=config-form]")

    def fill_date(self, day: date) -> None:
        """The Param ``log_date``."""
        self.fill("element_log_date", f"{day:%m%d%Y}")
        assert self.find("[name=element_log_date]").get_attribute("value") == str(day)

    def fill_range(self, first: date, last: date) -> None:
        """The dates of a backfill."""
        self.choose("backfill")
        for place, day in enumerate((first, last)):
            self.find("[role=dialog] [data-testid=datetime-input]")
            field = self.browser.find_elements(By.CSS_SELECTOR, "[role=dialog] [data-testid=datetime-input]")[place]
            field.click()
            self.find("input[placeholder='YYYY/MM/DD']").send_keys(f"{day:%Y/%m/%d}", Keys.TAB)
            field.click()

    def confirm(self) -> None:
        """What a dialog asks."""
        self.press("[role=dialog] button", "Confirm")
        WebDriverWait(self.browser, PATIENCE, ignored_exceptions=[Exception]).until(
            lambda d: not any(e.is_displayed() for e in d.find_elements(By.CSS_SELECTOR, "[role=dialog]"))
        )

    def change(self, said: str, reason: str) -> str:
        """Fill a form of a page in the frame, and give what it says afterwards."""
        form = self.browser.find_element(By.XPATH, f"//details[summary[starts-with(., '{said}')]]")
        form.find_element(By.TAG_NAME, "summary").click()
        form.find_element(By.NAME, "why").send_keys(reason)
        form.find_element(By.TAG_NAME, "button").click()
        output = form.find_element(By.TAG_NAME, "output")
        WebDriverWait(self.browser, PATIENCE).until(lambda _: output.text not in ("", "Airflow is asked …"))
        return output.text
