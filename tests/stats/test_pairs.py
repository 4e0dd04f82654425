"""Pairs and behaviour: shares of ten made-up pairs, counted by hand."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from harness.records import UNLABELLED, Outcomes
from harness.stats import estimates, inference, metrics

# Ten pairs, each an original and its counterpart: label and score of the first, then of the second. The comment counts.
PAIRS = [
    (1, 0.9, 0, 0.1),  # both right; other answers; falls
    (1, 0.8, 0, 0.2),  # both right; other answers; falls
    (0, 0.3, 1, 0.7),  # both right; other answers; rises
    (0, 0.1, 1, 0.9),  # both right; other answers; rises
    (1, 0.9, 0, 0.6),  # second wrong; same answer; falls
    (1, 0.7, 0, 0.7),  # second wrong; same answer; stays
    (0, 0.2, 1, 0.4),  # second wrong; same answer; rises
    (1, 0.4, 0, 0.3),  # first wrong; same answer; falls
    (0, 0.6, 1, 0.2),  # both wrong; other answers; falls
    (1, 0.2, 0, 0.8),  # both wrong; other answers; rises
]
RIGHT, SAME, FALLEN = 4, 4, 5
RNG = np.random.default_rng


@pytest.fixture
def ten(make_outcomes: Callable[..., Outcomes]) -> Outcomes:
    """The pairs in an order in which no two rows of a pair are neighbours; pairs are clusters."""
    rows = [(first, score, i) for i, (first, score, *_) in enumerate(PAIRS)]
    rows += [(second, score, i) for i, (*_, second, score) in reversed(list(enumerate(PAIRS)))]
    labels, scores, pairs = (list(column) for column in zip(*rows, strict=True))
    made = make_outcomes(labels, scores, [f"pair {i}" for i in pairs])
    return replace(made, pairs=np.array(pairs), changes=np.zeros(20, dtype=np.int64))


def test_the_share_of_pairs_that_are_wholly_right_is_as_counted(ten: Outcomes) -> None:
    assert metrics.value("pair_accuracy", ten) == RIGHT / 10
    assert metrics.value("accuracy", ten) == 12 / 20


def test_the_share_of_pairs_with_one_answer_is_as_counted_with_and_without_labels(ten: Outcomes) -> None:
    bare = replace(ten, labels=np.full(20, UNLABELLED))
    assert metrics.value("invariance", ten) == metrics.value("invariance", bare) == SAME / 10


def test_the_share_of_pairs_whose_score_falls_is_as_counted_and_a_tie_is_no_fall(ten: Outcomes) -> None:
    bare = replace(ten, labels=np.full(20, UNLABELLED), changes=np.repeat([0, -1], 10))
    assert metrics.value("direction", bare) == FALLEN / 10
    assert metrics.value("direction", replace(bare, changes=np.repeat([0, 1], 10))) == (10 - FALLEN - 1) / 10


def test_a_group_of_three_counts_once_and_needs_all_of_its_examples(ten: Outcomes) -> None:
    groups = replace(ten, pairs=np.array([0, 0, 0, *range(1, 18)]))
    right = metrics.is_right(groups)
    assert metrics.value("pair_accuracy", groups) == (right[:3].all() + right[3:].sum()) / 18


@pytest.mark.parametrize("name", metrics.METRICS)
def test_a_metric_that_needs_labels_is_undefined_without_and_one_that_needs_pairs_without_these(
    name: str, ten: Outcomes, make_outcomes: Callable[..., Outcomes]
) -> None:
    bare = replace(ten, labels=np.full(20, UNLABELLED))
    of_pairs = metrics.METRICS[name].of_pairs
    assert np.isnan(metrics.value(name, bare)) == (name != "invariance")
    assert np.isnan(metrics.value(name, make_outcomes([0, 1, 1], [0.2, 0.8, 0.3]))) == of_pairs
    assert estimates.summarise(name, [bare], RNG(0)).value == (SAME / 10 if name == "invariance" else None)
    assert (estimates.difference(name, [bare], [bare], RNG(0)) is None) == (name != "invariance")


def test_a_change_of_direction_makes_invariance_undefined(ten: Outcomes) -> None:
    assert np.isnan(metrics.value("invariance", replace(ten, changes=np.repeat([0, 1], 10))))
    assert np.isnan(metrics.value("direction", ten))


def test_the_interval_is_that_of_ten_pairs_and_not_of_twenty_rows(ten: Outcomes) -> None:
    found = estimates.summarise("pair_accuracy", [ten], RNG(0))
    assert found.ci_low is not None
    assert found.ci_high is not None
    drawn = RNG(1).binomial(10, RIGHT / 10, size=100_000) / 10
    assert [found.ci_low, found.ci_high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.1001)
    perfect = replace(ten, predicted=ten.labels, scores=ten.labels.astype(float))
    all_right = estimates.summarise("pair_accuracy", [perfect], RNG(0))
    assert (all_right.ci_low, all_right.ci_high) == inference.wilson(10, 10)
    better = estimates.difference("pair_accuracy", [perfect], [ten], RNG(0))
    assert better is not None
    assert better.value == pytest.approx(1 - RIGHT / 10)
    assert 0.2 <= better.ci_low < better.value < better.ci_high <= 1


def test_a_slice_keeps_whole_pairs_only(ten: Outcomes) -> None:
    chosen = np.ones(20, dtype=bool)
    chosen[0] = False  # the first half of a pair that is right
    part = metrics.subset(ten, chosen)
    assert metrics.value("pair_accuracy", part) == (RIGHT - 1) / 9
    assert metrics.value("invariance", part) == SAME / 9
    assert np.isnan(metrics.value("pair_accuracy", metrics.subset(ten, np.arange(20) < 10)))
