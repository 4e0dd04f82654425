"""The index page's plots: Altair specifies them, vl-convert draws them without a browser. Same rows, same bytes.

Each is a static SVG inside the page, for print and for a browser without JavaScript. Colours are the style sheet's
variables, so a plot follows the page into dark mode; text stays text; a mark's meaning is its native tooltip. An
interactive version would need Vega's runtime, which alone takes more than half of the first page's size limit.
"""

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from xml.etree import ElementTree

import altair as alt
import vl_convert
from markupsafe import Markup

from harness.output.visible import visible

WIDTH = 440
"""Width of a plot at full size in pixels; on a phone it shrinks by a fifth, and its text is sized for that."""
_ROW = 22  # pixels of a row
_PALETTE = [f"var(--plot-{i})" for i in range(1, 7)]
SERIES = len(_PALETTE)
"""Number of series that a plot distinguishes by colour."""
_SVG = "{http://www.w3.org/2000/svg}"
_DROPPED = {"aria-label", "aria-roledescription", "aria-hidden", "role", "pointer-events", "font-family", "class"}
_CONFIG: dict[str, Any] = {
    "background": None,
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--soft)", "titleColor": "var(--soft)", "gridColor": "var(--rule)",
        "tickColor": "var(--rule)", "domain": False, "labelFontSize": 12, "titleFontSize": 12,
        "titleFontWeight": "normal", "labelLimit": 150,
    },
    "legend": {
        "labelColor": "var(--ink)", "titleColor": "var(--soft)", "labelFontSize": 12, "titleFontSize": 12,
        "titleFontWeight": "normal", "orient": "bottom", "columns": 2, "labelLimit": 190, "symbolStrokeWidth": 2,
    },
    "header": {"labelColor": "var(--ink)", "labelFontSize": 12, "labelLimit": 190},
    "text": {"fontSize": 12, "fill": "var(--ink)"},
    "point": {"filled": True, "opacity": 1},
}  # fmt: skip

Rows = Sequence[dict[str, Any]]


def forest(
    rows: Rows,
    metric: str,
    shown: tuple[float, float],
    reference: tuple[str, float] | None,
    *,
    plot_id: str,
    title: str,
) -> Markup:
    """The primary metric of each entry with its interval, and each seed's as a ring.

    Args:
        rows: from top to bottom: `model`, `value`, `low`, `high` (None without an interval), `seeds` (their values),
            `muted` (not ranked) and `says`.
        metric: the axis's title.
        shown: ends of the axis; intervals are cut there, and a value beyond them is an arrow at that end.
        reference: name and value of a dashed line; not drawn where it lies beyond the axis.
        plot_id: unique on its page.
        title: a description.
    """
    low, high = shown
    models = [row["model"] for row in rows]
    y = alt.Y("model:N", title=None, sort=models, axis=alt.Axis(labelColor="var(--ink)", grid=False, ticks=False))
    colour = alt.condition("datum.muted", alt.value("var(--muted)"), alt.value("var(--accent)"))
    scale = alt.Scale(domain=[low, high], zero=False, nice=False, padding=8)
    x = alt.X("value:Q", title=metric, scale=scale, axis=_AXIS)

    def within(value: float) -> float:
        return min(high, max(low, value))

    every = [{**row, "value": within(row["value"]), "beyond": not low <= row["value"] <= high} for row in rows]
    points, arrows = ([row for row in every if row["beyond"] is beyond] for beyond in (False, True))
    layers: list[Any] = []
    if reference is not None and low <= reference[1] <= high:
        named = [{"at": reference[1], "says": f"{reference[0]}: {reference[1]:.3f}"}]
        line = alt.Chart(_data(named)).mark_rule(color="var(--soft)", strokeDash=[3, 3])
        layers.append(line.encode(x=alt.X("at:Q", title=metric, scale=scale), description="says:N"))
    drawn = [
        {**row, "low": within(row["low"]), "high": within(row["high"])} for row in points if row["low"] is not None
    ]
    if drawn:
        whisker = alt.Chart(_data(drawn)).mark_rule(strokeWidth=2).encode(y=y, color=colour, description="says:N")
        layers.append(whisker.encode(x=alt.X("low:Q", title=metric, scale=scale), x2="high:Q"))
    if points:
        layers.append(alt.Chart(_data(points)).mark_point(size=75).encode(x=x, y=y, color=colour, description="says:N"))
    if arrows:
        arrow = alt.Chart(_data(arrows)).mark_point(size=60, shape="triangle-left")
        layers.append(arrow.encode(x=x, y=y, color=colour, description="says:N"))
    seeds = [{**row, "seed": value} for row in points for value in row["seeds"] if low <= value <= high]
    if seeds:
        ring = alt.Chart(_data(seeds)).mark_point(size=28, filled=False, strokeWidth=1.2)
        layers.append(
            ring.encode(y=y, x=alt.X("seed:Q", title=metric, scale=scale), color=colour, description="says:N")
        )
    chart = alt.layer(*layers).properties(width=WIDTH, height=_ROW * len(rows) + 40)
    return _svg(chart, plot_id, title, rows)


