"""What tests of imports share: a file of a few rows, an import of it, and what stands in the storage afterwards."""

import csv
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from recsys.imports.request import Asked
from recsys.imports.steps import Card, import_tables
from recsys.logs.record import Record, records
from recsys.settings import Settings, load_settings
from recsys.storage.store import Storage

ROOT = Path(__file__).resolve().parents[2]
#: Real listening data: NIGHTSHIFT_BENCH_DATA, or beside the checkout.
LASTFM = Path(os.environ.get("NIGHTSHIFT_BENCH_DATA") or ROOT.parent / "shared" / "data" / "lastfm")
needs_lastfm = pytest.mark.skipif(
    not (LASTFM / "hetrec-user-artists.tsv").exists(), reason="NIGHTSHIFT_BENCH_DATA does not lead to the files of Last.fm"
)


def settings_in(directory: Path) -> Settings:
    """Settings of which everything stands below a directory."""
    return load_settings(var=directory / "var")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """A file with a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def imported(
    settings: Settings, *files: Path, user: str = "user", track: str | None = "track", dry_run: bool = False, **asked: object
) -> Card:
    """Import tables whose columns are called user and track."""
    return import_tables(settings, Asked(files, user, track, **asked), dry_run=dry_run)  # type: ignore[arg-type]


def lines(settings: Settings) -> dict[str, list[Record]]:
    """The records of every log date, by date; not one line is anything else."""
    store, found = Storage(settings.storage_url), {}
    for day in store.dates("logs"):
        (path,) = store.local(f"logs/date={day}").glob("*.jsonl")
        found[str(day)] = [record for record in records(path) if not isinstance(record, str)]
        assert len(found[str(day)]) == len(path.read_text().splitlines())
    return found


def plays(settings: Settings) -> list[Record]:
    """The records of all log dates."""
    return [record for day in lines(settings).values() for record in day]


def catalogue(settings: Settings) -> list[dict[str, object]]:
    """The lines of ``tracks.json``."""
    return [json.loads(line) for line in (settings.world / "tracks.json").read_text().splitlines()]


def contents(directory: Path) -> dict[str, bytes]:
    """Every file below a directory, by its path."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}
