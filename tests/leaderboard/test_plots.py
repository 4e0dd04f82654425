"""Plots: the same bytes, text as text, colours of the style sheet, labelled marks."""

import re
from typing import Any
from xml.etree import ElementTree

import pytest
from markupsafe import Markup

from leaderboard.plots import svg as plots_svg

HOSTILE = "</title><script>&"
FOREST: list[dict[str, Any]] = [
    {"model": "best", "value": 0.9, "low": 0.85, "high": 0.94, "seeds": [0.89, 0.91], "muted": False,
     "says": "best: 0.9"},
    {"model": HOSTILE, "value": 0.5, "low": None, "high": None, "seeds": [], "muted": True, "says": HOSTILE},
]  # fmt: skip
POINTS: list[dict[str, Any]] = [
    {"model": f"m{i}", "cost": 10.0**i, "value": 0.8 + 0.01 * i, "chance": 0.5, "on_front": i != 2, "says": f"m{i} is",
     "low": 0.7 if i else None, "high": 0.9 if i else None, "named": True}
    for i in range(4)
]  # fmt: skip
BINS: list[dict[str, Any]] = [
    {"model": model, "confidence": 0.55, "accuracy": 0.6, "low": 0.5, "high": 0.7, "n": 9, "says": f"{model} at 0.55"}
    for model in ("b", "a")
]
SLICES: list[dict[str, Any]] = [
    {"slice": part, "model": model, "value": 0.8, "low": 0.7, "high": 0.9, "says": f"{model} on {part}"}
    for part in ("length=short", "length=long")
    for model in ("b", "a")
]
CURVE: list[dict[str, Any]] = [{"model": "m", "seed": "13", "step": i, "loss": 0.7 - i / 100} for i in range(20)]


PAST: list[dict[str, Any]] = [
    {"evaluation": f"{commit}|2026-03-0{day} 12:00", "seed": seed, "value": 0.8, "low": low, "high": 0.9,
     "current": day == 3, "dirty": day == 2, "says": f"{commit}, seed {seed}"}
    for day, (commit, low) in enumerate([("aaaaaaa", None), (f"bbbbbbb {HOSTILE}", 0.7), ("ccccccc", 0.7)], start=1)
    for seed in ("13", "42")
]  # fmt: skip


def every_plot() -> list[Markup]:
    return [
        plots_svg.forest(
            FOREST, "Accuracy", (0.4, 0.95), ("majority class", 0.5), plot_id="forest", title="Scores & more"
        ),
        plots_svg.tradeoff(POINTS, "bytes", "Accuracy", plot_id="tradeoff", title="Cost"),
        plots_svg.reliability(BINS, plot_id="reliability", title="Calibration"),
        plots_svg.by_slice(SLICES, "Accuracy", plot_id="slices", title="Slices"),
        plots_svg.curves(CURVE, plot_id="curves", title="Loss"),
        plots_svg.history(PAST, "Accuracy", plot_id="history", title="Over evaluations"),
    ]


@pytest.fixture(scope="module")
def drawn() -> list[ElementTree.Element]:
    return [ElementTree.fromstring(plot) for plot in every_plot()]


def words(svg: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in svg.iter("text")]


def test_the_same_rows_give_the_same_bytes_when_drawn_again() -> None:
    first = every_plot()
    plots_svg.draw.cache_clear()
    assert every_plot() == first


def test_a_plot_is_an_image_with_a_title_and_every_number_in_its_description(drawn: list[ElementTree.Element]) -> None:
    svg = drawn[0]
    assert svg.get("role") == "img"
    assert svg.get("aria-labelledby") == "forest:title forest:desc"
    assert svg.findtext("title") == "Scores & more"
    assert svg.findtext("desc") == f"best: 0.9. {HOSTILE}."


def test_text_stays_text_and_hostile_text_is_harmless(drawn: list[ElementTree.Element]) -> None:
    assert {"best", HOSTILE, "Accuracy"} <= set(words(drawn[0]))
    assert {"m0", "m1", "m3", "bytes"} <= set(words(drawn[1]))
    assert {"length=short", "length=long", "b", "a"} <= set(words(drawn[3]))
    assert not [element for svg in drawn for element in svg.iter("script")]


