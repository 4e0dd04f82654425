"""Intervals, paired tests, corrections and sample sizes, over plain arrays. Every draw takes an explicit generator.

The bootstrap resamples whole units: examples, or clusters of examples where a split names them, since sentences of one
review are not independent (Cameron, Gelbach & Miller 2008, "Bootstrap-based improvements for inference with clustered
errors"; intervals are percentile intervals, Efron & Tibshirani 1993, chapter 13).

scipy takes long to import, its `stats` a second: the functions that need a part of it do so.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.05
"""Slices whose adjusted p-value is below this differ."""

CONFIDENCE = 0.95
RESAMPLES = 2000
POWER = 0.8
"""Probability of a decision for which sample sizes are planned."""
AIM = 0.84
"""Probability at which `more_examples` aims, to reach 80 % although standard errors are estimates."""
MOST_DRAWS = 64 * RESAMPLES
"""Most draws, used where a limit lies close to an end of an interval that is drawn."""
MOST_GROWTH = 1000
"""Largest planned sample size, as a multiple of the present one."""
_Z = 1.959963984540054
"""The standard normal quantile of (1 + CONFIDENCE) / 2."""
_CHUNK_CELLS = 4_000_000  # weights held at once: 32 MB of float64
_BLOCK_CELLS = 16_384

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Compute the 95 % Wilson score interval (Wilson 1927) for `successes` in `n` ≥ 1 independent trials."""
    share, z_squared = successes / n, _Z**2
    under = 2 * (n + z_squared)
    centre = (2 * n * share + z_squared) / under
    half_width = _Z / under * math.sqrt(4 * n * share * (1 - share) + z_squared)
    return 0.0 if successes == 0 else centre - half_width, 1.0 if successes == n else centre + half_width


def tango(only_first: int, only_second: int, n: int) -> tuple[float, float]:
    """Compute the 95 % score interval of a difference of paired proportions.

    Tango (1998), "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design". It is the counterpart of Wilson's interval for differences: its variance is the one that the data would
    have if the truth lay at the interval's end. So its width is never zero, and few disagreements make it wide.

    Args:
        only_first: number of examples that only the first classifier got right.
        only_second: number of examples that only the second got right.
        n: number of all examples, at least 1.

    Returns:
        (low, high) of first minus second, within [-1, 1].
    """
    value = (only_first - only_second) / n

    def is_outside(truth: float) -> bool:
        """True if estimate and truth are farther apart than 95 % allow."""
        variance = paired_variance(only_first / n, only_second / n, truth)
        return abs(value - truth) > _Z * math.sqrt(variance / n)

    return _edge(is_outside, -1.0, value), _edge(is_outside, 1.0, value)


def _edge(is_outside: Callable[[float], bool], outside: float, inside: float) -> float:
    """Find an end of an interval to 1e-16, by bisection: importing a solver takes longer than a gate takes to judge."""
    for _ in range(55):
        middle = (outside + inside) / 2
        if is_outside(middle):
            outside = middle
        else:
            inside = middle
    return outside


