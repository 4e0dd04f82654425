"""Distances of encoders from their bases, from the store to the board's column and the configuration's page."""

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from harness.records import Forgetting
from harness.store import writer
from tests.leaderboard.test_pages import NOON, Page

if TYPE_CHECKING:
    from tests.leaderboard.conftest import Bench

RIGHTS = {"tfidf": 0.7, "tiny+lora": 0.9, "tiny+ia3": 0.8}


def note(bench: "Bench", adapter: str, split: str, name: str, value: float, *, late: int = 0) -> None:
    """A stored measurement."""
    found = Forgetting(
        f"{adapter}-{split}-{late}", adapter, split, name, value, value - 0.1, value + 0.1, 50, NOON + timedelta(late)
    )
    writer.write_forgetting(bench.connection, [found])


@pytest.fixture
def measured(bench: "Bench") -> "Bench":
    """Three seeds of LoRA and one of IA³ on one split; of IA³ also under a masked-language-model head."""
    split = bench.add_split("test", 60)
    bench.fill(split, RIGHTS)
    seeds = bench.board().sections[0]
    by_model = {entry.model_id: [run.run.adapter_digest or "" for run in entry.runs] for entry in seeds.entries}
    for adapter, value in zip(by_model["tiny+lora"], (0.5, 0.6, 0.8), strict=True):
        note(bench, adapter, split.digest, "similarity", value)
    (ia3,) = by_model["tiny+ia3"]
    for name, value in (("similarity", 0.7), ("mlm_loss", 4.25), ("mlm_loss_of_base", 3.5)):
        note(bench, ia3, split.digest, name, value)
    note(bench, ia3, "another split", "similarity", 0.1)
    return bench


def test_the_board_has_the_mean_over_seeds_and_how_far_they_are_apart(measured: "Bench") -> None:
    text = Page(measured.pages()["index.html"]).text
    assert "Similarity to base" in text
    assert "0.633 seeds 0.500 to 0.800" in text
    assert "0.700 [0.600, 0.800]" in text


def test_a_page_has_a_row_for_each_seed_and_a_dash_without_a_head(measured: "Bench") -> None:
    pages = measured.pages()
    text = Page(pages["demo/tiny+ia3.html"]).text
    assert "test 13 50 0.700 [0.600, 0.800] 4.250 3.500" in text
    text = Page(pages["demo/tiny+lora.html"]).text
    assert "test 13 50 0.500 [0.400, 0.600] – –" in text
    assert "test 87 50 0.800 [0.700, 0.900] – –" in text


def test_what_was_not_measured_has_neither_column_nor_section(bench: "Bench") -> None:
    bench.fill(bench.add_split("test", 60), RIGHTS)
    pages = bench.pages()
    assert "Similarity to base" not in pages["index.html"]
    assert 'id="forgetting"' not in pages["demo/tiny+lora.html"]


def test_of_two_measurements_the_later_counts(measured: "Bench") -> None:
    entry = next(e for e in measured.board().sections[0].entries if e.model_id == "tiny+ia3")
    run = entry.runs[0].run
    note(measured, run.adapter_digest or "", run.split_digest, "similarity", 0.9, late=1)
    note(measured, run.adapter_digest or "", run.split_digest, "similarity", 0.2, late=-1)
    (moved,) = next(e for e in measured.board().sections[0].entries if e.model_id == "tiny+ia3").moved
    assert moved["similarity"].value == 0.9
