"""Comparisons of models as finished text: the headline, the gaps between tiers, every pair.

The rows of `templates/index.html` that compare.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from harness.stats.estimates import Difference
from leaderboard.board.records import Board, Headline, Pair, Section, Tier
from leaderboard.pages import formats, links
from leaderboard.pages.parts import Cell


@dataclass(frozen=True, slots=True)
class Clause:
    """A part of a sentence that may end in numbers, which must not be broken across lines."""

    text: str
    interval: str


@dataclass(frozen=True, slots=True)
class HeadlineRow:
    """The sentence that a suite opens with; the leader's name comes first and is a link."""

    leader: str
    href: str
    metric: str
    score: str
    interval: str
    clauses: tuple[Clause, ...]


@dataclass(frozen=True, slots=True)
class PairRow:
    """A comparison with a lower-ranked model."""

    model_id: str
    lead: Cell
    adjusted_p: str
    apart: bool


@dataclass(frozen=True, slots=True)
class PairGroup:
    """A model and its comparisons with those below it."""

    model_id: str
    rows: tuple[PairRow, ...]


def headline_row(board: Board, headline: Headline) -> HeadlineRow:
    """The leader of the first split and its lead."""
    leader, name = headline.leader, board.suite.primary_metric
    metric, n_seeds = leader.metrics[name], len(leader.runs)
    seeds = f" over {n_seeds} seeds" if n_seeds > 1 else ""
    clauses = [Clause(f"on {formats.count(metric.n)} examples of {leader.split_id}{seeds}", "")]
    clauses += [_standing(pair, pair.lead) for pair in headline.comparisons if pair.lead is not None]
    named = {pair.other_id for pair in headline.comparisons}
    tied = [model_id for model_id in headline.tied if model_id not in named]
    if tied:
        clauses.append(Clause(f"not separable from {_listed(tied)}", ""))
    if (found := headline.corrected) is not None:
        clauses.append(
            Clause(
                f"corrected for being the best of {headline.n_candidates}: {formats.score(found.value)}",
                formats.interval(found.ci_low, found.ci_high),
            )
        )
    return HeadlineRow(
        leader.model_id,
        links.href(links.model_file(board.suite.name, leader.model_id)),
        formats.metric_phrase(name),
        formats.score(metric.value),
        formats.interval(metric.ci_low, metric.ci_high),
        tuple(clauses),
    )


def _standing(pair: Pair, lead: Difference) -> Clause:
    interval = formats.interval(lead.ci_low, lead.ci_high)
    if pair.apart:
        return Clause(f"ahead of {pair.other_id} by {formats.score(lead.value)}", interval)
    return Clause(
        f"not separable from {pair.other_id}: difference {formats.difference(lead.value)}",
        f"{interval}, p {formats.p_value(pair.adjusted_p)}",
    )


def gaps(tiers: Sequence[Tier]) -> tuple[str, ...]:
    """Sentences on the gap that opens each tier after the first."""
    return tuple(
        f"Tier {tier.number} begins at {tier.model_ids[0]}: {_behind(tier.gap, tier.gap.lead)} {above.model_ids[0]}."
        for above, tier in itertools.pairwise(tiers)
        if tier.gap is not None and tier.gap.lead is not None
    )


def _behind(gap: Pair, lead: Difference) -> str:
    interval = formats.interval(lead.ci_low, lead.ci_high)
    return f"{formats.score(lead.value)} {interval}, p {formats.p_value(gap.adjusted_p)}, behind"


def pair_groups(section: Section) -> tuple[PairGroup, ...]:
    """Every pair of ranked models, grouped by the higher-ranked one."""
    by_model = itertools.groupby(section.pairs, key=lambda pair: pair.model_id)
    return tuple(PairGroup(model_id, tuple(_pair_row(pair) for pair in pairs)) for model_id, pairs in by_model)


def _pair_row(pair: Pair) -> PairRow:
    lead = Cell(formats.ABSENT, "")
    if pair.lead is not None:
        lead = Cell(formats.score(pair.lead.value), formats.interval(pair.lead.ci_low, pair.lead.ci_high))
    return PairRow(pair.other_id, lead, formats.p_value(pair.adjusted_p), pair.apart)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
