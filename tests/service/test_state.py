"""What a worker loads from Redis, it loads once, however many requests wait for it: a real Valkey counts what it was asked."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import date

import pytest
import redis

from recsys.exceptions import InvalidInputError
from recsys.experiments import RunSpec
from recsys.service.link import RedisLink
from recsys.service.state import CACHED_RUNS, Catalogue
from recsys.settings import load_settings
from recsys.versions import keyspace, pointer, publish
from recsys.versions.content import Content
from recsys.versions.runs import open_run
from tests.support.components import Valkey
from tests.support.tracks import world_of

pytestmark = pytest.mark.real

DAY = date(2026, 1, 2)
CONTENT = Content({1: keyspace.pack(range(50))}, keyspace.pack(range(100)), keyspace.pack(range(2000)))
#: TOP 100, neighbours and session lists.
PARTS = 3


@pytest.fixture
def client(valkey: Valkey) -> redis.Redis:
    return keyspace.connect(load_settings(redis_url=valkey.url))


@asynccontextmanager
async def catalogue_of(valkey: Valkey) -> AsyncIterator[Catalogue]:
    link = RedisLink(valkey.url)
    await link.start()
    catalogue = Catalogue(link, world_of(100), None, 0.0, 7)
    try:
        yield catalogue
    finally:
        await catalogue.stop()
        await link.stop()


def gets(client: redis.Redis) -> int:
    """How often Valkey was asked for a key's value since the last reset."""
    return int(client.info("commandstats").get("cmdstat_get", {"calls": 0})["calls"])


def on_a_catalogue(valkey: Valkey, act: Callable[[Catalogue], Awaitable[None]]) -> None:
    async def run() -> None:
        async with catalogue_of(valkey) as catalogue:
            await act(catalogue)

    asyncio.run(run())


def test_first_requests_of_a_run_load_its_version_once(valkey: Valkey, client: redis.Redis) -> None:
    version = publish.publish_version(client, CONTENT, DAY)
    open_run(client, RunSpec("night", version, 0.0, 7))

    async def ask(catalogue: Catalogue) -> None:
        client.config_resetstat()
        scopes = await asyncio.gather(*[catalogue.scope("night.0.a") for _ in range(32)])
        assert gets(client) == 1 + PARTS
        assert len({id(scope) for scope in scopes}) == 1

    on_a_catalogue(valkey, ask)


def test_first_requests_of_many_shards_load_their_version_once(valkey: Valkey, client: redis.Redis) -> None:
    version = publish.publish_version(client, CONTENT, DAY)
    open_run(client, RunSpec("night", version, 0.0, 7))

    async def ask(catalogue: Catalogue) -> None:
        client.config_resetstat()
        scopes = await asyncio.gather(*[catalogue.scope(f"night.{shard}.a") for shard in range(32)])
        assert gets(client) == 32 + PARTS
        assert len({id(scope.version) for scope in scopes}) == 1

    on_a_catalogue(valkey, ask)


def test_a_load_that_failed_is_tried_again(valkey: Valkey, client: redis.Redis) -> None:
    version = publish.publish_version(client, CONTENT, DAY)
    open_run(client, RunSpec("night", version, 0.0, 7))
    packed = client.get(keyspace.version_key(version, "top"))
    client.delete(keyspace.version_key(version, "top"))

    async def ask(catalogue: Catalogue) -> None:
        failed = await asyncio.gather(*[catalogue.scope("night.0.a") for _ in range(3)], return_exceptions=True)
        assert [type(error) for error in failed] == [InvalidInputError] * 3
        client.set(keyspace.version_key(version, "top"), packed)
        assert (await catalogue.scope("night.0.a")).version.name == version

    on_a_catalogue(valkey, ask)


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_one_who_waits_may_leave(valkey: Valkey, client: redis.Redis, gone: int) -> None:
    version = publish.publish_version(client, CONTENT, DAY)
    open_run(client, RunSpec("night", version, 0.0, 7))

    async def ask(catalogue: Catalogue) -> None:
        client.config_resetstat()
        tasks = [asyncio.create_task(catalogue.scope("night.0.a")) for _ in range(3)]
        await asyncio.sleep(0)  # all of them are under way now
        tasks[gone].cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(found.pop(gone), asyncio.CancelledError)
        assert [scope.version.name for scope in found if not isinstance(scope, BaseException)] == [version] * 2
        assert gets(client) == 1 + PARTS

    on_a_catalogue(valkey, ask)


def test_the_live_version_is_loaded_once_for_requests_and_for_what_follows_it(valkey: Valkey, client: redis.Redis) -> None:
    version = publish.publish_version(client, CONTENT, DAY)
    open_run(client, RunSpec("night", version, 0.0, 7))
    pointer.move(client, version, DAY, who="t", why="w")

    async def ask(catalogue: Catalogue) -> None:
        client.config_resetstat()
        await asyncio.gather(catalogue.start(), *[catalogue.scope("night.0.a") for _ in range(8)])
        assert catalogue.live.version.name == version
        assert gets(client) == 1 + PARTS

    on_a_catalogue(valkey, ask)


def test_the_run_that_nobody_has_asked_for_longest_is_forgotten(valkey: Valkey, client: redis.Redis) -> None:
    open_run(client, RunSpec("night", "", 1.0, 7))

    async def ask(catalogue: Catalogue) -> None:
        await catalogue.scope("night.0.a")
        for number in range(CACHED_RUNS):
            assert catalogue.known_scope("night.0.a") is not None, number
            await catalogue.scope(f"night.0.b{number}")
        assert catalogue.known_scope("night.0.a") is not None
        assert catalogue.known_scope("night.0.b0") is None
        assert catalogue.known_scope("night.0.b1") is not None

    on_a_catalogue(valkey, ask)
