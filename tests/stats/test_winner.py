"""The best of many equal scores is no better than they are, and its corrected interval knows it."""

import numpy as np
import pytest

from harness.stats import winner
from harness.stats.inference import Floats

REPEATS = 200


def correlated(k: int, correlation: float) -> Floats:
    """A root of the covariance matrix of k scores of variance one."""
    return np.asarray(np.linalg.cholesky((1 - correlation) * np.eye(k) + correlation), dtype=np.float64)


@pytest.mark.parametrize(("k", "correlation"), [(2, 0.0), (10, 0.7), (50, 0.0)])
def test_the_truth_of_the_best_of_equal_scores_is_covered_and_missed_evenly(k: int, correlation: float) -> None:
    generator, root = np.random.default_rng(4), correlated(k, correlation)
    noise = root @ generator.standard_normal((k, 2000))
    covered = plain = above = 0
    for _ in range(REPEATS):
        scores = root @ generator.standard_normal(k)
        found = winner.corrected(scores, noise + scores[:, None])
        assert found is not None
        covered += found.ci_low <= 0 <= found.ci_high
        above += found.value > 0
        plain += abs(scores.max()) < 1.96
    assert 0.91 <= covered / REPEATS <= 0.99
    assert 0.4 <= above / REPEATS <= 0.6
    assert k < 50 or plain / REPEATS < 0.5  # the plain interval, for contrast


def test_a_winner_that_leads_by_far_keeps_its_score_and_its_interval() -> None:
    generator = np.random.default_rng(5)
    scores = np.array([0.6, 0.95, 0.61])
    found = winner.corrected(scores, scores[:, None] + 0.01 * generator.standard_normal((3, 4000)))
    assert found is not None
    assert found.winner == 1
    assert found.value == pytest.approx(0.95, abs=5e-4)
    assert (found.ci_low, found.ci_high) == pytest.approx((0.9304, 0.9696), abs=2e-3)


def test_where_lower_is_better_the_lowest_is_corrected_upwards() -> None:
    generator = np.random.default_rng(6)
    scores = np.array([0.30, 0.29, 0.295])
    draws = scores[:, None] + 0.01 * generator.standard_normal((3, 4000))
    found, mirrored = (winner.corrected(scores, draws, higher_is_better=False), winner.corrected(-scores, -draws))
    assert found is not None
    assert mirrored is not None
    assert found.winner == 1
    assert found.value > 0.29
    assert found[1:] == pytest.approx((-mirrored.value, -mirrored.ci_high, -mirrored.ci_low))


def test_a_tie_is_no_proof_of_the_worst() -> None:
    """Without the continuity correction the interval of tied winners ends below their own score."""
    generator = np.random.default_rng(7)
    scores = np.array([0.9, 0.9])
    draws = scores[:, None] + 0.015 * generator.standard_normal((2, 4000))
    found = winner.corrected(scores, draws, step=1 / 400)
    assert found is not None
    assert found.ci_low < found.value < 0.9 < found.ci_high


def test_what_does_not_vary_or_is_undefined_is_not_corrected() -> None:
    assert winner.corrected(np.array([1.0, 0.9]), np.array([[1.0] * 9, [0.9] * 9])) is None
    assert winner.corrected(np.array([1.0, 0.9]), np.array([[1.0, 0.9] * 4, [0.9, np.nan] * 4])) is None


def test_a_single_score_is_nobodys_winner() -> None:
    generator = np.random.default_rng(8)
    found = winner.corrected(np.array([0.8]), 0.8 + 0.01 * generator.standard_normal((1, 4000)))
    assert found is not None
    assert found.value == pytest.approx(0.8, abs=1e-3)
