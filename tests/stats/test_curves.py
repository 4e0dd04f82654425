"""Crossovers of learning curves: where they are, their intervals, and how often these hold the truth."""

from collections.abc import Sequence
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records import Outcomes
from harness.stats import inference
from harness.stats.curves import Crossover, crossover, lasting
from tests.scripts import script

ROWS = (16, 64, 256, 1024)


@pytest.fixture(scope="module")
def simulated() -> ModuleType:
    """The script that draws learning curves with a known truth."""
    return script("simulated")


def right(share: float, n: int = 200, *, shift: int = 0, clusters: int | None = None) -> Outcomes:
    """Predictions that are right on this share of the examples, a contiguous stretch from `shift` on."""
    labels = np.arange(n) % 2
    hits = np.isin(np.arange(n), (np.arange(round(share * n)) + shift) % n)
    predicted = np.where(hits, labels, 1 - labels)
    names = None if clusters is None else (np.arange(n) % clusters).astype(np.str_)
    return Outcomes(tuple(map(str, range(n))), labels, predicted, np.where(predicted == 1, 0.9, 0.1), names)


def side(shares: Sequence[float], seeds: int = 3, clusters: int | None = None) -> list[list[list[Outcomes]]]:
    return [[[right(share, shift=5 * seed, clusters=clusters)] for seed in range(seeds)] for share in shares]


def found(
    model: Sequence[Sequence[Sequence[Outcomes]]],
    other: Sequence[Sequence[Sequence[Outcomes]]],
    name: str = "accuracy",
    rows: Sequence[int] = ROWS,
) -> Crossover | None:
    return crossover(name, rows, model, other, np.random.default_rng(1), np.random.default_rng(2), draws=500)


# The lasting change of sign


def test_the_crossover_is_where_the_last_change_of_sign_lasts() -> None:
    at = np.array([10, 20, 40, 80])
    assert lasting(at, np.array([-1.0, 1.0, 1.0, 1.0])) == 20
    assert lasting(at, np.array([1.0, -1.0, 1.0, 1.0])) == 40, "an advantage that is lost again is not lasting"
    assert lasting(at, np.array([1.0, 1.0, 1.0, 1.0])) == 10
    assert lasting(at, np.array([1.0, 1.0, 1.0, 0.0])) is None, "nor is equality an advantage"


@given(
    gaps=st.lists(st.floats(-1, 1), min_size=4, max_size=4),
    widths=st.lists(st.floats(0, 1), min_size=8, max_size=8),
)
def test_the_crossover_of_wider_ends_encloses_that_of_the_difference(gaps: list[float], widths: list[float]) -> None:
    at, gap = np.array([10, 20, 40, 80]), np.array(gaps)
    low, high = gap - np.array(widths[:4]), gap + np.array(widths[4:])
    ends = [lasting(at, one) or 1000 for one in (high, gap, low)]
    assert ends == sorted(ends)


def test_a_straight_difference_crosses_where_it_is_zero_on_the_log_scale() -> None:
    result = found(side([0.5, 0.6, 0.7, 0.8]), side([0.65] * 4))
    assert result is not None
    assert result.rows is not None
    assert result.rows == pytest.approx(128, rel=0.05)  # half way from 64 to 256
    assert result.low is not None
    assert result.high is not None
    assert ROWS[0] < result.low < result.rows < result.high < ROWS[-1]
    assert (result.fewest, result.most) == (16, 1024)


def test_ends_beyond_the_tried_rows_are_at_most_the_fewest_and_more_than_the_most() -> None:
    never = found(side([0.5, 0.5, 0.5, 0.5]), side([0.9, 0.9, 0.9, 0.9]))
    assert never == Crossover(None, None, None, 16, 1024)
    at_once = found(side([0.9, 0.9, 0.9, 0.9]), side([0.5, 0.5, 0.5, 0.5]))
    assert at_once == Crossover(16, 16, 16, 16, 1024)
    alike = found(side([0.7, 0.7, 0.7, 0.7]), side([0.7, 0.7, 0.7, 0.7]))
    assert alike == Crossover(None, None, None, 16, 1024) or (alike is not None and alike.rows is None)


