"""The nights as a list for people: what the storage, the scheduler and the leases say of each log date, filtered and paged.

In go rows of :class:`recsys.abtest.history.Nights`, runs by log date, holders of leases and the query of a page's address; out
comes a :class:`Listing`. What is wrong in the query is told and left out.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlencode

from recsys.abtest.history import NightRow
from recsys.exceptions import InvalidInputError
from recsys.storage.layout import parse_date

#: What a night may be, and how people call it.
STATUSES = {
    "promoted": "Promoted",
    "rolling_out": "Rolling out",
    "held": "Held",
    "gate_refused": "Refused by the gate",
    "running": "Running",
    "failed": "Failed",
    "unfinished": "Not finished",
    "damaged": "Damaged",
}
#: Nights on a page.
SIZE = 30
_ALIVE = ("queued", "running")
_VERSION = re.compile(r"[0-9a-f-]{1,19}")


@dataclass(frozen=True)
class Run:
    """A run of the scheduler; ``state`` is queued, running, success or failed, times are None until they are known."""

    run_id: str
    state: str
    started: datetime | None = None
    ended: datetime | None = None

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.state in _ALIVE

    def lasted(self, now: datetime) -> timedelta | None:
        """How long it took, or has taken so far."""
        return (self.ended or now) - self.started if self.started else None


@dataclass(frozen=True)
class Entry:
    """A log date: its night as far as there is one, its newest run, and who holds it without being that run."""

    log_date: date
    night: NightRow | None = None
    run: Run | None = None
    holder: str = ""

    @property
    def status(self) -> str:
        """A key of :data:`STATUSES`: a run that is under way hides what an earlier one has left."""
        if (self.run and self.run.alive) or self.holder:
            return "running"
        verdict = self.night.verdict if self.night else "failed"
        if verdict != "failed":
            return verdict
        return "failed" if self.run and self.run.state == "failed" else "unfinished"

    @property
    def said(self) -> str:
        """The status for people."""
        if self.status == "running" and self.run and self.run.state == "queued" and not self.holder:
            return "Queued"
        return STATUSES[self.status]

    @property
    def because(self) -> str:
        """The reason of the status, without the words that repeat it."""
        night = self.night
        if self.status == "running":
            earlier = STATUSES.get(night.verdict, "") if night and night.verdict != "failed" else ""
            return ", ".join(part for part in (self.holder, f"before: {earlier.lower()}" if earlier else "") if part)
        if self.status in ("failed", "unfinished") or night is None:
            return ""
        text = (night.reason or "").removeprefix(f"{self.said}: ").removeprefix(f"{self.said}, ")
        return text[:1].upper() + text[1:]


def entries(nights: Sequence[NightRow], runs: Mapping[date, Run], holders: Mapping[date, str]) -> list[Entry]:
    """Everything that is known, the newest log date first."""
    known = {parse_date(night.log_date): night for night in nights}
    alive = {day for day, run in runs.items() if run.alive}
    found = []
    for day in sorted({*known, *runs, *holders}, reverse=True):
        run, holder = runs.get(day), holders.get(day, "")
        ours = not holder or (run is not None and run.run_id == holder) or day in alive
        found.append(Entry(day, known.get(day), run, "" if ours else holder))
    return found


class Filter(NamedTuple):
    """Which nights are wanted; an empty part wants all."""

    verdict: str = ""
    since: date | None = None
    until: date | None = None
    version: str = ""

    def wants(self, entry: Entry) -> bool:
        """Whether a night passes."""
        version = (entry.night.version if entry.night else None) or ""
        return (
            self.verdict in ("", entry.status)
            and (self.since is None or self.since <= entry.log_date)
            and (self.until is None or entry.log_date <= self.until)
            and self.version in version
        )

    def query(self, page: int = 1) -> str:
        """The query of an address that asks for it."""
        parts = {"verdict": self.verdict, "since": self.since, "until": self.until, "version": self.version}
        parts["page"] = str(page) if page > 1 else ""
        return urlencode({name: str(value) for name, value in parts.items() if value})


@dataclass(frozen=True)
class Listing:
    """A page of nights.

    Attributes:
        shown: the nights of the page, all that passed the filter are ``found``, and there are ``total``. problems: what in the
            query was left out, and why.
    """

    wanted: Filter
    shown: Sequence[Entry]
    found: Sequence[Entry]
    total: int
    page: int
    pages: int
    problems: Sequence[str]


def listing(every: Sequence[Entry], query: Mapping[str, str]) -> Listing:
    """The page that a query asks for."""
    wanted, problems = _filter(query)
    found = [entry for entry in every if wanted.wants(entry)]
    pages = max(1, -(-len(found) // SIZE))
    page = 1
    if text := query.get("page", ""):
        if text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= pages:
            page = int(text)
        else:
            problems.append(f"There is no page {_quoted(text)}; there {'is' if pages == 1 else 'are'} {pages}.")
    return Listing(wanted, found[(page - 1) * SIZE : page * SIZE], found, len(every), page, pages, problems)


def _filter(query: Mapping[str, str]) -> tuple[Filter, list[str]]:
    problems: list[str] = []
    verdict, version = query.get("verdict", ""), query.get("version", "").strip()
    if verdict and verdict not in STATUSES:
        problems.append(f"There is no verdict {_quoted(verdict)}; all nights are shown.")
        verdict = ""
    if version and not _VERSION.fullmatch(version):
        problems.append(f"{_quoted(version)} is no part of a version, which is a date and 8 hexadecimal digits; it is left out.")
        version = ""
    days: dict[str, date | None] = {"since": None, "until": None}
    for name in days:
        if text := query.get(name, ""):
            try:
                days[name] = parse_date(text)
            except InvalidInputError:
                problems.append(f"{_quoted(text)} is no date of the form YYYY-MM-DD; it is left out.")
    return Filter(verdict, days["since"], days["until"], version), problems


def _quoted(text: str) -> str:
    return repr(text[:40])


def duration(entry: Entry, now: datetime | None = None) -> str:
    """How long a night's run took, for people.

    >>> start = datetime(2026, 1, 5, 2, tzinfo=UTC)
    >>> duration(Entry(start.date(), run=Run("r", "success", start, start + timedelta(minutes=75, seconds=12))))
    '1 h 15 min'
    """
    found = entry.run.lasted(now or datetime.now(UTC)) if entry.run else None
    if found is None:
        return ""
    seconds = max(0, round(found.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def neighbours(every: Sequence[Entry], log_date: date) -> tuple[Entry | None, Entry, Entry | None]:
    """A log date with the nights before and after it, as far as there are any."""
    this = next((entry for entry in every if entry.log_date == log_date), Entry(log_date))
    before = next((entry for entry in every if entry.log_date < log_date), None)
    after = next((entry for entry in reversed(every) if entry.log_date > log_date), None)
    return before, this, after
