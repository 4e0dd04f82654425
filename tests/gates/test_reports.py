"""What a judging came to, as JUnit XML and as Markdown: read back by parsers that are not ours."""

import re
import resource
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from junitparser import JUnitXml
from markdown_it import MarkdownIt

from harness.errors import UsageError
from harness.gates import reports
from harness.gates.judge import judge
from harness.gates.service import Judged
from harness.records import Evidence, Example, Expected, Outcomes
from harness.store.connection import opened
from harness.suite.load import load
from harness.suite.schema import Suite

Command = Callable[..., Any]
Make = Callable[..., Outcomes]
NOW = datetime(2025, 1, 1)  # noqa: DTZ001 (the store keeps UTC without a zone)
RULES = """
[[gate]]
model = "tfidf"
split = "test"
metric = "accuracy"
min = 0.6
on_inconclusive = "fail"

[[gate]]
model = "tfidf"
split = "test"
metric = "accuracy"
min = 0.8
on_inconclusive = "warn"

[[gate]]
model = "tfidf"
split = "test"
metric = "accuracy"
superior_to = { model = "majority", margin = 0.1 }
on_inconclusive = "fail"

[[gate]]
model = "tfidf"
split = "test"
metric = "accuracy"
max = 0.79
on_inconclusive = "fail"

[[gate]]
model = "probe"
split = "test"
metric = "accuracy"
min = 0.1
on_inconclusive = "warn"
"""
NASTY = (
    "first line\nsecond | cell <img src=x onerror=alert(1)> [link](https://example.org) @team #12 `code` *bold* \\| "
    * 3
)


@pytest.fixture
def suite(suite_path: Path) -> Suite:
    """The made-up suite with a rule for each outcome."""
    suite_path.write_text(suite_path.read_text().split("[[gate]]")[0] + RULES)
    return load(suite_path)


@pytest.fixture
def judged(suite: Suite, make_outcomes: Make) -> Judged:
    """tfidf is wrong on every fifth of 400 examples, ever more surely; majority on every fourth; probe is missing."""
    labels = [i % 2 for i in range(400)]

    def scores(every: int, sure: float) -> list[float]:
        wrong = [i % every == every - 1 for i in range(400)]
        surely = [sure + 0.0001 * i if bad else 0.9 for i, bad in enumerate(wrong)]
        return [p if (label == 1) != bad else 1 - p for p, label, bad in zip(surely, labels, wrong, strict=True)]

    tfidf, majority = (make_outcomes(labels, scores(every, sure)) for every, sure in ((5, 0.9), (4, 0.8)))
    examples = tuple(
        Example(example_id, f"Title {i}", NASTY if i == 394 else f"Text {i}", labels[i], None, "")
        for i, example_id in enumerate(tfidf.example_ids)
    )
    found = Evidence(
        outcomes={("tfidf", "test"): (tfidf,), ("majority", "test"): (majority,)},
        runs={},
        missing={("probe", "test"): "probe on test has no run in the store; evaluate the suite first"},
        adapters={},
        examples={"test": examples},
        baselines={},
    )
    return Judged(tuple(judge(suite, found, NOW)), (), found)


OUTCOMES = ["pass", "inconclusive", "inconclusive", "inconclusive", "fail"]


def test_the_rules_here_have_every_outcome(judged: Judged) -> None:
    assert [verdict.outcome for verdict in judged.verdicts] == OUTCOMES
    assert [verdict.blocking for verdict in judged.verdicts] == [False, False, True, True, True]


# JUnit


def test_junit_has_a_case_for_each_rule_with_its_numbers(suite: Suite, judged: Judged) -> None:
    (found,) = JUnitXml.fromstring(reports.junit(suite, judged))
    assert (found.name, found.tests, found.failures, found.skipped, found.errors) == ("made-up", 5, 3, 1, 0)
    root = ET.fromstring(reports.junit(suite, judged))
    assert root.tag == "testsuites"
    cases = root.findall("testsuite/testcase")
    assert [(case.get("name"), case.get("classname")) for case in cases] == [
        (verdict.gate_id, "made-up") for verdict in judged.verdicts
    ]
    for case, verdict in zip(cases, judged.verdicts, strict=True):
        stated = {p.get("name"): p.get("value") for p in case.findall("properties/property")}
        assert stated == {"outcome": verdict.outcome} | {
            name: str(value) for name, value in verdict.numbers.items() if value is not None
        }


def test_in_junit_only_what_blocks_fails_and_a_warning_is_skipped_with_its_reason(suite: Suite, judged: Judged) -> None:
    cases = ET.fromstring(reports.junit(suite, judged)).findall("testsuite/testcase")
    results = [[(child.tag, child.get("type"), child.get("message")) for child in case if child.tag != "properties"]
               for case in cases]  # fmt: skip
    reasons = [verdict.reason for verdict in judged.verdicts]
    assert results == [
        [],
        [("skipped", None, f"inconclusive: {reasons[1]}")],
        [("failure", "inconclusive", f"inconclusive: {reasons[2]}")],
        [("failure", "inconclusive", f"inconclusive: {reasons[3]}")],
        [("failure", "fail", reasons[4])],
    ]
    assert "value: 0.8" in (cases[3][1].text or "")


