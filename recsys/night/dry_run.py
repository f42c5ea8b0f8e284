"""What the night of a log date would do: a night in, a small dictionary to read out; nothing is written."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from recsys import catalog
from recsys.abtest.wording import counted
from recsys.exceptions import InvalidInputError
from recsys.experiments import EXPERIMENT
from recsys.night.night import Night
from recsys.schemas import DatedCatalogue
from recsys.settings import Settings
from recsys.storage.layout import Dated
from recsys.versions import keyspace, pointer


def dry_run(night: Night, *, backfill: bool = False) -> dict[str, str]:
    """Check what a night needs before it can begin, and say what it would read and play.

    Args:
        backfill: the night plays C and T1 only.

    Raises:
        InvalidInputError: the log date has not begun. WorldError: the world cannot be read. UnavailableError: Redis is away.
    """
    log_date, settings = night.log_date, night.settings
    if log_date > datetime.now(UTC).date():
        raise InvalidInputError(f"log date {log_date} lies in the future; a log date is over before its night")
    have = set(night.store.dates(Dated.LOGS))
    window = [log_date - timedelta(days=back) for back in range(settings.window - 1, -1, -1)]
    live = pointer.read(keyspace.connect(settings)).version
    copy = DatedCatalogue.find(night.store, log_date)
    tracks = copy.tracks if copy else catalog.load_tracks(night.world).size
    return {
        "log date": str(log_date),
        "storage": night.store.url,
        "logs that are read": _listed(day for day in window if day in have),
        "dates without logs": _listed(day for day in window if day not in have),
        "tracks": f"{tracks}, {'as copied for this date' if copy else 'to be copied for this date'}",
        "live version": live or "none",
        **_experiment(settings, "" if backfill else live),
        "seed": f"{settings.seed}; the night's own is {night.seed}",
    }


def _experiment(settings: Settings, live: str) -> dict[str, str]:
    """What the candidate is measured by; ``live`` is the version that takes part, "" for none."""
    if settings.experiment_source == "none":
        return {"experiment": "none; the gate alone decides"}
    if settings.experiment_source == "live":
        return {"experiment": "that of real listeners, from its first day on"}
    arms = f"{EXPERIMENT}: C, T1" + (f", L ({live})" if live else "")
    return {"experiment": arms, "sessions": f"{settings.episodes:,} in {counted(settings.shards, 'shard')}"}


def _listed(days: Iterable[date]) -> str:
    return ", ".join(map(str, days)) or "none"
