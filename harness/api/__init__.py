"""The public API: a suite opened as a project, and one function for each thing that one does with it.

    import harness

    project = harness.open("suites/quickstart.toml")
    report = harness.evaluate(project, models=["tfidf"])
    harness.judge(project).passed
    harness.results(project)                     # a pandas DataFrame
    harness.compare(project, "minilm+lora-r8", "minilm-probe")
    harness.render(project, "site")

The verbs of the command line are these functions with their results printed. Whatever is slow to import is imported
by the function that needs it. What concerns sites, stores without a suite and the formats of others has a module each.
"""

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api import boards
from harness.api.interchange import HandedOut as HandedOut
from harness.api.interchange import export_results as export_results
from harness.api.interchange import import_answers as import_answers
from harness.api.project import Project as Project
from harness.api.project import expand, planned
from harness.api.sites import Site as Site
from harness.api.sites import check_site as check_site
from harness.api.sites import render as render
from harness.api.stores import clear_store as clear_store
from harness.api.stores import export_runs as export_runs
from harness.api.stores import import_runs as import_runs
from harness.api.stores import verify_store as verify_store
from harness.artifacts import digest
from harness.errors import UsageError, check_known
from harness.models import device as devices
from harness.progress import Progress, silent
from harness.suite.load import load
from harness.suite.schema import Suite

if TYPE_CHECKING:
    import pandas as pd

    from harness.engine import MapUnordered
    from harness.evaluation.ingest import Report
    from harness.evaluation.inputs import PinnedData
    from harness.evaluation.scoring import Job
    from harness.evaluation.weights import Weights
    from harness.gates.baseline_file import BaselineSummary
    from harness.gates.compare import Compared, Comparison
    from harness.gates.power import Assumption, PowerEstimate
    from harness.gates.service import Judged
    from harness.gates.watch import Watch
    from harness.records import Evidence, Parity, Place
    from leaderboard.board.answers import Answer
    from leaderboard.board.curves import CurveResult
    from leaderboard.board.records import Board

DEFAULT_DB = Path("runs/harness.duckdb")
"""The store, unless `HARNESS_DB` or an argument names another."""


def open(path: str | os.PathLike[str], db: str | os.PathLike[str] | None = None, device: str | None = None) -> Project:
    """Load a suite file; nothing is fetched, trained or stored.

    Args:
        path: a suite file.
        db: the store; `$HARNESS_DB` where it is None, and `runs/harness.duckdb` where that is unset too.
        device: `cpu`, `cuda`, `mps`, or `auto` for this machine's accelerator; `$HARNESS_DEVICE` where it is None, and
            the processor where that is unset too.

    Raises:
        UsageError: there is no such kind of device.
        SuiteError: the file is not there or declares something impossible. All problems are listed.
    """
    chosen = Path(db) if db is not None else Path(os.environ.get("HARNESS_DB") or DEFAULT_DB)
    return Project(load(Path(path)), Path(path), chosen, devices.resolve(device))


