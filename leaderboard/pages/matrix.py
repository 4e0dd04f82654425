"""A suite's splits side by side: each model's score on every split, drawn on one scale, and the drop from the first."""

from dataclasses import dataclass

from markupsafe import Markup

from harness.records import Metric
from harness.stats.inference import independent_difference
from leaderboard.board.records import Board, Entry
from leaderboard.pages import links
from leaderboard.pages.parts import Cell, cell, mark, marked, shared_scale
from leaderboard.plots import inline

SHOWN = 100
"""Largest number of models; the tables of the splits have them all."""


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """A model across the splits."""

    model_id: str
    href: str
    badges: tuple[str, ...]
    bars: tuple[Markup, ...]
    """Its score on each split, drawn on one scale for all of them."""
    cells: tuple[Cell, ...]


def matrix_rows(board: Board) -> tuple[MatrixRow, ...]:
    """The first 100 models of the first split, in its order; none where there is only one split."""
    if len(board.sections) < 2:
        return ()
    shown = board.sections[0].entries[:SHOWN]
    of_models = [board.entries_of(entry.model_id) for entry in shown]
    scale = shared_scale(one for many in of_models for one in many)
    return tuple(
        MatrixRow(
            entry.model_id,
            links.href(links.model_file(board.suite.name, entry.model_id)),
            entry.badges,
            tuple(_bar(one, scale) for one in many),
            tuple(marked(cell(one.primary), one, one.primary, suite=board.suite.name) for one in many),
        )
        for entry, many in zip(shown, of_models, strict=True)
    )


def _bar(entry: Entry, scale: inline.Scale) -> Markup:
    drawn = mark(entry, "")
    return inline.bar(drawn, scale) if drawn is not None else Markup()


def drop(here: Metric | None, there: Metric | None) -> tuple[float, float, float] | None:
    """Drop of a metric with its interval: positive where it is worse there, whichever direction is good."""
    ends = [_ends(metric) for metric in (here, there) if metric is not None]
    if here is None or len(ends) < 2 or ends[0] is None or ends[1] is None:
        return None
    better, worse = (ends[0], ends[1]) if here.higher_is_better else (ends[1], ends[0])
    return independent_difference(better, worse)


def _ends(metric: Metric) -> tuple[float, float, float] | None:
    if metric.value is None or metric.ci_low is None or metric.ci_high is None:
        return None
    return metric.value, metric.ci_low, metric.ci_high
