"""Pages of the platform's web UI as HTML: the nights, what is live, one night, two nights compared, trials, the runbook.

In go what other modules of this package have found out; out comes HTML that needs nothing else. Links begin with ``home``, the
path below which the platform serves these pages.
"""

import base64
import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from recsys.abtest.decision import percent
from recsys.abtest.schema import percents
from recsys.exceptions import MissingDataError
from recsys.inspection.diff import Row
from recsys.inspection.effects import against_live, effects_picture
from recsys.inspection.health import Part
from recsys.inspection.leaderboards import Leaderboard
from recsys.inspection.listing import STATUSES, Entry, Listing, duration
from recsys.inspection.looks import looks_picture
from recsys.inspection.runbook import runbook
from recsys.inspection.standing import Standing
from recsys.rollout.rule import RolloutRule, load_rule
from recsys.storage.layout import Dated
from recsys.storage.store import Storage
from recsys.versions.pointer import EVERY

if TYPE_CHECKING:
    from jinja2 import Environment

#: Files of a report that may be fetched, with their media types.
FILES = {"report.html": "text/html", "report.json": "application/json"}
#: Headings of the runbook that help with a night.
HELP = {
    "held": "a-candidate-is-held",
    "rolling_out": "a-rollout-is-held-or-taken-back",
    "gate_refused": "the-gate-refused-a-candidate",
    "failed": "a-run-failed",
    "unfinished": "a-night-without-a-verdict",
    "damaged": "recsys-verify-fails",
}
#: Seconds after which a page with a running night is loaded again.
WAIT = 60
_SCRIPT = "".join((Path(__file__).parent / "templates" / name).read_text(encoding="utf-8") for name in ("frame.js", "trigger.js"))
#: Source of the only script of these pages, as a Content-Security-Policy names it.
SCRIPT_SOURCE = "'sha256-" + base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode() + "'"


@dataclass(frozen=True)
class Overview:
    """What the page of all nights shows; ``problem`` is why the live version is not known, or known from a copy alone."""

    found: Listing
    standing: Standing
    parts: Sequence[Part]
    problem: str = ""


def nights_page(overview: Overview, *, home: str) -> str:
    """What is live, how the parts do, effects by night, and the nights that were asked for, the newest first."""
    found = overview.found
    picture = effects_picture([entry.night for entry in reversed(found.found) if entry.night])
    return _render(
        "nights.html.j2",
        home,
        title="Nights",
        overview=overview,
        found=found,
        picture=picture,
        statuses=STATUSES,
        wait=WAIT if any(entry.status == "running" for entry in found.found) else 0,
    )


def night_page(around: tuple[Entry | None, Entry, Entry | None], standing: Standing, *, home: str) -> str:
    """One night between those before and after it."""
    before, entry, after = around
    title = f"Night of {entry.log_date}"
    held = next((held for held in standing.held if entry.night and held.version == entry.night.version), None)
    found = {"before": before, "entry": entry, "after": after, "held": held, "standing": standing}
    return _render("night.html.j2", home, title=title, help=HELP.get(entry.status, ""), **found)


def change_page(now: Standing, problem: str, rule: RolloutRule | None = None, *, home: str) -> str:
    """What is live, and forms that change it; ``problem`` as in an :class:`Overview`.

    Args:
        rule: of rollouts; it says which share follows.
    """
    overview = {"standing": now, "problem": problem}
    following = (rule or load_rule(None)).after(now.rollout.share)[1].share if now.rollout.is_under_way else 0.0
    return _render("change.html.j2", home, title="What is live", overview=overview, every=EVERY, following=following)


def compare_page(
    days: Sequence[date], first: date | None, second: date | None, rows: Sequence[Row], problem: str, *, home: str
) -> str:
    """Two nights side by side, what differs first seen.

    Args:
        days: dates that can be chosen, ascending. problem: why there are no rows.
    """
    subjects: dict[str, list[Row]] = {}
    for row in rows:
        subjects.setdefault(row.subject, []).append(row)
    chosen = {"days": days[::-1], "first": first, "second": second, "subjects": subjects, "problem": problem}
    return _render("compare.html.j2", home, title="Two nights compared", **chosen)


def tuning_page(boards: Sequence[Leaderboard], *, home: str) -> str:
    """Trials of hyperparameters, by log date."""
    return _render("tuning.html.j2", home, title="Tuning", boards=boards)


def runbook_page(*, home: str) -> str:
    """What to do about each signal.

    Raises:
        MissingDataError: the installation has no documents.
    """
    return _render("runbook.html.j2", home, title="Runbook", text=runbook())


def notice_page(title: str, notice: str, *, home: str = "") -> str:
    """One heading and one sentence."""
    return _render("notice.html.j2", home, title=title, notice=notice)


def report_file(store: Storage, log_date: date, name: str) -> bytes:
    """A file of a night's report, as published.

    Raises:
        MissingDataError: the night has no report yet, or a report has no such file.
    """
    if name not in FILES:
        raise MissingDataError(f"{name!r} is no file of a report; there are {', '.join(FILES)}")
    return (store.local(Dated.REPORTS.on(log_date)) / name).read_bytes()


def _render(template: str, home: str, **values: object) -> str:
    return _environment().get_template(template).render(home=home, script=_SCRIPT, **values)


@functools.cache
def _environment() -> "Environment":
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader("recsys.inspection"), PackageLoader("recsys.abtest", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "duration": duration, "control": percents, "live": against_live, "at": _moment}
    environment.filters |= {"settings": _settings, "fraction": _fraction, "looks_picture": looks_picture}
    return environment


def _settings(configuration: Mapping[str, object]) -> str:
    """A trial's configuration in words."""
    return ", ".join(f"{name} {value}" for name, value in sorted(configuration.items())) or "the defaults"


def _fraction(value: float | None) -> str:
    """A fraction as a signed percentage; a dash for what is not known."""
    return "–" if value is None else percent(100 * value)


def _moment(text: str) -> str:
    """A time of the audit trail for people.

    >>> _moment("2026-01-05T03:10:00+00:00")
    '2026-01-05 03:10 UTC'
    """
    return f"{text[:10]} {text[11:16]} UTC" if len(text) >= 16 else text
