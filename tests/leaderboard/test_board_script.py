"""The board's script in a real browser, from disk: sorting, searching, filtering, choosing columns, the address."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from leaderboard.site import render

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from leaderboard.board.records import Board

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def index(board: "Board", tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the filled store's index page on disk."""
    out = tmp_path_factory.mktemp("board") / "site"
    render.write(render.render([board]), out)
    return (out / "index.html").as_uri()


@pytest.fixture
def page(browser: "Browser", index: str) -> "Iterator[Page]":
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(index)
    yield opened
    context.close()
    assert complaints == []


def models(page: "Page", split: str = "test") -> list[str]:
    """The visible models of a split's table, from top to bottom."""
    found: list[str] = page.eval_on_selector_all(
        f'table.board[data-split="{split}"] tbody tr',
        "rows => rows.filter(row => row.offsetParent).map(row => row.querySelector('a').textContent)",
    )
    return found


def head(page: "Page", key: str) -> Any:
    return page.locator(f'table.board[data-split="test"] th[data-key="{key}"]')


AS_RANKED = ["tiny+lora", "tiny+ia3", "tfidf", "majority", "tiny"]


def test_a_column_sorts_one_way_then_the_other_then_as_it_was_and_says_so(page: "Page") -> None:
    accuracy = head(page, "accuracy")
    assert models(page) == AS_RANKED
    accuracy.get_by_role("button").click()
    assert accuracy.get_attribute("aria-sort") == "descending"
    assert set(models(page)[-2:]) == {"majority", "tiny"}
    accuracy.get_by_role("button").click()
    assert accuracy.get_attribute("aria-sort") == "ascending"
    assert models(page)[-1] == "tiny+lora"
    accuracy.get_by_role("button").click()
    assert accuracy.get_attribute("aria-sort") is None
    assert models(page) == AS_RANKED


def test_numbers_sort_with_their_units_and_dashes_stay_last_either_way(page: "Page") -> None:
    for order in ("ascending", "descending"):
        head(page, "train_seconds").get_by_role("button").click()
        assert head(page, "train_seconds").get_attribute("aria-sort") == order
        first = ["tiny+ia3", "tiny+lora"]
        assert models(page)[:2] == (first if order == "ascending" else first[::-1])
        assert set(models(page)[2:]) == {"tfidf", "majority", "tiny"}


def test_the_keyboard_sorts_too(page: "Page") -> None:
    head(page, "model").get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert models(page) == sorted(AS_RANKED)


def test_search_and_filters_leave_the_rows_that_fit_and_say_how_many(page: "Page") -> None:
    page.get_by_label("Search").fill("tiny lora")
    assert models(page) == ["tiny+lora"]
    assert page.locator("#board-tools output").inner_text() == "2 of 10 rows"
    page.get_by_label("Search").fill("")
    page.get_by_role("combobox", name="Method").select_option("ia3")
    assert models(page) == ["tiny+ia3"]
    page.get_by_role("button", name="Reset").click()
    page.get_by_role("combobox", name="Base").select_option("tiny-base")
    assert models(page) == ["tiny+lora", "tiny+ia3", "tiny"]
    page.get_by_role("combobox", name="Split").select_option("elsewhere")
    assert models(page) == []
    assert set(models(page, "elsewhere")) == {"tiny+lora", "tiny+ia3", "tiny"}


def test_columns_that_are_not_asked_for_stay_away_until_they_are(page: "Page") -> None:
    assert not head(page, "f1").is_visible()
    page.get_by_text("Columns", exact=True).first.click()
    page.get_by_label("F1").check()
    assert head(page, "f1").is_visible()
    page.get_by_label("Trainable").uncheck()
    assert not head(page, "n_trainable").is_visible()


def test_the_address_brings_the_same_view_back_from_disk(page: "Page", index: str) -> None:
    page.get_by_label("Search").fill("tiny")
    head(page, "examples_per_second").get_by_role("button").click()
    page.get_by_text("Columns", exact=True).first.click()
    page.get_by_label("F1").check()
    address = page.url
    assert address.startswith(f"{index}#?")
    shown = models(page)
    page.goto("about:blank")
    page.goto(address)
    assert models(page) == shown
    assert page.get_by_label("Search").input_value() == "tiny"
    assert head(page, "examples_per_second").get_attribute("aria-sort") == "descending"
    assert head(page, "f1").is_visible()


def test_an_address_that_somebody_made_up_breaks_nothing(page: "Page", index: str) -> None:
    page.goto("about:blank")
    page.goto(f"{index}#?sort=<script>&order=sideways&columns=nothing&method=&q=%00&extra=1")
    assert page.locator("table.board").count() == 2


def test_without_javascript_the_table_is_whole_and_no_controls_pretend_to_work(browser: "Browser", index: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto(index)
    assert not plain.locator("#board-tools").is_visible()
    assert plain.locator('table.board[data-split="test"] th[data-key="f1"]').is_visible()
    assert plain.locator("table.board tbody tr").count() == 10
    context.close()
