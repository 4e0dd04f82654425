"""Stored runs → leaderboard rows: seeds aggregated, entries sorted and ranked. `build` is pure.

Random draws are seeded by what they are about, so a number depends on its runs alone: not on their order, on the other
entries or on the day.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TypeVar

import numpy as np

from harness.evaluation import unadapted
from harness.evaluation.unadapted import Base, Side
from harness.records import (
    AdapterRecord,
    Expected,
    Finding,
    Forgetting,
    Metric,
    Occlusion,
    Outcomes,
    Parity,
    Run,
    Verdict,
)
from harness.stats import estimates, metrics, timing
from harness.store import reader
from harness.store.connection import Connection
from harness.suite.load import by_id
from harness.suite.schema import Adapter, AnyAdapter, Model, PeftModel, PromptModel, SplitRule, Suite, TransformerModel
from leaderboard.board import answers, pareto, ranking
from leaderboard.board.answers import Answer
from leaderboard.board.records import Board, Confusion, Entry, Past, ScoredRun, Section

_Number = TypeVar("_Number", int, float)


def read(
    connection: Connection,
    suite: Suite,
    runs: Sequence[Run],
    outcomes: Mapping[str, Outcomes],
    adapters: Mapping[str, AdapterRecord],
    verdicts: Sequence[Verdict] = (),
    expected: Sequence[Expected] = (),
) -> Board:
    """The board of a suite: verified results, with what else the store knows of their weights and splits.

    Args:
        connection: an open store; only read.
        suite: what was declared.
        runs, outcomes, adapters: as for `build`, verified: `harness.evaluation.results` does it.
        verdicts: outcomes of the suite's gates on these runs.
        expected: outcomes of the suite's expectations.
    """
    board = build(
        suite,
        runs,
        outcomes,
        adapters,
        verdicts,
        expected,
        reader.latest_audit(connection, suite.digest),
        {digest: reader.times_scored(connection, digest) for digest in sorted({run.split_digest for run in runs})},
    )
    moved = reader.moved(connection, adapters)
    parities = reader.parities(connection, adapter_digests=adapters)
    sections = tuple(
        replace(section, entries=_with_parities(_with_moved(section, moved), parities)) for section in board.sections
    )
    past = [Past(*row) for row in reader.scores_over_commits(connection, suite.name, suite.primary_metric)]
    by_model = {model_id: tuple(many) for model_id, many in groupby(past, key=lambda run: run.model_id)}
    return replace(board, sections=sections, past=by_model, explained=_explained(connection, suite, runs))


def _explained(connection: Connection, suite: Suite, runs: Sequence[Run]) -> dict[str, tuple[Occlusion, ...]]:
    """The explained examples of runs, by run id: none where words may not be shown."""
    if not suite.text.store:
        return {}
    ids = {run.run_key: run.run_id for run in runs}
    found: dict[str, dict[str, Occlusion]] = {}
    for one in reader.occlusions(connection, ids):  # of two of one example the later counts
        found.setdefault(ids[one.run_key], {})[one.example_id] = one
    return {run_id: tuple(many.values()) for run_id, many in found.items()}


def _with_moved(section: Section, found: Sequence[Forgetting]) -> tuple[Entry, ...]:
    """The section's entries with the measurements of their weights on its rows."""
    known: dict[str | None, dict[str, Forgetting]] = {}
    for moved in found:
        if moved.split_digest == section.split_digest:
            known.setdefault(moved.adapter_digest, {})[moved.name] = moved
    by_entry = [tuple(known.get(scored.run.adapter_digest, {}) for scored in entry.runs) for entry in section.entries]
    return tuple(
        replace(entry, moved=of_seeds if any(of_seeds) else ())
        for entry, of_seeds in zip(section.entries, by_entry, strict=True)
    )


def _with_parities(many: Sequence[Entry], found: Sequence[Parity]) -> tuple[Entry, ...]:
    """Entries with the parity checks of their weights."""
    by_weights: dict[str, list[Parity]] = {}
    for parity in found:
        by_weights.setdefault(parity.adapter_digest, []).append(parity)
    return tuple(
        replace(
            entry, parities=tuple(one for record in entry.adapters for one in by_weights.get(record.adapter_digest, []))
        )
        for entry in many
    )


