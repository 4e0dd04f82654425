"""Two models side by side: against hand-made cases, brute force, and themselves the other way round."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from statsmodels.stats.multitest import multipletests

from harness.gates import compare
from harness.gates.compare import Comparison, Side
from harness.records import Example, Outcomes, Split
from harness.stats import calibration, estimates, inference, metrics

METRICS = ["accuracy", "f1", "log_loss"]
Seeds = tuple[int | None, ...]


@pytest.fixture(scope="session")
def side(make_outcomes: Callable[..., Outcomes]) -> Callable[..., Side]:
    """A model's runs on these examples: the scores of each seed."""

    def made(model_id: str, examples: Sequence[Example], scores: Sequence[Any], seeds: Seeds = (None,)) -> Side:
        clusters = None if examples[0].cluster is None else [example.cluster for example in examples]
        ids = tuple(example.example_id for example in examples)
        labels = [example.label for example in examples]
        outcomes = tuple(replace(make_outcomes(labels, of_seed, clusters), example_ids=ids) for of_seed in scores)
        return Side(model_id, seeds, tuple(f"{model_id.encode().hex():0>30}{seed or 0:02}" for seed in seeds), outcomes)

    return made


def scored(examples: Sequence[Example], right: Sequence[bool] | NDArray[np.bool_], sure: float = 0.9) -> list[float]:
    """Scores that are right where it is said."""
    return [
        sure if (example.label == 1) == bool(one) else 1 - sure for example, one in zip(examples, right, strict=True)
    ]


def run(examples: Sequence[Example], a: Side, b: Side, primary: str = "accuracy") -> Comparison:
    return compare.compare("test", examples, a, b, METRICS, primary)


# Metrics


def test_a_metric_has_both_sides_and_the_paired_difference(
    make_split: Callable[..., Split], side: Callable[..., Side]
) -> None:
    examples = make_split(100).examples
    a = side("a", examples, [scored(examples, [i >= 10 for i in range(100)])])
    b = side("b", examples, [scored(examples, [i >= 30 for i in range(100)])])
    accuracy, f1, log_loss = run(examples, a, b).metrics
    assert (accuracy.a.value, accuracy.b.value) == (0.9, 0.7)
    assert (accuracy.a.ci_low, accuracy.a.ci_high) == inference.wilson(90, 100)
    assert accuracy.difference is not None
    assert accuracy.difference.value == pytest.approx(0.2)
    assert 0.1 < accuracy.difference.ci_low < 0.2 < accuracy.difference.ci_high < 0.3
    assert accuracy.difference.p_value == inference.mcnemar(20, 0)
    assert (f1.name, f1.higher_is_better) == ("f1", True)
    assert (log_loss.name, log_loss.higher_is_better) == ("log_loss", False)
    assert log_loss.difference is not None
    assert log_loss.difference.ci_high < 0


def test_a_metric_that_is_undefined_for_a_side_has_no_difference(
    make_split: Callable[..., Split], side: Callable[..., Side]
) -> None:
    examples = make_split(20, labels=[0] * 20).examples
    a, b = side("a", examples, [[0.1] * 20]), side("b", examples, [[0.9] * 20])
    _, f1, _ = run(examples, a, b).metrics
    assert (f1.a.value, f1.b.value, f1.difference) == (None, 0.0, None)


def test_one_cluster_gives_values_without_differences(
    make_split: Callable[..., Split], side: Callable[..., Side]
) -> None:
    examples = make_split(20, clusters=["c"] * 20).examples
    a, b = side("a", examples, [[0.6] * 20]), side("b", examples, [[0.4] * 20])
    found = run(examples, a, b)
    assert (found.n, found.n_clusters) == (20, 1)
    assert (found.metrics[0].a.value, found.metrics[0].difference) == (0.5, None)
    assert {pair.difference for pair in found.slices} == {None}


# The other way round


