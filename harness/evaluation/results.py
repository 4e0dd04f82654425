"""The stored results of a plan, verified, with a reason for each result that is missing or refused.

    found = stored(connection, jobs, now)     # runs, their predictions, and what was refused
    evidence = of(connection, jobs)           # the same by model and split, ready to be judged

Everything that gates, boards, comparisons and baselines report about a plan comes through here. Labels and clusters are
taken from the splits that were just loaded, and those in the store must equal them. The key of a run must be the digest
of its spec, there must be one prediction for each example, and the predictions and the record of the run must match the
checksums that were stored with them. For weights, the store and the card beside them must agree.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

from harness import keys, provenance
from harness.errors import StoreError
from harness.evaluation.plan import current_keys
from harness.evaluation.scoring import Job
from harness.records import AdapterRecord, Baseline, Evidence, Outcomes, Place, Run, Split
from harness.stats import metrics
from harness.store import checksum, reader
from harness.store.connection import Connection
from harness.training import card

AGAIN = "evaluate the suite again"
RESTORE = "restore it, or delete that folder to train anew"


class Refusal(NamedTuple):
    """The reason for refusing a stored run, and the remedy."""

    fault: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.fault}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class Stored:
    """The stored results of a plan that passed verification, and the refusals."""

    runs: Mapping[str, Run]
    """By run key."""
    outcomes: Mapping[str, Outcomes]
    """By run id, with the labels and clusters of the plan's splits."""
    adapters: Mapping[str, AdapterRecord]
    """The weights of those runs by digest, as recorded in their folders."""
    refused: Mapping[str, Refusal]
    """By run key."""

    def check(self) -> None:
        """Raise StoreError, with every reason once, where anything was refused."""
        if self.refused:
            raise StoreError("\n".join(dict.fromkeys(map(str, self.refused.values()))))


def stored(connection: Connection, jobs: Sequence[Job], now: datetime | None = None) -> Stored:
    """Read and verify the latest successful run for every job of a plan.

    Args:
        now: UTC, without time zone; the current time if None.
    """
    keys = current_keys(jobs)
    latest = reader.latest_runs(connection, keys, now or provenance.now())
    all_times = reader.latest_runs(connection, keys)
    refused = {key: _of_the_future(run) for key, run in all_times.items() if key not in latest}
    sums = reader.sums(connection, [run.run_id for run in latest.values()])
    records = reader.adapters(connection, {job.adapter.adapter_digest for job in jobs if job.adapter is not None})
    runs: dict[str, Run] = {}
    outcomes: dict[str, Outcomes] = {}
    adapters: dict[str, AdapterRecord] = {}
    for split, here in _by_split([job for job in jobs if job.run_key in latest]):
        altered = reader.differing(connection, split)
        answers = reader.answers(connection, split, [latest[job.run_key].run_id for job in here])
        truth = _truth(split)
        for job in here:
            run = latest[job.run_key]
            answered = answers[run.run_id]
            problem = (
                _of_examples(split, altered)
                or _of_run(run, job, answered, sums.get(run.run_id))
                or _of_weights(job, records)
            )
            if problem is not None:
                refused[job.run_key] = problem
            elif answered is not None:
                runs[job.run_key] = run
                outcomes[run.run_id] = replace(truth, predicted=answered.predicted, scores=answered.scores)
                if job.adapter is not None:
                    adapters[job.adapter.adapter_digest] = job.adapter
    return Stored(runs, outcomes, adapters, refused)


def _by_split(jobs: Sequence[Job]) -> list[tuple[Split, list[Job]]]:
    found: dict[tuple[str, str], tuple[Split, list[Job]]] = {}  # two splits may share their rows but not their pairs
    for job in jobs:
        if job.blocked is None:
            found.setdefault((job.split.split_id, job.split.digest), (job.split, []))[1].append(job)
    return list(found.values())


def _truth(split: Split) -> Outcomes:
    """Build the outcomes of a split without predictions; all runs on the split share these arrays."""
    return metrics.of_split(split, np.zeros(0, dtype=np.int64), np.zeros(0))


def _of_the_future(run: Run) -> Refusal:
    return Refusal(
        f"{_named(run)}: ended in the future ({run.finished_at} UTC) because a clock was wrong, and would hide every "
        "later run",
        AGAIN,
    )


def _named(run: Run) -> str:
    seed = "" if run.seed is None else f" seed {run.seed}"
    return f"run {run.run_id[:12]} of {run.model_id}{seed} on {run.split_id}"


def _of_examples(split: Split, altered: int) -> Refusal | None:
    if not altered:
        return None
    return Refusal(
        f"the store has other examples of {split.split_id} than the rows that were just loaded: {altered:,} of "
        f"{len(split.examples):,} differ in label, cluster, text or place, so they were changed in the store",
        AGAIN,
    )


