"""Atomic writing of files: whole, or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import UsageError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` when the block succeeds and is removed when it fails.

    Missing parent folders are created. After an error, an existing file is unchanged.

    Raises:
        UsageError: the file cannot be written.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield fresh
        fresh.replace(path)
    except OSError as problem:
        raise UsageError(unwritable(path, problem)) from None
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)


def write(path: Path, data: bytes) -> None:
    """Write a file atomically, like `replacing`."""
    with replacing(path) as fresh:
        fresh.write_bytes(data)


def unwritable(path: Path, problem: OSError) -> str:
    """The error message for a file that cannot be written."""
    return f"{path}: cannot be written ({problem.strerror or problem}); make room there, or choose another location"
