"""Metrics of predictions, each defined once, as a function of weighted examples.

A metric maps outcomes and weights of shape (b, n) to b values: weights of one give the metric itself, bootstrap weights
give b resamples of it at once. So a value and its interval cannot disagree on the definition. A new metric is a row of
`METRICS`; the contract tests compare it with scikit-learn's.

`nan` means undefined. Means over seeds, intervals and comparisons are in `estimates`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harness.artifacts import plugins
from harness.errors import UsageError
from harness.records import UNLABELLED, Metric, Outcomes, Split
from harness.stats.inference import Floats, Ints

ECE_BINS = 15
_CLIP = 1e-15  # as in scikit-learn: a certain and wrong answer costs 34.5 nats, not infinity


@dataclass(frozen=True, slots=True)
class Definition:
    """A metric: its function from (outcomes, weights of shape (b, n)) to shape (b,), and its good direction."""

    values: Callable[[Outcomes, Floats], Floats]
    higher_is_better: bool
    of_table: Callable[[Floats, Floats, Floats, Floats], Floats] | None = None
    """The same from the weights of true positives, false positives, false negatives and true negatives, arrays of one
    shape; None if it depends on scores, not on labels and predicted classes only."""
    lowest: float = 0.0
    """Lower bound of its values."""
    highest: float = 1.0
    """Upper bound of its values."""
    of_pairs: bool = False
    """True for a share of pairs, which needs no labels unless it says so."""


def _ratio(over: Floats, under: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(under == 0, np.nan, over / under)


def cells(outcomes: Outcomes) -> NDArray[np.bool_]:
    """Mask the true positives, false positives, false negatives and true negatives: shape (4, n)."""
    label, predicted = outcomes.labels == 1, outcomes.predicted == 1
    return np.stack([label & predicted, ~label & predicted, label & ~predicted, ~label & ~predicted])


def _accuracy(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    return _ratio(tp + tn, tp + fp + fn + tn)


def _f1(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    return _ratio(2 * tp, 2 * tp + fp + fn)


def _precision(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    return _ratio(tp, tp + fp)


def _recall(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    return _ratio(tp, tp + fn)


def _mcc(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    return _ratio(tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))


def _roc_auc(outcomes: Outcomes, weights: Floats) -> Floats:
    """Chance that a positive scores above a negative, ties counting one half (Hanley & McNeil 1982)."""
    order = np.argsort(outcomes.scores, kind="stable")
    labels, scores = outcomes.labels[order], outcomes.scores[order]
    positive, negative = order[labels == 1], order[labels != 1]
    below, not_above = (np.searchsorted(scores[labels != 1], scores[labels == 1], side) for side in ("left", "right"))
    by_example = weights.T  # resamples lie beside one another in memory
    wins = np.zeros((len(negative) + 1, len(weights)))
    np.cumsum(by_example[negative], axis=0, out=wins[1:])
    won = wins[below] if np.array_equal(below, not_above) else (wins[below] + wins[not_above]) / 2
    drawn = by_example[positive]
    return _ratio(np.einsum("nb,nb->b", drawn, won), drawn.sum(axis=0) * wins[-1])


def _log_loss(outcomes: Outcomes, weights: Floats) -> Floats:
    """Mean negative log probability of the true label, in nats."""
    of_label = np.where(outcomes.labels == 1, outcomes.scores, 1 - outcomes.scores)
    return _ratio(weights @ -np.log(np.clip(of_label, _CLIP, 1)), weights.sum(axis=1))


def _brier(outcomes: Outcomes, weights: Floats) -> Floats:
    """Mean squared difference of the probability of class 1 and the label, in [0, 1] (Brier 1950)."""
    return _ratio(weights @ (outcomes.scores - outcomes.labels) ** 2, weights.sum(axis=1))


def _ece(outcomes: Outcomes, weights: Floats) -> Floats:
    """Expected calibration error over 15 equal bins of the predicted class's probability (Guo et al. 2017).

    Biased upwards on small samples: even a calibrated model's bins miss their confidence by chance.
    """
    confidence, bins = confidence_bins(outcomes)
    gap = is_right(outcomes) - confidence
    per_bin = np.zeros((len(gap), ECE_BINS))
    per_bin[np.arange(len(gap)), bins] = gap
    return _ratio(np.abs(weights @ per_bin).sum(axis=1), weights.sum(axis=1))


def _of_labels(values: Callable[[Outcomes, Floats], Floats]) -> Callable[[Outcomes, Floats], Floats]:
    """Make a metric undefined where labels are missing."""

    def defined(outcomes: Outcomes, weights: Floats) -> Floats:
        if UNLABELLED in outcomes.labels:
            return np.full(len(weights), np.nan)
        return values(outcomes, weights)

    return defined


def _of_table(values: Callable[[Floats, Floats, Floats, Floats], Floats], lowest: float = 0.0) -> Definition:
    """Define a metric by the four cells of a table of labels and predictions."""

    def weighted(outcomes: Outcomes, weights: Floats) -> Floats:
        return values(*cells(outcomes).astype(np.float64) @ weights.T)

    return Definition(_of_labels(weighted), higher_is_better=True, of_table=values, lowest=lowest)


def _share_of_pairs(outcomes: Outcomes, weights: Floats, good: NDArray[np.bool_]) -> Floats:
    """Share of the pairs all of whose examples are good, each pair with the mean weight of its examples.

    Args:
        good: shape (n,).
    """
    if outcomes.pairs is None:
        return np.full(len(weights), np.nan)
    whole = outcomes.pairs >= 0
    _, pair, sizes = np.unique(outcomes.pairs[whole], return_inverse=True, return_counts=True)
    wholly = np.bincount(pair, weights=good[whole], minlength=len(sizes)) == sizes
    each = weights[:, whole] / sizes[pair]
    return _ratio(each @ wholly[pair].astype(np.float64), each.sum(axis=1))


def _pair_accuracy(outcomes: Outcomes, weights: Floats) -> Floats:
    """Share of pairs that are wholly right (contrast consistency, Gardner et al. 2020)."""
    return _share_of_pairs(outcomes, weights, is_right(outcomes))


def _invariance(outcomes: Outcomes, weights: Floats) -> Floats:
    """Share of pairs whose examples all get the same answer (Ribeiro et al. 2020); undefined where scores must move."""
    if outcomes.pairs is None or outcomes.changes is None or outcomes.changes.any():
        return np.full(len(weights), np.nan)
    _, first, pair = np.unique(outcomes.pairs, return_index=True, return_inverse=True)
    return _share_of_pairs(outcomes, weights, outcomes.predicted == outcomes.predicted[first[pair]])


def _direction(outcomes: Outcomes, weights: Floats) -> Floats:
    """Share of pairs in which every changed example's score is on the right side of the original's; a tie is not."""
    if outcomes.pairs is None or outcomes.changes is None or not outcomes.changes.any():
        return np.full(len(weights), np.nan)
    _, pair = np.unique(outcomes.pairs, return_inverse=True)
    original = outcomes.changes == 0
    with np.errstate(invalid="ignore"):  # nan for what is in no pair
        before = np.bincount(pair[original], outcomes.scores[original]) / np.bincount(pair[original])
    moved = (outcomes.scores - before[pair]) * outcomes.changes > 0
    return _share_of_pairs(outcomes, weights, original | moved)


class _WithPlugIns(dict[str, Definition]):
    """The built-in metrics; one that is looked up and is not among them is a plug-in's."""

    def __missing__(self, name: str) -> Definition:
        found = plugins.load("metric", name)
        if not isinstance(found, Definition):
            raise UsageError(
                f"metric {name!r} of {plugins.origin('metric', name).distribution} is a {type(found).__name__}; it "
                "must be a `harness.stats.metrics.Definition`"
            )
        return replace(found, values=_of_labels(found.values))


