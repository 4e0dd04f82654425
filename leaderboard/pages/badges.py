"""Badges for a README or a pull request: each adapter's lead over its base, and what its gates say.

A badge is an SVG picture and the JSON of a shields.io endpoint (https://shields.io/badges/endpoint-badge) beside it.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.records import Verdict
from leaderboard.board.answers import Answer
from leaderboard.board.records import Board
from leaderboard.pages import formats, links
from leaderboard.pages.answers import WORDS, lead_interval

COLOURS = {"pass": "#1b6e42", "fail": "#ab271c", "inconclusive": "#805600"}
"""Background of a message by outcome; white text on each has a contrast above 4.5."""
CHARACTER_PX = 6.6
"""Average width of a character at 11 px. The text is fitted to its box, so that a font's own widths do not matter."""
PADDING_PX = 12.0


@dataclass(frozen=True, slots=True)
class Badge:
    """Two words side by side, the second on a colour."""

    file: str
    """Path in the site, without its ending."""
    label: str
    message: str
    outcome: str
    """The gate outcome whose colour it has."""

    @property
    def colour(self) -> str:
        """The message's background, as `#rrggbb`."""
        return COLOURS[self.outcome]

    @property
    def widths(self) -> tuple[float, float]:
        """Widths of the label's text and the message's, in px."""
        return CHARACTER_PX * len(self.label), CHARACTER_PX * len(self.message)

    @property
    def endpoint(self) -> str:
        """The JSON that shields.io draws its own badge from."""
        return json.dumps(
            {"schemaVersion": 1, "label": self.label, "message": self.message, "color": self.colour}, ensure_ascii=False
        )


@dataclass(frozen=True, slots=True)
class Picture:
    """A badge on its model's page."""

    href: str
    text: str
    markdown: str
    """The line that shows it elsewhere; SITE stands for the site's address."""


def picture(badge: Badge) -> Picture:
    """A badge as its model's page shows it."""
    text = f"{badge.label}: {badge.message}"
    return Picture(links.href(f"{badge.file}.svg", up=True), text, f"![{text}](SITE/{links.href(badge.file)}.svg)")


def badges(board: Board) -> Iterator[Badge]:
    """The suite's gates, then each adapter's lead on the first split and each gated model's gates."""
    suite, verdicts = board.suite.name, board.verdicts
    if verdicts:
        yield _gates(links.suite_badge(suite), "gates", verdicts)
    for model in board.suite.model:
        yield from of_model(board, model.id)


def of_model(board: Board, model_id: str) -> Iterator[Badge]:
    """A model's badges: its lead over its base, if it has trained weights; its gates, if it has any."""
    suite, name = board.suite.name, board.suite.primary_metric
    for answer in board.sections[0].answers:
        if answer.model_id == model_id:
            yield _lead(links.badge(suite, "lead", model_id), answer, name)
    if own := [verdict for verdict in board.verdicts if verdict.model_id == model_id]:
        yield _gates(links.badge(suite, "gates", model_id), f"{model_id} gates", own)


def _lead(file: str, answer: Answer, name: str) -> Badge:
    outcome, _, word = WORDS[answer.outcome]
    if answer.lead is None or answer.base is None:
        return Badge(file, f"{answer.model_id} vs {answer.base_id}", word.lower(), outcome)
    message = f"{formats.lead(name, answer.lead.value)} {lead_interval(answer, name)}".strip()
    return Badge(file, f"{answer.model_id} vs {answer.base.model_id}", message, outcome)


def _gates(file: str, label: str, verdicts: Sequence[Verdict]) -> Badge:
    found = [verdict.outcome for verdict in verdicts]
    worst = next(outcome for outcome in ("fail", "inconclusive", "pass") if outcome in found)
    return Badge(file, label, f"{found.count('pass')} of {len(found)} passed", worst)
