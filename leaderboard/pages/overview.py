"""The index page of a site of several suites, as the finished rows that `templates/overview.html` prints."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.records import Verdict
from leaderboard.board.records import Board
from leaderboard.pages import formats, links
from leaderboard.pages.answers import Card, cards
from leaderboard.pages.standings import HeadlineRow, headline_row

MOST_CARDS = 6
"""Cards of one suite, two rows on a wide screen; its board has the others."""


@dataclass(frozen=True, slots=True)
class SuiteSummary:
    """A suite in short, with the way to its board."""

    name: str
    anchor: str
    href: str
    description: str
    outcome: str
    """The gate outcome whose colour the state has; empty where nothing was judged."""
    sign: str
    state: str
    """`6 of 6 gates passed`, or `not yet evaluated`."""
    latest: str | None
    """End of the newest run; None for a suite without runs."""
    cards: tuple[Card, ...]
    headline: HeadlineRow | None
    """Shown where there are no cards."""
    more: str
    """Words of the link to the board."""


def suite_summary(board: Board) -> SuiteSummary:
    """A suite's part of the index page; one without runs is not yet evaluated, and nothing else is said of it."""
    runs = [scored.run for section in board.sections for entry in section.entries for scored in entry.runs]
    answered = cards(board) if runs else ()
    left_out = len(board.sections[0].answers) - MOST_CARDS if runs else 0
    outcome, sign, state = _gates(board.verdicts) if runs else ("", "", "not yet evaluated")
    return SuiteSummary(
        name=board.suite.name,
        anchor=links.suite_anchor(board.suite.name),
        href=links.href(links.board_file(board.suite.name)),
        description=board.suite.description,
        outcome=outcome,
        sign=sign,
        state=state,
        latest=formats.time(max(run.finished_at for run in runs)) if runs else None,
        cards=answered[:MOST_CARDS],
        headline=headline_row(board, board.headline) if board.headline is not None else None,
        more=f"The board of {board.suite.name}" + (f", with {left_out} more adapters" if left_out > 0 else ""),
    )


def _gates(verdicts: Sequence[Verdict]) -> tuple[str, str, str]:
    """Colour, sign and words of all gates together: the colour is that of the worst."""
    if not verdicts:
        return "", "", "no gates judged"
    outcomes = [verdict.outcome for verdict in verdicts]
    passed = f"{outcomes.count('pass')} of {len(outcomes)} gates passed"
    if "fail" in outcomes:
        return "fail", "✗", passed
    return ("inconclusive", "?", passed) if "inconclusive" in outcomes else ("pass", "✓", passed)
