"""Stored runs → leaderboard rows: seeds aggregated, entries sorted, tiers drawn. `build` is pure.

Random draws are seeded by what is compared, so a number depends on its runs alone: not on their order, on the other
entries or on the day.
"""

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness import metrics
from harness.declarations import Model, PeftModel, SplitRule, Suite, TransformerModel
from harness.metrics import Difference
from harness.records import AdapterRecord, Metric, Outcomes, Run, Verdict
from harness.store import reader
from harness.store.connection import Connection
from harness.suite import by_id
from leaderboard.board import Board, Comparison, Confusion, Entry, Headline, ScoredRun, Section, Tier

HEADLINE_COMPARISONS = 2
"""So many competitors that were not fine-tuned are named beside the leader."""


def read(connection: Connection, suite: Suite, run_keys: Collection[str]) -> Board:
    """The board of a suite from the store.

    Args:
        connection: an open store; only read.
        suite: what was declared.
        run_keys: the keys of every run that the suite asks for; of each the latest success counts.
    """
    runs = list(reader.latest_runs(connection, run_keys).values())
    outcomes = {run.run_id: reader.outcomes(connection, run.run_id) for run in runs}
    adapters = reader.adapters(connection, {run.adapter_digest for run in runs if run.adapter_digest is not None})
    return build(suite, runs, outcomes, adapters, reader.latest_verdicts(connection, suite.digest))


def build(
    suite: Suite,
    runs: Sequence[Run],
    outcomes: Mapping[str, Outcomes],
    adapters: Mapping[str, AdapterRecord],
    verdicts: Sequence[Verdict],
) -> Board:
    """The board of a suite from records.

    Args:
        suite: what was declared; models without runs are shown as missing.
        runs: successes; of several of one model, split and seed the latest counts. Others are ignored.
        outcomes: by `run_id`, for every run.
        adapters: by `adapter_digest`; unknown ones leave their numbers absent.
        verdicts: of the last time that the suite's gates were judged.
    """
    stored = _Stored(_by_place(runs), outcomes, adapters)
    sections = tuple(_section(suite, split, stored) for split in suite.split if split.id not in suite.train_split_ids)
    return Board(suite, sections, _headline(suite, sections[0], outcomes), tuple(verdicts))


