# ruff: noqa: S608 - columns are called c0, c1, … in SQL; files and their columns are quoted, every value is a parameter
"""Anybody's experiment as a table, a row a user: a file in, users with their arm and their values out.

In go the words that say which column is what; out comes a :class:`UserTable`, whose columns :mod:`recsys.abtest.analysis`
compares, or one line that says what is wrong and where. Rows are numbered from 1, without the header.
"""

import hashlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recsys.abtest.metrics import SHARE, Column, Columns, Metric, Role
from recsys.abtest.sessions import MEMORY_LIMIT
from recsys.abtest.wording import counted
from recsys.exceptions import InvalidInputError
from recsys.imports.tables import Table, open_table
from recsys.logs.engines import errors_of_the_system

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: More values than these in the column of the arm, and it is no arm.
MOST_ARMS = 20
_FORM = "write NAME=COLUMN, or NAME=COLUMN/COLUMN for a ratio of sums"


@dataclass(frozen=True)
class Asked:
    """Which file, and what its columns mean.

    Attributes:
        unit, arm: columns. control: the arm that the others are compared with.
        metrics: ``NAME=COLUMN`` or ``NAME=COLUMN/COLUMN``; the first one decides.
        covariates: the same, of what users did before the experiment; the names are metrics'.
        shares: weights of the arms; equal ones are expected without them.
    """

    path: Path
    unit: str
    arm: str
    control: str
    metrics: Sequence[str]
    covariates: Sequence[str] = ()
    shares: Mapping[str, float] | None = None


@dataclass(frozen=True)
class UserTable:
    """Users of a table.

    Attributes:
        arms: sorted. users: [users] by name: ``arm`` (a place in ``arms``) and what ``metrics`` name.
        earlier: by a metric's name, the columns of ``users`` that hold what users did before; a covariate as a metric of its own.
        counts: rows, users, and what was left out. checksum: SHA-256 of the file.
    """

    arms: tuple[str, ...]
    users: Columns
    metrics: tuple[Metric, ...]
    earlier: Mapping[str, tuple[Metric, tuple[str, ...]]]
    counts: dict[str, int]
    warnings: tuple[str, ...]
    checksum: str

    def of_arm(self, arm: str) -> Columns:
        """The users' columns of one arm; empty columns for an arm that nobody is in."""
        mask = self.users["arm"] == (self.arms.index(arm) if arm in self.arms else -1)
        return {name: column[mask] for name, column in self.users.items()}


@dataclass(frozen=True)
class _Value:
    """A metric or a covariate: the columns of the file, as ``c0``, ``c1``, …, and what they are called there."""

    name: str
    columns: tuple[str, ...]
    names: tuple[str, ...]


def read_table(asked: Asked) -> UserTable:
    """Read a table of users.

    Raises:
        InvalidInputError: the file is no table or empty, a column is not there, a value is no number, a user has several rows,
            or the control does not occur; the message says which, and where.
    """
    import duckdb

    with tempfile.TemporaryDirectory(prefix="abtest-") as scratch, errors_of_the_system(), duckdb.connect() as db:
        db.execute(f"SET memory_limit='{MEMORY_LIMIT}'; SET temp_directory='{scratch}/spill'")
        # Of a query that takes seconds; DuckDB draws it on the terminal where the result will be told.
        db.execute(f"SET enable_progress_bar={sys.stdout.isatty()}")
        table = open_table(asked.path, Path(scratch))
        if len(set(table.names)) != len(table.names):
            twice = next(name for name in table.names if table.names.count(name) > 1)
            raise InvalidInputError(f"{asked.path} has two columns {twice!r}; give each column a name of its own")
        metrics, covariates = _values(table, asked)
        rows = _load(db, table, asked, [*metrics, *covariates])
        counts = {"rows": rows} | _units(db, asked, rows)
        arms = _arms(db, asked)
        columns, shares = _columns(db, table, [*metrics, *covariates], arms)
        with asked.path.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
    counts["users"] = len(columns["arm"])
    found = tuple(_metric(value, "secondary" if i else "primary", columns, shares) for i, value in enumerate(metrics))
    earlier = {value.name: (_metric(value, "before", columns, shares), value.columns) for value in covariates}
    return UserTable(arms, columns, found, earlier, counts, tuple(_warnings(counts, columns, arms, metrics)), checksum)