def build(
    suite: Suite,
    runs: Sequence[Run],
    outcomes: Mapping[str, Outcomes],
    adapters: Mapping[str, AdapterRecord],
    verdicts: Sequence[Verdict],
    expected: Sequence[Expected] = (),
    findings: Sequence[Finding] = (),
    times_scored: Mapping[str, int] | None = None,
) -> Board:
    """The board of a suite from records.

    Args:
        suite: what was declared; models without runs are shown as missing.
        runs: successes; of several of one model, split and seed the latest counts. Others are ignored.
        outcomes: by `run_id`, for every run.
        adapters: by `adapter_digest`; unknown ones leave their numbers absent.
        verdicts: outcomes of the suite's gates on these runs.
        expected: outcomes of the suite's expectations.
        findings: of the suite's last audit.
        looks: number of configurations scored on a split's rows, by its digest; 0 where it is absent.
    """
    stored = _Stored(_by_place(runs), outcomes, adapters, findings, times_scored or {})
    scored = [split for split in suite.split if split.id not in suite.train_split_ids]
    entries = [[_entry(suite, model, split.id, stored) for model in suite.model] for split in scored]
    bases = unadapted.best_bases(suite, _sides(entries[0], outcomes))
    sections = tuple(_section(suite, split, here, stored, bases) for split, here in zip(scored, entries, strict=True))
    return Board(suite, sections, ranking.headline(sections[0]), tuple(verdicts), tuple(expected), outcomes)


Place = tuple[str, str, int | None]
"""Model, split and seed: where a run stands in its suite."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """The store's records, by the keys they are looked up with."""

    runs: Mapping[Place, Run]
    outcomes: Mapping[str, Outcomes]
    adapters: Mapping[str, AdapterRecord]
    findings: Sequence[Finding]
    times_scored: Mapping[str, int]


def _by_place(runs: Sequence[Run]) -> dict[Place, Run]:
    successes = sorted((run for run in runs if run.status == "success"), key=lambda run: (run.finished_at, run.run_id))
    return {(run.model_id, run.split_id, run.seed): run for run in successes}


def _section(
    suite: Suite, split: SplitRule, unordered: Sequence[Entry], stored: _Stored, bases: Mapping[str, Base]
) -> Section:
    better_first = -1 if metrics.METRICS[suite.primary_metric].higher_is_better else 1

    def place(entry: Entry) -> tuple[bool, bool, float, str]:
        value = entry.primary.value if entry.primary is not None else None
        return (not entry.ranked, value is None, better_first * (value or 0.0), entry.model_id)

    entries = sorted(unordered, key=place)
    in_order = [entry for entry in entries if entry.ranked]
    drawn = ranking.resampled(suite.primary_metric, in_order, stored.outcomes)
    standing = ranking.compare(in_order, drawn)
    by_model = {entry.model_id: one for entry, one in zip(in_order, drawn, strict=True)}
    held = answers.answers(suite, split.id, _sides(entries, stored.outcomes), bases, by_model)
    tier_of = {model_id: tier.number for tier in standing.tiers for model_id in tier.model_ids}
    ranked = tuple(replace(entry, tier=tier_of.get(entry.model_id)) for entry in entries)
    scored = [scored.run for entry in entries for scored in entry.runs]
    examples = stored.outcomes[scored[0].run_id] if scored else None
    clusters = examples.clusters if examples else None
    digest = scored[0].split_digest if scored else None
    return Section(
        split=split,
        split_digest=digest,
        n=len(examples.labels) if examples else None,
        n_clusters=len(np.unique(clusters)) if clusters is not None else None,
        entries=ranked,
        tiers=standing.tiers,
        pairs=standing.pairs,
        n_pairs=standing.n_pairs,
        answers=_gated_first(suite, held, entries),
        fronts=pareto.of(in_order, by_model),
        best=ranking.best(drawn),
        times_scored=stored.times_scored.get(digest, 0) if digest is not None else 0,
        audit=tuple(f for f in stored.findings if f.split_id == split.id and digest in (None, f.split_digest)),
    )


