"""The example browser of a suite, as finished rows: its script lists and filters the examples.

Without JavaScript it shows the examples that all trained models get wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.records import Example
from leaderboard.board.examples import Examples, consensus, is_labelled, shown_sections
from leaderboard.board.records import Board, Section
from leaderboard.pages import formats, links

MOST_LISTED = 20
"""Rows of the table that needs no JavaScript."""
LONGEST = 300
"""Longest text in that table, in characters."""


@dataclass(frozen=True, slots=True)
class WrongRow:
    """An example that all trained models get wrong."""

    example_id: str
    title: str
    content: str
    label: str
    least: str


@dataclass(frozen=True, slots=True)
class WrongTable:
    """Such examples of a split."""

    split_id: str
    summary: str
    rows: tuple[WrongRow, ...]


@dataclass(frozen=True, slots=True)
class ExamplesRows:
    """A suite's example browser."""

    suite: str
    back: str
    compare_href: str
    stored: bool
    """True if the suite stores texts."""
    explained: bool
    """True if some examples were scored without each of their words."""
    tables: tuple[WrongTable, ...]


def examples_rows(board: Board, examples: Examples, board_file: str = links.INDEX) -> ExamplesRows:
    """Content of a suite's example browser before its script runs."""
    suite = board.suite
    return ExamplesRows(
        suite=suite.name,
        back="../" + links.href(board_file, links.suite_anchor(suite.name), up=True),
        compare_href="../compare/index.html",
        stored=suite.text.store,
        explained=bool(board.explained),
        tables=tuple(
            _table(board, section, examples[section.split.id])
            for section in shown_sections(board, examples)
            if is_labelled(examples[section.split.id])
        ),
    )


def _table(board: Board, section: Section, rows: Sequence[Example]) -> WrongTable:
    found = consensus(section, board.outcomes)
    share = formats.percent(len(found) / len(rows))
    more = f"; the {MOST_LISTED} with the highest confidence" if len(found) > MOST_LISTED else ""
    return WrongTable(
        section.split.id,
        f"{formats.count(len(found))} of {formats.count(len(rows))} examples ({share}){more}.",
        tuple(
            WrongRow(
                rows[one.position].example_id,
                _cut(rows[one.position].title) if board.suite.text.store else "",
                _cut(rows[one.position].content) if board.suite.text.store else "",
                "positive" if rows[one.position].label == 1 else "negative",
                formats.score(one.least),
            )
            for one in found[:MOST_LISTED]
        ),
    )


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
