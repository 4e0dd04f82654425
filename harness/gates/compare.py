"""Comparison of two models on the same examples: metrics, tests, flips, what they share, slices, calibration. No I/O.

    found = compare("test", examples, a, b, ["accuracy", "f1"], "accuracy", with_text=True)
    found.metrics, found.tests, found.only_a_right, found.shared, found.slices

A difference is A minus B. All draws are seeded by the runs: exchanging the sides gives the same numbers of opposite
sign.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from harness.records import Evidence, Example, Metric, Outcomes
from harness.stats import calibration, enrichment, estimates, inference, metrics, slices
from harness.stats.calibration import Calibration
from harness.stats.enrichment import Enrichment
from harness.stats.estimates import Difference
from harness.stats.inference import ALPHA, Floats
from harness.stats.metrics import disagreements, is_right
from harness.stats.slices import FEWEST


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two models on one split."""

    model_id: str
    seeds: tuple[int | None, ...]
    """Seeds of its runs; None for a model without randomness."""
    run_keys: tuple[str, ...]
    """Keys of the same runs."""
    outcomes: tuple[Outcomes, ...]
    """Outcomes of the same runs, all on the same examples in the same order."""
    stored: Mapping[str, Metric] = field(default_factory=dict)
    """A single run's metrics by name, as they were stored with it; empty for several runs."""


def side(found: Evidence, model_id: str, split_id: str) -> Side:
    """Make a model's side of a comparison; its runs must be in the evidence."""
    runs = found.runs[model_id, split_id]
    seeds, run_keys = tuple(run.seed for run in runs), tuple(run.run_key for run in runs)
    stored = metrics.current(runs[0].metrics) if len(runs) == 1 else {}
    return Side(model_id, seeds, run_keys, found.outcomes[model_id, split_id], stored)


@dataclass(frozen=True, slots=True)
class MetricPair:
    """A metric of both sides, averaged over their seeds, and the paired difference."""

    name: str
    higher_is_better: bool
    a: Metric
    b: Metric
    difference: Difference | None
    """None where the metric is undefined for a side, or where there is only one cluster."""


@dataclass(frozen=True, slots=True)
class RunTest:
    """McNemar's exact test of one run of each side. It takes examples as independent, clusters or not."""

    seed_a: int | None
    seed_b: int | None
    only_a: int
    """Number of examples that only A's run gets right."""
    only_b: int
    p_value: float
    p_adjusted: float
    """Adjusted by Holm over the comparison's pairs of runs."""


@dataclass(frozen=True, slots=True)
class Flip:
    """An example that most of one side's seeds get right and most of the other side's wrong."""

    example_id: str
    label: int
    score_a: float
    """Mean over A's seeds of the probability of class 1."""
    score_b: float
    votes_a: tuple[int, ...]
    """Labels that A's seeds predict."""
    votes_b: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SlicePair:
    """The primary metric of both sides on a part of the examples."""

    name: str
    """In the form `family=value`."""
    n: int
    a: float | None
    """Mean over A's seeds; None where it is undefined, or with fewer than `FEWEST` examples or one cluster."""
    b: float | None
    difference: Difference | None
    p_adjusted: float | None
    """Adjusted by Benjamini–Hochberg over the split's slices that have a p-value."""
    differs: bool
    """True where the adjusted p-value is below `ALPHA`."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Comparison of two models on one split."""

    split_id: str
    n: int
    n_clusters: int | None
    """None where the split names no clusters."""
    model_a: str
    model_b: str
    seeds_a: tuple[int | None, ...]
    seeds_b: tuple[int | None, ...]
    primary_metric: str
    """Metric by which the slices are compared."""
    metrics: tuple[MetricPair, ...]
    tests: tuple[RunTest, ...]
    only_a_right: tuple[Flip, ...]
    """Sorted by the distance of the mean scores, largest first."""
    only_b_right: tuple[Flip, ...]
    undecided: int
    """Number of examples that exactly half of a side's seeds get right; they are on neither list."""
    shared: Enrichment
    """Slices and words that are more frequent among the examples of the two lists than among the others that the same
    side gets right."""
    slices: tuple[SlicePair, ...]
    """Those that differ come first."""
    calibration_a: Calibration
    calibration_b: Calibration


