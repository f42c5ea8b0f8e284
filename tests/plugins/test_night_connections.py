"""Airflow's connections lead to the Redis and the storage that they name, whatever stands in them; a real Valkey is asked."""

import asyncio
import json
import socket
from contextlib import suppress
from types import ModuleType

import pytest
import redis

from recsys.exceptions import InvalidInputError, UnavailableError
from recsys.service.link import RedisLink
from recsys.settings import load_settings
from recsys.versions import keyspace
from tests.dags.conftest import ROOT
from tests.support.components import Valkey, free_port

USER, PASSWORD = "ann@home/%41:x", "p/w@1:%2F?#[é"


def hosts() -> list[str]:
    """This machine's own addresses, of both kinds if it has both."""
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return ["127.0.0.1", "::1", "[::1]"]
    return ["127.0.0.1"]


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "plugins"))
    import night_connections

    return night_connections


def given(monkeypatch: pytest.MonkeyPatch, name: str, **parts: object) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps({"conn_type": "redis", **parts}))


async def through_the_link(url: str) -> bytes:
    link = RedisLink(url)
    await link.start()
    try:
        assert link.ready
        return bytes(await link.call("GET", "here"))
    finally:
        await link.stop()


@pytest.mark.real
@pytest.mark.parametrize("host", hosts())
def test_redis_with_a_login_that_a_url_would_read_otherwise(
    connections: ModuleType, valkey: Valkey, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    if ":" in host:
        valkey.client.config_set("bind", f"127.0.0.1 {host.strip('[]')}")
    valkey.client.acl_setuser(USER, enabled=True, passwords=[f"+{PASSWORD}"], keys=["*"], commands=["+@all"])
    given(monkeypatch, "REDIS_DEFAULT", host=host, port=valkey.port, login=USER, password=PASSWORD, extra={"db": 3})
    url = connections.redis_url().get_secret_value()
    client = keyspace.connect(load_settings(redis_url=url))
    assert client.acl_whoami() == USER
    client.set("here", url)
    assert redis.Redis(port=valkey.port, db=3).get("here") == url.encode()
    assert asyncio.run(through_the_link(url)) == url.encode()


def test_redis_that_names_no_host_is_refused(connections: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, "REDIS_DEFAULT", port=6379)
    with pytest.raises(InvalidInputError, match="redis_default names no host"):
        connections.redis_url()


def test_redis_without_a_password_needs_no_login(connections: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, "REDIS_DEFAULT", host="valkey", extra={"ssl": True})
    assert connections.redis_url().get_secret_value() == "rediss://valkey:6379/0"


@pytest.mark.parametrize("storage", ["", "file:///a", "webhdfs://given:1/a"])
def test_a_storage_that_needs_no_connection_is_left_alone(connections: ModuleType, storage: str) -> None:
    assert connections.storage_url(storage) == storage


@pytest.mark.parametrize(
    "parts", [None, {"host": "127.0.0.1", "port": free_port()}, {"host": "127.0.0.1"}, {"port": 1}, {"host": "[", "port": 1}]
)
def test_a_storage_whose_connection_leads_nowhere_is_an_error_by_name(
    connections: ModuleType, monkeypatch: pytest.MonkeyPatch, parts: dict[str, object] | None
) -> None:
    if parts is not None:
        given(monkeypatch, "WEBHDFS_DEFAULT", **parts)
    with pytest.raises(UnavailableError, match="webhdfs_default"):
        connections.storage_url("webhdfs:///a")


def test_a_storage_that_is_no_url_is_refused(connections: ModuleType) -> None:
    with pytest.raises(InvalidInputError, match="is no URL"):
        connections.storage_url("webhdfs://[::1/a")
