"""The query engines of collection: DuckDB in this process, or Spark. Both read logs strictly and run the same Ibis expressions.

In go log files; out come Ibis tables of the records that are surely whole, with the columns that :mod:`recsys.logs.record` names,
and Parquet files of sorted expressions. A reader may leave out a line that is whole after all, but never takes one that is not:
whoever finds fewer records than lines sieves the file and reads its clean copy (:mod:`recsys.logs.reading`).
"""

import errno
import importlib.util
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from recsys.exceptions import UnavailableError
from recsys.logs.record import COLUMNS, IDS, NATURALS, RUN, text_sql, whole_sql

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa
    from ibis.backends import duckdb, pyspark
    from pyspark.sql import DataFrame, SparkSession

ROW_GROUP = 1_000_000
#: DuckDB spills to disk beyond this; the process as a whole stays below 4 GiB.
MEMORY_LIMIT = "2500MB"

Name = Literal["duckdb", "spark"]


class Engine(Protocol):
    """What collection asks of an engine."""

    def read(self, files: Sequence[Path], log_date: date | None) -> "ir.Table":
        """Records of some log files, with ``log_date`` beside the columns of a record."""

    def keep(self, expression: "ir.Table") -> "ir.Table":
        """The same table, computed once."""

    def write(self, expression: "ir.Table", path: Path) -> None:
        """One Parquet file of a sorted expression; the same rows give the same bytes."""


@contextmanager
def engine(name: Name, scratch: Path, master: str = "local[*]") -> Iterator[Engine]:
    """An engine for the length of the block.

    Args:
        scratch: an existing directory for what does not fit into memory. master: where Spark runs, this process or a cluster.

    Raises:
        UnavailableError: Spark or Java is not installed.
    """
    with _duckdb(scratch) if name == "duckdb" else _spark(scratch, master) as found:
        yield found


class _DuckDb:
    def __init__(self, connection: "duckdb.Backend") -> None:
        self._connection = connection
        self._made = 0

    def read(self, files: Sequence[Path], log_date: date | None) -> "ir.Table":
        paths = ", ".join("'" + str(path).replace("'", "''") + "'" for path in files)
        day = f"DATE '{log_date}'" if log_date else "CAST(NULL AS DATE)"
        # A replacement, not a format: paths may hold braces.
        query = _DUCKDB_RECORDS.replace("$files", paths).replace("$log_date", day)
        return self._create("VIEW", query)

    def keep(self, expression: "ir.Table") -> "ir.Table":
        return self._create("TABLE", self._connection.compile(expression))

    def _create(self, kind: str, query: str) -> "ir.Table":
        self._made += 1
        name = f"made_{self._made}"
        self._connection.raw_sql(f"CREATE TEMP {kind} {name} AS {query}")
        return self._connection.table(name)

    def write(self, expression: "ir.Table", path: Path) -> None:
        with errors_of_the_system():
            expression.to_parquet(path, compression="zstd", row_group_size=ROW_GROUP)


_TYPES = {"int64": "BIGINT", "int32": "INTEGER", "float64": "DOUBLE"}
_INTEGERS = [name for name, kind in COLUMNS.items() if kind.startswith("int")]
_QUOTED = [f"starts_with({name}, '\"')" for name, kind in COLUMNS.items() if kind == "string" and name not in IDS]


def _value(name: str, kind: str) -> str:
    # Values come as JSON text, because readers of typed columns take "5", 1.5 and true for integers; a cast still takes 1.5.
    if name in IDS:
        return text_sql(name)
    text = f'CAST("{name}" AS VARCHAR)'
    return f"{text}[2:-2]" if kind == "string" else f"TRY_CAST({text} AS {_TYPES[kind]})"


_DUCKDB_RECORDS = f"""
SELECT * FROM (
  SELECT {", ".join(f'{_value(name, kind)} AS "{name}"' for name, kind in COLUMNS.items())}, $log_date AS log_date
  FROM read_json([$files], format = 'newline_delimited', ignore_errors = true, hive_partitioning = false,
    columns = {{{", ".join(f"'{name}': 'JSON'" for name in COLUMNS)}}})
  WHERE NOT regexp_matches(concat({", ".join(f'"{name}"' for name in _INTEGERS)}), '[.eE"]')
    AND {" AND ".join(_QUOTED)}
) WHERE {whole_sql()}
"""  # noqa: S608 - only names of this package


@contextmanager
def _duckdb(scratch: Path) -> Iterator[Engine]:
    import ibis

    connection = ibis.duckdb.connect(memory_limit=MEMORY_LIMIT, temp_directory=str(scratch / "spill"))
    try:
        with errors_of_the_system():
            yield _DuckDb(connection)
    finally:
        connection.disconnect()


