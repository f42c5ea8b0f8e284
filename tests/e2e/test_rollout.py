"""A rollout to its end: simulated listeners ask a real service as real ones do, looks read its log, and faults change nothing."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recsys.night import rollout as night_rollout
from recsys.rollout.look import Looks
from recsys.settings import Settings, load_settings
from recsys.simulate.run import run_shard
from recsys.simulate.world import generate
from recsys.storage.store import Storage
from recsys.versions import keyspace, pointer, rollout
from tests.service.test_service import wait_until
from tests.support.components import Service, Valkey, running
from tests.support.rollouts import LIVE, NEXT, publish_two

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(600)]

TRACKS, USERS, EPISODES = 2000, 1500, 6000
RULE = """
stages: [{share: 20, margin: 0.3}, {share: 50, margin: 0.1}, {share: 100}]
least_hours: 0
least_users: 50
planned_users: 300
"""


class Ground:
    """A service whose live version, or whose candidate, knows what each listener likes best."""

    def __init__(self, directory: Path, valkey: Valkey, *, better: bool) -> None:
        self.world, self.valkey, self.episode = directory / "world", valkey, 0
        generate(self.world, tracks=TRACKS, artists=400, users=USERS, seed=5)
        (directory / "rollout.yml").write_text(RULE)
        (directory / "experiments.yml").write_text("experiment: null\n")
        self.environment = {
            "RECSYS_WORLD": str(self.world),
            "RECSYS_REDIS_URL": valkey.url,
            "RECSYS_SERVICE_LOGS": str(directory / "logs"),
            "RECSYS_EXPERIMENTS": str(directory / "experiments.yml"),
        }
        self.settings: Settings = load_settings(
            var=directory, redis_url=valkey.url, service_logs=directory / "logs", rollout=directory / "rollout.yml"
        )
        self.client = keyspace.connect(self.settings)
        self.live, self.candidate = publish_two(self.client, self.world, better=better)
        pointer.move(self.client, self.live, LIVE, who="t", why="w")
        night_rollout.begin(self.settings, self.client, self.candidate, who="t", why="try")

    def play(self, service: Service) -> None:
        """Sessions of an hour, as far as the looks are concerned."""
        run_shard(self.world, service.url, episodes=EPISODES, seed=11, batch=256, first_episode=self.episode, progress=False)
        self.episode += EPISODES

    def look(self) -> str:
        now = rollout.read(self.client)
        night_rollout.look_and_act(self.settings, self.client, datetime.now(UTC), who="test")
        if rollout.read(self.client).generation != now.generation:
            time.sleep(1)  # until the service has seen it
        return rollout.read(self.client).state

    def records(self) -> list[dict]:
        lines = [path.read_text().splitlines() for path in (self.settings.log_dir / "live").glob("*.jsonl")]
        return [json.loads(line) for found in lines for line in found]


@contextmanager
def ground_of(directory: Path, *, better: bool) -> Iterator[tuple[Ground, Service]]:
    with running(Valkey(directory)) as valkey:
        ground = Ground(directory, valkey, better=better)
        with running(Service(ground.environment)) as service:
            wait_until(lambda: service.get("/readyz")[1]["rollout"] is not None)
            yield ground, service


def test_a_better_candidate_reaches_everybody(tmp_path: Path) -> None:
    with ground_of(tmp_path, better=True) as (ground, service):
        for _ in range(8):
            ground.play(service)
            if ground.look() == "done":
                break
        assert pointer.read(ground.client).version == ground.candidate
        looks = Looks.read(Storage(ground.settings.storage_url), NEXT).looks
        assert [one.share for one in looks if one.action == "advance"] == [20, 50]
        assert [entry.action for entry in pointer.audit(ground.client)] == ["promote", "rollout", "advance", "promote"]
        wait_until(lambda: service.get("/readyz")[1]["live"] == ground.candidate)


@pytest.mark.drill("rollout", "the service and Redis killed during a stage of a worse candidate", "it is taken back all the same")
@pytest.mark.parametrize("accident", ["none", "service", "Redis"])
def test_a_worse_candidate_is_taken_back_whatever_dies(tmp_path: Path, accident: str) -> None:
    with ground_of(tmp_path, better=False) as (ground, service):
        for turn in range(8):
            ground.play(service)
            if turn == 0 and accident == "service":
                service.kill()
                service.start()
            if turn == 0 and accident == "Redis":
                time.sleep(1.1)  # until what was written last is on the disk
                ground.valkey.kill()
                ground.valkey.start()
                wait_until(lambda: service.get("/readyz")[1]["rollout"] is not None)
            if ground.look() == "aborted":
                break
        assert rollout.read(ground.client).state == "aborted"
        aborted = rollout.read(ground.client).since.timestamp() * 1000
        looks = Looks.read(Storage(ground.settings.storage_url), NEXT).looks
        assert looks[-1].action == "abort"
        assert max(one.share for one in looks) <= 50
        ground.play(service)
        records = [record for record in ground.records() if record["version"] == ground.candidate]
        assert records
        assert max(record["timestamp"] for record in records) < aborted + 5000
        assert pointer.read(ground.client).version == ground.live
        assert pointer.blocked(ground.client) == [ground.candidate]
        experiments = {name for record in ground.records() for name in record["experiments"]}
        assert all(name.startswith(f"ROLLOUT-{ground.candidate}-") for name in experiments)
