"""`harness plan` as people call it: with a store, with guesses, with neither."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
GATES = """
[[metric]]
name = "recall"

[[metric]]
name = "brier"

[[gate]]
model = "majority"
split = "test"
metric = "accuracy"
min = 0.3
non_inferior_to = { model = "tfidf", margin = 0.1 }
on_inconclusive = "fail"

[[gate]]
model = "majority"
split = "test"
metric = "recall"
max = 0.5
min_throughput = { model = "tfidf", ratio = 0.001 }
on_inconclusive = "fail"

[[gate]]
model = "tfidf"
split = "test"
metric = "brier"
max = 0.2
on_inconclusive = "fail"
"""


@pytest.fixture
def gated(suite_path: Path) -> Path:
    """The made-up suite with five rules about two models."""
    suite_path.write_text(suite_path.read_text().split("[[gate]]")[0] + GATES)
    return suite_path


def test_with_a_store_the_truth_the_spread_and_the_speed_are_those_of_its_runs(harness: Command, gated: Path) -> None:
    evaluated = harness("evaluate", gated, "--model", "tfidf", "--model", "majority", "--workers", "1")
    assert evaluated.code == 0, evaluated.err
    result = harness("plan", gated, "--json")
    assert result.code == 0, result.err
    bound, difference, recall, speed, brier = result.json()
    by_rule = {verdict["gate_id"]: verdict for verdict in harness("gate", gated, "--json").json()}
    for need in (bound, difference, brier):
        judged = by_rule[need["rule"]]["numbers"]
        assert (need["supposed"], need["n"], need["source"]) == (judged["value"], judged["n"], "stored")
        assert need["clusters"] == 16
        assert need["needed"] > 0
        assert need["seconds"] > 0
    assert recall["decidable"] == "unknown"
    assert (speed["decidable"], speed["needed"]) == ("measured", None)
    shown = harness("plan", gated)
    assert shown.code == 0
    assert "made-up: examples that its gates need" in shown.out
    assert f"{bound['needed']:,}" in shown.out
    assert "needs no examples: it is measured, not sampled" in shown.out


def test_without_a_store_guesses_are_enough_for_accuracy(harness: Command, gated: Path, tmp_path: Path) -> None:
    result = harness("plan", gated, "--value", "0.4", "--difference", "0.0", "--disagreement", "0.4", "--json")
    assert result.code == 0, result.err
    bound, difference, recall, _, brier = result.json()
    assert (bound["supposed"], difference["supposed"]) == (0.4, 0.0)
    assert {bound["source"], difference["source"]} == {"guessed"}
    assert bound["decidable"] == difference["decidable"] == "no"
    assert bound["seconds"] is None
    assert "the design effect of 16 clusters is unknown" in bound["note"]
    assert recall["decidable"] == brier["decidable"] == "unknown"
    assert not (tmp_path / "runs" / "harness.duckdb").exists()
    shown = harness("plan", gated, "--value", "0.4")
    assert f"no: needs {bound['needed']:,}" in shown.out
    assert "or state an assumption: --difference and --disagreement" in shown.out


def test_more_power_needs_more_examples(harness: Command, gated: Path) -> None:
    sizes = [
        harness("plan", gated, "--value", "0.4", "--power", power, "--json").json()[0]["needed"]
        for power in ("0.6", "0.8", "0.95")
    ]
    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "there is no store to learn from; run `harness evaluate"),
        (["--value", "1.5"], "--value 1.5: an accuracy must be above 0 and below 1"),
        (["--difference", "0.3", "--disagreement", "0.2"], "a difference of 0.3 is impossible if two sides disagree"),
        (["--value", "0.9", "--power", "1"], "--power 1: a probability must be at least 0.5 and below 1"),
    ],
)
def test_what_cannot_be_planned_ends_with_2_and_one_message(
    harness: Command, gated: Path, words: list[str], said: str
) -> None:
    result = harness("plan", gated, *words)
    assert (result.code, result.out) == (2, "")
    assert said in result.err
    assert "Traceback" not in result.err


def test_a_suite_without_gates_has_nothing_to_plan(harness: Command, suite_path: Path) -> None:
    suite_path.write_text(suite_path.read_text().split("[[gate]]")[0])
    result = harness("plan", suite_path, "--value", "0.9")
    assert result.code == 2
    assert "the suite declares no gates" in result.err
