"""Learning curves as text, and as the rows of their plot and table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.stats.curves import Crossover
from harness.suite.schema import Curve
from leaderboard.board.curves import CurveResult, Line, Place
from leaderboard.board.records import Board
from leaderboard.pages import formats, links
from leaderboard.pages.parts import Cell, data

if TYPE_CHECKING:
    from leaderboard.pages.gallery import Plot

SERIES = 6
"""Largest number of models that are drawn: as many as a plot has colours."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """The scores at one number of training rows."""

    rows: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class CurveRows:
    """A learning curve on the index page."""

    anchor: str
    title: str
    summary: str
    sentences: tuple[str, ...]
    plot: "Plot | None"
    """None where nothing is scored."""
    models: tuple[str, ...]
    table: tuple[TableRow, ...]
    table_note: str


def sentences(result: CurveResult) -> tuple[str, ...]:
    """The answer for each model that the curve's model is compared with."""
    return tuple(_sentence(result.curve, pair.other_id, pair.crossover) for pair in result.pairs)


def _sentence(curve: Curve, other: str, found: Crossover | None) -> str:
    model = curve.model
    if found is None:
        return (
            f"From how many rows on {model} beats {other} is not known: too few points of curve {curve.id} are scored."
        )
    between = interval(found)
    if found.low == found.fewest and found.high is None:
        return (
            f"From how many rows on {model} beats {other} is undecided between {formats.count(found.fewest)} and "
            f"{formats.count(found.most)} rows."
        )
    if found.rows is None:
        return f"{model} never beats {other} within {formats.count(found.most)} rows {between}."
    if found.rows == found.fewest:
        return f"{model} beats {other} already at {formats.count(found.fewest)} rows {between}."
    return f"From {formats.count(found.rows)} rows on {between} {model} beats {other}."


def interval(found: Crossover) -> str:
    """The interval of a crossover: `[90, 420]`; ends that were not reached are `at most 16` and `more than 2,000`."""
    ends = dict.fromkeys(_end(found, rows) for rows in (found.low, found.high))
    return f"[{', '.join(ends)}]"


def _end(found: Crossover, rows: int | None) -> str:
    if rows is None:
        return f"more than {formats.count(found.most)}"
    return f"at most {formats.count(rows)}" if rows == found.fewest else formats.count(rows)


def curve_rows(board: Board) -> tuple[CurveRows, ...]:
    """Content of the index page for the curves of a board."""
    return tuple(_rows(board, result) for result in board.curves)


def _rows(board: Board, result: CurveResult) -> CurveRows:
    curve, metric = result.curve, formats.metric_name(result.metric)
    anchor = f"{links.suite_anchor(board.suite.name)}:curve:{curve.id}"
    sizes = [place.rows for line in result.lines for place in line.places if place.rows is not None]
    at = {(line.model_id, place.rows): place for line in result.lines for place in line.places}
    table = tuple(
        TableRow(
            formats.count(rows),
            tuple(_cell(board, curve, at.get((line.model_id, None if line.flat else rows))) for line in result.lines),
        )
        for rows in sorted(set(sizes))
    )
    return CurveRows(
        anchor,
        f"How much data does {curve.model} take?",
        _summary(result),
        sentences(result),
        _plot(result, metric, anchor) if sizes else None,
        tuple(line.model_id for line in result.lines),
        table,
        f"{metric} on {curve.split} by number of training rows, mean over {len(curve.seeds)} seeds, 95 % intervals",
    )


def _summary(result: CurveResult) -> str:
    curve = result.curve
    drawn = "as many of either label" if curve.balanced else "in the split's shares of the labels"
    said = (
        f"Each of {len(curve.seeds)} seeds draws nested subsets of the training rows, {drawn}, the same for all "
        f"models; every model is trained on each, and scored on {curve.split}"
    )
    n = f" (n {formats.count(result.n)})" if result.n is not None else ""
    missing = f" {formats.count(result.runs)} of {formats.count(result.expected)} points are scored so far."
    return f"{said}{n}. In brackets: 95 % intervals.{missing if result.runs < result.expected else ''}"


def _cell(board: Board, curve: Curve, place: Place | None) -> Cell:
    if place is None or place.metric.value is None:
        return Cell(formats.ABSENT, "")
    where = {"suite": board.suite.name, "metric": place.metric.name, "model": place.label, "split": curve.split}
    shown = data(formats.score(place.metric.value), f"{place.metric.value:.12g}", where)
    return Cell(shown, formats.interval(place.metric.ci_low, place.metric.ci_high))


def _plot(result: CurveResult, metric: str, anchor: str) -> "Plot":
    from leaderboard.pages.gallery import Plot  # draws plots: a second of imports, which sentences do not need
    from leaderboard.plots import svg as plots_svg

    title = f"{metric} on {result.curve.split} by number of training rows"
    drawn = plots_svg.learning(
        _points(result.lines, result.curve.rows), _crossovers(result), metric, plot_id=f"{anchor}:plot", title=title
    )
    caption = f"{title}: means over seeds with 95 % intervals; a model that is not trained is a dashed line."
    below = (
        f" Below: the number of rows from which {result.curve.model} is better, with its 95 % interval; an arrow "
        "stands for an end beyond the rows that were tried."
    )
    return Plot(drawn, caption + (below if any(pair.crossover for pair in result.pairs) else ""))


def _points(lines: Sequence[Line], rows: Sequence[int]) -> list[dict[str, Any]]:
    """A row for each model and number of training rows; a flat line has one at either end."""
    found = []
    for line in lines[:SERIES]:
        for place in line.places:
            if place.metric.value is None:
                continue
            ends = (rows[0], rows[-1]) if place.rows is None else (place.rows,)
            at = "untrained" if place.rows is None else f"{formats.count(place.rows)} rows"
            shown = formats.interval(place.metric.ci_low, place.metric.ci_high)
            found += [
                {
                    "model": line.model_id, "rows": end, "value": place.metric.value, "low": place.metric.ci_low,
                    "high": place.metric.ci_high, "flat": place.rows is None,
                    "says": f"{line.model_id}, {at}: {formats.score(place.metric.value)} {shown}".strip(),
                }
                for end in ends
            ]  # fmt: skip
    return found


def _crossovers(result: CurveResult) -> list[dict[str, Any]]:
    shown = {line.model_id for line in result.lines[:SERIES]}
    return [
        {
            "model": pair.other_id, "at": found.rows, "low": found.low or found.most, "high": found.high or found.most,
            "before": found.low == found.fewest, "after": found.high is None,
            "says": _sentence(result.curve, pair.other_id, found).removesuffix("."),
        }
        for pair in result.pairs
        if (found := pair.crossover) is not None and pair.other_id in shown
    ]  # fmt: skip
