"""What every engine keeps to: how it is opened, and what it gives."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from harness.progress import Progress

MARKER = ".workers-"
"""How the file's name begins by which workers see that a folder is shared."""
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """What an item came to whose workers died each time, on an engine that goes on then."""

    reason: str
    """For people: `its worker died 3 times (killed or out of memory)`."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C; `under_way` are the items that were being worked on."""

    def __init__(self, under_way: Sequence[Any]) -> None:
        super().__init__()
        self.under_way = tuple(under_way)


class MapUnordered(Protocol):
    """Apply a function of (item, progress) to items; yield (item, result) as they are done."""

    def __call__(
        self, function: Callable[[T, Progress], R], items: Sequence[T]
    ) -> Iterator[tuple[T, R | WorkerLost]]: ...


class Engine(Protocol):
    """Open workers, for as long as the `with` block lasts.

    Args:
        count: of workers; as many as there are cores where None.
        progress: shows what the workers report.
        address: of a cluster to join; an engine without clusters refuses one.
        folder: what all workers must share, for an engine whose workers may be on other machines.

    Raises:
        UsageError: what the engine needs is not installed or not there.
    """

    def __call__(
        self, count: int | None, progress: Progress, *, address: str | None = None, folder: Path | None = None
    ) -> AbstractContextManager[MapUnordered]: ...
