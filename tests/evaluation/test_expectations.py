"""What a suite's authors expect is noted before the runs that answer it, and judged like a gate that blocks nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.evaluation.inputs import Workspace
from harness.gates.service import Judged, judge_stored
from harness.store.connection import opened
from harness.suite.load import load
from harness.suite.schema import Suite

Command = Callable[..., Any]
EXPECT = """
[[expect]]
model = "tfidf"
split = "test"
metric = "accuracy"
superior_to = { model = "majority", margin = 0.1 }

[[expect]]
model = "majority"
split = "test"
metric = "accuracy"
min = 0.9

[[expect]]
model = "tiny+lora"
split = "test"
metric = "accuracy"
min = 0.9
"""


@pytest.fixture
def workspace(suite_path: Path, tmp_path: Path) -> Workspace:
    return Workspace(suite_path, tmp_path / "runs" / "harness.duckdb")


@pytest.fixture
def judged(harness: Command, workspace: Workspace) -> Callable[[], Judged]:
    """Evaluate the two cheap models, and judge."""

    def evaluate_and_judge() -> Judged:
        only = ("--model", "tfidf", "--model", "majority", "--workers", "1")
        assert harness("evaluate", workspace.suite_path, *only).code == 0
        return judge_stored(load(workspace.suite_path), workspace)

    return evaluate_and_judge


def test_expectations_are_confirmed_refuted_or_undecided(judged: Callable[[], Judged], suite_path: Path) -> None:
    suite_path.write_text(suite_path.read_text() + EXPECT)
    found = judged()
    assert [(expected.rule, expected.answer) for expected in found.expected] == [
        ("tfidf on test: accuracy better than majority by more than 0.1", "confirmed"),
        ("majority on test: accuracy >= 0.9", "refuted"),
        ("tiny+lora on test: accuracy >= 0.9", "undecided"),
    ]
    assert [expected.stated_first for expected in found.expected] == [True, True, None]
    assert "has not been trained yet" in found.expected[2].reason
    assert found.expected[2].numbers == {}
    assert found.passed, "an expectation that is refuted is a finding, not a failure"
    assert len(found.verdicts) == 1


def test_an_expectation_that_was_written_after_the_run_says_so(judged: Callable[[], Judged], suite_path: Path) -> None:
    judged()
    suite_path.write_text(suite_path.read_text() + EXPECT)
    late = judged()
    assert [expected.stated_first for expected in late.expected[:2]] == [False, False]
    assert [expected.answer for expected in late.expected[:2]] == ["confirmed", "refuted"]


def test_the_first_time_counts_and_another_margin_is_another_expectation(
    judged: Callable[[], Judged], suite_path: Path, workspace: Workspace
) -> None:
    suite_path.write_text(suite_path.read_text() + EXPECT)
    first = judged().expected[0].first_seen_at
    assert judged().expected[0].first_seen_at == first
    suite_path.write_text(suite_path.read_text().replace("margin = 0.1", "margin = 0.2"))
    changed = judged().expected[0]
    assert changed.first_seen_at is not None
    assert first is not None
    assert changed.first_seen_at > first
    assert changed.stated_first is False
    with opened(workspace.db, read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM expectation").fetchall() == [(4,)]


def test_expectations_of_other_rows_are_others(judged: Callable[[], Judged], suite_path: Path) -> None:
    suite_path.write_text(suite_path.read_text() + EXPECT)
    first = judged().expected[0].first_seen_at
    suite_path.write_text(suite_path.read_text().replace("start = 0.6, stop = 1.0", "start = 0.6, stop = 0.95"))
    again = judged().expected[0]
    assert again.first_seen_at != first
    assert again.stated_first is True


def test_a_suite_without_expectations_has_none(judged: Callable[[], Judged], suite_path: Path) -> None:
    suite: Suite = load(suite_path)
    assert suite.expect == ()
    assert judged().expected == ()


def test_the_command_shows_expectations_beside_the_gates(
    harness: Command, judged: Callable[[], Judged], suite_path: Path
) -> None:
    suite_path.write_text(suite_path.read_text() + EXPECT)
    judged()
    result = harness("gate", suite_path)
    assert result.code == 0
    assert "made-up: expectations" in result.out
    for expected in ("confirmed", "refuted", "undecided", "before the runs"):
        assert expected in result.out