def test_every_colour_is_one_of_the_style_sheets(drawn: list[ElementTree.Element]) -> None:
    for svg in drawn:
        colours = {element.get(name, "none") for element in svg.iter() for name in ("fill", "stroke")}
        assert all(colour in {"none", "transparent"} or colour.startswith("var(--") for colour in colours), colours


def test_only_the_title_and_the_description_have_ids_so_plots_of_a_page_cannot_meet() -> None:
    for plot in every_plot():
        assert len(re.findall(r'\bid="', plot)) == 2
        assert "url(" not in plot
        assert "http" not in plot


def test_every_point_says_what_it_is_when_pointed_at(drawn: list[ElementTree.Element]) -> None:
    titles = [[title.text for title in svg.iter("title")][1:] for svg in drawn]
    assert titles[0] == ["majority class: 0.500", "best: 0.9", "best: 0.9", HOSTILE, "best: 0.9", "best: 0.9"]
    assert [title for title in titles[1] if title and " is" in title] == [
        *("m1 is", "m2 is", "m3 is"),  # intervals
        *("m0 is", "m1 is", "m2 is", "m3 is"),
    ]
    assert [title for title in titles[2] if title and "at 0.55" in title] == ["b at 0.55", "a at 0.55"]


def test_a_history_names_evaluations_in_order_and_draws_what_was_not_committed_as_rings(
    drawn: list[ElementTree.Element],
) -> None:
    lines = ["".join(line.itertext()) for line in drawn[5].iter("tspan")]
    named = [word for word in lines if word[:7] in {"aaaaaaa", "bbbbbbb", "ccccccc"}]
    assert [word[:7] for word in named] == ["aaaaaaa", "bbbbbbb", "ccccccc"]
    assert f"bbbbbbb {HOSTILE}" in named, "text stays text"
    assert [word for word in lines if word[:4] == "2026"] == [row["evaluation"].split("|")[1] for row in PAST[::2]]
    marks = [element for element in drawn[5].iter("path") if element.find("title") is not None]
    rings = [mark.findtext("title") for mark in marks if mark.get("fill") == "var(--paper)"]
    assert rings == [row["says"] for row in PAST if row["dirty"]]
    accent = {mark.findtext("title") for mark in marks if "var(--accent)" in (mark.get("fill"), mark.get("stroke"))}
    assert accent == {row["says"] for row in PAST if row["current"]}


def test_panels_and_legends_stand_in_the_order_of_the_entries(drawn: list[ElementTree.Element]) -> None:
    assert [word for word in words(drawn[2]) if word in "ab"] == ["b", "a"]
    assert [word for word in words(drawn[3]) if word in "ab"] == ["b", "a"]


def heights(svg: ElementTree.Element) -> list[float]:
    """The vertical positions that marks' groups and rules span, in pixels of the plot."""
    lines = [float(line.get("y2") or 0) for line in svg.iter("line")]
    return [abs(height) for height in lines if height]


def test_a_cost_plots_axis_spans_every_interval_and_its_points_have_names() -> None:
    wide = [{**row, "low": 0.2, "high": 0.99, "named": True} for row in POINTS]
    svg = ElementTree.fromstring(plots_svg.tradeoff(wide, "bytes", "Accuracy", plot_id="t", title="Cost"))
    assert {"m0", "m1", "m2", "m3"} <= set(words(svg))
    marks = [float(word) for word in words(svg) if re.fullmatch(r"0\.\d+|1", word)]
    assert min(marks) <= 0.3
    assert max(marks) >= 0.9
    assert max(heights(svg)) <= 300, "no interval leaves the plot"


def test_a_score_beyond_the_axis_is_an_arrow_and_its_interval_is_not_drawn() -> None:
    svg = plots_svg.forest(FOREST, "Accuracy", (0.8, 0.95), ("chance", 0.5), plot_id="f", title="Scores")
    within = plots_svg.forest(FOREST, "Accuracy", (0.4, 0.95), ("chance", 0.5), plot_id="f", title="Scores")
    assert "chance: 0.500" in within
    assert "chance: 0.500" not in svg
    assert words(ElementTree.fromstring(svg)).count("best") == 1
