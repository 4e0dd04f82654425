"""Intervals, paired tests, corrections and sample sizes, over plain arrays. Every draw takes an explicit generator.

The bootstrap resamples whole units: examples, or clusters of examples where a split names them, since sentences of one
review are not independent (Cameron, Gelbach & Miller 2008, "Bootstrap-based improvements for inference with clustered
errors"; intervals are percentile intervals, Efron & Tibshirani 1993, chapter 13).

scipy and statsmodels take seconds to import: the functions that need them do so.
"""

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.05
"""Slices whose adjusted p-value is below this differ."""

CONFIDENCE = 0.95
RESAMPLES = 2000
POWER = 0.8
"""Chance of a decision that planned sample sizes are for."""
AIM = 0.84
"""The chance that `more_examples` aims at, so that it comes to 80 % although standard errors are estimates."""
MOST_DRAWS = 64 * RESAMPLES
"""Where a limit lies close to an end of an interval that is drawn."""
MOST_GROWTH = 1000
"""A sample size beyond so many times the present one is not a plan."""
_Z = 1.959963984540054
"""The standard normal quantile of (1 + CONFIDENCE) / 2."""
_CHUNK_CELLS = 4_000_000  # weights held at once: 32 MB of float64

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % Wilson score interval of a proportion (Wilson 1927), for `successes` of `n` ≥ 1 independent trials."""
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def tango(only_first: int, only_second: int, n: int) -> tuple[float, float]:
    """95 % score interval of a difference of paired proportions (Tango 1998, "Equivalence test and confidence interval
    for the difference in proportions for the paired-sample design").

    To a difference what Wilson's interval is to a proportion: the variance is the one that the data would have if the
    truth lay at the interval's end. So it is never of zero width, and few disagreements make it wide.

    Args:
        only_first: examples that only the first classifier got right.
        only_second: examples that only the second got right.
        n: all examples, at least 1.

    Returns:
        (low, high) of first minus second, within [-1, 1].
    """
    from scipy.optimize import brentq

    value = (only_first - only_second) / n

    def excess(truth: float, sign: int) -> float:
        """Distance of estimate and truth, minus what 95 % allow of it; zero at an end of the interval."""
        variance = paired_variance(only_first / n, only_second / n, truth)
        return sign * (value - truth) - _Z * float(np.sqrt(variance / n))

    aside = 1e-12  # without disagreements the estimate itself is a root too
    low = brentq(excess, -1.0, value - aside, args=(1,)) if value > -1 else -1.0
    high = brentq(excess, value + aside, 1.0, args=(-1,)) if value < 1 else 1.0
    return float(low), float(high)


def paired_variance(only_first: float, only_second: float, truth: float) -> float:
    """Variance per example of a difference of paired proportions, if it were `truth` (Tango 1998).

    Args:
        only_first: share of examples that only the first classifier got right.
        only_second: share of examples that only the second got right.
        truth: first minus second, in [-1, 1]; the shares are fitted to it by maximum likelihood.
    """
    linear = only_first + only_second - (2 - only_first + only_second) * truth
    product = only_second * truth * (1 - truth)
    fitted_second = (linear + float(np.sqrt(max(0.0, linear**2 + 8 * product)))) / 4
    return max(0.0, 2 * fitted_second + truth * (1 - truth))


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p-value that two classifiers err equally often (McNemar 1947), given their disagreements.

    Args:
        only_first: examples that only the first classifier got right.
        only_second: examples that only the second got right.

    Returns:
        1 where nobody disagrees: then nothing speaks against equality.
    """
    from scipy.stats import binomtest

    disagreements = only_first + only_second
    return float(binomtest(only_first, disagreements).pvalue) if disagreements else 1.0


def mcnemar_many(only_first: Ints, only_second: Ints) -> Floats:
    """`mcnemar` of many pairs at once: arrays of one shape in, p-values of that shape out."""
    from scipy.stats import binom

    # At a chance of one half both tails are alike, so twice the smaller one is the exact two-sided p-value.
    tail = binom.cdf(np.minimum(only_first, only_second), only_first + only_second, 0.5)
    return np.minimum(1.0, 2 * tail)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values (Holm 1979): below α, all of them are right with probability 1 - α. In the order given."""
    return _adjusted(p_values, "holm")


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values (Benjamini & Hochberg 1995): of those below α a share of α is expected to be wrong."""
    return _adjusted(p_values, "fdr_bh")


def _adjusted(p_values: Sequence[float], method: str) -> list[float]:
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method=method)[1]] if len(p_values) else []


def two_sided_p(value: float, standard_error: float) -> float:
    """Normal two-sided p-value that the truth is zero (Efron & Tibshirani 1993, chapter 13: bootstrap standard error).

    Bootstrap counts would do too, but no p-value below 1/2000 can come from 2,000 resamples, and a correction over many
    comparisons needs smaller ones. Where nothing varies there is no evidence, and p = 1.
    """
    return 2 * _tail(abs(value) / standard_error) if standard_error > 0 else 1.0