def tradeoff(rows: Rows, cost: str, metric: str, *, plot_id: str, title: str) -> Markup:
    """Score with its interval against cost, the Pareto front as a line; the larger a point, the likelier it is on it.

    The axis spans every interval.

    Args:
        rows: `model`, `cost` > 0, `value`, `low`, `high` (None without an interval), `chance` in [0, 1], `on_front`,
            `named` (its name is drawn), `says`, sorted by cost.
    """
    x = alt.X(
        "cost:Q",
        title=cost,
        scale=alt.Scale(type="log", padding=40),
        axis=alt.Axis(format="~s", tickCount=4, grid=False),
    )
    axis = alt.Axis(tickCount=5, format=".2~f")
    y = alt.Y("value:Q", title=metric, scale=alt.Scale(zero=False, padding=16), axis=axis)
    front = [row for row in rows if row["on_front"]]
    colour = alt.condition("datum.on_front", alt.value("var(--accent)"), alt.value("var(--muted)"))
    size = alt.Size("chance:Q", scale=alt.Scale(domain=[0, 1], range=[18, 180]), legend=None)
    line = alt.Chart(_data(front)).mark_line(interpolate="step-after", color="var(--accent)", strokeWidth=1.2)
    layers: list[Any] = [line.encode(x=x, y=y)]
    if ranged := [row for row in rows if row["low"] is not None]:
        whisker = alt.Chart(_data(ranged)).mark_rule(strokeWidth=1.6)
        layers.append(
            whisker.encode(x=x, y=alt.Y("low:Q", title=metric), y2="high:Q", color=colour, description="says:N")
        )
    points = alt.Chart(_data(rows)).mark_point()
    layers.append(points.encode(x=x, y=y, size=size, color=colour, description="says:N"))
    # Names of neighbours stand above and below their intervals in turn, so that they do not cover each other.
    for end, shift, turn in (("high", -8, 0), ("low", 14, 1)):
        named = [{**row, "at": row[end] if row[end] is not None else row["value"]} for row in rows if row["named"]][
            turn::2
        ]
        if named:
            text = alt.Chart(_data(named)).mark_text(align="center", dy=shift, limit=150)
            layers.append(text.encode(x=x, y=alt.Y("at:Q", title=metric), text="model:N"))
    return _svg(alt.layer(*layers).properties(width=WIDTH, height=300), plot_id, title, rows)


def curves(rows: Rows, *, plot_id: str, title: str) -> Markup:
    """Training loss by step, a line for each seed, a colour for each entry.

    Args:
        rows: `model`, `seed`, `step`, `loss` in nats.
    """
    chart = (
        alt.Chart(_data(rows))
        .mark_line(strokeWidth=1.4)
        .encode(
            x=alt.X("step:Q", title="optimizer step", axis=alt.Axis(tickCount=5, grid=False)),
            y=alt.Y("loss:Q", title="training loss (nats)", axis=alt.Axis(tickCount=5)),
            color=_series(),
            detail="seed:N",
        )
    )
    return _svg(chart.properties(width=WIDTH, height=260), plot_id, title, ())


