"""What a process keeps in memory: what was given back, for the next layer, and few of the kernels that were made.

    memory.keep_freed()
    memory.keep_few_kernels()       # before torch multiplies anything

A network asks for the same few large blocks in every layer of every batch. glibc, as it comes, gives them back to the
system each time, which hands them out again page by page, cleared. The process then holds for longer what it held at
its largest, and never more at once.

In bf16 torch has oneDNN make kernels for each shape of a batch, and keeps the last 1,024 of two kinds: half a gigabyte.
Batches of texts come in ever new shapes; what is needed again soon is that of the same pass, whose layers share shapes.
"""

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of malloc.h."""
_LARGEST_BLOCK = 2**25
"""Blocks up to here come from the heap: 32 MiB, the most that every glibc allows. Whole weights are larger."""
_FREE_AT_MOST = 2**30
"""Bytes that are free at the end of the heap before some go back."""
KERNELS_KEPT = 128
"""Of each kind; a pass of a training takes more than 64."""


def keep_freed() -> None:
    """Tell glibc; another allocator is left as it is."""
    try:
        tell = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return
    tell(_M_MMAP_THRESHOLD, _LARGEST_BLOCK)
    tell(_M_TRIM_THRESHOLD, _FREE_AT_MOST)


def keep_few_kernels() -> None:
    """Tell torch, unless somebody told it otherwise. Too late once it has multiplied."""
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(KERNELS_KEPT))