@settings(max_examples=3)
@given(seed=st.integers(0, 10**6), n_a=st.integers(1, 3), n_b=st.integers(1, 2), clustered=st.booleans())
def test_the_other_way_round_is_the_exact_negation(
    seed: int,
    n_a: int,
    n_b: int,
    clustered: bool,
    make_split: Callable[..., Split],
    side: Callable[..., Side],
) -> None:
    generator = np.random.default_rng(seed)
    names = [f"c{i // 3}" for i in range(45)] if clustered else None
    examples = make_split(45, labels=generator.integers(0, 2, 45).tolist(), clusters=names).examples
    a = side("a", examples, generator.random((n_a, 45)), tuple(range(n_a)))
    b = side("b", examples, generator.random((n_b, 45)), tuple(range(n_b)))
    one, other = run(examples, a, b), run(examples, b, a)
    for metric, turned in zip(one.metrics, other.metrics, strict=True):
        assert (metric.a, metric.b) == (turned.b, turned.a)
        assert metric.difference == (turned.difference and turned.difference.turned)
    assert one.slices == tuple(
        replace(pair, a=pair.b, b=pair.a, difference=pair.difference and pair.difference.turned)
        for pair in other.slices
    )
    assert (one.only_a_right, one.undecided) == (_swapped(other.only_b_right), other.undecided)
    assert one.only_b_right == _swapped(other.only_a_right)
    assert (one.calibration_a, one.calibration_b) == (other.calibration_b, other.calibration_a)
    tests = {(t.seed_a, t.seed_b): (t.only_a, t.only_b, t.p_value, t.p_adjusted) for t in one.tests}
    assert tests == {(t.seed_b, t.seed_a): (t.only_b, t.only_a, t.p_value, t.p_adjusted) for t in other.tests}


def _swapped(flips: Sequence[compare.Flip]) -> tuple[compare.Flip, ...]:
    return tuple(
        replace(flip, score_a=flip.score_b, score_b=flip.score_a, votes_a=flip.votes_b, votes_b=flip.votes_a)
        for flip in flips
    )


def test_the_same_runs_give_the_same_numbers_and_the_same_examples_the_same_draws(
    make_split: Callable[..., Split], side: Callable[..., Side]
) -> None:
    examples = make_split(60).examples
    generator = np.random.default_rng(1)
    scores = generator.random((2, 60))
    a, b = side("a", examples, scores[:1]), side("b", examples, scores[1:])
    assert run(examples, a, b) == run(examples, a, b)
    moved = run(examples, replace(a, run_keys=("f" * 32,)), b)
    here, there = run(examples, a, b).metrics[2].difference, moved.metrics[2].difference
    assert here is not None
    assert there is not None
    assert here == there, "with one run a side there are no seeds to draw, and the examples are the same"
    assert run(examples, a, b).metrics[2].a != moved.metrics[2].a


def test_a_comparison_needs_the_examples_of_its_outcomes(
    make_split: Callable[..., Split], side: Callable[..., Side]
) -> None:
    examples = make_split(20).examples
    a, b = side("a", examples, [[0.6] * 20]), side("b", examples, [[0.4] * 20])
    with pytest.raises(ValueError, match="in the same order"):
        run(examples[::-1], a, b)
    with pytest.raises(ValueError, match="the same examples"):
        run(examples, a, side("b", examples[::-1], [[0.4] * 20]))


# Tests of pairs of runs


@pytest.mark.parametrize(
    ("of_a", "of_b", "pairs"),
    [
        ((None,), (None,), [(None, None)]),
        ((13, 42, 87), (None,), [(13, None), (42, None), (87, None)]),
        ((None,), (1, 2), [(None, 1), (None, 2)]),
        ((1, 2), (2, 1), [(1, 1), (2, 2)]),
        ((13, 42), (13,), [(13, 13), (42, 13)]),
        ((1, 2), (3, 4), [(1, 3), (1, 4), (2, 3), (2, 4)]),
    ],
)
def test_runs_are_tested_seed_by_seed_or_all_with_all(
    of_a: Seeds,
    of_b: Seeds,
    pairs: list[tuple[int | None, int | None]],
    make_split: Callable[..., Split],
    side: Callable[..., Side],
) -> None:
    examples = make_split(40).examples
    generator = np.random.default_rng(0)
    a = side("a", examples, generator.random((len(of_a), 40)), of_a)
    b = side("b", examples, generator.random((len(of_b), 40)), of_b)
    assert [(test.seed_a, test.seed_b) for test in compare.run_tests(a, b)] == pairs


