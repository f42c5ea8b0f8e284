"""What the night of a log date would do: settings and date in, a small dictionary to read out; nothing is written."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from recsys import catalog
from recsys.exceptions import InvalidInputError
from recsys.schemas import EXPERIMENT, night_seed
from recsys.settings import Settings
from recsys.storage.store import Storage
from recsys.versions import keyspace, pointer


def outlook(settings: Settings, log_date: date, *, backfill: bool = False) -> dict[str, str]:
    """Check what a night needs before it can begin, and say what it would read and play.

    Args:
        backfill: the night plays C and T1 only.

    Raises:
        InvalidInputError: the log date has not begun. WorldError: the world cannot be read. UnavailableError: Redis is away.
    """
    if log_date > datetime.now(UTC).date():
        raise InvalidInputError(f"log date {log_date} lies in the future; a log date is over before its night")
    store = Storage(settings.storage_url)
    have = set(store.dates("logs"))
    window = [log_date - timedelta(days=back) for back in range(settings.window - 1, -1, -1)]
    live = pointer.read(keyspace.connect(settings)).version
    return {
        "log date": str(log_date),
        "storage": store.url,
        "logs that are read": _listed(day for day in window if day in have),
        "dates without logs": _listed(day for day in window if day not in have),
        "tracks": str(catalog.load_tracks(settings.world).size),
        "users": str(len(catalog.load_users(settings.world))),
        "live version": live or "none",
        "experiment": f"{EXPERIMENT}: C, T1" + (f", L ({live})" if live and not backfill else ""),
        "sessions": f"{settings.episodes} in {settings.shards} shards",
        "seed": f"{settings.seed}; the night's own is {night_seed(settings.seed, log_date)}",
    }


def _listed(days: Iterable[date]) -> str:
    return ", ".join(map(str, days)) or "none"
