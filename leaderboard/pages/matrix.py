"""A suite's splits side by side, as finished text: each model's score on every split, and the drop from the first."""

from dataclasses import dataclass

from harness.records import Metric
from harness.stats.inference import independent_difference
from leaderboard.board.records import Board
from leaderboard.pages import formats, links
from leaderboard.pages.parts import Cell, cell

SHOWN = 100
"""Largest number of models; the tables of the splits have them all."""


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """A model across the splits."""

    model_id: str
    href: str
    badges: tuple[str, ...]
    cells: tuple[Cell, ...]
    drops: tuple[Cell | None, ...]
    """For each split, the drop from the first one; None for the first one and where it is unknown."""


def matrix_rows(board: Board) -> tuple[MatrixRow, ...]:
    """The first 100 models of the first split, in its order; none where there is only one split."""
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
                None if other.split_id == entry.split_id else _drop_cell(entry.primary, other.primary)
                for other in board.entries_of(entry.model_id)
            ),
        )
        for entry in first.entries[:SHOWN]
    )


def drop(here: Metric | None, there: Metric | None) -> tuple[float, float, float] | None:
    """Drop of a metric with its interval: positive where it is worse there, whichever direction is good."""
    ends = [_ends(metric) for metric in (here, there) if metric is not None]
    if here is None or len(ends) < 2 or ends[0] is None or ends[1] is None:
        return None
    better, worse = (ends[0], ends[1]) if here.higher_is_better else (ends[1], ends[0])
    return independent_difference(better, worse)


def _drop_cell(here: Metric | None, there: Metric | None) -> Cell | None:
    found = drop(here, there)
    return Cell(formats.score(found[0]), formats.interval(*found[1:])) if found is not None else None


def _ends(metric: Metric) -> tuple[float, float, float] | None:
    if metric.value is None or metric.ci_low is None or metric.ci_high is None:
        return None
    return metric.value, metric.ci_low, metric.ci_high
