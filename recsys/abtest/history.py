"""Every night so far: a storage in, a row a night out, for lists, pages and the report's picture of earlier nights.

A night whose documents cannot be read is a row too, which says why; it hides no other.
"""

import logging
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date

from recsys.abtest.decision import percent
from recsys.abtest.headline import headline
from recsys.abtest.schema import Report, percents
from recsys.exceptions import RecsysError, UnavailableError
from recsys.schemas import Verdict
from recsys.storage.layout import Dated
from recsys.storage.manifest import SUCCESS, Manifest
from recsys.storage.marks import marks
from recsys.storage.store import Storage

log = logging.getLogger(__name__)

#: A night is there if one of these is; and the files that its row is made of.
_KINDS = {Dated.INTERACTIONS: SUCCESS, Dated.PROMOTIONS: Verdict.FILE, Dated.REPORTS: Report.FILE}
#: Nights that are read at the same time, where each request takes its time.
_READERS = 8


@dataclass(frozen=True)
class NightRow:
    """A night; ``verdict`` is ``failed`` for one that has not ended, and a figure that there is not is None.

    ``effect_percent`` is that of T1 on the primary metric against the control, ``live_effect_percent`` against the version that
    was live, each with its interval; ``predicted_percent`` is what the gate foretold of the candidate against the control, None
    where the report speaks of another version; ``version`` the candidate, ``live`` the version that served listeners afterwards,
    ``report`` the path of its page, ``reason`` the first sentence of it. The reason of a ``damaged`` night is what cannot be
    read.
    """

    log_date: str
    verdict: str = "failed"
    sessions: int | None = None
    effect_percent: float | None = None
    ci_low_percent: float | None = None
    ci_high_percent: float | None = None
    live: str | None = None
    report: str | None = None
    version: str | None = None
    live_effect_percent: float | None = None
    live_ci_low_percent: float | None = None
    live_ci_high_percent: float | None = None
    reason: str | None = None
    predicted_percent: float | None = None
    predicted_low_percent: float | None = None
    predicted_high_percent: float | None = None

    @property
    def outcome(self) -> str:
        """The verdict, with the effect against the live version, or the control if nothing was live.

        >>> NightRow("2026-11-24", "held", effect_percent=3.1, live_effect_percent=-14.8).outcome
        'held · −14.8 % against live'
        """
        effect, other = self.live_effect_percent, "live"
        if effect is None:
            effect, other = self.effect_percent, "C"
        verdict = self.verdict.replace("_", " ")
        return verdict if effect is None else f"{verdict} · {percent(effect)} against {other}"


def nights(store: Storage) -> list[NightRow]:
    """Every night so far, ascending."""
    return Nights(store).rows()


class Nights:
    """The nights of a storage, read once: a night is read again when one of its directories is another."""

    def __init__(self, store: Storage) -> None:
        self._store = store
        self._rows: dict[date, tuple[tuple[str, ...], NightRow | None]] = {}
        self._lock = threading.Lock()

    def rows(self) -> list[NightRow]:
        """Every night so far, ascending."""
        with self._lock:
            found = self._marks()
            stale = [day for day, mark in found.items() if self._rows.get(day, ((), None))[0] != mark]
            # A mark is older than what is read for it: what changes meanwhile is read again the next time.
            read = dict(zip(stale, self._read(stale), strict=True))
            self._rows = {day: (mark, read[day]) if day in read else self._rows[day] for day, mark in found.items()}
            return [row for _, row in self._rows.values() if row]

    def _marks(self) -> dict[date, tuple[str, ...]]:
        """Marks of each night's directories, by log date, ascending."""
        found = [marks(self._store, kind, SUCCESS, Manifest.FILE, file) for kind, file in _KINDS.items()]
        days = sorted({day for part in found for day in part})
        return {day: tuple(part.get(day, "") for part in found) for day in days}

    def _read(self, days: Iterable[date]) -> list[NightRow | None]:
        if self._store.is_local:
            return [_row_if_any(self._store, day) for day in days]
        with ThreadPoolExecutor(_READERS) as readers:
            return list(readers.map(lambda day: _row_if_any(self._store, day), days))


def night_row(store: Storage, log_date: date) -> NightRow:
    """One night.

    Raises:
        UnavailableError: the storage does not answer.
    """
    try:
        return _row(store, log_date)
    except UnavailableError:
        raise
    except (RecsysError, OSError, LookupError, ValueError) as error:
        log.warning("the night of %s cannot be read: %s", log_date, error)
        said = str(error) if isinstance(error, RecsysError) else f"{type(error).__name__}: {error}"
        return NightRow(str(log_date), "damaged", reason=said)


def _row(store: Storage, log_date: date) -> NightRow:
    verdict, report = Verdict.find(store, log_date), Report.find(store, log_date)
    primary = (report.watched or report.primary("T1")) if report else None
    against, versus = (percents(row) if row else None for row in (primary, report.against_live if report else None))
    effect, low, high = against or (None, None, None)
    live_effect, live_low, live_high = versus or (None, None, None)
    foretold = report.predicted() if report else None
    return NightRow(
        log_date=str(log_date),
        verdict=verdict.verdict if verdict else "failed",
        sessions=report.sessions if report else None,
        effect_percent=effect,
        ci_low_percent=low,
        ci_high_percent=high,
        live=(verdict.live or None) if verdict else None,
        report=f"{store.path(Report.KIND.on(log_date))}/report.html" if report else None,
        version=(verdict.version if verdict else "") or (report.version if report else "") or None,
        live_effect_percent=live_effect,
        live_ci_low_percent=live_low,
        live_ci_high_percent=live_high,
        reason=_reason(verdict, report),
        predicted_percent=foretold.effect_percent if foretold else None,
        predicted_low_percent=foretold.ci_low_percent if foretold else None,
        predicted_high_percent=foretold.ci_high_percent if foretold else None,
    )


def _row_if_any(store: Storage, log_date: date) -> NightRow | None:
    """A night, if anything of it has been published."""
    row = night_row(store, log_date)
    bare = row == NightRow(str(log_date)) and not store.is_complete(Dated.INTERACTIONS.on(log_date))
    return None if bare else row


def _reason(verdict: Verdict | None, report: Report | None) -> str | None:
    """The first sentence of the report; where a report does not know what came of the night, the last reason of the verdict."""
    if report and (verdict is None or report.outcome or report.decision.verdict == "gate_refused"):
        return headline(report).title
    return verdict.reasons[-1] if verdict and verdict.reasons else None
