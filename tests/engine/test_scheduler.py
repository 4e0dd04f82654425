"""Coroutines that share an engine's workers: order, overlap, errors, interruptions, and the timeline of all that."""

import json
import os
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.engine import ENGINES, Interrupted, WorkerLost
from harness.engine import timeline as timelines
from harness.engine.scheduler import Scheduler, complete
from harness.engine.timeline import Span
from harness.errors import UsageError
from harness.progress import Progress, silent


def double(item: int, progress: Progress) -> int:
    with progress(f"double {item}", 1):
        return 2 * item


def fail(item: int, progress: Progress) -> int:
    raise ValueError(f"no {item}")


def wait_for(item: tuple[Path, Path], progress: Progress) -> bool:
    """Say that it has begun, and wait for another task that says so."""
    mine, other = item
    mine.touch()
    until = time.monotonic() + 30
    while not other.exists() and time.monotonic() < until:
        time.sleep(0.01)
    return other.exists()


def environment(name: str, progress: Progress) -> str | None:
    return os.environ.get(name)


def in_turn(function: Any, items: Iterable[Any], done: list[Any]) -> Iterator[tuple[Any, Any]]:
    """A made-up engine with one worker, which notes the order of the items."""
    for item in items:
        done.append(item.item)
        yield item, function(item, silent)


async def doubled(scheduler: Scheduler, items: list[int], rank: int = 0) -> list[int]:
    return [result async for _, result in scheduler.map_unordered(double, items, rank)]  # type: ignore[misc]


async def steps(scheduler: Scheduler, start: int) -> int:
    """Each step needs the result of the one before."""
    for _ in range(3):
        (start,) = await doubled(scheduler, [start])
    return start


@pytest.mark.parametrize("workers", [1, 3])
def test_each_chain_goes_on_by_itself_and_its_result_is_returned_in_its_place(workers: int) -> None:
    with ENGINES["local"](workers, silent) as map_unordered:
        scheduler = Scheduler(map_unordered)
        assert scheduler.run([steps(scheduler, start) for start in (1, 2, 5)]) == [8, 16, 40]


def test_tasks_of_two_chains_run_at_once(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"

    async def meet(scheduler: Scheduler, mine: Path, its: Path) -> bool:
        async for _, met in scheduler.map_unordered(wait_for, [(mine, its)]):
            return met is True
        return False

    with ENGINES["local"](2, silent) as map_unordered:
        scheduler = Scheduler(map_unordered)
        assert scheduler.run([meet(scheduler, one, other), meet(scheduler, other, one)]) == [True, True]


def test_tasks_of_a_lower_rank_go_first_and_of_one_rank_in_their_order() -> None:
    done: list[int] = []
    scheduler = Scheduler(partial(in_turn, done=done))
    scheduler.run(
        [
            doubled(scheduler, [1, 2], 2),
            doubled(scheduler, [3], 1),
            doubled(scheduler, [4], 1),
        ]
    )
    assert done == [3, 4, 1, 2]


def test_a_chain_may_wait_for_two_others_that_it_started() -> None:
    async def both(scheduler: Scheduler) -> tuple[list[int], int]:
        return await scheduler.gather(doubled(scheduler, [1, 2]), steps(scheduler, 3))

    with ENGINES["local"](1, silent) as map_unordered:
        assert complete(map_unordered, both) == ([2, 4], 24)


def test_an_error_ends_every_chain_and_each_may_still_store_what_it_has() -> None:
    stored: list[str] = []

    async def storing(scheduler: Scheduler, function: Any) -> None:
        try:
            async for _ in scheduler.map_unordered(function, [1, 2, 3]):
                pass
        finally:
            stored.append(function.__name__)

    with ENGINES["local"](1, silent) as map_unordered:
        scheduler = Scheduler(map_unordered)
        with pytest.raises(ValueError, match="no 1"):
            scheduler.run([storing(scheduler, double), storing(scheduler, fail)])
    assert sorted(stored) == ["double", "fail"]


def test_an_interruption_reaches_each_chain_with_its_own_items() -> None:
    noted: dict[str, list[int]] = {}

    def interrupted(function: Any, items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """A made-up engine that is interrupted while it has two items in progress."""
        taken = iter(items)
        raise Interrupted([next(taken), next(taken)])
        yield

    async def noting(scheduler: Scheduler, name: str, items: list[int]) -> None:
        try:
            await doubled(scheduler, items)
        except Interrupted as interruption:
            noted[name] = list(interruption.under_way)
            raise

    scheduler = Scheduler(interrupted)
    with pytest.raises(Interrupted) as raised:
        scheduler.run([noting(scheduler, "a", [1]), noting(scheduler, "b", [2, 3])])
    assert noted == {"a": [1], "b": [2]}
    assert raised.value.under_way == (1, 2)


def test_a_lost_worker_is_a_result() -> None:
    def losing(function: Any, items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """A made-up engine whose workers die."""
        for item in items:
            yield item, WorkerLost("its worker died")

    found: list[Any] = list(complete(losing, lambda scheduler: doubled(scheduler, [1])))
    assert found == [WorkerLost("its worker died")]


def test_workers_see_the_environment_of_their_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are forks of a process that started with an earlier command's."""
    for value in ("first", "second"):
        monkeypatch.setenv("HARNESS_TRIED", value)
        with ENGINES["local"](2, silent) as map_unordered:
            assert [found for _, found in map_unordered(environment, ["HARNESS_TRIED"])] == [value]


def span(name: str, worker: str, began: float, ended: float, chain: str = "a") -> Span:
    return Span(name, "score", chain, worker, began, ended, ended - began)


def test_the_share_of_busy_workers_and_the_longest_chain() -> None:
    spans = [span("x", "one", 10, 14, "long"), span("y", "two", 11, 13), span("z", "one", 18, 20, "long")]
    assert timelines.busy(spans, 2) == pytest.approx(8 / 20)
    assert timelines.summary(spans, 2, 12.34) == (
        "12.3 s in all, workers busy for 40 % of the time between first and last task; the longest chain was long "
        "(10.0 s)"
    )
    assert timelines.busy([], 2) == 0
    assert timelines.summary([], 2, 1.0) == "1.0 s in all"


def test_a_timeline_has_every_task_with_its_worker(tmp_path: Path) -> None:
    with ENGINES["local"](1, silent) as map_unordered:
        scheduler = Scheduler(map_unordered)
        scheduler.run([doubled(scheduler, [4, 5])])
    path = tmp_path / "timeline.json"
    timelines.write(path, scheduler.spans)
    events = json.loads(path.read_text())["traceEvents"]
    assert [event["name"] for event in events if event["ph"] == "X"] == ["double 4", "double 5"]
    assert all(event["dur"] >= 0 and event["ts"] >= 0 for event in events if event["ph"] == "X")
    (named,) = [event for event in events if event["ph"] == "M"]
    assert str(os.getpid()) in named["args"]["name"]
    (tmp_path / "in the way").write_text("")
    with pytest.raises(UsageError):
        timelines.write(tmp_path / "in the way" / "timeline.json", scheduler.spans)
