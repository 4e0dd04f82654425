"""A fall from commit to commit is found, and rarely where there is none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.stats import drift
from harness.stats.inference import Floats


def noise(generator: np.random.Generator, n: int, sd: float = 0.003) -> Floats:
    """Accuracies on 2,000 rows, which can be equal."""
    return np.asarray(np.round(generator.normal(0, sd, n) * 2000) / 2000)


def first_alarm(values: Floats, ties: Floats) -> int | None:
    """The number of commits at the first alarm."""
    for stop in range(1, len(values) + 1):
        if drift.fall(values[:stop], ties[:stop]).evidence >= drift.COMMITS_PER_ALARM:
            return stop
    return None


def test_a_drift_of_three_tenths_of_a_point_is_found_within_thirty_commits() -> None:
    generator = np.random.default_rng(1)
    began: list[int] = []
    for _ in range(40):
        values = noise(generator, 30) - 0.003 * np.arange(1, 31)
        stop = first_alarm(values, generator.random(30))
        assert stop is not None
        began.append(drift.fall(values[:stop], generator.random(stop)).first or 0)
    assert np.median(began) <= 5


def test_a_step_down_after_a_quiet_time_is_found_and_dated() -> None:
    generator = np.random.default_rng(2)
    values = noise(generator, 40)
    values[25:] -= 0.02
    ties = generator.random(40)
    assert 25 < (first_alarm(values, ties) or 0) <= 35
    assert drift.fall(values, ties).first in range(24, 28)


def test_a_rise_is_no_alarm() -> None:
    generator = np.random.default_rng(3)
    assert first_alarm(noise(generator, 60) + 0.003 * np.arange(60), generator.random(60)) is None


def test_a_bet_on_a_uniform_rank_is_fair() -> None:
    """The bets are unbounded and their variance is infinite: so they are capped here, from where fairness is exact."""
    generator, cap = np.random.default_rng(4), 1e-4
    p = generator.random(200_000)
    assert np.minimum(1 / (2 * np.sqrt(p)), 1 / (2 * np.sqrt(cap))).mean() == pytest.approx(
        1 - np.sqrt(cap) / 2, abs=0.01
    )


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.integers(0, 2**32 - 1))
def test_ranks_of_equal_scores_are_uniform_by_their_ties(values: list[int], seed: int) -> None:
    ties = np.random.default_rng(seed).random(len(values))
    found = drift.ranks(np.array(values, dtype=np.float64), ties)
    assert ((found > 0) & (found < 1)).all() or ties.min() == 0
    for index, value in enumerate(values):
        less = sum(one < value for one in values[: index + 1])
        equal = values[: index + 1].count(value)
        assert less <= found[index] * (index + 1) <= less + equal


def test_ranks_of_exchangeable_scores_are_uniform_and_independent() -> None:
    generator = np.random.default_rng(5)
    many = np.array([drift.ranks(noise(generator, 12), generator.random(12)) for _ in range(3000)])
    assert many.mean(axis=0) == pytest.approx(np.full(12, 0.5), abs=0.03)
    assert np.abs(np.corrcoef(many.T) - np.eye(12)).max() < 0.08


def test_scores_that_never_change_are_no_evidence_on_average() -> None:
    generator = np.random.default_rng(6)
    alarms = sum(first_alarm(np.zeros(50), generator.random(50)) is not None for _ in range(40))
    assert alarms <= 5  # 40 x 50 = 2,000 commits: two on average at most


def test_the_evidence_is_the_sum_over_all_beginnings() -> None:
    """The recursion (R + 1) e gives the same."""
    generator = np.random.default_rng(7)
    values, ties = noise(generator, 25), generator.random(25)
    recursive = 0.0
    for p in drift.ranks(values, ties):
        recursive = (recursive + 1) / (2 * np.sqrt(p))
    assert drift.fall(values, ties).evidence == pytest.approx(recursive)


def test_an_empty_series_shows_nothing_and_ties_depend_on_the_weights_alone() -> None:
    assert drift.fall(np.zeros(0), np.zeros(0)) == (0.0, None)
    assert drift.tie_of("a", "b") == drift.tie_of("a", "b") != drift.tie_of("a", "c")
    assert 0 < drift.tie_of("x") < 1
