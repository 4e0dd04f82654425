"""A board as the finished rows that `templates/index.html` prints: every number is text already."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.metrics import METRICS
from leaderboard import charts, formats, links
from leaderboard.board import Board, Entry, Section
from leaderboard.facts import Fact, facts
from leaderboard.matrix import MatrixRow, matrix_rows
from leaderboard.parts import (
    Cell,
    ExpectedRow,
    VerdictRow,
    cell,
    expected_rows,
    interval_method,
    mark,
    seeds_text,
    verdict_rows,
)
from leaderboard.standings import HeadlineRow, PairGroup, gaps, headline_row, pair_groups

OUTCOMES = {"pass": "passed", "fail": "failed", "inconclusive": "inconclusive"}
ANSWERS = {"confirmed": "confirmed", "refuted": "refuted", "undecided": "undecided"}


@dataclass(frozen=True, slots=True)
class Row:
    """An entry as a table row."""

    model_id: str
    href: str
    what: str
    """Method and base, in words."""
    badges: tuple[str, ...]
    score: Cell
    bar: Markup
    seeds: str
    n_trainable: str
    train_seconds: str
    size: str
    peak: str
    rate: str
    metrics: tuple[Cell, ...]
    """One per metric of the suite."""


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of one tier, or those outside the ranking."""

    mark: str
    label: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class SectionRows:
    """A scored split."""

    anchor: str
    split_id: str
    summary: str
    """How many examples, which metric, which way is good, which intervals."""
    groups: tuple[Group, ...]
    gaps: tuple[str, ...]
    """Why each tier after the first begins where it does."""
    pairs: tuple[PairGroup, ...]
    n_pairs: int
    facts: tuple[Fact, ...]
    chart: Markup | None
    has_reference: bool
    source: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class SuiteRows:
    """A suite's part of the index page."""

    name: str
    anchor: str
    description: str
    digest: str
    primary_metric: str
    metric_names: tuple[str, ...]
    headline: HeadlineRow | None
    sections: tuple[SectionRows, ...]
    matrix: tuple[MatrixRow, ...]
    """Empty where there is one split only."""
    verdicts: tuple[VerdictRow, ...]
    verdicts_note: str
    expected: tuple[ExpectedRow, ...]
    expected_note: str
    latest: str | None
    """When the newest run ended."""


def suite_rows(board: Board) -> SuiteRows:
    """All that the index page says of a board."""
    runs = [scored.run for section in board.sections for entry in section.entries for scored in entry.runs]
    return SuiteRows(
        name=board.suite.name,
        anchor=links.suite_anchor(board.suite.name),
        description=board.suite.description,
        digest=board.suite.digest,
        primary_metric=formats.metric_name(board.suite.primary_metric),
        metric_names=tuple(formats.metric_name(spec.name) for spec in board.suite.metric),
        headline=headline_row(board, board.headline) if board.headline is not None else None,
        sections=tuple(_section(board, section) for section in board.sections),
        matrix=matrix_rows(board),
        verdicts=verdict_rows(board.verdicts),
        verdicts_note=_verdicts_note(board),
        expected=expected_rows(board.expected),
        expected_note=_counted([one.answer for one in board.expected], ANSWERS),
        latest=formats.time(max(run.finished_at for run in runs)) if runs else None,
    )


def _section(board: Board, section: Section) -> SectionRows:
    named = [(entry, mark(entry, entry.model_id)) for entry in section.entries]
    marks = [found for _, found in named if found is not None]
    reference = next(
        (charts.Reference("majority class", m.value) for e, m in named if m is not None and e.backend == "majority"),
        None,
    )
    shown = charts.scale(marks, reference)
    rows = {
        entry.model_id: _row(board, entry, charts.bar(found, shown, reference) if found is not None else Markup())
        for entry, found in named
    }
    anchor = links.split_anchor(board.suite.name, section.split.id)
    title = f"{formats.metric_name(board.suite.primary_metric)} on {section.split.id} with 95 % intervals"
    chart = charts.forest(marks, shown, reference, chart_id=f"{anchor}:chart", title=title) if marks else None
    return SectionRows(
        anchor=anchor,
        split_id=section.split.id,
        summary=_summary(board, section),
        groups=_groups(section, rows),
        gaps=gaps(section.tiers),
        pairs=pair_groups(section),
        n_pairs=len(section.pairs),
        facts=facts(section),
        chart=chart,
        has_reference=reference is not None,
        source=_source(section),
    )


def _row(board: Board, entry: Entry, bar: Markup) -> Row:
    return Row(
        model_id=entry.model_id,
        href=links.href(links.model_file(board.suite.name, entry.model_id)),
        what=formats.method_phrase(entry.method, entry.base_id),
        badges=entry.badges,
        score=cell(entry.primary),
        bar=bar,
        seeds=seeds_text(entry),
        n_trainable=formats.count(entry.n_trainable),
        train_seconds=formats.seconds(entry.train_seconds),
        size=formats.size(entry.size_bytes),
        peak=formats.size(entry.peak_bytes),
        rate=formats.rate(entry.examples_per_second),
        metrics=tuple(cell(entry.metrics.get(spec.name)) for spec in board.suite.metric),
    )


def _groups(section: Section, rows: dict[str, Row]) -> tuple[Group, ...]:
    groups = [
        Group(str(tier.number), f"Tier {tier.number}", tuple(rows[model_id] for model_id in tier.model_ids))
        for tier in section.tiers
    ]
    unranked = tuple(rows[entry.model_id] for entry in section.entries if entry.tier is None)
    return (*groups, Group(formats.ABSENT, "Not ranked", unranked)) if unranked else tuple(groups)


def _summary(board: Board, section: Section) -> str:
    name = board.suite.primary_metric
    good = "higher" if METRICS[name].higher_is_better else "lower"
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
        return f"{n_gates} declared, none judged for this version of the suite."
    listed = _counted([verdict.outcome for verdict in board.verdicts], OUTCOMES)
    judged = formats.time(max(verdict.judged_at for verdict in board.verdicts))
    return f"{listed}; judged {judged}."


def _counted(found: Sequence[str], words: Mapping[str, str]) -> str:
    """How often each is found, in the order of its words: `2 passed, 1 failed`."""
    return ", ".join(f"{found.count(one)} {word}" for one, word in words.items() if one in found)
