"""A storage full of nights, made of reports without logs: promoted, held and refused ones, by a fixed pattern."""

import math
from datetime import date, timedelta

from recsys.abtest.report import write_report
from recsys.abtest.schema import Report
from recsys.schemas import Verdict
from recsys.storage.store import Storage
from tests.support.documents import inputs, publish
from tests.support.reports import ended, refused, report_of, version_of


def fill(store: Storage, first: date, count: int) -> list[date]:
    """So many nights in a row, each with inputs, a report and a verdict; returns their dates."""
    days, live = [first + timedelta(days=n) for n in range(count)], ""
    for n, day in enumerate(days):
        live = _night(store, day, n, live)
    return days


def _night(store: Storage, day: date, n: int, live: str) -> str:
    """One night; returns what is live afterwards."""
    publish(store, day, inputs(day, live=live))
    if n % 17 == 5:
        _report(store, day, refused(day))
        publish(store, day, Verdict(verdict="gate_refused", reasons=["Not surely better."], version="", live=live))
        return live
    effect, change = 30 + 8 * math.sin(n / 6), 6 * math.sin(1.7 * n)
    width = 3 + 2 * math.sin(n)
    versus = (change, change - width, change + width) if live else None
    report = report_of(day, (effect, effect - width, effect + width), versus)
    promoted = report.decision.verdict == "promote"
    report = ended(report, "promoted" if promoted else "held", live=version_of(day) if promoted else live)
    _report(store, day, report)
    assert report.outcome
    publish(store, day, report.outcome)
    return report.outcome.live


def _report(store: Storage, day: date, report: Report) -> None:
    with store.stage(Report.KIND.on(day)) as staging:
        write_report(staging, report, None)
