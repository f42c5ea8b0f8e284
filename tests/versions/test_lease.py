"""One run at a time works on a log date, and who has lost it changes nothing any more: a real Valkey keeps the leases."""

import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

import pytest
import redis

from recsys.exceptions import ConflictError, MissingDataError, Stopped
from recsys.settings import load_settings
from recsys.versions import keyspace, lease, pointer, publish
from recsys.versions.content import Content
from recsys.versions.lease import Lease
from recsys.versions.pointer import Pointer
from tests.support.components import Valkey

pytestmark = pytest.mark.real

DAY, NEXT = date(2026, 1, 2), date(2026, 1, 3)
SHORT = timedelta(milliseconds=300)


@pytest.fixture
def client(valkey: Valkey) -> redis.Redis:
    return keyspace.connect(load_settings(redis_url=valkey.url))


def content(shift: int = 0) -> Content:
    lists = {user: keyspace.pack(range(user + shift, user + shift + 50)) for user in range(600)}
    return Content(lists, keyspace.pack(range(100)), keyspace.pack(range(2000)))


def stalled(client: redis.Redis, run: str = "slow") -> Lease:
    """The lease of a run that has been silent for too long: another one has had the date since."""
    mine = lease.take(client, DAY, run, ttl=timedelta(milliseconds=1))
    time.sleep(0.01)
    lease.take(client, DAY, "quick")
    return mine


def test_a_date_is_held_by_one_run(client: redis.Redis) -> None:
    first = lease.take(client, DAY, "a")
    assert lease.take(client, DAY, "a") == first
    with pytest.raises(ConflictError, match=r"held by run a, until .* UTC"):
        lease.take(client, DAY, "b")
    lease.drop(client, DAY, "b")
    assert lease.holders(client) == {DAY: "a"}
    lease.drop(client, DAY, "a")
    assert lease.take(client, DAY, "b").token > first.token


def test_several_dates_are_taken_together_or_not_at_all(client: redis.Redis) -> None:
    lease.take(client, NEXT, "a")
    with pytest.raises(ConflictError, match=f"log date {NEXT} is held by run a"):
        lease.take_all(client, (DAY, NEXT), "b")
    assert lease.holders(client) == {NEXT: "a"}
    lease.take_all(client, (DAY, NEXT), "a")
    assert lease.holders(client) == {DAY: "a", NEXT: "a"}
    lease.take(client, DAY - timedelta(days=1), "b")
    lease.drop_all(client, "a")
    assert lease.holders(client) == {DAY - timedelta(days=1): "b"}


def test_of_many_that_take_a_date_at_once_one_has_it(valkey: Valkey, client: redis.Redis) -> None:
    lease.take(client, DAY, "before", ttl=SHORT)
    together = threading.Barrier(16)

    def take(run: str) -> bool:
        own = keyspace.connect(load_settings(redis_url=valkey.url))
        together.wait()
        for _ in range(50):  # as the lease before ends
            try:
                lease.take(own, DAY, run)
            except ConflictError:
                time.sleep(0.02)
            else:
                return True
        return False

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(take, (f"run-{n}" for n in range(16)))) == 1


def test_a_lease_ends_by_itself_and_its_drop_spares_the_next(client: redis.Redis) -> None:
    mine = stalled(client)
    lease.drop(client, DAY, "slow")
    assert lease.holders(client) == {DAY: "quick"}
    with pytest.raises(ConflictError, match="run slow has lost log date 2026-01-02: run quick holds it"):
        lease.renew(client, mine)
    lease.drop(client, DAY, "quick")
    with pytest.raises(ConflictError, match="nobody holds it"):
        lease.renew(client, mine)


def test_a_lease_that_ended_unnoticed_is_renewed(client: redis.Redis) -> None:
    mine = lease.take(client, DAY, "a", ttl=timedelta(milliseconds=1))
    time.sleep(0.01)
    assert lease.holders(client) == {}
    lease.renew(client, mine)
    assert lease.holders(client) == {DAY: "a"}


def test_a_long_step_keeps_its_date(client: redis.Redis) -> None:
    with lease.held(client, DAY, "a", ttl=SHORT):
        for _ in range(8):
            time.sleep(0.15)
            with pytest.raises(ConflictError, match="held by run a"):
                lease.take(client, DAY, "b")
    lease.take(client, DAY, "b")


def test_a_date_stays_held_for_the_next_step_of_the_run(client: redis.Redis) -> None:
    with lease.held(client, DAY, "a", linger=timedelta(hours=12)) as first:
        pass
    with pytest.raises(ConflictError, match="held by run a"):
        lease.take(client, DAY, "b")
    with lease.held(client, DAY, "a") as second:  # does not let go of what it did not take
        assert second == first
    assert lease.holders(client) == {DAY: "a"}


def test_a_step_ends_in_an_error_if_it_lost_its_date(client: redis.Redis) -> None:
    def step() -> None:
        with lease.held(client, DAY, "a"):
            lease.drop(client, DAY, "a")
            lease.take(client, DAY, "b")

    with pytest.raises(ConflictError, match="run a has lost log date"):
        step()
    assert lease.holders(client) == {DAY: "b"}


def test_a_step_that_fails_lets_go_and_shows_its_own_error(client: redis.Redis) -> None:
    with pytest.raises(ZeroDivisionError), lease.held(client, DAY, "a"):
        raise ZeroDivisionError
    assert lease.holders(client) == {}


