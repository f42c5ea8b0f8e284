"""A person at the web UI, in a real browser: fills the trigger form, watches the run go green, opens its report."""

from pathlib import Path

import pytest

from recsys.platform import night
from recsys.platform.client import FINISHED
from tests.support.airflow import DATES, Stack, wait_until
from tests.support.person import PATIENCE, Person

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("airflow"), pytest.mark.timeout(1800)]

DAY, SESSIONS, SEED = DATES[-1], 1500, 42


def names(platform: Stack) -> set[str]:
    """Ids of all nights that were triggered by hand."""
    return {run["dag_run_id"] for run in platform.runs(night.NIGHT) if run["run_type"] == "manual"}


def test_a_night_is_triggered_watched_and_read(platform: Stack, person: Person, artefacts: Path) -> None:
    platform.forget(DAY)
    browser = person.browser
    person.open_form(night.NIGHT)
    person.fill_date(DAY)
    person.fill("element_episodes", str(SESSIONS))
    person.fill("element_seed", str(SEED))
    browser.execute_script("arguments[0].scrollIntoView()", person.find("[role=dialog] button", "Run Parameters"))
    browser.save_screenshot(str(artefacts / "airflow-form.png"))
    before = names(platform)
    person.press("[data-testid=trigger-dag-submit]")

    (run,) = wait_until(lambda: names(platform) - before, PATIENCE, "the run")
    assert platform.night(run)["conf"] == {
        "log_date": str(DAY), "episodes": SESSIONS, "shards": 2, "seed": SEED, "window": 7, "promote": "auto",
        "rebuild": False, "dry_run": False,
    }  # fmt: skip
    person.open(f"/dags/{night.NIGHT}/runs/{run}")
    person.see_state("Running")
    browser.save_screenshot(str(artefacts / "airflow-running.png"))
    found = wait_until(lambda: platform.night(run)["state"] in FINISHED and platform.night(run), 600, "the end of the run")
    assert found["state"] == "success", platform.story(night.NIGHT, run)
    # The page is not loaded again: it follows the run by itself.
    person.see_state("Success")
    browser.save_screenshot(str(artefacts / "airflow-green.png"))

    person.press("a", "A/B report")
    assert str(DAY) in person.see_framed("Session time")
    browser.switch_to.default_content()
    browser.save_screenshot(str(artefacts / "airflow-run-report.png"))
    platform.verified(DAY)


def test_the_form_holds_numbers_within_their_bounds(person: Person) -> None:
    person.open_form(night.NIGHT)
    for name, text, bound in (("episodes", "0", "1"), ("seed", "-1", "0"), ("shards", "1000", "64"), ("window", "1", "2")):
        wait_until(lambda n=name, t=text, b=bound: holds(person, n, t, b), PATIENCE, f"{name} to be {bound}")


def holds(person: Person, name: str, text: str, bound: str) -> bool:
    """Whether a field makes its bound of what is typed; a form that is drawn anew after it was filled is filled again."""
    field = person.find(f"[name=element_{name}]")
    if field.get_attribute("value") == bound:
        return True
    if field.get_attribute("value") != text:
        person.fill(f"element_{name}", text)
    return False
