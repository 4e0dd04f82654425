"""From a suite to stored runs: train what is missing, score what is not yet stored.

The whole of it, as the command line does it::

    workspace = Workspace(Path("suites/quickstart.toml"), Path("runs/harness.duckdb"))
    materials = gather(suite, workspace)
    with ENGINES["local"](2, progress) as each_done:
        untrainable = train_missing(suite, materials, workspace, each_done)
        report = evaluate(plan(suite, materials, workspace, untrainable=untrainable), workspace, each_done)
"""

import traceback
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

from harness import metrics, provenance, run, training
from harness.declarations import Suite
from harness.engine import EachDone, Interrupted
from harness.errors import RunError
from harness.gather import Materials, Workspace
from harness.jobs import current_keys
from harness.models.protocol import CARD, Classifier
from harness.progress import Progress
from harness.records import Outcomes, Run
from harness.run import Job, Scored
from harness.store import reader, writer
from harness.store.connection import Connection, opened
from harness.training import TrainingJob, card


@dataclass(slots=True)
class Report:
    """What an evaluation did."""

    scored: list[Run] = field(default_factory=list)
    reused: list[Run] = field(default_factory=list)
    failed: list[Run] = field(default_factory=list)


def train_missing(
    suite: Suite, materials: Materials, workspace: Workspace, each_done: EachDone, adapter_ids: Collection[str] = ()
) -> dict[tuple[str, int], str]:
    """Train every adapter and seed whose weights are not there, and tell the store of each.

    Args:
        each_done: an opened engine.
        adapter_ids: only these; all where empty.

    Returns:
        Why there are no weights, by adapter id and seed, for those whose training failed. The others were trained.

    Raises:
        SuiteError: the installed PEFT does not know a method or one of its params; nothing was trained.
    """
    missing = [
        job
        for job in training.jobs(suite, materials.splits, materials.bases, workspace.adapters)
        if (not adapter_ids or job.adapter.id in adapter_ids) and not (job.folder / CARD).is_file()
    ]
    if not missing:
        return {}
    from harness.training import methods

    methods.check(suite.adapter, str(workspace.suite_path))
    failures: dict[tuple[str, int], str] = {}
    for job, failure in each_done(_train, missing):
        if failure is not None:
            failures[job.adapter.id, job.seed] = failure
            continue
        with opened(workspace.db) as connection:
            writer.write_adapter(connection, card.read(job.folder))
    return failures


def _train(job: TrainingJob, progress: Progress) -> str | None:
    """In a worker: train, or say why not."""
    from harness.training import loop

    try:
        loop.train(job, progress)
    except RunError as problem:
        return str(problem)
    except Exception as problem:  # noqa: BLE001 (one adapter that cannot be trained does not stop the others)
        return "".join(traceback.format_exception(problem))
    return None


def evaluate(jobs: Sequence[Job], workspace: Workspace, each_done: EachDone, *, fresh: bool = False) -> Report:
    """Score the jobs that have no stored success, and store each model's runs as soon as they are done.

    Args:
        each_done: an opened engine.
        fresh: score all of them, stored or not.

    Raises:
        Interrupted: after what was under way is stored as cancelled.
    """
    report = Report()
    with opened(workspace.db) as connection:
        stored = {} if fresh else reader.latest_runs(connection, current_keys(jobs))
        for job in jobs:
            if job.run_key not in stored:
                writer.write_split(connection, job.suite.name, job.split, with_text=job.suite.text.store)
        _write_adapters(connection, jobs)
    report.reused = list(stored.values())
    todo = [job for job in jobs if job.run_key not in stored]
    one_load_each = [list(group) for _, group in groupby(todo, key=lambda job: (job.model.id, job.seed))]
    began = provenance.now()
    try:
        for _, many in each_done(_score, one_load_each):
            _store(many, workspace, report)
    except Interrupted as interruption:
        cut = [job for group in interruption.under_way for job in group]
        _store([run.unfinished(job, began, "cancelled", interruption) for job in cut], workspace, report)
        raise
    return report


def _score(jobs: Sequence[Job], progress: Progress) -> list[Scored]:
    """In a worker: load one model and score it on all its splits. A run that fails is an outcome, not an exception."""
    from threadpoolctl import threadpool_limits

    classifier: Classifier | None = None
    done = []
    for job in jobs:
        began = provenance.now()
        try:
            with threadpool_limits(1), progress(job.label, len(job.split.examples)) as advance:
                classifier = classifier or run.load(job)
                done.append(run.score(job, classifier, advance))
        except Exception as problem:  # noqa: BLE001 (whatever a model does, it is stored and the others go on)
            done.append(run.unfinished(job, began, "error", problem))
    return done


def _store(many: Sequence[Scored], workspace: Workspace, report: Report) -> None:
    with opened(workspace.db) as connection:
        for scored in many:
            writer.write_run(connection, scored.run, scored.predictions)
            (report.scored if scored.run.status == "success" else report.failed).append(scored.run)


def _write_adapters(connection: Connection, jobs: Sequence[Job]) -> None:
    """Weights that were trained before this store was made are told to it too."""
    folders = {job.ingredients.adapter_dir for job in jobs if job.adapter_digest is not None}
    for folder in sorted(folder for folder in folders if folder is not None):
        writer.write_adapter(connection, card.read(folder))


def evidence(
    connection: Connection, jobs: Sequence[Job]
) -> tuple[dict[tuple[str, str], list[Outcomes]], dict[tuple[str, str], str]]:
    """What the store holds for a plan.

    Returns:
        By model and split: the outcomes of all its seeds; and, for those of which a run is missing, what is missing.
    """
    runs = reader.latest_runs(connection, current_keys(jobs))
    found: dict[tuple[str, str], list[Outcomes]] = {}
    missing: dict[tuple[str, str], str] = {}
    for job in jobs:
        place = (job.model.id, job.split.split_id)
        if job.blocked is None and job.run_key in runs:
            found.setdefault(place, []).append(reader.outcomes(connection, runs[job.run_key].run_id))
        else:
            missing[place] = job.blocked or f"{job.label} has no current run in the store; evaluate the suite first"
    return {place: many for place, many in found.items() if place not in missing}, missing


def results(connection: Connection, suite: Suite, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """The primary metric of every model on every split of a plan, as far as stored: the rows that `evaluate` prints."""
    found, _ = evidence(connection, jobs)
    rows: list[dict[str, Any]] = []
    for model_id, split_id in dict.fromkeys((job.model.id, job.split.split_id) for job in jobs):
        seeds = found.get((model_id, split_id))
        if seeds is not None:
            keys = [job.run_key for job in jobs if (job.model.id, job.split.split_id) == (model_id, split_id)]
            generator = metrics.generator_for(suite.primary_metric, keys)
            metric = metrics.summarise(suite.primary_metric, seeds, generator)
            rows.append({"split": split_id, "model": model_id, "seeds": len(seeds), **asdict(metric)})
    order = [rule.id for rule in suite.split]
    return sorted(rows, key=lambda row: order.index(row["split"]))
