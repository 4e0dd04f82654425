"""Choice of a split's plots and their entries, as the rows that `plots` draws. Plots without data are left out."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from harness.records import AdapterRecord, Example, Metric
from harness.stats import calibration, estimates
from leaderboard.board.records import Board, Entry, Front, Section
from leaderboard.board.slices import accuracies
from leaderboard.pages import formats, links
from leaderboard.pages.board_table import reference
from leaderboard.pages.parts import shared_scale
from leaderboard.plots import svg as plots_svg

FOREST = 24
"""Largest number of entries in the forest plot, from the best."""
TRADEOFF = 60
"""Largest number of points in a trade-off plot: those that are likeliest to be on the front."""
NAMED = 12
"""Number of points up to which all of a trade-off plot have names; beyond it, those on the front and those of gates."""
CURVE_POINTS = 40
"""Number of stretches into which a training curve is divided, each drawn as its mean."""
PANELS = 4
"""Number of entries in the reliability diagrams and in the plot by slice."""

_COSTS = {"n_trainable": "trainable parameters", "size_bytes": "bytes on disk", "train_seconds": "seconds of training"}


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing and its caption."""

    svg: Markup
    caption: str
    choice: str = ""
    """The name that chooses it among drawings of one place, such as a cost; empty for one that stands alone."""


def plots_of(board: Board, section: Section, examples: Sequence[Example]) -> tuple[Plot, ...]:
    """All plots of a split.

    Args:
        examples: of the split, in order; empty where they are not available.
    """
    return tuple(_plots(board, section, examples))


def _plots(board: Board, section: Section, examples: Sequence[Example]) -> Iterator[Plot]:
    anchor = links.split_anchor(board.suite.name, section.split.id)
    metric = formats.metric_name(board.suite.primary_metric)
    told = [entry for entry in section.entries if entry.primary is not None and entry.primary.value is not None]
    ranked = [entry for entry in told if entry.ranked]
    if len(told) > 1:
        yield _forest(section, told, metric, anchor)
    for front in section.fronts:
        yield _tradeoff(board, section, front, metric, anchor)
    best = ranked[:PANELS]
    scores = accuracies(best, board.outcomes, examples) if best and examples else []
    if scores:
        slices: list[dict[str, Any]] = [
            {
                "slice": one.slice, "model": one.model_id, "value": one.value, "low": one.ci_low, "high": one.ci_high,
                "says": f"{one.model_id} on {one.slice}: {_told(one.value, one.ci_low, one.ci_high)}, n {one.n}",
            }
            for one in scores
        ]  # fmt: skip
        drawn = plots_svg.by_slice(
            slices, "Accuracy", plot_id=f"{anchor}:slices", title=f"Accuracy by slice of {section.split.id}"
        )
        note = f"Accuracy by slice of {section.split.id}, 95 % intervals{_first(best, ranked)}. Lengths are terciles."
        yield Plot(drawn, note)
    if bins := [row for entry in best for row in _bins(board, entry)]:
        drawn = plots_svg.reliability(
            bins, plot_id=f"{anchor}:reliability", title=f"Accuracy by confidence on {section.split.id}"
        )
        yield Plot(
            drawn,
            "Calibration: accuracy of the predictions in each range of confidence, with 95 % "
            f"intervals{_first(best, ranked)}. On the dashed line, accuracy equals confidence.",
        )
    if section is board.sections[0] and (found := _curves([entry for entry in told if entry.adapters])):
        rows, named = found
        drawn = plots_svg.curves(rows, plot_id=f"{anchor}:curves", title="Training loss by step")
        yield Plot(drawn, f"Training loss, smoothed, one line per seed{_first(named, told)}.")


def _forest(section: Section, told: Sequence[Entry], metric: str, anchor: str) -> Plot:
    rows = [_forest_row(entry, entry.primary) for entry in told[:FOREST] if entry.primary is not None]
    line = reference(section)
    shown = shared_scale(section.entries)
    drawn = plots_svg.forest(
        rows,
        metric,
        (shown.low, shown.high),
        (line.label, line.value) if line is not None else None,
        plot_id=f"{anchor}:forest",
        title=f"{metric} on {section.split.id} with 95 % intervals",
    )
    within = line is not None and shown.low <= line.value <= shown.high
    dashed = " The dashed line is the majority class." if within else ""
    if any(not shown.low <= row["value"] <= shown.high for row in rows):
        dashed += " The axis spans what has learned something; an arrow stands for what lies beyond it."
    first = f", the first {FOREST} of {formats.count(len(told))}" if len(told) > FOREST else ""
    return Plot(
        drawn,
        f"{metric} of each model: means over seeds with 95 % intervals{first}. Rings are individual seeds, grey "
        f"entries are not ranked.{dashed}",
    )


