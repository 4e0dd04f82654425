"""Intervals of metrics that depend on labels and predicted classes alone, where examples are independent.

F1 and its like are functions of a table of counts. What the table would be in the population is drawn from its
posterior under Jeffreys' prior, a Dirichlet distribution (Goutte & Gaussier 2005, "A probabilistic interpretation of
precision, recall and F-score, with implication for evaluation"), and the metric computed of each draw. A bootstrap
cannot draw an error from a sample that has none, and then calls perfection certain; here a cell that is empty admits
doubt. For two classifiers the table is of label and both predictions, so that the pairing is kept.

The draws are seeded by the table: equal counts have equal intervals, wherever they are shown.
"""

import numpy as np

from harness.records import Outcomes
from harness.stats.inference import RESAMPLES, Floats, Ints
from harness.stats.metrics import METRICS

_PRIOR_OF_A_CELL = 1 / 4
"""Of eight cells; each side's own four then have a half each, which is Jeffreys' prior for them."""
_LABEL, _FIRST, _SECOND = (np.array(bits) for bits in np.indices((2, 2, 2)).reshape(3, 8))


def applies(name: str, *sides: tuple[Outcomes, ...]) -> bool:
    """Whether the metric is one of a table, and each side has one seed on independent examples."""
    return METRICS[name].of_table and all(len(seeds) == 1 and seeds[0].clusters is None for seeds in sides)


def drawn(name: str, outcomes: Outcomes, share: float = 1.0, draws: int = RESAMPLES) -> Floats:
    """A metric in draws from the posterior of its table, of shape (draws,).

    Args:
        share: independent units an example, below 1 where examples come in clusters: what a count weighs.
    """
    return _of_side(name, _FIRST, _tables(outcomes, outcomes, share, draws))


def drawn_difference(
    name: str, first: Outcomes, second: Outcomes, share: float = 1.0, draws: int = RESAMPLES
) -> Floats:
    """First minus second on the same examples, in draws from the posterior of their table: shape (draws,)."""
    tables = _tables(first, second, share, draws)
    return _of_side(name, _FIRST, tables) - _of_side(name, _SECOND, tables)


def _tables(first: Outcomes, second: Outcomes, share: float, draws: int) -> Floats:
    """Shape (draws, 8): probabilities of label, first and second prediction."""
    cells = 4 * first.labels + 2 * first.predicted + second.predicted
    counts = np.bincount(cells, minlength=8)
    return np.random.default_rng(counts).dirichlet(share * counts + _PRIOR_OF_A_CELL, size=draws)


def _of_side(name: str, predicted: Ints, tables: Floats) -> Floats:
    """The metric of eight examples, one for each cell, weighted as the tables say."""
    ids = tuple("abcdefgh")
    return METRICS[name].values(Outcomes(ids, _LABEL, predicted, predicted.astype(np.float64), None), tables)
