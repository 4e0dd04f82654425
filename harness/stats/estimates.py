"""Estimates of metrics: means over seeds with intervals, and paired comparisons of two configurations.

Metrics themselves are defined in `metrics`. Functions take outcomes of one or more seeds on the same examples, and an
explicit generator. An undefined result is None.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import NamedTuple

import numpy as np

from harness.artifacts import digest
from harness.records import UNLABELLED, Metric, Outcomes
from harness.stats import inference, metrics, posterior
from harness.stats.inference import Floats, Ints
from harness.stats.metrics import METRICS, Definition, disagreements, is_right

OF_METRICS = "accuracy"
"""Word that seeds what is drawn for metrics: one for all, so that they are computed on the same resamples."""
MOST_KINDS = 2000
"""Most kinds of alike examples; with more of them, drawing by kind saves no time and takes memory."""


class Difference(NamedTuple):
    """Candidate minus reference, paired by example."""

    value: float
    ci_low: float
    """Lower end of the 95 % interval."""
    ci_high: float
    n: int
    p_value: float
    """Two-sided p-value of no difference; not corrected for the number of comparisons."""
    se_examples: float
    """Standard error from the choice of examples."""
    se_seeds: float
    """Standard error from the choice of seeds; 0 if both sides have one."""

    @property
    def turned(self) -> "Difference":
        """Reference minus candidate."""
        return self._replace(value=-self.value, ci_low=-self.ci_high, ci_high=-self.ci_low)


class Resampled(NamedTuple):
    """A configuration's metric, and its values in resamples."""

    name: str
    """A key of `METRICS`."""
    seeds: tuple[Outcomes, ...]
    value: float
    """Mean over the seeds; nan if it is undefined."""
    examples_drawn: Floats
    """Shape (resamples,): the mean over all seeds in resamples of the examples alone."""
    seeds_drawn: Floats
    """Shape (resamples,): the mean over resampled seeds in the same resamples of the examples."""
    seeds_variance: float
    """Variance that the choice of seeds adds to the value."""

    @property
    def of_seeds(self) -> tuple[float, int]:
        """The variance that the choice of seeds adds to the value, and the number of seeds."""
        return self.seeds_variance, len(self.seeds)


class _Drawn(NamedTuple):
    """A configuration's metric in resamples, where it is not compared with another."""

    values: Floats
    """Shape (seeds, resamples): each seed in resamples of the examples."""
    means: Floats
    """Shape (resamples,): the mean over resampled seeds in the same resamples."""


class Spread(NamedTuple):
    """Standard errors of a mean over seeds."""

    se_examples: float
    """From the choice of examples."""
    se_seeds: float
    """From the choice of seeds."""


def is_exact(what: str, *sides: Sequence[Outcomes]) -> bool:
    """Report whether an interval is computed, not drawn: for accuracies and flips of one seed a side without clusters.

    Args:
        what: a metric, or "flips".
    """
    return what in ("accuracy", "flips") and all(len(side) == 1 and side[0].clusters is None for side in sides)


def generator_for(run_keys: Sequence[str], what: str = OF_METRICS) -> np.random.Generator:
    """Make the generator for a number about these runs, so that it has the same interval wherever it is shown.

    For one run it is seeded by the run's key; for several runs by their keys and what is drawn.
    """
    seed = run_keys[0] if len(run_keys) == 1 else digest.of_json([what, *run_keys])
    return np.random.default_rng(int(seed[:16], 16))


def summarise(
    name: str, seeds: Sequence[Outcomes], generator: np.random.Generator, draws: int = inference.RESAMPLES
) -> Metric:
    """Do what `summaries` does for one metric."""
    return summaries([name], seeds, generator, draws)[name]


