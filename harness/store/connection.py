"""Opening the DuckDB file, and bringing its tables to this release's form."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TypeAlias

import duckdb

from harness.errors import StoreError

Connection: TypeAlias = duckdb.DuckDBPyConnection
"""What `opened` yields; the other modules of the harness take the type from here and do not know DuckDB."""

LOCK_WAIT_SECONDS = 5.0
"""How long to wait for another process that holds the file; each of ours holds it for well under a second."""


@contextmanager
def opened(
    path: Path, *, read_only: bool = False, lock_wait_seconds: float = LOCK_WAIT_SECONDS
) -> Iterator[Connection]:
    """A connection to the store, closed at the end of the block.

    Args:
        path: the DuckDB file; made where it is absent, unless `read_only`.
        read_only: several readers may have the file open at once.
        lock_wait_seconds: how long to wait for another process that holds the file.

    Raises:
        StoreError: no such file to read, not a store, written by a newer release, or held by another process.
    """
    if read_only and not path.is_file():
        raise StoreError(f"{path}: there is no store here yet; run `harness evaluate SUITE` first")
    connection = _connect(path, read_only, lock_wait_seconds)
    try:
        _migrate(connection, path, read_only)
        yield connection
    finally:
        connection.close()


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """All of the block's statements or none of them."""
    connection.begin()
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


def _connect(path: Path, read_only: bool, lock_wait_seconds: float) -> Connection:
    deadline = time.monotonic() + lock_wait_seconds
    while True:
        try:
            if not read_only:
                path.parent.mkdir(parents=True, exist_ok=True)
            return duckdb.connect(str(path), read_only=read_only)
        except (duckdb.Error, OSError) as error:
            locked = "Could not set lock on file" in str(error).partition('"')[0]  # after the quote is a path: anything
            if locked and time.monotonic() < deadline:
                time.sleep(0.1)
            elif locked:
                holders = re.findall(r"\(PID (\d+)\)", str(error))
                who = f"process {holders[-1]}" if holders else "another process"
                raise StoreError(f"{path}: {who} holds this store; wait until it has ended, or stop it") from None
            else:
                first_line = str(error).splitlines()[0]
                raise StoreError(f"{path}: cannot be opened as a store ({first_line})") from None


def _migrations() -> dict[int, str]:
    """SQL by version, from `NNNN_name.sql`."""
    files = (file for file in resources.files("harness.store").joinpath("migrations").iterdir())
    return {int(file.name[:4]): file.read_text(encoding="utf-8") for file in files if file.name.endswith(".sql")}


def _migrate(connection: Connection, path: Path, read_only: bool) -> None:
    known = _migrations()
    tables = {name for (name,) in connection.execute("SELECT table_name FROM information_schema.tables").fetchall()}
    if not tables and not read_only:
        connection.execute("CREATE TABLE migration (version INTEGER PRIMARY KEY, applied_at TIMESTAMP NOT NULL)")
        tables = {"migration"}
    try:
        rows = connection.execute("SELECT version::INTEGER FROM migration").fetchall() if tables else []
    except duckdb.Error:
        raise StoreError(f"{path}: is a DuckDB file, but not a store of this harness; give another --db") from None
    applied = {version for (version,) in rows}
    if applied - set(known):
        raise StoreError(f"{path}: was written by a newer release (schema {max(applied)}); upgrade adapter-harness")
    missing = sorted(set(known) - applied)
    if missing and read_only:
        raise StoreError(f"{path}: has an older schema; a command that writes, such as evaluate, brings it up to date")
    for version in missing:
        with transaction(connection):
            connection.execute(known[version])
            connection.execute("INSERT INTO migration VALUES (?, now() AT TIME ZONE 'UTC')", [version])
