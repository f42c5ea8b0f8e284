"""Versions and runs on a real Valkey."""

import hashlib
import json
import struct
from contextlib import suppress
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import redis

from recsys.catalog import number_of
from recsys.exceptions import ConflictError, InvalidInputError, MissingDataError, UnavailableError
from recsys.experiments import RunSpec
from recsys.settings import load_settings
from recsys.versions import keyspace, lease, pointer, publish
from recsys.versions.content import Content, read_content, read_directory
from recsys.versions.pointer import Pointer
from recsys.versions.runs import open_run
from tests.support.components import Valkey, free_port
from tests.support.night import catalogue_of

DAY = date(2026, 1, 2)


@pytest.fixture
def client(valkey: Valkey) -> redis.Redis:
    return keyspace.connect(load_settings(redis_url=valkey.url))


def content(shift: int = 0) -> Content:
    lists = {user: keyspace.pack(range(user + shift, user + shift + 50)) for user in range(600)}
    return Content(lists, keyspace.pack(range(100)), keyspace.pack(range(2000)))


def test_publishing_is_immutable_and_idempotent(client: redis.Redis) -> None:
    version = publish.publish_version(client, content(), DAY)
    assert version.startswith("2026-01-02-")
    assert publish.publish_version(client, content(), DAY) == version
    assert publish.matches(client, version, content())
    assert publish.publish_version(client, content(1), DAY) != version
    assert pointer.read(client).version == ""


def test_a_half_written_version_is_completed(client: redis.Redis) -> None:
    version = publish.publish_version(client, content(), DAY)
    client.delete(keyspace.lists_key(version, 3))
    assert not publish.matches(client, version, content())
    publish.publish_version(client, content(), DAY)
    assert publish.matches(client, version, content())


def test_promotion_compares_before_it_sets(client: redis.Redis) -> None:
    first = publish.publish_version(client, content(), DAY)
    assert pointer.move(client, first, DAY, who="t", why="w", generation=0)[0]
    second = publish.publish_version(client, content(1), date(2026, 1, 3))
    moved, why = pointer.move(client, second, date(2026, 1, 3), who="t", why="w", generation=0)
    assert not moved
    assert first in why
    assert pointer.move(client, second, date(2026, 1, 3), who="t", why="w", generation=1)[0]
    assert pointer.read(client) == Pointer(second, 2, "2026-01-03", first)
    older = pointer.move(client, first, DAY, who="t", why="w", generation=2)
    assert older == (False, f"the live version {second} is of a later log date")
    assert pointer.move(client, second, date(2026, 1, 3), who="t", why="w")[0]


def test_an_absent_version_cannot_be_promoted(client: redis.Redis) -> None:
    with pytest.raises(MissingDataError, match="not in Redis"):
        pointer.move(client, "2026-01-02-00000000", DAY, who="t", why="w")


def test_old_versions_are_collected_but_live_and_previous_stay(client: redis.Redis) -> None:
    versions = [publish.publish_version(client, content(i), DAY) for i in range(8)]
    pointer.move(client, min(versions), DAY, who="t", why="w")
    publish.collect_garbage(client, keep=2)
    left = {v.decode() for v in client.smembers(keyspace.VERSIONS)}
    assert left == {min(versions), *sorted(versions)[-2:]}
    assert client.hgetall(keyspace.lists_key(sorted(versions)[2], 0)) == {}


def test_a_version_of_a_night_that_is_under_way_stays(client: redis.Redis) -> None:
    held = lease.take(client, DAY, "a")
    preview = publish.publish_version(client, content(), DAY, held=held)
    for i in range(3):
        publish.publish_version(client, content(i), date(2026, 1, 3))
    publish.collect_garbage(client, keep=2)
    assert client.sismember(keyspace.VERSIONS, preview)
    lease.drop(client, DAY, "a")
    publish.collect_garbage(client, keep=2)
    assert not client.sismember(keyspace.VERSIONS, preview)


def test_a_run_keeps_its_specification(client: redis.Redis) -> None:
    open_run(client, RunSpec("base", "", 1.0, 1))
    open_run(client, RunSpec("base", "", 1.0, 1))
    with pytest.raises(ConflictError):
        open_run(client, RunSpec("base", "", 0.5, 1))


