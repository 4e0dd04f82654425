"""Intervals of metrics that depend only on labels and predicted classes, where examples are independent.

F1 and similar metrics are functions of a table of counts. The table of the population is drawn from its posterior under
Jeffreys' prior, a Dirichlet distribution (Goutte & Gaussier 2005, "A probabilistic interpretation of precision, recall
and F-score, with implication for evaluation"), and the metric is computed for each draw. A bootstrap cannot draw an
error from a sample that has none, and would call perfection certain; here an empty cell admits doubt. For two
classifiers the table has label and both predictions, so that the pairing is kept.

The draws are seeded by the table: equal counts have equal intervals, wherever they are shown.
"""

import numpy as np

from harness.records import Outcomes
from harness.stats.inference import RESAMPLES, Floats, Ints
from harness.stats.metrics import METRICS

_PRIOR_OF_A_CELL = 1 / 4
"""Prior count of each of eight cells; each side's own four then have a half each, which is Jeffreys' prior."""
_LABEL, _FIRST, _SECOND = (np.array(bits) for bits in np.indices((2, 2, 2)).reshape(3, 8))


def applies(name: str, *sides: tuple[Outcomes, ...]) -> bool:
    """Report whether the metric is one of a table, and each side has one seed on independent examples."""
    return METRICS[name].of_table is not None and all(len(seeds) == 1 and seeds[0].clusters is None for seeds in sides)


def drawn(name: str, outcomes: Outcomes, share: float = 1.0, draws: int = RESAMPLES) -> Floats:
    """Compute a metric on draws from the posterior of its table: shape (draws,).

    Args:
        share: weight of a count: independent units per example, below 1 where examples come in clusters.
    """
    return _of_side(name, _FIRST, _tables(outcomes, outcomes, share, draws))


def drawn_difference(
    name: str, first: Outcomes, second: Outcomes, share: float = 1.0, draws: int = RESAMPLES
) -> Floats:
    """Compute first minus second on the same examples, on draws from the posterior of their table: shape (draws,)."""
    tables = _tables(first, second, share, draws)
    return _of_side(name, _FIRST, tables) - _of_side(name, _SECOND, tables)


def _tables(first: Outcomes, second: Outcomes, share: float, draws: int) -> Floats:
    """Draw the joint probabilities of label, first and second prediction: shape (draws, 8)."""
    cells = 4 * first.labels + 2 * first.predicted + second.predicted
    counts = np.bincount(cells, minlength=8)
    return np.random.default_rng(counts).dirichlet(share * counts + _PRIOR_OF_A_CELL, size=draws)


def _of_side(name: str, predicted: Ints, tables: Floats) -> Floats:
    """Compute the metric of eight examples, one for each cell, weighted by the tables."""
    ids = tuple("abcdefgh")
    return METRICS[name].values(Outcomes(ids, _LABEL, predicted, predicted.astype(np.float64), None), tables)
