"""The only writer of runs: takes results from workers in any order and in parts, and stores whole runs.

    ingester = Ingester(jobs, tasks, …)
    for task, done in …:
        ingester.take(task, done)      # stores complete runs, unless it did so a moment ago
    ingester.store()                   # stores the rest

Opening the file costs more than storing a run, so runs that finish within a moment of each other are stored together.
Waiting runs are kept in their shards: if the command is killed meanwhile, nothing needs to be scored again.
"""

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness import provenance
from harness.engine.timeline import Span
from harness.errors import RunError
from harness.evaluation import scoring, shards
from harness.evaluation.inputs import Workspace
from harness.evaluation.scoring import Job, Scored
from harness.evaluation.shards import Done, Shard, Task
from harness.records import Evidence, Run
from harness.store import writer
from harness.store.connection import opened


@dataclass(slots=True)
class Report:
    """Outcome of an evaluation."""

    scored: list[Run] = field(default_factory=list)
    reused: list[Run] = field(default_factory=list)
    failed: list[Run] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """Caveats for readers of the results."""
    notes: list[str] = field(default_factory=list)
    """The variants that `precision = "auto"` resolved to, and why."""
    damaged: list[str] = field(default_factory=list)
    """Files of scored parts that were damaged, so the parts were scored again."""
    explained: int = 0
    """Examples whose words were left out one by one."""
    explained_before: int = 0
    """Examples that were asked for and are stored already."""
    unexplained: list[str] = field(default_factory=list)
    """Models whose words are not explained, and why."""
    results: list[dict[str, Any]] = field(default_factory=list)
    """The primary metric of every requested model on every requested split, as far as stored."""
    spans: list[Span] = field(default_factory=list)
    """The tasks that were done, with times."""
    evidence: Evidence | None = None
    """The stored results that these come from; None until they are read."""

    @property
    def run_keys(self) -> set[str]:
        """Keys of the runs that succeeded, now or before."""
        return {run.run_key for run in (*self.scored, *self.reused)}

    def add(self, other: "Report") -> None:
        """Add what was done for other models."""
        self.scored += other.scored
        self.reused += other.reused
        self.failed += other.failed
        self.damaged += other.damaged

    @property
    def reasons(self) -> list[str]:
        """One line for each failed run, with the reason."""
        lines = []
        for run in self.failed:
            seed = "" if run.seed is None else f" seed {run.seed}"
            problem = ((run.error or "").strip().splitlines() or ["no reason was recorded"])[-1]
            lines.append(f"failed: {run.model_id}{seed} on {run.split_id}: {problem}")
        return lines


HOLD_SECONDS = 1.0
"""Shortest time between two openings of the file while more results are expected."""


class Ingester:
    """Store each run once: when all of its parts are there, or with the first reason why they never will be.

    Args:
        jobs: all jobs to be scored.
        tasks: all tasks of these jobs.
        evaluation_id: recorded for runs that were not scored at all.
    """

    def __init__(
        self, jobs: Sequence[Job], tasks: Sequence[Task], workspace: Workspace, evaluation_id: str, report: Report
    ) -> None:
        self.jobs = {job.run_key: job for job in jobs}
        self.unsettled = set(self.jobs)
        self.lacking = Counter[str]()
        """Number of shards still missing, by run key."""
        for piece in (piece for task in tasks for piece in task.pieces):
            self.lacking[piece.job.run_key] += len(piece.shards)
        self.workspace, self.evaluation_id, self.report = workspace, evaluation_id, report
        self.began = provenance.now()
        self.waiting = deque[Scored]()
        """Runs waiting to be stored."""
        self.opened_at = -HOLD_SECONDS

    def take(self, task: Task, done: Done) -> None:
        """Store the runs that this task completes, now or soon."""
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
        """Replace a task whose workers died each time.

        Its shards are retried one by one, to find the one that kills its worker. A single shard that does so is not
        retried, and its run is stored as failed.
        """
        if sum(len(piece.shards) for piece in task.pieces) > 1:
            return shards.one_shard_each(task)
        (piece,) = task.pieces
        problem = RunError(f"{reason}, each time it scored {_named(piece.shards[0])}")
        self._add([scoring.unfinished(piece.job, self.began, "error", problem)])
        return []

    def cancel(self, tasks: Sequence[Task], interruption: BaseException) -> None:
        """Store the runs that were under way as cancelled; scored parts are kept."""
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
        """Store the waiting runs, each in a transaction of its own."""
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
