"""The rollouts of :mod:`benchmarks.rollout` on a real service and Valkey: sessions are requests, looks read the service's log.

In go session times and a rule; out comes how a rollout ended. A session is a few plays that last as long as the session, a tenth
of a track for each track, so that it is told in few requests; whether its listener stays shorter is decided by the split that the
service deals by. Hours pass as fast as the requests are answered, so a stage lasts so many looks.
"""

import http.client
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np

from benchmarks.rollout import RATE, End
from benchmarks.watching import LASTING, SEED
from recsys.night import rollout as night_rollout
from recsys.platform.servers import Service, Valkey, running
from recsys.rollout.rule import RolloutRule
from recsys.settings import Settings, load_settings
from recsys.simulate.world import generate
from recsys.versions import keyspace, pointer, publish, rollout
from recsys.versions.content import Content

TRACKS, BATCH = 200, 500
#: Tracks of a session that one play stands for.
SHORTER = 10.0
LIVE, NEXT = date(2026, 1, 2), date(2026, 1, 3)
#: Seconds until the service has seen a change of the rollout.
SEEN = 0.5


class Site:
    """A service with a live version and a candidate, neither of which matters to its listeners: they stay as they are told.

    Args:
        users: listeners. times: their session times, which are drawn from.
    """

    def __init__(self, directory: Path, valkey: Valkey, times: np.ndarray, users: int, rule: RolloutRule) -> None:
        self._times, self._users, self._rule = times, users, rule
        world = directory / "world"
        generate(world, tracks=TRACKS, artists=20, users=20, seed=SEED)
        (directory / "rollout.yml").write_text(
            json.dumps({**rule.model_dump(mode="json"), "least_hours": 0, "longest_hours": 1000}), encoding="utf-8"
        )
        (directory / "experiments.yml").write_text("experiment: null\n")
        self.settings: Settings = load_settings(
            var=directory, redis_url=valkey.url, service_logs=directory / "logs", rollout=directory / "rollout.yml"
        )
        self.environment = {
            "RECSYS_WORLD": str(world),
            "RECSYS_REDIS_URL": valkey.url,
            "RECSYS_SERVICE_LOGS": str(directory / "logs"),
            "RECSYS_EXPERIMENTS": str(directory / "experiments.yml"),
        }
        self.client = keyspace.connect(self.settings)
        near = keyspace.pack(np.zeros(TRACKS * 20, np.uint32).tolist())
        self.live, self.candidate = (
            publish.publish_version(
                self.client, Content(dict.fromkeys(range(users), keyspace.pack(tracks)), keyspace.pack(range(100)), near), day
            )
            for tracks, day in ((range(50, 100), LIVE), (range(100, 150), NEXT))
        )
        pointer.move(self.client, self.live, LIVE, who="benchmark", why="to be compared with")
        rollout.begin_by_hand(self.client, self.candidate, rule.stages[0].share, who="benchmark", why="try it")

    def outcome(self, service: Service, lift: float, seed: int, every: float) -> End:
        """How the rollout ends."""
        rng = np.random.default_rng((SEED, seed, round(1000 * lift)))
        own = rng.choice(self._times, self._users)
        connection = http.client.HTTPConnection("127.0.0.1", service.port)
        hours, longest = 0.0, round(self._rule.longest_hours / every)
        while True:
            now = rollout.read(self.client)
            split = now.split
            takes = np.fromiter(map(split.takes, range(self._users)), bool, self._users)
            for _ in range(longest):
                came = rng.permutation(np.flatnonzero(rng.random(self._users) < RATE * every))
                lasts = rng.random(len(came)) < np.sqrt(LASTING)
                played = np.where(lasts, own[came], rng.choice(self._times, len(came))) * np.where(takes[came], lift, 1.0)
                play(connection, came, played / SHORTER)
                hours += every
                found, _ = night_rollout.look_and_act(self.settings, self.client, datetime.now(UTC), who=f"look {hours:g}")
                if found is None or found.action != "stay":
                    break
            after = rollout.read(self.client)
            if found is None or found.action in ("abort", "stay") or not after.is_under_way:
                action = "hold" if found is None or found.action == "stay" else found.action
                return End(action, now.share, hours)
            time.sleep(SEEN)


def play(connection: http.client.HTTPConnection, users: np.ndarray, times: np.ndarray) -> None:
    """One session of each user, in plays of equal length, the first one's last play not before the second one's first."""
    plays = np.maximum(2, np.ceil(times)).astype(int)
    for step in range(int(plays.max(initial=0))):
        going = np.flatnonzero(plays > step)
        for batch in np.array_split(going, max(1, len(going) // BATCH)):
            events = [
                {
                    "message": "last" if step == plays[one] - 1 else "next",
                    "user": int(users[one]),
                    "track": step,
                    "time": float(times[one] / plays[one]),
                }
                for one in batch
            ]
            connection.request("POST", "/batch", json.dumps({"events": events}))
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"the service answered {answer.status}: {text[:200]!r}")


@contextmanager
def site(times: np.ndarray, users: int, rule: RolloutRule) -> Iterator[tuple[Site, Service]]:
    """A site of its own, gone with the block."""
    with tempfile.TemporaryDirectory(prefix="recsys-rollout-") as name:
        directory = Path(name)
        with running(Valkey(directory)) as valkey:
            found = Site(directory, valkey, times, users, rule)
            with running(Service(found.environment, output=directory / "output")) as service:
                yield found, service


def outcome_of_service(times: np.ndarray, rule: RolloutRule, lift: float, seed: int, *, users: int, every: float) -> End:
    """As :func:`benchmarks.rollout.outcome`, by requests."""
    with site(times, users, rule) as (found, service):
        time.sleep(SEEN)
        return found.outcome(service, lift, seed, every)