def paired_variance(only_first: float, only_second: float, truth: float) -> float:
    """Compute the variance per example of a difference of paired proportions, if it were `truth` (Tango 1998).

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
    """Compute the exact two-sided p-value for equal error rates of two classifiers (McNemar 1947).

    Args:
        only_first: number of examples that only the first classifier got right.
        only_second: number of examples that only the second got right.

    Returns:
        1 without disagreements: then there is no evidence against equality.
    """
    return float(mcnemar_many(np.array(only_first), np.array(only_second)))


def mcnemar_many(only_first: Ints, only_second: Ints) -> Floats:
    """Compute `mcnemar` for many pairs in one call: arrays of one shape in, p-values of that shape out."""
    from scipy.special import betainc

    # At a chance of one half both tails are alike, so twice the smaller one is the exact two-sided p-value. The tail of
    # a binomial distribution is an incomplete beta function.
    fewer, more = np.minimum(only_first, only_second), np.maximum(only_first, only_second)
    return np.where(more == 0, 1.0, np.minimum(1.0, 2 * betainc(np.maximum(more, 1), fewer + 1, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values (Holm 1979): of those below α, all are right with probability 1 - α. Keeps the order."""
    order, ascending = _sorted(p_values)
    return _in_place(order, np.maximum.accumulate(ascending * np.arange(len(order), 0, -1)))


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values (Benjamini & Hochberg 1995): of those below α, a share of α is expected to be wrong."""
    order, ascending = _sorted(p_values)
    shares = ascending / (np.arange(1, len(order) + 1) / len(order))
    return _in_place(order, np.minimum.accumulate(shares[::-1])[::-1])


def _sorted(p_values: Sequence[float]) -> tuple[Ints, Floats]:
    """Sort p-values: their places in ascending order, and the values in that order."""
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values)
    return order, values[order]


def _in_place(order: Ints, adjusted: Floats) -> list[float]:
    """Put adjusted p-values, given in ascending order, back where they came from; none exceeds 1."""
    found = np.empty(len(order))
    found[order] = np.minimum(1.0, adjusted)
    return [float(p) for p in found]


def two_sided_p(value: float, standard_error: float, degrees: float = math.inf) -> float:
    """Compute the two-sided p-value for a true value of zero, by Student's t, or the normal without few seeds.

    It divides by the bootstrap standard error (Efron & Tibshirani 1993, chapter 13). Bootstrap counts would work too,
    but 2,000 resamples give no p-value below 1/2000, and a correction over many comparisons needs smaller ones. Where
    nothing varies there is no evidence, and p = 1.

    Args:
        degrees: degrees of freedom of the standard error, from `welch_degrees`.
    """
    if not standard_error > 0:
        return 1.0
    if math.isinf(degrees):
        return 2 * _tail(abs(value) / standard_error)
    from scipy.special import stdtr

    return 2 * float(stdtr(degrees, -abs(value) / standard_error))


def short_p(gap: float, high: float, degrees: float = math.inf) -> float:
    """Compute the one-sided p-value of a truth that is not short of a limit, from a 95 % interval.

    The interval is extended to other levels as a normal one, or one of Student's t. So the p-value is 2.5 % where the
    interval ends at the limit, and smaller exactly where all of it is short. An interval without width says no more
    than that.

    Args:
        gap: estimate minus limit, positive where it is not short.
        high: upper end of the gap's interval.
        degrees: degrees of freedom of the interval, from `welch_degrees`.
    """
    if not high > gap:
        return ALPHA / 2 if gap < 0 else 1.0
    if math.isinf(degrees):
        return _tail(_Z * -gap / (high - gap))
    from scipy.special import stdtr, stdtrit

    return float(stdtr(degrees, float(stdtrit(degrees, (1 + CONFIDENCE) / 2)) * gap / (high - gap)))


def score_p(gap: float, error: float) -> float:
    """Compute the p-value of `short_p` for a score interval.

    Args:
        error: standard error of the estimate if the limit were the truth.
    """
    if not error > 0:
        return 0.0 if gap < 0 else 1.0
    return _tail(-gap / error)


def welch_degrees(variance: float, of_seeds: Sequence[tuple[float, int]]) -> float:
    """Compute the degrees of freedom of an estimated variance, of which a part comes from few seeds.

    Welch (1938) and Satterthwaite (1946). The part that examples add is taken as known: there are many of them.

    Args:
        variance: of the estimate, from examples and seeds.
        of_seeds: for each side the part that its seeds add to it, and their number.

    Returns:
        Infinity where seeds add nothing.
    """
    few = sum(part**2 / (n - 1) for part, n in of_seeds if n > 1)
    return variance**2 / few if few > 0 else math.inf


def widened(value: float, interval: tuple[float, float], degrees: float) -> tuple[float, float]:
    """Widen a 95 % interval whose width takes the variance as known, as Student's t is wider than the normal."""
    if math.isinf(degrees):
        return interval
    from scipy.special import stdtrit

    factor = float(stdtrit(degrees, (1 + CONFIDENCE) / 2)) / _Z
    return value - factor * (value - interval[0]), value + factor * (interval[1] - value)