def evaluate(
    project: Project,
    *,
    models: Collection[str] = (),
    splits: Collection[str] = (),
    curves: Collection[str] = (),
    without: "Collection[Place]" = (),
    engine: str = "local",
    workers: int | None = None,
    address: str | None = None,
    gpus_per_worker: int = 0,
    limit: int | None = None,
    fresh: bool = False,
    explain: bool = False,
    progress: Progress = silent,
) -> "Report":
    """Train what is missing and score what is not yet stored: every model, and every point of every curve.

    Args:
        models: only these, and no curve that `curves` does not name; all where both are empty.
        splits: only these of the scored splits; all where empty.
        curves: only the points of these curves and the models that are their flat lines, on the curves' splits where
            `models` names none; and what `models` names.
        without: models and splits, as pairs of ids, that are left to gates which stop early.
        engine: a key of `harness.engine.ENGINES`.
        workers: processes at once; one per core where None.
        address: of a Ray cluster to join.
        gpus_per_worker: accelerators that Ray reserves for each worker.
        limit: only the first so many examples of each split.
        fresh: score again what is stored.
        explain: also score up to 12 examples of each model and split without each of their words, unless that is
            stored: up to 396 texts each. The example browser marks the words that moved a score.

    Raises:
        UsageError: the suite declares no such model, split or curve; or words are to be explained that its site may not
            show.
        DataError: an input cannot be had or is not what was pinned.
        LeakError: a scored split shares texts with a training split, and the suite forbids it.
    """
    from harness.engine import local
    from harness.evaluation import results as stored
    from harness.evaluation.evaluate import bring_up_to_date
    from harness.evaluation.evaluate import results as primary_results
    from harness.models import slow_imports
    from harness.store.connection import opened

    check_known("model", models, project.models)
    check_known("split to score", splits, project.scored_splits)
    check_known("curve", curves, [curve.id for curve in project.suite.curve])
    if explain and not project.suite.text.store:
        raise UsageError(
            f"{project.path}: text.store is false, so the site may not show the words that would be explained; set it "
            "to true, or evaluate without explaining"
        )
    workspace = project.workspace
    if curves and not splits and not models:
        splits = {curve.split for curve in project.suite.curve if curve.id in curves}
    suite, wanted = expand(project, models, splits, curves)
    imports = slow_imports(declared for declared in suite.model if not wanted or declared.id in wanted)
    if engine == "local" and not project.db.is_file():  # there is something to do
        local.start_importing(imports, workers)
    with (
        digest.remembering(workspace.digests),
        _engine(project, engine, imports, workers, address, gpus_per_worker, progress) as map_unordered,
    ):
        jobs, report = bring_up_to_date(
            suite,
            workspace,
            map_unordered,
            model_ids=wanted,
            split_ids=splits,
            without=without,
            limit=limit,
            fresh=fresh,
            explain=explain,
        )
    with opened(workspace.db, read_only=True) as connection:  # and not while intervals are worked out
        report.evidence = stored.of(connection, jobs)
    declared = [job for job in jobs if project.suite.curve_of(job.model.id) is None]
    report.results = primary_results(project.suite, report.evidence.outcomes, declared)
    return report


@contextmanager
def _engine(
    project: Project,
    name: str,
    imports: Sequence[str],
    workers: int | None,
    address: str | None,
    gpus_per_worker: int,
    progress: Progress,
) -> "Iterator[MapUnordered]":
    """Open an engine for a project, once its device is known to be there if this machine computes."""
    from harness.engine import ENGINES

    check_known("engine", [name], ENGINES)
    if name == "local":
        devices.check_present(project.device)
    folder = project.db.parent
    with ENGINES[name](
        workers, progress, address=address, folder=folder, imports=imports, gpus_per_worker=gpus_per_worker
    ) as map_unordered:
        yield map_unordered


def train(
    project: Project,
    *,
    adapters: Collection[str] = (),
    engine: str = "local",
    workers: int | None = None,
    address: str | None = None,
    gpus_per_worker: int = 0,
    progress: Progress = silent,
) -> "tuple[list[Weights], list[str]]":
    """Train the suite's adapters that are not there yet.

    Args:
        adapters: only these; all where empty.
        engine, workers, address, gpus_per_worker, progress: as for `evaluate`.

    Returns:
        The trained weights, one for each adapter and seed, and the reason for each training that failed.

    Raises:
        UsageError: the suite trains no such adapter.
        SuiteError: a method does not fit its base, or the installed PEFT; nothing was trained.
    """
    from harness.engine.scheduler import complete
    from harness.evaluation.evaluate import train_missing
    from harness.evaluation.inputs import bases_of, gather
    from harness.evaluation.weights import MissingWeights, Weights, trained_here
    from harness.models import SLOW_IMPORTS

    trainable = [declared.id for declared in project.suite.trained_adapters]
    check_known("adapter to train", adapters, trainable)
    suite, workspace, wanted = project.suite, project.workspace, adapters or trainable
    with (
        digest.remembering(workspace.digests),
        _engine(project, engine, SLOW_IMPORTS, workers, address, gpus_per_worker, progress) as map_unordered,
    ):
        inputs = gather(suite, workspace, bases_of(suite, adapter_ids=wanted))
        failures = complete(map_unordered, lambda scheduler: train_missing(suite, inputs, workspace, scheduler, wanted))
    found = [trained_here(job, failures.get(key)) for key, job in inputs.trainings.items() if key[0] in wanted]
    trained = [one for one in found if isinstance(one, Weights)]
    return trained, [one.reason for one in found if isinstance(one, MissingWeights)]


