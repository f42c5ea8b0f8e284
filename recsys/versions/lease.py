"""Who works on a log date: one run at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

import redis

from recsys.exceptions import ConflictError
from recsys.versions import keyspace

LEASE_TTL = 3600


def take(client: redis.Redis, log_date: date, run: str) -> None:
    """Hold a log date for a run; again for the same run renews it.

    Raises:
        ConflictError: another run holds it; the message names that run.
    """
    key = keyspace.lease_key(str(log_date))
    if client.set(key, run, nx=True, ex=LEASE_TTL):
        return
    holder = client.get(key)
    if holder is not None and holder != run.encode():
        raise ConflictError(f"log date {log_date} is held by run {keyspace.text(holder)}; wait for it or end it")
    client.set(key, run, ex=LEASE_TTL)


def drop(client: redis.Redis, log_date: date, run: str) -> None:
    """Let go of a log date if this run holds it."""
    key = keyspace.lease_key(str(log_date))
    if client.get(key) == run.encode():
        client.delete(key)


@contextmanager
def held(client: redis.Redis, log_date: date, run: str) -> Iterator[None]:
    """Hold a log date while the block runs."""
    take(client, log_date, run)
    try:
        yield
    finally:
        drop(client, log_date, run)
