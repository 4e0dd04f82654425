"""What is measured about predictions, each metric defined once, as a function of weighted examples.

A metric maps outcomes and weights of shape (b, n) to b values: with all weights one it is the metric itself, with
bootstrap weights it is b resamples of it at once. So a value and its interval cannot disagree on the definition. A new
metric is a row of `METRICS`; the contract tests hold it to scikit-learn's.

`nan` means undefined, and leaves this module as None.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from harness import digest, stats
from harness.records import Metric, Outcomes
from harness.stats import Floats, Ints

ECE_BINS = 15
_CLIP = 1e-15  # as scikit-learn had it: a certain and wrong answer costs 34.5 nats, not infinity


@dataclass(frozen=True, slots=True)
class Definition:
    """A metric: its function of (outcomes, weights of shape (b, n)) to shape (b,), and which direction is good."""

    values: Callable[[Outcomes, Floats], Floats]
    higher_is_better: bool


class Difference(NamedTuple):
    """Candidate minus reference, with its 95 % interval."""

    value: float
    ci_low: float
    ci_high: float
    n: int


def _ratio(over: Floats, under: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(under == 0, np.nan, over / under)


def _confusion(outcomes: Outcomes, weights: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """True positives, false positives, false negatives, true negatives; each of shape (b,)."""
    label, predicted = outcomes.labels == 1, outcomes.predicted == 1
    cells = np.stack([label & predicted, ~label & predicted, label & ~predicted, ~label & ~predicted])
    tp, fp, fn, tn = cells.astype(np.float64) @ weights.T
    return tp, fp, fn, tn


def _accuracy(outcomes: Outcomes, weights: Floats) -> Floats:
    return _ratio(weights @ (outcomes.labels == outcomes.predicted).astype(np.float64), weights.sum(axis=1))


def _f1(outcomes: Outcomes, weights: Floats) -> Floats:
    tp, fp, fn, _ = _confusion(outcomes, weights)
    return _ratio(2 * tp, 2 * tp + fp + fn)


def _precision(outcomes: Outcomes, weights: Floats) -> Floats:
    tp, fp, _, _ = _confusion(outcomes, weights)
    return _ratio(tp, tp + fp)


def _recall(outcomes: Outcomes, weights: Floats) -> Floats:
    tp, _, fn, _ = _confusion(outcomes, weights)
    return _ratio(tp, tp + fn)


def _mcc(outcomes: Outcomes, weights: Floats) -> Floats:
    tp, fp, fn, tn = _confusion(outcomes, weights)
    return _ratio(tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))


def _roc_auc(outcomes: Outcomes, weights: Floats) -> Floats:
    """Chance that a positive scores above a negative, ties counting one half (Hanley & McNeil 1982)."""
    order = np.argsort(outcomes.scores, kind="stable")
    ties = np.flatnonzero(np.diff(outcomes.scores[order], prepend=-np.inf))
    positive = np.add.reduceat(weights[:, order] * (outcomes.labels[order] == 1), ties, axis=1)
    negative = np.add.reduceat(weights[:, order] * (outcomes.labels[order] == 0), ties, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    return _ratio((positive * below).sum(axis=1), positive.sum(axis=1) * negative.sum(axis=1))


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
    confidence = np.maximum(outcomes.scores, 1 - outcomes.scores)
    gap = (outcomes.labels == outcomes.predicted) - confidence
    bins = np.minimum((confidence * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    per_bin = np.zeros((len(gap), ECE_BINS))
    per_bin[np.arange(len(gap)), bins] = gap
    return _ratio(np.abs(weights @ per_bin).sum(axis=1), weights.sum(axis=1))


METRICS: dict[str, Definition] = {
    "accuracy": Definition(_accuracy, higher_is_better=True),
    "f1": Definition(_f1, higher_is_better=True),
    "precision": Definition(_precision, higher_is_better=True),
    "recall": Definition(_recall, higher_is_better=True),
    "mcc": Definition(_mcc, higher_is_better=True),
    "roc_auc": Definition(_roc_auc, higher_is_better=True),
    "log_loss": Definition(_log_loss, higher_is_better=False),
    "brier": Definition(_brier, higher_is_better=False),
    "ece": Definition(_ece, higher_is_better=False),
}


def generator_for(name: str, run_keys: Sequence[str]) -> np.random.Generator:
    """The generator for a number about these runs: it has the same interval wherever it is shown.

    One run's is that of its key, as it was stored; several runs' also that of the metric.
    """
    seed = run_keys[0] if len(run_keys) == 1 else digest.of_json([name, *run_keys])
    return np.random.default_rng(int(seed[:16], 16))


def summarise(name: str, seeds: Sequence[Outcomes], generator: np.random.Generator) -> Metric:
    """A metric's mean over a configuration's seeds, with a 95 % interval over examples and seeds.

    One seed, no clusters and accuracy: Wilson. Otherwise the bootstrap over clusters (or examples) and seeds. Where no
    resample differs from the value (all right, all wrong), accuracy falls back to Wilson, which admits doubt. A single
    cluster gives no interval.

    Args:
        name: a key of `METRICS`.
        seeds: the outcomes of each seed, all on the same examples in the same order.
        generator: source of the resampling.
    """
    definition, n = METRICS[name], len(seeds[0].labels)
    _check_paired(seeds)
    value = float(np.mean([_value(definition, outcomes) for outcomes in seeds]))
    if not np.isfinite(value):
        return Metric(name, None, None, None, n, definition.higher_is_better)
    if name == "accuracy" and len(seeds) == 1 and seeds[0].clusters is None:
        low, high = stats.wilson(round(value * n), n)
        return Metric(name, value, low, high, n, definition.higher_is_better)
    interval = stats.percentile_interval(_resampled(definition, seeds, generator))
    if name == "accuracy" and interval is not None and interval[0] == interval[1]:
        interval = stats.wilson(round(value * n), n)
    if interval is None:
        return Metric(name, value, None, None, n, definition.higher_is_better)
    return Metric(name, value, *interval, n, definition.higher_is_better)


def difference(
    name: str, candidate: Sequence[Outcomes], reference: Sequence[Outcomes], generator: np.random.Generator
) -> Difference | None:
    """Candidate's mean minus reference's, paired by example: both sides see the same resampled examples.

    Returns:
        None where the metric is undefined for a side, or there is but one cluster and so no interval.
    """
    _check_paired([*candidate, *reference])
    definition = METRICS[name]
    value = float(
        np.mean([_value(definition, outcomes) for outcomes in candidate])
        - np.mean([_value(definition, outcomes) for outcomes in reference])
    )
    # One seed for both sides' examples keeps the pairing; the seeds of training are drawn independently.
    examples_seed = int(generator.integers(2**32))
    sides = [
        _resampled(definition, side, np.random.default_rng(examples_seed), generator) for side in (candidate, reference)
    ]
    interval = stats.percentile_interval(sides[0] - sides[1])
    if interval is None or not np.isfinite(value):
        return None
    return Difference(value, *interval, len(candidate[0].labels))


def _value(definition: Definition, outcomes: Outcomes) -> float:
    return float(definition.values(outcomes, np.ones((1, len(outcomes.labels))))[0])


def _resampled(
    definition: Definition,
    seeds: Sequence[Outcomes],
    examples: np.random.Generator,
    training: np.random.Generator | None = None,
) -> Floats:
    units = _units(seeds[0])
    if units.max() == 0:  # one unit says nothing of how units differ
        return np.full(stats.RESAMPLES, np.nan)
    chunks = [
        np.stack([definition.values(outcomes, weights) for outcomes in seeds])
        for weights in stats.resampled_weights(units, examples)
    ]
    return stats.mean_over_resampled_seeds(np.concatenate(chunks, axis=1), training or examples)


def _units(outcomes: Outcomes) -> Ints:
    if outcomes.clusters is None:
        return np.arange(len(outcomes.labels))
    return np.unique(outcomes.clusters, return_inverse=True)[1].astype(np.int64)


def _check_paired(many: Sequence[Outcomes]) -> None:
    if any(outcomes.example_ids != many[0].example_ids for outcomes in many[1:]):
        raise ValueError("outcomes can only be combined on the same examples in the same order")
