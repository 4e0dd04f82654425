"""Metrics against scikit-learn, and their intervals against what they promise."""

import math
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

from harness import metrics, stats
from harness.declarations import MetricName
from harness.records import Outcomes

Floats = NDArray[np.float64]
MakeOutcomes = Callable[..., Outcomes]


# What the functions mean: the contract of every row of METRICS


def naive_ece(labels: Floats, scores: Floats, weights: Floats) -> float:
    """Guo et al. (2017), equation 3, bin by bin: weighted share of a bin times its |accuracy - confidence|."""
    total = 0.0
    for k in range(15):
        inside = []
        for label, score, weight in zip(labels, scores, weights, strict=True):
            confidence = max(score, 1 - score)
            if k / 15 <= confidence < (k + 1) / 15 or (k == 14 and confidence == 1):
                inside.append((float((score > 0.5) == (label == 1)), confidence, weight))
        mass = sum(weight for _, _, weight in inside)
        if mass:
            accuracy = sum(right * weight for right, _, weight in inside) / mass
            confidence = sum(confidence * weight for _, confidence, weight in inside) / mass
            total += mass / weights.sum() * abs(accuracy - confidence)
    return total


def oracle(name: str, outcomes: Outcomes, weights: Floats) -> float:
    """The metric by scikit-learn (ECE: by hand), nan where it is not defined."""
    y, p, s, w = outcomes.labels, outcomes.predicted, outcomes.scores, weights
    positives, negatives = w[y == 1].sum(), w[y == 0].sum()
    claimed, denied = w[p == 1].sum(), w[p == 0].sum()
    if w.sum() == 0:
        return math.nan
    match name:
        case "accuracy":
            return float(sklearn_metrics.accuracy_score(y, p, sample_weight=w))
        case "f1":
            return float(sklearn_metrics.f1_score(y, p, sample_weight=w)) if positives + claimed else math.nan
        case "precision":
            return float(sklearn_metrics.precision_score(y, p, sample_weight=w)) if claimed else math.nan
        case "recall":
            return float(sklearn_metrics.recall_score(y, p, sample_weight=w)) if positives else math.nan
        case "mcc":
            defined = positives and negatives and claimed and denied
            return float(sklearn_metrics.matthews_corrcoef(y, p, sample_weight=w)) if defined else math.nan
        case "roc_auc":
            defined = positives and negatives
            return float(sklearn_metrics.roc_auc_score(y, s, sample_weight=w)) if defined else math.nan
        case "log_loss":
            both = np.clip(np.stack([1 - s, s], axis=1), 1e-15, 1)
            return float(sklearn_metrics.log_loss(y, both, sample_weight=w, labels=[0, 1]))
        case "brier":
            return float(np.average((s - y) ** 2, weights=w))
        case "ece":
            return naive_ece(y.astype(np.float64), s, w)
    raise AssertionError(f"{name} has no oracle: add one beside its definition in METRICS")


def test_the_suite_file_and_the_table_name_the_same_metrics() -> None:
    assert set(metrics.METRICS) == set(get_args(MetricName))


@pytest.mark.parametrize("name", metrics.METRICS)
@settings(max_examples=60)
@given(data=st.data())
def test_a_metric_is_what_scikit_learn_says_whatever_the_weights(
    name: str, data: st.DataObject, make_outcomes: MakeOutcomes
) -> None:
    n = data.draw(st.integers(1, 25), label="n")
    one_class = data.draw(st.sampled_from([(0,), (1,), (0, 1), (0, 1)]), label="classes")
    labels = data.draw(st.lists(st.sampled_from(one_class), min_size=n, max_size=n), label="labels")
    # Hundredths give ties, one half, certainty and edges of bins; the others are in general position.
    score = st.integers(0, 100).map(lambda k: k / 100) | st.floats(0, 1, width=16).filter(_is_off_the_edges)
    scores = data.draw(st.lists(score, min_size=n, max_size=n), label="scores")
    weight = data.draw(st.sampled_from([st.integers(0, 3).map(float), st.integers(1, 64).map(lambda k: k / 16)]))
    weights = np.array(data.draw(st.lists(st.lists(weight, min_size=n, max_size=n), min_size=1, max_size=3)))
    outcomes = make_outcomes(labels, scores)
    values = metrics.METRICS[name].values(outcomes, weights)
    assert values.shape == (len(weights),)
    expected = [oracle(name, outcomes, row) for row in weights]
    assert values == pytest.approx(expected, abs=1e-9, nan_ok=True)


