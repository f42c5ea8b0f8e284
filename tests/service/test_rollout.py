"""A rollout as listeners meet it: no answer mixes versions, and none comes from what was taken back."""

import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from recsys.experiments import Split
from recsys.versions import keyspace, pointer, publish, rollout
from recsys.versions.content import Content
from tests.service.test_service import DAY, TRACKS, Stage, serving, wait_until
from tests.support.components import Valkey

pytestmark = pytest.mark.real

NEXT = date(2026, 1, 3)
USERS = range(1, 100)
#: Tracks that live answers come from, and those of the candidate: lists, TOP 100 and neighbours have none in common.
OLD, NEW = range(150), range(150, TRACKS)


def content(tracks: range) -> Content:
    near = [tracks[(t + k) % len(tracks)] for t in range(TRACKS) for k in range(20)]
    return Content({user: keyspace.pack(tracks[50:100]) for user in USERS}, keyspace.pack(tracks[:100]), keyspace.pack(near))


class Versions:
    """A service with a live version and a candidate that shares no track with it."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.client = stage, stage.client
        self.live, self.candidate = (
            publish.publish_version(stage.client, content(tracks), day) for tracks, day in ((OLD, DAY), (NEW, NEXT))
        )
        pointer.move(stage.client, self.live, DAY, who="t", why="w")
        wait_until(lambda: stage.service.get("/readyz")[1]["live"] == self.live)

    def begin(self, share: float) -> None:
        assert rollout.begin_by_hand(self.client, self.candidate, share, who="t", why="w")[0]
        self.wait_for(share)

    def advance(self, share: float) -> None:
        assert rollout.advance(self.client, rollout.read(self.client), 2, share, who="t", why="w")[0]
        self.wait_for(share)

    def abort(self) -> None:
        assert rollout.abort(self.client, self.candidate, who="t", why="harm")[0]

    def wait_for(self, share: float) -> None:
        told = {"candidate": self.candidate, "share": share} if 0 < share < 100 else None

        def is_told() -> bool:
            status, answer = self.stage.service.get("/readyz")
            return status == 200 and answer["rollout"] == told

        wait_until(is_told)

    def ask(self, user: int | str, track: int = 0, **more: object) -> dict:
        """The log line of an answer, which is all of one version."""
        status, answer = self.stage.service.post(f"/next/{user}", {"track": track, "time": 1.0, **more})
        assert status == 200
        line = self.stage.records("live")[-1]
        assert line["recommendation"] == answer["track"]
        assert line["recommendation"] in (NEW if line["version"] == self.candidate else OLD)
        return line

    def arm(self, user: int | str) -> str:
        """The arm that a user's line names, with the version that goes with it."""
        line = self.ask(user)
        name = rollout.read(self.client).experiment
        arm: str = line["experiments"][name]
        assert line["version"] == {"candidate": self.candidate, "live": self.live}[arm]
        return arm

    def leave(self, user: int | str) -> None:
        self.stage.service.post(f"/last/{user}", {"track": 0, "time": 1.0})


@pytest.fixture
def versions(tmp_path: Path, valkey: Valkey) -> Iterator[Versions]:
    with serving(tmp_path, valkey) as stage:
        yield Versions(stage)


def test_listeners_are_dealt_by_their_hash_and_nobody_moves_back(versions: Versions) -> None:
    before: set[int] = set()
    versions.begin(5)
    for share in (5, 25, 50):
        if share > 5:
            versions.advance(share)
        split = rollout.read(versions.client).split
        got = {user for user in USERS if versions.arm(user) == "candidate"}
        assert got == {user for user in USERS if split.takes(user)}
        assert before <= got
        before = got
    assert versions.ask(7)["experiments"].keys() == {"DAE_VS_CONTEXTUAL", split.name}
    versions.advance(100)
    wait_until(lambda: versions.stage.service.get("/readyz")[1]["live"] == versions.candidate)
    line = versions.ask(7)
    assert (line["version"], line["experiments"].keys()) == (versions.candidate, {"DAE_VS_CONTEXTUAL"})


def test_texts_are_dealt_by_their_text(versions: Versions) -> None:
    versions.begin(50)
    split = rollout.read(versions.client).split
    for user in ("ann", "bob", "carl", "dora", "eve", "fred"):
        assert (versions.arm(user) == "candidate") == split.takes(user)


