"""Metrics against scikit-learn, and their intervals against what they promise."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

from harness.records import Outcomes
from harness.stats import metrics
from harness.suite.gates import METRIC_NAMES

OF_EXAMPLES = [name for name, definition in metrics.METRICS.items() if not definition.of_pairs]
"""Metrics that need no pairs; tests/stats/test_pairs.py is about the others."""

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
    assert set(metrics.METRICS) == set(METRIC_NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_EXAMPLES)
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


@pytest.mark.parametrize("name", OF_EXAMPLES)
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


@pytest.mark.parametrize("name", OF_EXAMPLES)
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
    value = metrics.value("log_loss", make_outcomes([1, 0], [0.0, 0.0]))
    assert value == pytest.approx(34.538776 / 2)
