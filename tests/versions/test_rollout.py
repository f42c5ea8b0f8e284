"""Rollouts on a real Valkey: each change is compared-and-set and has its line in the trail; what ends one ends it at once."""

from pathlib import Path

import pytest
import redis

from recsys.exceptions import ConflictError, CorruptDataError, MissingDataError
from recsys.settings import load_settings
from recsys.storage.store import Storage
from recsys.versions import keyspace, lease, pointer, publish, restore, rollout
from recsys.versions.functions import LIBRARY
from tests.support.components import Valkey
from tests.versions.test_pointer import DAYS, night, promoted

pytestmark = pytest.mark.real


@pytest.fixture
def client(valkey: Valkey) -> redis.Redis:
    return keyspace.connect(load_settings(redis_url=valkey.url))


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    return Storage(f"file://{tmp_path / 'storage'}")


@pytest.fixture
def live(client: redis.Redis, store: Storage) -> str:
    return promoted(client, store, DAYS[:1])[0]


@pytest.fixture
def candidate(client: redis.Redis, store: Storage, live: str) -> str:
    """A candidate that 1 % of listeners get."""
    version = night(client, store, DAYS[1])
    assert rollout.begin(client, version, DAYS[1], live, 1, who="run", why="passed the gate")[0]
    return version


def trail(client: redis.Redis) -> list[tuple[str, str, str]]:
    return [(entry.action, entry.source, entry.to) for entry in pointer.audit(client)[1:]]


def test_a_candidate_goes_from_share_to_share_and_becomes_live(client: redis.Redis, live: str, candidate: str) -> None:
    first = rollout.read(client)
    assert (first.state, first.stage, first.share, first.live, first.generation) == ("serving", 1, 1.0, live, 1)
    assert rollout.advance(client, first, 2, 25, who="run", why="no harm")[0]
    second = rollout.read(client)
    assert (second.share, second.stage, second.began) == (25.0, 2, first.began)
    assert second.experiment != first.experiment
    assert rollout.advance(client, second, 3, 100, who="run", why="no harm") == (True, f"{candidate} is live now (generation 2)")
    assert pointer.read(client).version == candidate
    assert pointer.read(client).previous == live
    assert rollout.read(client).state == "done"
    assert not rollout.read(client).is_under_way
    assert trail(client) == [("rollout", live, candidate), ("advance", live, candidate), ("promote", live, candidate)]
    assert live in pointer.rollback(client, who="ann", why="complaints")


def test_a_second_click_changes_nothing(client: redis.Redis, candidate: str) -> None:
    seen = rollout.read(client)
    rollout.advance(client, seen, 2, 5, who="ann", why="go on")
    assert rollout.advance(client, rollout.read(client), 2, 5, who="ann", why="go on") == (
        False,
        f"{candidate} is served to 5 % of listeners or more already",
    )
    assert rollout.advance(client, seen, 3, 25, who="run", why="seen before")[1].startswith("the rollout has changed meanwhile")
    assert rollout.pause(client, seen, who="run", why="too long")[0] is False
    assert rollout.abort(client, candidate, who="ann", why="complaints")[0]
    moved, said = rollout.abort(client, candidate, who="ann", why="complaints")
    assert not moved
    assert "was taken back: complaints" in said
    assert [action for action, _, _ in trail(client)] == ["rollout", "advance", "abort"]


def test_what_was_taken_back_stays_so_until_it_is_released(client: redis.Redis, live: str, candidate: str) -> None:
    rollout.abort(client, candidate, who="ann", why="complaints")
    assert rollout.read(client).share == 0
    assert pointer.read(client).version == live
    begun, why = rollout.begin(client, candidate, DAYS[1], live, 1, who="run", why="again")
    assert (begun, "has not been released" in why) == (False, True)
    pointer.release(client, candidate, who="ann", why="mended")
    assert rollout.begin(client, candidate, DAYS[1], live, 1, who="run", why="again")[0]
    assert rollout.read(client).generation == 3
    assert rollout.read(client).experiment == f"ROLLOUT-{candidate}-3"


def test_a_second_candidate_is_refused_while_one_is_under_way(
    client: redis.Redis, store: Storage, live: str, candidate: str
) -> None:
    other = night(client, store, DAYS[2])
    begun, why = rollout.begin(client, other, DAYS[2], live, 1, who="run", why="passed the gate")
    assert (begun, f"the rollout of {candidate} is under way" in why) == (False, True)
    assert rollout.begin(client, candidate, DAYS[1], live, 1, who="run", why="rerun") == (
        True,
        f"{candidate} is being rolled out already",
    )
    assert rollout.read(client).generation == 1


def test_a_rollout_needs_something_live_and_a_candidate_that_is_there(client: redis.Redis, store: Storage) -> None:
    first = night(client, store, DAYS[0])
    assert "nothing is live yet" in rollout.begin_by_hand(client, first, 1, who="ann", why="try")[1]
    promoted(client, store, DAYS[:1])
    assert "is live already" in rollout.begin_by_hand(client, first, 1, who="ann", why="try")[1]
    with pytest.raises(MissingDataError, match="publish it first"):
        rollout.begin_by_hand(client, "2026-01-09-00000000", 1, who="ann", why="try")
    second = night(client, store, DAYS[1])
    assert "moved to" in rollout.begin(client, second, DAYS[1], "2026-01-01-00000000", 1, who="run", why="x")[1]
    mine = lease.take(client, DAYS[1], "slow")
    lease.drop(client, DAYS[1], "slow")
    with pytest.raises(ConflictError, match="has lost log date"):
        rollout.begin(client, second, DAYS[1], first, 1, who="slow", why="x", held=mine)