def test_redis_that_is_down_is_named_without_its_password() -> None:
    url = f"redis://:hidden-word@127.0.0.1:{free_port()}/0"
    with pytest.raises(UnavailableError) as caught:
        keyspace.connect(load_settings(redis_url=url))
    assert "127.0.0.1" in str(caught.value)
    assert "hidden-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [("{", "line 2"), ('{"user": 1, "tracks": []}', "line 2"), ('{"user": 1, "tracks": [99]}', "track 99 is not in the")],
)
def test_malformed_lists_are_named_by_line(tmp_path: Path, line: str, message: str) -> None:
    recommendations, top = tmp_path / "r.json", tmp_path / "t.json"
    recommendations.write_text('{"user": 0, "tracks": [1, 2]}\n' + line + "\n")
    top.write_text("[1, 2, 3]")
    with pytest.raises(InvalidInputError, match=message):
        read_content(recommendations, top, None, catalogue_of(10))


def test_neighbours_of_another_width_are_refused(tmp_path: Path) -> None:
    (tmp_path / "recommendations.json").write_text('{"user": 0, "tracks": [1, 2]}\n')
    (tmp_path / "top_tracks.json").write_text(json.dumps([1]))
    np.save(tmp_path / "neighbours.npy", np.zeros((5, 3), dtype=np.uint32))
    with pytest.raises(InvalidInputError, match=r"\(5, 3\)"):
        read_directory(tmp_path)


@pytest.mark.drill("publisher", "files that name no track, or a user twice or none", "refused, and what is wrong is named")
@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.full((10, 20), -1), "track -1"),
        (np.full((10, 20), 10, np.uint32), "track 10"),
        (np.full((10, 20), 2**32 - 1, np.uint32), "track 4294967295"),
        (np.full((10, 20), np.nan), "float64"),
        (np.full((10, 20), 1.0), "float64"),
        (np.full((10, 20), 1j), "complex128"),
        (np.full((10, 20), "2026-01-02", "datetime64[D]"), "datetime64"),
        (np.full((10, 20), True), "bool"),
        (np.zeros((9, 20), np.uint32), r"\(9, 20\); it must be \[10, 20\]"),
        (np.zeros(20, np.uint32), r"\(20,\)"),
    ],
)  # fmt: skip
def test_neighbours_that_are_no_tracks_are_refused(tmp_path: Path, table: np.ndarray, message: str) -> None:
    recommendations, top, neighbours = (tmp_path / name for name in ("r.json", "t.json", "n.npy"))
    recommendations.write_text('{"user": 0, "tracks": [1, 2]}\n')
    top.write_text("[1, 2, 3]")
    np.save(neighbours, table)
    with pytest.raises(InvalidInputError, match=message):
        read_content(recommendations, top, neighbours, catalogue_of(10))


@pytest.mark.drill("publisher", "files that name no track, or a user twice or none", "refused, and what is wrong is named")
@pytest.mark.parametrize(
    ("lists", "popular", "message"),
    [
        ('{"user": 0, "tracks": [1]}\n{"user": 0, "tracks": [2]}\n', "[1]", "line 2.*user 0 appears a second time"),
        ("", "[1]", "r.json has no users"),
        ('{"user": 0, "tracks": [1]}\n', "[" * 100_000, "t.json is not a list of tracks"),
        ('{"user": 0, "tracks": [4294967295]}\n', "[1]", "track 4294967295"),
        ('{"user": 0, "tracks": [2147483648]}\n', "[1]", "track 2147483648"),
        ('{"user": 0, "tracks": [1]}\n', "[4294967295]", "track 4294967295"),
    ],
)  # fmt: skip
def test_lists_that_cannot_be_served_are_refused(tmp_path: Path, lists: str, popular: str, message: str) -> None:
    (tmp_path / "r.json").write_text(lists)
    (tmp_path / "t.json").write_text(popular)
    with pytest.raises(InvalidInputError, match=message):
        read_content(tmp_path / "r.json", tmp_path / "t.json", None)


@pytest.mark.drill("promotion", "a version is collected between a check and the move", "refused; what is live has its lists")
def test_a_version_collected_after_it_was_checked_does_not_become_live(client: redis.Redis) -> None:
    first, second = (publish.publish_version(client, content(shift), DAY) for shift in (0, 1))
    for version in (first, second):
        pointer.make_live(client, version, who="ann", why="better")
    client.delete(keyspace.version_key(first))
    with pytest.raises(MissingDataError, match=first):
        pointer.rollback(client, who="ann", why="complaints")
    assert pointer.read(client).version == second
    lost = Pointer(first, 7, str(DAY), second)
    with pytest.raises(MissingDataError, match=first):
        pointer.restore(client, lost, [], who="ann")
    assert pointer.read(client).version == second


