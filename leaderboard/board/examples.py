"""The examples that pages and data files show, and those that every trained model gets wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.records import UNLABELLED, Example, Outcomes
from leaderboard.board.records import Board, Section

Examples = Mapping[str, Sequence[Example]]
"""A suite's examples by split id, in the order of the split."""


@dataclass(frozen=True, slots=True)
class Consensus:
    """An example that every trained model of a split gets wrong: hard, or mislabelled."""

    position: int
    """Index in the split, from 0."""
    least: float
    """The smallest probability that any of the models gives to the wrong label, mean over its seeds; above 1/2."""


def shown_sections(board: Board, examples: Examples) -> tuple[Section, ...]:
    """The sections that have runs and examples with labels, without which no answer is right or wrong."""
    return tuple(
        section
        for section in board.sections
        if section.n is not None
        and len(rows := examples.get(section.split.id, ())) > 0
        and not any(row.label == UNLABELLED for row in rows)
    )


def consensus(section: Section, outcomes: Mapping[str, Outcomes]) -> list[Consensus]:
    """The examples that all trained models get wrong, those with the highest confidence first.

    A model's answer is its mean score over the seeds. The majority class and untrained heads have learned nothing and
    do not count; with fewer than two models there is no consensus.
    """
    trained = [entry for entry in section.entries if entry.ranked and entry.backend != "majority"]
    if len(trained) < 2:
        return []
    labels = outcomes[trained[0].runs[0].run.run_id].labels
    least = np.ones(len(labels))
    for entry in trained:
        score = np.mean([outcomes[scored.run.run_id].scores for scored in entry.runs], axis=0)
        least = np.minimum(least, np.where(labels == 1, 1 - score, score))
    order = np.argsort(-least, kind="stable")
    return [Consensus(int(i), float(least[i])) for i in order[least[order] > 0.5]]
