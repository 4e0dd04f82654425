"""A board as the finished rows that `templates/index.html` prints: every number is text already."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from harness.records import Example
from leaderboard.board.records import Board, Section
from leaderboard.pages import formats, links
from leaderboard.pages.answers import Card, cards, note
from leaderboard.pages.board_table import Table, good_direction, table
from leaderboard.pages.curves import CurveRows, curve_rows
from leaderboard.pages.facts import Fact, facts
from leaderboard.pages.gallery import Plot, plots_of
from leaderboard.pages.matrix import MatrixRow, matrix_rows
from leaderboard.pages.parts import ExpectedRow, RuleGroup, VerdictRow, expected_groups, interval_method, verdict_groups
from leaderboard.pages.standings import HeadlineRow, PairGroup, gaps, headline_row, pair_groups

NO_EXAMPLES: Mapping[str, Sequence[Example]] = MappingProxyType({})
OUTCOMES = {"pass": "passed", "fail": "failed", "inconclusive": "inconclusive"}
ANSWERS = {"confirmed": "confirmed", "refuted": "refuted", "undecided": "undecided"}


@dataclass(frozen=True, slots=True)
class SectionRows:
    """A scored split."""

    anchor: str
    split_id: str
    summary: str
    """Number of examples, metric, its good direction, and kind of interval."""
    table: Table
    gaps: tuple[str, ...]
    """Sentences on the gap that opens each tier after the first."""
    pairs: tuple[PairGroup, ...]
    pairs_note: str
    facts: tuple[Fact, ...]
    plots: tuple[Plot, ...]
    source: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class SuiteRows:
    """A suite's part of the index page."""

    name: str
    anchor: str
    description: str
    digest: str
    primary_metric: str
    downloads: tuple[tuple[str, str], ...]
    """Formats and their links."""
    cards: tuple[Card, ...]
    """Every adapter against its base; the first twelve."""
    cards_note: str
    headline: HeadlineRow | None
    sections: tuple[SectionRows, ...]
    curves: tuple[CurveRows, ...]
    """The learning curves that the suite declares."""
    matrix: tuple[MatrixRow, ...]
    """Empty where there is one split only."""
    verdicts: tuple[RuleGroup[VerdictRow], ...]
    verdicts_note: str
    expected: tuple[RuleGroup[ExpectedRow], ...]
    expected_note: str
    latest: str | None
    """End of the newest run."""


def suite_rows(board: Board, examples: Mapping[str, Sequence[Example]] = NO_EXAMPLES) -> SuiteRows:
    """Content of the index page for a board.

    Args:
        examples: by split; a split without them has no plot by slice.
    """
    runs = [scored.run for section in board.sections for entry in section.entries for scored in entry.runs]
    return SuiteRows(
        name=board.suite.name,
        anchor=links.suite_anchor(board.suite.name),
        description=board.suite.description,
        digest=board.suite.digest,
        primary_metric=formats.metric_name(board.suite.primary_metric),
        downloads=tuple((label, links.href(file)) for label, file in links.downloads(board.suite.name).items()),
        cards=cards(board),
        cards_note=note(board),
        headline=headline_row(board, board.headline) if board.headline is not None else None,
        sections=tuple(_section(board, section, examples.get(section.split.id, ())) for section in board.sections),
        curves=curve_rows(board),
        matrix=matrix_rows(board),
        verdicts=verdict_groups(board.verdicts),
        verdicts_note=_verdicts_note(board),
        expected=expected_groups(board.expected),
        expected_note=_counted([one.answer for one in board.expected], ANSWERS),
        latest=formats.time(max(run.finished_at for run in runs)) if runs else None,
    )


def _section(board: Board, section: Section, examples: Sequence[Example]) -> SectionRows:
    listed = {name for pair in section.pairs for name in (pair.model_id, pair.other_id)}
    return SectionRows(
        anchor=links.split_anchor(board.suite.name, section.split.id),
        split_id=section.split.id,
        summary=_summary(board, section),
        table=table(board, section),
        gaps=gaps(section.tiers),
        pairs=pair_groups(section),
        pairs_note=_pairs_note(board, section, len(listed)),
        facts=facts(section),
        plots=plots_of(board, section, examples),
        source=_source(section),
    )


def _pairs_note(board: Board, section: Section, n_listed: int) -> str:
    name, split_id = formats.metric_name(board.suite.primary_metric), section.split.id
    note = f"{name} on {split_id}: how far each model leads those below it, paired, with the 95 % interval; "
    note += f"p adjusted for all {formats.count(section.n_pairs)} pairs"
    return note if len(section.pairs) == section.n_pairs else f"{note}, of which those of {n_listed} models are listed"


def _summary(board: Board, section: Section) -> str:
    name = board.suite.primary_metric
    good = good_direction(name)
    if section.n is None:
        return "Nothing has been scored on this split yet."
    examples = f"{formats.count(section.n)} examples"
    if section.n_clusters is not None:
        examples += f" in {formats.count(section.n_clusters)} clusters"
    return f"{formats.metric_name(name)} on {examples}; {good} is better. {interval_method(section, name)}"


def _source(section: Section) -> tuple[tuple[str, str], ...]:
    pairs = [*formats.definitions(section.split.model_dump(mode="json"))]
    if section.split_digest is not None:
        pairs.append(("digest", section.split_digest))
    if section.audit:
        pairs.append(("audited", formats.time(section.audit[0].audited_at)))
    return tuple(pairs)


def _verdicts_note(board: Board) -> str:
    n_gates, n_rules = len(board.suite.gate), len(board.verdicts)
    if not n_gates:
        return "This suite declares no gates."
    if not n_rules:
        return f"{n_gates} declared, none judged."
    listed = _counted([verdict.outcome for verdict in board.verdicts], OUTCOMES)
    return f"{listed}; judged on the runs of this page."


def _counted(found: Sequence[str], words: Mapping[str, str]) -> str:
    """Counts by outcome, in the order of `words`: `2 passed, 1 failed`."""
    return ", ".join(f"{found.count(one)} {word}" for one, word in words.items() if one in found)