def judge(
    project: Project, *, against: str | None = None, sequential: bool = False, progress: Progress = silent
) -> "Judged":
    """Judge the suite's gates and expectations on the stored runs, and store the verdicts.

    Args:
        against: the baseline that every rule about a baseline is judged against: a `.parquet` file, a baseline's name,
            a commit or tag, or a UTC time. None: the one that each rule names.
        sequential: score what is not stored block by block, until the rule that asks for it passes or fails.

    Raises:
        UsageError: the suite declares no gates, or `against` names nothing.
        StoreError: there is no store.
    """
    from harness.gates.service import judge_stored

    if not project.suite.gate:
        raise UsageError(f"{project.path}: gate: the suite declares no gates")
    with digest.remembering(project.workspace.digests):
        return judge_stored(project.suite, project.workspace, against=against, sequential=sequential, progress=progress)


def compare(project: Project, model_a: str, model_b: str, *, splits: Collection[str] = ()) -> "Compared":
    """Compare two models on their stored runs, split by split; a difference is A minus B.

    Args:
        splits: only these; all that both ran on where empty.

    Raises:
        UsageError: a model or split is unknown, or has no current runs.
        StoreError: there is no store.
    """
    from harness.gates.compare import Compared, side
    from harness.gates.compare import compare as compare_sides

    check_known("model", [model_a, model_b], project.models)
    if model_a == model_b:
        raise UsageError(f"{model_a} would be compared with itself; name two models")
    found = evidence(project, models=[model_a, model_b], splits=splits)
    reasons = {
        (model_id, split_id): found.missing.get((model_id, split_id), f"{model_id} is not scored on {split_id}")
        for model_id in (model_a, model_b)
        for split_id in found.examples
        if (model_id, split_id) not in found.outcomes
    }
    missing = {split_id for _, split_id in reasons}
    if missing and (splits or len(missing) == len(found.examples)):
        raise UsageError("\n".join(reasons.values()))
    names, primary = [metric.name for metric in project.suite.metric], project.suite.primary_metric

    def on(split_id: str) -> "Comparison":
        a, b = side(found, model_a, split_id), side(found, model_b, split_id)
        shows = project.suite.text.store
        return compare_sides(split_id, found.examples[split_id], a, b, names, primary, with_text=shows)

    wanted = [split_id for split_id in found.examples if split_id not in missing]
    return Compared(tuple(map(on, wanted)), tuple(reasons.values()), _texts(project.suite, found))


def _texts(suite: Suite, found: "Evidence") -> dict[str, str]:
    """Texts as the model reads them, by example id; empty where the suite does not store texts."""
    if not suite.text.store:
        return {}
    return {
        one.example_id: suite.text.render(one.title, one.content)
        for examples in found.examples.values()
        for one in examples
    }


def results(project: Project) -> "pd.DataFrame":
    """Every metric of every model on every scored split, from the stored runs.

    Returns:
        One row for each split, model and metric, in the leaderboard's order, with the columns `split`, `model`,
        `metric`, `value`, `ci_low`, `ci_high` (ends of the 95 % interval), `n` (examples), `n_seeds`, `tier`, and the
        costs `n_trainable`, `size_bytes`, `train_seconds`, `examples_per_second`. An absent number is NaN or <NA>.
    """
    from leaderboard.site import downloads

    return downloads.frame(board(project))