def _sides(entries: Iterable[Entry], outcomes: Mapping[str, Outcomes]) -> dict[str, Side]:
    """The sides of the entries that have all their runs."""
    return {
        entry.model_id: Side(
            tuple(scored.run.run_key for scored in entry.runs),
            tuple(outcomes[scored.run.run_id] for scored in entry.runs),
        )
        for entry in entries
        if entry.runs and entry.complete
    }


def _gated_first(suite: Suite, held: Sequence[Answer], entries: Sequence[Entry]) -> tuple[Answer, ...]:
    gated, places = {gate.model for gate in suite.gate}, {entry.model_id: i for i, entry in enumerate(entries)}
    return tuple(sorted(held, key=lambda one: (one.model_id not in gated, places[one.model_id])))


def _entry(suite: Suite, model: Model, split_id: str, stored: _Stored) -> Entry:
    adapter_id = _adapter_id(model)
    adapter = by_id(suite.adapter, adapter_id) if adapter_id is not None else None
    expected = suite.seeds_of(model)
    found = [stored.runs[place] for seed in expected if (place := (model.id, split_id, seed)) in stored.runs]
    names = [spec.name for spec in suite.metric]
    runs = tuple(_scored(run, stored.outcomes[run.run_id], names) for run in found)
    means = _means(runs, stored.outcomes, names)
    known = [
        stored.adapters[key] for run in found if (key := run.adapter_digest) is not None and key in stored.adapters
    ]
    seconds = _told(record.train_seconds for record in known)
    timed = (timing.examples_per_second(run, len(stored.outcomes[run.run_id].labels)) for run in found)
    rates = [rate for rate in timed if rate is not None]
    return Entry(
        model_id=model.id,
        split_id=split_id,
        backend=model.backend,
        method=_method(adapter, known) or model.backend,
        base_id=adapter.base if adapter else getattr(model, "base", None),
        adapter_id=adapter_id,
        expected_seeds=expected,
        runs=runs,
        metrics=means,
        primary=means.get(suite.primary_metric),
        adapters=tuple(known),
        n_trainable=max(_told(record.n_trainable for record in known), default=None),
        train_seconds=statistics.fmean(seconds) if seconds else None,
        size_bytes=max((record.size_bytes for record in known), default=None),
        peak_bytes=max(_told(record.peak_bytes for record in known), default=None),
        trials=adapter.trials if adapter else None,
        is_null=model.id in suite.null_models.values(),
        examples_per_second=statistics.median(rates) if rates else None,
        tier=None,
    )


def _adapter_id(model: Model) -> str | None:
    return model.adapter if isinstance(model, (PeftModel, TransformerModel, PromptModel)) else None


def _method(adapter: AnyAdapter | None, known: Sequence[AdapterRecord]) -> str | None:
    """As declared, or as recorded with weights from elsewhere; None where neither is known."""
    if isinstance(adapter, Adapter):
        return adapter.method
    return known[0].method if adapter is not None and known else None


def _told(values: Iterable[_Number | None]) -> list[_Number]:
    return [value for value in values if value is not None]


def _scored(run: Run, outcomes: Outcomes, names: Sequence[str]) -> ScoredRun:
    stored = metrics.current(run.metrics)
    missing = [name for name in names if name not in stored]
    if missing:
        stored |= estimates.summaries(missing, [outcomes], estimates.generator_for([run.run_key]))
    return ScoredRun(run, {name: stored[name] for name in names}, _confusion(outcomes))


def _confusion(outcomes: Outcomes) -> Confusion:
    label, other, predicted = outcomes.labels == 1, outcomes.labels == 0, outcomes.predicted == 1
    cells = (label & predicted, other & predicted, label & ~predicted, other & ~predicted)
    return Confusion(*(int(cell.sum()) for cell in cells))


def _means(runs: Sequence[ScoredRun], outcomes: Mapping[str, Outcomes], names: Sequence[str]) -> dict[str, Metric]:
    if not runs:
        return {}
    if len(runs) == 1:  # an entry of one run must not show another draw of that run's interval
        return dict(runs[0].metrics)
    seeds = [outcomes[scored.run.run_id] for scored in runs]
    keys = [scored.run.run_key for scored in runs]
    return estimates.summaries(names, seeds, estimates.generator_for(keys))