@dataclass(frozen=True, slots=True)
class Compared:
    """Two models on every split that both ran on."""

    comparisons: tuple[Comparison, ...]
    """In the suite's order of splits."""
    missing: tuple[str, ...]
    """Reasons why splits are missing from the comparisons."""
    texts: Mapping[str, str]
    """By example id; empty where the suite does not store texts."""


def compare(
    split_id: str,
    examples: Sequence[Example],
    a: Side,
    b: Side,
    metric_names: Sequence[str],
    primary_metric: str,
    *,
    with_text: bool = False,
) -> Comparison:
    """Compare two models on one split.

    Args:
        examples: the split's, in the order of the outcomes.
        metric_names: keys of `METRICS`, in display order.
        primary_metric: metric by which the slices are compared.
        with_text: whether words of the texts may be named.

    Raises:
        ValueError: the outcomes are not all on these examples in this order.
    """
    _check_examples(examples, a, b)
    clusters = a.outcomes[0].clusters
    only_a_right, only_b_right, undecided = flips(a.outcomes, b.outcomes)
    of_a, of_b = _metrics(metric_names, a), _metrics(metric_names, b)
    differences = _differences(metric_names, a, b)
    return Comparison(
        split_id=split_id,
        n=len(examples),
        n_clusters=None if clusters is None else len(np.unique(clusters)),
        model_a=a.model_id,
        model_b=b.model_id,
        seeds_a=a.seeds,
        seeds_b=b.seeds,
        primary_metric=primary_metric,
        metrics=tuple(
            MetricPair(name, of_a[name].higher_is_better, of_a[name], of_b[name], differences[name])
            for name in metric_names
        ),
        tests=run_tests(a, b),
        only_a_right=only_a_right,
        only_b_right=only_b_right,
        undecided=undecided,
        shared=shared(examples, a.outcomes, b.outcomes, with_text=with_text),
        slices=_slices(primary_metric, examples, a, b),
        calibration_a=calibration.of(a.outcomes, a.run_keys, of_a),
        calibration_b=calibration.of(b.outcomes, b.run_keys, of_b),
    )


def _check_examples(examples: Sequence[Example], a: Side, b: Side) -> None:
    estimates.check_paired([*a.outcomes, *b.outcomes])
    if tuple(example.example_id for example in examples) != a.outcomes[0].example_ids:
        raise ValueError("a comparison needs the examples of its outcomes, in the same order")


def _metrics(names: Sequence[str], side: Side) -> dict[str, Metric]:
    """Metrics of a side by name, among them those of its calibration."""
    missing = [name for name in dict.fromkeys([*names, *calibration.OF_PROBABILITIES]) if name not in side.stored]
    return {**side.stored, **estimates.summaries(missing, side.outcomes, estimates.generator_for(side.run_keys))}


def _differences(names: Sequence[str], a: Side, b: Side) -> dict[str, Difference | None]:
    """Estimate A minus B; exchanging the sides gives the same draws with the opposite sign."""
    if a.model_id > b.model_id:
        found = _differences(names, b, a)
        return {name: one.turned if one is not None else None for name, one in found.items()}
    return estimates.differences_of_runs(names, a.outcomes, a.run_keys, b.outcomes, b.run_keys)


def run_tests(a: Side, b: Side) -> tuple[RunTest, ...]:
    """Apply McNemar's exact test to pairs of runs.

    Runs are paired by seed if both sides have the same seeds; otherwise each of A's runs is paired with each of B's.
    """
    if set(a.seeds) == set(b.seeds):
        pairs = [(i, b.seeds.index(seed)) for i, seed in enumerate(a.seeds)]
    else:
        pairs = [(i, k) for i in range(len(a.seeds)) for k in range(len(b.seeds))]
    counts = [disagreements(a.outcomes[i], b.outcomes[k]) for i, k in pairs]
    p_values = [inference.mcnemar(*count) for count in counts]
    return tuple(
        RunTest(a.seeds[i], b.seeds[k], *count, p_value, p_adjusted)
        for (i, k), count, p_value, p_adjusted in zip(pairs, counts, p_values, inference.holm(p_values), strict=True)
    )