def answers(project: Project, found: "Evidence") -> "tuple[Answer, ...]":
    """Every model with trained weights against its base on the first split that has results, gated models first.

    Args:
        found: stored results, as from `evidence`, `judge` or `evaluate`.
    """
    from leaderboard.board.answers import of_evidence

    gated = {gate.model for gate in project.suite.gate}
    first = next(iter(of_evidence(project.suite, found, project.scored_splits).values()), ())
    return tuple(sorted(first, key=lambda one: one.model_id not in gated))


def curves(project: Project, found: "Evidence | None" = None) -> "tuple[CurveResult, ...]":
    """The learning curves that the suite declares: scores by number of training rows, and crossovers.

    Args:
        found: stored results with those of the curves' points, as from `evaluate`; read from the store where None.

    Raises:
        StoreError: there is no store.
    """
    from harness.evaluation import results as stored
    from harness.store.connection import opened
    from leaderboard.board.curves import of_evidence

    if not project.suite.curve:
        return ()
    if found is None:
        _, jobs = planned(project, with_points=True)
        with opened(project.db, read_only=True) as connection:
            found = stored.of(connection, jobs)
    return of_evidence(project.suite, found)


def predictions(project: Project, *, models: Collection[str] = (), splits: Collection[str] = ()) -> "pd.DataFrame":
    """The stored predictions of the suite's current runs.

    Args:
        models: only these; all where empty.
        splits: only these of the scored splits; all where empty.

    Returns:
        One row for each run and example, in the split's order, with the columns `split`, `model`, `seed`, `example`
        (its id), `label`, `predicted`, `score` (the probability of class 1), and, where the suite says `store = true`,
        `text` (as the model reads it).

    Raises:
        UsageError: the suite declares no such model or split.
    """
    import pandas as pd

    check_known("model", models, project.models)
    found = evidence(project, models=models, splits=splits)
    text = project.suite.text
    frames = []
    for (model_id, split_id), of_seeds in found.outcomes.items():
        examples = found.examples[split_id]
        shown = {"text": [text.render(one.title, one.content) for one in examples]} if text.store else {}
        for run, outcomes in zip(found.runs[model_id, split_id], of_seeds, strict=True):
            columns = {
                "split": split_id,
                "model": model_id,
                "seed": pd.array([run.seed] * len(examples), dtype="Int64"),
                "example": outcomes.example_ids,
                "label": outcomes.labels,
                "predicted": outcomes.predicted,
                "score": outcomes.scores,
            }
            frames.append(pd.DataFrame(columns | shown))
    if not frames:
        return pd.DataFrame(columns=["split", "model", "seed", "example", "label", "predicted", "score"])
    return pd.concat(frames, ignore_index=True)


def plan(project: Project, *, models: Collection[str] = (), splits: Collection[str] = ()) -> "list[Job]":
    """Everything that the suite asks to be scored, each with the key under which its run is stored.

    Args:
        models: only these; all where empty.
        splits: only these of the scored splits; all where empty.

    Raises:
        UsageError: the suite declares no such model or split.
        DataError: an input cannot be had or is not what was pinned.
    """
    return planned(project, models, splits)[1]


def evidence(project: Project, *, models: Collection[str] = (), splits: Collection[str] = ()) -> "Evidence":
    """The stored outcomes that the suite's current declarations ask for, and the reason for each that is missing.

    Raises:
        StoreError: there is no store.
    """
    from harness.evaluation import results as stored
    from harness.store.connection import opened

    jobs = plan(project, models=models, splits=splits)
    with opened(project.db, read_only=True) as connection:
        return stored.of(connection, jobs)


def board(project: Project) -> "Board":
    """The leaderboard as records: entries ranked, compared and put into tiers.

    Raises:
        StoreError: there is no store, or something in it is not what was stored.
    """
    return boards.read([project]).boards[0]


def power(project: Project, *, assumption: "Assumption | None" = None, power: float = 0.8) -> "list[PowerEstimate]":
    """Estimate how many examples the suite's gates need to be decided.

    Args:
        assumption: assumed truth about accuracies; stored runs give what it leaves open.
        power: requested probability of a verdict, in [0.5, 1).

    Raises:
        UsageError: the suite declares no gates, the power is out of range, an assumption contradicts another or the
            stored runs, or there are neither.
    """
    from harness.gates.service import power_of_gates

    with digest.remembering(project.workspace.digests):
        return power_of_gates(project.suite, project.workspace, assumption, power)


