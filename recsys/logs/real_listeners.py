"""Real listeners: their requests become ``logs/date=D``, and a night's report reads the experiment that they took part in.

In go the files of the service's ``live`` directory, one a worker and day (UTC); out comes ``logs/date=D`` with the specification
they were served from. The experiment is the one of ``RECSYS_EXPERIMENTS``, which the service reads too; when it began, and for
how many users it was planned, stands in ``beginnings/<design>/date=<first day>``.
"""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import ClassVar

from recsys.exceptions import InvalidInputError, MissingDataError
from recsys.experiments import Experiment, RunSpec, load_live_experiment
from recsys.logs.upload import LIVE_WAIT_SECONDS, copy, count_events, remove, require_events, resting
from recsys.schemas import DatedCatalogue
from recsys.settings import Settings
from recsys.storage.document import Document
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


class Beginning(Document):
    """``beginning.json``: what was fixed when an experiment began, so that nobody chooses it after a look at the results.

    Attributes:
        experiment: its design. first: the first log date with requests under it.
        planned_users: users of the two compared arms at which the confidence sequence is narrowest.
    """

    FILE: ClassVar[str] = "beginning.json"

    experiment: Experiment
    first: date
    planned_users: int


@dataclass(frozen=True)
class Course:
    """An experiment up to a log date: how it began, and the log dates with its requests, ascending."""

    began: Beginning
    dates: tuple[date, ...]


def course(settings: Settings, store: Storage, log_date: date) -> Course:
    """The experiment that real listeners took part in on a log date, from its first day on.

    It is the one of the date's own logs, whatever the settings say by now. Another name, salt, share or recommender makes another
    experiment, and so does a design that comes back after another one; days without any are a pause. A day on which the design
    was changed holds requests under both and counts for neither; its own night alone reads it. The first night that asks notes
    the beginning.

    Raises:
        InvalidInputError: there is no experiment. MissingDataError: logs of the date, or of the first day, are absent.
    """
    name = Dated.LOGS.on(log_date)
    if not store.is_complete(name):
        raise MissingDataError(f"{name} is not in {store.url}; collect it first")
    design = _design(store, log_date) or experiment(settings)
    dates, interrupted = [log_date], date.min
    for day in reversed([day for day in store.dates(Dated.LOGS) if day < log_date]):
        other = _design(store, day)
        if other not in (None, design):
            interrupted = day
            break
        dates += [day] if other else []
    if interrupted > date.min and len(dates) > 1:
        dates.pop()
    elif interrupted > date.min:
        return Course(Beginning(experiment=design, first=log_date, planned_users=settings.planned_users), (log_date,))
    began = _beginning(settings, store, design, dates[-1], interrupted, log_date)
    if not store.is_complete(Dated.LOGS.on(began.first)):
        raise MissingDataError(
            f"experiment {design.name!r} began on {began.first}, whose logs are not in {store.url} any more; restore them, or "
            "begin another experiment by another salt"
        )
    return Course(began, tuple(day for day in reversed(dates) if day >= began.first))


def _design(store: Storage, log_date: date) -> Experiment | None:
    """The experiment of a log date's requests; None if they are not of real listeners, or of no experiment."""
    try:
        spec = store.read(RunSpec, Dated.LOGS.on(log_date))
    except MissingDataError:
        return None
    return spec.experiment if spec.base == BASE else None


def _beginning(
    settings: Settings, store: Storage, design: Experiment, first: date, interrupted: date, log_date: date
) -> Beginning:
    """What was noted of the experiment since it was last interrupted; notes ``first`` if nothing was."""
    place = f"beginnings/{hashlib.sha256(json.dumps(asdict(design), sort_keys=True).encode()).hexdigest()[:16]}"
    noted = [day for day in store.dates(place) if interrupted < day <= log_date]
    if noted:
        return store.read(Beginning, f"{place}/date={noted[-1]}")
    began = Beginning(experiment=design, first=first, planned_users=settings.planned_users)
    with store.stage(f"{place}/date={first}") as staging:
        began.write(staging)
    return began
