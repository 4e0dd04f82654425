"""From a suite to stored runs: train what is missing, score what is not yet stored.

The whole of it, as the command line does it::

    workspace = Workspace(Path("suites/quickstart.toml"), Path("runs/harness.duckdb"))
    with ENGINES["local"](2, progress) as map_unordered:
        jobs, report = bring_up_to_date(suite, workspace, map_unordered)
"""

import traceback
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from harness import models, provenance
from harness.engine import Interrupted, MapUnordered, WorkerLost
from harness.errors import RunError
from harness.evaluation import expectations, forgetting, parity, shards, weights
from harness.evaluation import results as evaluation_results
from harness.evaluation.forgetting import Measurement
from harness.evaluation.ingest import Ingester, Report
from harness.evaluation.inputs import ResolvedInputs, Workspace, audit_once, gather
from harness.evaluation.plan import checks, plan
from harness.evaluation.scoring import Job
from harness.evaluation.shards import Task
from harness.models.classifier import CARD
from harness.progress import Progress, silent
from harness.records import Forgetting, Outcomes, Place
from harness.stats import estimates
from harness.store import reader, writer
from harness.store.connection import Connection, opened
from harness.suite.schema import Model, Suite
from harness.training import card
from harness.training import plan as training_plan
from harness.training.plan import TrainingJob


def bring_up_to_date(
    suite: Suite,
    workspace: Workspace,
    map_unordered: MapUnordered,
    *,
    model_ids: Collection[str] = (),
    split_ids: Collection[str] = (),
    without: Collection[Place] = (),
    limit: int | None = None,
    fresh: bool = False,
    progress: Progress = silent,
) -> tuple[list[Job], Report]:
    """Train what is missing, score what is not yet stored.

    Args:
        map_unordered: an opened engine.
        model_ids: only these models; all where empty.
        split_ids: only these splits; all that nothing is trained on where empty.
        without: models and splits that are not scored; their weights are trained.
        limit: only the first so many examples of each split.
        fresh: score all of them, stored or not.
        progress: of the steps that this process takes itself.

    Returns:
        Every job that the suite asks for, and a report of what was done, with warnings and notes.
    """
    wanted = [declared for declared in suite.model if not model_ids or declared.id in model_ids]
    models.check_installed(wanted)
    inputs = gather(suite, workspace)
    audited = audit_once(suite, inputs.splits, workspace, progress)
    failures = train_missing(suite, inputs, workspace, map_unordered, _adapters_of(wanted))
    found = weights.find(suite, wanted, inputs, workspace, failures)
    variants = checks(suite, inputs, workspace, model_ids=model_ids, found=found)
    parity.bring_up_to_date(variants, workspace, map_unordered)
    jobs = plan(suite, inputs, workspace, model_ids=model_ids, split_ids=split_ids, limit=limit, found=found)
    expectations.note(suite, jobs, workspace)
    jobs = [job for job in jobs if (job.model.id, job.split.split_id) not in without]
    report = evaluate(jobs, workspace, map_unordered, fresh=fresh)
    done = {run.run_key for run in (*report.scored, *report.reused)}
    unmeasured = measure_forgetting([job for job in jobs if job.run_key in done], workspace, map_unordered)
    report.warnings = [
        *inputs.warnings,
        *audited,
        *_slow(suite, wanted),
        *(f"{job.label}: {job.warning}" for job in jobs if job.warning is not None),
        *report.damaged,
        *unmeasured,
    ]
    report.notes = [f"{model_id}: {note}" for model_id, note in _notes(jobs).items()]
    return jobs, report


def _adapters_of(wanted: Sequence[Model]) -> set[str]:
    return {used for declared in wanted if (used := getattr(declared, "adapter", None)) is not None}


def _slow(suite: Suite, wanted: Sequence[Model]) -> list[str]:
    if provenance.has_fast_bf16() or not (slow := _in_bf16(suite, wanted)):
        return []
    return [
        f"this processor does not multiply bf16 in hardware: {', '.join(slow)} will take many times as long as in "
        "fp32; precision = 'auto' is bf16 only where that is fast"
    ]


def _notes(jobs: Sequence[Job]) -> dict[str, str]:
    """The variant that `precision = "auto"` resolved to and the reason, by model."""
    return {job.model.id: job.note for job in jobs if job.note is not None}


def _in_bf16(suite: Suite, wanted: Sequence[Model]) -> list[str]:
    """Names of models, and of adapters that they need trained, that ask for bf16 in torch whatever the processor."""
    used = {getattr(declared, "adapter", None) for declared in wanted}
    trained = [one.id for one in suite.trained_adapters if one.id in used and one.train.precision == "bf16"]
    scored = [
        declared.id
        for declared in wanted
        if getattr(declared, "precision", None) == "bf16" and getattr(declared, "runtime", "torch") == "torch"
    ]
    return [*(f"the training of {name}" for name in trained), *scored]