@contextmanager
def errors_of_the_system() -> Iterator[None]:
    """What the system refused to DuckDB in the block, such as room on a disk, as the system's error.

    Raises:
        OSError: with the system's number.
    """
    import duckdb

    try:
        yield
    except duckdb.IOException as error:
        numbers = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EMFILE)
        number = next((each for each in numbers if os.strerror(each) in str(error)), errno.EIO)
        raise OSError(number, f"{os.strerror(number)}, DuckDB says: {str(error).splitlines()[0]:.300}") from error


class _Spark:
    def __init__(self, session: "SparkSession", connection: "pyspark.Backend", scratch: Path) -> None:
        self._session = session
        self._connection = connection
        self._scratch = scratch

    def read(self, files: Sequence[Path], log_date: date | None) -> "ir.Table":
        from pyspark.sql import functions

        kinds = {"string": "string", "int64": "long", "int32": "int", "float64": "double"}
        schema = ", ".join(f"{name} {kinds[kind]}" for name, kind in COLUMNS.items())
        lines = self._session.read.option("lineSep", "\n").text([f"file://{path.resolve()}" for path in files])
        options = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": "_corrupt", "allowNonNumericNumbers": "false"}
        records = lines.select("value", functions.from_json("value", f"{schema}, _corrupt string", options).alias("r"))
        # The parser stops at the end of the first object, takes numbers for strings, and what is no text for a sign.
        value = functions.col("value")
        sure = ~value.rlike(r"\}\s*[^,\s]|�|\\u[dD][89a-fA-F]|^\s*$") & value.rlike(r'"run"\s*:\s*"')
        named = {name: functions.when(value.rlike(rf'"{name}"\s*:\s*"'), functions.col(name)) for name in IDS}
        records = records.where(sure & functions.col("r._corrupt").isNull()).select("value", "r.*").withColumns(named)
        records = records.drop("value", "_corrupt")
        naturals = [functions.coalesce(name, functions.lit(-1)) for name in NATURALS]
        records = records.where("message IN ('next', 'last') AND time BETWEEN 0 AND 1")
        records = records.where((functions.least(*naturals) >= 0) & functions.col("run").rlike(f"^{RUN}$"))
        return self._table(records.withColumn("log_date", functions.lit(log_date).cast("date")))

    def keep(self, expression: "ir.Table") -> "ir.Table":
        from pyspark import StorageLevel

        return self._table(self._frame(expression).persist(StorageLevel.MEMORY_AND_DISK))

    def write(self, expression: "ir.Table", path: Path) -> None:
        import pyarrow.parquet as pq

        schema = expression.schema().to_pyarrow()
        with tempfile.TemporaryDirectory(dir=self._scratch) as parts:
            self._frame(expression).write.mode("overwrite").parquet(parts)
            # Spark numbers the parts of a sorted table in its order.
            with pq.ParquetWriter(path, schema, compression="zstd") as writer:
                for part in sorted(Path(parts).glob("part-*.parquet")):
                    for batch in pq.ParquetFile(part).iter_batches(ROW_GROUP):
                        writer.write_table(_cast(batch, schema))

    def _frame(self, expression: "ir.Table") -> "DataFrame":
        # A view, and not its text: what an expression holds in memory is made known to Spark with it.
        name = self._name()
        self._connection.create_view(name, expression)
        return self._session.table(name)

    def _table(self, frame: "DataFrame") -> "ir.Table":
        name = self._name()
        frame.createOrReplaceTempView(name)
        return self._connection.table(name)

    def _name(self) -> str:
        # All engines of a process share one session, and its views.
        return f"table_{uuid.uuid4().hex}"


def _cast(batch: "pa.RecordBatch", schema: "pa.Schema") -> "pa.Table":
    import pyarrow as pa

    return pa.Table.from_batches([batch]).cast(schema)


@contextmanager
def _spark(scratch: Path, master: str) -> Iterator[Engine]:
    if importlib.util.find_spec("pyspark") is None or shutil.which("java") is None:
        raise UnavailableError("engine 'spark' needs pyspark (pip install 'nightshift-recsys[spark]') and Java 17")
    import ibis
    from pyspark.sql import SparkSession

    settings = {
        "spark.app.name": "nightshift-collect",
        "spark.sql.session.timeZone": "UTC",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.local.dir": str(scratch),
        "spark.sql.shuffle.partitions": "16",
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.sql.ansi.enabled": "false",
    }
    builder = SparkSession.builder.master(master)
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    logging.getLogger("py4j").setLevel(logging.WARNING)
    try:
        yield _Spark(session, ibis.pyspark.connect(session), scratch)
    finally:
        session.stop()