def test_a_session_under_way_goes_on_with_the_version_of_its_listener_s_new_share(versions: Versions) -> None:
    versions.begin(1)
    large = Split("", versions.candidate, "", 50)
    user = next(user for user in USERS if large.takes(user) and not rollout.read(versions.client).split.takes(user))
    first = versions.ask(user)
    versions.advance(50)
    second = versions.ask(user, first["recommendation"])
    assert (first["version"], second["version"]) == (versions.live, versions.candidate)
    assert (second["session"], second["step"]) == (first["session"], 1)
    versions.abort()
    versions.wait_for(0)
    third = versions.ask(user, second["recommendation"])
    assert (third["version"], third["step"]) == (versions.live, 2)
    assert len({line["recommendation"] for line in (first, second, third)}) == 3


def test_nobody_is_served_by_what_was_taken_back_not_even_again(versions: Versions) -> None:
    versions.begin(99)
    user = next(user for user in USERS if rollout.read(versions.client).split.takes(user))
    first = versions.ask(user, event="a")
    assert versions.ask(user, event="a")["recommendation"] == first["recommendation"]
    versions.abort()
    versions.wait_for(0)
    again = versions.ask(user, event="a")
    assert (again["version"], again["step"]) == (versions.live, first["step"])


def test_a_restarted_service_deals_alike(versions: Versions) -> None:
    versions.begin(25)
    before = {user: versions.arm(user) for user in USERS[:60]}
    versions.stage.service.kill()
    versions.stage.service.start()
    assert {user: versions.arm(user) for user in USERS[:60]} == before


@pytest.mark.drill("rollout", "Redis killed during a stage", "live listeners get the live TOP 100, then the same arms as before")
def test_without_redis_nobody_gets_the_candidate(versions: Versions) -> None:
    versions.begin(50)
    arms = {user: versions.arm(user) for user in USERS[:30]}
    experiment = rollout.read(versions.client).experiment
    versions.stage.valkey.kill()
    for user in USERS[:30]:
        line = versions.ask(user)
        assert (line["degraded"], line["version"]) == (True, versions.live)
        assert line["experiments"].get(experiment, arms[user]) == arms[user]
    versions.stage.valkey.start()
    versions.wait_for(50)
    assert {user: versions.arm(user) for user in USERS[:30]} == arms


@pytest.mark.drill("rollout", "the service killed as a candidate is taken back", "it comes back without the candidate")
def test_an_abort_while_the_service_is_away(versions: Versions) -> None:
    versions.begin(99)
    versions.stage.service.kill()
    versions.abort()
    versions.stage.service.start()
    assert {versions.ask(user)["version"] for user in USERS[:30]} == {versions.live}


@pytest.mark.drill(
    "rollout", "what stands in Redis is no rollout, or its lists are gone", "what is live serves all; /readyz tells"
)
def test_a_spoiled_rollout_serves_what_is_live(versions: Versions) -> None:
    versions.begin(99)
    for field, value in (("share", "many"), ("candidate", "2026-01-04-00000000")):
        kept = versions.client.hget(keyspace.ROLLOUT, field)
        versions.client.hset(keyspace.ROLLOUT, field, value)
        versions.wait_for(0)
        assert {versions.ask(user)["version"] for user in USERS[:20]} == {versions.live}
        assert versions.stage.service.get("/readyz")[1]["trouble"]
        versions.client.hset(keyspace.ROLLOUT, field, kept)
        versions.wait_for(99)
    versions.client.delete(keyspace.ROLLOUT)
    versions.client.set(keyspace.ROLLOUT, "nothing")
    versions.wait_for(0)
    assert {versions.ask(user)["version"] for user in USERS[:20]} == {versions.live}


def test_an_abort_reaches_listeners_within_five_seconds(versions: Versions) -> None:
    versions.begin(99)
    assert versions.ask(3)["version"] == versions.candidate
    versions.abort()
    aborted = time.time() * 1000
    wait_until(lambda: versions.ask(3)["version"] == versions.live)
    for user in USERS[:50]:
        versions.ask(user)
    lines = [line for line in versions.stage.records("live") if line["version"] == versions.candidate]
    assert max(line["timestamp"] for line in lines) < aborted + 5000
    assert lines[-1]["user"] == 3