Place = tuple[str, str, int | None]
"""Model, split and seed: where a run stands in its suite."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """What the store has, by what it is looked up with."""

    runs: Mapping[Place, Run]
    outcomes: Mapping[str, Outcomes]
    adapters: Mapping[str, AdapterRecord]


def _by_place(runs: Sequence[Run]) -> dict[Place, Run]:
    successes = sorted((run for run in runs if run.status == "success"), key=lambda run: (run.finished_at, run.run_id))
    return {(run.model_id, run.split_id, run.seed): run for run in successes}


def _section(suite: Suite, split: SplitRule, stored: _Stored) -> Section:
    better_first = -1 if metrics.METRICS[suite.primary_metric].higher_is_better else 1

    def place(entry: Entry) -> tuple[bool, bool, float, str]:
        value = entry.primary.value if entry.primary is not None else None
        return (not entry.ranked, value is None, better_first * (value or 0.0), entry.model_id)

    entries = sorted((_entry(suite, model, split.id, stored) for model in suite.model), key=place)
    tiers = _tiers(suite.primary_metric, [entry for entry in entries if entry.ranked], stored.outcomes)
    tier_of = {model_id: tier.number for tier in tiers for model_id in tier.model_ids}
    ranked = tuple(replace(entry, tier=tier_of.get(entry.model_id)) for entry in entries)
    scored = [scored.run for entry in entries for scored in entry.runs]
    examples = stored.outcomes[scored[0].run_id] if scored else None
    clusters = examples.clusters if examples else None
    return Section(
        split=split,
        split_digest=scored[0].split_digest if scored else None,
        n=len(examples.labels) if examples else None,
        n_clusters=len(np.unique(clusters)) if clusters is not None else None,
        entries=ranked,
        tiers=tiers,
    )


def _entry(suite: Suite, model: Model, split_id: str, stored: _Stored) -> Entry:
    adapter_id = _adapter_id(model)
    adapter = by_id(suite.adapter, adapter_id) if adapter_id is not None else None
    expected = _expected_seeds(suite, model)
    found = [stored.runs[place] for seed in expected if (place := (model.id, split_id, seed)) in stored.runs]
    names = [spec.name for spec in suite.metric]
    runs = tuple(_scored(run, stored.outcomes[run.run_id], names) for run in found)
    means = _means(runs, stored.outcomes, names)
    known = [
        stored.adapters[key] for run in found if (key := run.adapter_digest) is not None and key in stored.adapters
    ]
    rates = [len(stored.outcomes[run.run_id].labels) / run.seconds for run in found if run.seconds]
    return Entry(
        model_id=model.id,
        split_id=split_id,
        backend=model.backend,
        method=adapter.method if adapter else model.backend,
        base_id=adapter.base if adapter else getattr(model, "base", None),
        adapter_id=adapter_id,
        expected_seeds=expected,
        runs=runs,
        metrics=means,
        primary=means.get(suite.primary_metric),
        adapters=tuple(known),
        n_trainable=max((record.n_trainable for record in known), default=None),
        train_seconds=statistics.fmean(record.train_seconds for record in known) if known else None,
        size_bytes=max((record.size_bytes for record in known), default=None),
        peak_bytes=max((record.peak_bytes for record in known), default=None),
        examples_per_second=statistics.median(rates) if rates else None,
        tier=None,
    )


def _adapter_id(model: Model) -> str | None:
    return model.adapter if isinstance(model, (PeftModel, TransformerModel)) else None


def _expected_seeds(suite: Suite, model: Model) -> tuple[int | None, ...]:
    adapter_id = _adapter_id(model)
    if adapter_id is not None:
        return tuple(by_id(suite.adapter, adapter_id).train.seeds)
    return (model.seeds if isinstance(model, TransformerModel) else None) or (None,)


def _scored(run: Run, outcomes: Outcomes, names: Sequence[str]) -> ScoredRun:
    stored = {metric.name: metric for metric in run.metrics}
    found = {
        name: stored[name]
        if name in stored
        else metrics.summarise(name, [outcomes], metrics.generator_for(name, [run.run_key]))
        for name in names
    }
    return ScoredRun(run, found, _confusion(outcomes))


def _confusion(outcomes: Outcomes) -> Confusion:
    label, predicted = outcomes.labels == 1, outcomes.predicted == 1
    cells = (label & predicted, ~label & predicted, label & ~predicted, ~label & ~predicted)
    return Confusion(*(int(cell.sum()) for cell in cells))


def _means(runs: Sequence[ScoredRun], outcomes: Mapping[str, Outcomes], names: Sequence[str]) -> dict[str, Metric]:
    if not runs:
        return {}
    if len(runs) == 1:  # an entry of one run must not show another draw of that run's interval
        return dict(runs[0].metrics)
    seeds = [outcomes[scored.run.run_id] for scored in runs]
    return {name: metrics.summarise(name, seeds, metrics.generator_for(name, _keys(runs))) for name in names}


def _tiers(name: str, ranked: Sequence[Entry], outcomes: Mapping[str, Outcomes]) -> tuple[Tier, ...]:
    """Down the sorted entries: one that differs from the first of the current tier opens the next.

    The test is the 95 % interval of the paired difference; intervals of two scores may overlap where it excludes zero.
    """
    tiers: list[Tier] = []
    first: Entry | None = None
    for entry in ranked:
        gap = _difference(name, entry, first, outcomes) if first is not None else None
        if first is None or (gap is not None and _excludes_zero(gap)):
            tiers.append(Tier(len(tiers) + 1, (entry.model_id,), gap))
            first = entry
        else:
            tiers[-1] = replace(tiers[-1], model_ids=(*tiers[-1].model_ids, entry.model_id))
    return tuple(tiers)


def _headline(suite: Suite, section: Section, outcomes: Mapping[str, Outcomes]) -> Headline | None:
    ranked = [entry for entry in section.entries if entry.ranked]
    if not ranked:
        return None
    leader, *others = ranked
    # The yardstick is what was not fine-tuned; where the suite has nothing of the kind, the tier below.
    yardsticks = [entry for entry in others if entry.adapter_id is None and entry.backend != "majority"]
    yardsticks = yardsticks or [entry for entry in others if entry.backend == "majority"]
    yardsticks = yardsticks or [entry for entry in others if entry.tier == 2][:1]
    comparisons = tuple(
        Comparison(entry.model_id, difference)
        for entry in yardsticks[:HEADLINE_COMPARISONS]
        if (difference := _difference(suite.primary_metric, leader, entry, outcomes)) is not None
    )
    return Headline(leader, section.tiers[0].model_ids[1:], comparisons)


def _difference(name: str, entry: Entry, other: Entry, outcomes: Mapping[str, Outcomes]) -> Difference | None:
    """`entry` minus `other`; the other way round it is the same draw with the sign turned."""
    if entry.model_id > other.model_id:
        turned = _difference(name, other, entry, outcomes)
        return Difference(-turned.value, -turned.ci_high, -turned.ci_low, turned.n) if turned is not None else None
    candidate, reference = ([outcomes[scored.run.run_id] for scored in side.runs] for side in (entry, other))
    generator = metrics.generator_for(name, [*_keys(entry.runs), *_keys(other.runs)])
    return metrics.difference(name, candidate, reference, generator)


def _excludes_zero(difference: Difference) -> bool:
    return difference.ci_low > 0 or difference.ci_high < 0


def _keys(runs: Sequence[ScoredRun]) -> list[str]:
    return [scored.run.run_key for scored in runs]
