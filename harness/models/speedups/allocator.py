"""Memory policy of a process: keep freed blocks for the next layer, and only a few of the compiled kernels.

    allocator.keep_freed()
    allocator.keep_few_kernels()    # before torch multiplies anything

A network asks for the same few large blocks in every layer of every batch. By default, glibc returns them to the system
each time, which hands them out again page by page, cleared. With this policy the process stays at its peak size for
longer, but its peak is no higher.

In bf16 torch has oneDNN make kernels for each shape of a batch, and keeps the last 1,024 of two kinds: half a gigabyte.
Batches of texts come in ever new shapes; the kernels needed again soon are those of the same pass, whose layers share
shapes.

Measured gain: 6 % of the CPU time of scoring 60 texts in bf16 (`benchmarks/speedups.py`). The limit on kernels saves
memory, not time: 20,000 texts take 892 MiB, where they took 1,240 (docs/benchmarks.md).
"""

import ctypes
import os

from harness.models import speedups

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Constants from malloc.h."""
_LARGEST_BLOCK = 2**25
"""Largest block taken from the heap: 32 MiB, the most that every glibc allows. Whole weights are larger."""
_FREE_AT_MOST = 2**30
"""Free bytes at the end of the heap above which glibc returns some."""
KERNELS_KEPT = 128
"""Kernels of each kind; a training pass needs more than 64."""


def keep_freed() -> None:
    """Have glibc keep freed blocks; other allocators are left unchanged."""
    if not speedups.is_on("allocator"):
        return
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return
    set_option(_M_MMAP_THRESHOLD, _LARGEST_BLOCK)
    set_option(_M_TRIM_THRESHOLD, _FREE_AT_MOST)


def keep_few_kernels() -> None:
    """Limit torch's kernel caches unless the environment sets a limit. No effect once torch has multiplied."""
    if not speedups.is_on("allocator"):
        return
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(KERNELS_KEPT))