def learning(rows: Rows, crossovers: Rows, metric: str, *, plot_id: str, title: str) -> Markup:
    """A metric by number of training rows on a log scale, a colour for each model; below it, the crossovers.

    Args:
        rows: `model`, `rows`, `value`, `low`, `high` (None without an interval), `flat` (drawn as a dashed line between
            two of its rows) and `says`.
        crossovers: in the colour of `model`, from `low` to `high` rows, a point `at` some rows (None where it lies
            beyond them), an arrow at the ends that lie `before` and `after` the rows that were tried, and `says`.
    """
    models = list(dict.fromkeys(row["model"] for row in rows))
    ends = [end for row in rows for end in (row["value"], row["low"], row["high"]) if end is not None]
    step = 0.07 * (max(ends) - min(ends))
    placed = [{**one, "place": min(ends) - step * (i + 1.2)} for i, one in enumerate(crossovers)]
    # Intervals of one number of rows stand beside each other, so that they do not cover one another.
    aside = {model: 1.035 ** (i - (len(models) - 1) / 2) for i, model in enumerate(models)}
    beside = [{**row, "rows": row["rows"] * aside[row["model"]]} for row in rows]
    sizes = sorted({row["rows"] for row in rows})
    axis = alt.Axis(values=sizes, format=",", grid=False, labelOverlap="greedy", labelFlush=False)
    scale = alt.Scale(type="log", nice=False, padding=14)
    vertical = alt.Scale(zero=False, nice=False, padding=10)

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", title="training rows (log scale)", scale=scale, axis=axis)

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", title=metric, scale=vertical, axis=_AXIS)

    colour = _series(models)
    layers: list[Any] = []
    for flat in (False, True):
        if some := [row for row in beside if row["flat"] is flat]:
            line = alt.Chart(_data(some)).mark_line(strokeWidth=1.6, strokeDash=[4, 3] if flat else [1, 0])
            layers.append(line.encode(x=x("rows"), y=y("value"), color=colour))
            point = alt.Chart(_data(some)).mark_point(size=30)
            layers.append(point.encode(x=x("rows"), y=y("value"), color=colour, description="says:N"))
    if drawn := [row for row in beside if row["low"] is not None]:
        whisker = alt.Chart(_data(drawn)).mark_rule(strokeWidth=1.6)
        layers.append(whisker.encode(x=x("rows"), y=y("low"), y2="high:Q", color=colour, description="says:N"))
    if placed:
        whisker = alt.Chart(_data(placed)).mark_rule(strokeWidth=2.4)
        layers.append(whisker.encode(x=x("low"), x2="high:Q", y=y("place"), color=colour, description="says:N"))
    for end, at, shape in (("before", "low", "triangle-left"), ("after", "high", "triangle-right")):
        if some := [one for one in placed if one[end]]:
            arrow = alt.Chart(_data(some)).mark_point(size=60, shape=shape)
            layers.append(arrow.encode(x=x(at), y=y("place"), color=colour, description="says:N"))
    if some := [one for one in placed if one["at"] is not None]:
        point = alt.Chart(_data(some)).mark_point(size=75, shape="diamond")
        layers.append(point.encode(x=x("at"), y=y("place"), color=colour, description="says:N"))
    said = [*dict.fromkeys(row["says"] for row in [*rows, *crossovers])]
    chart = alt.layer(*layers).properties(width=WIDTH, height=340)
    return _svg(chart, plot_id, title, [{"says": one} for one in said])


