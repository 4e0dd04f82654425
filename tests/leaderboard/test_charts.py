"""Drawings: every mark inside, every number in words, and nothing that markup could break."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard import charts
from leaderboard.charts import Mark, Reference, Scale

MARKS = [
    Mark("best", 0.9, 0.85, 0.94, (0.89, 0.91)),
    Mark("rest", 0.5, 0.45, 0.55, muted=True),
    Mark("bare", 0.7, None, None),
]


def forest(marks: list[Mark], reference: Reference | None = None) -> ElementTree.Element:
    drawn = charts.forest(marks, charts.scale(marks, reference), reference, chart_id="c", title="Scores & more")
    return ElementTree.fromstring(drawn)


def test_a_forest_plot_is_an_image_with_a_title_and_every_number_in_its_description() -> None:
    svg = forest(MARKS, Reference("majority class", 0.5))
    assert svg.get("role") == "img"
    assert svg.get("aria-labelledby") == "c:title c:desc"
    assert svg.findtext("title") == "Scores & more"
    assert svg.findtext("desc") == (
        "best: 0.900, 95 % interval [0.850, 0.940]. rest: 0.500, 95 % interval [0.450, 0.550]. bare: 0.700."
        " Dashed line: majority class, 0.500."
    )


def test_a_forest_plot_has_a_point_per_mark_a_small_one_per_seed_and_a_line_for_the_reference() -> None:
    with_line, without = forest(MARKS, Reference("majority class", 0.5)), forest(MARKS)
    assert len(with_line.findall(".//circle[@class='point']")) == 3
    assert len(with_line.findall(".//circle[@class='seed']")) == 2
    assert len(with_line.findall("./g[@class='mark muted']")) == 1
    assert len(with_line.findall("./g[@class='reference']")) == 1
    assert without.find("./g[@class='reference']") is None


def test_labels_are_escaped() -> None:
    svg = forest([Mark("<script>&", 0.5, 0.4, 0.6)], Reference('"<b>', 0.9))
    assert svg.find(".//script") is None
    assert next(node.text for node in svg.iter("tspan")) == "<script>&"


def test_a_bar_is_hidden_from_screen_readers_and_drawn_to_the_tables_scale() -> None:
    svg = ElementTree.fromstring(charts.bar(MARKS[0], Scale(0.0, 1.0), Reference("m", 0.5)))
    assert svg.get("aria-hidden") == "true"
    point, interval, line = (svg.find(f"./*[@class='{kind}']") for kind in ("point", "interval", "reference"))
    assert point is not None
    assert interval is not None
    assert line is not None
    assert float(point.get("cx", "")) == pytest.approx(0.9 * charts.BAR_WIDTH)
    assert float(interval.get("x1", "")) == pytest.approx(0.85 * charts.BAR_WIDTH)
    assert float(interval.get("x2", "")) == pytest.approx(0.94 * charts.BAR_WIDTH, abs=0.1)
    assert float(line.get("x1", "")) == pytest.approx(0.5 * charts.BAR_WIDTH)
    muted = ElementTree.fromstring(charts.bar(Mark("x", 0.5, None, None, muted=True), Scale(0, 1), None))
    assert muted.get("class") == "bar muted"
    assert muted.find("./*[@class='interval']") is None


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=6), st.none() | st.floats(-30, 30))
def test_nothing_is_drawn_outside_whatever_the_numbers(values: list[float], line: float | None) -> None:
    marks = [Mark("m", value, value - 0.01, value + 0.01, (value,)) for value in values]
    reference = Reference("r", line) if line is not None else None
    drawn = str(charts.forest(marks, charts.scale(marks, reference), reference, chart_id="c", title="t"))
    places = [float(place) for place in re.findall(r'(?:x1|x2|cx|x)="(-?[\d.]+)%"', drawn)]
    assert places
    assert all(0 <= place <= 100 for place in places)


@given(st.floats(-50, 50), st.floats(1e-3, 50))
def test_an_axis_has_a_handful_of_round_ticks_inside_it(low: float, width: float) -> None:
    shown = Scale(low, low + width)
    ticks = charts.ticks(shown)
    assert 2 <= len(ticks) <= 8
    assert all(shown.low - 1e-9 <= tick <= shown.high + 1e-9 for tick in ticks)


def test_a_scale_without_marks_or_with_one_point_still_has_a_width() -> None:
    assert charts.scale([], None) == Scale(-0.04, 1.04)
    lonely = charts.scale([Mark("m", 0.5, None, None)], None)
    assert lonely.low < 0.5 < lonely.high