def summaries(
    names: Sequence[str], seeds: Sequence[Outcomes], generator: np.random.Generator, draws: int = inference.RESAMPLES
) -> dict[str, Metric]:
    """Average metrics over a configuration's seeds, with 95 % intervals over examples and seeds.

    One seed and no clusters: Wilson for accuracy, and the posterior of the table for F1 and similar (`posterior`).
    Otherwise the bootstrap over clusters (or examples) and seeds, widened as Student's t for few seeds. Where no
    resample differs from the value (all right, all wrong), the first two replace it with as many examples as there are
    clusters, and admit doubt. A single cluster gives no interval.

    All metrics are computed on the same resamples.

    Args:
        names: keys of `METRICS`.
        seeds: the outcomes of each seed, all on the same examples in the same order.
        generator: source of the resampling.
        draws: number of draws, where an interval is drawn.
    """
    check_paired(seeds)
    values = {name: float(np.mean([metrics.value(name, outcomes) for outcomes in seeds])) for name in names}
    resampled = [name for name in names if np.isfinite(values[name]) and not _is_computed(name, seeds)]
    drawn = _alone(resampled, seeds, generator, draws)
    found = {}
    for name, value in values.items():
        low, high = _interval(name, value, seeds, drawn.get(name), draws) or (None, None)
        known = value if np.isfinite(value) else None
        stated = METRICS[name].higher_is_better, metrics.origin(name)
        found[name] = Metric(name, known, low, high, len(seeds[0].labels), *stated)
    return found


def _is_computed(name: str, seeds: Sequence[Outcomes]) -> bool:
    """Report whether the interval of a metric takes no resamples."""
    return is_exact(name, seeds) or posterior.applies(name, tuple(seeds))


def _interval(
    name: str, value: float, seeds: Sequence[Outcomes], drawn: "_Drawn | None", draws: int
) -> tuple[float, float] | None:
    """Compute the interval of a metric's mean over seeds, as `summaries` says; None where it has none."""
    if not np.isfinite(value):
        return None
    if is_exact(name, seeds):
        return inference.wilson(round(value * len(seeds[0].labels)), len(seeds[0].labels))
    if drawn is None:
        return _around(value, inference.percentile_interval(posterior.drawn(name, seeds[0], draws=draws)))
    interval = inference.percentile_interval(drawn.means)
    if interval is not None and len(seeds) > 1:
        of_seeds = variance_of_seeds(drawn.values)
        total = of_seeds + float(np.nanvar(drawn.values.mean(axis=0), ddof=1))
        degrees = inference.welch_degrees(total, [(of_seeds, len(seeds))])
        interval = _within(inference.widened(value, interval, degrees), METRICS[name])
    if interval is not None and interval[0] == interval[1]:
        interval = _of_units(name, value, seeds[0]) or interval
    return interval


def spread(name: str, seeds: Sequence[Outcomes], generator: np.random.Generator) -> Spread:
    """Estimate the standard errors of a metric's mean over seeds, by their source.

    Args:
        name: a key of `METRICS`.
        seeds: the outcomes of each seed, all on the same examples in the same order.
        generator: source of the resampling.
    """
    if name != "accuracy" and posterior.applies(name, tuple(seeds)):  # for accuracy see `at_limit`
        return Spread(float(np.nanstd(posterior.drawn(name, seeds[0]), ddof=1)), 0.0)
    drawn = _alone([name], seeds, generator, inference.RESAMPLES)[name]
    return standard_errors(drawn.values.mean(axis=0), drawn.means)


def at_limit(spread: Spread, limit: float, what: str, *sides: Sequence[Outcomes]) -> Spread:
    """Adjust standard errors to those that decide whether an interval excludes a limit.

    A score interval (Wilson, Tango) takes the variance that the data would have if the limit were the truth, with as
    many examples as there are independent units. Any other interval takes the variance of the data, so `spread` is
    returned as it is.

    Args:
        spread: standard errors of the resamples; both 0 where no resample differs and a score interval stands in.
        limit: of the accuracy, of the difference first minus second, or of the share of flips.
        what: a metric, or "flips".
        sides: the seeds of one or two configurations.
    """
    if what not in ("accuracy", "flips") or not (is_exact(what, *sides) or not any(spread)):
        return spread
    n = len(sides[0][0].labels)
    if what == "accuracy" and len(sides) == 2:
        first, second = disagreements(sides[0][0], sides[1][0])
        variance = inference.paired_variance(first / n, second / n, min(1.0, max(-1.0, limit)))
    else:
        variance = max(0.0, limit * (1 - limit))
    return spread._replace(se_examples=float(np.sqrt(variance / n_units(sides[0][0]))))


