"""From a suite to stored runs: train what is missing, score what is not yet stored.

The whole of it, as the command line does it::

    workspace = Workspace(Path("suites/quickstart.toml"), Path("runs/harness.duckdb"))
    with ENGINES["local"](2, progress) as map_unordered:
        jobs, report = bring_up_to_date(suite, workspace, map_unordered)

The models of one adapter are a chain of steps, `_bring_up_to_date`: train, check variants, score, measure. The
chains are independent of each other and share the engine's workers: while one adapter is trained, models that wait for
nothing are scored.
"""

import traceback
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeAlias

from harness import models
from harness.engine import Interrupted, MapUnordered, WorkerLost
from harness.engine.scheduler import Scheduler
from harness.errors import RunError, SuiteError
from harness.evaluation import expectations, forgetting, occlusion, parity, shards, unadapted, weights
from harness.evaluation import plan as plans
from harness.evaluation import results as evaluation_results
from harness.evaluation.forgetting import Measurement
from harness.evaluation.ingest import Ingester, Report
from harness.evaluation.inputs import ResolvedInputs, Workspace, audit_once, bases_of, gather
from harness.evaluation.occlusion import Explanation
from harness.evaluation.scoring import Job
from harness.evaluation.shards import Task
from harness.evaluation.weights import FoundWeights
from harness.models import device, nf4
from harness.models.classifier import CARD
from harness.progress import Progress
from harness.records import Forgetting, Occlusion, Outcomes, Place, Split
from harness.stats import estimates
from harness.store import reader, writer
from harness.store.connection import Connection, opened
from harness.suite.schema import Model, Suite
from harness.training import card
from harness.training import plan as training_plan
from harness.training.plan import TrainingJob

Failures: TypeAlias = dict[tuple[str, int], str]
"""Reasons why trainings failed, by adapter id and seed."""
FIT, TRAIN, CHECK, SCORE, INFORM = range(5)
"""Order of tasks that wait for a worker. Chains that begin with a training are the longest, and verdicts wait for
scores; audit and forgetting inform."""


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
    explain: bool = False,
) -> tuple[list[Job], Report]:
    """Train what is missing, score what is not yet stored.

    Args:
        suite: as in the file, or with the points of its curves (`curves.expanded`).
        map_unordered: an opened engine.
        model_ids: only these models; all where empty.
        split_ids: only these splits; all that nothing is trained on where empty.
        without: models and splits that are not scored; their weights are trained.
        limit: only the first so many examples of each split.
        fresh: score all of them, stored or not.
        explain: once all is scored, score some examples of each model and split without each of their words.

    Returns:
        Every job that the suite asks for, and a report of what was done, with warnings and notes.
    """
    wanted = [declared for declared in suite.model if not model_ids or declared.id in model_ids]
    models.check_installed(wanted)
    inputs = gather(suite, workspace, bases_of(suite, model_ids=[declared.id for declared in wanted]))
    _check_quantised(inputs)
    asked = _Asked(suite, inputs, workspace, split_ids, without, limit, fresh, explain, uuid.uuid4().hex)
    expectations.note(suite, asked.splits, workspace)
    scheduler = Scheduler(map_unordered)
    (outcome,) = scheduler.run([_bring_all_up_to_date(asked, wanted, scheduler)])
    jobs, report = asked.jobs(wanted, outcome.failures), outcome.report
    done = {job.adapter.adapter_digest for job in jobs if job.adapter is not None and job.run_key in report.run_keys}
    report.warnings = [
        *inputs.warnings,
        *outcome.audit,
        *_slow(suite, wanted, workspace.device),
        *(f"{job.label}: {job.warning}" for job in jobs if job.warning is not None),
        *report.damaged,
        *(problem for adapter_digest, problem in outcome.unmeasured if adapter_digest in done),
        *report.unexplained,
    ]
    report.notes = [f"{model_id}: {note}" for model_id, note in _notes(jobs).items()]
    report.spans = scheduler.spans
    return jobs, report


