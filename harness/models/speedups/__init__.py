"""Faster ways to the same answers: what replaces a layer's class, a module's `forward` or a setting of the process.

    with speedups.without("first_token", "shared_layers"):
        classifier = models.load(model, inputs)        # the plain way

Each has a name, whether it is here or in `harness.training.speedups`. The switch is for tests, which hold the answers
against the plain way, and for `benchmarks/speedups.py`, which measures the gain that each docstring states. It holds in
one process, within a block. It is no setting, because keys do not cover it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from harness.errors import check_known

NAMES = ("allocator", "dropout", "first_token", "frozen_layers", "shared_layers")
_off: set[str] = set()


def is_on(name: str) -> bool:
    """True unless a block around this turns it off."""
    return name not in _off


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Turn some of them off within the block, in this process.

    Raises:
        UsageError: there is no such speed-up.
    """
    check_known("speed-up", names, NAMES)
    added = set(names) - _off
    _off.update(added)
    try:
        yield
    finally:
        _off.difference_update(added)
