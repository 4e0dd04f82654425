"""Intervals and resampling: against formulas written down a second time, and against simulated truth."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness import stats

Z = 1.959963984540054
"""97.5 % quantile of the normal distribution."""


def wilson_by_hand(successes: int, n: int) -> tuple[float, float]:
    """Wilson (1927), as in Agresti & Coull (1998), equation 3."""
    share = successes / n
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z * math.sqrt((share * (1 - share) + Z**2 / (4 * n)) / n) / (1 + Z**2 / n)
    return centre - half, centre + half


# Wilson


@given(data=st.data(), n=st.integers(1, 10_000))
def test_wilson_agrees_with_the_formula(data: st.DataObject, n: int) -> None:
    successes = data.draw(st.integers(0, n))
    assert stats.wilson(successes, n) == pytest.approx(wilson_by_hand(successes, n), abs=1e-12)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe (1998), table I
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_values(successes: int, n: int, low: float, high: float) -> None:
    assert stats.wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(data=st.data(), n=st.integers(1, 1000))
def test_wilson_lies_in_the_unit_interval_and_holds_the_proportion(data: st.DataObject, n: int) -> None:
    successes = data.draw(st.integers(0, n))
    low, high = stats.wilson(successes, n)
    assert 0 <= low <= successes / n + 1e-12
    assert successes / n - 1e-12 <= high <= 1
    assert high - low > 0


# Bootstrap weights


def all_weights(units: list[int], seed: int, resamples: int = stats.RESAMPLES) -> NDArray[np.float64]:
    chunks = stats.resampled_weights(np.array(units, dtype=np.int64), np.random.default_rng(seed), resamples)
    return np.concatenate(list(chunks))


@given(units=st.lists(st.integers(0, 4), min_size=1, max_size=12), resamples=st.integers(1, 20))
def test_examples_of_one_unit_share_their_weight_and_units_add_up(units: list[int], resamples: int) -> None:
    _, numbers = np.unique(units, return_inverse=True)
    weights = all_weights(numbers.tolist(), 1, resamples)
    assert weights.shape == (resamples, len(units))
    n_units = numbers.max() + 1
    per_unit = np.stack([weights[:, numbers == unit][:, 0] for unit in range(n_units)], axis=1)
    assert np.array_equal(per_unit[:, numbers], weights)
    assert np.array_equal(per_unit.sum(axis=1), np.full(resamples, n_units))


def test_every_unit_is_drawn_as_often_as_any_other() -> None:
    weights = all_weights([0, 0, 0, 1, 2, 3], 5, 20_000)
    assert weights.mean(axis=0) == pytest.approx(np.ones(6), abs=0.03)
    assert weights.var(axis=0) == pytest.approx(np.full(6, 0.75), abs=0.05)  # binomial: 4 draws of 1/4


def test_the_same_generator_gives_the_same_weights_and_another_does_not() -> None:
    units = list(range(20))
    assert np.array_equal(all_weights(units, 3), all_weights(units, 3))
    assert not np.array_equal(all_weights(units, 3), all_weights(units, 4))


def test_no_resample_is_lost_when_the_weights_come_in_chunks() -> None:
    units = np.arange(30_000) // 3000  # 133 resamples fill a chunk
    chunks = list(stats.resampled_weights(units, np.random.default_rng(0), 300))
    assert len(chunks) == 3
    assert sum(len(chunk) for chunk in chunks) == 300
    assert all((chunk.sum(axis=1) == 30_000).all() for chunk in chunks)
    whole = np.random.default_rng(0).multinomial(10, np.full(10, 0.1), size=300)
    assert np.array_equal(np.concatenate(chunks)[:, ::3000], whole)


def test_a_split_larger_than_a_chunk_comes_one_resample_at_a_time() -> None:
    units = np.zeros(4_000_001, dtype=np.int64)
    chunks = stats.resampled_weights(units, np.random.default_rng(0), 2)
    assert [len(chunk) for chunk in chunks] == [1, 1]


# Seeds


def test_one_seed_has_nothing_to_resample() -> None:
    values = np.random.default_rng(0).random((1, 50))
    assert np.array_equal(stats.mean_over_resampled_seeds(values, np.random.default_rng(1)), values[0])


def test_resampled_seeds_stay_within_the_seeds_and_average_to_their_mean() -> None:
    values = np.repeat([[0.0], [0.3], [0.9]], 20_000, axis=1)
    means = stats.mean_over_resampled_seeds(values, np.random.default_rng(1))
    assert means.shape == (20_000,)
    assert means.min() == 0
    assert means.max() == pytest.approx(0.9)
    assert means.mean() == pytest.approx(0.4, abs=0.01)
    assert means.var() == pytest.approx(values[:, 0].var() / 3, abs=0.003)


# Percentile intervals


def test_the_percentile_interval_holds_95_percent() -> None:
    low, high = stats.percentile_interval(np.linspace(0, 1, 1001)) or (math.nan, math.nan)
    assert (low, high) == pytest.approx((0.025, 0.975))


def test_undefined_resamples_do_not_count() -> None:
    values = np.array([0.5, np.nan, 0.5, np.inf])
    assert stats.percentile_interval(values) == (0.5, 0.5)


@pytest.mark.parametrize("values", [[], [np.nan], [0.5, np.nan, np.nan]])
def test_there_is_no_interval_when_most_resamples_are_undefined(values: list[float]) -> None:
    assert stats.percentile_interval(np.array(values)) is None


@settings(max_examples=25)
@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_the_percentile_interval_lies_within_the_values(values: list[float]) -> None:
    interval = stats.percentile_interval(np.array(values))
    assert interval is not None
    assert min(values) <= interval[0] <= interval[1] <= max(values)


def test_the_difference_of_independent_estimates_has_newcombes_interval() -> None:
    """Newcombe (1998), table II, method 10, of 56/70 against 48/80: 0.2000 [0.0524, 0.3339]."""
    one, other = (k / n for k, n in ((56, 70), (48, 80)))
    value, low, high = stats.independent_difference((one, *stats.wilson(56, 70)), (other, *stats.wilson(48, 80)))
    assert (round(value, 4), round(low, 4), round(high, 4)) == (0.2, 0.0524, 0.3339)
