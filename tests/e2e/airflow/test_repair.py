"""A night that failed is repaired in a real Airflow: cleared, it ends as it would have; its log date is free meanwhile."""

from collections.abc import Callable
from datetime import date, timedelta

import pytest

from recsys.platform import night
from recsys.schemas import Verdict
from recsys.storage.layout import Dated
from recsys.storage.store import Storage
from recsys.versions import keyspace, lease, pointer
from tests.support.airflow import DATES, SESSIONS, Stack, wait_until

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("airflow"), pytest.mark.timeout(1800)]

DAY, OTHER = DATES[-1], DATES[-2]
#: States of a task whose turn has come.
BEGUN = (["scheduled"], ["queued"], ["running"], ["success"])


def holders(platform: Stack) -> dict[date, str]:
    return lease.holders(keyspace.connect(platform.settings))


def interrupted(platform: Stack, name: str, day: date, fail: Callable[[str], object]) -> str:
    """A night that somebody failed in the middle of its training; gives its run."""
    for number in range(5):
        run = f"{name}-{number}"
        platform.forget(day)
        platform.client.trigger(night.NIGHT, run, {"log_date": str(day), "promote": "no"})
        wait_until(lambda run=run: platform.state(night.NIGHT, run, "train") in BEGUN, 300, f"{run} to train")
        assert holders(platform)[day] == f"{night.NIGHT} {run}"
        assert platform.note(night.NIGHT, run) == str(day)
        fail(run)
        platform.wait_for_run(night.NIGHT, run)
        if platform.state(night.NIGHT, run, "train") in (["failed"], ["skipped"]):
            break
        # It had been trained by then.
    assert platform.night(run)["state"] == "failed", platform.story(night.NIGHT, run)
    assert platform.note(night.NIGHT, run) == f"{day} · failed"
    return run


def fail_training(platform: Stack, run: str) -> None:
    if platform.state(night.NIGHT, run, "train") != ["success"]:
        path = f"/dags/{night.NIGHT}/dagRuns/{run}/taskInstances/train"
        platform.client.call("PATCH", path, {"new_state": "failed"})


def clear_failed_tasks(platform: Stack, run: str) -> None:
    body = {"dry_run": False, "dag_run_id": run, "only_failed": True, "reset_dag_runs": True}
    platform.client.call("POST", f"/dags/{night.NIGHT}/clearTaskInstances", body)


def clear_run(platform: Stack, run: str) -> None:
    platform.client.call("POST", f"/dags/{night.NIGHT}/dagRuns/{run}/clear", {"dry_run": False, "only_failed": False})


@pytest.fixture(scope="module")
def expected(platform: Stack) -> dict[date, str]:
    """Digests of undisturbed nights."""
    found = {}
    for day in (OTHER, DAY):
        platform.forget(day)
        found[day] = platform.without_airflow(day)
    return found


def ends_as_expected(platform: Stack, run: str, day: date, digest: str) -> None:
    assert platform.wait_for_run(night.NIGHT, run)["state"] == "success", platform.story(night.NIGHT, run)
    assert platform.verified(day) == digest
    verdict = Verdict.read(Storage(platform.settings.storage_url), day).verdict.replace("_", " ")
    assert str(platform.note(night.NIGHT, run)).startswith(f"{day} · {verdict}")
    assert day not in holders(platform)


@pytest.mark.drill("Airflow", "a task marked failed, then cleared", "its date is free at once; the same digest")
def test_a_failed_night_is_cleared(platform: Stack, expected: dict[date, str]) -> None:
    """By the API; by the command line see tests/plugins/test_runs.py, in the web UI see test_person."""
    run = interrupted(platform, "task", DAY, lambda run: fail_training(platform, run))
    assert platform.state(night.NIGHT, run, "publish") == ["upstream_failed"]
    wait_until(lambda: DAY not in holders(platform), 30, "the date to be free")
    clear_failed_tasks(platform, run)
    ends_as_expected(platform, run, DAY, expected[DAY])


@pytest.mark.drill("Airflow", "a night marked failed, then cleared", "its date is free at once; the same digest")
def test_a_night_that_was_marked_failed_is_cleared_as_a_whole(platform: Stack, expected: dict[date, str]) -> None:
    run = interrupted(platform, "whole", OTHER, lambda run: platform.client.fail_run(night.NIGHT, run))
    # Airflow skips what had not begun, and leaves it so if only what failed is cleared.
    assert platform.state(night.NIGHT, run, "publish") == ["skipped"]
    wait_until(lambda: OTHER not in holders(platform), 30, "the date to be free")
    clear_run(platform, run)
    ends_as_expected(platform, run, OTHER, expected[OTHER])