def reliability(rows: Rows, *, plot_id: str, title: str) -> Markup:
    """Accuracy against confidence in bins, one panel per entry; on the dashed line, accuracy equals confidence.

    Args:
        rows: `model`, `confidence` and `accuracy` in [0, 1], `low`, `high` (the accuracy's interval), `n`, `says`.
    """
    unit, half = alt.Scale(domain=[0, 1]), alt.Scale(domain=[0.5, 1])
    x = alt.X("confidence:Q", title="confidence", scale=half, axis=alt.Axis(tickCount=3, values=[0.5, 0.75, 1]))
    y = alt.Y("accuracy:Q", title="accuracy", scale=unit, axis=alt.Axis(tickCount=3))
    base = alt.Chart().encode(x=x)
    # A line through each panel's own points at y = x: its ends are those of the scale.
    ideal = base.transform_aggregate(n="count()", groupby=["model"]).transform_calculate(from_="0.5", to="1")
    ideal = ideal.mark_rule(color="var(--soft)", strokeDash=[3, 3]).encode(
        x=alt.X("from_:Q", title="confidence", scale=half),
        x2="to:Q",
        y=alt.Y("from_:Q", title="accuracy", scale=unit),
        y2="to:Q",
    )
    layers = alt.layer(
        ideal,
        base.mark_rule(color="var(--accent)", strokeWidth=1.5).encode(y=alt.Y("low:Q", scale=unit), y2="high:Q"),
        base.mark_point(size=30, color="var(--accent)").encode(y=y, description="says:N"),
    ).properties(width=WIDTH / 2 - 60, height=WIDTH / 2 - 60)
    data = _data([row for row in rows if row["low"] is not None])
    models = list(dict.fromkeys(row["model"] for row in rows))
    chart = layers.facet(facet=alt.Facet("model:N", title=None, sort=models), columns=2, data=data)
    return _svg(chart, plot_id, title, rows, fit=False)


def by_slice(rows: Rows, metric: str, *, plot_id: str, title: str) -> Markup:
    """The metric by slice, a colour for each entry.

    Args:
        rows: `slice`, `model`, `value`, `low`, `high` and `says`.
    """
    names = list(dict.fromkeys(row["slice"] for row in rows))
    models = list(dict.fromkeys(row["model"] for row in rows))
    offset = alt.YOffset("model:N", sort=models)
    y = alt.Y("slice:N", title=None, sort=names, axis=alt.Axis(labelColor="var(--ink)", ticks=False, grid=False))
    x = alt.X("value:Q", title=metric, scale=alt.Scale(zero=False, nice=False, padding=8), axis=_AXIS)
    base = alt.Chart(_data(rows)).encode(y=y, yOffset=offset, color=_series(models), description="says:N")
    whisker = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=metric), x2="high:Q")
    chart = alt.layer(whisker, base.mark_point(size=30).encode(x=x))
    height = len(names) * (10 * len(models) + 8) + 90
    return _svg(chart.properties(width=WIDTH, height=height), plot_id, title, rows)


def history(rows: Rows, metric: str, *, plot_id: str, title: str) -> Markup:
    """The metric of a model's runs over evaluations in chronological order, seeds of one evaluation side by side.

    Args:
        rows: sorted by time: `evaluation` (its lines joined by `|`), `seed`, `value`, `low`, `high` (None without an
            interval), `current` (on the page), `dirty` (not as committed) and `says`.
    """
    lines = "split(datum.label, '|')"
    axis = alt.Axis(labelExpr=lines, labelAngle=-90, labelOffset=-7, labelLimit=0, ticks=False, grid=False)
    names, seeds = (list(dict.fromkeys(row[name] for row in rows)) for name in ("evaluation", "seed"))
    bands = alt.Scale(paddingInner=0.4, paddingOuter=0.2)
    x = alt.X("evaluation:N", title="evaluation (UTC), evenly spaced", sort=names, scale=bands, axis=axis)
    scale = alt.Scale(zero=False, nice=False, padding=8)
    y = alt.Y("value:Q", title=metric, scale=scale, axis=_AXIS)
    colour = alt.condition("datum.current", alt.value("var(--accent)"), alt.value("var(--muted)"))
    offset = alt.XOffset("seed:N", sort=seeds)
    layers: list[Any] = []
    if drawn := [row for row in rows if row["low"] is not None]:
        whisker = alt.Chart(_data(drawn)).mark_rule(strokeWidth=2)
        low = alt.Y("low:Q", title=metric, scale=scale, axis=_AXIS)
        layers.append(whisker.encode(x=x, xOffset=offset, y=low, y2="high:Q", color=colour, description="says:N"))
    for dirty in (False, True):
        if some := [row for row in rows if row["dirty"] is dirty]:
            ring: dict[str, Any] = {"filled": False, "fill": "var(--paper)", "strokeWidth": 1.6} if dirty else {}
            point = alt.Chart(_data(some)).mark_point(size=60, **ring)
            layers.append(point.encode(x=x, xOffset=offset, y=y, color=colour, description="says:N"))
    return _svg(alt.layer(*layers).properties(width=WIDTH, height=320), plot_id, title, rows)


