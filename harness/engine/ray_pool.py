"""Ray actors that do tasks, one at a time each; a task whose actor dies is done again by another.

An actor is a process of one core and one thread. Before its first task, and again after another actor's death, it
reports that it is alive and that it finds the same packages, code and folders as the command. If an actor dies, its
task is given to another one, after a pause that doubles, at most `TRIES` times in all; then the task yields
`WorkerLost`, and the others go on. Ray restarts nothing by itself, so that attempts are counted in one place.

Ray's own tasks, with `max_retries` and `ray.wait`, were tried in a small script. They make three attempts at a task
that kills its worker, too, but with pauses that do not grow, and only Ray's dashboard, which is not started here,
reports which tasks run and which wait for a core: so an interruption could not name what was under way.
"""

import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import RayError, RaySystemError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness.engine.progress_relay import Shown
from harness.engine.protocol import MARKER, Interrupted, MapUnordered, WorkerLost
from harness.engine.ray_worker import PATIENCE_SECONDS, News, Raised, Surroundings, Worker
from harness.errors import RunError, UsageError
from harness.progress import Progress

T = TypeVar("T")
R = TypeVar("R")
_KIND = "accelerator_type:"
"""Prefix of the resource by which Ray names a node's kind of accelerator."""
TRIES = 3
"""Number of actors that a task may kill before it is given up."""
START_SECONDS = 120
"""Time limit for having no live actor: starting one takes seconds, waiting for occupied cores may never end."""
_NONE: Any = object()
_BACK_OFF_SECONDS = 1.0
"""Pause before a task is retried or another actor started; it doubles each time."""
_POLL_SECONDS = 0.2


@contextmanager
def workers(
    count: int | None, progress: Progress, folder: Path | None, gpus_per_worker: int = 0
) -> Iterator[MapUnordered]:
    """Open actors on the joined cluster, started when there is work.

    Raises:
        UsageError: the cluster has fewer cores or accelerators than `count` workers need, or accelerators of several
            kinds; or the folder is not writable.
    """
    fitting = room([node["Resources"] for node in ray.nodes() if node["Alive"]], gpus_per_worker)
    if (count or 1) > fitting:
        short = "accelerators" if gpus_per_worker else "cores"
        raise UsageError(f"--workers {count or 1}: the cluster has {short} for {fitting}; ask for fewer, or add nodes")
    with ExitStack() as stack:
        marker = None
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                file = tempfile.NamedTemporaryFile(dir=folder.absolute(), prefix=f"{MARKER}{os.getpid()}-")  # noqa: SIM115 (on the stack)
            except OSError as problem:
                raise UsageError(f"{folder}: is not writable ({problem.strerror}); choose another folder") from None
            marker = stack.enter_context(file).name
        pool = _Pool(count or fitting, progress, Surroundings.of_command(marker), gpus_per_worker)
        stack.callback(pool.close)
        yield pool.map_unordered