def _is_off_the_edges(score: float) -> bool:
    return abs(max(score, 1 - score) * 15 - round(max(score, 1 - score) * 15)) > 1e-9


@pytest.mark.parametrize("name", metrics.METRICS)
@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 40))
def test_a_metric_does_not_depend_on_the_order_of_examples(
    name: str, seed: int, n: int, make_outcomes: MakeOutcomes
) -> None:
    generator = np.random.default_rng(seed)
    labels, scores = generator.integers(0, 2, n), generator.integers(0, 11, n) / 10
    order = generator.permutation(n)
    ones = np.ones((1, n))
    straight = metrics.METRICS[name].values(make_outcomes(labels, scores), ones)
    mixed = metrics.METRICS[name].values(make_outcomes(labels[order], scores[order]), ones)
    assert straight == pytest.approx(mixed, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("name", metrics.METRICS)
def test_the_better_direction_is_the_one_in_which_a_better_model_lies(name: str, make_outcomes: MakeOutcomes) -> None:
    labels = [0, 0, 0, 1, 1, 1]
    good = make_outcomes(labels, [0.05, 0.05, 0.05, 0.95, 0.95, 0.95])
    bad = make_outcomes(labels, [0.05, 0.95, 0.95, 0.95, 0.05, 0.95])
    ones = np.ones((1, 6))
    definition = metrics.METRICS[name]
    gain = float(definition.values(good, ones)[0] - definition.values(bad, ones)[0])
    assert (gain > 0) == definition.higher_is_better
    assert gain != 0


def test_a_certain_and_wrong_answer_costs_34_nats_not_infinity(make_outcomes: MakeOutcomes) -> None:
    metric = metrics.summarise("log_loss", [make_outcomes([1, 0], [0.0, 0.0])], np.random.default_rng(0))
    assert metric.value == pytest.approx(34.538776 / 2)


# Summaries


def test_accuracy_of_one_run_without_clusters_has_a_wilson_interval(make_outcomes: MakeOutcomes) -> None:
    outcomes = make_outcomes([1] * 8 + [0] * 2, [0.9] * 10)
    metric = metrics.summarise("accuracy", [outcomes], np.random.default_rng(0))
    assert (metric.name, metric.value, metric.n, metric.higher_is_better) == ("accuracy", 0.8, 10, True)
    assert (metric.ci_low, metric.ci_high) == pytest.approx((0.4902, 0.9433), abs=5e-5)


@pytest.mark.parametrize("clusters", [None, ["a", "a", "b", "b", "c", "d"]], ids=["examples", "clusters"])
@pytest.mark.parametrize("n_seeds", [1, 3])
@pytest.mark.parametrize("score", [0.9, 0.1], ids=["all right", "all wrong"])
def test_accuracy_without_variation_still_admits_doubt(
    score: float, n_seeds: int, clusters: list[str] | None, make_outcomes: MakeOutcomes
) -> None:
    outcomes = make_outcomes([1] * 6, [score] * 6, clusters)
    metric = metrics.summarise("accuracy", [outcomes] * n_seeds, np.random.default_rng(0))
    right = 6 if score > 0.5 else 0
    assert metric.value == right / 6
    assert (metric.ci_low, metric.ci_high) == stats.wilson(right, 6)


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
    metric = metrics.summarise(name, [make_outcomes(labels, scores)], np.random.default_rng(0))
    assert (metric.value, metric.ci_low, metric.ci_high, metric.n) == (None, None, None, 3)


@pytest.mark.parametrize("name", metrics.METRICS)
def test_a_metric_that_one_seed_lacks_is_absent_for_all(name: str, make_outcomes: MakeOutcomes) -> None:
    some = make_outcomes([0, 0, 0, 0], [0.9, 0.2, 0.3, 0.1])
    none = make_outcomes([0, 0, 0, 0], [0.1, 0.2, 0.3, 0.1])
    metric = metrics.summarise(name, [some, none], np.random.default_rng(0))
    undefined = math.isnan(float(metrics.METRICS[name].values(none, np.ones((1, 4)))[0]))
    assert (metric.value is None) == undefined


def test_a_metric_keeps_its_value_when_too_few_resamples_define_an_interval(make_outcomes: MakeOutcomes) -> None:
    # Each of six seeds claims one example, another each time: few resamples hold the claims of all seeds drawn.
    seeds = [make_outcomes([1] * 20, [0.9 if i == k else 0.1 for i in range(20)]) for k in range(6)]
    metric = metrics.summarise("precision", seeds, np.random.default_rng(0))
    assert (metric.value, metric.ci_low, metric.ci_high) == (1.0, None, None)
    assert metrics.difference("precision", seeds, seeds, np.random.default_rng(0)) is None


def test_a_single_cluster_gives_no_interval_but_its_value(make_outcomes: MakeOutcomes) -> None:
    outcomes = make_outcomes([1, 0, 1, 0], [0.9, 0.1, 0.2, 0.3], ["a"] * 4)
    metric = metrics.summarise("f1", [outcomes], np.random.default_rng(0))
    assert metric.value == pytest.approx(2 / 3)
    assert (metric.ci_low, metric.ci_high) == (None, None)
    assert metrics.difference("f1", [outcomes], [outcomes], np.random.default_rng(0)) is None


def correlated(generator: np.random.Generator, n_clusters: int, size: int) -> tuple[Floats, Floats, list[str]]:
    """Labels all 1 and scores right or wrong by whole cluster."""
    right = generator.random(n_clusters) < 0.7
    scores = np.repeat(np.where(right, 0.9, 0.1), size)
    return np.ones(n_clusters * size), scores, [f"c{i:04}" for i in np.repeat(np.arange(n_clusters), size)]


@pytest.mark.parametrize("name", ["accuracy", "log_loss", "recall"])
def test_clusters_of_correlated_examples_widen_the_interval(name: str, make_outcomes: MakeOutcomes) -> None:
    labels, scores, clusters = correlated(np.random.default_rng(1), 30, 9)

    def width(outcomes: Outcomes) -> float:
        metric = metrics.summarise(name, [outcomes], np.random.default_rng(0))
        assert metric.ci_low is not None
        assert metric.ci_high is not None
        return metric.ci_high - metric.ci_low

    plain, clustered = width(make_outcomes(labels, scores)), width(make_outcomes(labels, scores, clusters))
    assert clustered == pytest.approx(3 * plain, rel=0.2)  # nine examples that say the same thing are one


def test_clusters_are_told_apart_by_name_and_not_by_place(make_outcomes: MakeOutcomes) -> None:
    labels, scores, clusters = correlated(np.random.default_rng(1), 12, 4)
    order = np.random.default_rng(2).permutation(len(labels))
    straight = metrics.summarise("recall", [make_outcomes(labels, scores, clusters)], np.random.default_rng(0))
    mixed = metrics.summarise(
        "recall",
        [make_outcomes(labels[order], scores[order], [clusters[i] for i in order])],
        np.random.default_rng(0),
    )
    assert straight == mixed


def test_several_seeds_are_averaged_and_their_spread_widens_the_interval(make_outcomes: MakeOutcomes) -> None:
    labels = [1] * 200
    good, poor = make_outcomes(labels, [0.9] * 180 + [0.1] * 20), make_outcomes(labels, [0.9] * 120 + [0.1] * 80)
    both = metrics.summarise("accuracy", [good, poor], np.random.default_rng(0))
    assert both.value == pytest.approx(0.75)
    assert both.n == 200
    same = metrics.summarise("accuracy", [good, good], np.random.default_rng(0))
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
    first, again, other = (metrics.summarise("brier", [outcomes], np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again
    assert first.value == other.value
    assert first.ci_low != other.ci_low


@pytest.mark.parametrize("name", metrics.METRICS)
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_a_summary_has_an_ordered_interval_in_the_metrics_range(
    name: str, seed: int, make_outcomes: MakeOutcomes
) -> None:
    generator = np.random.default_rng(seed)
    outcomes = make_outcomes(generator.integers(0, 2, 30), generator.random(30))
    metric = metrics.summarise(name, [outcomes], generator)
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
        metric = metrics.summarise("brier", [outcomes], generator)
        assert metric.ci_low is not None
        assert metric.ci_high is not None
        covered += metric.ci_low <= truth <= metric.ci_high
    assert 0.88 <= covered / trials <= 0.99


# Differences


@pytest.mark.parametrize("clusters", [None, ["a", "b", "c"] * 10], ids=["examples", "clusters"])
@pytest.mark.parametrize("name", metrics.METRICS)
def test_identical_sides_differ_by_zero_with_zero_width(
    name: str, clusters: list[str] | None, make_outcomes: MakeOutcomes
) -> None:
    generator = np.random.default_rng(2)
    outcomes = make_outcomes(generator.integers(0, 2, 30), generator.random(30), clusters)
    assert metrics.difference(name, [outcomes], [outcomes], np.random.default_rng(0)) == (0, 0, 0, 30)


def test_a_difference_is_candidate_minus_reference(make_outcomes: MakeOutcomes) -> None:
    labels = [0, 1] * 50
    good, bad = make_outcomes(labels, [0.1, 0.9] * 50), make_outcomes(labels, [0.1, 0.9, 0.9, 0.1, 0.1] * 20)
    gain = metrics.difference("accuracy", [good], [bad], np.random.default_rng(0))
    loss = metrics.difference("log_loss", [good], [bad], np.random.default_rng(0))
    assert gain is not None
    assert loss is not None
    assert 0 < gain.ci_low < gain.value < gain.ci_high
    assert loss.ci_low < loss.value < loss.ci_high < 0
    turned = metrics.difference("accuracy", [bad], [good], np.random.default_rng(0))
    assert turned is not None
    assert turned == pytest.approx((-gain.value, -gain.ci_high, -gain.ci_low, 100))


def test_pairing_makes_the_difference_of_similar_models_sharper(make_outcomes: MakeOutcomes) -> None:
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 2, 400)
    right = generator.random(400) < 0.7
    scores = np.where((labels == 1) == right, 0.9, 0.1)
    other = scores.copy()
    other[:4] = 1 - other[:4]
    first, second = make_outcomes(labels, scores), make_outcomes(labels, other)
    paired = metrics.difference("accuracy", [first], [second], np.random.default_rng(0))
    alone = metrics.summarise("accuracy", [first], np.random.default_rng(0))
    assert paired is not None
    assert alone.ci_low is not None
    assert alone.ci_high is not None
    assert paired.ci_high - paired.ci_low < (alone.ci_high - alone.ci_low) / 3


def test_clusters_widen_the_interval_of_a_difference_too(make_outcomes: MakeOutcomes) -> None:
    labels, scores, clusters = correlated(np.random.default_rng(1), 30, 9)
    reference = np.full(len(scores), 0.9)

    def width(names: list[str] | None) -> float:
        candidate, other = make_outcomes(labels, scores, names), make_outcomes(labels, reference, names)
        found = metrics.difference("accuracy", [candidate], [other], np.random.default_rng(0))
        assert found is not None
        return found.ci_high - found.ci_low

    assert width(clusters) == pytest.approx(3 * width(None), rel=0.2)


def test_seeds_of_both_sides_are_resampled(make_outcomes: MakeOutcomes) -> None:
    labels = [1] * 100
    good, poor = make_outcomes(labels, [0.9] * 95 + [0.1] * 5), make_outcomes(labels, [0.9] * 55 + [0.1] * 45)
    found = metrics.difference("accuracy", [good, poor], [good, poor], np.random.default_rng(0))
    assert found is not None
    assert found.value == 0
    assert found.ci_low < -0.3
    assert found.ci_high > 0.3


def test_a_difference_with_an_undefined_side_is_absent(make_outcomes: MakeOutcomes) -> None:
    labels = [1, 0, 1, 0]
    some, none = make_outcomes(labels, [0.9] * 4), make_outcomes(labels, [0.1] * 4)
    assert metrics.difference("precision", [some], [none], np.random.default_rng(0)) is None
    assert metrics.difference("precision", [none], [some], np.random.default_rng(0)) is None


def test_outcomes_of_other_examples_are_not_combined(make_outcomes: MakeOutcomes) -> None:
    three, four = make_outcomes([1, 0, 1], [0.9] * 3), make_outcomes([1, 0, 1, 0], [0.9] * 4)
    with pytest.raises(ValueError, match="the same examples in the same order"):
        metrics.difference("accuracy", [three], [four], np.random.default_rng(0))
    with pytest.raises(ValueError, match="the same examples in the same order"):
        metrics.summarise("accuracy", [three, four], np.random.default_rng(0))
