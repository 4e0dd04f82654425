"""Atomic writing of files and folders: whole, or not at all.

A file is written under another name beside its own, flushed to the disk and renamed. So neither a killed process nor a
power failure leaves a part of it under its name.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import UsageError

PARTIAL = ".partial-"
"""Prefix of the names of incomplete files and folders; `harness store gc` removes what killed processes left beside
the store."""


@contextmanager
def whole(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` when the block succeeds and is removed when it fails.

    Missing parent folders are created. After an error, an existing file is unchanged. An OSError stays one: the caller
    knows what the file is for.

    Args:
        durable: flush the file to the disk before it gets its name. Not needed for files whose checksum is verified on
            reading and that can be made again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = partial_of(path)
    try:
        yield fresh
        publish(fresh, path, durable=durable)
    finally:
        discard(fresh)


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path, like `whole`, for a file that a user named.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        with whole(path, durable=durable) as fresh:
            yield fresh
    except OSError as problem:
        raise UsageError(unwritable(path, problem)) from None


def write(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file atomically, like `replacing`."""
    with replacing(path, durable=durable) as fresh:
        fresh.write_bytes(data)


@contextmanager
def whole_folder(folder: Path, is_as_made: Callable[[Path], bool]) -> Iterator[Path]:
    """Yield a new folder that gets the name `folder` when the block succeeds and is removed when it fails.

    Another process may finish the same folder first; then that one stays.

    Args:
        is_as_made: checks a folder that is there already; it is replaced if it is damaged.
    """
    fresh = partial_of(folder)
    fresh.mkdir(parents=True)
    try:
        yield fresh
        if folder.is_dir() and not is_as_made(folder):
            shutil.rmtree(folder)
        if not folder.is_dir():
            fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def partial_of(path: Path) -> Path:
    """A name for a file or folder while it is incomplete, which no other process uses."""
    return path.with_name(f"{PARTIAL}{uuid.uuid4().hex}")


def publish(fresh: Path, path: Path, *, durable: bool = True) -> None:
    """Give a complete file its name."""
    if durable:
        _flush(fresh)
    fresh.replace(path)
    if durable:
        _flush(path.parent)  # the name is in the folder


def discard(fresh: Path) -> None:
    """Remove an incomplete file, if it is there."""
    with suppress(OSError):
        fresh.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def unwritable(path: Path, problem: OSError) -> str:
    """The error message for a file that cannot be written."""
    return f"{path}: cannot be written ({problem.strerror or problem}); make room there, or choose another location"