@pytest.mark.drill("promotion", "a collector stalls and its lease ends", "what was published again meanwhile stays whole")
def test_a_version_and_its_lists_are_collected_at_once(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    old = publish.publish_version(client, content(), DAY)
    for shift in range(4):
        publish.publish_version(client, content(shift), date(2026, 1, 3))
    forget, call = publish.LIBRARY.function("forget"), redis.Redis.fcall

    def stalled(self: redis.Redis, function: str, *arguments: object) -> object:
        answer = call(self, function, *arguments)  # type: ignore[arg-type]
        if function == forget:
            monkeypatch.setattr(redis.Redis, "fcall", call)
            client.delete(keyspace.LEASES)
            assert publish.publish_version(client, content(), DAY) == old
            pointer.make_live(client, old, who="ann", why="better")
        return answer

    monkeypatch.setattr(redis.Redis, "fcall", stalled)
    with suppress(ConflictError):
        publish.collect_garbage(client)
    assert pointer.read(client).version == old
    assert publish.matches(client, old, content())


def test_versions_keep_their_names_and_users_beyond_32_bits_have_one(client: redis.Redis) -> None:
    lists = {2**32 - 1: keyspace.pack([5]), 7: keyspace.pack([1, 2])}
    digest = hashlib.sha256(struct.pack("<III", 7, 1, 2) + struct.pack("<II", 2**32 - 1, 5) + keyspace.pack([3]) + b"n")
    assert Content(lists, keyspace.pack([3]), b"n").checksum == digest.hexdigest()
    larger = {**lists, 2**32: keyspace.pack([6]), 2**63 - 1: keyspace.pack([8])}
    digest = hashlib.sha256(struct.pack("<III", 7, 1, 2) + struct.pack("<II", 2**32 - 1, 5))
    digest.update(struct.pack("<QI", 2**32, 6) + struct.pack("<QI", 2**63 - 1, 8) + keyspace.pack([3]) + b"n")
    found = Content(larger, keyspace.pack([3]), b"n")
    assert found.checksum == digest.hexdigest()
    version = publish.publish_version(client, found, DAY)
    assert publish.served_lists(client, version, [2**63 - 1, 2**32, 7, 9]) == {2**63 - 1: [8], 2**32: [6], 7: [1, 2]}


def test_users_may_be_called_by_texts(tmp_path: Path) -> None:
    lines = [{"user": user, "tracks": [place]} for place, user in enumerate(["alice", 2**63 - 1, "12"])]
    (tmp_path / "r.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "t.json").write_text("[1]")
    lists = read_content(tmp_path / "r.json", tmp_path / "t.json", None).lists
    assert lists == {number_of("alice"): keyspace.pack([0]), 2**63 - 1: keyspace.pack([1]), 12: keyspace.pack([2])}


@pytest.mark.parametrize(
    ("user", "message"),
    [
        (2**63, "line 2 .*user 9223372036854775808 must be an integer from 0 to 9223372036854775807, or a text"),
        (-1, "line 2 .*user -1 must be"),
        ("x" * 129, "line 2 .*has 129 bytes; a user's id has 1 to 128"),
        ("", "line 2 .*has 0 bytes"),
        ("7", "line 2 .*user 7 appears a second time"),
        (1.0, "line 2 .*user 1.0 must be"),
    ],
)
def test_who_can_be_no_user_is_named_by_line(tmp_path: Path, user: object, message: str) -> None:
    lines = [{"user": 7, "tracks": [1]}, {"user": user, "tracks": [1]}]
    (tmp_path / "r.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "t.json").write_text("[1]")
    with pytest.raises(InvalidInputError, match=message):
        read_content(tmp_path / "r.json", tmp_path / "t.json", None)


@pytest.mark.parametrize(
    ("track", "popular", "neighbour", "message"),
    [
        (4, 1, 1, "r.json line 1 is not a user's list: track 4 is retired; leave it out"),
        (1, 4, 1, "t.json is not a list of tracks: track 4 is retired"),
        (1, 1, 4, "n.npy names track 4, which is retired"),
    ],
)
def test_retired_tracks_are_refused(tmp_path: Path, track: int, popular: int, neighbour: int, message: str) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"user": 0, "tracks": [track]}))
    (tmp_path / "t.json").write_text(json.dumps([popular]))
    table = np.tile(np.arange(10, dtype=np.uint32)[:, None], 20)  # rows without neighbours hold their own track
    table[2, 3] = neighbour
    np.save(tmp_path / "n.npy", table)
    with pytest.raises(InvalidInputError, match=message):
        read_content(tmp_path / "r.json", tmp_path / "t.json", tmp_path / "n.npy", catalogue_of(10, [4, 5]))
