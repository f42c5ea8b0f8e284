"""Real listeners: their requests become ``logs/date=D``, and a night's report reads the experiment that they took part in.

In go the files of the service's ``live`` directory, one a worker and day (UTC); out comes ``logs/date=D`` with the specification
they were served from. The experiment is the one of ``RECSYS_EXPERIMENTS``, which the service reads too.
"""

import logging
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

from recsys.exceptions import InvalidInputError, MissingDataError
from recsys.experiments import Experiment, RunSpec, load_live_experiment
from recsys.logs.upload import LIVE_WAIT_SECONDS, copy, count_events, remove, require_events, resting
from recsys.schemas import DatedCatalogue
from recsys.settings import Settings
from recsys.storage.layout import Dated
from recsys.storage.store import Storage

log = logging.getLogger(__name__)

BASE = "live"


def upload(
    settings: Settings, log_date: date, world: Callable[[], DatedCatalogue], *, now: datetime | None = None
) -> dict[str, int]:
    """Publish one day's requests as ``logs/date=D``; the local files are removed once they have been verified there.

    Args:
        world: takes the catalogue of the log date, once there is something to store. now: a time with a zone; default the
            present.

    Raises:
        InvalidInputError: the day is not over. MissingDataError: nobody asked for anything on it. UnavailableError: a file is
        still being written. CorruptDataError: not one event is in them.
    """
    today = (now or datetime.now(UTC)).astimezone(UTC).date()
    if log_date >= today:
        raise InvalidInputError(f"log date {log_date} is not over (today is {today} UTC); its requests are stored afterwards")
    source = settings.log_dir / BASE
    files = resting(source, LIVE_WAIT_SECONDS, f"{log_date}-*.jsonl")
    if not files:
        raise MissingDataError(f"{source} holds no requests of {log_date}; check RECSYS_SERVICE_LOGS of service and upload")
    store, name = Storage(settings.storage_url), Dated.LOGS.on(log_date)
    sizes = {path: path.stat().st_size for path in files}
    counts = require_events(count_events(files), source, files)
    counts["episodes"] = counts["last"]
    design, tracks = load_live_experiment(settings.experiments), world()
    spec = RunSpec(BASE, "", settings.live_exploration, settings.seed, design, tracks.tracks, tracks.retired)
    with store.stage(name, counts) as staging:
        for path in files:
            copy(path, staging / path.name, sizes[path])
        spec.write(staging)
    store.local(name)
    for path in files:
        remove(path, sizes[path])
    log.info("stored %d live requests of %s", counts["next"] + counts["last"], log_date)
    return counts


def experiment(settings: Settings) -> Experiment:
    """The experiment that live requests take part in.

    Raises:
        InvalidInputError: there is none.
    """
    found = load_live_experiment(settings.experiments)
    if found is None:
        raise InvalidInputError(
            f"experiment source is 'live', but {settings.experiments} names no experiment; name one or set "
            "RECSYS_EXPERIMENT_SOURCE=none"
        )
    return found


def sources(store: Storage, log_date: date, days: int) -> list[str]:
    """Names of the logs of the last days, ascending, as far as they are there.

    Raises:
        MissingDataError: none is.
    """
    found = [d for d in store.dates(Dated.LOGS) if log_date - timedelta(days=days) < d <= log_date]
    if not found:
        raise MissingDataError(f"no logs of the {days} days up to {log_date} are in {store.url}; collect them first")
    return [Dated.LOGS.on(day) for day in found]