def test_a_signal_while_the_date_is_being_taken_lets_go(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    call = redis.Redis.fcall

    def stopped(self: redis.Redis, *arguments: object) -> object:
        monkeypatch.setattr(redis.Redis, "fcall", call)
        call(self, *arguments)  # type: ignore[arg-type]
        raise Stopped(signal.SIGTERM)

    monkeypatch.setattr(redis.Redis, "fcall", stopped)
    with pytest.raises(Stopped), lease.held(client, DAY, "a"):
        pass
    assert not lease.holders(client)


def test_who_lost_the_date_cannot_publish(client: redis.Redis) -> None:
    mine, version = stalled(client), content().version(DAY)
    with pytest.raises(ConflictError, match="run slow has lost log date"):
        publish.publish_version(client, content(), DAY, held=mine)
    assert not publish.is_complete(client, version)


def test_who_loses_the_date_while_it_writes_does_not_complete(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, read_back = lease.take(client, DAY, "slow"), publish._read_back

    def stall(*arguments: object) -> bool:
        lease.drop(client, DAY, "slow")
        lease.take(client, DAY, "quick")
        return read_back(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(publish, "_read_back", stall)
    with pytest.raises(ConflictError, match="run quick holds it"):
        publish.publish_version(client, content(), DAY, held=mine)
    assert not publish.is_complete(client, content().version(DAY))


def test_who_lost_the_date_cannot_promote(client: redis.Redis) -> None:
    version = publish.publish_version(client, content(), DAY)
    mine = stalled(client)
    with pytest.raises(ConflictError, match="run slow has lost log date"):
        pointer.move(client, version, DAY, who="slow", why="w", held=mine)
    assert pointer.read(client) == Pointer()
    assert pointer.move(client, version, DAY, who="quick", why="w", held=lease.take(client, DAY, "quick"))[0]


def test_publishing_by_hand_waits_for_no_night(client: redis.Redis) -> None:
    lease.take(client, DAY, "night")
    with pytest.raises(ConflictError, match="held by run night"):
        publish.publish_version(client, content(), DAY)
    assert publish.publish_version(client, content(), NEXT).startswith(str(NEXT))
    assert lease.holders(client) == {DAY: "night"}


def test_a_candidate_outlives_the_collection_by_others_however_long_its_night_takes(client: redis.Redis) -> None:
    with lease.held(client, DAY, "night", ttl=SHORT) as mine:
        candidate = publish.publish_version(client, content(), DAY, held=mine)
        for shift in range(6):
            publish.publish_version(client, content(shift), NEXT)
        time.sleep(2 * SHORT.total_seconds())
        publish.collect_garbage(client)
        assert publish.matches(client, candidate, content())
    publish.collect_garbage(client)
    assert not publish.is_complete(client, candidate)


def test_a_version_that_is_collected_can_neither_be_published_nor_promoted_meanwhile(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = publish.publish_version(client, content(), DAY)
    for shift in range(4):
        publish.publish_version(client, content(shift), NEXT)
    collecting, forget = threading.Event(), publish.LIBRARY.function("forget")
    call = redis.Redis.fcall

    def slowly(self: redis.Redis, function: str, *arguments: object) -> object:
        answer = call(self, function, *arguments)  # type: ignore[arg-type]
        if function == forget:
            collecting.set()
            time.sleep(0.5)
        return answer

    monkeypatch.setattr(redis.Redis, "fcall", slowly)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(publish.collect_garbage, client)
        assert collecting.wait(10)
        with pytest.raises(MissingDataError, match="is not in Redis"):
            pointer.move(client, old, DAY, who="t", why="w")
        assert publish.publish_version(client, content(), DAY, held=lease.take(client, DAY, "rerun")) == old
        done.result()
    assert publish.matches(client, old, content())
    assert publish.is_complete(client, old)


def test_a_version_that_becomes_live_as_it_is_to_be_collected_stays(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    old = publish.publish_version(client, content(), DAY)
    for shift in range(4):
        publish.publish_version(client, content(shift), NEXT)
    held = lease.held

    def promoting(*arguments: object, **named: object) -> object:
        pointer.make_live(client, old, who="ann", why="the new ones are bad")
        return held(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(lease, "held", promoting)
    publish.collect_garbage(client)
    assert pointer.read(client).version == old
    assert publish.matches(client, old, content())
    assert publish.is_complete(client, old)


def test_what_a_night_under_way_compares_with_is_not_collected(client: redis.Redis) -> None:
    old = publish.publish_version(client, content(), DAY)
    for shift in range(4):
        publish.publish_version(client, content(shift), NEXT)
    publish.collect_garbage(client, needed={old})
    assert publish.is_complete(client, old)
    publish.collect_garbage(client)
    assert not publish.is_complete(client, old)


HOLD = """
import sys, time
from datetime import date
from recsys.settings import load_settings
from recsys.versions import keyspace, lease
lease.take(keyspace.connect(load_settings(redis_url=sys.argv[1])), date(2026, 1, 2), lease.name_of_command())
print("held", flush=True)
time.sleep(60)
"""


def test_a_command_that_was_killed_holds_nothing_for_the_next_one(client: redis.Redis, valkey: Valkey) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, valkey.url], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ConflictError, match=f"log date {DAY} is held by run cli-"):
            lease.take(client, DAY, lease.name_of_command())
        process.kill()
    mine = lease.name_of_command()
    lease.take(client, DAY, mine)
    assert lease.holders(client) == {DAY: mine}


@pytest.mark.parametrize("holder", ["cli-0000beef-1-abc", "cli-4194304-abc", "nightly_recommender cli-x", "cli-"])
def test_what_runs_elsewhere_is_not_taken_for_dead(client: redis.Redis, holder: str) -> None:
    lease.take(client, DAY, holder)
    with pytest.raises(ConflictError, match="is held by run"):
        lease.take(client, DAY, lease.name_of_command())