def difference(
    name: str, candidate: Sequence[Outcomes], reference: Sequence[Outcomes], generator: np.random.Generator
) -> Difference | None:
    """Estimate the candidate's mean minus the reference's, paired by example: both sides see the same resamples.

    Returns:
        None if the metric is undefined for a side, or there is only one cluster and so no interval.
    """
    if (found := _of_tables(name, candidate, reference)) is not None:
        return found
    # The examples are drawn once for both sides, which keeps the pairing; the seeds of training independently.
    examples = np.random.default_rng(int(generator.integers(2**32)))
    return between(*resampled(name, (candidate, reference), examples, (generator, generator)))


def difference_of_runs(
    name: str,
    candidate: Sequence[Outcomes],
    candidate_keys: Sequence[str],
    reference: Sequence[Outcomes],
    reference_keys: Sequence[str],
    draws: int = inference.RESAMPLES,
) -> Difference | None:
    """Do what `differences_of_runs` does for one metric."""
    return differences_of_runs([name], candidate, candidate_keys, reference, reference_keys, draws)[name]


def differences_of_runs(
    names: Sequence[str],
    candidate: Sequence[Outcomes],
    candidate_keys: Sequence[str],
    reference: Sequence[Outcomes],
    reference_keys: Sequence[str],
    draws: int = inference.RESAMPLES,
) -> dict[str, Difference | None]:
    """Estimate each metric's `difference`, all on the same resamples.

    The draws depend only on examples and runs, so a difference is the same wherever it is shown.

    Args:
        names: keys of `METRICS`.
        candidate_keys, reference_keys: run keys of each side's seeds.
        draws: number of draws, where the interval is drawn.
    """
    found = {name: _of_tables(name, candidate, reference, draws) for name in names}
    drawn = [name for name in names if found[name] is None]
    if drawn:
        generators = [seeds_generator(keys) for keys in (candidate_keys, reference_keys)]
        sides = resampled_each(drawn, (candidate, reference), examples_generator(candidate[0]), generators, draws)
        found |= {name: between(*sides[name]) for name in drawn}
    return found


def examples_generator(outcomes: Outcomes, what: str = OF_METRICS) -> np.random.Generator:
    """Make the generator that resamples these examples, whichever models are compared on them."""
    return generator_for(["examples", *outcomes.example_ids], what)


def seeds_generator(run_keys: Sequence[str], what: str = OF_METRICS) -> np.random.Generator:
    """Make the generator that resamples these runs as seeds of a configuration, whatever it is compared with."""
    return generator_for(["seeds", *(run_keys or [""])], what)


def resampled(
    name: str,
    sides: Sequence[Sequence[Outcomes]],
    examples: np.random.Generator,
    training: Sequence[np.random.Generator],
    draws: int = inference.RESAMPLES,
) -> list[Resampled]:
    """Do what `resampled_each` does for one metric."""
    return resampled_each([name], sides, examples, training, draws)[name]


def resampled_each(
    names: Sequence[str],
    sides: Sequence[Sequence[Outcomes]],
    examples: np.random.Generator,
    training: Sequence[np.random.Generator],
    draws: int = inference.RESAMPLES,
) -> dict[str, list[Resampled]]:
    """Resample metrics of several configurations on one set of resampled examples, so that any two are paired.

    Args:
        names: keys of `METRICS`.
        sides: for each configuration the outcomes of its seeds, all on the same examples in the same order.
        examples: source of the resampling of examples, the same for all.
        training: for each configuration the source of the resampling of its seeds, the same for all metrics.
    """
    many = [outcomes for side in sides for outcomes in side]
    check_paired(many)
    ends = np.cumsum([len(side) for side in sides])[:-1]
    by_metric = seed_values([METRICS[name] for name in names], many, examples, draws)
    chosen = [
        inference.resampled_seeds(len(side), draws, generator) for side, generator in zip(sides, training, strict=True)
    ]
    return {
        name: [
            Resampled(
                name,
                tuple(side),
                float(np.mean([metrics.value(name, outcomes) for outcomes in side])),
                values.mean(axis=0),
                inference.mean_over_seeds(values, places),
                variance_of_seeds(values),
            )
            for side, values, places in zip(sides, np.split(by_seed, ends), chosen, strict=True)
        ]
        for name, by_seed in zip(names, by_metric, strict=True)
    }