@dataclass(frozen=True, slots=True)
class _Asked:
    """The part of a suite's work that a call asks for."""

    suite: Suite
    inputs: ResolvedInputs
    workspace: Workspace
    split_ids: Collection[str]
    without: Collection[Place]
    limit: int | None
    fresh: bool
    explain: bool
    evaluation_id: str

    @property
    def splits(self) -> Mapping[str, Split]:
        """The splits to score, by id."""
        return plans.scored_splits(self.suite, self.inputs, split_ids=self.split_ids, limit=self.limit)

    def found(self, chain: Sequence[Model], failures: Failures) -> FoundWeights:
        """The weights of these models, and why there are none."""
        return weights.find(self.suite, chain, self.inputs, self.workspace, failures)

    def checks(self, chain: Sequence[Model], failures: Failures) -> list[parity.Check]:
        """The parity checks of these models."""
        ids, found = [declared.id for declared in chain], self.found(chain, failures)
        return plans.checks(self.suite, self.inputs, self.workspace, model_ids=ids, found=found)

    def jobs(self, chain: Sequence[Model], failures: Failures) -> list[Job]:
        """The jobs of these models."""
        planned = plans.plan(
            self.suite,
            self.inputs,
            self.workspace,
            model_ids=[declared.id for declared in chain],
            split_ids=self.split_ids,
            limit=self.limit,
            found=self.found(chain, failures),
        )
        return [job for job in planned if (job.model.id, job.split.split_id) not in self.without]


@dataclass(slots=True)
class _Outcome:
    """Outcome of one or more chains."""

    report: Report = field(default_factory=Report)
    failures: Failures = field(default_factory=dict)
    unmeasured: list[tuple[str, str]] = field(default_factory=list)
    """Digests of adapters, and why their forgetting could not be measured."""
    audit: list[str] = field(default_factory=list)
    """Warnings of the audit."""


async def _bring_all_up_to_date(asked: _Asked, wanted: Sequence[Model], scheduler: Scheduler) -> _Outcome:
    """Start every chain, and wait for all of them."""
    missing = missing_trainings(asked.inputs, _adapters_of(wanted))
    await refuse_misfits(asked.suite, missing, asked.workspace, scheduler)
    declared = asked.suite.declared
    splits = {rule.id: asked.inputs.splits[rule.id] for rule in declared.split}  # points are trained on parts of these
    audit = audit_once(declared, splits, asked.workspace, scheduler, INFORM)
    audited = scheduler.start(audit, "audit")
    chains = [
        scheduler.start(_bring_up_to_date(asked, chain, scheduler), name)
        for name, chain in _chains(asked, wanted, missing).items()
    ]
    whole = _Outcome()
    for chain in chains:
        outcome = await chain
        whole.report.add(outcome.report)
        whole.failures |= outcome.failures
        whole.unmeasured += outcome.unmeasured
    whole.audit = await audited
    if asked.explain:
        await scheduler.start(explain_missing(asked, wanted, whole, scheduler), "explained words")
    return whole


def _chains(asked: _Asked, wanted: Sequence[Model], missing: Sequence[TrainingJob]) -> dict[str, list[Model]]:
    """Group the models: one group for each adapter that is not trained and checked yet, and one for the others."""
    unready: set[str | None] = {job.adapter.id for job in missing}
    unready |= {check.model.adapter for check in parity.unmade(asked.checks(wanted, {}), asked.workspace)}
    chains: dict[str, list[Model]] = {}
    for declared in wanted:
        adapter = getattr(declared, "adapter", None)
        chains.setdefault(f"adapter {adapter}" if adapter in unready else "models without training", []).append(
            declared
        )
    return chains


async def _bring_up_to_date(asked: _Asked, chain: Sequence[Model], scheduler: Scheduler) -> _Outcome:
    """Train, check, score and measure some models, one step after the other."""
    missing = missing_trainings(asked.inputs, _adapters_of(chain))
    failures = await train(missing, asked.workspace, scheduler)
    await parity.bring_up_to_date(asked.checks(chain, failures), asked.workspace, scheduler, CHECK)
    jobs = asked.jobs(chain, failures)
    report, unmeasured = await scheduler.gather(
        score_missing(jobs, asked.workspace, scheduler, asked.evaluation_id, fresh=asked.fresh),
        measure_forgetting(
            [job for job in jobs if asked.suite.curve_of(job.model.id) is None], asked.workspace, scheduler
        ),
    )
    return _Outcome(report, failures, unmeasured)


