"""A suite's first answer as a picture that other sites show beside a link to the board."""

import textwrap
from dataclasses import dataclass

from leaderboard.board.records import Board
from leaderboard.pages import links
from leaderboard.pages.answers import cards

WIDTH_PX, HEIGHT_PX = 1200, 630
COLOURS = {"pass": "#1b6e42", "fail": "#ab271c", "inconclusive": "#805600"}
_BAR_LEFT, _BAR_RIGHT = 90.0, 1110.0
_TITLE_LETTERS, _SMALL_LETTERS = 40, 64
"""Most letters of a line of the title, and of smaller text."""


@dataclass(frozen=True, slots=True)
class Share:
    """The text and the drawing of the picture, and the words that stand for it."""

    file: str
    alt: str
    suite: str
    title: tuple[str, ...]
    """Lines of the question."""
    word: str
    colour: str
    lead: str
    over: tuple[str, ...]
    """Lines below the number: its interval, and the base."""
    facts: str
    bar: tuple[float, float, float, float] | None
    """Places of the interval's ends, its value and the line of no difference in pixels; None without an interval."""


def share(board: Board) -> Share | None:
    """The picture of a suite's first card; None for a suite without any."""
    found = cards(board)
    if not found:
        return None
    card, lead = found[0], board.sections[0].answers[0].lead
    number = str(card.lead.striptags()) if hasattr(card.lead, "striptags") else card.lead
    over = " ".join(part for part in (card.interval, card.over) if part)
    said = f"{card.title} {card.word}" + (f": {number} {over}" if number else f": {over}")
    return Share(
        file=links.share_file(board.suite.name),
        alt=f"{said}. {card.facts[0]}.",
        suite=textwrap.shorten(board.suite.name, _SMALL_LETTERS, placeholder="…"),
        title=_lines(card.title, _TITLE_LETTERS),
        word=card.word,
        colour=COLOURS[card.outcome],
        lead=number,
        over=_lines(over, _SMALL_LETTERS),
        facts=textwrap.shorten(card.facts[0], _SMALL_LETTERS, placeholder="…"),
        bar=_bar(lead.ci_low, lead.ci_high, lead.value) if lead is not None else None,
    )


def _lines(text: str, letters: int) -> tuple[str, ...]:
    return tuple(textwrap.wrap(text, letters, max_lines=2, placeholder="…"))


def _bar(low: float, high: float, value: float) -> tuple[float, float, float, float]:
    """Pixels of an interval on a scale that has no difference on it, with room at both ends."""
    first, last = min(low, high, 0.0), max(low, high, 0.0)
    room = 0.06 * (last - first) or 1.0

    def at(number: float) -> float:
        return _BAR_LEFT + (_BAR_RIGHT - _BAR_LEFT) * (number - first + room) / (last - first + 2 * room)

    return at(low), at(high), at(value), at(0.0)
