"""A night that asks a person before it promotes, in an Airflow of its own: refused, then approved."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recsys.platform import components, night
from recsys.platform.client import FINISHED
from recsys.schemas import Verdict
from recsys.storage.store import Storage
from recsys.versions import keyspace, pointer
from tests.support.airflow import DATES, Stack, days, stack, wait_until
from tests.support.browser import chromium, log_in
from tests.support.person import PATIENCE, Person

pytestmark = [pytest.mark.real, pytest.mark.marathon, pytest.mark.xdist_group("airflow"), pytest.mark.timeout(1800)]

DAY = DATES[-1]


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A platform whose nights ask, with traffic and nothing live, and content with any candidate: few listeners tell little."""
    directory = tmp_path_factory.mktemp("asking")
    rule = directory / "promotion.yml"
    rule.write_text("minimum_effect_percent: -100\n")
    with stack(directory, RECSYS_APPROVAL="1", RECSYS_PROMOTION=str(rule)) as running:
        running.play(*days(DAY, 3))
        running.client.set_paused(night.NIGHT, False)
        yield running


def path(run: str) -> str:
    return f"/dags/{night.NIGHT}/dagRuns/{run}/taskInstances/approve/-1/hitlDetails"


def question(platform: Stack, run: str) -> dict[str, Any]:
    """What a night asks, once it does."""
    wait_until(lambda: platform.state(night.NIGHT, run, "approve") == ["awaiting_input"], 400, f"the question of {run}")
    return dict(platform.client.call("GET", path(run)))


def answer(platform: Stack, run: str, word: str, person: Person | None = None) -> Verdict:
    """Answer by the API or in a browser; the night's verdict once its run has ended.

    Airflow asks again whoever answers before its scheduler has heard that the process which asked has ended: seconds, on a busy
    machine. Then the answer is given again.
    """

    def ended() -> str:
        if question_is_open() and tries(platform, run) > asked:
            platform.client.call("PATCH", path(run), given)
        state = str(platform.night(run)["state"])
        return state if state in FINISHED else ""

    def question_is_open() -> bool:
        waits = platform.state(night.NIGHT, run, "approve") == ["awaiting_input"]
        return waits and not platform.client.call("GET", path(run))["response_received"]

    asked, given = tries(platform, run), {"chosen_options": [word], "params_input": {}}
    if person:
        person.open(f"/dags/{night.NIGHT}/runs/{run}/tasks/approve")
        person.press("a", "Required Action")
        person.see(f"Promote the candidate of {DAY}?")
        person.look("a question")
        person.press(f"[data-testid=hitl-option-{word}]")
        person.look("answered")
        person.leave()
    else:
        platform.client.call("PATCH", path(run), given)
    assert wait_until(ended, 400, f"the end of {run}") == "success", platform.story(night.NIGHT, run)
    return Verdict.read(Storage(platform.settings.storage_url), DAY)


def tries(platform: Stack, run: str) -> int:
    """How often the night has asked."""
    (task,) = [task for task in platform.client.tasks(night.NIGHT, run) if task["task_id"] == "approve"]
    return int(task["try_number"])


def test_a_person_is_asked_before_the_candidate_becomes_live(asking: Stack, artefacts: Path, tmp_path: Path) -> None:
    asking.client.trigger(night.NIGHT, "asking", {"log_date": str(DAY)})
    asked = question(asking, "asking")
    assert asked["subject"] == f"Promote the candidate of {DAY}?"
    assert "would become live instead of nothing" in asked["body"]
    assert f"/nightshift/night/{DAY}/report.html" in asked["body"]
    assert asking.live() == ""
    refused = answer(asking, "asking", "Reject")
    assert (refused.verdict, refused.reasons[-1]) == ("held", f"{components.USER} refused the promotion.")
    assert asking.live() == ""
    assert asking.state(night.NIGHT, "asking", "held") == ["success"]
    # Asked again.
    asking.clear(night.NIGHT, "asking", "approve", downstream=True)
    question(asking, "asking")
    with chromium(tmp_path) as driver:
        log_in(driver, asking.client.url, components.USER, asking.password, PATIENCE)
        person = Person(driver, asking.client.url, artefacts / "approval")
        assert answer(asking, "asking", "Approve", person).verdict == "promoted"
    assert asking.live() == refused.version
    assert asking.state(night.NIGHT, "asking", "promoted") == ["success"]
    who = pointer.audit(keyspace.connect(asking.settings))[-1].who
    assert who == f"{night.NIGHT} asking, approved by {components.USER}"
