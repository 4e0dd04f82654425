"""Every kind of page in a real browser, from disk: no network, no error, no fault that axe calls serious."""

import os
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from leaderboard.site import render
from tests.leaderboard.browsing import COMPARE, EXAMPLES, Opened
from tests.leaderboard.conftest import open_bench

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.leaderboard.conftest import Bench

pytestmark = [pytest.mark.browser, pytest.mark.slow]
PICTURES = os.environ.get("HARNESS_PICTURES")
"""A folder to keep pictures of all pages in, such as for an artefact of CI."""
GRAVE = ("serious", "critical")
PAGES = ("index.html", "demo/tiny%2Blora.html", "demo/tiny+lora.html", COMPARE, EXAMPLES)


def names(folder: Path) -> list[str]:
    return [name for name in PAGES if (folder / name).is_file()]


# Every kind of page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_every_page_fits_is_sound_for_axe_and_can_be_kept_as_a_picture(
    opened: Opened, folder: Path, width: int, scheme: str
) -> None:
    axe = (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    for name in names(folder):
        with opened(name, width=width, scheme=scheme) as page:
            page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
            too_wide = page.evaluate("document.documentElement.scrollWidth") - width
            assert too_wide <= 0, f"{name} scrolls sideways by {too_wide} pixels at {width}"
            page.evaluate(axe)
            found = page.evaluate("axe.run({resultTypes: ['violations'], preload: false})")["violations"]
            faults = [(one["id"], [node["target"] for node in one["nodes"]]) for one in found if one["impact"] in GRAVE]
            assert faults == [], f"{name}, {scheme}, {width} pixels"
            if PICTURES:
                file = Path(PICTURES) / f"{name.replace('/', '-').removesuffix('.html')}-{width}-{scheme}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                page.screenshot(path=str(file), full_page=True)


@pytest.fixture(scope="module")
def folder_of_several(with_texts: "Bench", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of two suites, one without runs."""
    folder = tmp_path_factory.mktemp("several")
    with ExitStack() as stores:
        other = open_bench(folder, stores, {"name": "later"})
        files = render.render([with_texts.board(), other.board()], {"demo": with_texts.examples})
    render.write(files, folder / "site")
    return folder / "site"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_the_index_of_several_suites_and_their_boards_fit_and_are_sound_for_axe(
    opened: Opened, folder_of_several: Path, width: int, scheme: str
) -> None:
    axe = (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    for name in ("index.html", "demo/index.html", "later/index.html", "demo/tiny%2Blora.html", COMPARE, EXAMPLES):
        if not (folder_of_several / name).is_file():
            continue
        with opened(name, width=width, scheme=scheme, folder=folder_of_several) as page:
            too_wide = page.evaluate("document.documentElement.scrollWidth") - width
            assert too_wide <= 0, f"{name} scrolls sideways by {too_wide} pixels at {width}"
            page.evaluate(axe)
            found = page.evaluate("axe.run({resultTypes: ['violations'], preload: false})")["violations"]
            assert [one["id"] for one in found] == [], f"{name}, {scheme}, {width} pixels"


def test_links_lead_from_the_index_of_several_suites_to_a_model_and_back(
    opened: Opened, folder_of_several: Path
) -> None:
    with opened("index.html", folder=folder_of_several) as page:
        page.click("text=The board of demo")
        assert page.url.endswith("/site/demo/index.html")
        page.fill("#board-tools input[name=q]", "lora")
        assert page.locator(".board tbody tr:visible").count() == 2
        page.click(".board tbody tr:visible a")
        assert page.url.endswith("/site/demo/tiny%2Blora.html")
        page.click(".crumb a")
        assert "/site/demo/index.html" in page.url
        page.click("text=All suites")
        assert page.url.endswith("/site/index.html")
    files = list(folder_of_several.rglob("*.html"))
    for file in files:
        with opened(str(file.relative_to(folder_of_several)), folder=folder_of_several) as page:
            for link in page.eval_on_selector_all("a[href]", "all => all.map(one => one.href)"):
                path = page.evaluate("url => decodeURIComponent(new URL(url).pathname)", link)
                assert not link.startswith("file:") or Path(path).is_file(), f"{file.name}: {link}"


def test_axe_finds_what_is_wrong(opened: Opened) -> None:
    """The check above can fail."""
    axe = (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    with opened(COMPARE) as page:
        page.evaluate("document.querySelectorAll('label').forEach(one => one.replaceWith(...one.children))")
        page.evaluate(axe)
        found = page.evaluate("axe.run({resultTypes: ['violations'], preload: false})")["violations"]
        assert "select-name" in {one["id"] for one in found if one["impact"] in GRAVE}


def test_the_board_names_every_model_and_draws_its_charts(opened: Opened, with_texts: "Bench") -> None:
    with opened("index.html", width=390) as page:
        for model in with_texts.suite.model:
            assert page.locator(f"a:text-is('{model.id}')").count() > 0
        drawn = page.locator("svg.plot").first.bounding_box()
        assert drawn is not None
        assert drawn["width"] > 200
        assert drawn["height"] > 50


def test_dark_mode_is_dark(opened: Opened) -> None:
    for name in ("index.html", COMPARE, EXAMPLES):
        shades = {}
        for scheme in ("light", "dark"):
            with opened(name, scheme=scheme) as page:
                colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
                shades[scheme] = sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))
        assert shades["dark"] < 200 < 600 < shades["light"]


def test_every_link_of_the_tools_leads_to_a_file(opened: Opened) -> None:
    for name in (COMPARE, EXAMPLES):
        with opened(name) as page:
            links = page.eval_on_selector_all("a[href]", "all => all.map(one => one.href)")
            assert len(links) > 5
            for link in links:
                assert link.startswith("file://")
                path = page.evaluate("url => decodeURIComponent(new URL(url).pathname)", link)
                assert Path(path).is_file(), link


def shade(page: "Page") -> int:
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))


def test_a_chosen_theme_holds_against_the_systems_and_on_the_next_page(opened: Opened) -> None:
    with opened("index.html", scheme="dark") as page:
        assert shade(page) < 200
        page.click("#theme")
        assert page.text_content("#theme") == "Theme: light"
        assert shade(page) > 600
        page.click(".board a")
        page.wait_for_load_state()
        assert page.text_content("#theme") == "Theme: light"
        assert shade(page) > 600
        page.click("#theme")
        page.click("#theme")
        assert page.text_content("#theme") == "Theme: auto"
        assert shade(page) < 200


def test_the_keyboard_reaches_everything_that_can_be_used(opened: Opened, folder: Path) -> None:
    """Tab goes through every visible link, button, field and summary, once each, in the order of the page."""
    mark = """() => {
        const shown = one => one.checkVisibility({ visibilityProperty: true }) && one.getClientRects().length;
        const usable = 'a[href], button:not(:disabled), input:not(:disabled), select:not(:disabled), summary';
        const all = [...document.querySelectorAll(usable)].filter(shown);
        all.forEach((one, place) => { one.dataset.place = place; });
        return all.filter(one => one.type !== 'radio').map(one => Number(one.dataset.place));
    }"""
    for name in names(folder):
        with opened(name) as page:
            wanted = page.evaluate(mark)
            assert wanted
            reached: list[int] = []
            for _ in range(3 * len(wanted) + 50):
                page.keyboard.press("Tab")
                place = page.evaluate("document.activeElement.dataset.place")
                if place is not None:
                    if int(place) in reached:
                        break
                    reached.append(int(place))
            assert set(wanted) <= set(reached), f"{name}: Tab does not reach all"
            assert reached == sorted(reached), f"{name}: Tab jumps"