def test_whoever_moves_what_is_live_ends_the_rollout(client: redis.Redis, store: Storage, live: str, candidate: str) -> None:
    other = night(client, store, DAYS[2])
    pointer.make_live(client, other, who="ann", why="nicer")
    found = rollout.read(client)
    assert (found.state, found.share, found.reason) == ("aborted", 0, f"{other} became live meanwhile")
    assert trail(client)[-2:] == [("promote", live, other), ("abort", candidate, other)]
    assert pointer.blocked(client) == []
    assert rollout.begin_by_hand(client, candidate, 5, who="ann", why="once more")[0]
    pointer.rollback(client, who="ann", why="complaints")
    assert rollout.read(client).reason == f"{live} became live meanwhile"


def test_a_person_may_make_the_candidate_live_at_once(client: redis.Redis, candidate: str) -> None:
    pointer.make_live(client, candidate, who="ann", why="in a hurry")
    assert (rollout.read(client).state, rollout.read(client).share) == ("done", 0)
    assert pointer.read(client).version == candidate


@pytest.mark.parametrize("all_of_them", [True, False])
def test_a_hold_stops_the_next_stage_but_neither_the_candidate_nor_its_end(
    client: redis.Redis, candidate: str, all_of_them: bool
) -> None:
    pointer.hold(client, pointer.EVERY if all_of_them else candidate, who="ann", why="holiday")
    moved, why = rollout.advance(client, rollout.read(client), 2, 5, who="run", why="no harm")
    assert (moved, "release" in why) == (False, True)
    assert rollout.read(client).share == 1
    assert rollout.abort(client, candidate, who="run", why="harm")[0]
    assert rollout.read(client).share == 0


def test_a_held_rollout_stays_at_its_share_until_a_person_goes_on(client: redis.Redis, candidate: str) -> None:
    seen = rollout.read(client)
    assert rollout.pause(client, seen, who="run", why="no telling") == (
        True,
        f"{candidate} stays at 1 % of listeners until a person decides",
    )
    held = rollout.read(client)
    assert (held.state, held.share, held.since, held.experiment) == ("held", 1, seen.since, seen.experiment)
    assert rollout.advance(client, held, 2, 5, who="ann", why="it is fine")[0]
    assert rollout.read(client).state == "serving"


def test_lists_of_a_candidate_are_not_collected(client: redis.Redis, store: Storage, candidate: str) -> None:
    night(client, store, DAYS[2])
    publish.collect_garbage(client, keep=1)
    assert publish.is_complete(client, candidate)
    rollout.abort(client, candidate, who="ann", why="x")
    publish.collect_garbage(client, keep=1)
    assert not publish.is_complete(client, candidate)


@pytest.mark.drill("rollout", "Redis is full as a candidate is taken back", "the share goes to zero all the same")
def test_a_full_redis_does_not_stop_an_abort(client: redis.Redis, candidate: str) -> None:
    client.config_set("maxmemory", 1)
    with pytest.raises(redis.ResponseError, match="maxmemory"):
        rollout.advance(client, rollout.read(client), 2, 5, who="run", why="x")
    assert rollout.abort(client, candidate, who="ann", why="harm")[0]
    assert rollout.read(client).share == 0


@pytest.mark.drill("rollout", "the audit trail cannot be written as a candidate is taken back", "the share goes to zero first")
def test_an_abort_is_explained_afterwards(client: redis.Redis, candidate: str) -> None:
    client.delete(keyspace.AUDIT)
    client.set(keyspace.AUDIT, "no trail")
    moved, said = rollout.abort(client, candidate, who="ann", why="harm")
    assert (moved, "could not take the line" in said) == (True, True)
    assert (rollout.read(client).share, rollout.read(client).reason) == (0, "harm")


def test_restore_brings_what_is_live_back_and_no_rollout(client: redis.Redis, store: Storage, live: str, candidate: str) -> None:
    restore.save(client, store)
    client.flushall()
    LIBRARY.load(client)
    restore.restore(client, store, who="ann")
    assert pointer.read(client).version == live
    assert rollout.read(client).told == "no rollout has begun yet"


def test_what_is_no_rollout_is_an_error(client: redis.Redis, candidate: str) -> None:
    for field, value in (("share", "many"), ("state", "?"), ("since", "99999999999999999999")):
        kept = client.hget(keyspace.ROLLOUT, field)
        client.hset(keyspace.ROLLOUT, field, value)
        with pytest.raises(CorruptDataError, match="delete that key"):
            rollout.read(client)
        client.hset(keyspace.ROLLOUT, field, kept)
    with pytest.raises(MissingDataError, match="no rollout has begun"):
        rollout.require_under_way(rollout.Rollout())
