"""Hidden states cached in files, which are mapped into memory when they are read again.

A file holds the states of all batches of some texts, one after the other, the seconds that they took to compute, and
the SHA-256 of both. It appears under its name whole or not at all. Caching is optional: states are not kept if there is
no room or nothing may be written, and a file that has changed since it was written counts as absent. It contains no
texts, and nothing but numbers is read from it.

It serves `shared_layers`, whose switch and measured gain are its own.
"""

import hashlib
import os
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch

from harness.artifacts import atomic

MOST_BYTES = 4 * 2**30
"""Limit on all files of a folder together."""
_TAIL_BYTES = 8 + 32
"""Size of the seconds, a float64, and the SHA-256."""

Shapes = Sequence[tuple[int, int, int]]
"""Shape of each batch: texts, tokens with padding, width."""


class Kept(NamedTuple):
    """The cached states of some texts."""

    parts: list[torch.Tensor]
    """The states of each batch, mapped from the file."""
    seconds: float
    """Seconds that they took to compute."""


def read(path: Path, shapes: Shapes, dtype: torch.dtype) -> Kept | None:
    """Read cached states; None if there is no file, or it has changed since it was written."""
    sizes = [prod(shape) for shape in shapes]
    body = sum(sizes) * dtype.itemsize
    try:
        if path.stat().st_size != body + _TAIL_BYTES:
            return None
        with path.open("rb") as file:
            file.seek(body)
            tail = file.read()
        whole = torch.from_file(str(path), shared=False, size=sum(sizes), dtype=dtype)
        summed = hashlib.sha256(_bytes(whole))
        summed.update(tail[:8])
        if summed.digest() != tail[8:]:
            return None
        os.utime(path)  # used last
    except (OSError, RuntimeError):
        return None
    parts = [part.view(shape) for part, shape in zip(torch.split(whole, sizes), shapes, strict=True)]
    return Kept(parts, float(struct.unpack("<d", tail[:8])[0]))


@contextmanager
def writing(path: Path, n_bytes: int, most_bytes: int = MOST_BYTES) -> Iterator[Callable[[torch.Tensor, float], None]]:
    """Cache states in a file; yields a function that takes each batch's states and seconds, in order.

    Args:
        n_bytes: size of all states together.
        most_bytes: limit on the folder's files together; the ones used longest ago are removed to stay within it.
    """
    fresh, summed = atomic.partial_of(path), hashlib.sha256()
    kept, spent = 0, 0.0
    try:
        file = fresh.open("wb") if _has_room(path.parent, n_bytes + _TAIL_BYTES, most_bytes) else None
    except OSError:
        file = None

    def add(states: torch.Tensor, seconds: float) -> None:
        nonlocal file, kept, spent
        if file is not None:
            data = _bytes(states)
            summed.update(data)
            kept, spent = kept + len(data), spent + seconds
            try:
                file.write(data)
            except OSError:  # no room after all
                with suppress(OSError):
                    file.close()
                file = None

    try:
        yield add
        if file is not None and kept == n_bytes:
            with suppress(OSError):
                tail = struct.pack("<d", spent)
                summed.update(tail)
                file.write(tail + summed.digest())
                file.close()
                atomic.publish(fresh, path, durable=False)  # it has a checksum, and can be computed again
    finally:
        if file is not None:
            with suppress(OSError):
                file.close()
        atomic.discard(fresh)


def _bytes(states: torch.Tensor) -> Any:
    return states.contiguous().view(-1).view(torch.uint8).numpy()


def _has_room(folder: Path, n_bytes: int, most_bytes: int) -> bool:
    """Make room in a folder within its limit. At least half of the disk's free space stays free."""
    folder.mkdir(parents=True, exist_ok=True)
    if n_bytes > most_bytes or 2 * n_bytes > shutil.disk_usage(folder).free:
        return False
    files = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # another process removed it
            found = path.stat()
            files.append((found.st_mtime, found.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total + n_bytes <= most_bytes:
            break
        if not path.name.startswith(atomic.PARTIAL):
            path.unlink(missing_ok=True)
            total -= size
    return total + n_bytes <= most_bytes
