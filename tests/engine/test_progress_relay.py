"""What workers report comes through a queue of its own, so it may come later than what they were asked for."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from harness.engine import local
from harness.engine.progress_relay import Shown
from harness.progress import Advance, Progress


class Noted:
    """A `Progress` that notes what it shows, and whether it came to its end."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.broken_off: list[str] = []

    @contextmanager
    def __call__(self, label: str, total: int) -> Iterator[Advance]:
        try:
            yield lambda units, note: None
        except Exception:
            self.broken_off.append(label)
            raise
        self.ended.append(label)


def work(item: int, progress: Progress) -> int:
    """In a worker: done sooner than its news are sent, as far as that can be had."""
    with progress(f"task {item}", 1) as advance:
        advance(1, "")
    return item


def test_the_end_of_a_task_that_is_shown_no_more_is_no_fault() -> None:
    noted = Noted()
    shown = Shown(noted)
    shown.show(("task", 1, 0, ""))
    shown.close()
    shown.show(("task", None, 0, ""))
    shown.show(("other", 1, 0, ""))
    shown.show(("other", None, 0, ""))
    assert (noted.broken_off, noted.ended) == (["task"], ["other"])


def test_news_of_the_batch_before_do_not_break_the_next_one() -> None:
    noted = Noted()
    with local.workers(2, noted) as map_unordered:
        pool: Any = map_unordered.__self__  # type: ignore[attr-defined]
        assert {result for _, result in map_unordered(work, [1, 2])} == {1, 2}
        pool.news.put(("task 0", None, 0, ""))
        time.sleep(0.2)  # the queue has a thread of its own that sends
        assert {result for _, result in map_unordered(work, [3, 4])} == {3, 4}


def test_no_task_that_was_done_is_shown_as_broken_off() -> None:
    noted = Noted()
    with local.workers(2, noted) as map_unordered:
        for start in range(0, 40, 4):
            assert len(list(map_unordered(work, range(start, start + 4)))) == 4
        time.sleep(1)  # a busy machine sends late: whatever it still sends is shown beside one more batch
        assert len(list(map_unordered(work, [40, 41]))) == 2
    assert noted.broken_off == []
    assert {f"task {i}" for i in range(40)} <= set(noted.ended), "of the last batch all news may be late"
