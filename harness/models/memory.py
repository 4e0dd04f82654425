"""What a process does with memory that was given back: it keeps it for the next layer, where glibc hands it out.

    memory.keep_freed()

A network asks for the same few large blocks in every layer of every batch. glibc, as it comes, gives them back to the
system each time, which hands them out again page by page, cleared. The process then holds for longer what it held at
its largest, and never more at once.
"""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of malloc.h."""
_LARGEST_BLOCK = 2**25
"""Blocks up to here come from the heap: 32 MiB, the most that every glibc allows. Whole weights are larger."""
_FREE_AT_MOST = 2**30
"""Bytes that are free at the end of the heap before some go back."""


def keep_freed() -> None:
    """Tell glibc; another allocator is left as it is."""
    try:
        tell = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return
    tell(_M_MMAP_THRESHOLD, _LARGEST_BLOCK)
    tell(_M_TRIM_THRESHOLD, _FREE_AT_MOST)
