"""Log files as tables of distinct, whole records, whatever else the files hold.

In go log files and a query engine; out come Ibis tables with the columns of :data:`recsys.logs.record.COLUMNS` and the log date.
Malformed lines are counted and written down, answers without Redis counted; an event that was logged more than once counts once.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import IO, TYPE_CHECKING

from recsys.exceptions import MissingDataError
from recsys.logs.engines import Engine
from recsys.logs.record import DEGRADED, NO_TRACK, SHARD_AND_TRY, count_lines, is_terminated
from recsys.logs.sieve import sieve

if TYPE_CHECKING:
    import ibis.expr.types as ir

#: What makes two lines the same event.
EVENT = ("log_date", "run", "user", "session", "step")
#: Files of fewer bytes are read sooner than a query engine has opened them.
SMALL = 2**16


class Reading:
    """Records of log files; lines are counted, degraded and malformed ones too, and the malformed ones written down."""

    def __init__(self, queries: Engine, scratch: Path, malformed: IO[str]) -> None:
        self._queries, self._scratch, self._malformed = queries, scratch, malformed
        self.lines = self.degraded = 0
        self._made = 0
        self.found: Counter[str] = Counter()

    def records(self, files: Sequence[Path], log_date: date | None) -> "ir.Table":
        """The whole records of one log date.

        Raises:
            MissingDataError: there is not one file.
        """
        if not files:
            raise MissingDataError(f"the logs{f' of {log_date}' if log_date else ''} hold no log files (*.jsonl)")
        lines = {path: count_lines(path) for path in files}
        self.lines += sum(lines.values())
        if all(map(is_terminated, files)):
            table = self._load(files, log_date)
            if table.count().execute() == sum(lines.values()):
                return table
        return self._load([self._whole(path, count) for path, count in lines.items()], log_date)

    def _load(self, files: Sequence[Path], log_date: date | None) -> "ir.Table":
        return self._queries.keep(_plain(self._queries.read(self._joined(files), log_date)))

    def _joined(self, files: Sequence[Path]) -> list[Path]:
        """The files, small ones as one, for an engine keeps memory and takes time for each; every line is terminated."""
        large, whole = [], self._scratch_file()
        with whole.open("wb") as target:
            for path in files:
                if path.stat().st_size < SMALL:
                    target.write(path.read_bytes())
                else:
                    large.append(path)
        return [whole, *large]

    def _whole(self, path: Path, lines: int) -> Path:
        """The file, or if it is small or not every line is a whole record a copy of those that are."""
        is_small = path.stat().st_size < SMALL
        if not is_small and is_terminated(path) and self._queries.read([path], None).count().execute() == lines:
            return path
        copy = self._scratch_file()
        found = sieve(path, copy, self._malformed)
        self.degraded += found.pop(DEGRADED, 0)
        self.found += found
        return copy

    def _scratch_file(self) -> Path:
        self._made += 1
        return self._scratch / f"{self._made}.jsonl"


def _plain(records: "ir.Table") -> "ir.Table":
    """``run`` becomes the run's base, without shard and try; answers and propensities that cannot be become none."""
    import ibis

    track, chance = records.recommendation, records.propensity
    return records.mutate(
        run=records.run.re_replace(SHARD_AND_TRY, ""),
        recommendation=ibis.cases((track >= 0, track)),
        propensity=ibis.cases(((chance > 0) & (chance <= 1), chance)),
    )


def with_tracks(records: "ir.Table", numbers: Mapping[str, int]) -> "ir.Table":
    """The records with the numbers of tracks that the service did not know by their ids, but a catalogue does by now.

    Args:
        numbers: tracks by their owner's ids, as :attr:`recsys.catalog.Catalogue.number_of` has them.

    Returns:
        The same rows and columns; a track whose id is still unknown stays :data:`recsys.logs.record.NO_TRACK`.
    """
    import ibis

    if not numbers:
        return records
    known = ibis.memtable(
        {"known_id": list(numbers), "known": list(numbers.values())}, schema={"known_id": "string", "known": "int32"}
    )
    found = records.left_join(known, (records.track == NO_TRACK) & (records.track_id == known.known_id))
    return found.mutate(track=ibis.coalesce(found.known, found.track)).select(*records.columns)


def repeated_events(queries: Engine, valid: "ir.Table") -> "ir.Table | None":
    """Keys of the events that were logged more than once; None if there are none, as is most often so."""
    repeated = valid.group_by(EVENT).having(lambda t: t.count() > 1).aggregate(copies=lambda t: t.count())
    repeated = queries.keep(repeated.select(*EVENT))
    return repeated if repeated.count().execute() else None


def displaced_events(valid: "ir.Table", repeated: "ir.Table | None") -> int:
    """How many of the lines that are dropped for a repeated event tell another one: its place was given twice.

    That happens when Redis goes back to an older copy, and sessions with it.
    """
    if repeated is None:
        return 0
    copies = valid.semi_join(repeated, EVENT).select(*EVENT, "message", "track", "time").distinct()
    return int(copies.count().execute()) - int(repeated.count().execute())


def distinct_plays(valid: "ir.Table", repeated: "ir.Table | None") -> "ir.Table":
    """One row a play: an event repeated in its run, by whatever shard or try, keeps its earliest line."""
    import ibis

    if repeated is None:
        return valid
    # A window over all rows would cost more than everything else.
    first = ibis.row_number().over(group_by=EVENT, order_by=["timestamp", "track", "time", "message"])
    columns = valid.columns
    kept = valid.semi_join(repeated, EVENT).mutate(copy=first).filter(lambda t: t["copy"] == 0).select(*columns)
    return valid.anti_join(repeated, EVENT).select(*columns).union(kept)
