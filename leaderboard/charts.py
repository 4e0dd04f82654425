"""Small SVG drawings as strings. Colours are CSS classes, so they follow the page into dark mode.

Horizontal places are percentages of the drawing's width and heights are pixels: a chart fits a phone without its text
shrinking.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from leaderboard import formats

BAR_WIDTH, BAR_HEIGHT = 160, 14
_ROW, _HEAD, _FOOT = 36, 26, 26  # pixels
_PAD = 0.04  # share of the data's range that stays empty on either side


@dataclass(frozen=True, slots=True)
class Mark:
    """A point with its interval and the seeds behind it."""

    label: str
    value: float
    low: float | None
    high: float | None
    seeds: tuple[float, ...] = ()
    """Values of the single seeds, where there are several."""
    muted: bool = False
    """Whether it stands outside the ranking."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A dashed vertical line to read the marks against."""

    label: str
    value: float


@dataclass(frozen=True, slots=True)
class Scale:
    """What part of the number line a drawing shows."""

    low: float
    high: float

    def percent(self, value: float) -> float:
        """Place from the left edge, in 0…100."""
        return 100 * (value - self.low) / (self.high - self.low)


def scale(marks: Iterable[Mark], reference: Reference | None) -> Scale:
    """A scale that holds every mark, interval, seed and the reference, with some room."""
    values = [reference.value] if reference is not None else []
    for mark in marks:
        values += [mark.value, *mark.seeds, *(end for end in (mark.low, mark.high) if end is not None)]
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = _PAD * (high - low) or 0.05
    return Scale(low - room, high + room)


def ticks(shown: Scale) -> list[float]:
    """Four to nine round numbers inside a scale."""
    rough = (shown.high - shown.low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first, last = math.ceil(shown.low / step), math.floor(shown.high / step)
    return [round(i * step, 12) for i in range(first, last + 1)]


def bar(mark: Mark, shown: Scale, reference: Reference | None) -> Markup:
    """The mark in a table's cell. Hidden from screen readers: the number stands beside it."""
    middle = BAR_HEIGHT / 2

    def x(value: float) -> str:
        return f"{shown.percent(value) * BAR_WIDTH / 100:.1f}"

    parts = [f'<line class="track" x1="0" x2="{BAR_WIDTH}" y1="{middle}" y2="{middle}"/>']
    if reference is not None:
        parts.append(
            f'<line class="reference" x1="{x(reference.value)}" x2="{x(reference.value)}" y1="0" y2="{BAR_HEIGHT}"/>'
        )
    if mark.low is not None and mark.high is not None:
        parts.append(f'<line class="interval" x1="{x(mark.low)}" x2="{x(mark.high)}" y1="{middle}" y2="{middle}"/>')
    parts.append(f'<circle class="point" cx="{x(mark.value)}" cy="{middle}" r="3"/>')
    kind = "bar muted" if mark.muted else "bar"
    return Markup(
        f'<svg class="{kind}" width="{BAR_WIDTH}" height="{BAR_HEIGHT}" viewBox="0 0 {BAR_WIDTH} {BAR_HEIGHT}"'
        f' aria-hidden="true" focusable="false">{"".join(parts)}</svg>'
    )


def forest(marks: Sequence[Mark], shown: Scale, reference: Reference | None, *, chart_id: str, title: str) -> Markup:
    """A forest plot: one row per mark, its label right above its interval.

    Args:
        marks: from top to bottom.
        shown: the axis.
        reference: a dashed line down the whole plot, with its label on top.
        chart_id: unique on its page.
        title: what it shows; the description that goes with it lists every number.
    """
    bottom = _HEAD + _ROW * len(marks)
    parts = [Markup('<g class="axis">')]
    for tick in ticks(shown):
        at = _percent(shown, tick)
        parts.append(Markup('<line class="grid" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(at, _HEAD, bottom))
        parts.append(Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(at, bottom + 18, _tick(tick)))
    parts.append(Markup("</g>"))
    if reference is not None:
        parts.append(_reference_line(reference, shown, bottom))
    parts += [_row(mark, shown, _HEAD + _ROW * i) for i, mark in enumerate(marks)]
    return Markup(
        '<svg class="forest" width="100%" height="{height}" role="img" aria-labelledby="{id}:title {id}:desc">'
        '<title id="{id}:title">{title}</title><desc id="{id}:desc">{desc}</desc>{parts}</svg>'
    ).format(
        height=bottom + _FOOT,
        id=chart_id,
        title=title,
        desc=_description(marks, reference),
        parts=Markup("").join(parts),
    )


def _reference_line(reference: Reference, shown: Scale, bottom: int) -> Markup:
    at = _percent(shown, reference.value)
    return Markup(
        '<g class="reference"><line x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>'
        '<text x="{0}" y="{3}" dx="{4}" text-anchor="{5}">{6} {7}</text></g>'
    ).format(
        at,
        _HEAD - 8,
        bottom,
        12,
        *_beside(shown.percent(reference.value)),
        reference.label,
        formats.score(reference.value),
    )


def _row(mark: Mark, shown: Scale, top: int) -> Markup:
    line = top + 26
    ends = (mark.low, mark.high) if mark.low is not None and mark.high is not None else (mark.value, mark.value)
    left_half = shown.percent(mark.value) < 50
    label_at, anchor = (ends[0], "start") if left_half else (ends[1], "end")
    seeds = Markup("").join(
        Markup('<circle class="seed" cx="{}" cy="{}" r="2.5"/>').format(_percent(shown, value), line)
        for value in mark.seeds
    )
    return Markup(
        '<g class="{kind}"><text x="{at}" y="{text_y}" text-anchor="{anchor}"><tspan class="label">{label}</tspan>'
        ' <tspan class="value">{value}</tspan></text>'
        '<line class="interval" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>{seeds}'
        '<circle class="point" cx="{x}" cy="{y}" r="4.5"/></g>'
    ).format(
        kind="mark muted" if mark.muted else "mark",
        at=_percent(shown, label_at),
        text_y=top + 16,
        anchor=anchor,
        label=mark.label,
        value=formats.score(mark.value),
        low=_percent(shown, ends[0]),
        high=_percent(shown, ends[1]),
        y=line,
        seeds=seeds,
        x=_percent(shown, mark.value),
    )


def _beside(percent: float) -> tuple[int, str]:
    """Shift in pixels and anchor of a text that must not leave the drawing."""
    return (6, "start") if percent < 50 else (-6, "end")


def _description(marks: Sequence[Mark], reference: Reference | None) -> str:
    sentences = [
        f"{mark.label}: {formats.score(mark.value)}"
        + (f", 95 % interval {formats.interval(mark.low, mark.high)}." if mark.low is not None else ".")
        for mark in marks
    ]
    if reference is not None:
        sentences.append(f"Dashed line: {reference.label}, {formats.score(reference.value)}.")
    return " ".join(sentences)


def _percent(shown: Scale, value: float) -> str:
    return f"{shown.percent(value):.2f}%"


def _tick(value: float) -> str:
    return f"{value:g}".replace("-", "−")
