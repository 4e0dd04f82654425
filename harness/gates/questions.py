"""Rules as questions about a mean of bounded terms, which a part of a split may answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.gates.judge import Unjudgeable
from harness.stats.anytime import Side
from harness.stats.inference import Floats, Ints
from harness.stats.metrics import METRICS
from harness.suite.rules import Bound, Comparison, Flips, Rule

BLOCK = 32
"""Examples, at least, between two looks."""

TERMS: Mapping[str, Callable[[Floats, Ints], Floats]] = {
    "accuracy": lambda scores, labels: ((scores > 0.5) == labels).astype(np.float64),
    "brier": lambda scores, labels: (scores - labels) ** 2,
}
"""The terms in [0, 1] whose means are these metrics, from scores and labels of shape (n,)."""


def why_whole(rule: Rule) -> str | None:
    """Say why a rule needs the whole split; None if it can be decided on a part of it."""
    if not isinstance(rule, Bound | Comparison | Flips):
        return f"{rule.kind} is not about the mean of one split"
    if not isinstance(rule, Flips) and rule.metric not in TERMS:
        return f"{rule.metric} is not a mean of bounded terms"
    return None


@dataclass(frozen=True, slots=True)
class Question:
    """A rule as a question about a mean of bounded terms."""

    limit: float
    passes: Side
    low: float
    """Lower bound of a term."""
    high: float
    terms: Callable[[Sequence[Floats], Sequence[Floats], Ints], Floats]
    """From the scores of each seed of both sides, and labels, each of shape (n,), to terms of shape (n,)."""


def question(rule: Rule) -> Question:
    """Put a rule as a question about a mean.

    Raises:
        Unjudgeable: it is about something else.
    """
    if isinstance(rule, Flips):
        return Question(rule.limit, "below", 0.0, 1.0, _flips)
    if not isinstance(rule, Bound | Comparison):
        raise Unjudgeable(f"{rule.kind} is not about the mean of one split")
    of_metric = TERMS[rule.metric]

    def mean(seeds: Sequence[Floats], labels: Ints) -> Floats:
        return np.asarray(np.mean([of_metric(scores, labels) for scores in seeds], axis=0))

    if isinstance(rule, Bound):
        passes: Side = "above" if rule.kind == "min" else "below"
        return Question(rule.limit, passes, 0.0, 1.0, lambda ours, theirs, labels: mean(ours, labels))
    sign = 1.0 if METRICS[rule.metric].higher_is_better else -1.0
    limit = rule.limit if rule.kind == "superior_to" else -rule.limit
    return Question(
        limit, "above", -1.0, 1.0, lambda ours, theirs, labels: sign * (mean(ours, labels) - mean(theirs, labels))
    )


def _flips(ours: Sequence[Floats], theirs: Sequence[Floats], labels: Ints) -> Floats:
    """Share of the pairs of seeds in which the reference is right and the model wrong, by example."""
    right, was_right = (np.mean([(s > 0.5) == labels for s in side], axis=0) for side in (ours, theirs))
    return np.asarray((1 - right) * was_right)


def ends_of_blocks(sizes: Ints, least: int = BLOCK) -> Ints:
    """Find the places of the units after which it is looked: the last of each block, and the last of all."""
    found, block = [], 0
    for place, size in enumerate(sizes.tolist()):
        block += size
        if block >= least or place == len(sizes) - 1:
            found.append(place)
            block = 0
    return np.array(found, dtype=np.int64)
