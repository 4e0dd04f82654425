"""Tasks on this machine: one process per worker, with one thread each.

One thread each is faster than one task with all threads, since much of a small model's work is sequential, and it makes
results independent of the number of cores and workers.
"""

import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, TypeVar

from harness.engine.progress_relay import Shown
from harness.engine.protocol import Interrupted, MapUnordered
from harness.errors import RunError, UsageError
from harness.progress import Advance, Progress
from harness.provenance import cores

T = TypeVar("T")
R = TypeVar("R")
_FORKSERVER = "forkserver"
_NONE: Any = object()
_POLL_SECONDS = 0.2
_LATE_SECONDS = 1.0
"""Time allowed for progress messages to arrive after the result, since they have a queue of their own."""


@contextmanager
def workers(
    count: int | None,
    progress: Progress,
    *,
    address: str | None = None,
    folder: Path | None = None,
    imports: Sequence[str] = (),
    gpus_per_worker: int = 0,
) -> Iterator[MapUnordered]:
    """Open `count` worker processes, started when there is work; with one worker, use this process.

    Raises:
        UsageError: an address was given, or accelerators are to be reserved.
    """
    if gpus_per_worker:
        raise UsageError(
            f"--gpus-per-worker {gpus_per_worker}: the local engine reserves no accelerators; add `--engine ray`"
        )
    if address is not None:
        raise UsageError(f"--address {address}: the local engine joins no cluster; add `--engine ray`")
    count = count or cores()
    if count == 1:
        yield lambda function, items: _one_after_the_other(function, items, progress)
        return
    pool = _Pool(count, progress, imports)
    try:
        yield pool.map_unordered
    except BaseException:
        pool.close(at_once=True)
        raise
    pool.close(at_once=False)


def _one_after_the_other(
    function: Callable[[T, Progress], R], items: Iterable[T], progress: Progress
) -> Iterator[tuple[T, R]]:
    for item in items:
        try:
            result = function(item, progress)
        except KeyboardInterrupt:
            raise Interrupted([item]) from None
        yield item, result


def start_importing(imports: Sequence[str], count: int | None) -> None:
    """Start the process that workers are forks of, which imports modules while this one reads data.

    Args:
        count: number of workers to come; None for one per core. A single one works in this process.
    """
    if imports and (count or cores()) > 1 and _FORKSERVER in multiprocessing.get_all_start_methods():
        _context(imports)
        forkserver.ensure_running()


def _context(imports: Sequence[str]) -> BaseContext:
    """Start workers as forks of a process that has imported what all of them need, and has done nothing else.

    A fork of this process, whose torch may have computed, could deadlock.
    """
    if _FORKSERVER not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context(_FORKSERVER)
    context.set_forkserver_preload(list(imports))
    return context


class _Pool:
    """Worker processes that live until closed, so that their imports serve several batches of items."""

    def __init__(self, count: int, progress: Progress, imports: Sequence[str]) -> None:
        self.count, self.progress = count, progress
        self.context = _context(imports)
        self.news: Any = self.context.Queue()
        self.executor: ProcessPoolExecutor | None = None

    def map_unordered(self, function: Callable[[T, Progress], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Distribute the items to the workers and yield results as they arrive."""
        waiting, pending = iter(items), dict[Future[R], T]()
        shown = Shown(self.progress)
        try:
            while self._submit(function, waiting, pending) or pending:
                done, _ = wait(pending, _POLL_SECONDS, FIRST_COMPLETED)
                self._drain(shown)
                for future in done:
                    yield pending.pop(future), future.result()
                    self._submit(function, waiting, pending)
            self._wait_for_late(shown)
        except BrokenProcessPool:
            raise RunError("a worker process died: killed, or out of memory; try again with fewer --workers") from None
        except KeyboardInterrupt:
            # A future also counts as running while it waits in the workers' queue: only the first `count` have started.
            begun = [item for future, item in pending.items() if future.running()][: self.count]
            raise Interrupted(begun) from None
        finally:
            shown.close()

    def _submit(self, function: Callable[[T, Progress], R], waiting: Iterator[T], pending: dict[Future[R], T]) -> bool:
        """Submit items until one more is pending than there are workers, so that none waits for this process."""
        submitted = False
        while len(pending) <= self.count and (item := next(waiting, _NONE)) is not _NONE:
            self.executor = self.executor or ProcessPoolExecutor(
                self.count, self.context, _start, (self.news, dict(os.environ))
            )
            pending[self.executor.submit(_call, function, item)] = item
            submitted = True
        return submitted

    def _drain(self, shown: Shown) -> None:
        """Show all progress reported since the last call."""
        with suppress(queue.Empty):
            while True:
                shown.show(self.news.get_nowait())

    def _wait_for_late(self, shown: Shown) -> None:
        """Wait briefly for the end messages of the tasks that are still shown."""
        until = time.monotonic() + _LATE_SECONDS
        while shown.open and (left := until - time.monotonic()) > 0:
            with suppress(queue.Empty):
                shown.show(self.news.get(timeout=left))

    def close(self, *, at_once: bool) -> None:
        """Stop the workers. Items that have not started are dropped; with `at_once`, so are those in progress."""
        if self.executor is not None:
            if at_once:
                for process in multiprocessing.active_children():
                    process.terminate()
            self.executor.shutdown(wait=True, cancel_futures=True)
        self.news.close()


_news: Any = None


def _start(news: Any, environment: Mapping[str, str]) -> None:
    """Set up a worker: where to report progress, and leave Ctrl-C to the parent.

    Args:
        environment: of the parent, which may have changed since the process started that this one is a fork of.
    """
    global _news
    _news = news
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when its parent dies, since nobody would use its results."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _call(function: Callable[[T, Progress], R], item: T) -> R:
    return function(item, _report)


@contextmanager
def _report(label: str, total: int) -> Iterator[Advance]:
    """A `Progress` that sends its messages to the parent."""
    _news.put((label, total, 0, ""))
    yield lambda units, note: _news.put((label, total, units, note))
    _news.put((label, None, 0, ""))
