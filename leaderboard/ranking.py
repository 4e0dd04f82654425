"""Who stands above whom on a split: every two ranked entries compared, tiers drawn, a headline chosen. Pure.

All entries of a split are resampled once, on the same examples; so a board of many models costs little more than one
comparison. The examples' draw is seeded by the examples and the draw of training seeds by the entry's own runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from harness import estimates, stats
from harness.metrics import METRICS
from harness.records import Outcomes
from leaderboard.board import Entry, Headline, Pair, Section, Tier

HEADLINE_COMPARISONS = 2
"""So many competitors that were not fine-tuned are named beside the leader."""


def pairs(name: str, ranked: Sequence[Entry], outcomes: Mapping[str, Outcomes]) -> tuple[Pair, ...]:
    """Every two ranked entries of a split compared, their p-values adjusted for how many there are (Holm 1979).

    Args:
        name: a key of `METRICS`.
        ranked: from best to worst, all on the same split.
        outcomes: by `run_id`, for every run of the entries.
    """
    if len(ranked) < 2:
        return ()
    sides = [[outcomes[scored.run.run_id] for scored in entry.runs] for entry in ranked]
    drawn = estimates.resampled(
        name,
        sides,
        estimates.examples_generator(name, sides[0][0]),
        [estimates.seeds_generator(name, [scored.run.run_key for scored in entry.runs]) for entry in ranked],
    )
    upward = METRICS[name].higher_is_better
    leads = [
        estimates.between(above, below) if upward else estimates.between(below, above)
        for above, below in combinations(drawn, 2)
    ]
    adjusted = iter(stats.holm([lead.p_value for lead in leads if lead is not None]))
    return tuple(
        Pair(above.model_id, below.model_id, lead, next(adjusted) if lead is not None else None)
        for (above, below), lead in zip(combinations(ranked, 2), leads, strict=True)
    )


def tiers(ranked: Sequence[str], compared: Sequence[Pair]) -> tuple[Tier, ...]:
    """Down the ranked models: one that is told apart from the first of the current tier opens the next.

    Args:
        ranked: model ids from best to worst.
        compared: every two of them.
    """
    pair_of = {(pair.model_id, pair.other_id): pair for pair in compared}
    found: list[Tier] = []
    for model_id in ranked:
        gap = pair_of[found[-1].model_ids[0], model_id] if found else None
        if gap is None or gap.apart:
            found.append(Tier(len(found) + 1, (model_id,), gap))
        else:
            found[-1] = replace(found[-1], model_ids=(*found[-1].model_ids, model_id))
    return tuple(found)


def headline(section: Section) -> Headline | None:
    """The leader of a split, its equals, and how far it is ahead of the best that was not fine-tuned."""
    ranked = [entry for entry in section.entries if entry.ranked]
    if not ranked:
        return None
    leader, *others = ranked
    # The yardstick is what was not fine-tuned; where the suite has nothing of the kind, the tier below.
    yardsticks = [entry for entry in others if entry.adapter_id is None and entry.backend != "majority"]
    yardsticks = yardsticks or [entry for entry in others if entry.backend == "majority"]
    yardsticks = yardsticks or [entry for entry in others if entry.tier == 2][:1]
    named = [entry.model_id for entry in yardsticks[:HEADLINE_COMPARISONS]]
    comparisons = tuple(
        pair
        for pair in section.pairs
        if pair.model_id == leader.model_id and pair.other_id in named and pair.lead is not None
    )
    return Headline(leader, section.tiers[0].model_ids[1:], comparisons)
