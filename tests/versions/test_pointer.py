"""The live pointer moved by hand, on a real Valkey: every move has its line in the trail, and files bring it back."""

import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import redis

from recsys.exceptions import ConflictError, InvalidInputError, MissingDataError
from recsys.settings import load_settings
from recsys.storage.store import Storage
from recsys.versions import keyspace, pointer, publish, restore
from recsys.versions.content import read_directory
from recsys.versions.functions import LIBRARY
from recsys.versions.pointer import Pointer
from tests.support.components import Valkey
from tests.support.documents import publish as document
from tests.support.documents import verdict

DAYS = [date(2026, 1, 2), date(2026, 1, 3), date(2026, 1, 4)]


@pytest.fixture
def client(valkey: Valkey) -> redis.Redis:
    return keyspace.connect(load_settings(redis_url=valkey.url))


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    return Storage(f"file://{tmp_path / 'storage'}")


def night(client: redis.Redis, store: Storage, day: date) -> str:
    """Lists of a log date in files and in Redis; returns their version."""
    with store.stage(f"recommendations/date={day}") as staging:
        lines = (json.dumps({"user": user, "tracks": [user + day.day, user + 50]}) for user in range(40))
        (staging / "recommendations.json").write_text("\n".join(lines) + "\n")
        (staging / "top_tracks.json").write_text(json.dumps(list(range(100))))
        np.save(staging / "neighbours.npy", np.zeros((100, 20), dtype=np.uint32))
    return publish.publish_version(client, read_directory(store.local(f"recommendations/date={day}")), day)


def promoted(client: redis.Redis, store: Storage, days: list[date]) -> list[str]:
    versions = []
    for day in days:
        versions.append(night(client, store, day))
        assert pointer.move(client, versions[-1], day, who=f"run {day}", why="better")[0]
    return versions


def test_a_rollback_goes_back_and_blocks_what_it_left(client: redis.Redis, store: Storage) -> None:
    first, second = promoted(client, store, DAYS[:2])
    assert first in pointer.rollback(client, who="ann", why="complaints")
    assert pointer.read(client) == Pointer(first, 3, str(DAYS[0]), "")
    moved, why = pointer.move(client, second, DAYS[1], who="run", why="better")
    assert not moved
    assert "has not been released" in why
    with pytest.raises(ConflictError, match="release"):
        pointer.make_live(client, second, who="ann", why="again")
    with pytest.raises(ConflictError, match="no version before"):
        pointer.rollback(client, who="ann", why="once more")
    assert pointer.release(client, second, who="bob", why="mended") == f"{second}: released"
    assert second in pointer.make_live(client, second, who="bob", why="mended")
    trail = [(e.action, e.source, e.to, e.who, e.why) for e in pointer.audit(client)]
    assert trail == [
        ("promote", "", first, "run 2026-01-02", "better"),
        ("promote", first, second, "run 2026-01-03", "better"),
        ("rollback", second, first, "ann", "complaints"),
        ("release", first, second, "bob", "mended"),
        ("promote", first, second, "bob", "mended"),
    ]
    assert all(entry.at.endswith("+00:00") for entry in pointer.audit(client))


def test_the_next_night_may_follow_a_rollback(client: redis.Redis, store: Storage) -> None:
    promoted(client, store, DAYS[:2])
    pointer.rollback(client, who="ann", why="complaints")
    third = night(client, store, DAYS[2])
    assert pointer.move(client, third, DAYS[2], who="run", why="better")[0]


def test_a_hold_stops_every_promotion_until_it_is_released(client: redis.Redis, store: Storage) -> None:
    (first,) = promoted(client, store, DAYS[:1])
    second = night(client, store, DAYS[1])
    pointer.hold(client, who="ann", why="holiday")
    assert pointer.hold(client, who="ann", why="holiday") == "all promotions: held already"
    moved, why = pointer.move(client, second, DAYS[1], who="run", why="better")
    assert (moved, why) == (False, f"all promotions are held; {first} stays live")
    pointer.release(client, who="ann", why="back")
    pointer.hold(client, second, who="ann", why="not this one")
    assert not pointer.move(client, second, DAYS[1], who="run", why="better")[0]
    assert pointer.blocked(client) == [second]
    assert pointer.release(client, "2026-01-09-00000000", who="ann", why="?") == "2026-01-09-00000000: not held"
    assert [e.action for e in pointer.audit(client)] == ["promote", "hold", "release", "hold"]


