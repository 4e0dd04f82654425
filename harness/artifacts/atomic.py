"""One way to write a file: whole, or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import UsageError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A place for a new file, which takes this path when the block ends well and is gone when it does not.

    The folders above it are made. After an error the file that was there is as it was.

    Raises:
        UsageError: it cannot be written.
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
    """Write a file, as `replacing` does."""
    with replacing(path) as fresh:
        fresh.write_bytes(data)


def unwritable(path: Path, problem: OSError) -> str:
    """Why a file cannot be written, for people."""
    return f"{path}: cannot be written ({problem.strerror or problem}); make room there, or name another place"
