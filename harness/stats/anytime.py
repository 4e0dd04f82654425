"""Anytime-valid decisions about a mean of bounded terms, by betting.

    seen = Seen(sums, sizes, largest=3, low=-1.0, high=1.0)     # units in a drawn order, as many as are scored so far
    decide(seen, -0.02)         # "above", "below" or None: score more
    interval(seen)              # (low, high), a confidence sequence: all looks together miss the mean with 5 %

A gambler who starts with one unit of money and bets on the terms, fairly if the mean were the limit, has more than 40
with a probability of at most 1/40, however often one looks (Ville 1939). So it is honest to look after every block, to
stop as soon as it is decided, and to go on next week. The bets are constant shares of the money, mixed in equal parts,
which costs the logarithm of their number at most (Waudby-Smith & Ramdas 2023, "Estimating means of bounded random
variables by betting", sections 4 and 5). A limit is tested in both directions at 2.5 % each, as with a 95 % interval.

A unit is an example, or all examples of a cluster. Its terms are added up: if the mean over examples is m, then the sum
of (term - m) over a unit has mean zero, whatever the units' sizes. The units are treated as drawn from a population, as
all other intervals do, not as drawn without replacement from the split: betting on what is left of a split decides
sooner, but about the split's own mean, and half of all models exactly at the limit would pass.

A bet is bounded by what the largest unit could lose. Means over clusters vary much less than that, so that the best bet
is nearly the largest one; where units hold several examples, up to half of the money is on it. More cannot be had
without an assumption: a population with a rare cluster that is all wrong looks the same until one has been seen.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np

from harness.stats.inference import CONFIDENCE, Floats, Ints

Side: TypeAlias = Literal["above", "below"]

THRESHOLD = math.log(2 / (1 - CONFIDENCE))
"""Logarithm of the money at which a direction is decided: 40 times the stake, for 2.5 %."""
BETS = np.linspace(0.05, 0.95, 19)
"""Bets as shares of the largest one that cannot lose more than everything."""
BOLDEST = 0.99
"""The bet on which more of the money is where units hold several examples."""
BISECTIONS = 30
"""Halvings that find an end of the interval, to a billionth of the terms' range."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The terms of the units that were scored so far, in the drawn order."""

    sums: Floats
    """Shape (u,), the sum of each unit's terms."""
    sizes: Ints
    """Shape (u,), the number of terms in each unit, at least 1."""
    largest: int
    """Number of terms in the largest unit of the whole split, which is known before anything is scored."""
    per_unit: float
    """Mean number of terms in a unit of the whole split, likewise."""
    low: float
    """Lower bound of a term."""
    high: float
    """Upper bound of a term."""

    @property
    def mean(self) -> float:
        """Mean of all terms."""
        return float(self.sums.sum() / self.sizes.sum())


def log_wealth(terms: Floats, least: float, per_unit: float = 1.0) -> Floats:
    """Compute the logarithm of a gambler's money after each bet that the terms' mean is positive.

    Args:
        terms: shape (t,), none below `least`.
        least: lower bound of a term, below 0.
        per_unit: mean number of examples in a unit; the more, the more of the money is on the boldest bet, up to half.

    Returns:
        Shape (t,). If each term's mean given the earlier ones is at most 0, the money's mean is at most 1, and it ever
        reaches x with a probability of at most 1/x.
    """
    on_boldest = (1 - 1 / per_unit) / 2
    bets, shares = BETS, np.full(len(BETS), (1 - on_boldest) / len(BETS))
    if on_boldest > 0:
        bets, shares = np.append(BETS, BOLDEST), np.append(shares, on_boldest)
    won = np.zeros((len(bets), len(terms)))
    for row, bet in zip(won, bets, strict=True):
        np.cumsum(np.log1p(bet / -least * terms), out=row)
    return np.asarray(np.logaddexp.reduce(won + np.log(shares)[:, np.newaxis], axis=0))


def log_evidence(seen: Seen, limit: float) -> tuple[float, float]:
    """Compute the logarithms of the evidence that the mean is above a limit, and that it is below.

    At a bound of the terms a single term apart from it is proof; beyond a bound there is nothing to prove.
    """
    terms = seen.sums - limit * seen.sizes
    above = _evidence(terms, seen.largest * (seen.low - limit), seen.per_unit)
    return above, _evidence(-terms, seen.largest * (limit - seen.high), seen.per_unit)


def _evidence(terms: Floats, least: float, per_unit: float) -> float:
    if least < 0:
        return float(log_wealth(terms, least, per_unit)[-1])
    return math.inf if (terms > 0).any() else 0.0


def decide(seen: Seen, limit: float, times: Mapping[Side, int] = MappingProxyType({})) -> Side | None:
    """Decide on which side of a limit the mean is, or None if more units are needed.

    Args:
        limit: within the terms' bounds.
        times: how many times the usual evidence a side needs, where it is not once.
    """
    above, below = log_evidence(seen, limit)
    if above >= THRESHOLD + math.log(times.get("above", 1)) and above > below:
        return "above"
    return "below" if below >= THRESHOLD + math.log(times.get("below", 1)) else None


def first_decision(seen: Seen, limit: float, ends: Ints) -> tuple[Side | None, int]:
    """Find the first of several looks at which it is decided, and the number of units up to it: all if at none.

    Args:
        limit: between the terms' bounds, not at one.
        ends: places of the units after which it is looked.
    """
    terms = seen.sums - limit * seen.sizes
    above = log_wealth(terms, seen.largest * (seen.low - limit), seen.per_unit)[ends]
    below = log_wealth(-terms, seen.largest * (limit - seen.high), seen.per_unit)[ends]
    crossed = np.flatnonzero((above >= THRESHOLD) | (below >= THRESHOLD))
    if not len(crossed):
        return None, len(terms)
    first = int(crossed[0])
    return "above" if above[first] > below[first] else "below", int(ends[first]) + 1


def interval(seen: Seen) -> tuple[float, float]:
    """Compute the present interval of a 95 % confidence sequence for the mean.

    It holds the limits that cannot be excluded now. With a probability of at least 95 % the mean is in all intervals of
    the sequence.
    """

    def end(bound: float, direction: int) -> float:
        inside, outside = seen.mean, bound
        for _ in range(BISECTIONS):
            middle = (inside + outside) / 2
            excluded = log_evidence(seen, middle)[direction] >= THRESHOLD
            inside, outside = (inside, middle) if excluded else (middle, outside)
        return outside

    return end(seen.low, 0), end(seen.high, 1)