def _values(table: Table, asked: Asked) -> tuple[list[_Value], list[_Value]]:
    """Metrics and covariates, resolved to columns."""
    table.require(asked.unit)
    table.require(asked.arm)
    names: list[str] = []
    found: list[_Value] = []
    for option, words in (("--metric", asked.metrics), ("--covariate", asked.covariates)):
        seen: set[str] = set()
        for word in words:
            name, sign, wanted = word.partition("=")
            if not (name and sign and wanted):
                raise InvalidInputError(f"{option} {word!r} names no column; {_FORM}")
            if name in seen:
                raise InvalidInputError(f"{option} {name!r} is given twice; give each a name of its own")
            if option == "--covariate" and name not in asked_names(asked.metrics):
                known = ", ".join(asked_names(asked.metrics))
                raise InvalidInputError(f"--covariate {name!r} is no metric; a covariate has the name of one of {known}")
            seen.add(name)
            columns = _resolve(table, wanted)
            found.append(_Value(name, tuple(f"c{len(names) + i}" for i in range(len(columns))), columns))
            names += columns
    if not asked.metrics:
        raise InvalidInputError(f"no metric is named; give at least one --metric ({_FORM})")
    return found[: len(asked.metrics)], found[len(asked.metrics) :]


def asked_names(words: Sequence[str]) -> list[str]:
    """The names before the first equals sign."""
    return [word.partition("=")[0] for word in words]


def _resolve(table: Table, wanted: str) -> tuple[str, ...]:
    """The column of that name, or the two that a slash joins; names may hold slashes themselves."""
    parts = wanted.split("/")
    cuts = [("/".join(parts[:i]), "/".join(parts[i:])) for i in range(1, len(parts))]
    pairs = [pair for pair in cuts if pair[0] in table.names and pair[1] in table.names]
    meant = ([(wanted,)] if wanted in table.names else []) + pairs
    if len(meant) > 1:
        said = " or ".join(" by ".join(map(repr, columns)) for columns in meant)
        raise InvalidInputError(f"{wanted!r} may mean {said}; rename a column so that only one is meant")
    if not meant and len(cuts) == 1:
        for column in cuts[0]:
            table.require(column)
    return meant[0] if meant else (table.require(wanted),)


def _load(db: "DuckDBPyConnection", table: Table, asked: Asked, values: Sequence[_Value]) -> int:
    """Table ``given``: row, unit, arm and values, all as trimmed text; gives the number of rows."""
    import duckdb

    wanted = {"unit": asked.unit, "arm": asked.arm}
    wanted |= {column: name for value in values for column, name in zip(value.columns, value.names, strict=True)}
    texts = ", ".join(f"nullif(trim({column}), '') AS {column}" for column in wanted)
    try:
        db.execute(
            f"""CREATE TEMP TABLE given AS SELECT "row", {texts}, line IS NOT NULL AS broken
                FROM ({table.select(wanted, headed=True)})"""
        )
        if table.kind == "text":
            lost = db.execute("SELECT count(DISTINCT line), min(line) FROM reject_errors").fetchone()
            if lost and lost[0]:
                raise InvalidInputError(
                    f"{asked.path}: {counted(lost[0], 'line')} cannot be read as a row of {len(table.names)} columns, "
                    f"the first of them line {lost[1]}; mend the file"
                )
    except duckdb.Error as error:
        if isinstance(error, duckdb.OutOfMemoryException):
            raise
        raise InvalidInputError(f"{asked.path} cannot be read: {str(error).splitlines()[0][:300]}") from None
    [(rows, broken, first)] = db.execute(
        """SELECT count(*), count(*) FILTER (broken), min("row") FILTER (broken) FROM given"""
    ).fetchall()
    if broken:
        raise InvalidInputError(f"{asked.path}: {counted(broken, 'row')} are no JSON objects, the first is row {first}")
    if not rows:
        raise InvalidInputError(f"{asked.path} holds a header and no rows; a table has a row a user")
    return int(rows)


