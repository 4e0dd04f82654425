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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from harness.engine.progress_relay import Shown
from harness.engine.protocol import Interrupted, MapUnordered
from harness.errors import RunError, UsageError
from harness.progress import Advance, Progress
from harness.provenance import cores

T = TypeVar("T")
R = TypeVar("R")
_POLL_SECONDS = 0.2
_LATE_SECONDS = 1.0
"""Time allowed for progress messages to arrive after the result, since they have a queue of their own."""


@contextmanager
def workers(
    count: int | None, progress: Progress, *, address: str | None = None, folder: Path | None = None
) -> Iterator[MapUnordered]:
    """Open `count` worker processes, started when there is work; with one worker, use this process.

    Raises:
        UsageError: an address was given.
    """
    if address is not None:
        raise UsageError(f"--address {address}: the local engine joins no cluster; add `--engine ray`")
    count = count or cores()
    if count == 1:
        yield lambda function, items: _one_after_the_other(function, items, progress)
        return
    pool = _Pool(count, progress)
    try:
        yield pool.map_unordered
    except BaseException:
        pool.close(at_once=True)
        raise
    pool.close(at_once=False)


def _one_after_the_other(
    function: Callable[[T, Progress], R], items: Sequence[T], progress: Progress
) -> Iterator[tuple[T, R]]:
    for item in items:
        try:
            result = function(item, progress)
        except KeyboardInterrupt:
            raise Interrupted([item]) from None
        yield item, result


class _Pool:
    """Worker processes that live until closed, so that their imports serve several batches of items."""

    def __init__(self, count: int, progress: Progress) -> None:
        self.count, self.progress = count, progress
        self.context = multiprocessing.get_context("spawn")  # a forked torch may deadlock
        self.news: Any = self.context.Queue()
        self.executor: ProcessPoolExecutor | None = None

    def map_unordered(self, function: Callable[[T, Progress], R], items: Sequence[T]) -> Iterator[tuple[T, R]]:
        """Distribute the items to the workers and yield results as they arrive."""
        if not items:
            return
        self.executor = self.executor or ProcessPoolExecutor(self.count, self.context, _start, (self.news,))
        futures: dict[Future[R], T] = {self.executor.submit(_call, function, item): item for item in items}
        shown, pending = Shown(self.progress), set(futures)
        try:
            while pending:
                done, pending = wait(pending, _POLL_SECONDS, FIRST_COMPLETED)
                self._drain(shown)
                for future in done:
                    yield futures[future], future.result()
            self._wait_for_late(shown)
        except BrokenProcessPool:
            raise RunError("a worker process died: killed, or out of memory; try again with fewer --workers") from None
        except KeyboardInterrupt:
            # A future also counts as running while it waits in the workers' queue: only the first `count` have started.
            begun = [item for future, item in futures.items() if future.running()][: self.count]
            raise Interrupted(begun) from None
        finally:
            shown.close()

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


def _start(news: Any) -> None:
    """Set up a worker: where to report progress, and leave Ctrl-C to the parent."""
    global _news
    _news = news
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
