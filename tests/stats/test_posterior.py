"""Posterior intervals of metrics of a table: known posteriors, perfection, pairing, and coverage on made-up draws."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.records import Outcomes
from harness.stats import estimates
from harness.stats import posterior as stats_posterior

MakeOutcomes = Callable[..., Outcomes]
TABLE_METRICS = ["f1", "precision", "recall", "mcc"]


def scores_of(right: int, wrong: int) -> list[float]:
    """Of positives: so many found, so many not."""
    return [0.9] * right + [0.1] * wrong


def test_recall_has_jeffreys_interval(make_outcomes: MakeOutcomes) -> None:
    """Brown, Cai & DasGupta (2001), section 3.1.3: quantiles of Beta(k + 1/2, n - k + 1/2)."""
    found = stats_posterior.drawn("recall", make_outcomes([1] * 40, scores_of(31, 9)))
    posterior = scipy_stats.beta(31.5, 9.5)
    assert np.quantile(found, [0.025, 0.5, 0.975]) == pytest.approx(posterior.ppf([0.025, 0.5, 0.975]), abs=0.01)


@pytest.mark.parametrize("name", TABLE_METRICS)
def test_perfection_on_few_examples_admits_doubt_and_is_an_end_of_its_interval(
    name: str, make_outcomes: MakeOutcomes
) -> None:
    perfect = make_outcomes([0, 1] * 25, [0.1, 0.9] * 25)
    metric = estimates.summarise(name, [perfect], np.random.default_rng(0))
    assert metric.ci_low is not None
    assert 0.7 < metric.ci_low < 0.98
    assert (metric.value, metric.ci_high) == (1, 1)


@pytest.mark.parametrize("name", TABLE_METRICS)
def test_more_examples_of_the_same_make_the_interval_narrower(name: str, make_outcomes: MakeOutcomes) -> None:
    labels, scores = [0, 1, 1, 0, 1], [0.1, 0.9, 0.9, 0.9, 0.1]
    few, many = (
        estimates.summarise(name, [make_outcomes(labels * k, scores * k)], np.random.default_rng(0)) for k in (8, 32)
    )
    widths = [(metric.ci_high or 0) - (metric.ci_low or 0) for metric in (few, many)]
    assert widths[1] == pytest.approx(widths[0] / 2, rel=0.15)


def test_two_that_err_on_the_same_examples_are_told_apart_better_than_two_that_do_not(
    make_outcomes: MakeOutcomes,
) -> None:
    labels = [0, 1] * 100
    best = np.tile([0.1, 0.9], 100)
    first, nested, apart = best.copy(), best.copy(), best.copy()
    first[:20], nested[:30], apart[100:130] = 1 - best[:20], 1 - best[:30], 1 - best[100:130]
    made = [make_outcomes(labels, scores) for scores in (first, nested, apart)]
    paired, unpaired = (estimates.difference("f1", [made[0]], [other], np.random.default_rng(0)) for other in made[1:])
    assert paired is not None
    assert unpaired is not None
    assert paired.value == pytest.approx(unpaired.value)
    assert paired.ci_low > 0 > unpaired.ci_low
    assert paired.p_value < 0.05 < unpaired.p_value


def test_equal_tables_have_equal_intervals_and_swapped_sides_turn_the_difference(make_outcomes: MakeOutcomes) -> None:
    generator = np.random.default_rng(4)
    labels, one, other = generator.integers(0, 2, 80), generator.random(80), generator.random(80)
    order = generator.permutation(80)
    here = stats_posterior.drawn_difference("f1", make_outcomes(labels, one), make_outcomes(labels, other))
    there = stats_posterior.drawn_difference(
        "f1", make_outcomes(labels[order], one[order]), make_outcomes(labels[order], other[order])
    )
    back = stats_posterior.drawn_difference("f1", make_outcomes(labels, other), make_outcomes(labels, one))
    assert np.array_equal(here, there)
    assert np.quantile(back, [0.025, 0.975]) == pytest.approx(-np.quantile(here, [0.975, 0.025]), abs=0.02)


@pytest.mark.parametrize(("n", "accuracy"), [(50, 0.9), (400, 0.99)])
def test_the_interval_of_f1_covers_the_truth_where_the_bootstrap_does_not(
    n: int, accuracy: float, make_outcomes: MakeOutcomes
) -> None:
    labels = np.arange(n) % 2
    covered = 0
    for stream in np.random.default_rng(n).spawn(200):  # F1 equals the accuracy in these draws
        scores = np.where(stream.random(n) < accuracy, labels, 1 - labels) * 0.8 + 0.1
        metric = estimates.summarise("f1", [make_outcomes(labels, scores)], stream)
        covered += (metric.ci_low or 0) <= accuracy <= (metric.ci_high or 0)
    assert 0.91 <= covered / 200 <= 0.99


def test_clusters_several_seeds_and_metrics_of_scores_are_left_to_the_bootstrap(make_outcomes: MakeOutcomes) -> None:
    plain = make_outcomes([0, 1], [0.1, 0.9])
    clustered = make_outcomes([0, 1], [0.1, 0.9], ["a", "b"])
    assert stats_posterior.applies("f1", (plain,))
    assert not stats_posterior.applies("f1", (clustered,))
    assert not stats_posterior.applies("f1", (plain, plain))
    assert not stats_posterior.applies("f1", (plain,), (plain, plain))
    assert not stats_posterior.applies("brier", (plain,))