_AXIS = alt.Axis(tickCount=5, format=".2~f")


def _data(rows: Rows) -> alt.InlineData:
    return alt.InlineData(values=list(rows))


def _series(models: Sequence[str] | None = None) -> alt.Color:
    scale = alt.Scale(range=_PALETTE, domain=list(models)) if models else alt.Scale(range=_PALETTE)
    return alt.Color("model:N", title=None, sort=None, scale=scale)


def _svg(chart: Any, plot_id: str, title: str, rows: Rows, *, fit: bool = True) -> Markup:
    chart = chart.properties(autosize=alt.AutoSizeParams(type="fit", contains="padding")) if fit else chart
    spec = json.dumps(_visible({**chart.to_dict(), "config": _CONFIG}), sort_keys=True)
    drawn = ElementTree.fromstring(draw(spec))
    _clean(drawn)
    size = {name: drawn.attrib[name] for name in ("width", "height", "viewBox")}
    drawn.attrib.clear()
    drawn.attrib |= {"class": "plot", **size, "role": "img", "aria-labelledby": f"{plot_id}:title {plot_id}:desc"}
    named = ElementTree.Element("title", {"id": f"{plot_id}:title"})
    named.text = visible(title)
    described = ElementTree.Element("desc", {"id": f"{plot_id}:desc"})
    described.text = visible(" ".join(f"{row['says']}." for row in rows))
    drawn[:0] = [named, described]
    return Markup(ElementTree.tostring(drawn, encoding="unicode"))


def _visible(spec: Any) -> Any:
    """A specification whose strings vl-convert can draw: some characters make it end the process."""
    if isinstance(spec, dict):
        return {name: _visible(value) for name, value in spec.items()}
    if isinstance(spec, list):
        return [_visible(value) for value in spec]
    return visible(spec) if isinstance(spec, str) else spec


@lru_cache(maxsize=256)
def draw(spec: str) -> str:
    """Draw a Vega-Lite specification (JSON) as SVG, cached: `harness site --serve` redraws only what changed."""
    return vl_convert.vegalite_to_svg(spec)


@lru_cache(maxsize=64)
def png(svg: str) -> bytes:
    """A drawing as a PNG of its own size."""
    drawn: bytes = vl_convert.svg_to_png(svg, scale=1, ppi=72)
    return drawn


def _clean(element: ElementTree.Element) -> None:
    """Remove what a page does not need; make a mark's label its title, which browsers show as a tooltip."""
    element.tag = element.tag.removeprefix(_SVG)
    says = element.attrib.get("aria-label") if element.attrib.get("role") == "graphics-symbol" else None
    for name, value in list(element.attrib.items()):
        if name in _DROPPED or (name, value) in {("opacity", "1"), ("transform", "translate(0,0)")}:
            del element.attrib[name]
        else:
            element.attrib[name] = re.sub(r"\d+\.\d{2,}", lambda found: f"{float(found[0]):.1f}", value)
    for child in list(element):
        _clean(child)
        empty = child.tag == "g" and not len(child)
        if empty or (child.tag == "path" and ("stroke" not in child.attrib and "fill" not in child.attrib)):
            element.remove(child)
    if says is not None and element.tag != "g":
        title = ElementTree.SubElement(element, "title")
        title.text = says
