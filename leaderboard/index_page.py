"""A board as the finished rows that `templates/index.html` prints: every number is text already."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.metrics import METRICS, Difference
from harness.records import Metric
from harness.stats import independent_difference
from leaderboard import charts, formats, links
from leaderboard.board import Board, Entry, Headline, Section, Tier
from leaderboard.parts import Cell, VerdictRow, cell, interval_method, mark, seeds_text, verdict_rows


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
    chart: Markup | None
    has_reference: bool
    source: tuple[tuple[str, str], ...]
    digest: str | None


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """A model across the splits."""

    model_id: str
    href: str
    badges: tuple[str, ...]
    cells: tuple[Cell, ...]
    drops: tuple[Cell | None, ...]
    """For each split how much less the model reaches there than on the first one; None for that one, or unknown."""


@dataclass(frozen=True, slots=True)
class Clause:
    """A part of a sentence that may end in an interval, which is not to be broken."""

    text: str
    interval: str


@dataclass(frozen=True, slots=True)
class HeadlineRow:
    """The sentence that a suite opens with; the leader's name comes first and is a link."""

    leader: str
    href: str
    metric: str
    score: str
    interval: str
    clauses: tuple[Clause, ...]


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
        headline=_headline(board, board.headline) if board.headline is not None else None,
        sections=tuple(_section(board, section) for section in board.sections),
        matrix=_matrix(board),
        verdicts=verdict_rows(board.verdicts),
        verdicts_note=_verdicts_note(board),
        latest=formats.time(max(run.finished_at for run in runs)) if runs else None,
    )


def _headline(board: Board, headline: Headline) -> HeadlineRow:
    leader, name = headline.leader, board.suite.primary_metric
    metric, n_seeds = leader.metrics[name], len(leader.runs)
    seeds = f" over {n_seeds} seeds" if n_seeds > 1 else ""
    clauses = [Clause(f"on {formats.count(metric.n)} examples of {leader.split_id}{seeds}", "")]
    clauses += [_standing(known.model_id, _advantage(known.difference, name)) for known in headline.comparisons]
    named = {comparison.model_id for comparison in headline.comparisons}
    tied = [model_id for model_id in headline.tied if model_id not in named]
    if tied:
        clauses.append(Clause(f"not separable from {_listed(tied)}", ""))
    return HeadlineRow(
        leader.model_id,
        links.href(links.model_file(board.suite.name, leader.model_id)),
        formats.metric_phrase(name),
        formats.score(metric.value),
        formats.interval(metric.ci_low, metric.ci_high),
        tuple(clauses),
    )


def _standing(model_id: str, advantage: Difference) -> Clause:
    interval = formats.interval(advantage.ci_low, advantage.ci_high)
    if advantage.ci_low <= 0:
        return Clause(f"not separable from {model_id}: difference {formats.difference(advantage.value)}", interval)
    return Clause(f"ahead of {model_id} by {formats.score(advantage.value)}", interval)


def _advantage(difference: Difference, name: str) -> Difference:
    """A difference with its sign turned so that positive is better."""
    if METRICS[name].higher_is_better:
        return difference
    return Difference(-difference.value, -difference.ci_high, -difference.ci_low, difference.n)


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
        gaps=_gaps(board.suite.primary_metric, section.tiers),
        chart=chart,
        has_reference=reference is not None,
        source=tuple(formats.definitions(section.split.model_dump(mode="json"))),
        digest=section.split_digest,
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


def _gaps(name: str, tiers: Sequence[Tier]) -> tuple[str, ...]:
    return tuple(
        f"Tier {tier.number} begins at {tier.model_ids[0]}: {_behind(tier.gap, name)} behind {above.model_ids[0]}."
        for above, tier in itertools.pairwise(tiers)
        if tier.gap is not None
    )


def _behind(gap: Difference, name: str) -> str:
    lead = _advantage(gap, name)
    return f"{formats.score(-lead.value)} {formats.interval(-lead.ci_high, -lead.ci_low)}"


def _summary(board: Board, section: Section) -> str:
    name = board.suite.primary_metric
    good = "higher" if METRICS[name].higher_is_better else "lower"
    if section.n is None:
        return "Nothing has been scored on this split yet."
    examples = f"{formats.count(section.n)} examples"
    if section.n_clusters is not None:
        examples += f" in {formats.count(section.n_clusters)} clusters"
    return f"{formats.metric_name(name)} on {examples}; {good} is better. {interval_method(section, name)}"


def _matrix(board: Board) -> tuple[MatrixRow, ...]:
    if len(board.sections) < 2:
        return ()
    first, primary = board.sections[0], board.suite.primary_metric
    return tuple(
        MatrixRow(
            entry.model_id,
            links.href(links.model_file(board.suite.name, entry.model_id)),
            entry.badges,
            tuple(cell(other.metrics.get(primary)) for other in board.entries_of(entry.model_id)),
            tuple(
                None if other.split_id == entry.split_id else _drop(entry.primary, other.primary)
                for other in board.entries_of(entry.model_id)
            ),
        )
        for entry in first.entries
    )


def _drop(here: Metric | None, there: Metric | None) -> Cell | None:
    """How much worse a metric is there, positive where it is worse, whichever direction is good."""
    ends = [_ends(metric) for metric in (here, there) if metric is not None]
    if here is None or len(ends) < 2 or ends[0] is None or ends[1] is None:
        return None
    better, worse = (ends[0], ends[1]) if here.higher_is_better else (ends[1], ends[0])
    value, low, high = independent_difference(better, worse)
    return Cell(formats.score(value), formats.interval(low, high))


def _ends(metric: Metric) -> tuple[float, float, float] | None:
    if metric.value is None or metric.ci_low is None or metric.ci_high is None:
        return None
    return metric.value, metric.ci_low, metric.ci_high


def _verdicts_note(board: Board) -> str:
    n_gates, n_rules = len(board.suite.gate), len(board.verdicts)
    if not n_gates:
        return "This suite declares no gates."
    if not n_rules:
        return f"{n_gates} declared, none judged for this version of the suite."
    counts = {
        outcome: sum(v.outcome == outcome for v in board.verdicts) for outcome in ("pass", "fail", "inconclusive")
    }
    words = {"pass": "passed", "fail": "failed", "inconclusive": "inconclusive"}
    listed = ", ".join(f"{number} {words[outcome]}" for outcome, number in counts.items() if number)
    judged = formats.time(max(verdict.judged_at for verdict in board.verdicts))
    return f"{listed}; judged {judged}."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
