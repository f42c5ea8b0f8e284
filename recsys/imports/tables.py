"""Files that hold a table, whatever they are called: delimited text, JSON lines or Parquet, the first two also gzipped.

In goes a path; out comes a :class:`Table`, and the SQL by which DuckDB reads some of its columns as text. What a file is, is told
by its content: Parquet and gzip by their first bytes, JSON lines by an opening brace, and in delimited text the delimiter is the
one of tab, semicolon, bar, two colons and comma that cuts the first lines into equally many columns. Where columns are tabs apart
a quote is a sign like any other.
"""

import csv
import gzip
import json
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Literal

from recsys.exceptions import InvalidInputError

#: Lines by which a text file is known.
SAMPLE = 100
#: Bytes of a line, at most; longer ones are no rows.
LONGEST = 2**24
_DELIMITERS = ("\t", ";", "|", "::", ",")
#: Between these a quote is a sign like any other.
_BARE = ("\t", "::")
_KINDS = "delimited text, JSON lines and Parquet are read"


@dataclass(frozen=True)
class Table:
    """A file that can be read as a table.

    Attributes:
        path: the file as it was named. plain: the same, unpacked.
        names: its columns; of delimited text the words of the first line, which may be a row already.
        delimiter: of delimited text. floats: columns of Parquet that hold floating numbers.
    """

    path: Path
    plain: Path
    kind: Literal["text", "json", "parquet"]
    names: tuple[str, ...]
    delimiter: str = ""
    floats: frozenset[str] = frozenset()

    def select(self, wanted: Mapping[str, str], *, headed: bool = False) -> str:
        """A query, in DuckDB's SQL, of the wanted columns as text, null where there is none or nothing is in it.

        Its rows are numbered from 1 (``row``); ``line`` holds the line itself where it is no JSON object.

        Args:
            wanted: the name of each column in the query to that in the file; of text without a header its number, from 1.
            headed: whether columns of text whose names are numbers are names all the same.

        Raises:
            InvalidInputError: the file has no such column; the message names those that are.
        """
        if self.kind == "parquet":
            columns = {name: self._parquet(self.require(column)) for name, column in wanted.items()}
            return _numbered(columns, f"SELECT * FROM read_parquet({quoted(str(self.plain))})", "NULL")  # noqa: S608 - quoted
        if self.kind == "json":
            paths = [quoted("/" + self.require(column).replace("~", "~0").replace("/", "~1")) for column in wanted.values()]
            lines = (
                f"SELECT line, object, json_extract_string(object, [{', '.join(paths)}]) AS found FROM {objects_of(self.plain)}"  # noqa: S608
            )
            columns = {name: f"found[{i}]" for i, name in enumerate(wanted, 1)}
            return _numbered(columns, lines, "CASE WHEN object IS NULL THEN line END")
        is_headed = headed or not all(column.isdecimal() for column in wanted.values())
        columns = {name: f"c{self._place(column, is_headed)}" for name, column in wanted.items()}
        return _numbered(columns, f"SELECT * FROM {self._text(is_headed)}", "NULL")  # noqa: S608 - quoted

    def _text(self, is_headed: bool) -> str:
        columns = ", ".join(f"'c{i}': 'VARCHAR'" for i in range(len(self.names)))
        quote = "" if self.delimiter in _BARE else '"'
        return (
            f"read_csv({quoted(str(self.plain))}, auto_detect = false, header = {is_headed}, columns = {{{columns}}}, "
            f"delim = {quoted(self.delimiter)}, quote = '{quote}', escape = '{quote}', max_line_size = {LONGEST}, "
            "store_rejects = true, rejects_limit = 0)"
        )

    def _parquet(self, column: str) -> str:
        value = f'CAST("{_within(column, chr(34))}" AS VARCHAR)'
        # Whole numbers are floating ones where a column has had a gap, which some programs cannot write otherwise.
        return f"regexp_replace({value}, '[.]0$', '')" if column in self.floats else value

    def _place(self, column: str, is_headed: bool) -> int:
        if is_headed:
            return self.names.index(self.require(column))
        if not 1 <= int(column) <= len(self.names):
            raise InvalidInputError(
                f"column {column} is not in {self.path}, which has columns 1 to {len(self.names)}; "
                "columns are named, or numbered from 1 where there is no header"
            )
        return int(column) - 1

    def require(self, column: str) -> str:
        """The column, if there is one of that name.

        Raises:
            InvalidInputError: there is none; the message names those that are.
        """
        if column not in self.names:
            near = get_close_matches(column, self.names, n=1, cutoff=0.0)
            known = ", ".join(map(repr, self.names[:20])) + (", …" if len(self.names) > 20 else "")
            raise InvalidInputError(
                f"column {column!r} is not in {self.path}; there are {known}" + (f" (the nearest is {near[0]!r})" if near else "")
            )
        return column


