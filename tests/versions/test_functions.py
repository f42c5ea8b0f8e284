"""Functions inside a real Valkey: programs with different texts do not disturb each other."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from recsys.exceptions import UnavailableError
from recsys.settings import load_settings
from recsys.versions import keyspace, pointer
from recsys.versions.functions import LIBRARY, Library
from tests.support.components import Valkey

pytestmark = pytest.mark.real

#: Another program's: it promotes in another way.
OTHER = Library("#!lua name=LIBRARY\nredis.register_function('LIBRARY_promote', function() return 'otherwise' end)\n")


def names(client: redis.Redis) -> set[str]:
    """Names of the libraries that Valkey has."""
    return {keyspace.text(library[1]) for library in client.function_list()}


def test_two_texts_stand_side_by_side(valkey: Valkey) -> None:
    client = keyspace.connect(load_settings(redis_url=valkey.url))
    OTHER.load(client)
    keyspace.connect(load_settings(redis_url=valkey.url))
    OTHER.load(client)
    assert client.fcall(OTHER.function("promote"), 0) == b"otherwise"
    assert pointer.hold(client, who="ann", why="holiday") == "all promotions: held"
    assert names(client) == {LIBRARY.name, OTHER.name}


def test_a_full_valkey_answers_but_refuses(valkey: Valkey) -> None:
    redis.Redis.from_url(valkey.url).config_set("maxmemory", 1)
    with pytest.raises(UnavailableError, match=r"answers, but refuses: .*maxmemory"):
        keyspace.connect(load_settings(redis_url=valkey.url))


def test_many_programs_may_load_at_once(valkey: Valkey) -> None:
    settings = load_settings(redis_url=valkey.url)
    with ThreadPoolExecutor(16) as pool:
        clients = list(pool.map(lambda _: keyspace.connect(settings), range(16)))
    assert names(clients[0]) == {LIBRARY.name}


def test_a_library_that_is_there_is_left_alone(valkey: Valkey) -> None:
    client = keyspace.connect(load_settings(redis_url=valkey.url))
    client.config_resetstat()
    LIBRARY.load(client)
    said = client.info("commandstats")["cmdstat_function|load"]
    assert (said["calls"], said["failed_calls"]) == (1, 1)


def test_a_library_that_cannot_be_loaded_is_an_error(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyspace, "LIBRARY", Library("#!lua name=LIBRARY\nno lua"))
    with pytest.raises(UnavailableError, match="compil"):
        keyspace.connect(load_settings(redis_url=valkey.url))
