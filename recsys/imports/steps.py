"""An import from its files to its logs: everything is checked before anything is written, and a rerun finishes what was killed.

In go settings and what is asked; out comes a :class:`Card`. The catalogue is written first, then the malformed rows
(``quarantine/import-…``), then one date after the other.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm

from recsys import catalog
from recsys.exceptions import UnavailableError, WorldError
from recsys.imports import botify, plays, publish, rows
from recsys.imports.catalogue import Growth, alone, read_names
from recsys.imports.request import Asked
from recsys.imports.tables import Table, open_table, quoted
from recsys.logs.engines import MEMORY_LIMIT
from recsys.schemas import POSITIVE_TIME
from recsys.settings import Settings
from recsys.storage.layout import Dated
from recsys.storage.manifest import sha256
from recsys.storage.store import Storage

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: The file of malformed rows.
QUARANTINED = "malformed.jsonl"


@dataclass(frozen=True)
class Card:
    """What came of an import.

    Attributes:
        rows: of the files. plays: of them, those that became lines; liked: of these, those of more than 0.8 of a track.
        users, tracks: distinct ones of the plays. new_tracks: those of the plays and of ``--tracks`` that were not in the
            catalogue. catalogue: its tracks afterwards.
        dates: the log dates, ascending. written: of them, how many were not there before, or would be written.
        left_out: malformed rows by reason. quarantine: the directory that holds them, "" without one.
        seconds: it has taken. dry_run: whether nothing was written.
    """

    rows: int
    plays: int
    liked: int
    sessions: int
    users: int
    tracks: int
    new_tracks: int
    catalogue: int
    dates: list[str]
    written: int
    left_out: dict[str, int]
    quarantine: str
    seconds: float
    dry_run: bool


def import_tables(settings: Settings, asked: Asked, *, dry_run: bool = False) -> Card:
    """Import tables of who listened to what.

    Args:
        dry_run: check everything, and write nothing.

    Raises:
        InvalidInputError: a file, a column or a value cannot be taken. CorruptDataError: too many rows are malformed.
        ConflictError: a date has other logs. WorldError: the catalogue cannot be read, or has been renumbered.
    """
    with _work(asked.files) as work:
        work.read(lambda number, table: rows.read(work.db, number, table, asked))
        known = read_names(work.db, open_table(asked.tracks, work.scratch)) if asked.tracks else []

        def number_all(growth: Growth) -> None:
            for named in known:
                growth.number_of(named)
            plays.number_users(work.db)
            plays.number_tracks(work.db, growth)
            plays.write_plays(work.db, asked)

        return work.finish(settings, dry_run, number_all)


def import_botify(settings: Settings, files: Sequence[Path], *, dry_run: bool = False) -> Card:
    """Import logs of the original server; their tracks are numbers of the world's catalogue.

    Raises:
        As :func:`import_tables`.
    """
    try:
        tracks = catalog.load_tracks(settings.world).size
    except WorldError as error:
        raise WorldError(
            f"logs of the original tell tracks by number, so its tracks.json must be in the world: {error}"
        ) from None
    with _work(files) as work:
        work.read(lambda number, table: botify.read(work.db, number, table, tracks))
        return work.finish(settings, dry_run, lambda _growth: botify.write_plays(work.db))


class _Work:
    """An import under way: its database, a directory for what is short-lived, and what a terminal shows."""

    def __init__(self, files: Sequence[Path], db: "DuckDBPyConnection", scratch: Path, bar: "tqdm[NoReturn]") -> None:
        self.files, self.db, self.scratch, self._bar = files, db, scratch, bar
        self._began = time.monotonic()
        rows.create(db)

    def read(self, add: Callable[[int, Table], None]) -> None:
        """Add the rows of every file."""
        for number, path in enumerate(self.files):
            self._bar.set_description(f"reading {path.name}")
            add(number, open_table(path, self.scratch))

    def finish(self, settings: Settings, dry_run: bool, number_all: Callable[[Growth], None]) -> Card:
        """From checked rows to published dates.

        Args:
            number_all: gives tracks their numbers, and writes the table of plays.
        """
        rows.require_few(self.db, self.files, settings.malformed)
        store, world = Storage(settings.storage_url), settings.world
        with nullcontext() if dry_run else alone(world):
            growth = Growth(world)
            publish.require_same_catalogue(store, growth, world / catalog.TRACKS)
            self._bar.set_description("sorting")
            number_all(growth)
            growth.require_own_world()
            days = publish.days_of(self.db, store)
            left_out, malformed = rows.reasons(self.db), self.scratch / QUARANTINED
            quarantine = self._write_malformed(malformed) if left_out else ""
            if not dry_run:
                growth.write()
                if quarantine:
                    with store.stage(quarantine, left_out) as staging:
                        shutil.copyfile(malformed, staging / QUARANTINED)
                self._bar.set_description("writing")
                self._bar.reset(sum(day.next + day.last for day in days))
                publish.write(self.db, store, days, growth, seed=settings.seed, tell=self._wrote)
        total, lines, liked, sessions, users, tracks = self._sizes()
        return Card(
            rows=total,
            plays=lines,
            liked=liked,
            sessions=sessions,
            users=users,
            tracks=tracks,
            new_tracks=len(growth.entries) - growth.known,
            catalogue=len(growth.entries),
            dates=[str(day.log_date) for day in days],
            written=sum(not day.is_there for day in days),
            left_out=left_out,
            quarantine=quarantine,
            seconds=round(time.monotonic() - self._began, 2),
            dry_run=dry_run,
        )

    def _sizes(self) -> tuple[int, ...]:
        """Rows, plays and liked ones, distinct sessions, users and tracks."""
        found = self.db.execute(
            f"""SELECT (SELECT count(*) FROM checked), count(*), count(*) FILTER (heard > {POSITIVE_TIME}),
                count(DISTINCT (day, "user", session)), count(DISTINCT "user"), count(DISTINCT track) FROM plays"""  # noqa: S608
        ).fetchall()
        return tuple(map(int, found[0]))

    def _wrote(self, day: publish.Day) -> None:
        self._bar.update(day.next + day.last)

    def _write_malformed(self, path: Path) -> str:
        """Write the malformed rows; returns the name of the directory that they belong to, which a digest of them ends."""
        with path.open("w", encoding="utf-8") as file:
            rows.write_malformed(self.db, self.files, file)
        return f"{Dated.QUARANTINE.value}/import-{sha256(path)[:12]}"


@contextmanager
def _work(files: Sequence[Path]) -> Iterator[_Work]:
    """An import's surroundings, which end with the block.

    Raises:
        UnavailableError: memory, or the disk below ``TMPDIR``, does not hold the rows.
    """
    import duckdb

    with tempfile.TemporaryDirectory(prefix="recsys-import-") as directory, tqdm(unit=" rows", disable=None) as bar:
        scratch = Path(directory)
        try:
            with duckdb.connect(str(scratch / "rows.duckdb")) as db:
                db.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
                db.execute(f"SET temp_directory = {quoted(str(scratch / 'spill'))}")
                db.execute("SET TimeZone = 'UTC'")
                db.execute("SET enable_progress_bar = false")
                yield _Work(files, db, scratch, bar)
        except duckdb.Error as error:
            what = str(error).splitlines()[0][:300]
            raise UnavailableError(f"the rows cannot be sorted in {directory}: {what}; free some space or memory") from error