def _units(db: "DuckDBPyConnection", asked: Asked, rows: int) -> dict[str, int]:
    """See that a row is a user; counts rows without an arm, and users in two arms (``mixed`` in the table ``several``)."""
    [(named, nameless, armless)] = db.execute(
        """SELECT count(unit), min("row") FILTER (unit IS NULL), count(*) FILTER (arm IS NULL) FROM given"""
    ).fetchall()
    if named < rows:
        missing = counted(rows - named, "row names no user", "rows name no user")
        raise InvalidInputError(f"{asked.path}: {missing} in column {asked.unit!r}, the first is row {nameless}")
    db.execute(
        """CREATE TEMP TABLE several AS SELECT unit, count(*) AS rows, min(arm) <> max(arm) AS mixed FROM given
           WHERE arm IS NOT NULL GROUP BY unit HAVING count(*) > 1"""
    )
    [(both, more)] = db.execute("SELECT count(*) FILTER (mixed), count(*) FILTER (NOT mixed) FROM several").fetchall()
    if more:
        [(unit, times)] = db.execute("SELECT unit, rows FROM several WHERE NOT mixed ORDER BY rows DESC, unit LIMIT 1").fetchall()
        who = counted(more, "user has", "users have")
        raise InvalidInputError(
            f"{asked.path}: {who} several rows, {unit[:80]!r} has {times:,}; the unit is the user, "
            "so sum up or average the rows of each first"
        )
    return {"without_arm": armless, "users_in_two_arms": both}


def _arms(db: "DuckDBPyConnection", asked: Asked) -> tuple[str, ...]:
    [(different,)] = db.execute("SELECT count(DISTINCT arm) FROM given").fetchall()
    if not different:
        raise InvalidInputError(f"{asked.path}: column {asked.arm!r} names no arm in any row")
    if different > MOST_ARMS:
        raise InvalidInputError(
            f"column {asked.arm!r} of {asked.path} holds {different:,} different values, more than {MOST_ARMS}; "
            "name the column of the arm"
        )
    arms = tuple(arm for (arm,) in db.execute("SELECT DISTINCT arm FROM given WHERE arm IS NOT NULL ORDER BY arm").fetchall())
    if asked.control not in arms:
        known = ", ".join(map(repr, arms))
        raise InvalidInputError(
            f"control {asked.control!r} does not occur in column {asked.arm!r} of {asked.path}, which holds {known}"
        )
    if asked.shares is not None and (unnamed := [arm for arm in arms if arm not in asked.shares]):
        raise InvalidInputError(
            f"--share is given of {', '.join(asked.shares)}, but not of {', '.join(unnamed)}; name every arm, or none"
        )
    return arms


def _columns(db: "DuckDBPyConnection", table: Table, values: Sequence[_Value], arms: tuple[str, ...]) -> tuple[Columns, set[str]]:
    """Columns of the users who are in one arm, in the order of the rows, and those of them that hold true and false."""
    shares, selected = set(), ["list_position($arms, arm) - 1 AS arm"]
    for value in values:
        for i, (column, name) in enumerate(zip(value.columns, value.names, strict=True)):
            if _is_boolean(db, table, column, name, divides=i == 1):
                shares.add(column)
                number = f"CASE lower({column}) WHEN 'true' THEN 1.0 WHEN 'false' THEN 0.0 END"
            else:
                number = f"TRY_CAST({column} AS DOUBLE)"
            selected.append(f"coalesce({number}, 'nan'::DOUBLE)::DOUBLE AS {column}")
    others = "unit NOT IN (SELECT unit FROM several WHERE mixed)"
    [(both,)] = db.execute("SELECT count(*) FROM several WHERE mixed").fetchall()
    kept = f'arm IS NOT NULL AND {others} ORDER BY "row"' if both else "arm IS NOT NULL"
    found = db.execute(f"SELECT {', '.join(selected)} FROM given WHERE {kept}", {"arms": list(arms)}).fetchnumpy()
    columns: dict[str, Column] = {name: np.asarray(column) for name, column in found.items()}
    for value in values:
        _leave_out_missing(columns, value)
    return columns, shares


