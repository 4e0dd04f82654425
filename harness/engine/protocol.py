"""The protocol of engines: how they are opened, and what they yield."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from harness.progress import Progress

MARKER = ".workers-"
"""Prefix of the name of the file by which workers check that they share a folder."""
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """The result of an item whose workers died on every attempt, on an engine that continues with the other items."""

    reason: str
    """The reason for people: `its worker died 3 times (killed or out of memory)`."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C; `under_way` lists the items that were in progress."""

    def __init__(self, under_way: Sequence[Any]) -> None:
        super().__init__()
        self.under_way = tuple(under_way)


class MapUnordered(Protocol):
    """Apply a function of (item, progress) to items; yield (item, result) as they finish.

    Items are taken in their order as workers become free, one more than there are workers at most. An iterator that has
    none for now is asked again after each result that was yielded, and is exhausted when nothing is in progress either.
    """

    def __call__(
        self, function: Callable[[T, Progress], R], items: Iterable[T]
    ) -> Iterator[tuple[T, R | WorkerLost]]: ...


class Engine(Protocol):
    """Open workers, for as long as the `with` block lasts.

    Args:
        count: number of workers; None for one per core.
        progress: shows the progress that workers report.
        address: the cluster to join; an engine without clusters rejects it.
        folder: a folder that all workers must share, for an engine whose workers may be on other machines.
        imports: modules that most tasks need, for an engine that can import them once for all workers.
        gpus_per_worker: accelerators to reserve for each worker; an engine that reserves nothing rejects it.

    Raises:
        UsageError: something the engine needs is not installed or not found.
    """

    def __call__(
        self,
        count: int | None,
        progress: Progress,
        *,
        address: str | None = None,
        folder: Path | None = None,
        imports: Sequence[str] = (),
        gpus_per_worker: int = 0,
    ) -> AbstractContextManager[MapUnordered]: ...