def test_the_interval_ends_where_the_model_is_first_shown_to_be_better() -> None:
    rising, hidden = [0.4, 0.6, 0.9, 0.9], [0.4, 0.6, 0.9, 0.66]
    clear, dips = found(side(rising), side([0.65] * 4)), found(side(hidden), side([0.65] * 4))
    assert clear is not None
    assert dips is not None
    assert clear.high is not None
    assert dips.high == pytest.approx(clear.high, rel=0.1), "noise at a later size does not extend it"
    assert clear.high < 256


def test_a_model_that_is_not_trained_is_the_same_at_every_number_of_rows() -> None:
    shares = [0.5, 0.6, 0.7, 0.8]
    flat = [[[right(0.65, shift=5 * seed)] for seed in range(2)]]
    result = found(side(shares), flat)
    assert result is not None
    assert result.rows == pytest.approx(128, rel=0.05)
    assert result.low is not None
    assert result.high is not None
    assert result.low < 128 < result.high


def test_of_a_metric_whose_lower_values_are_better_the_lower_one_pays() -> None:
    better, worse = side([0.5, 0.6, 0.7, 0.8]), side([0.65] * 4)
    result, turned = found(better, worse, "log_loss"), found(worse, better, "log_loss")
    assert result is not None
    assert result.rows == pytest.approx(128, rel=0.05)
    assert turned is not None
    assert turned.rows is None


def test_the_runs_of_one_seed_count_as_one() -> None:
    twice = [[[one, one] for [one] in of_rows] for of_rows in side([0.5, 0.6, 0.7, 0.8])]
    assert found(twice, side([0.65] * 4)) == found(side([0.5, 0.6, 0.7, 0.8]), side([0.65] * 4))


def test_a_single_cluster_gives_no_interval_and_so_no_crossover() -> None:
    assert found(side([0.5, 0.6, 0.7, 0.8], clusters=1), side([0.65] * 4, clusters=1)) is None


def test_more_seeds_that_agree_and_clusters_that_do_not_change_the_width() -> None:
    def length(result: Crossover | None) -> float:
        assert result is not None
        assert result.high is not None
        assert result.low is not None
        return float(np.log(result.high / result.low))

    shares, other = [0.4, 0.55, 0.7, 0.85], [0.62] * 4
    spread = [
        [[right(share + move, shift=5)] for move in (-0.06, 0.0, 0.06)] for share in shares
    ]  # seeds that differ, of which three say little
    assert length(found(spread, side(other))) > 1.2 * length(found(side(shares), side(other)))


# The truth


@pytest.mark.slow
@pytest.mark.parametrize(("n_seeds", "of_other"), [(3, 8.0), (5, 0.0)])
def test_the_interval_holds_a_crossover_that_is_known(simulated: ModuleType, n_seeds: int, of_other: float) -> None:
    truth, repeats, held = simulated.LearningCurves(180, 10, of_other), 80, 0
    rows = (16, 64, 256, 1024)
    for stream in np.random.default_rng(5).spawn(repeats):
        model, other = simulated.learned(stream, truth, rows, n_seeds, 200, 1)
        examples, seeds = stream.spawn(2)
        result = crossover("accuracy", rows, model, other, examples, seeds, draws=400)
        assert result is not None
        low = 0 if result.low == rows[0] else result.low or np.inf
        held += low <= truth.crossover <= (result.high or np.inf)
    low, high = inference.wilson(held, repeats)
    assert high > 0.95
    assert held / repeats > 0.88


def test_simulated_curves_have_the_accuracies_that_they_say_and_cross_where_they_say(simulated: ModuleType) -> None:
    truth = simulated.LearningCurves(180, 10, 8.0)
    model, other = truth.accuracies((18, 180, 1800))
    assert model[1] == other[1] == pytest.approx(0.8)
    assert model[0] < other[0] < other[1] < other[2] < model[2]
    drawn, _ = simulated.learned(np.random.default_rng(0), truth, (18, 1800), 400, 500, 5)
    for shares, expected in zip(drawn, truth.accuracies((18, 1800))[0], strict=True):
        hits = [np.mean(one.labels == one.predicted) for (one,) in shares]
        assert np.mean(hits) == pytest.approx(expected, abs=0.02)
        assert np.std(hits) > 0.01
