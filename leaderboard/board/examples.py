"""The examples that pages and data files show, and those that every trained model gets wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.records import UNLABELLED, Example, Outcomes
from harness.stats.inference import Ints
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
    """The sections that have runs and examples."""
    return tuple(
        section for section in board.sections if section.n is not None and len(examples.get(section.split.id, ())) > 0
    )


def is_labelled(rows: Sequence[Example]) -> bool:
    """True if every example has a label; otherwise no answer is right or wrong, and pairs hold or break."""
    return not any(row.label == UNLABELLED for row in rows)


def pair_numbers(rows: Sequence[Example]) -> Ints:
    """The number of each example's pair: shape (n,). An example in no pair is one by itself."""
    names = [f"pair {row.pair}" if row.pair is not None else f"alone {i}" for i, row in enumerate(rows)]
    return np.asarray(np.unique(names, return_inverse=True)[1], dtype=np.int64)


def pairs_hold(rows: Sequence[Example], outcomes: Outcomes) -> NDArray[np.bool_]:
    """Mask of the examples whose pairs hold, as `invariance` and `direction` count them: shape (n,).

    A pair holds if all its examples get the same class or, where rows state in which direction their scores must be
    from the original's, if all of these are.
    """
    pair, changes = pair_numbers(rows), np.array([row.change for row in rows])
    _, first = np.unique(pair, return_index=True)
    good = outcomes.predicted == outcomes.predicted[first[pair]]
    if changes.any():
        original = changes == 0
        with np.errstate(invalid="ignore"):  # nan for a pair without an original
            before = np.bincount(pair[original], outcomes.scores[original], len(first)) / np.bincount(
                pair[original], minlength=len(first)
            )
        good = original | ((outcomes.scores - before[pair]) * changes > 0)
    return np.asarray(np.bincount(pair, good) == np.bincount(pair))[pair]


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
