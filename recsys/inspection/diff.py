"""Two nights side by side: what they read, how they were set, what they recommend, what was measured.

In go two log dates; out come rows of (subject, name, first value, second value), None where a night has nothing of it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from recsys.exceptions import MissingDataError
from recsys.storage.store import Storage
from recsys.versions import keyspace
from recsys.versions.content import read_directory

#: Differ between equal nights, or say nothing to people.
IGNORED = frozenset({"log_date", "seconds", "timing", "checksum", "reasons", "log_dates"})


@dataclass(frozen=True)
class Row:
    """One compared value."""

    subject: str
    name: str
    first: Any
    second: Any

    @property
    def same(self) -> bool:
        """Whether the two agree."""
        return bool(self.first == self.second)

    def text(self) -> str:
        """Both values, or the one that they share."""
        return _text(self.first) if self.same else f"{_text(self.first)}  ->  {_text(self.second)}"


def compare(store: Storage, first: date, second: date) -> list[Row]:
    """Compare two nights.

    Raises:
        MissingDataError: a night has not even collected its data.
    """
    days = (first, second)
    for day in days:
        if not store.is_complete(f"interactions/date={day}"):
            raise MissingDataError(f"log date {day} has no night in {store.url}; 'recsys nights' lists those there are")
    rows: list[Row] = []
    for subject, name, file in (
        ("data and settings", "interactions", "inputs.json"),
        ("model", "models", "card.json"),
        ("gate", "gates", "gate.json"),
    ):
        documents = [_document(store, f"{name}/date={day}", file) for day in days]
        rows += _rows(subject, *(dict(_flat(document)) for document in documents))
    rows += _lists(store, days)
    rows += _rows("experiment", *(_measured(_document(store, f"reports/date={day}", "report.json")) for day in days))
    verdicts = [_document(store, f"promotions/date={day}", "promotion.json") for day in days]
    rows += _rows("verdict", *(dict(_flat(verdict)) for verdict in verdicts))
    return rows


def _document(store: Storage, name: str, file: str) -> dict[str, Any]:
    return dict(store.read_json(name, file)) if store.is_complete(name) else {}


def _rows(subject: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Row]:
    return [Row(subject, name, first.get(name), second.get(name)) for name in dict.fromkeys([*first, *second])]


def _flat(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Plain entries, nested names joined by a dot."""
    for name, value in document.items():
        if name in IGNORED:
            continue
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", found) for inner, found in _flat(value))
        elif isinstance(value, str | int | float | bool) or value is None:
            yield name, value


def _measured(report: Mapping[str, Any]) -> dict[str, Any]:
    """The experiment's numbers: a row a metric and pair of arms."""
    found: dict[str, Any] = {name: report[name] for name in ("users", "sessions") if name in report}
    rows = [*report.get("metrics", []), *([report["against_live"]] if report.get("against_live") else [])]
    for row in rows:
        pair = f"{row['label']}, {row['arm']} against {row['control']}"
        if row["role"] not in ("cost", "context") and row["effect_percent"] is not None:
            found[pair] = f"{row['effect_percent']:+.1f} % [{row['ci_low_percent']:+.1f}, {row['ci_high_percent']:+.1f}]"
    for row in report.get("guardrails", []):
        if row["arm"] == report["candidate"] and row["value"] is not None and not row["name"].startswith("latency"):
            found[row["label"]] = round(row["value"], 6)
    return found


def _lists(store: Storage, days: tuple[date, date]) -> list[Row]:
    """How much of the two nights' lists is shared."""
    names = [f"recommendations/date={day}" for day in days]
    if not all(store.is_complete(name) for name in names):
        return [Row("lists", "published", *(store.is_complete(name) for name in names))]
    first, second = (read_directory(store.local(name)) for name in names)
    rows = [Row("lists", "users", len(first.lists), len(second.lists))]
    common = sorted(first.lists.keys() & second.lists.keys())
    for length in (10, 50):
        shared = [
            len(set(keyspace.unpack(first.lists[u])[:length]) & set(keyspace.unpack(second.lists[u])[:length])) / length
            for u in common
        ]
        rows.append(
            Row("lists", f"shared of the first {length}, mean", 1.0, round(float(np.mean(shared)), 4) if shared else None)
        )
    equal = sum(first.lists[u] == second.lists[u] for u in common)
    rows.append(Row("lists", "users with an equal list", len(common), equal))
    different = [len({t for packed in content.lists.values() for t in keyspace.unpack(packed)}) for content in (first, second)]
    rows.append(Row("lists", "different tracks", *different))
    tops = [set(keyspace.unpack(content.top)) for content in (first, second)]
    rows.append(Row("lists", "shared of the TOP 100", len(tops[0]), len(tops[0] & tops[1])))
    return rows


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef"):
        return value[:12]  # a checksum
    return f"{value:.6g}" if isinstance(value, float) else str(value)
