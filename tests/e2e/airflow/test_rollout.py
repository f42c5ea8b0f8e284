"""Looks at a rollout by a real scheduler, which is killed with all that it runs: the same outcome, each step once."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from recsys.platform.processes import read_state
from recsys.rollout.look import Looks
from recsys.simulate.run import run_shard
from recsys.storage.store import Storage
from recsys.versions import keyspace, pointer, rollout
from tests.support.airflow import SESSIONS, Stack
from tests.support.rollouts import LIVE, NEXT, publish_two

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("airflow"), pytest.mark.timeout(900)]

ROLLOUT = "rollout"


class Trial:
    """A candidate, worse than what is live, that a share of the platform's listeners gets."""

    def __init__(self, platform: Stack) -> None:
        self.platform, self.settings, self.episode = platform, platform.settings, 0
        self.world = Path(platform.environment["RECSYS_WORLD"])
        self.client = keyspace.connect(self.settings)
        self.live, self.candidate = publish_two(self.client, self.world, better=False)

    def begin(self) -> None:
        pointer.release(self.client, self.candidate, who="test", why="again")
        self.client.delete(keyspace.LIVE)  # a later version may be live since another test
        pointer.move(self.client, self.live, LIVE, who="test", why="to be compared with")
        self.platform.cli("rollout", "begin", self.candidate, "--why", "try it")
        self.begun = len(pointer.audit(self.client))

    def play(self) -> None:
        """Sessions of real listeners, as far as the service knows."""
        url = self.settings.service_url
        run_shard(self.world, url, episodes=SESSIONS, seed=11, batch=256, first_episode=self.episode, progress=False)
        self.episode += SESSIONS

    def records(self) -> list[dict]:
        lines = [path.read_text().splitlines() for path in (self.settings.log_dir / "live").glob("*.jsonl")]
        return [json.loads(line) for found in lines for line in found]


@pytest.fixture(scope="module")
def trial(paused: Stack) -> Iterator[Trial]:
    paused.client.set_paused(ROLLOUT, False)
    before = paused.live()
    trial = Trial(paused)
    yield trial
    trial.client.delete(keyspace.ROLLOUT, keyspace.LIVE)
    if before:
        pointer.make_live(trial.client, before, who="test", why="as before")


def runs_look(trial: Trial, run: str) -> bool:
    return trial.platform.state(ROLLOUT, run, "look") == ["running"]


def has_moved(trial: Trial, _: str) -> bool:
    return rollout.read(trial.client).state == "aborted"


def kill_scheduler_once(happened: Callable[[], bool], platform: Stack) -> None:
    """SIGKILL to the scheduler and to all that it runs, as when its machine dies, as soon as something has happened."""
    (leader,) = [psutil.Process(one.pid) for one in read_state(platform.var) if one.name == "scheduler"][-1:]
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline
    for process in (leader, *leader.children(recursive=True)):
        process.kill()


@pytest.mark.drill("rollout", "the scheduler, with what it runs, killed during a look", "the next try goes on; each step once")
@pytest.mark.parametrize("moment", [runs_look, has_moved])
def test_the_scheduler_is_killed_during_a_look(trial: Trial, moment: Callable[[Trial, str], bool]) -> None:
    platform, run = trial.platform, moment.__name__
    trial.begin()
    trial.play()
    platform.client.trigger(ROLLOUT, run, {})
    kill_scheduler_once(lambda: moment(trial, run), platform)
    assert platform.wait_for_run(ROLLOUT, run)["state"] == "success", platform.story(ROLLOUT, run)
    (task,) = platform.client.tasks(ROLLOUT, run)
    assert task["try_number"] == 2
    told = platform.client.log_tail(task, 100)
    assert [line for line in told if line.startswith("rollout: abort: ")], told
    assert platform.note(ROLLOUT, run) == "abort"
    now = rollout.read(trial.client)
    assert (now.state, now.who) == ("aborted", f"{ROLLOUT} {run}")
    assert [entry.action for entry in pointer.audit(trial.client)[trial.begun :]] == ["abort"]
    (look,) = [one for one in Looks.read(Storage(trial.settings.storage_url), NEXT).looks if one.since >= now.began]
    assert (look.action, look.share) == ("abort", 20)
    trial.play()
    served = [record["timestamp"] for record in trial.records() if record["version"] == trial.candidate]
    assert now.began.timestamp() * 1000 < max(served) < now.since.timestamp() * 1000 + 5000
    assert (trial.platform.live(), pointer.blocked(trial.client)) == (trial.live, [trial.candidate])
