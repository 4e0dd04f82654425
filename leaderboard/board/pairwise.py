"""All pairs of many configurations compared in one pass: p-values as a matrix, for boards of hundreds of entries.

The numbers are those of `estimates.between`, up to rounding in the last digits.
"""

from collections.abc import Sequence

import numpy as np

from harness.stats import inference
from harness.stats.estimates import Resampled
from harness.stats.inference import Floats
from harness.stats.metrics import is_right

_NOTHING = 1e-12  # of the two variances together: a difference that varies less does not vary, but was rounded


def p_values(drawn: Sequence[Resampled]) -> Floats:
    """Two-sided p-values of each pair's difference, not corrected for the number of pairs.

    Accuracy with one seed a side and no clusters: McNemar's exact p-value, from counts by one matrix product. Otherwise
    normal, or Student's t where a side has several seeds, over the bootstrap's standard error.

    Args:
        drawn: k configurations that `estimates.resampled` made in one call.

    Returns:
        Shape (k, k), symmetric; nan where `estimates.between` gives None.
    """
    from scipy.special import ndtr, stdtr

    values = np.array([one.value for one in drawn])
    gaps = np.abs(values[:, None] - values)
    with np.errstate(invalid="ignore", divide="ignore"):
        held = _variances(np.stack([one.examples_drawn for one in drawn]))[0]
        spread, n_defined = _variances(np.stack([one.seeds_drawn for one in drawn]))
        # What seeds add to the variance cannot be negative: as `estimates` has it, the larger one is the whole.
        error = np.sqrt(np.fmax(held, spread))
        parts = np.array([one.seeds_variance for one in drawn])
        few = parts**2 / np.array([max(1, len(one.seeds) - 1) for one in drawn])
        # Welch and Satterthwaite, as `inference.welch_degrees`; infinite without seeds.
        degrees = (held + parts[:, None] + parts) ** 2 / (few[:, None] + few)
        tails = np.where(np.isfinite(degrees), stdtr(degrees, -gaps / error), ndtr(-gaps / error))
        found = np.where(error > 0, 2 * tails, 1.0)
    exact = np.array([len(one.seeds) == 1 and one.seeds[0].clusters is None for one in drawn])
    if drawn[0].name == "accuracy" and exact.any():
        found[np.ix_(exact, exact)] = _exact([one for one, kept in zip(drawn, exact, strict=True) if kept])
    undefined = (n_defined < drawn[0].seeds_drawn.size / 2) | ~np.isfinite(gaps)
    return np.where(undefined, np.nan, found)


def _exact(drawn: Sequence[Resampled]) -> Floats:
    right = np.stack([is_right(one.seeds[0]) for one in drawn]).astype(np.float64)
    both = np.rint(right @ right.T).astype(np.int64)
    alone = np.diag(both)[:, None] - both
    return inference.mcnemar_many(alone, alone.T)


def _variances(draws: Floats) -> tuple[Floats, Floats]:
    """Variance of the difference of each pair of rows, and the number of defined columns, of shape (k, k)."""
    known = np.isfinite(draws)
    mask = known.astype(np.float64)
    means = np.where(known, draws, 0.0).sum(axis=1) / np.maximum(1, known.sum(axis=1))
    centred = np.where(known, draws - means[:, None], 0.0)
    n = mask @ mask.T
    squares = centred**2 @ mask.T
    both = squares + squares.T
    total = centred @ mask.T
    total = total - total.T
    spread = both - 2 * (centred @ centred.T) - total**2 / n
    return np.where(spread <= _NOTHING * both, 0.0, spread) / (n - 1), n