def test_the_tests_of_runs_are_mcnemars_and_holm_corrects_them(
    make_split: Callable[..., Split], side: Callable[..., Side]
) -> None:
    examples = make_split(200).examples
    generator = np.random.default_rng(3)
    of_a = [scored(examples, generator.random(200) < share) for share in (0.9, 0.8, 0.75)]
    of_b = scored(examples, generator.random(200) < 0.7)
    tests = compare.run_tests(side("a", examples, of_a, (1, 2, 3)), side("b", examples, [of_b]))
    for test, scores in zip(tests, of_a, strict=True):
        right = [((x > 0.5) == e.label, (y > 0.5) == e.label) for x, y, e in zip(scores, of_b, examples, strict=True)]
        assert (test.only_a, test.only_b) == (right.count((True, False)), right.count((False, True)))
        assert test.p_value == inference.mcnemar(test.only_a, test.only_b)
    adjusted = multipletests([test.p_value for test in tests], method="holm")[1]
    assert [test.p_adjusted for test in tests] == pytest.approx(adjusted)
    assert any(test.p_adjusted > test.p_value for test in tests)


# Flips


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 30), n_a=st.integers(1, 4), n_b=st.integers(1, 3))
def test_flips_are_what_counting_finds(
    seed: int, n: int, n_a: int, n_b: int, make_outcomes: Callable[..., Outcomes]
) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, n).tolist()
    a = [make_outcomes(labels, generator.integers(0, 11, n) / 10) for _ in range(n_a)]
    b = [make_outcomes(labels, generator.integers(0, 11, n) / 10) for _ in range(n_b)]
    only_a, only_b, undecided = compare.flips(a, b)
    expected_a, expected_b, ties = set(), set(), 0
    for i, label in enumerate(labels):
        wins_a = 2 * sum(int(side.predicted[i]) == label for side in a) - n_a
        wins_b = 2 * sum(int(side.predicted[i]) == label for side in b) - n_b
        ties += wins_a * wins_b == 0
        if wins_a > 0 > wins_b:
            expected_a.add(a[0].example_ids[i])
        if wins_b > 0 > wins_a:
            expected_b.add(a[0].example_ids[i])
    assert ({flip.example_id for flip in only_a}, {flip.example_id for flip in only_b}) == (expected_a, expected_b)
    assert undecided == ties
    for flip in (*only_a, *only_b):
        i = a[0].example_ids.index(flip.example_id)
        assert flip.label == labels[i]
        assert flip.votes_a == tuple(int(one.predicted[i]) for one in a)
        assert flip.score_b == pytest.approx(np.mean([one.scores[i] for one in b]))
    for flips in (only_a, only_b):
        distances = [abs(flip.score_a - flip.score_b) for flip in flips]
        assert distances == sorted(distances, reverse=True)


def test_an_example_that_half_of_the_seeds_get_right_is_counted_and_on_no_list(
    make_outcomes: Callable[..., Outcomes],
) -> None:
    first, second = make_outcomes([1, 1, 1], [0.9, 0.9, 0.1]), make_outcomes([1, 1, 1], [0.8, 0.1, 0.1])
    only_a, only_b, undecided = compare.flips([first, second], [make_outcomes([1, 1, 1], [0.2, 0.2, 0.7])])
    assert [flip.example_id for flip in only_a] == [first.example_ids[0]]
    assert [flip.example_id for flip in only_b] == [first.example_ids[2]]
    assert undecided == 1
    assert only_a[0].votes_a == (1, 1)
    assert only_a[0].score_a == pytest.approx(0.85)


# Slices


def worded(examples: Sequence[Example], negated: Sequence[bool]) -> tuple[Example, ...]:
    """The examples, some of them with a negation."""
    return tuple(
        replace(example, content="it does not work" if no else "it does work well")
        for example, no in zip(examples, negated, strict=True)
    )


