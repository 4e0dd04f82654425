"""Small drawings in the rows of tables, formatted by hand: microseconds each, where a plot takes a tenth of a second.

A bar is an element that the style sheet positions by percentages; it is hidden from screen readers, since the numbers
are next to it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

_PAD = 0.04  # share of the data's range that stays empty on either side
_WIDTH, _HEIGHT = 240, 60  # units of a line's drawing, which scales


@dataclass(frozen=True, slots=True)
class Mark:
    """A point with its interval and the seeds behind it."""

    label: str
    value: float
    low: float | None
    high: float | None
    seeds: tuple[float, ...] = ()
    """Values of the individual seeds, where there are several."""
    muted: bool = False
    """True for an entry outside the ranking."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A dashed vertical line to read the marks against."""

    label: str
    value: float


@dataclass(frozen=True, slots=True)
class Scale:
    """Range of the number line that a drawing shows."""

    low: float
    high: float

    def percent(self, value: float) -> float:
        """Position from the left edge, in 0…100."""
        return 100 * (value - self.low) / (self.high - self.low)


def scale(marks: Iterable[Mark], reference: Reference | None) -> Scale:
    """A scale that covers every mark, interval and seed and the reference, with some margin."""
    values = [reference.value] if reference is not None else []
    for mark in marks:
        values += [mark.value, *mark.seeds, *(end for end in (mark.low, mark.high) if end is not None)]
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = _PAD * (high - low) or 0.05
    return Scale(low - room, high + room)


def bar(mark: Mark, shown: Scale) -> Markup:
    """The mark with its interval on a line: `--p` is its position, `--l` and `--h` are the interval's ends.

    The interval is cut at the ends of the scale; a mark beyond them is an arrow at that end.
    """
    low, high = (mark.low, mark.high) if mark.low is not None and mark.high is not None else (mark.value, mark.value)
    beyond = "" if shown.low <= mark.value <= shown.high else " under" if mark.value < shown.low else " over"
    places = ";".join(
        f"--{name}:{min(100.0, max(0.0, shown.percent(at))):.1f}"
        for name, at in (("l", low), ("h", high), ("p", mark.value))
    )
    kind = ("bar muted" if mark.muted else "bar") + beyond
    return Markup('<span class="{}" style="{}" aria-hidden="true"></span>').format(kind, places)


def zero_bar(mark: Mark, shown: Scale) -> Markup:
    """A difference with its interval beside the line of no difference, whose position is `--z`."""
    low, high = (mark.low, mark.high) if mark.low is not None and mark.high is not None else (mark.value, mark.value)
    places = ";".join(
        f"--{name}:{shown.percent(at):.1f}" for name, at in (("l", low), ("h", high), ("p", mark.value), ("z", 0.0))
    )
    drawn = Markup('<span class="bar zero"></span><span class="nought">0</span><span class="right">better →</span>')
    return Markup('<div class="zeroed" style="{}" aria-hidden="true">{}</div>').format(places, drawn)


def line(values: Sequence[float], title: str) -> Markup:
    """A small line over equally spaced steps, such as a training loss, its lowest value on the bottom edge.

    Args:
        values: at least two.
        title: a description with its numbers.
    """
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    points = " ".join(
        f"{_WIDTH * i / (len(values) - 1):.1f},{_HEIGHT * (1 - (value - low) / span):.1f}"
        for i, value in enumerate(values)
    )
    return Markup(
        '<svg class="line" viewBox="-2 -2 {} {}" role="img" aria-label="{}"><polyline points="{}"/></svg>'
    ).format(_WIDTH + 4, _HEIGHT + 4, title, points)
