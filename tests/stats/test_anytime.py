"""Looking often is honest: a true limit is excluded in at most one sequence in twenty."""

import itertools
import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.stats import anytime
from harness.stats.anytime import Seen, Side
from harness.stats.inference import Floats, Ints

REPEATS = 400
ONE_EACH = np.ones(3000, dtype=np.int64)


def seen(sums: list[float] | Floats, *, largest: int = 1, low: float = 0.0, high: float = 1.0) -> Seen:
    values = np.asarray(sums, dtype=np.float64)
    return Seen(values, np.ones(len(values), dtype=np.int64), largest, 1.0, low, high)


def first_decision(sums: Floats, limit: float, low: float, sizes: Ints, every: int) -> tuple[str | None, int]:
    """The first decision, with looks after every so many units; the money at all of them is computed in one go."""
    terms, largest, per_unit = sums - limit * sizes, int(sizes.max()), float(sizes.mean())
    above = anytime.log_wealth(terms, largest * (low - limit), per_unit)[every - 1 :: every]
    below = anytime.log_wealth(-terms, largest * (limit - 1.0), per_unit)[every - 1 :: every]
    crossed = np.flatnonzero((above >= anytime.THRESHOLD) | (below >= anytime.THRESHOLD))
    if not len(crossed):
        return None, len(terms)
    stop = (int(crossed[0]) + 1) * every
    side = anytime.decide(Seen(sums[:stop], sizes[:stop], largest, per_unit, low, 1.0), limit)
    assert side is not None
    return side, stop


@pytest.mark.parametrize("per_unit", [1.0, 25.0])
@pytest.mark.parametrize("chance", [0.1, 0.5, 0.97])
def test_the_money_of_a_fair_game_stays_one_on_average(chance: float, per_unit: float) -> None:
    """All sequences of eight terms, weighted by their probability."""
    for least, sign in ((-chance, 1), (chance - 1, -1)):
        mean = 0.0
        for sequence in itertools.product((0.0, 1.0), repeat=8):
            terms = sign * (np.array(sequence) - chance)
            probability = math.prod(chance if one else 1 - chance for one in sequence)
            mean += probability * math.exp(anytime.log_wealth(terms, least, per_unit)[-1])
        assert mean == pytest.approx(1, abs=1e-12)


def test_a_true_limit_is_rarely_excluded_however_often_one_looks() -> None:
    generator, wrong = np.random.default_rng(1), 0
    for _ in range(REPEATS):
        terms = generator.choice([-1.0, 0.0, 1.0], p=[0.06, 0.9, 0.04], size=1600)
        wrong += first_decision(terms, -0.02, -1.0, ONE_EACH[:1600], 32)[0] is not None
    assert wrong / REPEATS <= 0.05


def test_a_true_limit_is_rarely_excluded_with_clusters_of_unequal_sizes() -> None:
    """The examples of a cluster are all right or all wrong, and larger clusters are harder: the mean is by example."""
    generator, wrong = np.random.default_rng(2), 0
    chances, chosen = np.array([0.9, 0.9, 0.9, 0.6]), np.array([1, 2, 5, 10])
    truth = float((chances * chosen).sum() / chosen.sum())
    for _ in range(REPEATS):
        kinds = generator.integers(4, size=400)
        sizes = chosen[kinds]
        sums = (generator.random(400) < chances[kinds]) * sizes
        wrong += first_decision(sums * 1.0, truth, 0.0, sizes, 20)[0] is not None
    assert wrong / REPEATS <= 0.05


@pytest.mark.parametrize(("chances", "side", "most"), [((0.02, 0.10), "above", 250), ((0.10, 0.02), "below", 300)])
def test_a_clear_difference_is_decided_after_a_few_hundred_units(
    chances: tuple[float, float], side: str, most: int
) -> None:
    generator, stops = np.random.default_rng(3), []
    for _ in range(60):
        terms = generator.choice([-1.0, 1.0, 0.0], p=[*chances, 1 - sum(chances)], size=3000)
        found, stop = first_decision(terms, -0.02, -1.0, ONE_EACH, 32)
        assert found == side
        stops.append(stop)
    assert np.median(stops) <= most


def test_large_clusters_that_are_alike_are_decided_by_bold_bets() -> None:
    """The first gate of a real suite: an accuracy of 0.89 against 0.85, on clusters of 25."""
    generator = np.random.default_rng(4)
    bold: list[int] = []
    timid: list[int] = []
    for _ in range(20):
        terms = np.asarray(generator.binomial(25, 0.89, size=200) - 0.85 * 25, dtype=np.float64)
        for per_unit, taken in ((25.0, bold), (1.0, timid)):
            money = anytime.log_wealth(terms, -0.85 * 25, per_unit)
            taken.append(int(np.argmax(money >= anytime.THRESHOLD)))
    assert np.median(bold) <= 115
    assert np.median(bold) < 0.85 * np.median(timid)


def first(terms: Floats, limit: float, times: Mapping[Side, int]) -> int:
    return next(n for n in range(1, len(terms)) if anytime.decide(seen(terms[:n]), limit, times) is not None)


def test_a_side_that_needs_more_evidence_is_decided_later() -> None:
    terms = np.tile([1.0, 1.0, 1.0, 0.0], 30)
    assert first(terms, 0.5, {}) < first(terms, 0.5, {"above": 10})
    assert first(terms, 0.95, {}) == first(terms, 0.95, {"above": 10})


@given(st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=1, max_size=60))
def test_the_interval_holds_the_mean_and_exactly_the_limits_that_are_not_excluded(terms: list[float]) -> None:
    one = seen(terms)
    low, high = anytime.interval(one)
    assert low <= one.mean <= high
    for limit in np.linspace(0.01, 0.99, 21):
        if abs(limit - low) > 1e-6 and abs(limit - high) > 1e-6:
            assert (anytime.decide(one, float(limit)) is None) == (low < limit < high)


def test_a_limit_at_or_beyond_a_bound_is_decided_by_what_was_seen() -> None:
    assert anytime.decide(seen([1.0, 1.0]), 1.0) is None
    assert anytime.decide(seen([1.0, 0.0]), 1.0) == "below"
    assert anytime.decide(seen([0.0, 0.0]), 0.0) is None
    assert anytime.decide(seen([0.0, 1.0]), 0.0) == "above"
    assert anytime.decide(seen([1.0]), -0.5) == "above"
    assert anytime.decide(seen([1.0]), 1.5) == "below"
