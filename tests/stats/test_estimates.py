"""Means, intervals, differences and flips of metrics, against what they promise."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.artifacts import digest
from harness.records import UNLABELLED, Outcomes
from harness.stats import estimates, inference, metrics
from harness.stats.metrics import METRICS

OF_EXAMPLES = [name for name, definition in metrics.METRICS.items() if not definition.of_pairs]
"""Metrics that need no pairs; tests/stats/test_pairs.py is about the others."""

Floats = NDArray[np.float64]
MakeOutcomes = Callable[..., Outcomes]


# Summaries


def test_accuracy_of_one_run_without_clusters_has_a_wilson_interval(make_outcomes: MakeOutcomes) -> None:
    outcomes = make_outcomes([1] * 8 + [0] * 2, [0.9] * 10)
    metric = estimates.summarise("accuracy", [outcomes], np.random.default_rng(0))
    assert (metric.name, metric.value, metric.n, metric.higher_is_better) == ("accuracy", 0.8, 10, True)
    assert (metric.ci_low, metric.ci_high) == pytest.approx((0.4902, 0.9433), abs=5e-5)


@pytest.mark.parametrize("clusters", [None, ["a", "a", "b", "b", "c", "d"]], ids=["examples", "clusters"])
@pytest.mark.parametrize("n_seeds", [1, 3])
@pytest.mark.parametrize("score", [0.9, 0.1], ids=["all right", "all wrong"])
def test_accuracy_without_variation_still_admits_doubt(
    score: float, n_seeds: int, clusters: list[str] | None, make_outcomes: MakeOutcomes
) -> None:
    outcomes = make_outcomes([1] * 6, [score] * 6, clusters)
    metric = estimates.summarise("accuracy", [outcomes] * n_seeds, np.random.default_rng(0))
    units, value = (4 if clusters else 6), float(score > 0.5)
    assert metric.value == value
    assert (metric.ci_low, metric.ci_high) == inference.wilson(round(units * value), units)


@pytest.mark.parametrize(
    ("name", "labels", "scores"),
    [
        ("f1", [0, 0, 0], [0.1, 0.2, 0.3]),
        ("precision", [1, 0, 1], [0.1, 0.2, 0.3]),
        ("recall", [0, 0, 0], [0.9, 0.2, 0.3]),
        ("mcc", [1, 1, 1], [0.9, 0.2, 0.3]),
        ("mcc", [1, 0, 1], [0.9, 0.8, 0.7]),
        ("roc_auc", [1, 1, 1], [0.9, 0.2, 0.3]),
    ],
)
def test_an_undefined_metric_is_absent_not_zero(
    name: str, labels: list[int], scores: list[float], make_outcomes: MakeOutcomes
) -> None:
    metric = estimates.summarise(name, [make_outcomes(labels, scores)], np.random.default_rng(0))
    assert (metric.value, metric.ci_low, metric.ci_high, metric.n) == (None, None, None, 3)


@pytest.mark.parametrize("name", OF_EXAMPLES)
def test_a_metric_that_one_seed_lacks_is_absent_for_all(name: str, make_outcomes: MakeOutcomes) -> None:
    some = make_outcomes([0, 0, 0, 0], [0.9, 0.2, 0.3, 0.1])
    none = make_outcomes([0, 0, 0, 0], [0.1, 0.2, 0.3, 0.1])
    metric = estimates.summarise(name, [some, none], np.random.default_rng(0))
    undefined = math.isnan(float(metrics.METRICS[name].values(none, np.ones((1, 4)))[0]))
    assert (metric.value is None) == undefined


def test_a_metric_keeps_its_value_when_too_few_resamples_define_an_interval(make_outcomes: MakeOutcomes) -> None:
    # Each of six seeds claims one example, another each time: few resamples hold the claims of all seeds drawn.
    seeds = [make_outcomes([1] * 20, [0.9 if i == k else 0.1 for i in range(20)]) for k in range(6)]
    metric = estimates.summarise("precision", seeds, np.random.default_rng(0))
    assert (metric.value, metric.ci_low, metric.ci_high) == (1.0, None, None)
    assert estimates.difference("precision", seeds, seeds, np.random.default_rng(0)) is None


def test_a_single_cluster_gives_no_interval_but_its_value(make_outcomes: MakeOutcomes) -> None:
    outcomes = make_outcomes([1, 0, 1, 0], [0.9, 0.1, 0.2, 0.3], ["a"] * 4)
    metric = estimates.summarise("f1", [outcomes], np.random.default_rng(0))
    assert metric.value == pytest.approx(2 / 3)
    assert (metric.ci_low, metric.ci_high) == (None, None)
    assert estimates.difference("f1", [outcomes], [outcomes], np.random.default_rng(0)) is None


def correlated(generator: np.random.Generator, n_clusters: int, size: int) -> tuple[Floats, Floats, list[str]]:
    """Labels all 1 and scores right or wrong by whole cluster."""
    right = generator.random(n_clusters) < 0.7
    scores = np.repeat(np.where(right, 0.9, 0.1), size)
    return np.ones(n_clusters * size), scores, [f"c{i:04}" for i in np.repeat(np.arange(n_clusters), size)]


@pytest.mark.parametrize("name", ["accuracy", "log_loss", "recall"])
def test_clusters_of_correlated_examples_widen_the_interval(name: str, make_outcomes: MakeOutcomes) -> None:
    labels, scores, clusters = correlated(np.random.default_rng(1), 30, 9)

    def width(outcomes: Outcomes) -> float:
        metric = estimates.summarise(name, [outcomes], np.random.default_rng(0))
        assert metric.ci_low is not None
        assert metric.ci_high is not None
        return metric.ci_high - metric.ci_low

    plain, clustered = width(make_outcomes(labels, scores)), width(make_outcomes(labels, scores, clusters))
    assert clustered == pytest.approx(3 * plain, rel=0.2)  # nine examples that say the same thing are one


def test_clusters_are_told_apart_by_name_and_not_by_place(make_outcomes: MakeOutcomes) -> None:
    labels, scores, clusters = correlated(np.random.default_rng(1), 12, 4)
    order = np.random.default_rng(2).permutation(len(labels))
    straight = estimates.summarise("recall", [make_outcomes(labels, scores, clusters)], np.random.default_rng(0))
    mixed = estimates.summarise(
        "recall",
        [make_outcomes(labels[order], scores[order], [clusters[i] for i in order])],
        np.random.default_rng(0),
    )
    assert straight == mixed


def test_several_seeds_are_averaged_and_their_spread_widens_the_interval(make_outcomes: MakeOutcomes) -> None:
    labels = [1] * 200
    good, poor = make_outcomes(labels, [0.9] * 180 + [0.1] * 20), make_outcomes(labels, [0.9] * 120 + [0.1] * 80)
    both = estimates.summarise("accuracy", [good, poor], np.random.default_rng(0))
    assert both.value == pytest.approx(0.75)
    assert both.n == 200
    same = estimates.summarise("accuracy", [good, good], np.random.default_rng(0))
    assert same.value == pytest.approx(0.9)
    assert both.ci_low is not None
    assert both.ci_high is not None
    assert both.ci_low < 0.62
    assert both.ci_high > 0.88
    assert same.ci_low is not None
    assert same.ci_low > 0.84


def test_the_same_generator_gives_the_same_interval_and_another_does_not(make_outcomes: MakeOutcomes) -> None:
    generator = np.random.default_rng(4)
    outcomes = make_outcomes(generator.integers(0, 2, 50), generator.random(50))
    first, again, other = (estimates.summarise("brier", [outcomes], np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again
    assert first.value == other.value
    assert first.ci_low != other.ci_low


@pytest.mark.parametrize("name", OF_EXAMPLES)
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_a_summary_has_an_ordered_interval_in_the_metrics_range(
    name: str, seed: int, make_outcomes: MakeOutcomes
) -> None:
    generator = np.random.default_rng(seed)
    outcomes = make_outcomes(generator.integers(0, 2, 30), generator.random(30))
    metric = estimates.summarise(name, [outcomes], generator)
    assert metric.value is not None
    assert metric.ci_low is not None
    assert metric.ci_high is not None
    assert metric.ci_low < metric.ci_high
    assert (-1 if name == "mcc" else 0) <= metric.ci_low
    assert metric.ci_high <= (math.inf if name == "log_loss" else 1)


def test_the_interval_covers_the_truth_about_as_often_as_it_says(make_outcomes: MakeOutcomes) -> None:
    # Brier of a model that answers 0.8 where the truth is 1 with chance 0.7: 0.7 * 0.04 + 0.3 * 0.64.
    truth, generator, covered, trials = 0.22, np.random.default_rng(7), 0, 150
    for _ in range(trials):
        labels = np.repeat((generator.random(40) < 0.7).astype(int), 3)  # 40 clusters of 3
        outcomes = make_outcomes(labels, [0.8] * 120, [f"c{i:02}" for i in np.repeat(np.arange(40), 3)])
        metric = estimates.summarise("brier", [outcomes], generator)
        assert metric.ci_low is not None
        assert metric.ci_high is not None
        covered += metric.ci_low <= truth <= metric.ci_high
    assert 0.88 <= covered / trials <= 0.99


# Differences


@pytest.mark.parametrize("clusters", [None, ["a", "b", "c"] * 10], ids=["examples", "clusters"])
@pytest.mark.parametrize("name", OF_EXAMPLES)
def test_identical_sides_differ_by_zero(name: str, clusters: list[str] | None, make_outcomes: MakeOutcomes) -> None:
    generator = np.random.default_rng(2)
    outcomes = make_outcomes(generator.integers(0, 2, 30), generator.random(30), clusters)
    same = estimates.difference(name, [outcomes], [outcomes], np.random.default_rng(0))
    assert same is not None
    if metrics.METRICS[name].of_table:  # these intervals admit doubt
        assert same.ci_low < 0 < same.ci_high
        assert name != "accuracy" or (same.ci_low, same.ci_high) == inference.tango(0, 0, 3 if clusters else 30)
        same = same._replace(ci_low=0, ci_high=0, se_examples=0)
    assert same == (0, 0, 0, 30, 1, 0, 0)


def test_a_difference_is_candidate_minus_reference(make_outcomes: MakeOutcomes) -> None:
    labels = [0, 1] * 50
    good, bad = make_outcomes(labels, [0.1, 0.9] * 50), make_outcomes(labels, [0.1, 0.9, 0.9, 0.1, 0.1] * 20)
    gain = estimates.difference("accuracy", [good], [bad], np.random.default_rng(0))
    loss = estimates.difference("log_loss", [good], [bad], np.random.default_rng(0))
    assert gain is not None
    assert loss is not None
    assert 0 < gain.ci_low < gain.value < gain.ci_high
    assert loss.ci_low < loss.value < loss.ci_high < 0
    turned = estimates.difference("accuracy", [bad], [good], np.random.default_rng(0))
    assert turned is not None
    assert turned == pytest.approx(gain.turned)
    assert gain.turned == (-gain.value, -gain.ci_high, -gain.ci_low, *gain[3:])


def test_pairing_makes_the_difference_of_similar_models_sharper(make_outcomes: MakeOutcomes) -> None:
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 2, 400)
    right = generator.random(400) < 0.7
    scores = np.where((labels == 1) == right, 0.9, 0.1)
    other = scores.copy()
    other[:4] = 1 - other[:4]
    first, second = make_outcomes(labels, scores), make_outcomes(labels, other)
    paired = estimates.difference("accuracy", [first], [second], np.random.default_rng(0))
    alone = estimates.summarise("accuracy", [first], np.random.default_rng(0))
    assert paired is not None
    assert alone.ci_low is not None
    assert alone.ci_high is not None
    assert paired.ci_high - paired.ci_low < (alone.ci_high - alone.ci_low) / 3


def test_clusters_widen_the_interval_of_a_difference_too(make_outcomes: MakeOutcomes) -> None:
    labels, scores, clusters = correlated(np.random.default_rng(1), 30, 9)
    reference = np.full(len(scores), 0.9)

    def width(names: list[str] | None) -> float:
        candidate, other = make_outcomes(labels, scores, names), make_outcomes(labels, reference, names)
        found = estimates.difference("accuracy", [candidate], [other], np.random.default_rng(0))
        assert found is not None
        return found.ci_high - found.ci_low

    assert width(clusters) == pytest.approx(3 * width(None), rel=0.2)


def test_seeds_of_both_sides_are_resampled(make_outcomes: MakeOutcomes) -> None:
    labels = [1] * 100
    good, poor = make_outcomes(labels, [0.9] * 95 + [0.1] * 5), make_outcomes(labels, [0.9] * 55 + [0.1] * 45)
    found = estimates.difference("accuracy", [good, poor], [good, poor], np.random.default_rng(0))
    assert found is not None
    assert found.value == 0
    assert found.ci_low < -0.3
    assert found.ci_high > 0.3


def test_a_difference_with_an_undefined_side_is_absent(make_outcomes: MakeOutcomes) -> None:
    labels = [1, 0, 1, 0]
    some, none = make_outcomes(labels, [0.9] * 4), make_outcomes(labels, [0.1] * 4)
    assert estimates.difference("precision", [some], [none], np.random.default_rng(0)) is None
    assert estimates.difference("precision", [none], [some], np.random.default_rng(0)) is None


def test_outcomes_of_other_examples_are_not_combined(make_outcomes: MakeOutcomes) -> None:
    three, four = make_outcomes([1, 0, 1], [0.9] * 3), make_outcomes([1, 0, 1, 0], [0.9] * 4)
    with pytest.raises(ValueError, match="the same examples in the same order"):
        estimates.difference("accuracy", [three], [four], np.random.default_rng(0))
    with pytest.raises(ValueError, match="the same examples in the same order"):
        estimates.summarise("accuracy", [three, four], np.random.default_rng(0))


# Many comparisons on one set of resamples


def three_sides(make_outcomes: MakeOutcomes, clusters: list[str] | None = None) -> list[list[Outcomes]]:
    """Three configurations of one, two and three seeds on the same 60 examples."""
    generator = np.random.default_rng(11)
    labels = generator.integers(0, 2, 60)
    return [[make_outcomes(labels, generator.random(60), clusters) for _ in range(n_seeds)] for n_seeds in (1, 2, 3)]


def generators(*seeds: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in seeds]


@pytest.mark.parametrize("clusters", [None, ["a", "b", "c"] * 20], ids=["examples", "clusters"])
@pytest.mark.parametrize("name", OF_EXAMPLES)
def test_a_side_is_resampled_alike_whoever_else_is(
    name: str, clusters: list[str] | None, make_outcomes: MakeOutcomes
) -> None:
    sides = three_sides(make_outcomes, clusters)
    together = estimates.resampled(name, sides, np.random.default_rng(0), generators(1, 2, 3))
    for side, seed, of_all in zip(sides, (1, 2, 3), together, strict=True):
        (alone,) = estimates.resampled(name, [side], np.random.default_rng(0), generators(seed))
        assert alone.value == of_all.value
        np.testing.assert_array_equal(alone.examples_drawn, of_all.examples_drawn)
        np.testing.assert_array_equal(alone.seeds_drawn, of_all.seeds_drawn)
        assert of_all.value == pytest.approx(np.mean([metrics.value(name, outcomes) for outcomes in side]))


@pytest.mark.parametrize("name", OF_EXAMPLES)
def test_two_sides_of_many_differ_as_they_do_alone_and_turned_by_the_sign(
    name: str, make_outcomes: MakeOutcomes
) -> None:
    sides = three_sides(make_outcomes)
    one, two, three = estimates.resampled(name, sides, np.random.default_rng(0), generators(1, 2, 3))
    alone = estimates.resampled(name, sides[1:], np.random.default_rng(0), generators(2, 3))
    assert estimates.between(two, three) == estimates.between(*alone)
    for pair in ((one, two), (two, three)):
        straight, turned = estimates.between(*pair), estimates.between(*reversed(pair))
        assert straight is not None
        assert turned is not None
        assert turned == pytest.approx(straight.turned)
        assert straight.value == pytest.approx(pair[0].value - pair[1].value)


def test_differences_on_shared_resamples_are_those_of_a_comparison_alone(make_outcomes: MakeOutcomes) -> None:
    candidate, _, reference = three_sides(make_outcomes)
    shared = estimates.between(
        *estimates.resampled("accuracy", [candidate, reference], np.random.default_rng(0), generators(1, 2))
    )
    alone = estimates.difference("accuracy", candidate, reference, np.random.default_rng(5))
    assert shared is not None
    assert alone is not None
    assert (shared.value, shared.n) == (alone.value, alone.n)
    assert shared == pytest.approx(alone, abs=0.03)


def test_sides_on_other_examples_or_of_another_metric_are_not_compared(make_outcomes: MakeOutcomes) -> None:
    three, four = make_outcomes([1, 0, 1], [0.9] * 3), make_outcomes([1, 0, 1, 0], [0.9] * 4)
    with pytest.raises(ValueError, match="the same examples in the same order"):
        estimates.resampled("accuracy", [[three], [four]], np.random.default_rng(0), generators(1, 2))
    accuracy, brier = (
        estimates.resampled(name, [[four]], np.random.default_rng(0), generators(1))[0]
        for name in ("accuracy", "brier")
    )
    with pytest.raises(ValueError, match="the same metric"):
        estimates.between(accuracy, brier)


# p-values and standard errors


def test_the_p_value_of_two_single_runs_is_mcnemars(make_outcomes: MakeOutcomes) -> None:
    labels = [1] * 100
    first = make_outcomes(labels, [0.9] * 90 + [0.1] * 10)
    second = make_outcomes(labels, [0.1] * 3 + [0.9] * 82 + [0.1] * 15)
    assert metrics.disagreements(first, second) == (8, 0)
    found = estimates.difference("accuracy", [first], [second], np.random.default_rng(0))
    assert found is not None
    assert found.p_value == pytest.approx(2 / 2**8)


def test_the_p_value_of_clustered_runs_knows_of_the_clusters(make_outcomes: MakeOutcomes) -> None:
    labels, scores, clusters = correlated(np.random.default_rng(1), 30, 9)
    reference = np.full(len(scores), 0.9)
    found = [
        estimates.difference(
            "accuracy", [make_outcomes(labels, scores, names)], [make_outcomes(labels, reference, names)],
            np.random.default_rng(0),
        )
        for names in (None, clusters)
    ]  # fmt: skip
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].p_value < found[1].p_value / 1000


def test_standard_errors_tell_examples_from_seeds(make_outcomes: MakeOutcomes) -> None:
    labels = [1] * 400
    good, poor = make_outcomes(labels, [0.9] * 380 + [0.1] * 20), make_outcomes(labels, [0.9] * 300 + [0.1] * 100)
    one = estimates.spread("accuracy", [good], np.random.default_rng(0))
    assert one.se_examples == pytest.approx(math.sqrt(0.95 * 0.05 / 400), rel=0.05)
    assert one.se_seeds == 0
    two = estimates.spread("accuracy", [good, poor], np.random.default_rng(0))
    assert two.se_seeds == pytest.approx(0.1, rel=0.05)  # 0.95 and 0.75 have a standard deviation of 0.2 / √2
    assert two.se_examples < 0.02


# Flips


def test_flips_of_two_single_runs_have_a_wilson_interval(make_outcomes: MakeOutcomes) -> None:
    labels = [1] * 100
    was, now = make_outcomes(labels, [0.9] * 90 + [0.1] * 10), make_outcomes(labels, [0.1] * 7 + [0.9] * 93)
    found = estimates.flip_share([now], [was], np.random.default_rng(0))
    assert found is not None
    assert (found.value, found.ci_low, found.ci_high) == (0.07, *inference.wilson(7, 100))
    back = estimates.flip_share([was], [now], np.random.default_rng(0))
    assert back is not None
    assert back.value == 0.10


def test_flips_are_averaged_over_all_pairs_of_seeds(make_outcomes: MakeOutcomes) -> None:
    labels = [1] * 100
    right, wrong = make_outcomes(labels, [0.9] * 100), make_outcomes(labels, [0.1] * 100)
    found = estimates.flip_share([right, wrong], [right, right, wrong], np.random.default_rng(0))
    assert found is not None
    assert found.value == pytest.approx(1 / 2 * 2 / 3)
    assert found.ci_low == 0
    assert found.ci_high == 1


def test_clusters_widen_the_interval_of_flips_and_none_at_all_still_admits_doubt(make_outcomes: MakeOutcomes) -> None:
    labels, scores, clusters = correlated(np.random.default_rng(1), 30, 9)
    now = make_outcomes(labels, scores, clusters)
    was = make_outcomes(labels, np.full(len(scores), 0.9), clusters)
    found, none = (estimates.flip_share(*pair, np.random.default_rng(0)) for pair in (([now], [was]), ([was], [now])))
    assert found is not None
    plain = inference.wilson(round(found.value * 270), 270)
    assert found.ci_high - found.ci_low == pytest.approx(3 * (plain[1] - plain[0]), rel=0.2)
    assert none is not None
    assert (none.value, none.ci_low, none.ci_high) == (0, *inference.wilson(0, 30)), "as of so many clusters"
    alone = make_outcomes([1, 1], [0.9, 0.9], ["a", "a"])
    assert estimates.flip_share([alone], [alone], np.random.default_rng(0)) is None


def test_a_subset_keeps_what_belongs_together(make_outcomes: MakeOutcomes) -> None:
    whole = make_outcomes([0, 1, 1], [0.1, 0.8, 0.3], ["a", "b", "c"])
    part = metrics.subset(whole, np.array([False, True, True]))
    assert part.example_ids == whole.example_ids[1:]
    assert (part.labels.tolist(), part.predicted.tolist(), part.scores.tolist()) == ([1, 1], [1, 0], [0.8, 0.3])
    assert part.clusters is not None
    assert part.clusters.tolist() == ["b", "c"]
    assert metrics.subset(make_outcomes([0], [0.1]), np.array([True])).clusters is None


def test_a_score_interval_decides_with_the_variance_of_its_limit(make_outcomes: MakeOutcomes) -> None:
    labels = [1] * 400
    new, old = make_outcomes(labels, [0.9] * 380 + [0.1] * 20), make_outcomes(labels, [0.9] * 360 + [0.1] * 40)
    spread = estimates.Spread(0.5, 0.0)
    assert estimates.at_limit(spread, 0.9, "accuracy", [new]).se_examples == pytest.approx(math.sqrt(0.09 / 400))
    assert estimates.at_limit(spread, 0.1, "flips", [new], [old]).se_examples == pytest.approx(math.sqrt(0.09 / 400))
    paired = estimates.at_limit(spread, 0.05, "accuracy", [new], [old]).se_examples
    assert paired == pytest.approx(math.sqrt((0.05 - 0.05**2) / 400))  # the limit is the estimate
    # At an end of the interval, the distance of the estimate is 1.96 of these.
    low, high = inference.tango(20, 0, 400)
    for end in (low, high):
        error = estimates.at_limit(spread, end, "accuracy", [new], [old]).se_examples
        assert abs(end - 0.05) == pytest.approx(1.959963984540054 * error)
    clustered = [make_outcomes(labels, [0.9] * 400, ["a", "b"] * 200)]
    for what, sides in [("f1", [[new]]), ("accuracy", [[new, old]]), ("accuracy", [clustered])]:
        assert estimates.at_limit(spread, 0.9, what, *sides) == spread
    nothing = estimates.Spread(0.0, 0.0)  # as of 2 clusters that are all right
    assert estimates.at_limit(nothing, 0.9, "accuracy", clustered).se_examples == pytest.approx(math.sqrt(0.09 / 2))
    assert estimates.at_limit(nothing, 0.9, "f1", clustered) == nothing


@pytest.mark.parametrize("name", [name for name, definition in METRICS.items() if definition.of_table])
def test_alike_examples_drawn_by_their_number_are_the_bootstrap_of_examples(
    name: str, make_outcomes: MakeOutcomes
) -> None:
    draws = np.random.default_rng(3)
    labels = (draws.uniform(size=300) < 0.4).astype(np.int64)
    scores = [np.where(draws.uniform(size=300) < 0.85, labels, 1 - labels) * 0.8 + 0.1 for _ in range(3)]
    seeds = [make_outcomes(labels, one) for one in scores]
    kinds, counts = estimates.alike(seeds)
    assert counts.sum() == 300
    assert len(counts) <= 2**4
    for whole, some in zip(seeds, kinds, strict=True):
        expected = METRICS[name].values(whole, np.ones((1, 300)))
        assert METRICS[name].values(some, counts[None].astype(np.float64)) == pytest.approx(expected, abs=1e-12)
    one_by_one = estimates.resampled(name, [seeds], np.random.default_rng(1), [np.random.default_rng(2)])[0]
    found = estimates.summarise(name, seeds, np.random.default_rng(5))
    degrees = inference.welch_degrees(float(one_by_one.seeds_drawn.var()), [one_by_one.of_seeds])
    plain = inference.percentile_interval(one_by_one.seeds_drawn)
    assert plain is not None
    assert (found.ci_low, found.ci_high) == pytest.approx(
        inference.widened(one_by_one.value, plain, degrees), abs=0.012
    )
    spread = estimates.spread(name, seeds, np.random.default_rng(6))
    assert spread.se_examples == pytest.approx(one_by_one.examples_drawn.std(), rel=0.08)


def test_an_interval_over_two_seeds_admits_that_two_seeds_show_little_of_their_spread(
    make_outcomes: MakeOutcomes,
) -> None:
    """The percentile interval over two seeds that spread by 0.05 covers the truth in some 87 % of cases."""
    labels, covered, plain = np.arange(400) % 2, 0, 0
    for stream in np.random.default_rng(12).spawn(150):
        chances = np.clip(stream.normal(0.75, 0.05, 2), 0, 1)
        seeds = [make_outcomes(labels, np.where(stream.random(400) < chance, labels, 1 - labels)) for chance in chances]
        found = estimates.summarise("accuracy", seeds, stream)
        assert found.ci_low is not None
        assert found.ci_high is not None
        covered += found.ci_low <= 0.75 <= found.ci_high
        drawn = inference.mean_over_resampled_seeds(
            estimates.seed_values([METRICS["accuracy"]], seeds, stream, 500)[0], stream
        )
        low, high = np.quantile(drawn, [0.025, 0.975])
        plain += low <= 0.75 <= high
    assert 0.92 <= covered / 150 <= 1
    assert plain / 150 < 0.92  # for contrast


def test_a_widened_interval_stays_within_the_metrics_bounds(make_outcomes: MakeOutcomes) -> None:
    labels = np.arange(60) % 2
    seeds = [make_outcomes(labels, np.where(np.arange(60) < wrong, 1 - labels, labels)) for wrong in (0, 12)]
    found = estimates.summarise("accuracy", seeds, np.random.default_rng(1))
    assert found.ci_high == 1.0


N = 60
IN_PAIRS = {"pairs": np.arange(N) // 2, "changes": np.zeros(N, dtype=np.int64)}
SHAPES: dict[str, dict[str, Any]] = {
    "examples": {},
    "clusters": {"clusters": (np.arange(N) % 17).astype(str)},
    "one cluster": {"clusters": np.full(N, "a")},
    "one class": {"labels": np.ones(N, dtype=np.int64)},
    "pairs": IN_PAIRS,
    "pairs without labels": {"labels": np.full(N, UNLABELLED)} | IN_PAIRS,
    "one example": {"example_ids": ("0" * 32,)},
}


@pytest.mark.parametrize("n_seeds", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_metrics_of_one_call_are_those_of_calls_of_their_own(
    shape: str, n_seeds: int, make_outcomes: MakeOutcomes
) -> None:
    """A table of metrics and a gate of one metric show the same number."""
    stream, names = np.random.default_rng(8), list(METRICS)
    labels = stream.integers(0, 2, N)
    found = SHAPES[shape]
    n = len(found.get("example_ids", labels))

    def side(seeds: int) -> list[Outcomes]:
        scores = [np.clip(labels * 0.3 + 0.35 + stream.normal(0, 0.25, N), 0.01, 0.99)[:n] for _ in range(seeds)]
        return [replace(make_outcomes(labels[:n], one), **found) for one in scores]

    sides, keys = [side(n_seeds), side(2)], [[digest.of_json([n_seeds, seed]) for seed in range(n_seeds)], ["d", "e"]]
    together = estimates.summaries(names, sides[0], estimates.generator_for(keys[0]))
    compared = estimates.differences_of_runs(names, sides[0], keys[0], sides[1], keys[1])
    for name in names:
        assert together[name] == estimates.summarise(name, sides[0], estimates.generator_for(keys[0]))
        assert compared[name] == estimates.difference_of_runs(name, sides[0], keys[0], sides[1], keys[1])
    has_none = shape == "one cluster" or (shape == "one example" and n_seeds > 1)
    assert all(one.ci_low is None for one in together.values()) == has_none


def test_examples_are_drawn_once_for_all_metrics(make_outcomes: MakeOutcomes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes most of the time that a metric takes, on large splits."""
    drawn, real = [], inference.resampled_units

    def noted(*words: Any) -> Iterator[NDArray[np.float64]]:
        drawn.append(words)
        return real(*words)

    monkeypatch.setattr(inference, "resampled_units", noted)
    stream = np.random.default_rng(4)
    labels = stream.integers(0, 2, 60)
    sides = [[make_outcomes(labels, stream.random(60)) for _ in range(2)] for _ in "ab"]
    names = ["accuracy", "mcc", "roc_auc", "log_loss", "brier", "ece"]
    assert set(estimates.summaries(names, sides[0], estimates.generator_for(["a", "b"]))) == set(names)
    assert len(drawn) == 1
    assert set(estimates.differences_of_runs(names, sides[0], ["a", "b"], sides[1], ["c", "d"])) == set(names)
    assert len(drawn) == 2