def train_missing(
    suite: Suite,
    materials: ResolvedInputs,
    workspace: Workspace,
    map_unordered: MapUnordered,
    adapter_ids: Collection[str],
) -> dict[tuple[str, int], str]:
    """Train these adapters, every seed whose weights are not there, and record each in the store.

    Args:
        map_unordered: an opened engine.

    Returns:
        The reason for each training that failed, by adapter id and seed. The others were trained.

    Raises:
        SuiteError: a method of one of these does not fit its base, or the installed PEFT; nothing was trained.
    """
    missing = [
        job
        for job in materials.trainings.values()
        if job.adapter.id in adapter_ids and not (job.folder / CARD).is_file()
    ]
    if not missing:
        return {}
    from harness.training import preflight

    preflight.check(suite, missing, str(workspace.suite_path))
    failures: dict[tuple[str, int], str] = {}
    for job, failure in map_unordered(_train, missing):
        if failure is not None:
            reason = failure.reason if isinstance(failure, WorkerLost) else failure
            failures[job.adapter.id, job.seed] = reason
            training_plan.note_failure(job, reason)
            continue
        training_plan.forget_failure(job)
        with opened(workspace.db) as connection:
            writer.write_adapter(connection, card.read(job.folder))
    return failures


def _train(job: TrainingJob, progress: Progress) -> str | None:
    """In a worker: train, or say why not."""
    from harness.training.train import train

    try:
        train(job, progress)
    except RunError as problem:
        return str(problem)
    except Exception as problem:  # noqa: BLE001 (one adapter that cannot be trained does not stop the others)
        return "".join(traceback.format_exception(problem))
    return None


def evaluate(jobs: Sequence[Job], workspace: Workspace, map_unordered: MapUnordered, *, fresh: bool = False) -> Report:
    """Score the jobs that have no stored success, and store each run once all of it is scored.

    What of it an evaluation before this one scored, and was stopped before it stored, is not scored again.

    Args:
        map_unordered: an opened engine.
        fresh: score all of them, stored or not.

    Raises:
        Interrupted: after what was under way is stored as cancelled.
    """
    report, evaluation_id = Report(), uuid.uuid4().hex
    with opened(workspace.db) as connection:
        held = evaluation_results.stored(connection, [] if fresh else jobs)
        stored = held.runs
        for job in jobs:
            if job.run_key not in stored:
                writer.write_split(connection, job.suite.name, job.split, with_text=job.suite.text.store)
        _write_adapters(connection, jobs)
    report.reused = list(stored.values())
    report.damaged = [f"{one.fault}; it is scored again" for one in dict.fromkeys(held.refused.values())]
    todo = [job for job in jobs if job.run_key not in stored]
    tasks = shards.make_tasks(todo, workspace.shards, evaluation_id, fresh=fresh)
    ingester = Ingester(todo, tasks, workspace, evaluation_id, report)
    try:
        while tasks:
            again: list[Task] = []
            for task, done in map_unordered(shards.score, tasks):
                if isinstance(done, WorkerLost):
                    again += ingester.lost(task, done.reason)
                else:
                    ingester.take(task, done)
            tasks = again
    except Interrupted as interruption:
        ingester.cancel(interruption.under_way, interruption)
        raise
    finally:
        ingester.store()
    return report


def measure_forgetting(jobs: Sequence[Job], workspace: Workspace, map_unordered: MapUnordered) -> list[str]:
    """Measure and store how far the jobs' adapters moved their bases, unless it is stored.

    Returns:
        What could not be measured, and why.
    """
    keys = {forgetting.key_of(job, job.adapter) for job in jobs if job.adapter is not None}
    with opened(workspace.db, read_only=True) as connection:
        known = {moved.key for moved in reader.forgetting(connection, keys)}
    problems = []
    for measurement, found in map_unordered(_measure, forgetting.wanted(jobs, known)):
        if not isinstance(found, list):
            reason = found.reason if isinstance(found, WorkerLost) else found
            problems.append(f"{measurement.label} is not known: {reason}")
            continue
        with opened(workspace.db) as connection:
            writer.write_forgetting(connection, found)
    return problems


def _measure(measurement: Measurement, progress: Progress) -> list[Forgetting] | str:
    """In a worker: measure, or say why not."""
    try:
        return forgetting.measure(measurement, progress)
    except Exception as problem:  # noqa: BLE001 (whatever an encoder does: its scores are stored, and others go on)
        return (str(problem).strip().splitlines() or [type(problem).__name__])[0]


def _write_adapters(connection: Connection, jobs: Sequence[Job]) -> None:
    """Weights that come from elsewhere, or were trained before this store was made, are told to it too."""
    known = {job.adapter.adapter_digest: job.adapter for job in jobs if job.adapter is not None}
    for record in known.values():
        writer.write_adapter(connection, record)


def results(suite: Suite, found: Mapping[Place, Sequence[Outcomes]], jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """The primary metric of every model on every split of a plan, as far as stored: the rows that `evaluate` prints."""
    rows: list[dict[str, Any]] = []
    for model_id, split_id in dict.fromkeys((job.model.id, job.split.split_id) for job in jobs):
        seeds = found.get((model_id, split_id))
        if seeds is not None:
            keys = [job.run_key for job in jobs if (job.model.id, job.split.split_id) == (model_id, split_id)]
            generator = estimates.generator_for(suite.primary_metric, keys)
            metric = estimates.summarise(suite.primary_metric, seeds, generator)
            rows.append({"split": split_id, "model": model_id, "seeds": len(seeds), **asdict(metric)})
    order = [rule.id for rule in suite.split]
    return sorted(rows, key=lambda row: order.index(row["split"]))
