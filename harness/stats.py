"""Intervals and paired resampling, over plain arrays. Every random draw takes an explicit generator.

The bootstrap resamples whole units: examples, or clusters of examples where a split names them, since sentences of one
review are not independent (Cameron, Gelbach & Miller 2008, "Bootstrap-based improvements for inference with clustered
errors"; intervals are percentile intervals, Efron & Tibshirani 1993, chapter 13).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

CONFIDENCE = 0.95
RESAMPLES = 2000
_CHUNK_CELLS = 4_000_000  # weights held at once: 32 MB of float64

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % Wilson score interval of a proportion (Wilson 1927), for `successes` of `n` ≥ 1 independent trials."""
    interval = scipy_stats.binomtest(successes, n).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def independent_difference(
    one: tuple[float, float, float], other: tuple[float, float, float]
) -> tuple[float, float, float]:
    """One minus other, of two independent estimates, with a 95 % interval recovered from theirs.

    The method of variance estimates recovery (Zou & Donner 2008, "Construction of confidence limits about effect
    measures"), for scores on different examples, which nothing pairs.

    Args:
        one: value, lower and upper end of its 95 % interval.
        other: the same.

    Returns:
        Value, lower and upper end of the difference.
    """
    value = one[0] - other[0]
    low = value - float(np.hypot(one[0] - one[1], other[2] - other[0]))
    high = value + float(np.hypot(one[2] - one[0], other[0] - other[1]))
    return value, low, high


def resampled_weights(units: Ints, generator: np.random.Generator, resamples: int = RESAMPLES) -> Iterator[Floats]:
    """Bootstrap weights in chunks.

    Args:
        units: shape (n,), for each example the number of its unit in 0…u-1.
        generator: source of the draws.
        resamples: how many in total.

    Yields:
        Arrays of shape (b, n), the b adding up to `resamples`: how often each example stands in each resample. Examples
        of one unit share their weight.
    """
    n_units = int(units.max()) + 1
    step = max(1, _CHUNK_CELLS // len(units))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = generator.multinomial(n_units, np.full(n_units, 1 / n_units), size=size)
        yield drawn[:, units].astype(np.float64)


def mean_over_resampled_seeds(values: Floats, generator: np.random.Generator) -> Floats:
    """Average over seeds, themselves resampled: the upper level of a hierarchical bootstrap.

    Args:
        values: shape (seeds, b), a statistic of each seed in each resample of the examples.

    Returns:
        Shape (b,). With one seed there is nothing to resample and it is returned as it is.
    """
    n_seeds, resamples = values.shape
    chosen = generator.integers(n_seeds, size=(n_seeds, resamples))
    return np.asarray(np.take_along_axis(values, chosen, axis=0).mean(axis=0))


def percentile_interval(values: Floats) -> tuple[float, float] | None:
    """95 % percentile interval of resampled values; resamples in which the statistic is undefined do not count.

    Returns:
        (low, high), or None where fewer than half of the resamples are defined.
    """
    defined = values[np.isfinite(values)]
    if len(defined) < len(values) / 2 or not len(defined):
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)