def room(nodes: Sequence[Mapping[str, float]], gpus_per_worker: int) -> int:
    """Number of workers that fit a cluster: one for each core, or for each `gpus_per_worker` accelerators of a node.

    Args:
        nodes: resources of each node, as Ray names them.

    Raises:
        UsageError: the nodes have accelerators of several kinds, which round differently.
    """
    if not gpus_per_worker:
        return sum(int(node.get("CPU", 0)) for node in nodes)
    kinds = {name.removeprefix(_KIND) for node in nodes for name in node if name.startswith(_KIND)}
    if len(kinds) > 1:
        raise UsageError(
            f"--gpus-per-worker {gpus_per_worker}: the cluster has accelerators of several kinds "
            f"({', '.join(sorted(kinds))}), whose answers differ by rounding; join one with a single kind"
        )
    return sum(min(int(node.get("CPU", 0)), int(node.get("GPU", 0)) // gpus_per_worker) for node in nodes)


@dataclass(frozen=True, slots=True)
class Node:
    """A node as its first worker describes it."""

    name: str
    accelerators: Mapping[str, str]
    """Driver and models of its accelerators, as `provenance.accelerators` states them."""


def difference(one: Node, other: Node) -> str | None:
    """The first difference between the accelerators of two nodes, whose answers would differ by rounding."""
    for name in sorted({*one.accelerators, *other.accelerators}):
        here, there = other.accelerators.get(name, "unknown"), one.accelerators.get(name, "unknown")
        if here != there:
            remedy = "install the same driver on all nodes" if name == "driver" else "join nodes of one kind"
            return (
                f"node {other.name}: {name} is {here}, but {there} on node {one.name}; answers would differ by "
                f"rounding: {remedy}"
            )
    return None


@dataclass(slots=True)
class _Hand:
    """A worker as the command sees it."""

    actor: Any
    number: int
    shown: Shown
    node: str = "a node that it never reached"


@dataclass(frozen=True, slots=True, eq=False)
class _Attempt(Generic[T]):
    item: T
    deaths: int = 0
    not_before: float = 0.0


class _Pool:
    """Workers that live until closed, so that their imports serve several batches of items."""

    def __init__(self, count: int, progress: Progress, surroundings: Surroundings, gpus_per_worker: int) -> None:
        self.count, self.progress, self.surroundings = count, progress, surroundings
        self.uses_accelerators = gpus_per_worker > 0
        self.first: Node | None = None
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        actor: Any = ray.remote  # its annotations do not know these options
        self.news = actor(num_cpus=0, scheduling_strategy=here)(News).remote()
        self.hire = actor(num_cpus=1, num_gpus=gpus_per_worker, max_restarts=0, max_task_retries=0)(Worker).remote
        self.hands: dict[int, _Hand] = {}
        self.starting: dict[Any, _Hand] = {}
        self.idle: list[_Hand] = []
        self.busy: dict[Any, tuple[_Hand, _Attempt[Any]]] = {}
        self.hired = self.failed_starts = 0
        self.no_start_before = 0.0
        self.alone_since = 0.0

    def map_unordered(
        self, function: Callable[[T, Progress], R], items: Iterable[T]
    ) -> Iterator[tuple[T, R | WorkerLost]]:
        """Give the items to the workers, one at a time each, and yield results as they arrive."""
        more, waiting = iter(items), deque[_Attempt[T]]()
        self._look_round_again()
        self.alone_since = time.monotonic()
        try:
            while self._take(more, waiting) or waiting or self.busy:
                self._staff(len(waiting) + len(self.busy))
                self._hand_out(function, waiting)
                for done in self._wait():
                    if done in self.starting:
                        self._arrived(done)
                    else:
                        yield from self._finished(done, waiting)
        except KeyboardInterrupt:
            raise Interrupted([attempt.item for _, attempt in self.busy.values()]) from None
        finally:
            for hand, _ in self.busy.values():
                self._dismiss(hand)
            self.busy.clear()
            for hand in self.hands.values():
                hand.shown.close()

    def _take(self, more: Iterator[T], waiting: deque[_Attempt[T]]) -> bool:
        """Take items while there are fewer than workers, so that the most urgent goes to the next that is free."""
        taken = False
        while len(waiting) + len(self.busy) < self.count and (item := next(more, _NONE)) is not _NONE:
            waiting.append(_Attempt(item))
            taken = True
        return taken

    def _look_round_again(self) -> None:
        """Require an answer from each idle worker before it gets a task: its node may be gone."""
        while self.idle:
            self._ask(self.idle.pop())

    def _ask(self, hand: _Hand) -> None:
        self.starting[hand.actor.look_round.remote(self.surroundings)] = hand

    def _staff(self, tasks: int) -> None:
        """Start as many workers as there is work for."""
        while len(self.hands) < min(self.count, tasks) and time.monotonic() >= self.no_start_before:
            self.hired += 1
            hand = _Hand(self.hire(self.hired, self.news), self.hired, Shown(self.progress))
            self.hands[hand.number] = hand
            self._ask(hand)

    def _hand_out(self, function: Callable[[T, Progress], R], waiting: deque[_Attempt[T]]) -> None:
        while self.idle:
            due = next((attempt for attempt in waiting if attempt.not_before <= time.monotonic()), None)
            if due is None:
                return
            waiting.remove(due)
            hand = self.idle.pop()
            self.busy[hand.actor.work.remote(function, due.item)] = hand, due

    def _wait(self) -> list[Any]:
        """The references that are done, after waiting a moment; possibly none."""
        refs = [*self.starting, *self.busy]
        if refs:
            done, _ = ray.wait(refs, num_returns=1, timeout=_POLL_SECONDS)
        else:
            done = []
            time.sleep(_POLL_SECONDS)
        with suppress(RayError):  # bars are not worth a failure
            for number, message in ray.get(self.news.take.remote(), timeout=PATIENCE_SECONDS):
                if number in self.hands:
                    self.hands[number].shown.show(message)
        if self.idle or self.busy:
            self.alone_since = time.monotonic()
        elif time.monotonic() - self.alone_since > START_SECONDS:
            free = ray.available_resources().get("CPU", 0)
            raise RunError(
                f"no worker could be started within {START_SECONDS} s: the cluster has {free:g} cores free; "
                "try again when other jobs have finished, or with fewer --workers"
            )
        return done

    def _arrived(self, done: Any) -> None:
        """Handle a worker that reported its environment, or died before that."""
        hand = self.starting.pop(done)
        try:
            hand.node, problem, accelerators = ray.get(done)
        except RayError as death:
            self._dismiss(hand)
            self.failed_starts += 1
            if self.failed_starts >= TRIES and not self.idle and not self.busy:
                reason = str(death).strip().splitlines()[-1]
                raise RunError(f"workers die as they start, {self.failed_starts} in a row: {reason}") from None
            self.no_start_before = time.monotonic() + _pause(self.failed_starts)
            return
        if problem is not None:
            raise UsageError(f"node {hand.node}: {problem}")
        if self.uses_accelerators:
            node = Node(hand.node, accelerators)
            self.first = self.first or node
            if (found := difference(self.first, node)) is not None:
                raise UsageError(found)
        self.failed_starts = 0
        self.idle.append(hand)

    def _finished(self, done: Any, waiting: deque[_Attempt[T]]) -> Iterator[tuple[T, Any]]:
        """Handle a task that finished, or whose worker died."""
        hand, attempt = self.busy.pop(done)
        try:
            result = ray.get(done)
        except (RayTaskError, RaySystemError) as problem:  # the task or its result could not be sent
            raise RunError(f"node {hand.node}: {problem}") from None
        except RayError:
            self._dismiss(hand)
            self._look_round_again()
            deaths = attempt.deaths + 1
            if deaths == TRIES:
                why = f"killed, out of memory, or its node was lost; last on {hand.node}"
                yield attempt.item, WorkerLost(f"its worker died {deaths} times ({why})")
            else:
                waiting.append(replace(attempt, deaths=deaths, not_before=time.monotonic() + _pause(deaths)))
            return
        self.idle.append(hand)
        if isinstance(result, Raised):
            raise result.problem
        yield attempt.item, result

    def _dismiss(self, hand: _Hand) -> None:
        """Kill a worker. One that does not answer may still be running, and must not duplicate its task elsewhere."""
        del self.hands[hand.number]
        hand.shown.close()
        with suppress(RayError):
            ray.kill(hand.actor)

    def close(self) -> None:
        """Stop all workers immediately."""
        for hand in list(self.hands.values()):
            self._dismiss(hand)
        with suppress(RayError):
            ray.kill(self.news)


def _pause(failures: int) -> float:
    return float(_BACK_OFF_SECONDS * 2 ** (failures - 1))
