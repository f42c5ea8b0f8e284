"""Every night so far: a storage in, a row a night out, for lists, pages and the report's picture of earlier nights."""

from dataclasses import dataclass
from datetime import date

from recsys.abtest.schema import Report
from recsys.schemas import Verdict
from recsys.storage.layout import Dated
from recsys.storage.store import Storage


@dataclass(frozen=True)
class NightRow:
    """A night; ``verdict`` is ``failed`` for one that has not ended, and a figure that there is not is None.

    ``effect_percent`` is that of T1 on the primary metric, with its interval; ``live`` the version that served listeners
    afterwards, ``report`` the path of its page.
    """

    log_date: str
    verdict: str = "failed"
    sessions: int | None = None
    effect_percent: float | None = None
    ci_low_percent: float | None = None
    ci_high_percent: float | None = None
    live: str | None = None
    report: str | None = None


def nights(store: Storage) -> list[NightRow]:
    """Every night so far, ascending."""
    return [night_row(store, log_date) for log_date in store.dates(Dated.INTERACTIONS)]


def night_row(store: Storage, log_date: date) -> NightRow:
    """One night."""
    verdict, report = Verdict.find(store, log_date), Report.find(store, log_date)
    effect = report.primary("T1") if report else None
    return NightRow(
        str(log_date),
        verdict.verdict if verdict else "failed",
        report.sessions if report else None,
        effect.effect_percent if effect else None,
        effect.ci_low_percent if effect else None,
        effect.ci_high_percent if effect else None,
        (verdict.live or None) if verdict else None,
        f"{store.path(Report.KIND.on(log_date))}/report.html" if report else None,
    )
