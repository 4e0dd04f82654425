"""The example browser in a real browser: filters, pages, hostile texts."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pytest

from harness.stats.metrics import is_right
from leaderboard.board.examples import consensus
from leaderboard.board.records import Board
from leaderboard.site import render
from tests.leaderboard.browsing import EXAMPLES, Opened, outcomes_of, section_of
from tests.leaderboard.conftest import TEXTS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.leaderboard.conftest import Bench

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def board(with_texts: "Bench") -> Board:
    return with_texts.board()


# The example browser


def listed(page: "Page") -> int:
    page.wait_for_function("!document.querySelector('[aria-busy]')")
    return int(page.locator("#found").inner_text().split(" of ")[0].replace(",", ""))


def test_hostile_texts_are_shown_as_text(opened: Opened) -> None:
    with opened(f"{EXAMPLES}#split=test") as page:
        shown = page.eval_on_selector_all(
            ".browser .review", "all => all.map(one => [...one.querySelectorAll('p')].map(p => p.textContent))"
        )
        for (title, content), found in zip(TEXTS[:3], shown, strict=False):
            assert found == [title, content]
        page.click("button:text-matches('Show all 20,000 characters')")
        assert page.locator(".browser .review").nth(3).locator(".content").text_content() == TEXTS[3][1]
        assert page.locator(".browser img, .browser script").count() == 0


def test_on_a_phone_a_row_is_a_card_with_every_score_in_sight(opened: Opened) -> None:
    with opened(f"{EXAMPLES}#split=test&all=on", width=390) as page:
        page.wait_for_selector(".browser tbody tr")
        edges = page.eval_on_selector_all(
            ".browser tbody tr:first-child > *, .browser caption",
            "all => all.map(one => one.getBoundingClientRect().right)",
        )
        assert len(edges) > 5
        assert max(edges) <= 390
        named = page.eval_on_selector_all(
            ".browser tbody tr:first-child td", "all => all.map(one => getComputedStyle(one, '::before').content)"
        )
        assert named[:3] == ['"Label"', '"Words"', '"tiny+lora"']


def test_scores_are_bars_too(opened: Opened) -> None:
    with opened(f"{EXAMPLES}#split=test") as page:
        page.wait_for_selector(".browser tbody tr")
        bars = page.eval_on_selector_all(".browser .said", BARS)
        assert len(bars) >= 100
        for shown, percent in bars:
            assert float(percent) == pytest.approx(100 * float(shown), abs=0.06)


BARS = """all => all.map(one => [
    one.querySelector('.scored').textContent.trim(), one.querySelector('.meter').style.getPropertyValue('--p')])"""


@pytest.mark.parametrize(
    "show", ["any", "a-wrong", "a-right", "disagree", "only-a", "only-b", "both-wrong", "all-wrong"]
)
def test_a_filter_finds_the_examples_that_it_names(opened: Opened, board: "Board", show: str) -> None:
    shares = [
        np.mean([is_right(one) for one in outcomes_of(board, "test", model)[0]], axis=0)
        for model in ("tiny+lora", "tiny+ia3")
    ]
    (right_a, right_b), (wrong_a, wrong_b) = [share > 0.5 for share in shares], [share < 0.5 for share in shares]
    everybody = np.zeros(300, dtype=bool)
    everybody[[one.position for one in consensus(section_of(board, "test"), board.outcomes)]] = True
    expected = {
        "any": np.ones(300, dtype=bool), "a-wrong": wrong_a, "a-right": right_a,
        "disagree": (right_a & wrong_b) | (wrong_a & right_b), "only-a": right_a & wrong_b, "only-b": wrong_a & right_b,
        "both-wrong": wrong_a & wrong_b, "all-wrong": everybody,
    }[show]  # fmt: skip
    with opened(f"{EXAMPLES}#split=test&a=tiny%2Blora&b=tiny%2Bia3&show={show}") as page:
        assert listed(page) == expected.sum() > 0
        shown = page.locator(".browser code").all_inner_texts()[: min(50, int(expected.sum()))]
        known = outcomes_of(board, "test", "tfidf")[0][0].example_ids
        assert shown == [known[i] for i in np.flatnonzero(expected)[:50]]


def test_text_search_length_and_label_narrow_the_list(opened: Opened, with_texts: "Bench") -> None:
    rows = with_texts.examples["test"]
    with opened(f"{EXAMPLES}#split=test") as page:
        page.fill("input[name=search]", "NOT NOT good")
        page.wait_for_function("location.hash.includes('search=')")
        assert listed(page) == sum("not not good" in one.content for one in rows)
        page.select_option("select[name=label]", "positive")
        page.wait_for_function("location.hash.includes('label=positive')")
        assert listed(page) == sum("not not good" in one.content and one.label == 1 for one in rows)
        page.fill("input[name=search]", "")
        page.fill("input[name=least]", "8")
        page.fill("input[name=most]", "8")
        page.wait_for_function("location.hash.includes('most=8')")
        assert listed(page) == sum(len(one.content.split()) == 8 and one.label == 1 for one in rows)


def test_pages_turn_and_the_address_remembers_which(opened: Opened, with_texts: "Bench") -> None:
    ids = [one.example_id for one in with_texts.examples["test"]]
    with opened(f"{EXAMPLES}#split=test") as page:
        page.click("button:text-is('Next')")
        page.wait_for_function("location.hash.includes('page=2')")
        address = page.evaluate("location.hash")
    with opened(f"{EXAMPLES}{address}") as page:
        assert page.locator("#answer .browser code").all_inner_texts() == ids[50:100]
        page.click("button:text-is('Last')")
        page.wait_for_function("location.hash.includes('page=6')")
        assert page.locator("#answer .browser code").all_inner_texts() == ids[250:]
        assert page.locator("button:text-is('Next')").is_disabled()


def test_every_models_score_can_stand_beside_the_text(opened: Opened, board: "Board") -> None:
    with opened(f"{EXAMPLES}#split=test&a=tfidf&b=majority&all=on") as page:
        heads = page.locator("#answer th.model").all_inner_texts()
        assert heads[:2] == ["tfidf", "majority"]
        assert sorted(heads) == ["majority", "tfidf", "tiny", "tiny+ia3", "tiny+lora"]
        first = page.eval_on_selector(
            "#answer tbody tr", "row => [...row.cells].slice(3).map(cell => parseFloat(cell.innerText))"
        )
    for model, score in zip(heads, first, strict=True):
        mean = np.mean([one.scores[0] for one in outcomes_of(board, "test", model)[0]])
        assert score == pytest.approx(mean, abs=0.00056)


def test_many_examples_and_models_are_filtered_in_the_browser(
    bench_of: Callable[..., "Bench"], browser: "Browser", pictures: ModuleType, tmp_path: Path
) -> None:
    """10,000 examples, 20 models, and a search through all texts."""
    models = "".join(
        f'\n[[model]]\nid = "m{i}"\nbackend = "tfidf"\ntrain_split = "train"\nngram_range = [1, 2]\n'
        f"sublinear_tf = true\nC = {i + 1}.0\n"
        for i in range(20)
    )
    bench = bench_of(models=models, gate=False, splits=["test"], store=True, other_metrics=())
    test = bench.add_split("test", 10_000, texts=[("", f"text number {i} of many") for i in range(10_000)])
    bench.fill(test, {f"m{i}": 0.6 + i / 100 for i in range(20)})
    render.write(bench.whole_site(), tmp_path / "site")
    page = browser.new_page()
    choice = "split=test&a=m1&b=m2&show=disagree&all=on&sort=farthest&search=number"
    pictures.show(page, tmp_path / "site", f"{EXAMPLES}#{choice}")
    assert listed(page) > 100
    assert page.locator("#answer th.model").count() == 20
    page.close()


# Words that moved a score

EXPLAINED = f"{EXAMPLES}#split=test&a=tiny%2Blora&b=tfidf&show=explained"


def shades(page: "Page") -> list[tuple[float, float, float]]:
    """The contrast of each marked word's letters with their background, and both luminances."""
    found: list[tuple[float, float, float]] = page.evaluate(
        """() => {
            const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
            const drawn = (...colours) => {
                for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
                return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
            };
            const linear = (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
            const light = (colour) => colour.map((c) => linear(c / 255))
                .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
            const paper = getComputedStyle(document.body).backgroundColor;
            return [...document.querySelectorAll('mark')].map((one) => {
                const style = getComputedStyle(one);
                const [text, behind] = [light(drawn(paper, style.color)), light(drawn(paper, style.backgroundColor))];
                return [(Math.max(text, behind) + 0.05) / (Math.min(text, behind) + 0.05), text, behind];
            });
        }"""
    )
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_words_are_marked_by_direction_and_strength_and_can_be_read(opened: Opened, scheme: str, width: int) -> None:
    with opened(EXPLAINED, width=width, scheme=scheme) as page:
        assert listed(page) == 4
        row = page.locator("#answer tbody tr").nth(2)
        assert row.locator(".title").inner_text() == "Review 4"
        marks = row.locator("mark").evaluate_all("all => all.map(one => [one.textContent, one.className, one.title])")
        assert marks[:3] == [
            ["Review", "toward-positive level-3", "without it 0.100"],
            ["4", "toward-negative level-3", "without it 0.990"],
            ["The", "toward-positive level-2", "without it 0.567"],
        ]
        spoken = row.locator(".moved").inner_text()
        assert spoken.startswith("Score 0.800; without “Review” 0.100, “4” 0.990, “The” 0.567, ")
        borders = row.locator("mark").evaluate_all(
            "all => all.slice(0, 2).map(one => getComputedStyle(one).borderBottomStyle)"
        )
        assert borders == ["solid", "dashed"], "colour is not the only difference"
        measured = shades(page)
        assert len(measured) > 10
        assert min(contrast for contrast, *_ in measured) >= 4.5
        assert len({behind for *_, behind in measured}) >= 5, "directions and strengths differ"
        legend = page.locator(".legend").inner_text()
        assert "words that moved the score of tiny+lora (seed 13)" in legend
        assert "4 examples were explained" in legend


