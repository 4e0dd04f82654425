"""Intervals and resampling: against formulas written down a second time, and against simulated truth."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats as scipy_stats
from statsmodels.stats import contingency_tables as contingency
from statsmodels.stats import proportion

from harness.stats import inference

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
    assert inference.wilson(successes, n) == pytest.approx(wilson_by_hand(successes, n), abs=1e-12)


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
    assert inference.wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(data=st.data(), n=st.integers(1, 1000))
def test_wilson_lies_in_the_unit_interval_and_holds_the_proportion(data: st.DataObject, n: int) -> None:
    successes = data.draw(st.integers(0, n))
    low, high = inference.wilson(successes, n)
    assert 0 <= low <= successes / n + 1e-12
    assert successes / n - 1e-12 <= high <= 1
    assert high - low > 0


# Bootstrap weights


def all_weights(units: list[int], seed: int, resamples: int = inference.RESAMPLES) -> NDArray[np.float64]:
    chunks = inference.resampled_weights(np.array(units, dtype=np.int64), np.random.default_rng(seed), resamples)
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
    counts, times = np.unique(weights[:, 2:], axis=0, return_counts=True)  # of units 0 to 3
    expected = [20_000 * scipy_stats.multinomial.pmf(count, 4, np.full(4, 1 / 4)) for count in counts]
    assert len(counts) == 35  # all ways to draw 4 of 4
    assert scipy_stats.chisquare(times, expected).pvalue > 0.001


def test_the_same_generator_gives_the_same_weights_and_another_does_not() -> None:
    units = list(range(20))
    assert np.array_equal(all_weights(units, 3), all_weights(units, 3))
    assert not np.array_equal(all_weights(units, 3), all_weights(units, 4))


def test_no_resample_is_lost_when_the_weights_come_in_chunks() -> None:
    units = np.arange(30_000) // 3000  # 133 resamples fill a chunk
    chunks = list(inference.resampled_weights(units, np.random.default_rng(0), 300))
    assert len(chunks) == 3
    assert sum(len(chunk) for chunk in chunks) == 300
    assert all((chunk.sum(axis=1) == 30_000).all() for chunk in chunks)
    assert len(np.unique(np.concatenate(chunks)[:, ::3000], axis=0)) > 290  # no chunk repeats another


def test_a_split_larger_than_a_chunk_comes_one_resample_at_a_time() -> None:
    units = np.zeros(4_000_001, dtype=np.int64)
    chunks = inference.resampled_weights(units, np.random.default_rng(0), 2)
    assert [len(chunk) for chunk in chunks] == [1, 1]


# Seeds


def test_one_seed_has_nothing_to_resample() -> None:
    values = np.random.default_rng(0).random((1, 50))
    assert np.array_equal(inference.mean_over_resampled_seeds(values, np.random.default_rng(1)), values[0])


@pytest.mark.parametrize("seeds", [[0.0, 0.3, 0.9], [0.2, 0.4], [0.1, 0.2, 0.2, 0.8, 0.9]])
def test_means_of_resampled_seeds_vary_as_much_as_means_of_that_many_seeds_do(seeds: list[float]) -> None:
    values = np.repeat(np.array(seeds)[:, np.newaxis], 50_000, axis=1)
    means = inference.mean_over_resampled_seeds(values, np.random.default_rng(1))
    assert means.shape == (50_000,)
    assert min(seeds) <= means.min()
    assert means.max() <= max(seeds) + 1e-12
    assert means.mean() == pytest.approx(np.mean(seeds), abs=0.005)
    assert means.var() == pytest.approx(np.var(seeds, ddof=1) / len(seeds), rel=0.03)  # the unbiased estimate


# Percentile intervals


def test_the_percentile_interval_holds_95_percent() -> None:
    low, high = inference.percentile_interval(np.linspace(0, 1, 1001)) or (math.nan, math.nan)
    assert (low, high) == pytest.approx((0.025, 0.975))


def test_undefined_resamples_do_not_count() -> None:
    values = np.array([0.5, np.nan, 0.5, np.inf])
    assert inference.percentile_interval(values) == (0.5, 0.5)


@pytest.mark.parametrize("values", [[], [np.nan], [0.5, np.nan, np.nan]])
def test_there_is_no_interval_when_most_resamples_are_undefined(values: list[float]) -> None:
    assert inference.percentile_interval(np.array(values)) is None


@settings(max_examples=25)
@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_the_percentile_interval_lies_within_the_values(values: list[float]) -> None:
    interval = inference.percentile_interval(np.array(values))
    assert interval is not None
    assert min(values) <= interval[0] <= interval[1] <= max(values)


def test_the_difference_of_independent_estimates_has_newcombes_interval() -> None:
    """Newcombe (1998), table II, method 10, of 56/70 against 48/80: 0.2000 [0.0524, 0.3339]."""
    one, other = (k / n for k, n in ((56, 70), (48, 80)))
    value, low, high = inference.independent_difference(
        (one, *inference.wilson(56, 70)), (other, *inference.wilson(48, 80))
    )
    assert (round(value, 4), round(low, 4), round(high, 4)) == (0.2, 0.0524, 0.3339)


# Paired tests and corrections, against statsmodels and formulas written down a second time


RANDOM_TABLES = 500


def test_mcnemar_agrees_with_statsmodels() -> None:
    generator = np.random.default_rng(0)
    drawn = generator.integers(0, generator.integers(1, 2000, RANDOM_TABLES)[:, None], (RANDOM_TABLES, 2)).tolist()
    for only_first, only_second in [[0, 0], [1, 0], [0, 1], [1, 1], [0, 5000], *drawn]:
        table = [[5, only_first], [only_second, 7]]
        assert inference.mcnemar(only_first, only_second) == pytest.approx(contingency.mcnemar(table).pvalue, abs=1e-12)


def test_mcnemar_is_one_when_nobody_disagrees() -> None:
    assert inference.mcnemar(0, 0) == 1
    assert inference.mcnemar(6, 0) == pytest.approx(2 / 2**6)


def test_wilson_agrees_with_statsmodels() -> None:
    generator = np.random.default_rng(1)
    sizes = generator.integers(1, 10_000, RANDOM_TABLES)
    drawn = zip(generator.integers(0, sizes + 1).tolist(), sizes.tolist(), strict=True)
    for successes, n in [(0, 1), (1, 1), (0, 10**6), (10**6, 10**6), *drawn]:
        expected = proportion.proportion_confint(successes, n, alpha=0.05, method="wilson")
        assert inference.wilson(successes, n) == pytest.approx(expected, abs=1e-12)


def families() -> Iterator[list[float]]:
    """Families of p-values: edge cases, then random ones, some of them with ties."""
    yield from ([0.0], [1.0], [0.0, 0.0], [1.0, 1.0, 1.0], [0.05, 0.05], [1e-300, 1.0])
    generator = np.random.default_rng(2)
    for size in generator.integers(1, 60, RANDOM_TABLES).tolist():
        drawn = generator.random(size) ** generator.integers(1, 8)
        yield [float(p) for p in (np.round(drawn, 2) if size % 3 == 0 else drawn)]


def test_holm_agrees_with_its_definition() -> None:
    for values in families():
        order = sorted(range(len(values)), key=values.__getitem__)
        expected, largest = [0.0] * len(values), 0.0
        for rank, i in enumerate(order):
            largest = max(largest, min(1.0, (len(values) - rank) * values[i]))
            expected[i] = largest
        assert inference.holm(values) == pytest.approx(expected, abs=1e-12)


def test_benjamini_hochberg_agrees_with_scipy() -> None:
    for values in families():
        expected = scipy_stats.false_discovery_control(values, method="bh")
        assert inference.benjamini_hochberg(values) == pytest.approx(expected, abs=1e-12)


def test_corrections_of_nothing_are_nothing() -> None:
    assert inference.holm([]) == inference.benjamini_hochberg([]) == []


def test_few_seeds_give_students_t() -> None:
    assert inference.two_sided_p(2.0, 1.0, 3.0) == pytest.approx(2 * scipy_stats.t.sf(2.0, 3))
    low, high = inference.widened(1.0, (1 - 1.959963984540054, 1 + 1.959963984540054), 4.0)
    assert (low, high) == pytest.approx((1 - scipy_stats.t.ppf(0.975, 4), 1 + scipy_stats.t.ppf(0.975, 4)))
    assert inference.widened(1.0, (0.0, 2.0), math.inf) == (0.0, 2.0)


def test_degrees_of_freedom_are_those_of_the_seeds_where_only_these_vary() -> None:
    assert inference.welch_degrees(0.5, [(0.5, 3)]) == pytest.approx(2)
    assert inference.welch_degrees(0.5, [(0.25, 3), (0.25, 3)]) == pytest.approx(4)
    assert inference.welch_degrees(0.5, [(0.1, 3), (0.0, 1)]) == pytest.approx(50)
    assert inference.welch_degrees(0.5, [(0.0, 1), (0.0, 3)]) == math.inf


def test_a_gap_of_two_standard_errors_has_the_known_p_value() -> None:
    assert inference.two_sided_p(-1.959963984540054, 1) == pytest.approx(0.05)
    assert inference.two_sided_p(0.3, 0) == 1


# Sample sizes


def test_examples_for_a_power_agree_with_the_formula() -> None:
    """(z_0.975 + z_0.8)² σ² / gap²; Chow, Shao & Wang (2008), section 3.1."""
    assert inference.examples_for(0.02, 0.01, 0.0, 900) == math.ceil(
        900 * 0.01**2 * (Z + 0.8416212335729143) ** 2 / 0.02**2
    )
    assert inference.examples_for(-0.02, 0.01, 0.0, 900) == inference.examples_for(0.02, 0.01, 0.0, 900)


def test_no_number_of_examples_decides_a_gap_of_zero_or_one_below_the_spread_of_the_seeds() -> None:
    assert inference.examples_for(0.0, 0.01, 0.0, 900) is None
    assert inference.examples_for(0.02, 0.01, 0.01, 900) is None
    with_seeds, without = inference.examples_for(0.05, 0.01, 0.01, 900), inference.examples_for(0.05, 0.01, 0.0, 900)
    assert with_seeds is not None
    assert without is not None
    assert with_seeds > without


@pytest.mark.parametrize("gap", [0.0, 0.005, 0.015])
def test_more_examples_decide_as_often_as_they_promise(gap: float) -> None:
    """What is not known of the true gap is drawn as the method supposes: normal about the estimate."""
    se, n, generator = 0.01, 400, np.random.default_rng(0)
    more = inference.more_examples(gap, se, 0.0, n, power=0.8)
    assert more is not None
    truth = generator.normal(gap, se, 20_000)
    new = generator.normal(truth, se * math.sqrt(n / more))
    final = (n * gap + more * new) / (n + more)
    decided = np.abs(final) > Z * se * math.sqrt(n / (n + more))
    assert decided.mean() == pytest.approx(0.8, abs=0.02)


def test_a_gap_near_its_limit_needs_more_examples_and_seeds_may_make_it_hopeless() -> None:
    near, far = inference.more_examples(0.001, 0.01, 0.0, 400), inference.more_examples(0.018, 0.01, 0.0, 400)
    assert near is not None
    assert far is not None
    assert near > 10 * far
    assert inference.more_examples(0.001, 0.01, 0.02, 400) is None
    assert inference.more_examples(0.001, 0.0, 0.0, 400) is None


# Paired proportions


def test_the_paired_interval_is_that_of_a_published_example() -> None:
    """Airway reactivity before and after transplantation: Fagerland, Lydersen & Laake (2014), table of intervals."""
    assert inference.tango(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)
    assert inference.tango(7, 1, 21) == pytest.approx((0.026, 0.517), abs=5e-4)


@pytest.mark.parametrize("n", [1, 50, 2000])
def test_without_any_disagreement_the_paired_interval_still_admits_doubt(n: int) -> None:
    low, high = inference.tango(0, 0, n)
    assert high == pytest.approx(Z**2 / (n + Z**2))
    assert low == pytest.approx(-high)


def test_the_paired_interval_of_many_disagreements_is_normal() -> None:
    width = Z * math.sqrt(0.1 - 0.02**2) / math.sqrt(100_000)
    assert inference.tango(6_000, 4_000, 100_000) == pytest.approx((0.02 - width, 0.02 + width), abs=1e-5)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_the_paired_interval_holds_the_estimate_within_what_is_possible(first: int, second: int, same: int) -> None:
    n = max(1, first + second + same)
    low, high = inference.tango(first, second, n)
    assert -1 <= low <= (first - second) / n <= high <= 1
    assert low < high


@given(st.floats(0, 0.5), st.floats(0, 0.5))
def test_the_paired_variance_at_the_estimate_is_the_estimated_one(first: float, second: float) -> None:
    variance = first + second - (first - second) ** 2
    assert inference.paired_variance(first, second, first - second) == pytest.approx(variance, abs=1e-7)


def test_the_normal_tail_and_quantile_are_scipys_far_out_too() -> None:
    assert scipy_stats.norm.ppf((1 + inference.CONFIDENCE) / 2) == inference._Z
    for z in (0.0, 0.5, 1.96, 5.0, 9.0, 20.0):
        assert inference.two_sided_p(z, 1.0) == pytest.approx(2 * scipy_stats.norm.sf(z), rel=1e-12)


def test_an_end_of_an_interval_is_as_uncertain_as_it_varies_from_draw_to_draw() -> None:
    """Of normal draws: their 2.5 % quantile, drawn 400 times, has the error that four of are asked for."""
    generator = np.random.default_rng(0)
    for draws in (2000, 8000):
        ends = np.quantile(generator.normal(size=(400, draws)), 0.025, axis=1)
        error, half_width = float(ends.std(ddof=1)), 1.96
        assert inference.is_near_an_end(-1.96 - 3.5 * error, 0.0, (-half_width, half_width), draws)
        assert not inference.is_near_an_end(-1.96 - 4.6 * error, 0.0, (-half_width, half_width), draws)
        assert not inference.is_near_an_end(0.0, 0.0, (-half_width, half_width), draws)


def test_an_interval_without_width_has_no_uncertain_end() -> None:
    assert not inference.is_near_an_end(0.5, 0.5, (0.5, 0.5), 2000)