def more_examples(gap: float, se_examples: float, se_seeds: float, n: int, power: float = AIM) -> int | None:
    """How many examples more make an undecided interval leave its limit out, with this probability.

    The predictive power (Spiegelhalter, Abrams & Myles 2004, section 6.5): what is not known of the true gap is
    averaged over, given its estimate and a flat prior; so an estimate that is close to its limit by chance asks for
    more examples, not for infinitely many. A decision in either direction counts. The seeds stay those that were
    trained.

    Args:
        gap: estimate minus limit.
        se_examples: standard error of the estimate that comes from the choice of examples, at `n`.
        se_seeds: the one that comes from the choice of seeds; more examples do not reduce it.
        n: examples that the estimate is from.
        power: the probability.

    Returns:
        None where a thousand times as many would not do.
    """

    def chance(growth: float) -> float:
        left = 1 / (1 + growth)
        half_width = _Z * float(np.hypot(se_examples * np.sqrt(left), se_seeds))
        spread = se_examples * float(np.sqrt(1 - left))
        return _chance_above(half_width, gap, spread) + _chance_above(half_width, -gap, spread)

    if se_examples == 0 or chance(MOST_GROWTH) < power:
        return None
    low, high = 1e-6, float(MOST_GROWTH)
    while high - low > 1e-3 * high:
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if chance(middle) < power else (low, middle)
    return int(np.ceil(high * n))


def examples_for(
    gap: float, se_examples: float, se_seeds: float, n: int, power: float = POWER, se_limit: float | None = None
) -> int | None:
    """How many examples in all give a rule this power, if the true gap is what is stated.

    Args:
        gap: true value minus limit, as supposed.
        se_examples: standard error from the choice of examples, at `n`; it falls with the root of their number.
        se_seeds: standard error from the choice of seeds, which no number of examples reduces.
        n: examples that `se_examples` is about.
        power: the probability of a decision.
        se_limit: the standard error at `n` that the interval supposes, where it is a score interval: as if the limit
            were the truth. `se_seeds` is 0 then.

    Returns:
        None where none are enough: the gap is zero, or the seeds alone spread too far.
    """
    if se_limit is not None:
        se_examples = (_Z * se_limit + _quantile(power) * se_examples) / (_Z + _quantile(power))
    left = allowed_error(gap, power) ** 2 - se_seeds**2
    return max(1, int(np.ceil(n * se_examples**2 / left))) if left > 0 else None


def allowed_error(gap: float, power: float = POWER) -> float:
    """The standard error with which an interval leaves its limit out with this probability, if the gap is true."""
    return abs(gap) / (_Z + _quantile(power))


def power_of(gap: float, se_examples: float, se_seeds: float, se_limit: float | None = None) -> float:
    """Probability that an interval leaves its limit out, on the side on which the truth is.

    Args:
        gap: true value minus limit, as supposed.
        se_examples: standard error from the choice of examples.
        se_seeds: standard error from the choice of seeds.
        se_limit: as for `examples_for`.
    """
    half_width = _Z * float(np.hypot(se_examples if se_limit is None else se_limit, se_seeds))
    return _chance_above(half_width, abs(gap), float(np.hypot(se_examples, se_seeds)))


def aimed(power: float, *, is_error_estimated: bool) -> float:
    """The power that a planned sample size aims at, so that it comes to the one that was asked for.

    The normal approximation is a little bold: a tenth of the chance of no decision is taken off, which makes 0.82 of
    0.8. Where the standard error is itself the estimate of a bootstrap it is a fifth, which makes `AIM`.
    """
    return power + (0.2 if is_error_estimated else 0.1) * (1 - power)


def _quantile(probability: float) -> float:
    return NormalDist().inv_cdf(probability)


def _chance_above(limit: float, mean: float, spread: float) -> float:
    """Probability that a normal variable lies above a limit; nan where nothing varies."""
    return _tail((limit - mean) / spread) if spread > 0 else math.nan


def _tail(z: float) -> float:
    """Probability that a standard normal variable is above `z`, exact far out too."""
    return math.erfc(z / math.sqrt(2)) / 2


def standard_error_of(value: float, low: float, high: float) -> float:
    """Standard error of a normal estimate whose 95 % interval reaches as far as the longer side of this one."""
    return max(value - low, high - value) / _Z


def is_near_an_end(limit: float, low: float, high: float, draws: int) -> bool:
    """Whether another draw might put the limit on the other side of an end of a percentile interval.

    An end is a quantile of the draws, and has an error itself: for normal draws sqrt(p (1 - p) / draws) divided by
    their density at that quantile (Efron & Tibshirani 1993, chapter 19). Four of these errors are asked for.
    """
    tail, half_width = (1 - CONFIDENCE) / 2, (high - low) / 2
    error = math.sqrt(tail * (1 - tail) / draws) / NormalDist().pdf(_Z) * half_width / _Z
    return min(abs(limit - low), abs(limit - high)) < 4 * error


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


def resampled_seeds(n_seeds: int, resamples: int, generator: np.random.Generator) -> Ints:
    """Which seeds make up each resample: the upper level of a hierarchical bootstrap.

    Bootknife (Hesterberg 2004, "Unbiasing the bootstrap: bootknife sampling vs. smoothing"): one seed, drawn anew for
    each resample, is left out, and as many as there are drawn with replacement from the rest. The variance of the mean
    is then the unbiased one, where the plain bootstrap's is too small by a third for three seeds.

    Returns:
        Shape (n_seeds, resamples), numbers in 0…n_seeds-1. With one seed there is nothing to draw.
    """
    if n_seeds == 1:
        return np.zeros((1, resamples), dtype=np.int64)
    left_out = generator.integers(n_seeds, size=resamples)
    drawn = generator.integers(n_seeds - 1, size=(n_seeds, resamples))
    return np.asarray(drawn + (drawn >= left_out), dtype=np.int64)


def mean_over_resampled_seeds(values: Floats, generator: np.random.Generator) -> Floats:
    """Average over seeds, themselves resampled.

    Args:
        values: shape (seeds, b), a statistic of each seed in each resample of the examples.

    Returns:
        Shape (b,). With one seed there is nothing to resample and it is returned as it is.
    """
    chosen = resampled_seeds(values.shape[0], values.shape[1], generator)
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
