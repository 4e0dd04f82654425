"""Ranking of a split: all pairs of ranked entries compared, tiers drawn, a headline chosen. Pure.

All entries of a split are resampled once, on the same examples; so a board of many models costs little more than one
comparison. The examples' draw is seeded by the examples and the draw of training seeds by the entry's own runs.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from itertools import pairwise as neighbours
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.records import Outcomes
from harness.stats import estimates, inference, winner
from harness.stats.estimates import Difference, Resampled
from harness.stats.inference import ALPHA, Floats
from harness.stats.metrics import METRICS
from harness.stats.winner import Corrected
from leaderboard.board import pairwise
from leaderboard.board.records import Entry, Headline, Pair, Section, Tier

HEADLINE_COMPARISONS = 2
"""Number of competitors without fine-tuning that the headline names beside the leader."""
LISTED = 20
"""Number of first entries whose pairs are listed, with intervals. All pairs are compared and corrected for together."""


class Standing(NamedTuple):
    """The result of comparing all pairs of ranked entries; the fields are those of `Section`."""

    tiers: tuple[Tier, ...]
    pairs: tuple[Pair, ...]
    n_pairs: int


def resampled(name: str, ranked: Sequence[Entry], outcomes: Mapping[str, Outcomes]) -> list[Resampled]:
    """The primary metric of ranked entries on the same resampled examples.

    Args:
        name: a key of `METRICS`.
        ranked: all on the same split.
        outcomes: by `run_id`, for every run of the entries.
    """
    if not ranked:
        return []
    sides = [[outcomes[scored.run.run_id] for scored in entry.runs] for entry in ranked]
    examples = estimates.examples_generator(sides[0][0])
    seeds = [estimates.seeds_generator([scored.run.run_key for scored in entry.runs]) for entry in ranked]
    return estimates.resampled(name, sides, examples, seeds)


def compare(ranked: Sequence[Entry], drawn: Sequence[Resampled]) -> Standing:
    """Compare all pairs of a split's ranked entries, their p-values adjusted for the number of pairs (Holm 1979).

    Args:
        ranked: from best to worst, all on the same split.
        drawn: of the same entries.
    """
    if not ranked:
        return Standing((), (), 0)
    pair_of = {pair: _lead(drawn, *pair) for pair in combinations(range(min(LISTED, len(ranked))), 2)}
    adjusted = _adjusted(drawn, pair_of)
    sign = 1.0 if METRICS[drawn[0].name].higher_is_better else -1.0
    values = sign * np.array([one.value for one in drawn])
    starts = _starts((adjusted < ALPHA) & (values[:, None] > values))
    spoken_of = {*neighbours(starts), *((0, other) for other in _yardsticks(ranked, starts))}
    pair_of |= {pair: _lead(drawn, *pair) for pair in spoken_of - set(pair_of)}
    pairs = {
        (i, j): Pair(ranked[i].model_id, ranked[j].model_id, lead, float(adjusted[i, j]) if lead is not None else None)
        for (i, j), lead in sorted(pair_of.items(), key=lambda item: item[0])
    }
    ends = [*starts[1:], len(ranked)]
    tiers = tuple(
        Tier(
            number,
            tuple(entry.model_id for entry in ranked[start:end]),
            pairs[starts[number - 2], start] if number > 1 else None,
        )
        for number, (start, end) in enumerate(zip(starts, ends, strict=True), start=1)
    )
    return Standing(tiers, tuple(pairs.values()), len(ranked) * (len(ranked) - 1) // 2)


def best(drawn: Sequence[Resampled]) -> Corrected | None:
    """Correct the best score for having been chosen; None where there is no choice, or a score is undefined.

    Args:
        drawn: of ranked entries, on the same resampled examples.
    """
    if len(drawn) < 2:
        return None
    name, n = drawn[0].name, len(drawn[0].seeds[0].labels)
    return winner.corrected(
        np.array([one.value for one in drawn]),
        np.stack([one.seeds_drawn for one in drawn]),
        step=1 / (n * max(len(one.seeds) for one in drawn)) if name == "accuracy" else 0.0,
        higher_is_better=METRICS[name].higher_is_better,
    )


def _adjusted(drawn: Sequence[Resampled], leads: Mapping[tuple[int, int], Difference | None]) -> Floats:
    """Adjusted p-values of all pairs, of shape (k, k); nan where there is none, and below the diagonal.

    Args:
        leads: of the listed pairs; their p-values take precedence over the matrix of all.
    """
    k = len(drawn)
    found = np.full((k, k), np.nan)
    upper = np.triu_indices(k, 1)
    every = pairwise.p_values(drawn)
    for pair, lead in leads.items():
        every[pair] = lead.p_value if lead is not None else np.nan
    raw = every[upper]
    known = np.isfinite(raw)
    corrected = np.full(len(raw), np.nan)
    corrected[known] = inference.holm(raw[known].tolist())
    found[upper] = corrected
    return found


def _starts(apart: NDArray[np.bool_]) -> list[int]:
    """Draw tiers down the ranking: an entry that is separated from the first of the current tier opens the next.

    Args:
        apart: shape (k, k), True where the data separate the two in favour of the row's entry.
    """
    starts = [0]
    for place in range(1, len(apart)):
        if apart[starts[-1], place]:
            starts.append(place)
    return starts


def _lead(drawn: Sequence[Resampled], i: int, j: int) -> Difference | None:
    upward = METRICS[drawn[i].name].higher_is_better
    return estimates.between(drawn[i], drawn[j]) if upward else estimates.between(drawn[j], drawn[i])


def _yardsticks(ranked: Sequence[Entry], starts: Sequence[int]) -> list[int]:
    """The competitors that the leader is measured by: the best that were not fine-tuned, or else the majority class, or
    the second tier's first."""
    others = range(1, len(ranked))
    found = [i for i in others if ranked[i].adapter_id is None and ranked[i].backend != "majority"]
    found = found or [i for i in others if ranked[i].backend == "majority"]
    return (found or list(starts[1:2]))[:HEADLINE_COMPARISONS]


def headline(section: Section) -> Headline | None:
    """The leader of a split, its ties, and its lead over the best models that were not fine-tuned."""
    ranked = [entry for entry in section.entries if entry.ranked]
    if not ranked:
        return None
    leader = ranked[0]
    starts = [section.tiers[1].model_ids[0]] if len(section.tiers) > 1 else []
    second = [next(i for i, entry in enumerate(ranked) if entry.model_id == name) for name in starts]
    named = [ranked[i].model_id for i in _yardsticks(ranked, [0, *second])]
    comparisons = tuple(
        pair
        for pair in section.pairs
        if pair.model_id == leader.model_id and pair.other_id in named and pair.lead is not None
    )
    return Headline(leader, section.tiers[0].model_ids[1:], comparisons, section.best, len(ranked))