METRICS: dict[str, Definition] = _WithPlugIns(
    {
        "accuracy": _of_table(_accuracy),
        "f1": _of_table(_f1),
        "precision": _of_table(_precision),
        "recall": _of_table(_recall),
        "mcc": _of_table(_mcc, lowest=-1.0),
        "roc_auc": Definition(_of_labels(_roc_auc), higher_is_better=True),
        "log_loss": Definition(_of_labels(_log_loss), higher_is_better=False, highest=math.inf),
        "brier": Definition(_of_labels(_brier), higher_is_better=False),
        "ece": Definition(_of_labels(_ece), higher_is_better=False),
        "pair_accuracy": Definition(_of_labels(_pair_accuracy), higher_is_better=True, of_pairs=True),
        "invariance": Definition(_invariance, higher_is_better=True, of_pairs=True),
        "direction": Definition(_direction, higher_is_better=True, of_pairs=True),
    }
)


def origin(name: str) -> str | None:
    """The release and the code of the package that defines a metric; None for a built-in one."""
    return None if name in METRICS else str(plugins.origin("metric", name))


def current(stored: Sequence[Metric]) -> dict[str, Metric]:
    """Select the stored metrics, by name, whose definition is the one that is installed."""
    installed = plugins.names("metric")
    return {
        metric.name: metric
        for metric in stored
        if metric.origin is None or (metric.name in installed and metric.origin == origin(metric.name))
    }