def test_a_person_may_go_back_to_an_older_date(client: redis.Redis, store: Storage) -> None:
    first, second = promoted(client, store, DAYS[:2])
    assert not pointer.move(client, first, DAYS[0], who="run", why="late")[0]
    assert first in pointer.make_live(client, first, who="ann", why="nicer")
    assert pointer.read(client).previous == second


@pytest.mark.drill("Redis", "all its data lost", "restore-live brings back the pointer, its lists and what was held")
@pytest.mark.parametrize("copied", [True, False])
def test_what_is_live_comes_back_from_files(client: redis.Redis, store: Storage, copied: bool) -> None:
    first, second = promoted(client, store, DAYS[:2])
    if copied:
        pointer.hold(client, "2026-01-01-0a0b0c0d", who="ann", why="bad")
        restore.save(client, store)
    for day, version in zip(DAYS, (first, second), strict=False):
        document(store, day, verdict("promoted", version))
    before = pointer.read(client)
    assert "as new as the files" in restore.restore(client, store, who="ann")
    client.flushall()
    LIBRARY.load(client)
    assert second in restore.restore(client, store, who="ann")
    assert pointer.read(client) == before
    assert pointer.blocked(client) == (["2026-01-01-0a0b0c0d"] if copied else [])
    for day, version in zip(DAYS, (first, second), strict=False):
        assert publish.matches(client, version, read_directory(store.local(f"recommendations/date={day}")))
    assert pointer.audit(client)[-1].action == "restore"
    assert first in pointer.rollback(client, who="ann", why="works again")


def test_nothing_to_restore_is_an_error(client: redis.Redis, store: Storage) -> None:
    with pytest.raises(MissingDataError, match="was promoted"):
        restore.restore(client, store, who="ann")
    (first,) = promoted(client, store, DAYS[:1])
    restore.save(client, store)
    assert store.read(restore.LiveCopy, restore.COPY).pointer == pointer.read(client)
    store.remove(f"recommendations/date={DAYS[0]}")
    client.flushall()
    LIBRARY.load(client)
    with pytest.raises(MissingDataError, match="recommendations/date"):
        restore.restore(client, store, who="ann")
    assert first not in pointer.read(client).version


@pytest.mark.parametrize("version", ["", "*x", "2026-01-02", "2026-01-02-XYZ", "2026-13-02-0a0b0c0d", "2026-01-02-0a0b0c0d9"])
def test_versions_are_checked(client: redis.Redis, version: str) -> None:
    with pytest.raises(InvalidInputError):
        pointer.hold(client, version, who="ann", why="?")


@pytest.mark.drill("promotion", "two copies of what is live are saved at once", "the newer one stays")
def test_an_older_copy_does_not_stay_over_a_newer_one(
    client: redis.Redis, store: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = promoted(client, store, DAYS[:2])
    read = restore.pointer.read

    def overtaken(asked: redis.Redis) -> Pointer:
        found = read(asked)
        monkeypatch.setattr(restore.pointer, "read", read)
        pointer.rollback(client, who="ann", why="complaints")
        restore.save(client, store)
        return found

    monkeypatch.setattr(restore.pointer, "read", overtaken)
    restore.save(client, store)
    copy = store.read(restore.LiveCopy, restore.COPY)
    assert copy.pointer.version == first
    assert copy.blocked == [second]
    assert len(copy.audit) == 3


def test_what_a_damaged_pointer_left_in_the_trail_hides_no_other_line(client: redis.Redis, store: Storage) -> None:
    _, second = promoted(client, store, DAYS[:2])
    restore.save(client, store)
    client.hset(keyspace.LIVE, "version", b"\xff")
    pointer.hold(client, who="ann", why="what is this?")
    client.delete(keyspace.LIVE)
    restore.restore(client, store, who="ann")
    restore.save(client, store)
    assert pointer.read(client).version == second
    trail = store.read(restore.LiveCopy, restore.COPY).audit
    assert [(entry.action, entry.source) for entry in trail[-2:]] == [("hold", "\\xff"), ("restore", "")]
