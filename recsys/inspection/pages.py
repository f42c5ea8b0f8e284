"""Pages of the platform's web UI: the list of nights, and a notice where there is nothing to show.

In go rows of :func:`recsys.abtest.history.nights`; out comes HTML that needs nothing else.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import date

from recsys.abtest.history import NightRow
from recsys.exceptions import MissingDataError
from recsys.storage.layout import Dated
from recsys.storage.store import Storage

VERDICTS = {"promoted": "Promoted", "held": "Held", "gate_refused": "Refused by the gate", "failed": "Not finished"}
#: Files of a report that may be fetched, with their media types.
FILES = {"report.html": "text/html", "report.json": "application/json"}


def nights_page(nights: Sequence[NightRow], link: str) -> str:
    """All nights, the newest first.

    Args:
        link: where a night's report is; ``{}`` stands for its date.
    """
    rows = [
        {**asdict(night), "said": VERDICTS[night.verdict], "href": link.format(night.log_date) if night.report else None}
        for night in reversed(nights)
    ]
    return _render(title="Nights", nights=rows, notice=None)


def notice_page(title: str, notice: str) -> str:
    """One heading and one sentence."""
    return _render(title=title, nights=None, notice=notice)


def report_file(store: Storage, log_date: date, name: str) -> bytes:
    """A file of a night's report, as published.

    Raises:
        MissingDataError: the night has no report yet, or a report has no such file.
    """
    if name not in FILES:
        raise MissingDataError(f"{name!r} is no file of a report; there are {', '.join(FILES)}")
    return (store.local(Dated.REPORTS.on(log_date)) / name).read_bytes()


def _render(**values: object) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("recsys.inspection", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda value: f"{value:+.1f} %".replace("-", "−").replace(" ", "\u00a0")
    return environment.get_template("nights.html.j2").render(**values)