@given(st.text())
def test_any_text_can_stand_in_xml_and_keeps_what_xml_can_hold(text: str) -> None:
    clean = reports.xml_text(text)
    element = ET.Element("a", text=clean)
    assert ET.fromstring(ET.tostring(element)).get("text") == clean
    assert [*filter(str.isprintable, text)] == [*filter(str.isprintable, re.sub(r"<U\+[0-9A-F]+>", "", clean))]


def test_a_number_that_does_not_exist_is_no_property(suite: Suite, judged: Judged) -> None:
    _, second, *_ = judged.verdicts
    undecided = replace(second, numbers={"value": 0.8, "more_examples": None})
    root = ET.fromstring(reports.junit(suite, replace(judged, verdicts=(undecided,))))
    assert [found.get("name") for found in root.iter("property")] == ["outcome", "value"]


def test_control_characters_in_a_reason_do_not_break_the_xml(suite: Suite, judged: Judged) -> None:
    first, *others = judged.verdicts
    odd = replace(
        first, outcome="fail", blocking=True, reason="bell \x07, null \x00, half \ud800 <&>", gate_id="a\x1bb"
    )
    root = ET.fromstring(reports.junit(suite, replace(judged, verdicts=(odd, *others))))
    case = root.find("testsuite/testcase")
    assert case is not None
    assert case.get("name") == "a<U+001B>b"
    failure = case.find("failure")
    assert failure is not None
    assert failure.get("message") == "bell <U+0007>, null <U+0000>, half <U+D800> <&>"


def test_a_disk_that_is_full_leaves_reports_as_they_were(suite: Suite, judged: Judged, tmp_path: Path) -> None:
    """No file may grow beyond 200 bytes, for a moment."""
    xml, markdown = tmp_path / "gates.xml", tmp_path / "gates.md"
    xml.write_text("before")
    markdown.write_text("before\n")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for write, path in ((reports.write_junit, xml), (reports.append_summary, markdown)):
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
        try:
            with pytest.raises(UsageError, match=f"{path}: cannot be written .File too large.; make room there"):
                write(path, suite, judged)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (xml.read_text(), markdown.read_text()) == ("before", "before\n")
    assert not list(tmp_path.glob(".*"))


# Markdown


class Tables(HTMLParser):
    """Rows of cells of the tables in a page, its elements and its words."""

    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.words = ""
        self.inside = False
        # `html` as on GitHub: what is not escaped becomes markup.
        self.feed(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown))

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.words += data
        if self.inside:
            self.rows[-1][-1] += data


def test_the_summary_has_a_headline_and_a_row_for_each_rule(suite: Suite, judged: Judged) -> None:
    text = reports.summary(suite, judged)
    assert text.splitlines()[0] == "## made-up: 1 passed, 1 failed, 3 inconclusive"
    page = Tables(text)
    rows = page.rows
    assert rows[0] == ["rule", "value or difference", "95 % interval", "n", "limit", "outcome"]
    assert [row[0] for row in rows[1:6]] == [verdict.gate_id for verdict in judged.verdicts]
    assert rows[1][1:] == ["0.800", "[0.758, 0.836]", "400", "0.6", "pass"]
    assert rows[2][5] == "inconclusive (warning)"
    assert rows[3][1:] == ["+0.050", rows[3][2], "400", "0.1", "inconclusive"]
    assert rows[3][2].startswith("[-0.")
    assert rows[5][1:] == ["–", "–", "–", "–", "fail"]
    for verdict in judged.verdicts:
        assert (verdict.reason in page.words) == (verdict.outcome != "pass")


def test_the_summary_shows_the_ten_surest_of_the_answers_that_flipped(suite: Suite, judged: Judged) -> None:
    rows = Tables(reports.summary(suite, judged)).rows
    flips = rows[rows.index(["example", "label", "model", "score", "other side", "its score", "text"]) + 1 :][:10]
    # Every fifth is wrong, surer and surer; of these majority gets wrong too what is also a fourth.
    expected = [i for i in range(400) if i % 5 == 4 and i % 4 != 3][:-11:-1]
    assert [row[0] for row in flips] == [f"{i:032x}" for i in expected]
    last = expected[0]
    assert (last, flips[0][1:6]) == (394, ["negative", "tfidf on test", "0.939", "majority", "0.100"])
    assert flips[1][6] == f"Title {expected[1]} Text {expected[1]}"


def test_the_summary_names_what_lost_and_won_examples_share(suite: Suite, judged: Judged) -> None:
    """Majority is wrong on every fourth, and every second is positive: what tfidf wins is positive, all of it."""
    rows = Tables(reports.summary(suite, judged)).rows
    head = ["model", "other side", "change", "more frequent", "among these", "among the others", "p"]
    shared = rows[rows.index(head) + 1 :]
    assert [row[:6] for row in shared] == [
        ["tfidf on test", "majority", "won", "label=positive", "80 of 80", "80 of 240"]
    ]
    assert 0 < float(shared[0][6]) < 1e-20


