"""Helpers of the browser tests: paths of pages, expected numbers, the reading of tables."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from harness.records import Outcomes
from leaderboard.board.records import Board, Section

if TYPE_CHECKING:
    from playwright.sync_api import Page

COMPARE, EXAMPLES = "demo/compare/index.html", "demo/examples/index.html"
Opened = Callable[..., Any]
"""The fixture `opened`: a page's name and how to look at it, to a context with that page."""


def section_of(board: Board, split_id: str) -> Section:
    return next(section for section in board.sections if section.split.id == split_id)


def outcomes_of(board: Board, split_id: str, model_id: str) -> tuple[list[Outcomes], list[str]]:
    """A model's outcomes on a split, and its run keys."""
    entry = next(entry for entry in section_of(board, split_id).entries if entry.model_id == model_id)
    return [board.outcomes[one.run.run_id] for one in entry.runs], [one.run.run_key for one in entry.runs]


def cells(page: "Page", table: str) -> list[list[str]]:
    """A table's body as text."""
    rows: list[list[str]] = page.eval_on_selector_all(
        f"{table} tbody tr", "rows => rows.map(row => [...row.cells].map(cell => cell.innerText.trim()))"
    )
    return rows
