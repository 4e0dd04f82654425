"""How often a candidate loses what its reference had right: the share of flips, with an interval."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harness import estimates, stats
from harness.metrics import is_right
from harness.records import Outcomes


class Flips(NamedTuple):
    """Share of examples that the reference gets right and the candidate wrong, with its 95 % interval."""

    value: float
    ci_low: float
    ci_high: float
    n: int
    se_examples: float
    se_seeds: float


def share(
    candidate: Sequence[Outcomes],
    reference: Sequence[Outcomes],
    generator: np.random.Generator,
    draws: int = stats.RESAMPLES,
) -> Flips | None:
    """How often the reference is right and the candidate wrong, over all pairs of their seeds.

    One seed a side and no clusters: Wilson. Otherwise the bootstrap over clusters (or examples) and both sides' seeds;
    Wilson again, of so many clusters, where no resample has any.

    Returns:
        None where there is but one cluster and so no interval.
    """
    estimates.check_paired([*candidate, *reference])
    n = len(candidate[0].labels)
    lost = np.array([[is_right(was) & ~is_right(now) for was in reference] for now in candidate], dtype=np.float64)
    value = float(lost.mean())
    units = estimates.units_of(candidate[0])
    if units.max() == 0:
        return None
    chunks = [lost @ weights.T / weights.sum(axis=1) for weights in stats.resampled_weights(units, generator, draws)]
    by_pair = np.concatenate(chunks, axis=2)  # (candidate's seeds, reference's seeds, resamples)
    now = stats.resampled_seeds(len(candidate), by_pair.shape[2], generator)[:, np.newaxis]
    was = stats.resampled_seeds(len(reference), by_pair.shape[2], generator)[np.newaxis]
    resampled = by_pair[now, was, np.arange(by_pair.shape[2])].mean(axis=(0, 1))
    interval = stats.percentile_interval(resampled)
    if estimates.is_exact("flips", candidate, reference) or interval is None or interval[0] == interval[1]:
        n_units = estimates.n_units(candidate[0])
        interval = stats.wilson(round(value * n_units), n_units)
    return Flips(value, *interval, n, *estimates.standard_errors(by_pair.mean(axis=(0, 1)), resampled))