def flips(a: Sequence[Outcomes], b: Sequence[Outcomes]) -> tuple[tuple[Flip, ...], tuple[Flip, ...], int]:
    """Find the examples that most of one side's seeds get right and most of the other side's wrong.

    Returns:
        Those that only A gets right, and those that only B gets right, sorted by the distance of the mean scores,
        largest first, and then in the split's order; and the number of examples that are on neither list because
        exactly half of a side's seeds are right.
    """
    right_a, right_b = (np.mean([is_right(outcomes) for outcomes in side], axis=0) for side in (a, b))
    scores_a, scores_b = (np.mean([outcomes.scores for outcomes in side], axis=0) for side in (a, b))
    votes_a, votes_b = (np.stack([outcomes.predicted for outcomes in side], axis=1).tolist() for side in (a, b))
    by_distance = np.argsort(-np.abs(scores_a - scores_b), kind="stable")

    def listed(chosen: NDArray[np.bool_]) -> tuple[Flip, ...]:
        return tuple(
            Flip(
                example_id=a[0].example_ids[i],
                label=int(a[0].labels[i]),
                score_a=float(scores_a[i]),
                score_b=float(scores_b[i]),
                votes_a=tuple(votes_a[i]),
                votes_b=tuple(votes_b[i]),
            )
            for i in by_distance[chosen[by_distance]]
        )

    undecided = int(((right_a == 0.5) | (right_b == 0.5)).sum())
    return listed((right_a > 0.5) & (right_b < 0.5)), listed((right_a < 0.5) & (right_b > 0.5)), undecided


def shared(examples: Sequence[Example], a: Sequence[Outcomes], b: Sequence[Outcomes], *, with_text: bool) -> Enrichment:
    """Find what the examples share that only A gets right, and those that only B gets right, as in `flips`.

    Each are held against the others that the same side gets right: what a model is good at anyhow is not named.

    Args:
        examples: of the outcomes, in the same order.
        with_text: whether words of the texts may be named.
    """
    return enrichment.between(a, b, enrichment.patterns(examples, with_text=with_text))


def _slices(name: str, examples: Sequence[Example], a: Side, b: Side) -> tuple[SlicePair, ...]:
    found = [_slice(name, label, chosen, a, b) for label, chosen in slices.all_slices(examples).items()]
    tested = [i for i, pair in enumerate(found) if pair.difference is not None]
    adjusted = inference.benjamini_hochberg([pair.difference.p_value for pair in found if pair.difference is not None])
    for i, p_adjusted in zip(tested, adjusted, strict=True):
        found[i] = replace(found[i], p_adjusted=p_adjusted, differs=p_adjusted < ALPHA)
    return tuple(sorted(found, key=lambda pair: not pair.differs))


def _slice(name: str, label: str, chosen: NDArray[np.bool_], a: Side, b: Side) -> SlicePair:
    n, clusters = int(chosen.sum()), a.outcomes[0].clusters
    if n < FEWEST or (clusters is not None and len(np.unique(clusters[chosen])) < 2):
        return SlicePair(label, n, None, None, None, None, differs=False)
    of_a, of_b = (
        replace(side, outcomes=tuple(metrics.subset(outcomes, chosen) for outcomes in side.outcomes)) for side in (a, b)
    )
    difference = _differences([name], of_a, of_b)[name]
    return SlicePair(label, n, _mean(name, of_a), _mean(name, of_b), difference, None, differs=False)


def _mean(name: str, side: Side) -> float | None:
    values: Floats = np.array([metrics.value(name, outcomes) for outcomes in side.outcomes])
    return float(values.mean()) if np.isfinite(values).all() else None
