"""The one place where runs go into the store: what workers send, in any order and in parts, whole runs in one piece.

    ingester = Ingester(jobs, tasks, …)
    for task, done in …:
        ingester.take(task, done)      # stores what is whole, unless it did so a moment ago
    ingester.store()                   # stores the rest

Opening the file costs more than storing a run, so runs that are done within a moment are stored together. What waits is
kept in its shards: of a command that is killed meanwhile nothing is scored again.
"""

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness import provenance
from harness.errors import RunError
from harness.evaluation import scoring, shards
from harness.evaluation.inputs import Workspace
from harness.evaluation.scoring import Job, Scored
from harness.evaluation.shards import Done, Shard, Task
from harness.records import Run
from harness.store import writer
from harness.store.connection import opened


@dataclass(slots=True)
class Report:
    """What an evaluation did."""

    scored: list[Run] = field(default_factory=list)
    reused: list[Run] = field(default_factory=list)
    failed: list[Run] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """Whatever a reader of the results must know."""
    notes: list[str] = field(default_factory=list)
    """The variants that `precision = "auto"` resolved to, and why."""
    damaged: list[str] = field(default_factory=list)
    """Files of scored parts that were not what they were, and were scored again."""
    results: list[dict[str, Any]] = field(default_factory=list)
    """The primary metric of every model on every split that was asked for, as far as stored."""

    @property
    def reasons(self) -> list[str]:
        """Why runs failed, a line each."""
        lines = []
        for run in self.failed:
            seed = "" if run.seed is None else f" seed {run.seed}"
            problem = ((run.error or "").strip().splitlines() or ["no reason was recorded"])[-1]
            lines.append(f"failed: {run.model_id}{seed} on {run.split_id}: {problem}")
        return lines


HOLD_SECONDS = 1.0
"""How long after it was opened the file is not opened again while there is more to come."""


class Ingester:
    """Stores each run once: when all of its parts are there, or with the first reason why they will not be.

    Args:
        jobs: what is to be scored.
        tasks: all of it.
        evaluation_id: of the runs that were not scored at all.
    """

    def __init__(
        self, jobs: Sequence[Job], tasks: Sequence[Task], workspace: Workspace, evaluation_id: str, report: Report
    ) -> None:
        self.jobs = {job.run_key: job for job in jobs}
        self.unsettled = set(self.jobs)
        self.lacking = Counter[str]()
        """Shards, by run."""
        for piece in (piece for task in tasks for piece in task.pieces):
            self.lacking[piece.job.run_key] += len(piece.shards)
        self.workspace, self.evaluation_id, self.report = workspace, evaluation_id, report
        self.began = provenance.now()
        self.waiting = deque[Scored]()
        """Runs to be stored."""
        self.opened_at = -HOLD_SECONDS

    def take(self, task: Task, done: Done) -> None:
        """Store what is whole with this task, now or soon."""
        scored, failed = list(done.scored), {one.run.run_key for one in done.scored if one.run.status != "success"}
        for piece in task.pieces:
            key = piece.job.run_key
            if not piece.is_all and key not in failed:
                self.lacking[key] -= len(piece.shards)
                if self.lacking[key] == 0:
                    scored.append(self._joined(self.jobs[key]))
        self.report.damaged += done.damaged
        self._add(scored)

    def lost(self, task: Task, reason: str) -> list[Task]:
        """What to do in place of a task whose workers died each time: its shards one by one, so that one that kills
        its worker is found; for such a one nothing, and its run is stored as failed."""
        if sum(len(piece.shards) for piece in task.pieces) > 1:
            return shards.singly(task)
        (piece,) = task.pieces
        what = RunError(f"{reason}, each time it scored {_named(piece.shards[0])}")
        self._add([scoring.unfinished(piece.job, self.began, "error", what)])
        return []

    def cancel(self, tasks: Sequence[Task], interruption: BaseException) -> None:
        """Have the runs that were under way stored as cancelled; parts that were scored are kept."""
        pieces = [piece for task in tasks for piece in task.pieces]
        self._add([scoring.unfinished(piece.job, self.began, "cancelled", interruption) for piece in pieces])

    def _joined(self, job: Job) -> Scored:
        try:
            return shards.joined(job, self.workspace.shards)
        except RunError as problem:
            return scoring.unfinished(job, self.began, "error", problem)

    def _add(self, many: Sequence[Scored]) -> None:
        self.waiting += many
        if self.waiting and time.monotonic() - self.opened_at >= HOLD_SECONDS:
            self.store()

    def store(self) -> None:
        """Store what waits, each run in a transaction of its own."""
        if not self.waiting:
            return
        with opened(self.workspace.db) as connection:
            self.opened_at = time.monotonic()
            while self.waiting:
                one = self.waiting.popleft()
                if one.run.run_key in self.unsettled:
                    stored = replace(one.run, evaluation_id=one.run.evaluation_id or self.evaluation_id)
                    writer.write_run(connection, stored, one.predictions)
                    self.unsettled.remove(stored.run_key)
                    (self.report.scored if stored.status == "success" else self.report.failed).append(stored)


def _named(shard: Shard) -> str:
    return f"{len(shard.examples)} examples from {shard.examples[0].example_id} on"
