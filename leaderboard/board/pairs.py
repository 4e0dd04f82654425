"""Precomputed pairs: those that readers look at most, compared as `harness compare` does."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from harness.evaluation.unadapted import bases_of
from harness.records import Outcomes
from harness.stats import estimates
from harness.stats.estimates import Difference, Resampled
from harness.stats.metrics import METRICS
from harness.suite.rules import of_expectations, of_gates
from leaderboard.board.records import Board, Entry, Pair, Section

MOST_ENTRIES = 50
"""Number of a split's first entries among which pairs are chosen; the compare page computes others on demand."""


@dataclass(frozen=True, slots=True)
class ChosenPair:
    """Two entries of a split and their difference."""

    a: str
    b: str
    why: str
    """Reason to show the pair: `in a rule`, `its base`, `the next below` or `against the best`."""
    difference: Difference
    """Difference of the primary metric, a minus b, in its own unit."""
    adjusted_p: float | None
    """Corrected over all pairs of the split (Holm); None where the board does not list the pair."""


def chosen_pairs(board: Board, section: Section) -> tuple[ChosenPair, ...]:
    """Every trained model with its base, pairs that the suite's rules compare, and every entry with its neighbour below
    and the best; each once.

    The compare page opens with the first.
    """
    name = board.suite.primary_metric
    entries = {entry.model_id: entry for entry in section.entries[:MOST_ENTRIES] if entry.runs}
    wanted: dict[frozenset[str], tuple[str, str, str]] = {}
    for a, b, why in _wanted(board, section, list(entries.values())):
        if a in entries and b in entries:
            wanted.setdefault(frozenset((a, b)), (a, b, why))
    listed = {frozenset((pair.model_id, pair.other_id)): pair for pair in section.pairs}
    others = {model_id for key in wanted if key not in listed for model_id in key}
    drawn = _resampled(name, [entries[model_id] for model_id in sorted(others)], board.outcomes)
    found = []
    for key, (a, b, why) in wanted.items():
        pair = listed.get(key)
        difference = _of_pair(pair, a, name) if pair is not None else estimates.between(drawn[a], drawn[b])
        if difference is not None:
            found.append(ChosenPair(a, b, why, difference, pair.adjusted_p if pair is not None else None))
    return tuple(found)


def _wanted(board: Board, section: Section, entries: Sequence[Entry]) -> Iterator[tuple[str, str, str]]:
    """Pairs of model ids with the reason to show them, the most informative reason first."""
    yield from ((one.model_id, one.base.model_id, "its base") for one in section.answers if one.base is not None)
    yield from ((one.model_id, one.null_id, "its null") for one in section.answers if one.null_id is not None)
    for rule in [*of_gates(board.suite), *of_expectations(board.suite)]:
        if rule.split == section.split.id:
            yield from ((rule.model, other, "in a rule") for other in rule.models[1:] if other != rule.model)
    for one in section.answers:
        yield from ((one.model_id, other.model_id, "its base") for other in bases_of(board.suite, one.base_id))
    ranked = [entry.model_id for entry in entries if entry.ranked]
    yield from ((above, below, "the next below") for above, below in pairwise(ranked))
    yield from ((ranked[0], below, "against the best") for below in ranked[1:])


def _of_pair(pair: Pair, a: str, name: str) -> Difference | None:
    """A lead (larger is better) as a minus b in the metric's own unit."""
    if pair.lead is None or (pair.model_id == a) == METRICS[name].higher_is_better:
        return pair.lead
    return pair.lead.turned


def _resampled(name: str, entries: Sequence[Entry], outcomes: Mapping[str, Outcomes]) -> dict[str, Resampled]:
    """Resampled metrics by model id, drawn as by `harness compare` and the board: seeded by examples and runs."""
    if not entries:
        return {}
    sides = [[outcomes[scored.run.run_id] for scored in entry.runs] for entry in entries]
    examples = estimates.examples_generator(sides[0][0])
    seeds = [estimates.seeds_generator([scored.run.run_key for scored in entry.runs]) for entry in entries]
    drawn = estimates.resampled(name, sides, examples, seeds)
    return {entry.model_id: one for entry, one in zip(entries, drawn, strict=True)}
