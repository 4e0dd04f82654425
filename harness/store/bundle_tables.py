"""Import of untrusted Parquet tables into the tables of a temporary store."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import UsageError
from harness.store.connection import Connection

ROWS_AT_ONCE = 65_536
LARGE_ROWS_AT_ONCE = 128
"""Batch size of tables with free text: small, since a dictionary may refer to one long text in every row."""
LARGEST_BATCH_BYTES = 64 * 2**20
"""Limit for an unpacked batch in memory."""
LARGEST_FOOTER_STRING_BYTES = 2**20
LARGEST_FOOTER_LIST = 100_000
_LARGE = ("example", "run", "split", "adapter", "occlusion")
_ARROW = {
    "VARCHAR": pa.string(),
    "JSON": pa.string(),
    "BOOLEAN": pa.bool_(),
    "TINYINT": pa.int8(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "TIMESTAMP": pa.timestamp("us"),
}
_NAMED = ("run", "split", "adapter", "metric", "occlusion")
"""Tables whose strings are names and digests, never text of several lines."""
_PRINTED = ("packages", "hardware")
"""JSON columns that are printed when two machines give different answers."""
_CONTROL = r"[\x00-\x1f\x7f-\x9f]"
_ESCAPED_CONTROL = r"(^|[^\\])(\\\\)*\\([bfnrt]|u00([01]|7[fF]|[89]))"
"""Escapes in JSON, after an even number of backslashes, which stand for backslashes of the text."""


def columns_of(connection: Connection, table: str) -> dict[str, str]:
    """The type of each column of a table, by name, in order."""
    return dict(
        connection.execute(
            """SELECT column_name, data_type FROM information_schema.columns
               WHERE table_name = ? AND table_catalog = current_database() ORDER BY ordinal_position""",
            [table],
        ).fetchall()
    )


def read_table(connection: Connection, table: str, folder: Path, rows: int, path: Path) -> None:
    """Fill an empty table from `TABLE.parquet` of a folder.

    Args:
        rows: number of rows stated in the manifest.
        path: of the bundle, for messages.

    Raises:
        UsageError: it is not Parquet, is damaged, has other columns or another number of rows, is too large in memory,
            or violates the table's constraints.
    """
    columns, read = columns_of(connection, table), 0
    where = f"{path}: table {table}"
    try:
        for batch in _batches(folder / f"{table}.parquet", table, columns, rows, where):
            read += batch.num_rows
            connection.register("incoming", batch)
            try:
                connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming")  # noqa: S608 (constant)
            finally:
                connection.unregister("incoming")
        for column, kind in columns.items():
            if table in _NAMED and (kind == "VARCHAR" or column in _PRINTED):
                _check_names(connection, table, column, where)
    except (duckdb.ConstraintException, duckdb.ConversionException, duckdb.InvalidInputException) as problem:
        reason = str(problem).splitlines()[0]
        raise UsageError(f"{where} holds impossible values ({reason}); nothing was stored") from None
    if read != rows:
        raise UsageError(f"{where} has {read:,} rows, but states {rows:,}; get a new copy")


def _batches(file: Path, table: str, columns: dict[str, str], rows: int, where: str) -> Iterator[Any]:
    """The rows of a Parquet file in batches of bounded size, each validated."""
    expected = [(name, _ARROW[kind]) for name, kind in columns.items()]
    try:
        with pq.ParquetFile(
            file,
            pre_buffer=False,
            thrift_string_size_limit=LARGEST_FOOTER_STRING_BYTES,
            thrift_container_size_limit=LARGEST_FOOTER_LIST,
            arrow_extensions_enabled=False,
        ) as parquet:
            if parquet.metadata.num_rows != rows:
                raise UsageError(f"{where} has {parquet.metadata.num_rows:,} rows, but states {rows:,}; get a new copy")
            if [(field.name, field.type) for field in parquet.schema_arrow] != expected:
                raise UsageError(f"{where} has other columns than this release's; have it exported again")
            at_once = LARGE_ROWS_AT_ONCE if table in _LARGE else ROWS_AT_ONCE
            for batch in parquet.iter_batches(at_once, use_threads=False):
                if batch.nbytes > LARGEST_BATCH_BYTES:
                    raise UsageError(f"{where} holds texts that are too long; nothing was stored")
                batch.validate(full=True)  # among other things, that text is UTF-8: DuckDB would not check
                yield batch
    except (pa.ArrowException, OSError, UnicodeDecodeError) as problem:  # the last: from a column's name
        reason = " ".join(str(problem).split()).rstrip(".")
        raise UsageError(f"{where} is not readable as Parquet ({reason}); get a new copy") from None


def _check_names(connection: Connection, table: str, column: str, where: str) -> None:
    """Reject control characters, literal or escaped, since names are printed to terminals."""
    patterns = [_CONTROL, _ESCAPED_CONTROL] if column in _PRINTED else [_CONTROL]
    ((count,),) = connection.execute(
        f"SELECT count(*) FROM {table} WHERE regexp_matches({column}::VARCHAR, ?)",  # noqa: S608 (constant)
        ["|".join(patterns)],
    ).fetchall()
    if count:
        raise UsageError(f"{where}: {count:,} rows have control characters in {column}; nothing was stored")
