"""Calibration of a model: the reliability curve, and the calibration error that chance alone produces.

    found = of(seeds, run_keys)
    found.bins, found.ece, found.ece_by_chance

Confidence is the predicted class's probability. The bins are those of the metric `ece`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from harness.records import Metric, Outcomes
from harness.stats import estimates, inference
from harness.stats.inference import Floats
from harness.stats.metrics import ECE_BINS, confidence_bins, is_right

DRAWS = 1000
"""Number of sets of labels that `ece_by_chance` draws for each seed."""
OF_PROBABILITIES = ("ece", "brier", "log_loss")
"""Metrics of a `Calibration`."""
_CHUNK_CELLS = 4_000_000  # labels held at once: 32 MB of float64


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions in one range of confidence, of all seeds together."""

    low: float
    """Lower edge of the range, inclusive."""
    high: float
    """Upper edge, exclusive except for 1 in the last bin."""
    n: int
    """Number of predictions: an example counts once for each seed that has this confidence."""
    confidence: float
    """Mean probability of the predicted class, in [1/2, 1]."""
    accuracy: float
    """Share of correct predictions."""
    ci_low: float | None
    """Lower end of the accuracy's 95 % interval; None where the split is a single cluster."""
    ci_high: float | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration of a configuration's probabilities. Metrics are means over its seeds."""

    bins: tuple[Bin, ...]
    """From the least confident to the most; empty ones are absent."""
    ece: Metric
    ece_by_chance: float
    """Mean `ece` of a perfectly calibrated model with the same confidences on the same number of examples."""
    brier: Metric
    log_loss: Metric


def of(
    seeds: Sequence[Outcomes], run_keys: Sequence[str], known: Mapping[str, Metric] = MappingProxyType({})
) -> Calibration:
    """Measure the calibration of a configuration, with draws seeded by its runs.

    Args:
        seeds: the outcomes of each seed, all on the same examples in the same order.
        run_keys: keys of those seeds' runs, in the same order.
        known: metrics of these seeds by name that were summarised before.
    """
    missing = [name for name in OF_PROBABILITIES if name not in known]
    found = {**known, **estimates.summaries(missing, seeds, estimates.generator_for(run_keys))}
    return Calibration(
        bins=reliability(seeds, estimates.generator_for(run_keys, "reliability")),
        ece=found["ece"],
        ece_by_chance=ece_by_chance(seeds, estimates.generator_for(run_keys, "ece by chance")),
        brier=found["brier"],
        log_loss=found["log_loss"],
    )


def reliability(seeds: Sequence[Outcomes], generator: np.random.Generator) -> tuple[Bin, ...]:
    """Compute accuracy against confidence, in bins of equal width (Guo et al. 2017, "On calibration of modern neural
    networks", figure 1).

    One seed and no clusters: Wilson intervals. Otherwise the bootstrap over clusters (or examples) and seeds; Wilson
    intervals again, with the bin's mean share of the clusters (or examples), where no resample differs from the value.

    Args:
        seeds: the outcomes of each seed, all on the same examples in the same order.
        generator: source of the resampling.
    """
    estimates.check_paired(seeds)
    ones = np.ones((1, len(seeds[0].labels)))
    totals, hits, confidences = _sums(seeds, ones)[:, :, 0, :].sum(axis=1)
    intervals = _intervals(seeds, totals, hits, generator)
    found = []
    for k in np.flatnonzero(totals):
        low, high = intervals[k] or (None, None)
        means = float(confidences[k] / totals[k]), float(hits[k] / totals[k])
        found.append(Bin(k / ECE_BINS, (k + 1) / ECE_BINS, int(totals[k]), *means, low, high))
    return tuple(found)


def ece_by_chance(seeds: Sequence[Outcomes], generator: np.random.Generator) -> float:
    """Estimate the mean `ece` of these confidences if every prediction were right with a probability equal to them.

    The labels are drawn from the confidences (Bröcker & Smith 2007, "Increasing the reliability of reliability
    diagrams"), independently of each other: where examples of a cluster are right or wrong together, chance alone
    produces a larger error than this.

    Args:
        seeds: the outcomes of each seed; their labels are not used.
        generator: source of the draws.
    """
    return float(np.mean([_ece_by_chance(outcomes, generator) for outcomes in seeds]))


def _ece_by_chance(outcomes: Outcomes, generator: np.random.Generator) -> float:
    confidence, bins = confidence_bins(outcomes)
    n, member = len(bins), np.eye(ECE_BINS)[bins]
    step = max(1, _CHUNK_CELLS // n)
    total = 0.0
    for start in range(0, DRAWS, step):
        drawn = generator.random((min(step, DRAWS - start), n)) < confidence
        total += float(np.abs((drawn - confidence) @ member).sum()) / n
    return total / DRAWS


def _sums(seeds: Sequence[Outcomes], weights: Floats) -> Floats:
    """Sum the weighted predictions, right ones and confidence in every bin, shape (3, seeds, b, bins).

    Args:
        weights: shape (b, n).
    """
    each = []
    for outcomes in seeds:
        confidence, bins = confidence_bins(outcomes)
        member = np.eye(ECE_BINS)[bins]
        each.append(
            [weights @ member, weights @ (member.T * is_right(outcomes)).T, weights @ (member.T * confidence).T]
        )
    return np.stack([np.stack(sums) for sums in each], axis=1)


def _intervals(
    seeds: Sequence[Outcomes], totals: Floats, hits: Floats, generator: np.random.Generator
) -> list[tuple[float, float] | None]:
    """Intervals of the accuracy in every bin; None for empty bins, and for all if there is only one cluster."""
    units = estimates.units_of(seeds[0])
    if seeds[0].clusters is not None and units.max() == 0:
        return [None] * ECE_BINS
    share = estimates.n_units(seeds[0]) / len(units) / len(seeds)
    wilson = [_wilson(hits[k] * share, totals[k] * share) for k in range(ECE_BINS)]
    if len(seeds) == 1 and seeds[0].clusters is None:
        return wilson
    chunks = [_sums(seeds, weights)[:2] for weights in inference.resampled_weights(units, generator)]
    by_seed = np.concatenate(chunks, axis=2)  # (predictions and right ones, seeds, resamples, bins)
    chosen = inference.resampled_seeds(len(seeds), by_seed.shape[2], generator)[np.newaxis, :, :, np.newaxis]
    drawn_totals, drawn_hits = np.take_along_axis(by_seed, chosen, axis=1).sum(axis=1)
    with np.errstate(invalid="ignore"):
        resampled = drawn_hits / drawn_totals  # 0 / 0 where a resample leaves a bin empty: it does not count there
    found = [inference.percentile_interval(resampled[:, k]) for k in range(ECE_BINS)]
    return [
        of_wilson if interval is None or interval[0] == interval[1] else interval
        for interval, of_wilson in zip(found, wilson, strict=True)
    ]


def _wilson(hits: float, total: float) -> tuple[float, float] | None:
    if not total:
        return None
    n = max(1, round(total))
    return inference.wilson(round(hits / total * n), n)