def test_the_summary_says_so_where_flips_share_nothing(suite: Suite, judged: Judged) -> None:
    generator = np.random.default_rng(0)
    labels = judged.evidence.outcomes["tfidf", "test"][0].labels
    sides = {}
    for model_id in ("tfidf", "majority"):
        old = judged.evidence.outcomes[model_id, "test"][0]
        right = generator.uniform(size=400) < 0.8
        predicted = np.where(right, labels, 1 - labels)
        sides[model_id, "test"] = (replace(old, predicted=predicted, scores=predicted.astype(np.float64)),)
    page = reports.summary(suite, replace(judged, evidence=replace(judged.evidence, outcomes=sides)))
    assert "Nothing is more frequent among them than chance explains; exact tests of" in page


def test_a_text_cannot_break_out_of_its_cell(suite: Suite, judged: Judged) -> None:
    page = Tables(reports.summary(suite, judged))
    shown = next(row for row in page.rows if row[0] == f"{394:032x}")
    assert shown[6] == f"{' '.join(f'Title 394 {NASTY}'.split())[:159]}…"
    assert page.tags == {"h2", "h3", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "code", "p"}


@given(st.text())
def test_any_text_stays_one_cell_of_one_row_and_reads_as_it_was(text: str) -> None:
    page = Tables(f"| a | b |\n|---|---|\n| {reports.cell(text)} | end |\n")
    assert page.tags <= {"table", "thead", "tbody", "tr", "th", "td"}
    kept = "".join(c for c in " ".join(text.split()) if c.isprintable())
    assert page.rows == [["a", "b"], [kept.strip(), "end"]]


def test_no_text_is_shown_where_the_suite_keeps_none(suite_path: Path, suite: Suite, judged: Judged) -> None:
    suite_path.write_text(suite_path.read_text().replace("store = true", "store = false"))
    page = reports.summary(load(suite_path), judged)
    assert f"{394:032x}" in page
    assert "Text 3" not in page
    assert "text" not in next(row for row in Tables(page).rows if row[0] == "example")


def test_the_summary_has_expectations_where_there_are_some(suite: Suite, judged: Judged) -> None:
    assert "Expect" not in reports.summary(suite, judged)
    expected = Expected("tfidf on test: accuracy >= 0.9", "tfidf", "refuted", "0.800, limit 0.9", {}, NOW, False)
    unseen = Expected("probe on test: accuracy >= 0.9", "probe", "undecided", "probe was not scored", {}, None, None)
    rows = Tables(reports.summary(suite, replace(judged, expected=(expected, unseen)))).rows
    table = rows[rows.index(["expectation", "answer", "stated", "numbers"]) + 1 :][:2]
    assert table == [
        ["tfidf on test: accuracy >= 0.9", "refuted", "after the runs", "0.800, limit 0.9"],
        ["probe on test: accuracy >= 0.9", "undecided", "–", "probe was not scored"],
    ]


# The command


@pytest.fixture
def evaluated(harness: Command, suite_path: Path) -> Path:
    """The made-up suite with one quick model scored."""
    assert harness("evaluate", suite_path, "--model", "tfidf", "--workers", "1").code == 0
    return suite_path


def test_gate_writes_both_files_and_adds_to_the_summary(harness: Command, evaluated: Path, tmp_path: Path) -> None:
    junit, summary = tmp_path / "new" / "deep" / "gates.xml", tmp_path / "summary.md"
    summary.write_text("# What was there\n")
    for times in (1, 2):
        result = harness("gate", evaluated, "--junit", junit, "--summary", summary)
        assert result.code == 0
        assert result.err.splitlines() == [line for line in result.err.splitlines() if "no lock pins" in line]
        (found,) = JUnitXml.fromfile(str(junit))
        assert [case.name for case in found] == ["tfidf on test: accuracy >= 0.5"]
        assert [path.name for path in junit.parent.iterdir()] == ["gates.xml"]
        assert summary.read_text().startswith("# What was there\n\n## made-up: 1 passed")
        assert summary.read_text().count("## made-up: 1 passed, 0 failed, 0 inconclusive") == times


@pytest.mark.parametrize("option", ["--junit", "--summary"])
@pytest.mark.parametrize("place", ["a folder", "under a file"])
def test_a_place_that_cannot_be_written_is_told_before_anything_is_judged(
    harness: Command, evaluated: Path, tmp_path: Path, option: str, place: str
) -> None:
    path = tmp_path if place == "a folder" else evaluated / "gates.xml"
    result = harness("gate", evaluated, option, path)
    assert result.code == 2
    assert f"{path}: cannot be written (" in result.err
    assert "Traceback" not in result.err
    with opened(tmp_path / "runs" / "harness.duckdb", read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM verdict").fetchall() == [(0,)]