def between(candidate: Resampled, reference: Resampled) -> Difference | None:
    """Estimate the candidate's mean minus the reference's, for two results of one call of `resampled`.

    One seed a side and no clusters: Tango's interval and McNemar's exact p-value for accuracy, and the posterior of the
    table for F1 and similar (`posterior`). Otherwise the interval is the bootstrap's, or, where no resample differs,
    one of the former with as many examples as there are clusters. Except for McNemar's, p-values are from the standard
    error of the draws. With several seeds a side, intervals and p-values are those of Student's t, with as many degrees
    of freedom as the seeds allow.

    Returns:
        None if the metric is undefined for a side, or there is only one cluster and so no interval.
    """
    if candidate.name != reference.name:
        raise ValueError(f"only the same metric can be compared, not {candidate.name} with {reference.name}")
    one, other = candidate.seeds[0], reference.seeds[0]
    check_paired([one, other])
    if (found := _of_tables(candidate.name, candidate.seeds, reference.seeds)) is not None:
        return found
    value = candidate.value - reference.value
    gaps = candidate.seeds_drawn - reference.seeds_drawn
    interval = inference.percentile_interval(gaps)
    if interval is None or not np.isfinite(value):
        return None
    errors = standard_errors(candidate.examples_drawn - reference.examples_drawn, gaps)
    if candidate.name == "accuracy" and len(candidate.seeds) == len(reference.seeds) == 1 and one.clusters is None:
        counts = disagreements(one, other)
        interval, p_value = inference.tango(*counts, len(one.labels)), inference.mcnemar(*counts)
    else:
        parts = [candidate.of_seeds, reference.of_seeds]
        total = errors.se_examples**2 + sum(part for part, _ in parts)
        degrees = inference.welch_degrees(total, parts)
        p_value = inference.two_sided_p(value, float(np.hypot(*errors)), degrees)
        interval = inference.widened(value, interval, degrees)
        if interval[0] == interval[1]:
            interval = _difference_of_units(candidate.name, value, one, other) or interval
    return Difference(value, *interval, len(one.labels), p_value, *errors)


def _of_tables(
    name: str, candidate: Sequence[Outcomes], reference: Sequence[Outcomes], draws: int = inference.RESAMPLES
) -> Difference | None:
    """Estimate the difference from the posterior of the table; None where it does not apply, or is undefined."""
    if name == "accuracy" or not posterior.applies(name, tuple(candidate), tuple(reference)):
        return None
    one, other = candidate[0], reference[0]
    check_paired([one, other])
    value = metrics.value(name, one) - metrics.value(name, other)
    if not np.isfinite(value):
        return None
    drawn = posterior.drawn_difference(name, one, other, draws=draws)
    error = float(drawn.std(ddof=1))
    interval = _around(value, inference.percentile_interval(drawn))
    return Difference(value, *interval, len(one.labels), inference.two_sided_p(value, error), error, 0.0)


def check_paired(many: Sequence[Outcomes]) -> None:
    """Raise ValueError unless all are on the same examples in the same order."""
    if any(outcomes.example_ids != many[0].example_ids for outcomes in many[1:]):
        raise ValueError("outcomes can only be combined on the same examples in the same order")


def _around(value: float, interval: tuple[float, float] | None) -> tuple[float, float]:
    """Extend an interval to contain the value: at a metric's bound the value is an end, as in a score interval."""
    low, high = interval if interval is not None else (value, value)
    return min(low, value), max(high, value)


def _within(interval: tuple[float, float], definition: Definition) -> tuple[float, float]:
    """Cut what a widened interval has beyond the metric's bounds."""
    return max(definition.lowest, interval[0]), min(definition.highest, interval[1])


def _of_units(name: str, value: float, outcomes: Outcomes) -> tuple[float, float] | None:
    """Compute the interval where no resample differs from the value, with as many examples as independent units.

    None for a metric that is not one of a table.
    """
    units = n_units(outcomes)
    if name == "accuracy" or METRICS[name].of_pairs:
        return inference.wilson(round(value * units), units)
    if not METRICS[name].of_table:
        return None
    return _around(value, inference.percentile_interval(posterior.drawn(name, outcomes, units / len(outcomes.labels))))