def test_a_slice_in_which_one_side_is_worse_is_found_and_stands_first(
    make_split: Callable[..., Split], side: Callable[..., Side]
) -> None:
    negated = [i % 4 < 2 for i in range(400)]
    examples = worded(make_split(400).examples, negated)
    generator = np.random.default_rng(0)
    base = generator.random(400) < 0.9
    blind = base & ~(np.array(negated) & (generator.random(400) < 0.5))
    found = run(examples, side("a", examples, [scored(examples, base)]), side("b", examples, [scored(examples, blind)]))
    by_name = {pair.name: pair for pair in found.slices}
    present, absent = by_name["negation=present"], by_name["negation=absent"]
    assert (present.n, absent.n) == (200, 200)
    assert present.differs
    assert not absent.differs
    assert absent.difference is not None
    assert absent.difference.value == 0
    assert [pair.differs for pair in found.slices] == sorted((pair.differs for pair in found.slices), reverse=True)
    assert found.slices[-1].name == "negation=absent"
    chosen = np.array(negated)
    expected = metrics.value(
        "accuracy", metrics.subset(side("a", examples, [scored(examples, base)]).outcomes[0], chosen)
    )
    assert present.a == pytest.approx(expected)


def test_the_p_values_of_slices_are_corrected_over_the_split(
    make_split: Callable[..., Split], side: Callable[..., Side]
) -> None:
    examples = worded(make_split(200).examples, [i % 3 == 0 for i in range(200)])
    generator = np.random.default_rng(2)
    a = side("a", examples, [scored(examples, generator.random(200) < 0.9)])
    b = side("b", examples, [scored(examples, generator.random(200) < 0.8)])
    pairs = run(examples, a, b).slices
    p_values = [pair.difference.p_value for pair in pairs if pair.difference is not None]
    assert len(p_values) == len(pairs)
    assert [pair.p_adjusted for pair in pairs] == pytest.approx(multipletests(p_values, method="fdr_bh")[1])


def test_a_slice_of_too_few_examples_or_one_cluster_is_only_counted(
    make_split: Callable[..., Split], side: Callable[..., Side]
) -> None:
    clusters = ["c0" if i < 30 else f"c{i}" for i in range(60)]
    columns = [{"shop": "one" if i < 30 else "small" if i < 39 else "big"} for i in range(60)]
    examples = tuple(
        replace(example, columns=of_example)
        for example, of_example in zip(make_split(60, clusters=clusters).examples, columns, strict=True)
    )
    generator = np.random.default_rng(2)
    a, b = (side(name, examples, generator.random((1, 60))) for name in "ab")
    pairs = {pair.name: pair for pair in run(examples, a, b).slices}
    for name, n in {"shop=one": 30, "shop=small": 9}.items():
        nothing = (n, None, None, None, None, False)
        pair = pairs[name]
        assert (pair.n, pair.a, pair.b, pair.difference, pair.p_adjusted, pair.differs) == nothing
    assert pairs["shop=big"].n == 21
    assert pairs["shop=big"].difference is not None


def test_models_that_are_equally_good_seldom_differ_in_any_slice(
    make_split: Callable[..., Split], side: Callable[..., Side]
) -> None:
    examples = worded(make_split(120).examples, [i % 3 == 0 for i in range(120)])
    generator = np.random.default_rng(11)
    false_alarms = 0
    for _ in range(6):
        a, b = (side(name, examples, [scored(examples, generator.random(120) < 0.8)]) for name in "ab")
        false_alarms += any(pair.differs for pair in run(examples, a, b).slices)
    assert false_alarms <= 1


def test_slices_are_compared_by_the_primary_metric(make_split: Callable[..., Split], side: Callable[..., Side]) -> None:
    examples = make_split(60).examples
    a = side("a", examples, [scored(examples, [True] * 60, sure=0.9)])
    b = side("b", examples, [scored(examples, [True] * 60, sure=0.6)])
    assert not any(pair.differs for pair in run(examples, a, b).slices)
    by_loss = run(examples, a, b, primary="log_loss")
    assert by_loss.primary_metric == "log_loss"
    assert by_loss.slices[0].a == pytest.approx(-np.log(0.9))


# Calibration


def test_calibration_stands_side_by_side(make_split: Callable[..., Split], side: Callable[..., Side]) -> None:
    examples = make_split(60).examples
    a, b = (side(name, examples, np.random.default_rng(i).random((1, 60))) for i, name in enumerate("ab"))
    found = run(examples, a, b)
    assert found.calibration_a == calibration.of(a.outcomes, a.run_keys)
    assert found.calibration_b == calibration.of(b.outcomes, b.run_keys)
    assert found.calibration_a.ece == estimates.summarise("ece", a.outcomes, estimates.generator_for(a.run_keys))