def _is_boolean(db: "DuckDBPyConnection", table: Table, column: str, name: str, *, divides: bool) -> bool:
    """Whether a column holds true and false, not numbers.

    Raises:
        InvalidInputError: it holds something else, something infinite, nothing at all, or divides and is below 0.
    """
    number, is_word = f"TRY_CAST({column} AS DOUBLE)", f"lower({column}) IN ('true', 'false')"
    [(filled, words)] = db.execute(
        f"SELECT count({column}), count(*) FILTER ({is_word}) FROM given WHERE arm IS NOT NULL"
    ).fetchall()
    if not filled:
        raise InvalidInputError(
            f"column {name!r} of {table.path} is empty in every row; a metric needs numbers, or true and false"
        )
    mostly_words = 2 * words > filled
    checks = {"is no number, nor true or false": f"NOT ({is_word if mostly_words else f'{number} IS NOT NULL'})"}
    if not mostly_words:
        checks["is infinite"] = f"isinf({number})"
        if divides:
            checks["is below 0, but divides"] = f"{number} < 0"
    for said, condition in checks.items():
        [(count, row, value)] = db.execute(
            f"""SELECT count(*), min("row"), arg_min({column}, "row") FROM given
                WHERE arm IS NOT NULL AND {column} IS NOT NULL AND {condition}"""
        ).fetchall()
        if count:
            others = f" ({counted(count - 1, 'more such value')})" if count > 1 else ""
            raise InvalidInputError(f"column {name!r} of {table.path}: {value[:80]!r} in row {row} {said}{others}")
    return bool(mostly_words)


def _leave_out_missing(columns: dict[str, Column], value: _Value) -> None:
    """Users who lack a part of a value have none of it; a mean with gaps gets a denominator that says who is there."""
    missing = np.logical_or.reduce([np.isnan(columns[column]) for column in value.columns])
    if not missing.any():
        return
    for column in value.columns:
        columns[column] = np.where(missing, np.nan, columns[column])
    if len(value.columns) == 1:
        columns[f"{value.columns[0]} there"] = np.where(missing, np.nan, 1.0)


def _metric(value: _Value, role: Role, columns: Columns, shares: set[str]) -> Metric:
    said, first = " by ".join(map(repr, value.names)), value.columns[0]
    if len(value.columns) == 2:
        text = f"Sum of {said} over the users of an arm; its error by the delta method on users."
        return Metric(value.name, value.name, " per ".join(value.names), role, text, *value.columns, kind="ratio")
    unit, text = f"mean of {value.names[0]}", f"Mean over users of {said}."
    if first in shares:
        unit, text = SHARE, f"Share of users whose {said} is true."
    there = f"{first} there"
    return Metric(value.name, value.name, unit, role, text, first, there if there in columns else None)


def _warnings(counts: Mapping[str, int], columns: Columns, arms: Sequence[str], values: Sequence[_Value]) -> list[str]:
    """What was left out, in sentences."""
    found = []
    if counts["without_arm"]:
        found.append(counted(counts["without_arm"], "row names no arm and was left out.", "rows name no arm and were left out."))
    if counts["users_in_two_arms"]:
        both = "user is in two arms and was left out.", "users are in two arms and were left out."
        found.append(counted(counts["users_in_two_arms"], *both))
    for value in values:
        missing = np.isnan(columns[value.columns[0]])
        if missing.any():
            by_arm = np.bincount(columns["arm"][missing], minlength=len(arms)).tolist()
            told = ", ".join(f"{arm} {count:,}" for arm, count in zip(arms, by_arm, strict=True))
            who = counted(int(missing.sum()), "user has", "users have")
            found.append(
                f"{value.name}: {who} no value and cannot be counted ({told}); "
                "if that depends on the arm, the effect is not to be trusted."
            )
    return found