def _difference_of_units(name: str, value: float, one: Outcomes, other: Outcomes) -> tuple[float, float] | None:
    """Do what `_of_units` does for a difference."""
    n, units = len(one.labels), n_units(one)
    if name == "accuracy":
        first, second = disagreements(one, other)
        return inference.tango(int(first * units / n + 0.5), int(second * units / n + 0.5), units)
    if METRICS[name].of_pairs:  # no resample differs, so the sides are right about the same pairs, or one about all
        lead = round(value * units)
        return inference.tango(max(lead, 0), max(-lead, 0), units)
    if not METRICS[name].of_table:
        return None
    return _around(value, inference.percentile_interval(posterior.drawn_difference(name, one, other, units / n)))


def seed_values(
    definitions: Sequence[Definition], seeds: Sequence[Outcomes], examples: np.random.Generator, draws: int
) -> list[Floats]:
    """Compute metrics of each seed, all on the same resampled examples: for each metric shape (seeds, resamples)."""
    units = units_of(seeds[0])
    if units.max() == 0:  # a single unit does not show how units differ
        return [np.full((len(seeds), draws), np.nan) for _ in definitions]
    is_labelled = not any(UNLABELLED in outcomes.labels for outcomes in seeds)
    of_table = [definition.of_table if is_labelled else None for definition in definitions]
    # By unit, in one matrix product for all seeds: exact, since the numbers are whole.
    cells = np.array([[np.bincount(units, weights=cell) for cell in metrics.cells(outcomes)] for outcomes in seeds])
    chunks = []
    for drawn in inference.resampled_units(units, examples, draws):
        tables = np.moveaxis(cells @ drawn, 1, 0) if any(of_table) else ()
        weights = drawn.take(units, axis=0).T if not all(of_table) else np.empty((0, 0))
        chunks.append(
            [
                table(*tables) if table else np.stack([definition.values(outcomes, weights) for outcomes in seeds])
                for definition, table in zip(definitions, of_table, strict=True)
            ]
        )
    return [np.concatenate(found, axis=1) for found in zip(*chunks, strict=True)]


def _alone(
    names: Sequence[str], seeds: Sequence[Outcomes], generator: np.random.Generator, draws: int
) -> dict[str, _Drawn]:
    """Do what `seed_values` does for a configuration that is not compared with another, and draw its seeds.

    Where a metric is one of a table and the examples are independent, examples are drawn by kind, which has the same
    distribution.
    """
    n = len(seeds[0].labels)
    by_kind = [name for name in names if METRICS[name].of_table and seeds[0].clusters is None and n > 1]
    kinds, counts = alike(seeds) if by_kind else ([], np.empty(0))
    if len(counts) > MOST_KINDS:
        by_kind = []
    by_example = [name for name in names if name not in by_kind]
    found: dict[str, _Drawn] = {}
    start = deepcopy(
        generator
    )  # both ways begin at one state: a metric's draws do not depend on which others are asked
    if by_kind:
        weights = generator.multinomial(n, counts / n, size=draws).astype(np.float64)
        values = [np.stack([METRICS[name].values(outcomes, weights) for outcomes in kinds]) for name in by_kind]
        found |= _with_seeds(by_kind, values, generator)
    if by_example:
        stream = start if by_kind else generator
        values = seed_values([METRICS[name] for name in by_example], seeds, stream, draws)
        found |= _with_seeds(by_example, values, stream)
    return found


def _with_seeds(names: Sequence[str], by_metric: Sequence[Floats], generator: np.random.Generator) -> dict[str, _Drawn]:
    """Draw seeds, the same for all metrics.

    Args:
        by_metric: for each metric shape (seeds, resamples).
    """
    n_seeds, draws = by_metric[0].shape
    chosen = inference.resampled_seeds(n_seeds, draws, generator)
    drawn = zip(names, by_metric, strict=True)
    return {name: _Drawn(values, inference.mean_over_seeds(values, chosen)) for name, values in drawn}


def alike(seeds: Sequence[Outcomes]) -> tuple[list[Outcomes], Ints]:
    """Find one example of each kind, as each seed predicts it, and the size of each kind, shape (kinds,).

    Examples are of one kind if they have the same label and the same predictions: at most 2^(seeds + 1) kinds.
    """
    table = np.stack([seeds[0].labels, *(outcomes.predicted for outcomes in seeds)])
    _, first, counts = np.unique(table, axis=1, return_index=True, return_counts=True)
    chosen = np.isin(np.arange(table.shape[1]), first)
    return [metrics.subset(outcomes, chosen) for outcomes in seeds], np.asarray(counts[np.argsort(first)])