@pytest.mark.drill("Airflow", "two runs of traffic for one log date", "the second waits, then finds it there")
def test_traffic_of_one_date_is_played_once(platform: Stack) -> None:
    day = DATES[0] - timedelta(days=20)
    platform.client.trigger(night.TRAFFIC, "many", {"log_date": str(day), "sessions": SESSIONS})
    wait_until(lambda: platform.state(night.TRAFFIC, "many", "hold_date") == ["success"], 120, "the first to hold its date")
    platform.client.trigger(night.TRAFFIC, "few", {"log_date": str(day), "sessions": 50})
    for run in ("many", "few"):
        assert platform.wait_for_run(night.TRAFFIC, run)["state"] == "success", platform.story(night.TRAFFIC, run)
    assert Storage(platform.settings.storage_url).manifest(Dated.LOGS.on(day)).counts["episodes"] == SESSIONS
    (waited,) = [t for t in platform.client.tasks(night.TRAFFIC, "few") if t["task_id"] == "hold_date"]
    told = platform.client.log_tail(waited, 60)
    assert any(f"log date {day} is held by run {night.TRAFFIC} many" in line for line in told)
    assert platform.state(night.TRAFFIC, "few", "upload_logs") == ["skipped"]
    assert platform.note(night.TRAFFIC, "few") == f"{day} · there already"


def spoil(platform: Stack, name: str) -> None:
    """Change a byte of every file of a directory, but of its manifest."""
    for path in (platform.var / "storage" / name).iterdir():
        if path.name not in ("manifest.json", "_SUCCESS"):
            path.write_bytes(b"#" + path.read_bytes()[1:])


@pytest.mark.drill("Airflow", "logs of a date are damaged", "its traffic ends red; `rebuild` in the form plays it again")
def test_damaged_traffic_is_rebuilt_from_the_form(platform: Stack) -> None:
    day = DATES[0] - timedelta(days=21)
    store, logs = Storage(platform.settings.storage_url), Dated.LOGS.on(day)
    platform.play(day, sessions=50)
    spoil(platform, logs)
    platform.finish(night.TRAFFIC, "damaged", {"log_date": str(day)}, state="failed")
    said = [entry["event"] for entry in platform.log(night.TRAFFIC, "damaged", "plan_traffic")]
    assert any("rebuild the date" in line for line in said)
    platform.finish(night.TRAFFIC, "rebuilt", {"log_date": str(day), "sessions": SESSIONS, "rebuild": True})
    assert store.is_intact(logs)
    assert platform.note(night.TRAFFIC, "rebuilt") == f"{day} · {SESSIONS:,} sessions"


@pytest.mark.drill("Airflow", "what a night wrote is damaged", "`rebuild` in the form gives the same digest")
def test_a_damaged_night_is_rebuilt_from_the_form(platform: Stack, expected: dict[date, str]) -> None:
    assert platform.verified(DAY) == expected[DAY]
    refused = not Verdict.read(Storage(platform.settings.storage_url), DAY).version
    for kind in (Dated.INTERACTIONS, Dated.MODELS, Dated.GATES if refused else Dated.RECOMMENDATIONS, Dated.PROMOTIONS):
        spoil(platform, kind.on(DAY))
    platform.finish(night.NIGHT, "rebuilt", {"log_date": str(DAY), "promote": "no", "rebuild": True})
    assert platform.verified(DAY) == expected[DAY]


def moves(platform: Stack) -> list[tuple[str, str, dict[str, str]]]:
    """Events of the asset that stands for the live version: DAG, run, and what the event tells."""
    found = platform.client.call("GET", "/assets/events?limit=100&order_by=timestamp")["asset_events"]
    return [
        (event["source_dag_id"], event["source_run_id"], event["extra"])
        for event in found
        if event["name"] == "recommender_live_version"
    ]


def test_the_asset_of_the_live_version_tells_moves_and_nothing_else(platform: Stack, versions: dict[date, str]) -> None:
    redis, before, live = keyspace.connect(platform.settings), moves(platform), platform.live()
    later, earlier = versions
    platform.finish(night.NIGHT, "only-held", {"log_date": str(later), "promote": "no"})
    assert platform.state(night.NIGHT, "only-held", "promoted") == ["skipped"]
    assert platform.state(night.NIGHT, "only-held", "held") == ["success"]
    assert moves(platform) == before

    redis.delete(keyspace.LIVE)  # either may be live since another test

    def promote(run: str, day: date) -> None:
        platform.finish("change_live", run, {"action": "promote", "version": versions[day], "why": "a test"})

    promote("first", earlier)
    promote("again", earlier)
    promote("second", later)
    told = moves(platform)[len(before) :]
    assert [(dag, run, extra["version"]) for dag, run, extra in told] == [
        ("change_live", "first", versions[earlier]),
        ("change_live", "second", versions[later]),
    ]
    for (_, _, extra), day in zip(told, (earlier, later), strict=True):
        assert extra["log_date"] == str(day)
        assert extra["digest"][:8] == versions[day][-8:]
    if live:
        pointer.make_live(redis, live, who="test", why="as before")
    else:
        redis.delete(keyspace.LIVE)
