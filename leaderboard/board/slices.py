"""Accuracy of several entries by slice; all slices and entries share the same resampled examples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.records import UNLABELLED, Example, Outcomes
from harness.stats import estimates, inference, slices
from harness.stats.inference import Floats
from harness.stats.metrics import is_right
from leaderboard.board.records import Entry


@dataclass(frozen=True, slots=True)
class SliceScore:
    """An entry's accuracy on the examples of a slice: the mean over its seeds."""

    slice: str
    """`family=value`."""
    model_id: str
    value: float
    ci_low: float | None
    """Lower end of the 95 % interval; None where the slice has a single cluster."""
    ci_high: float | None
    n: int


def accuracies(
    entries: Sequence[Entry], outcomes: Mapping[str, Outcomes], examples: Sequence[Example]
) -> list[SliceScore]:
    """The accuracy of entries on every slice of a split.

    One run and no clusters: Wilson. Otherwise the bootstrap over clusters (or examples) and seeds, drawn once for all;
    the draws are seeded by the examples and by each entry's runs.

    Args:
        entries: with runs, all on the split of `examples`.
        outcomes: by run id.
        examples: in the split's order; if they are not the scored ones, the result is empty.
    """
    sides = [[outcomes[scored.run.run_id] for scored in entry.runs] for entry in entries]
    if not sides or sides[0][0].example_ids != tuple(example.example_id for example in examples):
        return []
    if UNLABELLED in sides[0][0].labels:
        return []
    masks = slices.all_slices(examples)
    if not masks:
        return []
    inside = np.stack(list(masks.values())).astype(np.float64)
    right = [np.stack([is_right(one) for one in side]).astype(np.float64) for side in sides]
    values = [_on_slices(np.ones((1, len(examples))), side, inside)[:, :, 0] for side in right]
    exact = sides[0][0].clusters is None
    drawn = {} if exact and all(len(side) == 1 for side in sides) else _drawn(entries, sides, right, inside)
    units = estimates.units_of(sides[0][0])
    within = [len(np.unique(units[mask])) for mask in masks.values()]
    found = []
    for s, name in enumerate(masks):
        for e, entry in enumerate(entries):
            value, n = float(values[e][:, s].mean()), int(inside[s].sum())
            low, high = (
                inference.wilson(round(value * n), n)
                if exact and len(sides[e]) == 1
                else _admitting_doubt(inference.percentile_interval(drawn[e][s]), value, within[s])
            )
            found.append(SliceScore(name, entry.model_id, value, low, high, n))
    return found


def _admitting_doubt(
    interval: tuple[float, float] | None, value: float, units: int
) -> tuple[float, float] | tuple[None, None]:
    """An interval; Wilson's, with as many trials as clusters (or examples), where all resamples equal the value."""
    if interval is None:
        return None, None
    return inference.wilson(round(value * units), units) if interval[0] == interval[1] and units > 1 else interval


def _drawn(
    entries: Sequence[Entry], sides: Sequence[Sequence[Outcomes]], right: Sequence[Floats], inside: Floats
) -> dict[int, Floats]:
    """By entry, shape (slices, resamples): the mean over resampled seeds."""
    units = estimates.units_of(sides[0][0])
    chunks: list[list[Floats]] = [[] for _ in sides]
    for weights in inference.resampled_weights(units, estimates.examples_generator(sides[0][0], "slices")):
        for e, side in enumerate(right):
            chunks[e].append(_on_slices(weights, side, inside))
    found = {}
    for e, (entry, parts) in enumerate(zip(entries, chunks, strict=True)):
        by_seed = np.concatenate(parts, axis=2)
        seeds = estimates.seeds_generator([scored.run.run_key for scored in entry.runs], "slices")
        found[e] = np.stack(
            [inference.mean_over_resampled_seeds(by_seed[:, s], seeds) for s in range(by_seed.shape[1])]
        )
    return found


def _on_slices(weights: Floats, right: Floats, inside: Floats) -> Floats:
    """Shape (seeds, slices, b): weighted accuracy; nan where a resample holds no example of a slice."""
    total = inside @ weights.T
    with np.errstate(invalid="ignore"):
        return np.stack([(inside * seed) @ weights.T / total for seed in right])
