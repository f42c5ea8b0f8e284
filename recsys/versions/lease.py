"""Who works on a log date: one run at a time, for as long as it renews its lease.

Taking, renewing and dropping are one call inside Redis each. A lease has a token that no earlier lease had: publishing and moving
the live pointer are refused where it is no longer the date's, so that a run that stalled cannot undo what its successor did.
"""

import functools
import hashlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psutil
import redis

from recsys.exceptions import ConflictError
from recsys.versions import keyspace
from recsys.versions.functions import LIBRARY

log = logging.getLogger(__name__)

#: How long a lease outlives the last word of its holder.
TTL = timedelta(minutes=5)
#: Begins the name of whoever drops old versions of a date; it is done in a moment, and others wait for it.
COLLECTOR = "collector-"
PATIENCE = timedelta(minutes=1)
#: Begins the name of a command; its machine and process follow.
COMMAND = "cli-"


@dataclass(frozen=True)
class Lease:
    """A log date in a run's hands; ``token`` grows from lease to lease."""

    log_date: date
    run: str
    token: int


def name_of_command() -> str:
    """Names this process as a holder. Who finds it dead, on the same machine, need not wait until its lease ends."""
    return f"{COMMAND}{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def take(client: redis.Redis, log_date: date, run: str, *, ttl: timedelta = TTL) -> Lease:
    """Hold a log date for a run; again for the same run prolongs its lease.

    Raises:
        ConflictError: another run holds it; the message names that run.
    """
    return _take(client, log_date, run, ttl)[0]


def take_all(client: redis.Redis, log_dates: Iterable[date], run: str, *, ttl: timedelta = TTL) -> None:
    """Hold several log dates for a run, or none that it did not hold before.

    Raises:
        ConflictError: another run holds one of them; the message names both.
    """
    new = []
    try:
        for log_date in log_dates:
            if _take(client, log_date, run, ttl)[1]:
                new.append(log_date)
    except ConflictError:
        for log_date in new:
            drop(client, log_date, run)
        raise


def renew(client: redis.Redis, lease: Lease, *, ttl: timedelta = TTL) -> None:
    """Prolong a lease, or take it again if nobody has held the date since it ended.

    Raises:
        ConflictError: the date has had another holder.
    """
    call = (LIBRARY.function("renew"), 1, keyspace.LEASES)
    if not client.fcall(*call, str(lease.log_date), lease.run, lease.token, _milliseconds(ttl)):
        raise lost(client, lease)


def drop(client: redis.Redis, log_date: date, run: str) -> None:
    """Let go of a log date if this run holds it."""
    client.fcall(LIBRARY.function("drop"), 1, keyspace.LEASES, str(log_date), run)


def drop_all(client: redis.Redis, run: str) -> None:
    """Let go of every log date that this run holds."""
    for log_date, holder in holders(client).items():
        if holder == run:
            drop(client, log_date, run)


def holders(client: redis.Redis) -> dict[date, str]:
    """The runs that hold log dates."""
    leases = {field: json.loads(keyspace.text(lease)) for field, lease in client.hgetall(keyspace.LEASES).items()}
    now = time.time() * 1000
    return {date.fromisoformat(keyspace.text(day)): lease["run"] for day, lease in leases.items() if lease["till"] > now}


def lost(client: redis.Redis, lease: Lease) -> ConflictError:
    """The error of a run whose lease is another's, or nobody's, by now."""
    holder = holders(client).get(lease.log_date)
    now = f"run {holder} holds it" if holder else "nobody holds it any more"
    return ConflictError(f"run {lease.run} has lost log date {lease.log_date}: {now}; clear or repeat what it was to do")


@contextmanager
def held(
    client: redis.Redis, log_date: date, run: str, *, linger: timedelta | None = None, ttl: timedelta = TTL
) -> Iterator[Lease]:
    """Hold a log date while the block runs, renewing the lease meanwhile.

    A run that holds the date already goes on holding it afterwards.

    Args:
        linger: how long the date stays held after a block that ended well, for the run's next step; without it, it is let go.

    Raises:
        ConflictError: another run holds it, or got hold of it while the block ran.
    """
    # Unless Redis says otherwise: a signal may come when it has given the date and its reply is still on the way.
    fresh = True
    try:
        lease, fresh = _take(client, log_date, run, ttl)
        with _renewed(client, lease, ttl):
            yield lease
        renew(client, lease, ttl=linger or ttl)
    finally:
        if fresh and linger is None:
            drop(client, log_date, run)


def _take(client: redis.Redis, log_date: date, run: str, ttl: timedelta) -> tuple[Lease, bool]:
    """The lease, and whether this run did not hold it before."""
    call = (LIBRARY.function("take"), 2, keyspace.LEASES, keyspace.FENCE, str(log_date), run, _milliseconds(ttl))
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while True:
        outcome, *found = client.fcall(*call)
        if outcome != b"held":
            return Lease(log_date, run, int(found[0])), outcome == b"taken"
        holder, till = keyspace.text(found[0]), datetime.fromtimestamp(int(found[1]) / 1000, UTC)
        if _has_died(holder):
            log.warning("run %s has died; log date %s is free", holder, log_date)
            drop(client, log_date, holder)
            continue
        if not holder.startswith(COLLECTOR) or time.monotonic() > deadline:
            raise ConflictError(
                f"log date {log_date} is held by run {holder}, until {till:%Y-%m-%d %H:%M:%S} UTC unless it renews that; "
                "wait for it or end it"
            )
        time.sleep(0.1)


def _has_died(holder: str) -> bool:
    """Whether it was a command on this machine whose process is gone."""
    name, _, process = holder.removeprefix(COMMAND).partition("-")
    pid = process.partition("-")[0]
    return holder.startswith(COMMAND) and name == _machine() and pid.isdigit() and not psutil.pid_exists(int(pid))


@functools.cache
def _machine() -> str:
    """This machine since it was started, or this container: where a process id means something."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    told = f"{socket.gethostname()} {boot.read_text() if boot.exists() else ''}"
    return hashlib.sha256(told.encode()).hexdigest()[:8]


@contextmanager
def _renewed(client: redis.Redis, lease: Lease, ttl: timedelta) -> Iterator[None]:
    """Renew a lease while the block runs."""
    done = threading.Event()
    heartbeat = threading.Thread(
        target=_renew_until, args=(client, lease, ttl, done), name=f"lease of {lease.log_date}", daemon=True
    )
    heartbeat.start()
    try:
        yield
    finally:
        done.set()
        heartbeat.join()


def _renew_until(client: redis.Redis, lease: Lease, ttl: timedelta, done: threading.Event) -> None:
    """Renew a lease five times in its life, once a minute at least, until it is done or lost."""
    while not done.wait(min(60.0, ttl.total_seconds() / 5)):
        try:
            renew(client, lease, ttl=ttl)
        except ConflictError as error:
            log.warning("%s", error)
            return
        except redis.RedisError as error:
            log.warning("the lease of log date %s could not be renewed: %s", lease.log_date, error)


def _milliseconds(duration: timedelta) -> int:
    return int(duration.total_seconds() * 1000)
