"""A log date is taken away, to undo an import say: in goes a date, out comes ``logs/date=D`` in the storage's trash.

What nights have made of it stays; a night that is run again reads the log dates that are left.
"""

from datetime import date, timedelta

import redis

from recsys.exceptions import ConflictError, CorruptDataError, MissingDataError
from recsys.experiments import RunSpec
from recsys.schemas import Inputs
from recsys.storage.layout import Dated
from recsys.storage.store import Storage
from recsys.versions import lease


def describe(store: Storage, log_date: date) -> str:
    """What the logs of a date are, in a line: their size, counts, the run that they come from, and the nights that read them.

    Raises:
        MissingDataError: there are none.
    """
    name = Dated.LOGS.on(log_date)
    if not store.is_complete(name):
        raise MissingDataError(f"{name} is not in {store.url}; 'recsys storage list logs' names the log dates there are")
    manifest = store.manifest(name)
    told = [f"{sum(file.bytes for file in manifest.files):,} bytes in {len(manifest.files)} files"]
    told += [f"{count:,} {what}" for what, count in manifest.counts.items()]
    told.append(_origin(store, name))
    nights = [str(day) for day in store.dates(Dated.INTERACTIONS) if day >= log_date and _has_read(store, day, name)]
    told += [f"read by the nights of {', '.join(nights)}"] if nights else []
    return f"{name}: {'; '.join(told)}"


def remove(store: Storage, client: redis.Redis, log_date: date, *, window: int, run: str) -> None:
    """Move the logs of a date to the trash.

    Args:
        window: log dates that a night reads. run: names who removes, in the date's lease.

    Raises:
        ConflictError: a run works on the date, or on one whose night reads it.
    """
    store.require_writable()
    with lease.held(client, log_date, run):
        for day, holder in sorted(lease.holders(client).items()):
            if log_date < day < log_date + timedelta(days=window):
                raise ConflictError(
                    f"run {holder} works on log date {day}, whose night reads {log_date}; wait until it has ended"
                )
        store.remove(Dated.LOGS.on(log_date))


def _origin(store: Storage, name: str) -> str:
    try:
        return f"run {store.read(RunSpec, name).base}"
    except (MissingDataError, CorruptDataError):
        return "of an unknown run"


def _has_read(store: Storage, day: date, name: str) -> bool:
    try:
        return name in Inputs.read(store, day).logs
    except (MissingDataError, CorruptDataError):  # a damaged night has nothing to say
        return False
