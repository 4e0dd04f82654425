"""Lookup of the baselines that rules name: a file beside the suite, or the substitute that the command line names.

found = find(connection, suite, workspace, jobs, rules, ref="v1.2")
found["main"].baseline, found["main"].runs
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness import provenance
from harness.errors import UsageError
from harness.evaluation import results
from harness.evaluation.inputs import Workspace
from harness.evaluation.scoring import Job
from harness.gates import baseline_file
from harness.gates.baseline_file import BaselineRun, Unreadable
from harness.records import Baseline, Outcomes, Place, Run, Split
from harness.stats import metrics
from harness.store import reader
from harness.store.connection import Connection
from harness.suite.rules import Rule
from harness.suite.schema import ID_PATTERN, Suite


class Found(NamedTuple):
    """A baseline and its runs."""

    baseline: Baseline
    runs: tuple[BaselineRun, ...]


def find(
    connection: Connection,
    suite: Suite,
    workspace: Workspace,
    jobs: Sequence[Job],
    rules: Iterable[Rule],
    ref: str | None = None,
) -> dict[str, Found]:
    """Find the baselines that rules name, by name. A missing or unusable one says why in its `problem`.

    Args:
        jobs: the suite's plan.
        ref: substitute for each of them: a file, the name of a baseline, a commit or tag, or a time.

    Raises:
        UsageError: no rule names a baseline, or nothing matches `ref`.
    """
    split_of = {(rule.baseline, rule.split) for rule in rules if rule.baseline is not None}
    named = sorted({name for name, _ in split_of})
    wanted = {split_id for _, split_id in split_of}
    splits = {job.split.split_id: job.split for job in jobs if job.split.split_id in wanted}
    if ref is None:
        return {name: beside_suite(name, suite, workspace, splits) for name in named}
    if not named:
        line = 'non_inferior_to = { baseline = "main", margin = 0.02 }'
        raise UsageError(
            f"{workspace.suite_path}: gate: no rule is about a baseline, so --baseline {ref} has no effect; "
            f"add a line to a gate, such as {line}"
        )
    substitute = _substitute(ref, connection, suite, workspace, splits)
    return dict.fromkeys(named, substitute)


def beside_suite(name: str, suite: Suite, workspace: Workspace, splits: Mapping[str, Split]) -> Found:
    """Find a baseline file beside the suite."""
    path = baseline_file.path_of(workspace.suite_path, name)
    if path.is_file():
        return _in_file(name, path, suite, splits)
    others = ", ".join(baseline_file.names(workspace.suite_path))
    problem = (
        f"no baseline {name!r} beside {workspace.suite_path}{f' (there is {others})' if others else ''}; "
        f"`harness baseline set {name} {workspace.suite_path}` makes it"
    )
    return Found(Baseline(name, {}, frozenset(), problem), ())


def _in_file(name: str, path: Path, suite: Suite, splits: Mapping[str, Split]) -> Found:
    try:
        kept = baseline_file.read(path, suite.name)
    except Unreadable as problem:
        return Found(Baseline(name, {}, frozenset(), str(problem)), ())
    return _held(name, kept.runs, splits)


def _substitute(
    ref: str, connection: Connection, suite: Suite, workspace: Workspace, splits: Mapping[str, Split]
) -> Found:
    """Resolve the baseline that the command line names."""
    folder = workspace.suite_path.resolve().parent
    if ref.endswith(".parquet") and Path(ref).is_file():
        return _in_file(ref, Path(ref), suite, splits)
    if re.fullmatch(ID_PATTERN, ref) and (path := baseline_file.path_of(workspace.suite_path, ref)).is_file():
        return _in_file(ref, path, suite, splits)
    stored = reader.successes(connection, suite.name)
    if (commit := _commit(ref, folder)) is not None:
        chosen = [run for run in stored if run.git_commit == commit and run.git_dirty is False]
        wanted = f"was evaluated at commit {commit[:12]} with nothing uncommitted"
    elif (moment := _moment(ref)) is not None:
        chosen = [run for run in stored if run.finished_at <= moment]
        wanted = f"had finished at {moment.isoformat(sep=' ')} UTC"
    else:
        names = ", ".join(baseline_file.names(workspace.suite_path)) or "none"
        raise UsageError(
            f"--baseline {ref}: is no .parquet file, no baseline of {workspace.suite_path} (known: {names}), no commit "
            f"or tag that git knows in {folder}, and no time such as 2025-01-31T18:00"
        )
    if not chosen:
        raise UsageError(f"--baseline {ref}: no run of {suite.name} in {workspace.db} {wanted}")
    runs = [baseline_file.reduce_run(run, results.outcomes_of(connection, run)) for run in last_of_each(chosen, splits)]
    return _held(ref, runs, splits)


def _commit(ref: str, folder: Path) -> str | None:
    """Resolve a commit or tag with git, in the suite's folder."""
    if ref.startswith("-"):
        return None
    return provenance.ask_git(folder, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")


def _moment(ref: str) -> datetime | None:
    """Parse an ISO 8601 time into UTC without a zone, as the store keeps it; a time without a zone is taken as UTC."""
    try:
        moment = datetime.fromisoformat(ref)
        return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None


def last_of_each(runs: Iterable[Run], splits: Mapping[str, Split]) -> list[Run]:
    """Select the seeds of the configuration that was scored last, for each model on each current split.

    Runs on other rows than the split's current ones count only if there are none on these.
    """
    places: dict[Place, list[Run]] = {}
    of_splits = (run for run in runs if run.split_id in splits)
    for run in sorted(of_splits, key=lambda run: (_on_rows(run, splits), run.finished_at, run.run_id)):
        places.setdefault((run.model_id, run.split_id), []).append(run)
    chosen: list[Run] = []
    for many in places.values():
        kind = many[-1].split_digest, many[-1].configuration
        by_seed = {run.seed: run for run in many if (run.split_digest, run.configuration) == kind}
        chosen += by_seed.values()
    return chosen


def _on_rows(run: Run, splits: Mapping[str, Split]) -> bool:
    return run.split_digest == splits[run.split_id].digest


def _held(name: str, runs: Sequence[BaselineRun], splits: Mapping[str, Split]) -> Found:
    """Combine runs with the labels of the current splits."""
    seeds: dict[Place, list[Outcomes]] = {}
    keys: dict[Place, list[str]] = {}
    other: set[Place] = set()
    for run in sorted(runs, key=lambda run: (run.seed is not None, run.seed)):
        if run.split_id in splits:
            place, split = (run.model_id, run.split_id), splits[run.split_id]
            if {one.example_id for one in run.predictions} == {example.example_id for example in split.examples}:
                seeds.setdefault(place, []).append(_outcomes(run, split))
                keys.setdefault(place, []).append(run.run_key)
            else:
                other.add(place)
    outcomes = {place: tuple(many) for place, many in seeds.items() if place not in other}
    run_ids = frozenset(run.run_id for run in runs)
    run_keys = {place: tuple(many) for place, many in keys.items() if place in outcomes}
    held = Baseline(name, outcomes, run_ids, run_keys=run_keys, other_examples=frozenset(other))
    return Found(held, tuple(runs))


def _outcomes(run: BaselineRun, split: Split) -> Outcomes:
    by_example = {prediction.example_id: prediction for prediction in run.predictions}
    in_order = [by_example[example.example_id] for example in split.examples]
    predicted = np.array([prediction.predicted for prediction in in_order], dtype=np.int64)
    return metrics.of_split(split, predicted, np.array([prediction.score for prediction in in_order], dtype=np.float64))