def _of_run(run: Run, job: Job, answered: reader.Answers | None, sums: reader.Sums | None) -> Refusal | None:
    """Check that a run is the one that was scored for this job; None if it is."""
    mine = (job.model.id, job.split.split_id, job.split.digest, job.seed, job.configuration)
    its = (run.model_id, run.split_id, run.split_digest, run.seed, run.configuration)
    if answered is None:
        fault = "its predictions are not exactly one per example"
    elif sums is None or sums.record is None:
        fault = "has no checksum, so it cannot be verified"
    elif sums.predictions != answered.checksum():
        fault = "its predictions have changed since they were stored"
    elif checksum.of_record(run, sums.predictions) != sums.record:
        fault = "its record has changed since it was stored"
    elif its != mine or keys.key(run.spec) != run.run_key:
        fault = "its key is not the digest of its record"
    else:
        return None
    return Refusal(f"{_named(run)}: {fault}", AGAIN)


_MEASURED = ("method", "n_trainable", "train_seconds", "peak_bytes", "size_bytes", "trained_on")
"""Fields of an adapter's record that gates and boards use."""


def _of_weights(job: Job, records: Mapping[str, AdapterRecord]) -> Refusal | None:
    """Check that store, card and folder agree on a job's weights; None if they do.

    Training the same weights twice takes a different time, so a card of another training is not compared.
    """
    mine, folder = job.adapter, job.ingredients.adapter_dir
    if mine is None or folder is None:
        return None
    if mine.size_bytes != (there := card.size_bytes(folder)):
        return Refusal(f"{folder}: its card says {mine.size_bytes:,} bytes, and {there:,} are there", RESTORE)
    known = records.get(mine.adapter_digest)
    if known is None or known.card.get("trained_at") != mine.card.get("trained_at"):
        return None
    for name in _MEASURED:
        here, stored_one = getattr(mine, name), getattr(known, name)
        if here != stored_one:
            fault = (
                f"{folder}: {name} is {here!r} on its card and {stored_one!r} in the store, so one of them was changed"
            )
            return Refusal(fault, RESTORE)
    return None


def outcomes_of(connection: Connection, run: Run) -> Outcomes:
    """Read the predictions of a stored run of any plan, and verify them against its checksums where it has any.

    Raises:
        StoreError: the predictions or the record differ from what was stored.
    """
    found, sums = reader.outcomes(connection, run.run_id), reader.sums(connection, [run.run_id]).get(run.run_id)
    if sums is not None and sums.predictions != checksum.of_predictions(found.predicted, found.scores):
        raise StoreError(f"{_named(run)}: its predictions have changed since they were stored; {AGAIN}")
    check_records(connection, [run.run_id])
    return found


def check_records(connection: Connection, run_ids: Collection[str]) -> None:
    """Verify the records of stored runs of any plan against their checksums where they have any.

    Raises:
        StoreError: a record differs from what was stored.
    """
    sums = reader.sums(connection, run_ids)
    for run in reader.runs_of(connection, run_ids):
        found = sums.get(run.run_id)
        if found is not None and found.record not in (None, checksum.of_record(run, found.predictions)):
            raise StoreError(f"{_named(run)}: its record has changed since it was stored; {AGAIN}")


def of(connection: Connection, jobs: Sequence[Job], baselines: Mapping[str, Baseline] | None = None) -> Evidence:
    """Collect the stored outcomes by model and split, for each place where no run is missing or refused."""
    return evidence_from(connection, jobs, stored(connection, jobs), baselines)


def evidence_from(
    connection: Connection, jobs: Sequence[Job], found: Stored, baselines: Mapping[str, Baseline] | None = None
) -> Evidence:
    """Do what `of` does with results that were already read."""
    missing: dict[Place, str] = {}
    present: dict[Place, list[Run]] = {}
    for job in jobs:
        place = (job.model.id, job.split.split_id)
        if job.blocked is None and job.run_key in found.runs:
            present.setdefault(place, []).append(found.runs[job.run_key])
        else:
            refusal = found.refused.get(job.run_key)
            missing[place] = job.blocked or (str(refusal) if refusal else _why_missing(connection, job))
    runs = {place: tuple(many) for place, many in present.items() if place not in missing}
    outcomes = {place: tuple(found.outcomes[run.run_id] for run in many) for place, many in runs.items()}
    examples = {job.split.split_id: job.split.examples for job in jobs}
    return Evidence(outcomes, runs, missing, found.adapters, examples, baselines or {})


def _why_missing(connection: Connection, job: Job) -> str:
    """Explain in one sentence, from the last run of the same suite, model, split and seed."""
    stand = (job.suite.name, job.model.id, job.split.split_id, job.seed)
    last = reader.last_attempt(connection, job.run_key, *stand)
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
    """Yield the paths at which two specs differ, such as `adapter.params.r`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from _changed(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif old != new:
        yield path
