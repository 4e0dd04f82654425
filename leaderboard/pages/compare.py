"""The page that compares any two models of a suite, as finished rows; its script fills the form.

Without JavaScript it shows the precomputed pairs as tables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from leaderboard.board.examples import Examples, is_labelled, shown_sections
from leaderboard.board.pairs import ChosenPair
from leaderboard.board.records import Board
from leaderboard.pages import formats, links


@dataclass(frozen=True, slots=True)
class PairRow:
    """A precomputed pair."""

    a: str
    b: str
    href: str
    """Link to the same page with this pair chosen."""
    why: str
    value: str
    interval: str
    p_value: str
    adjusted_p: str
    raw: float
    """The unrounded difference, for `harness site --check`."""


@dataclass(frozen=True, slots=True)
class PairTable:
    """The pairs of a split."""

    split_id: str
    caption: str
    rows: tuple[PairRow, ...]


@dataclass(frozen=True, slots=True)
class CompareRows:
    """A suite's compare page."""

    suite: str
    back: str
    examples_href: str
    primary_metric: str
    primary: str
    """The metric's name in the suite file."""
    tables: tuple[PairTable, ...]


def compare_rows(
    board: Board, examples: Examples, pairs: Mapping[str, Sequence[ChosenPair]], board_file: str = links.INDEX
) -> CompareRows:
    """Content of a suite's compare page before its script runs; `pairs` by split id."""
    suite = board.suite
    name = formats.metric_name(suite.primary_metric)
    tables = []
    for section in shown_sections(board, examples):
        if not is_labelled(examples[section.split.id]):
            continue
        rows = tuple(_row(section.split.id, pair) for pair in pairs[section.split.id])
        caption = f"{name} on {section.split.id}, A minus B, paired by example; n {formats.count(section.n)}"
        tables.append(PairTable(section.split.id, caption, rows))
    return CompareRows(
        suite=suite.name,
        back="../" + links.href(board_file, links.suite_anchor(suite.name), up=True),
        examples_href="../examples/index.html",
        primary_metric=name,
        primary=suite.primary_metric,
        tables=tuple(tables),
    )


def _row(split_id: str, pair: ChosenPair) -> PairRow:
    found = pair.difference
    low, high = formats.difference(found.ci_low), formats.difference(found.ci_high)
    return PairRow(
        a=pair.a,
        b=pair.b,
        href=links.choice(pair.a, pair.b, split_id),
        why=pair.why,
        value=formats.difference(found.value),
        interval=f"[{low}, {high}]",
        p_value=formats.p_value(found.p_value),
        adjusted_p=formats.p_value(pair.adjusted_p),
        raw=found.value,
    )
