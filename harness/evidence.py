"""What the store holds for a plan, ready to be judged; and of what it does not hold, why."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.jobs import current_keys
from harness.records import Baseline, Evidence, Outcomes, Place, Run
from harness.run import Job
from harness.store import reader
from harness.store.connection import Connection


def of(connection: Connection, jobs: Sequence[Job], baselines: Mapping[str, Baseline] | None = None) -> Evidence:
    """The stored outcomes of a plan, by model and split, where none of its runs is missing."""
    stored = reader.latest_runs(connection, current_keys(jobs))
    missing: dict[Place, str] = {}
    found: dict[Place, list[Run]] = {}
    for job in jobs:
        place = (job.model.id, job.split.split_id)
        if job.blocked is None and job.run_key in stored:
            found.setdefault(place, []).append(stored[job.run_key])
        else:
            stand = (job.suite.name, job.model.id, job.split.split_id, job.seed)
            missing[place] = job.blocked or _why_missing(job, reader.last_attempt(connection, job.run_key, *stand))
    runs = {place: tuple(many) for place, many in found.items() if place not in missing}
    outcomes: dict[Place, tuple[Outcomes, ...]] = {
        place: tuple(reader.outcomes(connection, run.run_id) for run in many) for place, many in runs.items()
    }
    digests = {run.adapter_digest for many in runs.values() for run in many if run.adapter_digest is not None}
    examples = {job.split.split_id: job.split.examples for job in jobs}
    return Evidence(outcomes, runs, missing, reader.adapters(connection, digests), examples, baselines or {})


def _why_missing(job: Job, last: Run | None) -> str:
    """In one sentence, from the last run of the same suite, model, split and seed."""
    if last is None:
        return f"{job.label} has no run in the store; evaluate the suite first"
    if last.run_key != job.run_key:
        changed = list(_changed(last.spec, job.spec))
        named = ", ".join(changed[:4]) + (", …" if len(changed) > 4 else "")
        return f"{job.label} is stale: it was last scored with another {named or 'input'}; evaluate the suite again"
    if last.status == "error":
        return f"{job.label} failed: {(last.error or '').strip().splitlines()[-1]}"
    return f"{job.label} was {last.status} and has no predictions; evaluate the suite again"


def _changed(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Where two specs differ, as `adapter.params.r`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from _changed(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif old != new:
        yield path
