"""How the parts do that listeners depend on: the service, Redis, the storage.

In go the settings; out comes a :class:`Part` each. All are asked at the same time and none for long, for a page waits for them.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import redis

from recsys.abtest.wording import counted
from recsys.exceptions import RecsysError
from recsys.settings import Settings
from recsys.storage.layout import Dated
from recsys.storage.store import Storage
from recsys.versions import keyspace, pointer

#: Seconds until a silent service, or a silent Redis, counts as one that does not answer.
PATIENCE = 2.0


@dataclass(frozen=True)
class Part:
    """A part: whether it is well, a sentence, what more is known, and the heading of the runbook that helps."""

    name: str
    ok: bool
    text: str
    facts: Sequence[tuple[str, str]] = ()
    runbook: str = ""


def look(settings: Settings, store: Storage, live: str | None) -> list[Part]:
    """Ask every part.

    Args:
        store: the storage of the settings. live: the version that is live, with which the service must agree; None: not known.
    """
    asked: list[Callable[[], Part]] = [lambda: _service(settings, live), lambda: _redis(settings), lambda: _storage(store)]
    with ThreadPoolExecutor(len(asked)) as workers:
        return list(workers.map(lambda ask: ask(), asked))


def _service(settings: Settings, live: str | None) -> Part:
    url, begun = f"{settings.service_url}/readyz", time.monotonic()
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310 -- the settings allow http:// alone
            body = answer.read(10_000)
    except urllib.error.HTTPError as error:
        text = f"{settings.service_url} is not ready: {error.code} {error.read(300).decode(errors='replace')}"
        return Part("Service", False, text, runbook="the-service-answers-5xx")
    except (OSError, ValueError) as error:
        text = f"{settings.service_url} does not answer: {error}"
        return Part("Service", False, text, runbook="a-container-is-unhealthy-or-restarts")
    took = f"{1000 * (time.monotonic() - begun):.0f} ms"
    try:
        served = json.loads(body)["live"] or ""
    except (ValueError, KeyError, TypeError):
        return Part("Service", False, f"{url} answers what no service of Nightshift does: {body[:100]!r}")
    facts = [("Address", settings.service_url), ("Serves", served or "no version: the TOP 100"), ("Answered within", took)]
    if live is not None and served != live:
        text = f"It serves {served or 'no version'}, but {live or 'nothing'} is live."
        return Part("Service", False, text, facts, "the-live-version-is-not-in-redis")
    return Part("Service", True, f"Ready, serves {served or 'no version yet'}.", facts)


def _redis(settings: Settings) -> Part:
    begun = time.monotonic()
    try:
        client = keyspace.connect(settings, patience=PATIENCE)
        took, info = time.monotonic() - begun, client.info()
        versions, live = client.scard(keyspace.VERSIONS), pointer.read(client)
    except (RecsysError, redis.RedisError, OSError) as error:
        return Part("Valkey", False, str(error), runbook="answers-without-redis")
    used, most = int(info["used_memory"]), int(info.get("maxmemory", 0))
    memory = f"{_megabytes(used)} of {_megabytes(most)}" if most else _megabytes(used)
    facts = [
        ("Address", keyspace.address(settings.redis_url.get_secret_value())),
        ("Version", str(info.get("valkey_version") or info.get("redis_version"))),
        ("Memory", memory),
        ("Versions of lists", str(versions)),
        ("Generation of the live pointer", str(live.generation)),
        ("Answered within", f"{1000 * took:.0f} ms"),
    ]
    full = most and used > 0.9 * most
    text = f"{memory} in use{'; it is nearly full' if full else ''}."
    return Part("Valkey", not full, text, facts, "valkey-is-full" if full else "")


def _storage(store: Storage) -> Part:
    begun = time.monotonic()
    try:
        dates = store.dates(Dated.LOGS)
    except (RecsysError, OSError) as error:
        return Part("Storage", False, str(error), runbook="hdfs-does-not-answer")
    newest = f", the newest {dates[-1]}" if dates else ""
    facts = [("Address", store.url), ("Answered within", f"{1000 * (time.monotonic() - begun):.0f} ms")]
    return Part("Storage", True, f"{counted(len(dates), 'log date')}{newest}.", facts)


def _megabytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