def value(name: str, outcomes: Outcomes) -> float:
    """Compute the metric `name` of these outcomes; nan where it is undefined."""
    return float(METRICS[name].values(outcomes, np.ones((1, len(outcomes.labels))))[0])


def is_right(outcomes: Outcomes) -> NDArray[np.bool_]:
    """Mask the examples whose predicted label is their label: shape (n,)."""
    return np.asarray(outcomes.labels == outcomes.predicted)


def confidence_bins(outcomes: Outcomes) -> tuple[Floats, Ints]:
    """Compute each example's confidence, the probability of its predicted class in [1/2, 1], and its bin.

    Bin k, of 0…`ECE_BINS` - 1, holds confidences from k / `ECE_BINS` up to the next bin; the last also holds 1. Both
    have shape (n,).
    """
    confidence = np.maximum(outcomes.scores, 1 - outcomes.scores)
    return confidence, np.minimum((confidence * ECE_BINS).astype(np.int64), ECE_BINS - 1)


def disagreements(first: Outcomes, second: Outcomes) -> tuple[int, int]:
    """Count the examples that only the first gets right, and those that only the second gets right."""
    one, other = is_right(first), is_right(second)
    return int((one & ~other).sum()), int((other & ~one).sum())


def of_split(split: Split, predicted: Ints, scores: Floats) -> Outcomes:
    """Put answers beside the truth.

    Args:
        predicted: shape (n,), in the split's order; empty for the truth alone.
        scores: likewise.
    """
    examples = split.examples
    clusters, paired = [example.cluster for example in examples], any(example.pair is not None for example in examples)
    pairs = np.unique([str(example.pair) for example in examples], return_inverse=True)[1] if paired else None
    return Outcomes(
        example_ids=tuple(example.example_id for example in examples),
        labels=np.array([example.label for example in examples], dtype=np.int64),
        predicted=predicted,
        scores=scores,
        clusters=None if None in clusters or not clusters else np.array(clusters, dtype=np.str_),
        pairs=None if pairs is None else pairs.astype(np.int64),
        changes=np.array([example.change for example in examples], dtype=np.int64) if paired else None,
    )


def subset(outcomes: Outcomes, chosen: NDArray[np.bool_]) -> Outcomes:
    """Select the outcomes of some of the examples. A pair that is torn apart is no pair any more.

    Args:
        chosen: mask of shape (n,).
    """
    pairs, changes = outcomes.pairs, outcomes.changes
    if pairs is not None and changes is not None:
        pairs = np.where(np.isin(pairs, pairs[~chosen]), -1, pairs)[chosen]
        changes = changes[chosen]
    return Outcomes(
        example_ids=tuple(example_id for example_id, kept in zip(outcomes.example_ids, chosen, strict=True) if kept),
        labels=outcomes.labels[chosen],
        predicted=outcomes.predicted[chosen],
        scores=outcomes.scores[chosen],
        clusters=None if outcomes.clusters is None else outcomes.clusters[chosen],
        pairs=pairs,
        changes=changes,
    )
