"""Detection of a lasting fall in a series of scores, at a stated rate of false alarms.

    found = fall(values, ties)              # one value for each newly trained model, in order; ties from `tie_of`
    found.evidence >= COMMITS_PER_ALARM     # an alarm: on average at most one in so many commits if nothing changes

If nothing changes, the scores of models that are trained anew on the same rows are exchangeable: every order of them is
as likely, since only the noise of training differs. Then the rank of each among those so far is uniform and independent
of the earlier ranks (Vovk, Gammerman & Shafer 2005, "Algorithmic learning in a random world", conformal prediction).
Low ranks are bet on: 1 / (2 sqrt(p)) is an e-value for a uniform p. The e-values from each possible beginning of a fall
are multiplied, and the products added up: the Shiryaev–Roberts statistic (Shin, Ramdas & Rinaldo 2023, "E-detectors").
Its mean after t commits without a change is t, so it reaches 1,000 after 1,000 commits on average, or later.

No distribution is assumed, and rows, baseline and its luck are the same in all scores: they cancel out in the ranks.
"""

from typing import NamedTuple

import numpy as np

from harness.artifacts import digest
from harness.stats.inference import Floats

COMMITS_PER_ALARM = 1000
"""Unchanged commits per false alarm, at least, on average."""


class Fall(NamedTuple):
    """Evidence for a lasting fall of a series that ends here."""

    evidence: float
    """The Shiryaev–Roberts statistic; 0 for an empty series."""
    first: int | None
    """Position of the value with which the fall most likely began."""


def tie_of(*identity: str) -> float:
    """A number in (0, 1) that breaks ties between equal scores, the same for the same model each time."""
    return (int(digest.of_json(list(identity))[:12], 16) + 0.5) / 16**12


def ranks(values: Floats, ties: Floats) -> Floats:
    """Compute the rank of each value among those up to it, from the lowest, as a p-value in (0, 1).

    Args:
        values: shape (t,).
        ties: shape (t,), in (0, 1), uniform and independent of the values: the place of each among its equals.
    """
    found = np.empty(len(values))
    for index, value in enumerate(values):
        so_far = values[: index + 1]
        found[index] = ((so_far < value).sum() + ties[index] * (so_far == value).sum()) / (index + 1)
    return found


def fall(values: Floats, ties: Floats) -> Fall:
    """Compute the evidence that the values have fallen for good, and since when.

    Args:
        values: shape (t,), scores in order, higher is better.
        ties: as for `ranks`.
    """
    if not len(values):
        return Fall(0.0, None)
    log_bets = -np.log(2) - np.log(ranks(values, ties)) / 2
    from_each = np.cumsum(log_bets[::-1])[::-1]  # the product of all bets from here to the end
    return Fall(float(np.exp(from_each).sum()), int(np.argmax(from_each)))