def standard_errors(seeds_held: Floats, seeds_drawn: Floats) -> Spread:
    """Estimate standard errors from resamples of the examples alone, and of examples and seeds; shapes (resamples,)."""
    held, drawn = (values[np.isfinite(values)] for values in (seeds_held, seeds_drawn))
    if len(held) < 2 or len(drawn) < 2:
        return Spread(float("nan"), float("nan"))
    return Spread(float(held.std(ddof=1)), float(np.sqrt(max(0.0, drawn.var(ddof=1) - held.var(ddof=1)))))


def variance_of_seeds(values: Floats) -> float:
    """Estimate the variance that the choice of seeds adds to a mean over them; 0 for one seed.

    It is the mean over the resamples of the examples, without drawing seeds: the degrees of freedom of an interval
    would otherwise depend on the draw.

    Args:
        values: shape (seeds, resamples), where undefined nan.
    """
    n_seeds = len(values)
    if n_seeds == 1:
        return 0.0
    defined = values[:, np.isfinite(values).all(axis=0)]
    return float(defined.var(axis=0, ddof=1).mean()) / n_seeds if defined.shape[1] else float("nan")


def n_units(outcomes: Outcomes) -> int:
    """Count the independent units: clusters, or examples if there are none."""
    return int(units_of(outcomes).max()) + 1


def units_of(outcomes: Outcomes) -> Ints:
    """Number the unit, from 0, with which each example is resampled: its cluster, or itself alone. Shape (n,)."""
    if outcomes.clusters is None:
        return np.arange(len(outcomes.labels))
    return np.unique(outcomes.clusters, return_inverse=True)[1].astype(np.int64)


class Flips(NamedTuple):
    """Share of examples that the reference gets right and the candidate wrong, with its 95 % interval."""

    value: float
    ci_low: float
    ci_high: float
    n: int
    se_examples: float
    se_seeds: float


def flip_share(
    candidate: Sequence[Outcomes],
    reference: Sequence[Outcomes],
    generator: np.random.Generator,
    draws: int = inference.RESAMPLES,
) -> Flips | None:
    """Estimate how often the reference is right and the candidate wrong, over all pairs of their seeds.

    One seed a side and no clusters: Wilson. Otherwise the bootstrap over clusters (or examples) and both sides' seeds;
    Wilson again, with the number of clusters, where no resample has a flip.

    Returns:
        None if there is only one cluster and so no interval.
    """
    check_paired([*candidate, *reference])
    n = len(candidate[0].labels)
    lost = np.array([[is_right(was) & ~is_right(now) for was in reference] for now in candidate], dtype=np.float64)
    value = float(lost.mean())
    units = units_of(candidate[0])
    if units.max() == 0:
        return None
    chunks = [
        lost @ weights.T / weights.sum(axis=1) for weights in inference.resampled_weights(units, generator, draws)
    ]
    by_pair = np.concatenate(chunks, axis=2)  # (candidate's seeds, reference's seeds, resamples)
    now = inference.resampled_seeds(len(candidate), by_pair.shape[2], generator)[:, np.newaxis]
    was = inference.resampled_seeds(len(reference), by_pair.shape[2], generator)[np.newaxis]
    resampled = by_pair[now, was, np.arange(by_pair.shape[2])].mean(axis=(0, 1))
    interval = inference.percentile_interval(resampled)
    errors = standard_errors(by_pair.mean(axis=(0, 1)), resampled)
    if interval is not None:
        parts = [(variance_of_seeds(by_pair.mean(axis=1 - side)), by_pair.shape[side]) for side in (0, 1)]
        total = errors.se_examples**2 + sum(part for part, _ in parts)
        low, high = inference.widened(value, interval, inference.welch_degrees(total, parts))
        interval = max(0.0, low), min(1.0, high)
    if is_exact("flips", candidate, reference) or interval is None or interval[0] == interval[1]:
        n_clusters = n_units(candidate[0])
        interval = inference.wilson(round(value * n_clusters), n_clusters)
    return Flips(value, *interval, n, *errors)