def _forest_row(entry: Entry, metric: Metric) -> dict[str, Any]:
    values = [scored.metrics[metric.name].value for scored in entry.runs]
    seeds = [value for value in values if value is not None] if len(values) > 1 else []
    spread = f", standard deviation over {len(seeds)} seeds {statistics.stdev(seeds):.3f}" if len(seeds) > 1 else ""
    return {
        "model": entry.model_id, "value": metric.value, "low": metric.ci_low, "high": metric.ci_high, "seeds": seeds,
        "muted": not entry.ranked,
        "says": f"{entry.model_id}: {_told(metric.value, metric.ci_low, metric.ci_high)}{spread}",
    }  # fmt: skip


def _tradeoff(board: Board, section: Section, front: Front, metric: str, anchor: str) -> Plot:
    gated, metrics = {gate.model for gate in board.suite.gate}, {one.model_id: one.primary for one in section.entries}
    shown = sorted(front.points, key=lambda point: (-point.on_front, -point.chance, point.model_id))[:TRADEOFF]
    rows = [
        {
            "model": point.model_id, "cost": point.cost, "value": point.value, "on_front": point.on_front,
            "chance": point.chance, "low": found.ci_low if found is not None else None,
            "high": found.ci_high if found is not None else None,
            "named": len(shown) <= NAMED or point.on_front or point.model_id in gated,
            "says": f"{point.model_id}: {_told_of(found)} for {point.cost:,.6g} {_COSTS[front.cost]}, "
            f"on the front in {formats.percent(point.chance)} of resamples",
        }
        for point in sorted(shown, key=lambda point: (point.cost, point.model_id))
        for found in [metrics.get(point.model_id)]
        if point.cost > 0
    ]  # fmt: skip
    cost = _COSTS[front.cost]
    title = f"{metric} against {cost} on {section.split.id}"
    drawn = plots_svg.tradeoff(rows, cost, metric, plot_id=f"{anchor}:{front.cost}", title=title)
    surest = [f"{point.model_id} {formats.percent(point.chance)}" for point in shown if point.on_front][:PANELS]
    first = f" Only the {TRADEOFF} likeliest of {formats.count(len(front.points))} models are drawn." * (
        len(front.points) > TRADEOFF
    )
    note = f"{metric} with 95 % intervals against {cost}: the line is the Pareto front. The larger a point,"
    caption = f"{note} the more often it is on the front in bootstrap resamples: {', '.join(surest)}.{first}"
    return Plot(drawn, caption, cost)


def _bins(board: Board, entry: Entry) -> list[dict[str, Any]]:
    seeds = [board.outcomes[scored.run.run_id] for scored in entry.runs]
    keys = [scored.run.run_key for scored in entry.runs]
    return [
        {
            "model": entry.model_id, "confidence": one.confidence, "accuracy": one.accuracy, "low": one.ci_low,
            "high": one.ci_high, "n": one.n,
            "says": f"{entry.model_id} at confidence {one.confidence:.2f}: accuracy "
            f"{_told(one.accuracy, one.ci_low, one.ci_high)}, {one.n} predictions",
        }
        for one in calibration.reliability(seeds, estimates.generator_for(keys, "reliability"))
    ]  # fmt: skip


def _curves(trained: Sequence[Entry]) -> tuple[list[dict[str, Any]], list[Entry]] | None:
    named = [entry for entry in trained if any(smoothed(record) for record in entry.adapters)][: plots_svg.SERIES]
    rows = [
        {"model": entry.model_id, "seed": formats.seed(record.seed), "step": step, "loss": loss}
        for entry in named
        for record in entry.adapters
        for step, loss in smoothed(record)
    ]
    return (rows, named) if rows else None


def smoothed(record: AdapterRecord) -> list[tuple[float, float]]:
    """Mean step and mean loss (nats) of each stretch of an adapter's training; empty where its card has no curve."""
    curve = record.card.get("curve") or []
    size = max(1, len(curve) // CURVE_POINTS)
    parts = [curve[start : start + size] for start in range(0, len(curve) - len(curve) % size, size)]
    return [(statistics.fmean(row[0] for row in part), statistics.fmean(row[2] for row in part)) for part in parts]


def _first(shown: Sequence[Entry], of: Sequence[Entry]) -> str:
    return f", of the first {len(shown)}" if len(shown) < len(of) else ""


def _told_of(metric: Metric | None) -> str:
    return _told(metric.value, metric.ci_low, metric.ci_high) if metric is not None else formats.ABSENT


def _told(value: float | None, low: float | None, high: float | None) -> str:
    return f"{formats.score(value)} {formats.interval(low, high)}".strip()
