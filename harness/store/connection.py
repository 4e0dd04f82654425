"""Opening and copying the DuckDB file, and migrating it to this release's schema."""

import logging
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TypeAlias

import duckdb

from harness.artifacts import atomic
from harness.errors import StoreError

Connection: TypeAlias = duckdb.DuckDBPyConnection
"""The connection that `opened` yields; other modules import the type from here and do not depend on DuckDB."""

LOCK_WAIT_SECONDS = 5.0
"""Time to wait for another process that holds the file; the harness itself holds it for well under a second."""

SNAPSHOT_PREFIX, IMPORT_PREFIX = ".store-copy-", ".store-import-"
"""Prefixes of temporary folders beside the store: copies for reading, and bundles being checked."""


def check_exists(path: Path) -> None:
    """Refuse to read a store that is not there.

    Raises:
        StoreError: there is no file.
    """
    if not path.is_file():
        raise StoreError(f"{path}: there is no store here yet; run `harness evaluate SUITE` first")


@contextmanager
def opened(
    path: Path, *, read_only: bool = False, lock_wait_seconds: float = LOCK_WAIT_SECONDS
) -> Iterator[Connection]:
    """A connection to the store, closed at the end of the block.

    Args:
        path: the DuckDB file; created if absent, unless `read_only`.
        read_only: several readers may have the file open simultaneously.
        lock_wait_seconds: time to wait for another process that holds the file.

    Raises:
        StoreError: there is no file to read, or it is not a store, was written by a newer release, or is held by
            another process. Within the block: the file is damaged, or there is no room on the disk or in memory.
    """
    if read_only:
        check_exists(path)
    connection = _connect(path, read_only, lock_wait_seconds)
    try:
        with _store_errors(path):
            _migrate(connection, path, read_only)
            yield connection
    finally:
        connection.close()


@contextmanager
def made_new(path: Path, schema: int) -> Iterator[Connection]:
    """A connection to a new store with this schema, closed at the end of the block.

    Raises:
        StoreError: as for `opened`.
    """
    connection = _connect(path, read_only=False, lock_wait_seconds=0)
    try:
        with _store_errors(path):
            bring_to(connection, schema)
            yield connection
    finally:
        connection.close()


@contextmanager
def snapshot(path: Path) -> Iterator[Connection]:
    """A connection to a copy of the store, for long reads: the store itself is held only while it is copied.

    The copy is in a folder beside the store while the block lasts. If there is no room for it, or the folder is not
    writable, the store itself is read, and held meanwhile.

    Raises:
        StoreError: as for `opened`.
    """
    with ExitStack() as stack:
        with opened(path, read_only=True):
            copied = _copied_aside(path, stack)
        if copied is None:
            yield stack.enter_context(opened(path, read_only=True))
            return
        with _store_errors(path):
            connection = stack.enter_context(_connect(copied, read_only=True, lock_wait_seconds=0))
            yield connection


def _copied_aside(path: Path, stack: ExitStack) -> Path | None:
    """A copy of a store that this process holds, removed with the stack; None if it cannot be made."""
    try:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=SNAPSHOT_PREFIX, dir=path.parent)))
        log = _write_ahead_log(path)
        if log.exists():  # left by a killed process: it holds changes that are not in the file yet
            _copy(log, _write_ahead_log(folder / path.name))
        _copy(path, folder / path.name)
    except OSError:
        return None
    return folder / path.name


def _write_ahead_log(path: Path) -> Path:
    return path.with_name(f"{path.name}.wal")