def _adapters_of(wanted: Sequence[Model]) -> set[str]:
    return {used for declared in wanted if (used := getattr(declared, "adapter", None)) is not None}


def _check_quantised(inputs: ResolvedInputs) -> None:
    """Check that quantised bases can be computed on the chosen device, before anything is trained on them."""
    if inputs.device != device.PROCESSOR and any(base.quantisation for base in inputs.bases.values()):
        nf4.check_device(inputs.device)


def _slow(suite: Suite, wanted: Sequence[Model], kind: str) -> list[str]:
    if device.has_fast_bf16(kind) or not (slow := _in_bf16(suite, wanted)):
        return []
    this = "this processor" if kind == device.PROCESSOR else "this device"
    return [
        f"{this} does not multiply bf16 in hardware: {', '.join(slow)} will take many times as long as in "
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


def missing_trainings(inputs: ResolvedInputs, adapter_ids: Collection[str]) -> list[TrainingJob]:
    """List the trainings of these adapters, each with each of its seeds, whose weights are not there."""
    return [
        job for job in inputs.trainings.values() if job.adapter.id in adapter_ids and not (job.folder / CARD).is_file()
    ]


async def train_missing(
    suite: Suite,
    inputs: ResolvedInputs,
    workspace: Workspace,
    scheduler: Scheduler,
    adapter_ids: Collection[str],
) -> Failures:
    """Train these adapters, every seed whose weights are not there, and record each in the store.

    Returns:
        The reason for each training that failed. The others were trained.

    Raises:
        SuiteError: a method of one of these does not fit its base, or the installed PEFT; nothing was trained.
    """
    missing = missing_trainings(inputs, adapter_ids)
    await refuse_misfits(suite, missing, workspace, scheduler)
    return await train(missing, workspace, scheduler)


async def refuse_misfits(
    suite: Suite, missing: Sequence[TrainingJob], workspace: Workspace, scheduler: Scheduler
) -> None:
    """Refuse adapters that cannot be trained: unknown methods and params, and methods that do not fit base or task.

    Args:
        missing: trainings that are about to start; each adapter is tried once, whatever its seeds.

    Raises:
        SuiteError: lists every such adapter.
    """
    of_adapter = {job.adapter.id: job for job in reversed(missing)}
    misfits: dict[str, str] = {}
    async for job, reason in scheduler.map_unordered(_misfit, list(of_adapter.values()), FIT):
        if isinstance(reason, str):  # a training whose trial killed its workers fails by itself
            misfits[job.adapter.id] = reason
    positions = [(number, adapter.id) for number, adapter in enumerate(suite.adapter) if adapter.id in misfits]
    if positions:
        raise SuiteError([f"{workspace.suite_path}: adapter[{number}]: {misfits[name]}" for number, name in positions])


def _misfit(job: TrainingJob, progress: Progress) -> str | None:
    """In a worker: the reason why an adapter cannot be trained on its base and scored, or None if it can."""
    from harness.training import preflight

    return preflight.misfit(job)


async def train(missing: Sequence[TrainingJob], workspace: Workspace, scheduler: Scheduler) -> Failures:
    """Train, and record each adapter in the store.

    Returns:
        The reason for each training that failed. The others were trained.
    """
    failures: Failures = {}
    async for job, failure in scheduler.map_unordered(_train, missing, TRAIN):
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


async def score_missing(
    jobs: Sequence[Job], workspace: Workspace, scheduler: Scheduler, evaluation_id: str, *, fresh: bool = False
) -> Report:
    """Score the jobs that have no stored success, and store each run once all of it is scored.

    What of it an evaluation before this one scored, and was stopped before it stored, is not scored again.

    Args:
        evaluation_id: of the call of `harness evaluate`.
        fresh: score all of them, stored or not.

    Raises:
        Interrupted: after what was under way is stored as cancelled.
    """
    report = Report()
    if fresh:
        jobs = [replace(job, ingredients=replace(job.ingredients, likelihoods_dir=None)) for job in jobs]
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
            async for task, done in scheduler.map_unordered(shards.score, tasks, SCORE):
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


async def measure_forgetting(jobs: Sequence[Job], workspace: Workspace, scheduler: Scheduler) -> list[tuple[str, str]]:
    """Measure and store how far the jobs' adapters moved their bases, unless it is stored.

    Returns:
        What could not be measured, and why, with the digest of its adapter.
    """
    keys = {forgetting.key_of(job, job.adapter) for job in jobs if job.adapter is not None}
    with opened(workspace.db, read_only=True) as connection:
        known = {moved.key for moved in reader.forgetting(connection, keys)}
    problems = []
    async for measurement, found in scheduler.map_unordered(_measure, forgetting.wanted(jobs, known), INFORM):
        if not isinstance(found, list):
            reason = found.reason if isinstance(found, WorkerLost) else found
            problems.append((measurement.adapter_digest, f"{measurement.label} is not known: {reason}"))
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


async def explain_missing(asked: _Asked, wanted: Sequence[Model], whole: _Outcome, scheduler: Scheduler) -> None:
    """Explain examples of every model and split that are not explained yet. A model that fails leaves the others alone.

    Args:
        whole: gets the numbers of explained examples, and the reason for each model without any.
    """
    declared = [one for one in wanted if asked.suite.curve_of(one.id) is None]
    trained = [base_id for model, base_id in unadapted.trained_models(asked.suite) if model in declared]
    bases = {base.model_id for base_id in trained for base in unadapted.bases_of(asked.suite, base_id)}
    beside = [one for one in asked.suite.model if one.id in bases and one not in declared]
    jobs = asked.jobs([*declared, *beside], whole.failures)
    mine = {one.id for one in declared}
    with opened(asked.workspace.db, read_only=True) as connection:
        found = evaluation_results.stored(connection, jobs)
        known = {one.key for one in reader.occlusions(connection, [job.run_key for job in jobs])}
    todo, whole.report.explained_before = occlusion.wanted(jobs, found, known, mine)
    whole.report.unexplained += [f"{name}: {why}" for name, why in occlusion.skipped(jobs).items() if name in mine]
    async for explanation, done in scheduler.map_unordered(_explain, todo, INFORM):
        if not isinstance(done, list):
            reason = done.reason if isinstance(done, WorkerLost) else done
            whole.report.unexplained.append(f"{explanation.label} are not explained: {reason}")
            continue
        with opened(asked.workspace.db) as connection:
            writer.write_occlusions(connection, done)
        whole.report.explained += len(done)


def _explain(explanation: Explanation, progress: Progress) -> list[Occlusion] | str:
    """In a worker: explain, or say why not."""
    try:
        return occlusion.explain(explanation, progress)
    except Exception as problem:  # noqa: BLE001 (whatever a model does with a shortened text: the others go on)
        return (str(problem).strip().splitlines() or [type(problem).__name__])[0]


def _write_adapters(connection: Connection, jobs: Sequence[Job]) -> None:
    """Weights that come from elsewhere, or were trained before this store was made, are told to it too."""
    known = {job.adapter.adapter_digest: job.adapter for job in jobs if job.adapter is not None}
    for record in known.values():
        writer.write_adapter(connection, record)


def results(suite: Suite, found: Mapping[Place, Sequence[Outcomes]], jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """The primary metric of every model on every split of a plan, as far as stored: the rows that `evaluate` prints."""
    keys: dict[Place, list[str]] = {}
    for job in jobs:
        keys.setdefault((job.model.id, job.split.split_id), []).append(job.run_key)

    def row(place: Place) -> dict[str, Any]:
        seeds = found[place]
        generator = estimates.generator_for(keys[place])
        metric = estimates.summarise(suite.primary_metric, seeds, generator)
        return {"split": place[1], "model": place[0], "seeds": len(seeds), **asdict(metric)}

    rows = [row(place) for place in keys if place in found]
    order = [rule.id for rule in suite.split]
    return sorted(rows, key=lambda row: order.index(row["split"]))
