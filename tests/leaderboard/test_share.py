"""The picture that other sites show beside a link to a board: drawn from its first card, the same bytes every time."""

import re
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from leaderboard.pages.share import share
from leaderboard.plots.svg import png
from leaderboard.site import render

if TYPE_CHECKING:
    from leaderboard.board.records import Board
    from tests.leaderboard.conftest import Bench

CARD = "demo/badges/card.png"
MAJORITY = '[[model]]\nid = "majority"\nbackend = "majority"\ntrain_split = "train"\n'
URL = "https://example.org/a%20board/"


def size(data: bytes | str) -> tuple[int, int]:
    assert isinstance(data, bytes)
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def tags(page: bytes | str) -> dict[str, str]:
    found = re.findall(r'<meta property="(og:[^"]+)" content="([^"]*)">', str(page))
    return {name: unescape(text) for name, text in found}


def test_the_picture_shows_the_first_card(board: "Board") -> None:
    files = render.render([board], url=URL)
    assert size(files[CARD]) == (1200, 630)
    made = share(board)
    assert made is not None
    assert made.title[0].endswith(" better than tiny-base?")
    assert made.word in made.alt
    assert made.lead in made.alt
    low, high, value, zero = made.bar or (0, 0, 0, 0)
    lead = board.sections[0].answers[0].lead
    assert lead is not None
    assert 90 <= low < value < high <= 1110
    assert (value > zero) == (lead.value > 0)
    for name in ("index.html", "demo/tfidf.html"):
        found = tags(files[name])
        assert found["og:image"] == f"https://example.org/a%20board/{CARD}"
        assert found["og:image:alt"] == made.alt
        assert (found["og:image:width"], found["og:image:height"]) == ("1200", "630")


def test_without_an_address_no_page_names_the_picture(board: "Board") -> None:
    files = render.render([board])
    assert size(files[CARD]) == (1200, 630)
    assert "og:image" not in tags(files["index.html"])


def test_another_process_draws_the_same_bytes(board: "Board") -> None:
    svg = render._page(render._environment().get_template("card.svg"), card=share(board))
    code = "import sys; from leaderboard.plots.svg import png; sys.stdout.buffer.write(png(sys.stdin.read()))"
    done = subprocess.run([sys.executable, "-c", code], input=svg.encode(), capture_output=True, check=True)
    assert done.stdout == png(svg)
    assert png(svg.replace("Is ", "Was ")) != png(svg)


def test_a_suite_without_adapters_has_no_picture(bench_of: Callable[..., "Bench"]) -> None:
    bench = bench_of(models=MAJORITY, gate=False)
    bench.add_run("majority", bench.add_split("test", 20), right=0.5)
    files = render.render([bench.board()], url=URL)
    assert CARD not in files
    assert "og:image" not in tags(files["index.html"])


def test_markup_in_a_text_is_drawn_as_text(board: "Board") -> None:
    made = share(board)
    assert made is not None
    hostile = replace(made, suite="</text><image href='file:///etc/passwd'/>", title=("<script>&" * 5,))
    svg = render._page(render._environment().get_template("card.svg"), card=hostile)
    assert "<image" not in svg
    assert size(png(svg)) == (1200, 630)


NO_ADDRESSES = ["example.org", "ftp://example.org", "https://", "https://example.org/?q", "javascript:x"]


@pytest.mark.parametrize("url", NO_ADDRESSES)
def test_what_is_no_address_is_refused(harness: Callable[..., Any], evaluated: Path, url: str, tmp_path: Path) -> None:
    result = harness("site", evaluated, "--out", tmp_path / "site", "--url", url)
    assert result.code == 2
    assert f"{url!r}: is no address of a website; give one such as https://example.org/board" in result.err
    assert not (tmp_path / "site").exists()


def test_a_site_with_an_address_is_checked_and_left_alone_with_it(
    harness: Callable[..., Any], evaluated: Path, tmp_path: Path
) -> None:
    words = ("site", evaluated, "--out", tmp_path / "site", "--url", URL)
    assert harness(*words).code == 0
    assert ", 0 changed" in harness(*words).out
    assert harness(*words, "--check").code == 0
    assert harness("site", evaluated, "--out", tmp_path / "site").code == 0
    card = tmp_path / "site" / "made-up" / "badges" / "card.png"
    card.write_bytes(card.read_bytes() + b"x")
    done = harness("site", evaluated, "--out", tmp_path / "site", "--check")
    assert done.code == 1
    assert "made-up/badges/card.png: differs" in done.out
