"""A night that asks a person before it promotes, in an Airflow of its own: refused, then approved."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from recsys.platform import components, night
from recsys.schemas import Verdict
from recsys.storage.store import Storage
from recsys.versions import keyspace, pointer
from tests.support.airflow import DATES, Stack, days, stack, wait_until

pytestmark = [pytest.mark.real, pytest.mark.marathon, pytest.mark.xdist_group("airflow"), pytest.mark.timeout(1800)]

DAY, SESSIONS = DATES[-1], 4000


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A platform whose nights ask, with traffic and nothing live."""
    with stack(tmp_path_factory.mktemp("asking"), RECSYS_APPROVAL="1") as running:
        running.play(*days(DAY, 3), sessions=SESSIONS)
        running.client.set_paused(night.NIGHT, False)
        yield running


def path(run: str) -> str:
    return f"/dags/{night.NIGHT}/dagRuns/{run}/taskInstances/approve/-1/hitlDetails"


def asked(platform: Stack, run: str) -> dict[str, Any]:
    """Run a night until it asks; its question."""
    platform.client.trigger(night.NIGHT, run, {"log_date": str(DAY), "episodes": SESSIONS})
    wait_until(lambda: platform.state(night.NIGHT, run, "approve") == ["awaiting_input"], 400, f"the question of {run}")
    return dict(platform.client.call("GET", path(run)))


def answer(platform: Stack, run: str, word: str) -> dict[str, Any]:
    """Answer as the platform's user; the night's row once its run has ended."""
    platform.client.call("PATCH", path(run), {"chosen_options": [word], "params_input": {}})
    assert platform.wait_for_run(night.NIGHT, run)["state"] == "success", platform.story(night.NIGHT, run)
    (row,) = [row for row in json.loads(platform.cli("nights", "--json")) if row["log_date"] == str(DAY)]
    return dict(row)


def test_a_person_is_asked_before_the_candidate_becomes_live(asking: Stack) -> None:
    question = asked(asking, "first")
    assert question["subject"] == f"Promote the candidate of {DAY}?"
    assert "would become live instead of nothing" in question["body"]
    assert f"/nightshift/night/{DAY}/report.html" in question["body"]
    assert asking.live() == ""
    assert answer(asking, "first", "Reject")["verdict"] == "held"
    assert asking.live() == ""
    assert asking.state(night.NIGHT, "first", "held") == ["success"]
    verdict = Verdict.read(Storage(asking.settings.storage_url), DAY)
    assert verdict.reasons[-1] == f"{components.USER} refused the promotion."
    asked(asking, "second")
    assert answer(asking, "second", "Approve")["verdict"] == "promoted"
    redis = keyspace.connect(asking.settings)
    assert asking.live().startswith(str(DAY))
    assert pointer.audit(redis)[-1].who == f"{night.NIGHT} second, approved by {components.USER}"
