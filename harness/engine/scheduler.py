"""Coroutines whose tasks share the workers of one engine: none is idle while any of them has work.

    async def adapt(model, scheduler):
        async for job, failure in scheduler.map_unordered(train, jobs_of(model), TRAIN):
            ...
        async for task, done in scheduler.map_unordered(score, tasks_of(model), SCORE):
            ...

    scheduler = Scheduler(map_unordered)
    scheduler.run([adapt(model, scheduler) for model in models])

Each coroutine is a chain of steps, read from top to bottom; its next step starts as soon as its last one is done,
whatever the others do. All of them run in one thread, between two results of the engine.
"""

import heapq
import os
import platform
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from itertools import count
from types import coroutine
from typing import Any, Generic, TypeVar

from harness.artifacts import digest
from harness.engine.protocol import Interrupted, MapUnordered, WorkerLost
from harness.engine.timeline import Span
from harness.progress import Advance, Progress

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class _Call(Generic[T, R]):
    """One application of a function, as it is sent to a worker."""

    owner: int
    chain: str
    function: Callable[[T, Progress], R]
    item: T


@dataclass(slots=True, eq=False)
class _Results(AsyncIterator[tuple[T, R | WorkerLost]]):
    """Results of one step of a coroutine, in the order in which they arrive."""

    missing: int
    arrived: deque[tuple[T, R | WorkerLost]] = field(default_factory=deque)

    async def __anext__(self) -> tuple[T, R | WorkerLost]:
        while not self.arrived:
            if not self.missing:
                raise StopAsyncIteration
            await _until(self)
        return self.arrived.popleft()


@coroutine
def _until(event: Any) -> Generator[Any, None, None]:
    """Wait for the next result of a step, or for the end of a strand."""
    yield event


@dataclass(slots=True, eq=False)
class Strand(Generic[R]):
    """A coroutine that was started; `await` it for what it returns."""

    steps: Coroutine[Any, None, R]
    name: str
    ended: bool = False
    result: Any = None

    def __await__(self) -> Generator[Any, None, R]:
        while not self.ended:
            yield self
        found: R = self.result
        return found


class Scheduler:
    """Runs coroutines, and the tasks that they wait for, on an open engine."""

    def __init__(self, map_unordered: MapUnordered) -> None:
        self._engine = map_unordered
        self._order = count()
        self._waiting: list[tuple[int, int, _Call[Any, Any]]] = []
        self._steps: dict[int, _Results[Any, Any]] = {}
        self._started: list[Strand[Any]] = []
        self._current = ""
        self._blocked: dict[Any, list[Strand[Any]]] = {}
        self.spans: list[Span] = []
        """Tasks that are done, in the order in which they ended."""

    def map_unordered(
        self, function: Callable[[T, Progress], R], items: Sequence[T], rank: int = 0
    ) -> AsyncIterator[tuple[T, R | WorkerLost]]:
        """Apply a module-level function of (item, progress) to items; yield (item, result) as they finish.

        Args:
            rank: items of a lower rank go first; among those of one rank, the ones that have waited longest.
        """
        results, owner = _Results[T, R](len(items)), next(self._order)
        self._steps[owner] = results
        for item in items:
            heapq.heappush(self._waiting, (rank, next(self._order), _Call(owner, self._current, function, item)))
        return results

    def run(self, coroutines: Sequence[Coroutine[Any, None, R]]) -> list[R]:
        """Run coroutines to their ends, and return what they return.

        Raises:
            Interrupted: after it was raised in each coroutine, with the items of its own that were in progress.
        """
        try:
            strands = [self.start(steps, "") for steps in coroutines]
            for call, result in self._engine(_perform, _Backlog(self._waiting)):
                step = self._steps[call.owner]
                step.missing -= 1
                if isinstance(result, _Performed):
                    self.spans.append(result.span)
                    step.arrived.append((call.item, result.result))
                else:
                    step.arrived.append((call.item, result))
                self._wake(step)
        except Interrupted as interruption:
            self._interrupt(interruption.under_way)
            raise Interrupted([call.item for call in interruption.under_way]) from None
        finally:
            for steps in (*coroutines, *(strand.steps for strand in self._started)):
                steps.close()
        return [strand.result for strand in strands]

    def start(self, steps: Coroutine[Any, None, R], name: str) -> Strand[R]:
        """Run a coroutine up to its first task. One that `run` was not given is awaited by the one that started it.

        Args:
            name: name of the steps in the timeline.
        """
        strand = Strand(steps, name)
        self._started.append(strand)
        self._advance(strand)
        return strand

    async def gather(self, one: Coroutine[Any, None, T], other: Coroutine[Any, None, R]) -> tuple[T, R]:
        """Run two coroutines beside each other; both are steps of the chain that waits for them."""
        first, second = self.start(one, self._current), self.start(other, self._current)
        return await first, await second

    async def gather_all(self, coroutines: Iterable[Coroutine[Any, None, R]]) -> list[R]:
        """Run any number of coroutines of one kind beside each other, as steps of the chain that waits for them."""
        strands = [self.start(steps, self._current) for steps in coroutines]
        return [await strand for strand in strands]

    def _wake(self, event: Any) -> None:
        for strand in self._blocked.pop(event, []):
            self._advance(strand)

    def _advance(self, strand: Strand[Any]) -> None:
        """Go on until the coroutine waits for something, or ends."""
        before, self._current = self._current, strand.name
        try:
            event = strand.steps.send(None)
        except StopIteration as end:
            strand.ended, strand.result = True, end.value
            self._wake(strand)
        else:
            self._blocked.setdefault(event, []).append(strand)
        finally:
            self._current = before

    def _interrupt(self, calls: Sequence[_Call[Any, Any]]) -> None:
        for event, blocked in list(self._blocked.items()):
            items = [call.item for call in calls if self._steps[call.owner] is event]
            for strand in blocked:
                with suppress(Interrupted, StopIteration):
                    strand.steps.throw(Interrupted(items))
        self._blocked.clear()


def complete(map_unordered: MapUnordered, steps: Callable[[Scheduler], Coroutine[Any, None, R]]) -> R:
    """Run one coroutine on an open engine; `steps` makes it for a scheduler."""
    scheduler = Scheduler(map_unordered)
    (result,) = scheduler.run([steps(scheduler)])
    return result


class _Backlog(Iterator[Any]):
    """Tasks that wait, the most urgent first. It may be empty for now, and have more after a result."""

    def __init__(self, waiting: list[tuple[int, int, _Call[Any, Any]]]) -> None:
        self._waiting = waiting

    def __next__(self) -> _Call[Any, Any]:
        if not self._waiting:
            raise StopIteration
        digest.read_remembered()  # from the first task on weights are used
        return heapq.heappop(self._waiting)[-1]


@dataclass(frozen=True, slots=True)
class _Performed(Generic[R]):
    result: R
    span: Span


def _perform(call: _Call[T, R], progress: Progress) -> _Performed[R]:
    """Apply the function to the item, in a worker, and record when."""
    labels: list[str] = []

    def labelled(label: str, total: int) -> AbstractContextManager[Advance]:
        labels.append(label)
        return progress(label, total)

    began, computed = time.time(), time.process_time()
    result = call.function(call.item, labelled)
    name = labels[0] if labels else call.function.__name__.strip("_")
    span = Span(
        name=name,
        kind=call.function.__name__.strip("_"),
        chain=call.chain,
        worker=f"{platform.node()} {os.getpid()}",
        began_seconds=began,
        ended_seconds=time.time(),
        processor_seconds=time.process_time() - computed,
    )
    return _Performed(result, span)
