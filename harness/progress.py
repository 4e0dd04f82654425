"""Progress reporting, independent of the terminal.

A `Progress` opens a named task and returns a function that advances it. `silent` is for libraries and tests; the
command line passes one that draws bars on stderr.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeAlias

Advance: TypeAlias = Callable[[int, str], None]
"""Advance by a number of units, with a short note to show beside the bar ("" for none)."""


class Progress(Protocol):
    """Opens a task of `total` units under a label, for as long as the `with` block lasts."""

    def __call__(self, label: str, total: int) -> AbstractContextManager[Advance]: ...


@contextmanager
def silent(label: str, total: int) -> Iterator[Advance]:
    """A `Progress` that shows nothing."""
    yield lambda units, note: None