def check_variants(
    project: Project,
    *,
    models: Collection[str] = (),
    engine: str = "local",
    workers: int | None = None,
    address: str | None = None,
    gpus_per_worker: int = 0,
    progress: Progress = silent,
) -> "tuple[list[Parity], list[str]]":
    """Compare every variant of the suite's trained models with torch in fp32: reloaded, merged, bf16, int8, OpenVINO.

    Args:
        models: only these; all with trained weights where empty.
        engine, workers, address, gpus_per_worker, progress: as for `evaluate`.

    Returns:
        The parity of each model, seed and variant, and warnings of what was left out.

    Raises:
        UsageError: the suite declares no such model with trained weights.
    """
    from harness.engine.scheduler import complete
    from harness.evaluation import parity
    from harness.evaluation.inputs import bases_of, gather
    from harness.evaluation.plan import checks
    from harness.models import SLOW_IMPORTS

    suite, workspace = project.suite, project.workspace
    trained = [declared.id for declared in suite.model if parity.has_variants(declared)]
    check_known("model with trained weights", models, trained)
    variants, warnings = parity.installed()
    with _engine(project, engine, SLOW_IMPORTS, workers, address, gpus_per_worker, progress) as map_unordered:
        inputs = gather(suite, workspace, bases_of(suite, model_ids=models or trained))
        made = checks(suite, inputs, workspace, model_ids=models or trained, variants=variants)
        found = complete(map_unordered, lambda scheduler: parity.bring_up_to_date(made, workspace, scheduler))
    if {check.model.id for check in made} < set(models or trained):
        warnings.append(f"some weights are not there yet; `harness evaluate {project.path}` trains them")
    return found, warnings


def examine_data(project: Project, *, update_lock: bool = False) -> "PinnedData":
    """Fetch, verify, pin and audit the suite's splits; `refuse` of the result raises for what the suite forbids.

    Args:
        update_lock: pin the rows as they are now.

    Raises:
        DataError: an input is unavailable or differs from its pin.
    """
    from harness.evaluation.inputs import pin_and_audit

    return pin_and_audit(project.suite, project.workspace, update_lock=update_lock)


def set_baseline(
    project: Project,
    name: str,
    *,
    models: Collection[str] = (),
    splits: Collection[str] = (),
    force: bool = False,
) -> "tuple[BaselineSummary, list[str]]":
    """Keep the suite's current runs as a baseline, in a file beside the suite.

    Args:
        name: the name that rules use.
        models, splits: these; those that gates and expectations name where empty.
        force: replace a baseline of this name.

    Returns:
        A summary of the file, and warnings.

    Raises:
        UsageError: the name is not one, or taken; or some of these runs are not stored with the suite's current inputs.
        StoreError: there is no store.
    """
    from harness.gates import baseline_file

    check_known("model", models, project.models)
    check_known("split to score", splits, project.scored_splits)
    return baseline_file.set_from_store(project.suite, project.workspace, name, models, splits, force=force)


def baselines(project: Project) -> "list[BaselineSummary]":
    """List the baselines beside the suite; one that cannot be read says why in its `problem`."""
    from harness.gates import baseline_file

    return [
        baseline_file.summarise(project.path, project.suite.name, name) for name in baseline_file.names(project.path)
    ]


def watch_baseline(project: Project, name: str) -> "Watch":
    """Compare the suite's current runs with a baseline, and look for a fall over all commits that were watched so far.

    A commit counts once, and so do weights: a second call changes nothing.

    Args:
        name: of a baseline beside the suite.

    Raises:
        UsageError: there is no such baseline, or none of its models has current runs.
        StoreError: there is no store.
    """
    from harness.gates import watch

    return watch.record(project.suite, project.workspace, name)
