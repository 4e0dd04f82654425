"""`harness site` on a real evaluation: expectations with when they were stated, looks, and the audit."""

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

Command = Callable[..., Any]

EXPECT = '\n[[expect]]\nmodel = "tfidf"\nsplit = "test"\nmetric = "accuracy"\n'


@pytest.fixture
def shown(harness: Command, tmp_path: Path) -> Callable[[Path], str]:
    """What can be read on the index page of a suite."""

    def text(suite_path: Path) -> str:
        done = harness("site", suite_path, "--out", tmp_path / "site")
        assert done.code == 0, done.err
        page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
        return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())

    return text


def evaluate(harness: Command, suite_path: Path) -> None:
    assert harness("evaluate", suite_path, "--model", "tfidf", "--model", "majority", "--workers", "1").code == 0


def test_the_board_tells_expectations_of_before_the_runs_from_later_ones(
    harness: Command, suite_path: Path, shown: Callable[[Path], str]
) -> None:
    declared = suite_path.read_text() + EXPECT + "min = 0.1\n"
    suite_path.write_text(declared)
    evaluate(harness, suite_path)
    assert re.search(r"✓ confirmed accuracy >= 0\.1 stated first on \d{4}-", shown(suite_path))

    declared += EXPECT + "max = 0.2\n"
    suite_path.write_text(declared)
    assert "✗ refuted accuracy <= 0.2 not recorded in this store yet" in shown(suite_path)
    evaluate(harness, suite_path)
    assert re.search(r"✗ refuted accuracy <= 0\.2 stated after the run, on \d{4}-", shown(suite_path))
    assert re.search(r"accuracy >= 0\.1 stated first on \d{4}-", shown(suite_path))

    declared += EXPECT.replace("tfidf", "tiny+lora") + "min = 0.5\n"
    declared += EXPECT + 'superior_to = { baseline = "main", margin = 0.0 }\n'
    suite_path.write_text(declared)
    text = shown(suite_path)
    assert "authors: 1 confirmed, 1 refuted, 2 undecided." in text
    assert re.search(r"tiny\+lora on test \? undecided accuracy >= 0\.5 .*? has not been trained yet", text)
    assert re.search(r"\? undecided accuracy better than baseline main .*?no baseline 'main'", text)


def test_the_board_counts_looks_and_shows_the_audit_of_this_suite_file(
    harness: Command, suite_path: Path, shown: Callable[[Path], str]
) -> None:
    evaluate(harness, suite_path)
    before = shown(suite_path)
    assert "Looks 2 configurations have been scored on these rows in this store" in before
    found = r"Positive \d+\.\d % \d+ of \d+ rows Repeated \d+ equal, \d+ rewritten, \d+ nearly equal"
    assert re.search(found, before), "evaluate audits"
    suite_path.write_text(suite_path.read_text().replace("C = 10.0", "C = 0.5"))
    assert "Audit not audited" in shown(suite_path), "that audit was of another suite file"
    evaluate(harness, suite_path)
    after = shown(suite_path)
    assert "Looks 3 configurations" in after, "the former C was a look as well"
    assert re.search(found, after)
    assert re.search(r"Also in train 0 equal, 0 rewritten, \d+ nearly equal .* Truncated at 32 tokens 0\.0 %", after)


def test_a_suite_without_expectations_has_no_part_about_them(
    harness: Command, suite_path: Path, shown: Callable[[Path], str]
) -> None:
    evaluate(harness, suite_path)
    assert "Expectations" not in shown(suite_path)
