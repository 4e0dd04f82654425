"""Learning curves: the number of training rows from which one model is better than another, with its interval.

The difference of two models is known at some numbers of rows, and taken as linear in the logarithm of the rows between
them. The crossover is the last number at which the difference is not positive: from there on the first model pays. That
is the last lasting change of sign; unlike a monotone fit it does not assume that the difference grows all the way,
which it does not once both models are near their best.

Its interval is found as Johnson & Neyman (1936, "Tests of certain linear hypotheses and their application to some
educational problems") find the region in which two regression lines differ: the same rule, applied to the ends of the
pointwise 95 % interval of the difference. The interval of the crossover is the stretch around it in which the
difference may be zero. It ends where, beyond the crossover, the first model is first shown to be better. A later number
of rows at which noise hides that says nothing against it: the difference is estimated to be positive there too. At the
true crossover the difference is zero, so the interval misses it about as often as the pointwise interval there misses
zero.

Pointwise intervals are those of `estimates`: examples (or clusters) are drawn once for all points, seeds are drawn
jointly for both models and all sizes, since a seed's subsets are the same for both and nested, and with few seeds the
interval is widened to Student's t.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harness.records import Outcomes
from harness.stats import estimates, inference, metrics
from harness.stats.inference import Floats, Ints
from harness.stats.metrics import METRICS

STEPS = 200
"""Numbers of rows at which the difference is examined, evenly spaced on a log scale, besides the measured ones."""


class Crossover(NamedTuple):
    """The number of training rows from which a model is better than another.

    A number equal to the fewest rows that were tried stands for "at most so many", None for "more than the most".
    """

    rows: int | None
    low: int | None
    """Lower end of the 95 % interval."""
    high: int | None
    """Upper end."""
    fewest: int
    """The fewest rows that were tried."""
    most: int


Side = Sequence[Sequence[Sequence[Outcomes]]]
"""Outcomes of a model by number of rows and seed: its runs there, more than one where it is asked in several ways."""


def crossover(
    name: str,
    rows: Sequence[int],
    model: Side,
    other: Side,
    examples: np.random.Generator,
    seeds: np.random.Generator,
    draws: int = inference.RESAMPLES,
) -> Crossover | None:
    """Find the number of training rows from which a model is better than another.

    Args:
        name: a key of `METRICS`.
        rows: increasing, at least two.
        model, other: for each of `rows` the same seeds in the same order; `other` may have a single entry instead, for
            a model that is not trained, whose seeds are its own. All outcomes are on the same examples.
        examples: source of the resampling of examples.
        seeds: source of the resampling of seeds.
        draws: number of draws.

    Returns:
        None if the metric is undefined somewhere, or there is only one cluster and so no interval.
    """
    sign = 1.0 if METRICS[name].higher_is_better else -1.0
    values, drawn = _by_seed(name, [model, other], examples, draws)
    gaps, gaps_drawn = [sign * one for one in _minus(values)], [sign * one for one in _minus(drawn)]
    at = _grid(rows)
    estimate = _weights(rows, at) @ sum(one.mean(axis=1) for one in gaps)
    if not np.isfinite(estimate).all():
        return None
    interval = _pointwise(_weights(rows, at), estimate, gaps_drawn, seeds)
    if interval is None:
        return None
    low, high = interval
    crossed = lasting(at, estimate)
    return Crossover(crossed, lasting(at, high), _first_positive(at, low, crossed), rows[0], rows[-1])


def lasting(at: Ints, difference: Floats) -> int | None:
    """The first of these numbers of rows from which on a difference is positive; None if it is not at the last."""
    not_positive = np.flatnonzero(~(difference > 0))
    if not len(not_positive):
        return int(at[0])
    last = int(not_positive[-1])
    return int(at[last + 1]) if last + 1 < len(at) else None


def _first_positive(at: Ints, difference: Floats, start: int | None) -> int | None:
    """The first of these numbers of rows, from a start on, at which a difference is positive; None if there is none."""
    if start is None:
        return None
    found = at[(difference > 0) & (at >= start)]
    return int(found[0]) if len(found) else None


def _grid(rows: Sequence[int]) -> Ints:
    """The numbers of rows at which the difference is examined."""
    between = np.round(np.geomspace(rows[0], rows[-1], STEPS)).astype(np.int64)
    return np.unique(np.concatenate([between, np.asarray(rows, dtype=np.int64)]))


def _weights(rows: Sequence[int], at: Ints) -> Floats:
    """Weights of linear interpolation in the logarithm of the rows, shape (len(at), len(rows))."""
    unit = np.eye(len(rows))
    return np.stack([np.interp(np.log(at), np.log(rows), one) for one in unit], axis=1)


def _by_seed(
    name: str, sides: Sequence[Side], examples: np.random.Generator, draws: int
) -> tuple[list[Floats], list[Floats]]:
    """The metric of each side, by rows and seed, and the same in resamples of the examples.

    Returns:
        Arrays of shape (rows, seeds), and of shape (rows, seeds, draws).
    """
    runs = [outcomes for side in sides for seeds in side for many in seeds for outcomes in many]
    estimates.check_paired(runs)
    values = np.array([metrics.value(name, outcomes) for outcomes in runs])
    (drawn,) = estimates.seed_values([METRICS[name]], runs, examples, draws)
    found: tuple[list[Floats], list[Floats]] = ([], [])
    start = 0
    for side in sides:
        places = []
        for many in (many for seeds in side for many in seeds):
            places.append(slice(start, start + len(many)))
            start += len(many)
        shape = len(side), len(side[0])
        found[0].append(np.array([values[one].mean() for one in places]).reshape(shape))
        found[1].append(np.stack([drawn[one].mean(axis=0) for one in places]).reshape(*shape, draws))
    return found


def _minus(sides: Sequence[Floats]) -> list[Floats]:
    """One side minus the other as parts that add up, each with seeds of its own.

    Models on the same subsets are one part, seed by seed. A model that is not trained is a part of its own.
    """
    model, other = sides
    if len(other) == len(model):
        return [model - other]
    return [model, -np.broadcast_to(other, (len(model), *other.shape[1:]))]


def _pointwise(
    weights: Floats, estimate: Floats, parts: Sequence[Floats], generator: np.random.Generator
) -> tuple[Floats, Floats] | None:
    """The 95 % interval of a difference at each interpolated number of rows.

    Args:
        weights: of the interpolation, shape (points, rows).
        estimate: shape (points,).
        parts: each of shape (rows, seeds, draws).
    """
    defined = np.all([np.isfinite(part).all(axis=(0, 1)) for part in parts], axis=0)
    if defined.mean() < 0.5:
        return None
    parts = [part[..., defined] for part in parts]
    held = np.atleast_2d(np.cov(np.add.reduce([part.mean(axis=1) for part in parts])))
    drawn = np.zeros((len(weights), parts[0].shape[2]))
    of_seeds = []
    for part in parts:
        n_seeds, draws = part.shape[1:]
        chosen = inference.resampled_seeds(n_seeds, draws, generator)
        drawn += weights @ np.take_along_axis(part, chosen[np.newaxis], axis=1).mean(axis=1)
        of_seeds.append((_variances(weights, _of_seeds(part)), n_seeds))
    spread = _variances(weights, held)
    low, high = np.empty(len(estimate)), np.empty(len(estimate))
    for i, value in enumerate(estimate):
        interval = inference.percentile_interval(drawn[i])
        if interval is None:
            return None
        shares = [(float(variance[i]), n_seeds) for variance, n_seeds in of_seeds]
        degrees = inference.welch_degrees(float(spread[i]) + sum(share for share, _ in shares), shares)
        low[i], high[i] = inference.widened(float(value), interval, degrees)
    return low, high


def _of_seeds(part: Floats) -> Floats:
    """The covariance, shape (rows, rows), that the choice of seeds adds to their mean; zero for one seed.

    It is the mean over the resamples of the examples, as `estimates.variance_of_seeds` is.

    Args:
        part: shape (rows, seeds, draws).
    """
    n_rows, n_seeds, draws = part.shape
    if n_seeds == 1:
        return np.zeros((n_rows, n_rows))
    apart = (part - part.mean(axis=1, keepdims=True)).reshape(n_rows, -1)
    return np.asarray(apart @ apart.T / (draws * (n_seeds - 1) * n_seeds))


def _variances(weights: Floats, covariance: Floats) -> Floats:
    """The variance of each weighted sum, shape (points,)."""
    return np.asarray(np.einsum("gi,ij,gj->g", weights, covariance, weights))