def test_marks_can_be_those_of_b_or_none(opened: Opened) -> None:
    with opened(EXPLAINED) as page:
        page.select_option("select[name=words]", "b")
        page.wait_for_function("location.hash.includes('words=b')")
        assert listed(page) == 1
        page.select_option("select[name=words]", "none")
        page.select_option("select[name=show]", "any")
        page.wait_for_function("location.hash.includes('words=none')")
        assert listed(page) == 300
        assert page.locator("#answer mark").count() == 0


def test_a_long_or_hostile_text_is_marked_as_text(opened: Opened) -> None:
    with opened(EXPLAINED) as page:
        assert listed(page) == 4
        hostile = page.locator("#answer .review").nth(0)
        assert [hostile.locator(p).text_content() for p in (".title", ".content")] == list(TEXTS[1])
        assert page.locator("#answer img, #answer script").count() == 0
        long = page.locator("#answer .review").nth(1)
        page.click("button:text-matches('Show all 20,000 characters')")
        assert long.locator(".content").text_content() == TEXTS[3][1]


def test_an_example_is_linked_to_by_an_icon_that_stands_for_its_id(opened: Opened, with_texts: "Bench") -> None:
    wanted = with_texts.examples["test"][70].example_id
    with opened(f"{EXAMPLES}#split=test&a=tfidf&b=majority&page=2") as page:
        link = page.locator("#answer a.linked").nth(20)
        assert " ".join(link.inner_text().split()) == f"Link to this example {wanted}"
        seen = link.locator("code").bounding_box()
        assert seen is not None
        assert seen["width"] <= 1, "the id is read aloud, not shown"
        href = link.get_attribute("href")
    with opened(f"{EXAMPLES}{href}") as page:
        assert page.locator("#found").inner_text() == "1 of 300 examples, the linked one"
        assert page.locator("#answer .title").inner_text() == "Review 70"
        assert f"id={wanted}" in page.evaluate("location.hash")
        page.click("button:text-is('Show all')")
        assert listed(page) == 300


def test_rows_on_which_models_disagree_have_an_edge_and_say_so(opened: Opened, board: "Board") -> None:
    shares = [
        np.mean([is_right(one) for one in outcomes_of(board, "test", model)[0]], axis=0) > 0.5
        for model in ("tfidf", "majority")
    ]
    with opened(f"{EXAMPLES}#split=test&a=tfidf&b=majority") as page:
        marked = page.locator("#answer tbody tr").evaluate_all("all => all.map(one => one.className)")
        said = page.locator("#answer tbody tr").evaluate_all(
            "all => all.map(one => one.innerText.includes('models disagree'))"
        )
    expected = (shares[0] != shares[1])[:50].tolist()
    assert [one == "differ" for one in marked] == said == expected
    assert 0 < sum(expected) < 50
