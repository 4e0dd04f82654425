"""Small drawings: every mark inside, nothing that markup could break."""

import re
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from leaderboard.plots import inline
from leaderboard.plots.inline import Mark, Reference, Scale


def places(drawn: str) -> dict[str, float]:
    return {name: float(at) for name, at in re.findall(r"--(\w):(-?[\d.]+)", drawn)}


def test_a_bar_is_hidden_from_screen_readers_and_drawn_to_the_tables_scale() -> None:
    drawn = inline.bar(Mark("best", 0.9, 0.85, 0.94), Scale(0.0, 1.0))
    assert places(drawn) == {"l": 85.0, "h": 94.0, "p": 90.0}
    assert 'aria-hidden="true"' in drawn


def test_a_bar_without_an_interval_is_its_point_and_one_outside_the_ranking_is_muted() -> None:
    drawn = inline.bar(Mark("bare", 0.5, None, None, muted=True), Scale(0.0, 1.0))
    assert places(drawn) == {"l": 50.0, "h": 50.0, "p": 50.0}
    assert 'class="bar muted"' in drawn


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=6), st.none() | st.floats(-30, 30))
def test_nothing_is_drawn_outside_whatever_the_numbers(values: list[float], line: float | None) -> None:
    marks = [Mark("m", value, value - 0.01, value + 0.01, (value,)) for value in values]
    shown = inline.scale(marks, Reference("r", line) if line is not None else None)
    for mark in marks:
        assert all(0 <= place <= 100 for place in places(inline.bar(mark, shown)).values())


def test_a_scale_without_marks_or_with_one_point_still_has_a_width() -> None:
    assert inline.scale([], None) == Scale(-0.04, 1.04)
    lonely = inline.scale([Mark("m", 0.5, None, None)], None)
    assert lonely.low < 0.5 < lonely.high


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=50))
def test_a_line_stays_inside_its_drawing_and_its_title_is_escaped(values: list[float]) -> None:
    svg = ElementTree.fromstring(inline.line(values, '<"loss">'))
    assert svg.get("aria-label") == '<"loss">'
    points = [tuple(map(float, point.split(","))) for point in str(svg[0].get("points")).split()]
    assert len(points) == len(values)
    assert all(0 <= x <= 240 and 0 <= y <= 60 for x, y in points)