def open_table(path: Path, scratch: Path) -> Table:
    """Find out what a file is.

    Args:
        scratch: a directory for the unpacked copy of what is gzipped.

    Raises:
        InvalidInputError: there is no such file, it is empty, or it is no table.
    """
    if not path.is_file():
        raise InvalidInputError(f"{path} is no file; {_KINDS}")
    plain = path
    with path.open("rb") as file:
        if file.read(2) == b"\x1f\x8b":
            plain = _unpacked(path, scratch)
    with plain.open("rb") as file:
        head = file.read(2**20)
    if not head.strip():
        raise InvalidInputError(f"{path} is empty; give a file with at least one row")
    if head.startswith(b"PAR1"):
        return _parquet(path, plain)
    if b"\0" in head:
        raise InvalidInputError(f"{path} is no table; {_KINDS}, each of the first two also gzipped")
    lines = [line.rstrip("\r") for line in head.decode("utf-8-sig", errors="replace").strip("\n").split("\n")[:SAMPLE]]
    if lines[0].lstrip().startswith("{"):
        return Table(path, plain, "json", _json_names(plain))
    if lines[0].lstrip().startswith("["):
        raise InvalidInputError(f"{path} begins with '[': of JSON one object a line is read, not a list")
    delimiter, names = _delimited(lines)
    if len(names) < 2:
        raise InvalidInputError(f"{path} is no table: its first line has one column only ({lines[0][:80]!r}); {_KINDS}")
    return Table(path, plain, "text", names, delimiter)


def quoted(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + _within(text, "'") + "'"


def objects_of(path: Path) -> str:
    """The lines of a text file that are not empty, in SQL: ``line``, and ``object``, null where that is no JSON object."""
    lines = (
        f"read_csv({quoted(str(path))}, auto_detect = false, header = false, columns = {{'line': 'VARCHAR'}}, delim = '\x01', "
        f"quote = '', escape = '', max_line_size = {LONGEST}, store_rejects = true, rejects_limit = 0)"
    )
    # Only what is JSON has a type of JSON.
    typed = "CASE WHEN json_valid(line) THEN CASE WHEN json_type(line) = 'OBJECT' THEN CAST(line AS JSON) END END"
    return f"(SELECT line, {typed} AS object FROM {lines} WHERE trim(line) != '')"  # noqa: S608 - the path is quoted


def _within(text: str, mark: str) -> str:
    return text.replace(mark, 2 * mark)


def _numbered(columns: Mapping[str, str], source: str, line: str) -> str:
    values = ", ".join(f"nullif({value}, '') AS {name}" for name, value in columns.items())
    return f"SELECT row_number() OVER () AS row, {values}, {line} AS line FROM ({source})"  # noqa: S608 - columns are quoted


def _unpacked(path: Path, scratch: Path) -> Path:
    """A copy without gzip; its checksum is compared, which query engines do not do."""
    copy = Path(tempfile.mkdtemp(dir=scratch)) / "plain"
    try:
        with gzip.open(path) as packed, copy.open("wb") as file:
            shutil.copyfileobj(packed, file, 2**20)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InvalidInputError(f"{path} cannot be unpacked as gzip ({error}); it is damaged or incomplete") from None
    return copy


def _parquet(path: Path, plain: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(plain)
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidInputError(f"{path} cannot be read as Parquet ({str(error)[:200]}); it is damaged or incomplete") from None
    floats = frozenset(field.name for field in schema if pa.types.is_floating(field.type))
    return Table(path, plain, "parquet", tuple(schema.names), floats=floats)


def _json_names(plain: Path) -> tuple[str, ...]:
    """The fields of the first lines, in the order in which they appear."""
    found: dict[str, None] = {}
    for line in _first_lines(plain):
        with suppress(json.JSONDecodeError, RecursionError):
            row = json.loads(line)
            found |= dict.fromkeys(row) if isinstance(row, dict) else {}
    return tuple(found)


def _first_lines(plain: Path) -> Iterator[str]:
    with plain.open(encoding="utf-8-sig", errors="replace") as file:
        yield from islice(file, 10 * SAMPLE)


def _delimited(lines: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The delimiter of some lines, and the words of the first one."""
    best, names, most = ",", [lines[0]], (False, 1)
    for delimiter in _DELIMITERS:
        rows = [_cut(line, delimiter) for line in lines]
        rank = (len({len(row) for row in rows[:-1] or rows}) == 1 and len(rows[0]) > 1, len(rows[0]))
        if rank > most:
            best, names, most = delimiter, rows[0], rank
    return best, tuple(names)


def _cut(line: str, delimiter: str) -> list[str]:
    if delimiter in _BARE:
        return line.split(delimiter)
    return next(csv.reader([line], delimiter=delimiter), [])
