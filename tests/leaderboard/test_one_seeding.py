"""A number has one interval, wherever it is shown: gates, board and comparison draw alike."""

from typing import TYPE_CHECKING

import pytest

from harness.gates import compare, judge
from harness.records import Evidence
from harness.store import reader
from harness.suite.rules import Bound, Comparison, Drop, Flips, OtherModel, Rule
from leaderboard.pages import matrix

if TYPE_CHECKING:
    from leaderboard.board.records import Board
    from tests.leaderboard.conftest import Bench

LORA = "tiny+lora"


@pytest.fixture(scope="module")
def evidence(filled: "Bench") -> Evidence:
    runs = [*reader.latest_runs(filled.connection, filled.run_keys).values()]
    outcomes = reader.outcomes_of_runs(filled.connection, [run.run_id for run in runs])
    places = {(run.model_id, run.split_id) for run in runs}
    ordered = {
        place: tuple(
            sorted(
                (r for r in runs if (r.model_id, r.split_id) == place), key=lambda run: (run.seed is not None, run.seed)
            )
        )
        for place in places
    }
    of_runs = {place: tuple(outcomes[run.run_id] for run in many) for place, many in ordered.items()}
    return Evidence(of_runs, ordered, {}, {}, filled.examples, {})


def decided(evidence: Evidence, rule: Rule) -> tuple[float, float, float]:
    numbers = judge.decide(rule, evidence).numbers
    return numbers["value"], numbers["ci_low"], numbers["ci_high"]


def test_a_drop_is_the_boards(evidence: Evidence, board: "Board") -> None:
    rule = Drop("x", "max_drop_out_of_domain", LORA, "test", 0.5, False, "accuracy", "elsewhere")
    here, there = board.entries_of(LORA)
    assert decided(evidence, rule) == matrix.drop(here.primary, there.primary)


@pytest.mark.parametrize("split", ["test", "elsewhere"])
def test_a_bound_is_the_boards(split: str, evidence: Evidence, board: "Board") -> None:
    (metric,) = [one.primary for one in board.entries_of(LORA) if one.split_id == split]
    assert metric is not None
    found = decided(evidence, Bound("y", "min", LORA, split, 0.1, False, "accuracy"))
    assert found == (metric.value, metric.ci_low, metric.ci_high)


@pytest.mark.parametrize("split", ["test", "elsewhere"])
def test_a_difference_is_the_comparisons(split: str, evidence: Evidence, filled: "Bench") -> None:
    a, b = (compare.side(evidence, model, split) for model in ("tfidf", LORA))
    pair = compare.compare(split, filled.examples[split], a, b, ["accuracy"], "accuracy").metrics[0].difference
    assert pair is not None
    rule = Comparison("z", "non_inferior_to", "tfidf", split, 0.9, False, OtherModel(LORA), "accuracy")
    assert decided(evidence, rule) == pytest.approx((pair.value, pair.ci_low, pair.ci_high), abs=1e-12)


def test_two_rules_about_one_number_show_one_interval(evidence: Evidence) -> None:
    """Their words differ, and nothing is seeded by words."""
    rules = [
        Drop(words, "max_drop_out_of_domain", LORA, "test", limit, False, "f1", "elsewhere")
        for words, limit in (("a", 0.5), ("another", 0.6))
    ]
    assert decided(evidence, rules[0]) == decided(evidence, rules[1])
    flips = [
        Flips(words, "max_flips", LORA, "elsewhere", limit, False, OtherModel("tfidf"))
        for words, limit in (("a", 0.5), ("b", 0.6))
    ]
    assert decided(evidence, flips[0]) == decided(evidence, flips[1])
