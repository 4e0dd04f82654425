"""The A/A canary: part of a baseline is scored again with the same inputs before a model is compared with it.

Scores that differ then are not a regression of the model, but are due to the environment.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness import keys, provenance
from harness.artifacts import digest
from harness.evaluation import scoring
from harness.evaluation.scoring import Job
from harness.gates.baseline_file import BaselineRun
from harness.gates.baselines import Found
from harness.gates.judge import compared
from harness.models import device
from harness.progress import Progress
from harness.records import Baseline, Evidence
from harness.stats.inference import Floats
from harness.suite.rules import Rule
from harness.suite.schema import (
    CheckpointModel,
    Model,
    PeftModel,
    ProbeModel,
    PromptModel,
    TfidfModel,
    TransformerModel,
)

EXAMPLES = 64
TOLERANCE = {"fp32": 1e-3, "bf16": 0.25, "int8": 0.25}
"""Largest move of a log-odds that passes, by precision.

64 examples form other batches than the whole split does, and that alone moves log-odds: on the quickstart by up to
0.00002 in fp32 and 0.09 in bf16, in OpenVINO's int8 by up to 0.07. An environment that rounds a little differently
passes too.
"""
_REMEDY = "set the baseline anew from an evaluation in this environment"
CLIP = 1e-9
"""Least distance of a probability from 0 and 1 in log-odds: float64 lacks the digits of 1 - p below it."""


def run_canaries(
    rules: Iterable[Rule],
    evidence: Evidence,
    found: Mapping[str, Found],
    jobs: Sequence[Job],
    progress: Progress,
    note: Callable[[str], None],
    warn: Callable[[str], None],
    *,
    will_score: Callable[[Rule], bool] = lambda rule: False,
) -> Evidence:
    """Score part of each baseline that a rule will be compared with again, and add the outcome to the evidence.

    Args:
        found: the baselines of the evidence and their runs, by the same names.
        jobs: the suite's plan.
        note: receives the outcome of scoring part of a baseline again.
        warn: receives warnings of what that could not show.
        will_score: reports whether a rule's runs, if they are not stored, are about to be scored.
    """
    asking: dict[str, list[str]] = {}
    for rule in rules:
        if rule.baseline is None:
            continue
        is_usable = (rule.model, rule.split) in found[rule.baseline].baseline.outcomes
        if compared(rule, evidence) is not None or (is_usable and will_score(rule)):
            asking.setdefault(found[rule.baseline].baseline.name, []).append(rule.model)
    checked: dict[str, Baseline] = {}
    for baseline, runs in found.values():
        if baseline.name in asking and baseline.name not in checked:
            checked[baseline.name] = _run_canary(baseline, runs, asking[baseline.name], jobs, progress, note, warn)
    baselines = {name: checked.get(baseline.name, baseline) for name, baseline in evidence.baselines.items()}
    return replace(evidence, baselines=baselines)


def _run_canary(
    baseline: Baseline,
    runs: Iterable[BaselineRun],
    preferred: Collection[str],
    jobs: Iterable[Job],
    progress: Progress,
    note: Callable[[str], None],
    warn: Callable[[str], None],
) -> Baseline:
    pair = chosen([kept for kept in runs if (kept.model_id, kept.split_id) in baseline.outcomes], jobs, preferred)
    if pair is None:
        warn(
            f"baseline {baseline.name}: none of its runs can be scored again with the same inputs, so nothing "
            "shows whether this environment still answers as it did"
        )
        return replace(baseline, canary="none")
    kept, job = pair
    try:
        moves = _moves(kept, job, progress)
    except Exception as problem:  # noqa: BLE001 (whatever a model raises: it was scored once, and cannot be scored now)
        reason = (str(problem).strip().splitlines() or [type(problem).__name__])[-1]
        drift = f"{job.label}, which baseline {baseline.name} has, can no longer be scored ({reason})"
        return replace(baseline, drift=f"{drift}; {_changes(kept, job.ingredients.device)}; {_REMEDY}")
    tolerance = TOLERANCE[getattr(job.model, "precision", "fp32")]
    moved, largest = int((moves > tolerance).sum()), float(moves.max())
    if moved:
        drift = (
            f"{moved} of {len(moves)} examples of {job.label} score differently than in baseline {baseline.name} with "
            f"the same inputs, the largest logit move is {largest:.3g} ({tolerance:g} is allowed); "
            f"{_changes(kept, job.ingredients.device)}; "
            f"{_REMEDY}"
        )
        return replace(baseline, drift=drift)
    examples = f"{len(moves)} examples of {job.label}"
    note(f"baseline {baseline.name}: {examples} score as they did (largest logit move {largest:.1e})")
    if isinstance(job.model, TfidfModel) and not all(model == job.model.id for model in preferred):
        warn(f"baseline {baseline.name}: only counted words can be scored again, which does not test torch")
    return replace(baseline, canary=f"same: {examples}, largest logit move {largest:.1e}")


def chosen(
    runs: Iterable[BaselineRun], jobs: Iterable[Job], preferred: Collection[str]
) -> tuple[BaselineRun, Job] | None:
    """Choose the run to score again and its job: one with the same inputs now as then, except for the code.

    Args:
        preferred: ids of models that come first; otherwise the order is that of `_cost`.
    """
    scorable = (job for job in jobs if job.blocked is None and _cost(job.model) is not None)
    now = {keys.key(keys.apart_from_environment(job.spec)): job for job in scorable}
    pairs = [(kept, now[key]) for kept in runs if (key := keys.key(keys.apart_from_environment(kept.spec))) in now]
    return min(pairs, key=lambda pair: (pair[1].model.id not in preferred, _cost(pair[1].model)), default=None)


def _cost(model: Model) -> int | None:
    """Rank a model in the order of preference; None for a model that is independent of the environment.

    Trained weights only score 64 texts. A probe reads its whole training split first. The logits of an untrained head
    are near zero and hardly move. Counted words touch neither torch nor the base.
    """
    match model:
        case PeftModel() | CheckpointModel():
            return 0
        case TransformerModel():
            return 1 if model.adapter is not None else 3
        case PromptModel():
            return 0 if model.adapter is not None else 2
        case ProbeModel():
            return 2
        case TfidfModel():
            return 4
    return None


def _moves(kept: BaselineRun, job: Job, progress: Progress) -> Floats:
    """Score the chosen examples again: absolute moves of their log-odds from the kept ones, shape (n,), n <= 64."""
    from threadpoolctl import threadpool_limits

    was = {prediction.example_id: prediction.score for prediction in kept.predictions}
    # Ids are digests of content: the smallest ones are as good as a random draw, and the same each time.
    ids = set(sorted(was)[:EXAMPLES])
    examples = tuple(example for example in job.split.examples if example.example_id in ids)
    digest.read_remembered()
    with threadpool_limits(1), progress(f"canary: {job.label}", len(examples)) as advance:
        again = scoring.answer(job, scoring.load(job), examples, advance).scores
    scores = np.column_stack([again, [was[example.example_id] for example in examples]])
    inside = np.clip(scores, CLIP, 1 - CLIP)
    log_odds = np.log(inside / (1 - inside))
    return np.asarray(np.abs(log_odds[:, 0] - log_odds[:, 1]), dtype=np.float64)


def _changes(kept: BaselineRun, kind: str) -> str:
    """Describe the differences between the environment that scored a run and this one."""
    packages, hardware = provenance.packages(), provenance.hardware()
    pairs: list[tuple[str, Any, Any]] = [
        (name, kept.packages.get(name), packages.get(name)) for name in sorted({*kept.packages, *packages})
    ]
    # Processors that share a name, such as virtual ones in a cloud, may still round differently.
    names = {"processor": "processor", "bf16": "bf16 in hardware", "machine": "machine", "system": "system"}
    pairs += [(label, kept.hardware.get(name), hardware.get(name)) for name, label in names.items()]
    pairs.append(("device", kept.hardware.get("device", device.PROCESSOR), kind))
    changes = [f"{name} {then} then, {now} now" for name, then, now in pairs if then != now]
    return ", ".join(changes) or "packages and processor are the same as then"
