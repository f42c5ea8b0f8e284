"""Two nights side by side: what they read, how they were set, what they recommend, what was measured.

In go two log dates; out come rows of (subject, name, first value, second value), None where a night has nothing of it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
from pydantic import JsonValue

from recsys.abtest.schema import Report, percents
from recsys.exceptions import MissingDataError
from recsys.schemas import Card, Gate, Inputs, Verdict
from recsys.storage.document import Document
from recsys.storage.layout import Dated
from recsys.storage.store import Storage
from recsys.versions.content import LISTS, lists_in

Value = str | int | float | bool | None

#: Differ between equal nights, or say nothing to people.
IGNORED = frozenset({"log_date", "seconds", "timing", "checksum", "reasons", "log_dates"})


@dataclass(frozen=True)
class Row:
    """One compared value."""

    subject: str
    name: str
    first: Value
    second: Value

    @property
    def same(self) -> bool:
        """Whether the two agree."""
        return self.first == self.second

    @property
    def first_text(self) -> str:
        """The first value for people."""
        return _text(self.first)

    @property
    def second_text(self) -> str:
        """The second value for people."""
        return _text(self.second)

    def text(self) -> str:
        """Both values, or the one that they share."""
        return self.first_text if self.same else f"{self.first_text}  ->  {self.second_text}"


def compare(store: Storage, first: date, second: date) -> list[Row]:
    """Compare two nights.

    Raises:
        MissingDataError: a night has not even collected its data.
    """
    days = (first, second)
    for day in days:
        if not store.is_complete(Inputs.KIND.on(day)):
            raise MissingDataError(f"log date {day} has no night in {store.url}; 'recsys nights' lists those there are")
    rows: list[Row] = []
    for subject, kind in (("data and settings", Inputs), ("model", Card), ("gate", Gate)):
        rows += _rows(subject, *(_plain(kind.find(store, day)) for day in days))
    rows += _lists(store, days)
    rows += _rows("experiment", *(_measured(Report.find(store, day)) for day in days))
    return [*rows, *_rows("verdict", *(_plain(Verdict.find(store, day)) for day in days))]


def _rows(subject: str, first: Mapping[str, Value], second: Mapping[str, Value]) -> list[Row]:
    return [Row(subject, name, first.get(name), second.get(name)) for name in dict.fromkeys([*first, *second])]


def _plain(document: Document | None) -> dict[str, Value]:
    """Plain entries of a document."""
    return dict(_flat(document.model_dump(mode="json"))) if document else {}


def _flat(document: Mapping[str, JsonValue]) -> Iterator[tuple[str, Value]]:
    """Plain entries, nested names joined by a dot."""
    for name, value in document.items():
        if name in IGNORED:
            continue
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", found) for inner, found in _flat(value))
        elif not isinstance(value, list):
            yield name, value


def _measured(report: Report | None) -> dict[str, Value]:
    """The experiment's numbers: a row a metric and pair of arms."""
    if report is None:
        return {}
    found: dict[str, Value] = {"users": report.users, "sessions": report.sessions}
    for row in [*report.metrics, *([report.against_live] if report.against_live else [])]:
        measured = percents(row)
        if row.role not in ("cost", "context") and measured is not None:
            effect, low, high = measured
            found[f"{row.label}, {row.arm} against {row.control}"] = f"{effect:+.1f} % [{low:+.1f}, {high:+.1f}]"
    for guardrail in report.guardrails:
        if guardrail.arm == report.candidate and guardrail.value is not None and not guardrail.name.startswith("latency"):
            found[guardrail.label] = round(guardrail.value, 6)
    return found


def _lists(store: Storage, days: tuple[date, date]) -> list[Row]:
    """How much of the two nights' lists is shared."""
    names = [Dated.RECOMMENDATIONS.on(day) for day in days]
    if not all(store.is_complete(name) for name in names):
        return [Row("lists", "published", *(store.is_complete(name) for name in names))]
    first, second = (dict(lists_in(store.local(name) / LISTS)) for name in names)
    rows = [Row("lists", "users", len(first), len(second))]
    common = sorted(first.keys() & second.keys())
    for length in (10, 50):
        shared = [len(set(first[user][:length]) & set(second[user][:length])) / length for user in common]
        rows.append(
            Row("lists", f"shared of the first {length}, mean", 1.0, round(float(np.mean(shared)), 4) if shared else None)
        )
    equal = sum(first[user] == second[user] for user in common)
    rows.append(Row("lists", "users with an equal list", len(common), equal))
    different = [len({track for tracks in lists.values() for track in tracks}) for lists in (first, second)]
    rows.append(Row("lists", "different tracks", *different))
    tops = [set(json.loads(store.read_bytes(name, "top_tracks.json"))) for name in names]
    return [*rows, Row("lists", "shared of the TOP 100", len(tops[0]), len(tops[0] & tops[1]))]


def _text(value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef"):
        return value[:12]  # a checksum
    return f"{value:.6g}" if isinstance(value, float) else str(value)
