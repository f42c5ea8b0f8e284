"""Plays become ``logs/date=D``, one whole date after the other, with what a night asks of logs.

In go the table ``plays`` and a storage; out come dated directories with lines as the service writes them, their counts and a
``run.json``. The base of a date's run is ``import-`` and a digest of its lines: the same rows, in whatever files they came, are
the same logs, and are there already.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from recsys.exceptions import ConflictError, CorruptDataError, MissingDataError, WorldError
from recsys.experiments import RunSpec
from recsys.imports.catalogue import Growth
from recsys.imports.tables import quoted
from recsys.storage.layout import Dated
from recsys.storage.store import Storage

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FILE = "import.jsonl"
#: Label of a manifest: which tracks the catalogue had (:meth:`recsys.imports.catalogue.Growth.mark`).
TRACKS = "tracks"
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class Day:
    """The logs of one date: their base, their ``next`` and ``last`` lines, and whether they are in the storage already."""

    log_date: date
    base: str
    next: int
    last: int
    is_there: bool

    @property
    def counts(self) -> dict[str, int]:
        """Counts of the manifest, as real logs have them."""
        others = {"repeated": 0, "degraded": 0, "malformed": 0}
        return {"next": self.next, "last": self.last, **others, "episodes": self.last}


def days_of(db: "DuckDBPyConnection", store: Storage) -> list[Day]:
    """The dates of the plays, ascending.

    Raises:
        ConflictError: one of them has other logs.
    """
    rows = db.execute(
        f"""SELECT day, bit_xor(md5_number({_line("''")})), sum(CAST(message = 'next' AS INTEGER)), count(*)
            FROM plays GROUP BY day ORDER BY day"""  # noqa: S608 - only names of this module
    ).fetchall()
    found = []
    for number, digest, following, lines in rows:
        log_date, base = _EPOCH + timedelta(days=number), f"import-{digest:032x}"[:19]
        found.append(Day(log_date, base, following, lines - following, _is_there(store, log_date, base)))
    return found


def require_same_catalogue(store: Storage, growth: Growth, where: Path) -> None:
    """See that tracks have the numbers by which the newest import knew them.

    Raises:
        WorldError: the catalogue has other ones.
    """
    for log_date in reversed(store.dates(Dated.LOGS)):
        mark = store.manifest(Dated.LOGS.on(log_date)).labels.get(TRACKS)
        if mark is None:
            continue
        if not growth.has_grown_from(mark):
            raise WorldError(
                f"{where} does not have the tracks, each with its number, by which {Dated.LOGS.on(log_date)} was imported into "
                f"{store.url}; a track keeps its number, and new ones are appended: restore it, or import into another storage"
            )
        return


def write(
    db: "DuckDBPyConnection", store: Storage, days: Sequence[Day], growth: Growth, *, seed: int, tell: Callable[[Day], None]
) -> None:
    """Publish the dates that are not there.

    Args:
        tell: is told every date once it is there.

    Raises:
        ConflictError: somebody else has published a date meanwhile.
    """
    size = len(growth.entries)
    labels = {TRACKS: growth.mark(size)}
    for day in days:
        if not day.is_there and not _is_there(store, day.log_date, day.base):
            with store.stage(Dated.LOGS.on(day.log_date), day.counts, labels) as staging:
                db.execute(
                    f"""COPY (SELECT {_line(quoted(day.base))} FROM plays WHERE day = {(day.log_date - _EPOCH).days}
                        ORDER BY "user", session, step)
                        TO {quoted(str(staging / FILE))} (FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER '\x01')"""  # noqa: S608 - names of this package and quoted ones
                )
                RunSpec(day.base, "", 0.0, seed, None, size).write(staging)
        tell(day)


def _is_there(store: Storage, log_date: date, base: str) -> bool:
    name = Dated.LOGS.on(log_date)
    if not store.is_complete(name):
        return False
    try:
        held = store.read(RunSpec, name).base
    except MissingDataError:
        held = "no run.json"
    if held != base:
        raise ConflictError(
            f"{name} in {store.url} holds other logs ({held}) than this import ({base}); import into another storage "
            f"(RECSYS_STORAGE), or move them away with 'recsys logs remove {log_date}'"
        )
    if not store.is_intact(name):
        raise CorruptDataError(
            f"{name} in {store.url} does not match its manifest; 'recsys logs remove {log_date}', then import again"
        )
    return True


def _line(base: str) -> str:
    """The line of a play, in SQL: the fields of :data:`recsys.logs.record.FIELDS` in their order.

    Args:
        base: of its run, an expression.
    """
    return f"""concat('{{"message":"', message, '","timestamp":', ts, ',"user":', "user", ',"track":', track,
      ',"time":', CAST(to_json(heard) AS VARCHAR), ',"latency":', coalesce(CAST(to_json(latency) AS VARCHAR), 'null'),
      ',"recommendation":', coalesce(CAST(recommendation AS VARCHAR), 'null'), ',"experiments":', experiments,
      ',"run":"', {base}, '","version":"","session":', session, ',"step":', step,
      ',"event":null,"source":null,"degraded":false,"propensity":null',
      CASE WHEN user_id IS NOT NULL THEN concat(',"user_id":', CAST(to_json(user_id) AS VARCHAR)) ELSE '' END, '}}')"""
