"""Opening and copying the DuckDB file, and migrating it to this release's schema."""

import logging
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from itertools import count
from pathlib import Path
from typing import TypeAlias

import duckdb

from harness.artifacts import atomic
from harness.errors import StoreError

Connection: TypeAlias = duckdb.DuckDBPyConnection
"""The connection that `opened` yields; other modules import the type from here and do not depend on DuckDB."""

LOCK_WAIT_SECONDS = 5.0
"""Time to wait for another process that holds the file; the harness itself holds it for well under a second."""

TABLES = "information_schema.tables WHERE table_catalog = current_database()"
"""Those of the connection's own file."""

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
    with _connected(path, read_only, lock_wait_seconds) as connection, _store_errors(path):
        _migrate(connection, path, read_only)
        yield connection


@contextmanager
def made_new(path: Path, schema: int) -> Iterator[Connection]:
    """A connection to a new store with this schema, closed at the end of the block.

    Raises:
        StoreError: as for `opened`.
    """
    with _connected(path, read_only=False, lock_wait_seconds=0) as connection, _store_errors(path):
        bring_to(connection, schema)
        yield connection


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
            yield stack.enter_context(_connected(copied, read_only=True, lock_wait_seconds=0))


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


@dataclass
class _Attached:
    """A file that this process has open."""

    name: str
    read_only: bool
    users: int = 0


@dataclass
class _Instance:
    """DuckDB in this process, to which files are attached while they are open: it takes 20 times as long to start."""

    connection: Connection
    files: dict[Path, _Attached] = field(default_factory=dict)
    names: Iterator[int] = field(default_factory=count)


_lock = threading.Lock()
"""Held while a file is attached or released. Two instances would not see each other's locks on a file."""
_instances: dict[int, _Instance] = {}
"""By process: that of a parent cannot be used in its fork, nor be ended there."""


@contextmanager
def _connected(path: Path, read_only: bool, lock_wait_seconds: float) -> Iterator[Connection]:
    """A connection whose database is this file, which is released at the end of the block, or with its last user."""
    with ExitStack() as stack:
        connection = _waited_for(path, read_only, lock_wait_seconds, stack)
        connection.execute("SET enable_progress_bar = false")  # it would be drawn on stdout, which is for results
        yield connection


def _waited_for(path: Path, read_only: bool, lock_wait_seconds: float, stack: ExitStack) -> Connection:
    """A connection to a file, once no other process holds it; the stack closes it."""
    deadline = time.monotonic() + lock_wait_seconds
    while True:
        try:
            if not read_only:
                path.parent.mkdir(parents=True, exist_ok=True)
            return _connection(path.resolve(), read_only, stack)
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


def _connection(place: Path, read_only: bool, stack: ExitStack) -> Connection:
    try:
        instance, name = _attached(place, read_only)
    except duckdb.Error as error:
        if "Unique file handle conflict" not in str(error).partition('"')[0]:
            raise
        # A notebook's own connection has the file open, which only a second one like it can share.
        return stack.enter_context(duckdb.connect(str(place), read_only=read_only))
    stack.callback(_release, instance, place)
    connection = stack.enter_context(instance.connection.cursor())
    connection.execute(f"USE {name}")
    return connection


def _attached(place: Path, read_only: bool) -> tuple[_Instance, str]:
    """Attach a file, unless it is, and count one more user of it."""
    with _lock:
        instance = _instances.get(os.getpid())
        if instance is None:
            # What does not fit into memory is written beside the store.
            connection = duckdb.connect(config={"temp_directory": f"{place}.tmp"})
            instance = _instances[os.getpid()] = _Instance(connection)
        file = instance.files.get(place)
        if file is None:
            file = _Attached(f"store_{next(instance.names)}", read_only)
            escaped = str(place).replace("'", "''")
            how = "TYPE duckdb, READ_ONLY" if read_only else "TYPE duckdb"
            instance.connection.execute(f"ATTACH '{escaped}' AS {file.name} ({how})")
            instance.files[place] = file
        elif file.read_only and not read_only:
            raise OSError("this process is reading it")
        file.users += 1
        return instance, file.name


def _release(instance: _Instance, place: Path) -> None:
    """Close a file after its last user."""
    with _lock:
        file = instance.files[place]
        file.users -= 1
        if file.users:
            return
        del instance.files[place]
        try:
            instance.connection.execute(f"DETACH {file.name}")
        except duckdb.Error:
            _instances.pop(os.getpid(), None)  # after an error that is fatal to DuckDB, the next one starts anew
            raise


@cache
def _migrations() -> dict[int, str]:
    """SQL by version, from `NNNN_name.sql`."""
    files = (file for file in resources.files("harness.store").joinpath("migrations").iterdir())
    return {int(file.name[:4]): file.read_text(encoding="utf-8") for file in files if file.name.endswith(".sql")}


def _migrate(connection: Connection, path: Path, read_only: bool) -> None:
    known = _migrations()
    tables = {name for (name,) in connection.execute(f"SELECT table_name FROM {TABLES}").fetchall()}  # noqa: S608 (constant)
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
