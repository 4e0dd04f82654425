"""Reliability curves against scikit-learn and closed cases, and what chance alone does to the calibration error."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve

from harness.records import Outcomes
from harness.stats import calibration, estimates, inference, metrics

Floats = NDArray[np.float64]
MakeOutcomes = Callable[..., Outcomes]


def calibrated(
    generator: np.random.Generator, n: int, make: MakeOutcomes, clusters: list[str] | None = None
) -> Outcomes:
    """Outcomes of a model whose scores are the true probabilities."""
    scores = generator.random(n)
    return make(generator.random(n) < scores, scores, clusters)


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 300))
def test_the_bins_are_those_of_scikit_learn_and_empty_ones_are_absent(
    seed: int, n: int, make_outcomes: MakeOutcomes
) -> None:
    generator = np.random.default_rng(seed)
    outcomes = make_outcomes(generator.integers(0, 2, n), generator.random(n))  # on no edge of a bin
    bins = calibration.reliability([outcomes], generator)
    confidence = np.maximum(outcomes.scores, 1 - outcomes.scores)
    accuracies, confidences = calibration_curve(outcomes.labels == outcomes.predicted, confidence, n_bins=15)
    assert [b.accuracy for b in bins] == pytest.approx(accuracies)
    assert [b.confidence for b in bins] == pytest.approx(confidences)
    assert sum(b.n for b in bins) == n
    assert all(b.n and b.low <= b.confidence <= b.high for b in bins)


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 60), steps=st.sampled_from([10, 15, 30, 1000]))
def test_the_calibration_error_is_the_mean_gap_of_the_bins(
    seed: int, n: int, steps: int, make_outcomes: MakeOutcomes
) -> None:
    generator = np.random.default_rng(seed)
    outcomes = make_outcomes(generator.integers(0, 2, n), generator.integers(0, steps + 1, n) / steps)
    bins = calibration.reliability([outcomes], generator)
    ece = sum(b.n * abs(b.accuracy - b.confidence) for b in bins) / n
    assert ece == pytest.approx(metrics.value("ece", outcomes))


def test_a_bin_of_one_run_has_a_wilson_interval(make_outcomes: MakeOutcomes) -> None:
    outcomes = make_outcomes([1] * 8 + [0] * 2 + [0] * 5, [0.9] * 10 + [0.05] * 5)
    middle, top = calibration.reliability([outcomes], np.random.default_rng(0))
    assert (middle.n, middle.accuracy) == (10, 0.8)
    assert middle.confidence == pytest.approx(0.9)
    assert (middle.ci_low, middle.ci_high) == inference.wilson(8, 10)
    assert (middle.low, middle.high) == (13 / 15, 14 / 15)
    assert (top.n, top.accuracy, top.ci_low, top.ci_high) == (5, 1.0, *inference.wilson(5, 5))


def width(b: calibration.Bin) -> float:
    assert b.ci_low is not None
    assert b.ci_high is not None
    return b.ci_high - b.ci_low


def test_clusters_of_correlated_examples_widen_a_bins_interval(make_outcomes: MakeOutcomes) -> None:
    right = np.repeat(np.random.default_rng(1).random(40) < 0.7, 9)
    clusters = [f"c{i}" for i in np.repeat(np.arange(40), 9)]
    (plain,) = calibration.reliability([make_outcomes(right, [0.8] * 360)], np.random.default_rng(0))
    (clustered,) = calibration.reliability([make_outcomes(right, [0.8] * 360, clusters)], np.random.default_rng(0))
    assert clustered.accuracy == plain.accuracy
    assert width(clustered) == pytest.approx(3 * width(plain), rel=0.2)  # nine that say the same thing are one


def test_several_seeds_are_pooled_and_their_spread_widens_the_interval(make_outcomes: MakeOutcomes) -> None:
    scores = [0.8] * 200
    good, poor = make_outcomes([1] * 190 + [0] * 10, scores), make_outcomes([1] * 130 + [0] * 70, scores)
    (alone,) = calibration.reliability([good], np.random.default_rng(0))
    (same,) = calibration.reliability([good, good], np.random.default_rng(0))
    (both,) = calibration.reliability([good, poor], np.random.default_rng(0))
    assert both.n == 400
    assert both.accuracy == pytest.approx(0.8)
    assert width(same) == pytest.approx(width(alone), rel=0.2)  # the same answers twice are no more evidence
    assert width(both) > 0.25


@pytest.mark.parametrize("clusters", [None, ["a", "a", "b", "b", "c", "d"]], ids=["examples", "clusters"])
@pytest.mark.parametrize("n_seeds", [1, 3])
def test_a_bin_that_is_all_right_still_admits_doubt(
    clusters: list[str] | None, n_seeds: int, make_outcomes: MakeOutcomes
) -> None:
    seeds = [make_outcomes([1] * 6, [0.9] * 6, clusters)] * n_seeds
    (only,) = calibration.reliability(seeds, np.random.default_rng(0))
    assert (only.accuracy, only.ci_low, only.ci_high) == (
        1.0,
        *(inference.wilson(4, 4) if clusters else inference.wilson(6, 6)),
    )


def test_a_single_cluster_gives_bins_without_an_interval(make_outcomes: MakeOutcomes) -> None:
    bins = calibration.reliability([make_outcomes([1, 0], [0.9, 0.6], ["a", "a"])], np.random.default_rng(0))
    assert [(b.accuracy, b.ci_low, b.ci_high) for b in bins] == [(0.0, None, None), (1.0, None, None)]


def test_the_interval_of_a_bin_covers_the_truth(make_outcomes: MakeOutcomes) -> None:
    generator = np.random.default_rng(5)
    covered = total = 0
    for _ in range(60):
        n, score = 150, 0.75
        seeds = [make_outcomes(generator.random(n) < score, [score] * n) for _ in range(2)]
        (only,) = calibration.reliability(seeds, generator)
        assert only.ci_low is not None
        assert only.ci_high is not None
        covered += only.ci_low <= score <= only.ci_high
        total += 1
    assert covered / total > 0.85


# What chance does


def test_what_chance_does_is_the_metric_itself_on_labels_that_follow_the_confidence(
    make_outcomes: MakeOutcomes,
) -> None:
    generator = np.random.default_rng(3)
    outcomes = make_outcomes(generator.integers(0, 2, 80), generator.random(80))
    by_metric = [
        metrics.value("ece", make_outcomes(generator.random(80) < outcomes.scores, outcomes.scores))
        for _ in range(2000)
    ]
    expected = calibration.ece_by_chance([outcomes], np.random.default_rng(0))
    assert expected == pytest.approx(np.mean(by_metric), rel=0.03)


def test_of_one_example_what_chance_does_is_known(make_outcomes: MakeOutcomes) -> None:
    # Right with 0.7 and 0.3 off then, wrong with 0.3 and 0.7 off then.
    expected = calibration.ece_by_chance([make_outcomes([1], [0.7])], np.random.default_rng(0))
    assert expected == pytest.approx(2 * 0.7 * 0.3, abs=0.02)
    assert calibration.ece_by_chance([make_outcomes([1], [1.0])], np.random.default_rng(0)) == 0.0


@pytest.mark.parametrize("n", [50, 800])
def test_a_calibrated_model_has_the_error_that_chance_gives(n: int, make_outcomes: MakeOutcomes) -> None:
    generator = np.random.default_rng(7)
    many = [calibrated(generator, n, make_outcomes) for _ in range(200)]
    seen = np.mean([metrics.value("ece", outcomes) for outcomes in many])
    by_chance = np.mean([calibration.ece_by_chance([outcomes], generator) for outcomes in many[:20]])
    assert by_chance == pytest.approx(seen, rel=0.1)


def test_chance_gives_less_error_the_more_examples_there_are(make_outcomes: MakeOutcomes) -> None:
    generator = np.random.default_rng(2)
    small, large = (calibrated(generator, n, make_outcomes) for n in (100, 10_000))
    assert calibration.ece_by_chance([small], generator) > 5 * calibration.ece_by_chance([large], generator)


def test_chance_does_not_ask_what_the_labels_are(make_outcomes: MakeOutcomes) -> None:
    scores = np.random.default_rng(2).random(100)
    ones, zeros = (make_outcomes([label] * 100, scores) for label in (1, 0))
    first, second = (calibration.ece_by_chance([side], np.random.default_rng(0)) for side in (ones, zeros))
    assert first == second


def test_what_chance_does_to_several_seeds_is_the_mean(make_outcomes: MakeOutcomes) -> None:
    sure, unsure = make_outcomes([1] * 50, [1.0] * 50), make_outcomes([1] * 50, [0.6] * 50)
    alone = calibration.ece_by_chance([unsure], np.random.default_rng(0))
    both = calibration.ece_by_chance([sure, unsure], np.random.default_rng(1))
    assert both == pytest.approx(alone / 2, rel=0.05)


# The whole


def test_calibration_has_the_same_intervals_as_the_metrics_themselves(make_outcomes: MakeOutcomes) -> None:
    generator = np.random.default_rng(1)
    seeds, keys = [calibrated(generator, 60, make_outcomes)], ["f" * 64]
    found = calibration.of(seeds, keys)
    for metric in (found.ece, found.brier, found.log_loss):
        again = estimates.summarise(metric.name, seeds, estimates.generator_for(keys))
        assert metric == again
    assert found == calibration.of(seeds, keys)
    assert found.ece_by_chance != calibration.of(seeds, ["e" * 64]).ece_by_chance


def test_seeds_on_other_examples_cannot_be_pooled(make_outcomes: MakeOutcomes) -> None:
    with pytest.raises(ValueError, match="same examples"):
        calibration.reliability(
            [make_outcomes([1], [0.9]), make_outcomes([1, 0], [0.9, 0.1])], np.random.default_rng(0)
        )
