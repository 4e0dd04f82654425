"""The Pareto front of score against cost, and each entry's chance of being on it.

An entry is on the front where no other is at least as good at no higher cost, and better in one of the two. Costs are
taken as exact; scores are resampled, and the chance of being on the front is the share of resamples in which an entry
is. Pure.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.stats.estimates import Resampled
from harness.stats.inference import Floats
from harness.stats.metrics import METRICS
from leaderboard.board.records import Entry, Front, FrontPoint

COSTS = ("n_trainable", "size_bytes", "train_seconds")
"""Fields of an entry that are plotted against its score."""


def of(ranked: Sequence[Entry], drawn: Mapping[str, Resampled]) -> tuple[Front, ...]:
    """The front for every cost that at least two entries have and in which they differ.

    Args:
        ranked: on one split.
        drawn: by model id, made in one call of `estimates.resampled`.
    """
    found = []
    for name in COSTS:
        costs = {entry.model_id: getattr(entry, name) for entry in ranked}
        known = [model_id for model_id, cost in costs.items() if cost is not None]
        if len({costs[model_id] for model_id in known}) > 1:
            found.append(_front(name, known, costs, drawn))
    return tuple(found)


def _front(cost: str, known: Sequence[str], costs: Mapping[str, float], drawn: Mapping[str, Resampled]) -> Front:
    at = np.array([costs[model_id] for model_id in known], dtype=np.float64)
    sides = [drawn[model_id] for model_id in known]
    sign = 1.0 if METRICS[sides[0].name].higher_is_better else -1.0
    observed = on_front(at, sign * np.array([[side.value] for side in sides]))[:, 0]
    chances = on_front(at, sign * np.stack([side.seeds_drawn for side in sides])).mean(axis=1)
    rows = zip(known, at.tolist(), sides, observed.tolist(), chances.tolist(), strict=True)
    return Front(cost, tuple(FrontPoint(name, spent, side.value, on, chance) for name, spent, side, on, chance in rows))


def on_front(costs: Floats, scores: Floats) -> NDArray[np.bool_]:
    """True where an entry is on the front, for k entries and b sets of scores: shape (k, b).

    Args:
        costs: shape (k,), less is better.
        scores: shape (k, b), more is better; nan is on no front.
    """
    known = np.nan_to_num(scores, nan=-np.inf)
    found = np.zeros(scores.shape, dtype=np.bool_)
    cheaper = np.full(scores.shape[1], -np.inf)
    for cost in np.unique(costs):
        alike = costs == cost
        best = known[alike].max(axis=0)
        found[alike] = (known[alike] == best) & (best > cheaper)
        cheaper = np.maximum(cheaper, best)
    return found
