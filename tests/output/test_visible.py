"""Text from elsewhere as it is shown: nothing in it steers a terminal, breaks a plot or cannot be written."""

import json
import subprocess
import sys
import unicodedata
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.output.visible import visible
from leaderboard.plots import svg

HOSTILE = ["\0", "\x1b", "\x7f", "\x9b", "\u2028", "\u2029", "\ufffe", "\uffff", "\ud800", "\U0001ffff", "\u202e"]


def test_ordinary_text_stays_as_it_is() -> None:
    text = "Ein schönes Buch – „très bien“, 👩‍👩‍👧 日本語\nעברית\tالعربية"
    assert visible(text) is text


@pytest.mark.parametrize("character", HOSTILE, ids=ascii)
def test_what_cannot_be_shown_is_named(character: str) -> None:
    assert visible(f"a{character}b") == f"a<U+{ord(character):04X}>b"


@given(st.text(st.characters()))
def test_what_is_shown_can_be_written_and_steers_nothing(text: str) -> None:
    shown = visible(text)
    shown.encode()
    json.loads(json.dumps(shown))
    assert visible(shown) == shown
    assert not {character for character in shown if unicodedata.category(character) == "Cc"} - set("\t\n\r")


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[str]]:
    """Plots by the character in their names, made in a process that what the library cannot bear would end."""
    made = subprocess.run([sys.executable, "-c", PLOTS, ascii(HOSTILE)], capture_output=True, text=True, check=False)
    assert made.returncode == 0 or made.stdout, made.stderr
    return dict(zip(HOSTILE, map(json.loads, made.stdout.splitlines()), strict=False))


@pytest.mark.slow
@pytest.mark.parametrize("character", HOSTILE, ids=ascii)
def test_every_plot_is_drawn_whatever_stands_in_a_name(character: str, drawn: dict[str, list[str]]) -> None:
    assert character in drawn, "the process ended before it, or at it"
    named = f"<U+{ord(character):04X}>"
    for plot in drawn[character]:
        assert f"a{named}b" in "".join(ElementTree.fromstring(plot).itertext())


PLOTS = """if True:
    import ast, json, sys
    from leaderboard.plots import svg as plots
    for character in ast.literal_eval(sys.argv[1]):
        name = "a" + character + "b"
        numbers = {"value": 0.8, "low": 0.7, "high": 0.9, "says": name, "model": name}
        rows = [{**numbers, "slice": name, "seeds": [0.8], "muted": False, "cost": 3.0, "chance": 0.5, "on_front": True,
                 "confidence": 0.6, "accuracy": 0.6, "n": 9, "seed": "1", "step": i, "loss": 0.5, "evaluation": name,
                 "current": True, "dirty": False, "named": True} for i in range(2)]
        made = [
            plots.forest(rows, name, (0.4, 0.95), (name, 0.5), plot_id="a", title=name),
            plots.tradeoff(rows, name, name, plot_id="b", title=name),
            plots.curves(rows, plot_id="c", title=name),
            plots.reliability(rows, plot_id="d", title=name),
            plots.by_slice(rows, name, plot_id="e", title=name),
            plots.history(rows, name, plot_id="f", title=name),
        ]
        print(json.dumps(made), flush=True)
"""


def test_names_that_differ_in_what_cannot_be_shown_stay_two() -> None:
    rows = [
        {"slice": f"topic={character}", "model": "m", "value": 0.8, "low": 0.7, "high": 0.9, "says": "m"}
        for character in ("\ufffe", "\uffff")
    ]
    drawn = ElementTree.fromstring(svg.by_slice(rows, "Accuracy", plot_id="p", title="Slices"))
    assert {"topic=<U+FFFE>", "topic=<U+FFFF>"} <= {text.text for text in drawn.iter("text")}
