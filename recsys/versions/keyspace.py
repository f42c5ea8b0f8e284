"""Names and encodings of everything that Nightshift keeps in Redis.

All keys of a user carry the hash tag of the user's bucket, so that one server-side call may touch them in a Redis Cluster.
Track lists are packed as little-endian uint32; nothing is pickled.
"""

from array import array
from collections.abc import Iterable

import redis

from recsys.exceptions import CorruptDataError, InvalidInputError, UnavailableError
from recsys.settings import Settings
from recsys.versions.functions import LIBRARY

PREFIX = "recsys:"
#: A call to Redis records events of one bucket: few buckets make a batch cheap. A Redis Cluster spreads over at most as many.
BUCKETS = 32
#: Marks the numbers that follow a user's tracks: no track id has this bit.
TASTE = 2**31

LIVE = f"{PREFIX}{{pointer}}:live"
BLOCKED = f"{PREFIX}{{pointer}}:blocked"
AUDIT = f"{PREFIX}{{pointer}}:audit"
LEASES = f"{PREFIX}{{pointer}}:leases"
FENCE = f"{PREFIX}{{pointer}}:fence"
ROLLOUT = f"{PREFIX}{{pointer}}:rollout"
VERSIONS = f"{PREFIX}versions"


def bucket(user: int) -> int:
    """The bucket of a user."""
    return user % BUCKETS


def history_prefix(scope: str) -> tuple[str, ...]:
    """Prefix of the history key by bucket; the user's id follows. ``scope`` is a run id or "live"."""
    return tuple(f"{PREFIX}{{{b}}}:history:{scope}:" for b in range(BUCKETS))


def lists_key(version: str, user_bucket: int) -> str:
    """Hash of user id to packed list, for one bucket of one version.

    >>> lists_key("2026-11-23-0a1b2c3d", bucket(37))
    'recsys:{5}:lists:2026-11-23-0a1b2c3d'
    """
    return f"{PREFIX}{{{user_bucket}}}:lists:{version}"


def version_key(version: str, part: str = "") -> str:
    """Description ("") of a version, or its "top", "neighbours" or "sessions" part."""
    return f"{PREFIX}version:{version}{':' + part if part else ''}"


def run_key(base: str) -> str:
    """The registered specification of a run."""
    return f"{PREFIX}run:{base}"


def pack(tracks: Iterable[int]) -> bytes:
    """Track ids as little-endian uint32.

    >>> pack([1, 258]).hex(" ", 4)
    '01000000 02010000'
    >>> list(unpack(pack([1, 258])))
    [1, 258]
    """
    return array("I", tracks).tobytes()


def unpack(data: bytes) -> "array[int]":
    """The inverse of :func:`pack`."""
    return array("I", data)


def pack_taste(numbers: Iterable[int]) -> bytes:
    """A user's level and session lists, as they follow the user's tracks: marked by the highest bit, which no track id has."""
    return pack(TASTE | number for number in numbers)


def split(listed: "array[int]") -> tuple["array[int]", list[int]]:
    """A user's entry as tracks, and level and numbers of session lists.

    >>> tracks, taste = split(unpack(pack([7, 9]) + pack_taste([3, 120])))
    >>> list(tracks), taste
    ([7, 9], [3, 120])
    """
    end = len(listed)
    while end and listed[end - 1] & TASTE:
        end -= 1
    return listed[:end], [number ^ TASTE for number in listed[end:]]


def connect(settings: Settings, *, patience: float = 30.0) -> redis.Redis:
    """A connected client with the function library loaded.

    Args:
        patience: seconds until a silent Redis counts as one that does not answer.

    Raises:
        InvalidInputError: the URL has another form. UnavailableError: Redis does not answer, or takes no functions, as when it is
            full; the message names the address, but not the password.
    """
    url = settings.redis_url.get_secret_value()
    try:
        client = redis.Redis.from_url(url, socket_timeout=patience, socket_connect_timeout=min(patience, 5.0))
    except ValueError:
        # Neither the value nor the parser's message, which may hold a part of it, is shown: it may have a password in it.
        raise InvalidInputError(
            "setting redis_url (RECSYS_REDIS_URL) is no URL of Redis: it must be redis://[[user]:password@]host[:port][/db], "
            "rediss://… or unix:///path, with signs such as / and @ in a password written as %2F and %40"
        ) from None
    try:
        client.ping()
        LIBRARY.load(client)
    except redis.ResponseError as error:
        raise UnavailableError(f"Redis at {address(url)} answers, but refuses: {error}") from None
    except redis.RedisError as error:
        raise UnavailableError(f"Redis at {address(url)} does not answer: {error}; start it or set RECSYS_REDIS_URL") from None
    return client


def text(value: bytes | str) -> str:
    """A name or a word that Redis gave.

    Raises:
        CorruptDataError: it is no text.
    """
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        raise CorruptDataError(
            f"Redis holds {value!r:.100} where a name must stand; delete it, then 'recsys restore-live'"
        ) from None


def address(url: str) -> str:
    """A Redis URL without credentials.

    >>> address("redis://:secret@valkey:6379/0")
    'redis://valkey:6379/0'
    """
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rsplit('@', 1)[-1]}"