def _copy(source: Path, target: Path) -> None:
    """Copy a file that this process holds, in another process: closing the file here would release the lock."""
    code = "import shutil, sys; shutil.copyfile(*sys.argv[1:])"
    command = [sys.executable, "-I", "-S", "-c", code, str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        target.unlink(missing_ok=True)
        raise OSError((done.stderr.strip().splitlines() or ["the copying process was killed"])[-1])


@contextmanager
def _store_errors(path: Path) -> Iterator[None]:
    """Turn errors of the file or the machine, which are not bugs, into a StoreError."""
    try:
        yield
    except duckdb.Error as error:
        first_line = str(error).splitlines()[0]
        if isinstance(error, duckdb.OutOfMemoryException):
            problem = f"{path}: there is not enough memory for this ({first_line}); nothing was stored"
        elif "No space left" in str(error) or "File too large" in str(error):
            problem = f"{path}: there is no room on the disk ({first_line}); earlier results are unchanged; make room"
        elif "Corrupt database file" in str(error) or isinstance(error, duckdb.IOException):
            problem = f"{path}: is damaged ({first_line}); see `harness store verify`, and restore a backup"
        else:
            raise
        raise StoreError(problem) from None


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """Run all of the block's statements or none of them."""
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
            connection = duckdb.connect(str(path), read_only=read_only)
            connection.execute("SET enable_progress_bar = false")  # it would be drawn on stdout, which is for results
            return connection
        except (duckdb.Error, OSError) as error:
            locked = (
                "Could not set lock on file" in str(error).partition('"')[0]
            )  # after the quote comes a path, which may be anything
            if locked and time.monotonic() < deadline:
                time.sleep(0.1)
            elif locked:
                holders = re.findall(r"\(PID (\d+)\)", str(error))
                who = f"process {holders[-1]}" if holders else "another process"
                raise StoreError(f"{path}: {who} holds this store; wait until it has ended, or stop it") from None
            else:
                first_line = str(error).splitlines()[0]
                raise StoreError(f"{path}: cannot be opened as a store ({first_line})") from None


@cache
def _migrations() -> dict[int, str]:
    """SQL by version, from `NNNN_name.sql`."""
    files = (file for file in resources.files("harness.store").joinpath("migrations").iterdir())
    return {int(file.name[:4]): file.read_text(encoding="utf-8") for file in files if file.name.endswith(".sql")}


def _migrate(connection: Connection, path: Path, read_only: bool) -> None:
    known = _migrations()
    tables = {name for (name,) in connection.execute("SELECT table_name FROM information_schema.tables").fetchall()}
    try:
        rows = connection.execute("SELECT version::INTEGER FROM migration").fetchall() if tables else []
    except duckdb.Error:
        raise StoreError(f"{path}: is a DuckDB file, but not a store of this harness; give another --db") from None
    applied = {version for (version,) in rows}
    if applied - set(known):
        raise StoreError(f"{path}: was written by a newer release (schema {max(applied)}); upgrade adapter-harness")
    missing = sorted(set(known) - applied)
    if missing and read_only:
        raise StoreError(f"{path}: has an older schema; a command that writes, such as evaluate, migrates it")
    if not missing:
        return
    kept = _keep_as_it_was(connection, path, max(applied)) if applied else None
    try:
        bring_to(connection, max(known))
    except duckdb.Error as error:
        first_line = str(error).splitlines()[0]
        raise StoreError(f"{path}: cannot be migrated to schema {max(known)} ({first_line}); it is unchanged") from None
    if kept is not None:
        logging.getLogger(__name__).warning(
            "%s: migrated from schema %s to %s; a copy of the old store is in %s", path, max(applied), max(known), kept
        )


def bring_to(connection: Connection, schema: int) -> None:
    """Apply the missing migrations up to this schema, all or none."""
    with transaction(connection):
        connection.execute(
            "CREATE TABLE IF NOT EXISTS migration (version INTEGER PRIMARY KEY, applied_at TIMESTAMP NOT NULL)"
        )
        applied = {version for (version,) in connection.execute("SELECT version FROM migration").fetchall()}
        for version, statements in sorted(_migrations().items()):
            if version <= schema and version not in applied:
                connection.execute(statements)
                connection.execute("INSERT INTO migration VALUES (?, now() AT TIME ZONE 'UTC')", [version])


def latest_schema() -> int:
    """The schema of this release."""
    return max(_migrations())


def _keep_as_it_was(connection: Connection, path: Path, schema: int) -> Path:
    """Copy the store to a file beside it, named after its schema; an existing copy is kept."""
    kept = path.with_name(f"{path.name}.schema-{schema}")
    if not kept.exists():
        try:
            connection.execute("CHECKPOINT")  # so that the file alone holds the whole store
            with atomic.whole(kept) as fresh:
                _copy(path, fresh)
        except OSError as problem:
            raise StoreError(
                f"{path}: has schema {schema} and cannot be copied before its migration ({problem}); "
                "it is unchanged; make room"
            ) from None
    return kept