def more_examples(gap: float, se_examples: float, se_seeds: float, n: int, power: float = AIM) -> int | None:
    """Compute the number of further examples with which an undecided interval probably excludes its limit.

    This is the predictive power (Spiegelhalter, Abrams & Myles 2004, section 6.5): it averages over the unknown true
    gap, given its estimate and a flat prior; so an estimate that is close to its limit by chance asks for more
    examples, not for infinitely many. A decision in either direction counts. The seeds stay those that were trained.

    Args:
        gap: estimate minus limit.
        se_examples: standard error of the estimate from the choice of examples, at `n`.
        se_seeds: standard error from the choice of seeds; more examples do not reduce it.
        n: number of examples of the estimate.
        power: the probability of a decision.

    Returns:
        None if a thousand times as many examples are not enough.
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
    """Compute the total number of examples that gives a rule this power, for a given true gap.

    Args:
        gap: assumed true value minus limit.
        se_examples: standard error from the choice of examples, at `n`; it falls with the root of their number.
        se_seeds: standard error from the choice of seeds, which no number of examples reduces.
        n: number of examples to which `se_examples` belongs.
        power: the probability of a decision.
        se_limit: for a score interval, the standard error at `n` if the limit were the truth. `se_seeds` is 0 then.

    Returns:
        None if no number is enough: the gap is zero, or the seeds alone spread too far.
    """
    if se_limit is not None:
        se_examples = (_Z * se_limit + _quantile(power) * se_examples) / (_Z + _quantile(power))
    left = allowed_error(gap, power) ** 2 - se_seeds**2
    return max(1, int(np.ceil(n * se_examples**2 / left))) if left > 0 else None


def allowed_error(gap: float, power: float = POWER) -> float:
    """Compute the standard error with which an interval excludes its limit with this probability, for a true gap."""
    return abs(gap) / (_Z + _quantile(power))


def power_of(gap: float, se_examples: float, se_seeds: float, se_limit: float | None = None) -> float:
    """Compute the probability that an interval excludes its limit, on the side of the truth.

    Args:
        gap: assumed true value minus limit.
        se_examples: standard error from the choice of examples.
        se_seeds: standard error from the choice of seeds.
        se_limit: as for `examples_for`.
    """
    half_width = _Z * float(np.hypot(se_examples if se_limit is None else se_limit, se_seeds))
    return _chance_above(half_width, abs(gap), float(np.hypot(se_examples, se_seeds)))


def aimed(power: float, *, is_error_estimated: bool) -> float:
    """Raise the power at which a planned sample size aims, so that it reaches the requested one.

    The normal approximation is slightly optimistic: a tenth of the probability of no decision is taken off, which turns
    0.8 into 0.82. Where the standard error is itself a bootstrap estimate it is a fifth, which gives `AIM`.
    """
    return power + (0.2 if is_error_estimated else 0.1) * (1 - power)


def _quantile(probability: float) -> float:
    return NormalDist().inv_cdf(probability)


def _chance_above(limit: float, mean: float, spread: float) -> float:
    """Compute the probability that a normal variable lies above a limit; nan where nothing varies."""
    return _tail((limit - mean) / spread) if spread > 0 else math.nan


def _tail(z: float) -> float:
    """Compute the probability that a standard normal variable exceeds `z`, exact in the far tail too."""
    return math.erfc(z / math.sqrt(2)) / 2


def standard_error_of(value: float, low: float, high: float) -> float:
    """Compute the standard error of a normal estimate whose 95 % interval extends as far as the longer side."""
    return max(value - low, high - value) / _Z


def is_near_an_end(limit: float, value: float, interval: tuple[float, float], draws: int) -> bool:
    """Report whether another draw might put the limit on the other side of an end of a percentile interval.

    An end is a quantile of the draws, and has an error itself: for normal draws sqrt(p (1 - p) / draws) divided by
    their density at that quantile (Efron & Tibshirani 1993, chapter 19). The limit is near within four of these errors.
    """
    low, high = interval
    tail, half_width = (1 - CONFIDENCE) / 2, max(value - low, high - value)  # the other may end at the metric's bound
    error = math.sqrt(tail * (1 - tail) / draws) / NormalDist().pdf(_Z) * half_width / _Z
    return min(abs(limit - low), abs(limit - high)) < 4 * error


def independent_difference(
    one: tuple[float, float, float], other: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Compute one minus other for two independent estimates, with a 95 % interval recovered from theirs.

    This is the method of variance estimates recovery (Zou & Donner 2008, "Construction of confidence limits about
    effect measures"), for scores on different examples, which are not paired.

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
    """Draw bootstrap weights in chunks.

    Args:
        units: shape (n,), for each example the number of its unit in 0…u-1.
        generator: source of the draws.
        resamples: total number of resamples.

    Yields:
        Arrays of shape (b, n), the b adding up to `resamples`: how often each example occurs in each resample. Examples
        of one unit share their weight.
    """
    for counts in resampled_units(units, generator, resamples):
        # Resamples lie beside one another in memory, so that sums over examples add them up in their order.
        yield counts.take(units, axis=0).T


def resampled_units(units: Ints, generator: np.random.Generator, resamples: int = RESAMPLES) -> Iterator[Floats]:
    """Draw what `resampled_weights` draws, by unit.

    Yields:
        Arrays of shape (u, b): how often each unit occurs in each resample.
    """
    step = max(1, _CHUNK_CELLS // len(units))
    for start in range(0, resamples, step):
        yield _counts(int(units.max()) + 1, min(step, resamples - start), generator)


def _counts(n_units: int, resamples: int, generator: np.random.Generator) -> Floats:
    """Draw n of n units with replacement, several times: how often each was drawn, shape (n, resamples).

    A multinomial draw of equal shares has the same distribution, and takes three to five times as long. They are
    counted in blocks that fit a core's cache, which takes half as long as counting them at once.
    """
    drawn = generator.integers(n_units, size=(resamples, n_units), dtype=np.uint16 if n_units < 2**16 else np.uint32)
    counts = np.empty((n_units, resamples))
    step = max(1, _BLOCK_CELLS // n_units)
    starts = np.arange(0, step * n_units, n_units)[:, None]
    for start in range(0, resamples, step):
        block = drawn[start : start + step]
        cells = (block + starts[: len(block)]).ravel()
        counts[:, start : start + step] = np.bincount(cells, minlength=block.size).reshape(block.shape).T
    return counts


def resampled_seeds(n_seeds: int, resamples: int, generator: np.random.Generator) -> Ints:
    """Draw the seeds of each resample: the upper level of a hierarchical bootstrap.

    Bootknife (Hesterberg 2004, "Unbiasing the bootstrap: bootknife sampling vs. smoothing"): for each resample one
    seed, drawn anew, is left out, and the original number of seeds is drawn with replacement from the rest. The
    variance of the mean is then the unbiased one, where the plain bootstrap's is too small by a third for three seeds.

    Returns:
        Shape (n_seeds, resamples), numbers in 0…n_seeds-1. A single seed is drawn every time.
    """
    if n_seeds == 1:
        return np.zeros((1, resamples), dtype=np.int64)
    left_out = generator.integers(n_seeds, size=resamples)
    drawn = generator.integers(n_seeds - 1, size=(n_seeds, resamples))
    return np.asarray(drawn + (drawn >= left_out), dtype=np.int64)


def mean_over_resampled_seeds(values: Floats, generator: np.random.Generator) -> Floats:
    """Average over resampled seeds.

    Args:
        values: shape (seeds, b), a statistic of each seed in each resample of the examples.

    Returns:
        Shape (b,). The values of a single seed are returned unchanged.
    """
    return mean_over_seeds(values, resampled_seeds(values.shape[0], values.shape[1], generator))


def mean_over_seeds(values: Floats, chosen: Ints) -> Floats:
    """Average over resampled seeds, drawn by `resampled_seeds`: both of shape (seeds, b), the result (b,)."""
    return np.asarray(np.take_along_axis(values, chosen, axis=0).mean(axis=0))


def percentile_interval(values: Floats) -> tuple[float, float] | None:
    """Compute the 95 % percentile interval of resampled values; resamples with an undefined statistic do not count.

    Returns:
        (low, high), or None if fewer than half of the resamples are defined.
    """
    defined = values[np.isfinite(values)]
    if len(defined) < len(values) / 2 or not len(defined):
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


CLIP = 1e-9
"""Least distance of a probability from 0 and 1 in log-odds: float64 lacks the digits of 1 - p below it."""


def log_odds(probabilities: Floats) -> Floats:
    """Convert probabilities to log-odds of the same shape, at most about 20.7 in absolute value."""
    inside = np.clip(probabilities, CLIP, 1 - CLIP)
    return np.asarray(np.log(inside / (1 - inside)), dtype=np.float64)
