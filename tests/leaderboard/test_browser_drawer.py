"""Filters on a phone: in a drawer behind one button, for fingers and for keys; on a desk where they always were."""

from typing import TYPE_CHECKING

import pytest

from tests.leaderboard.browsing import COMPARE, EXAMPLES, Opened

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PAGES = {"index.html": "#board-tools", EXAMPLES: "#choice"}


def focused(page: "Page") -> str:
    text: str = page.evaluate("document.activeElement.textContent.trim() || document.activeElement.name")
    return text


@pytest.mark.parametrize(("name", "form"), PAGES.items())
def test_a_phones_filters_open_close_and_give_the_focus_back(opened: Opened, name: str, form: str) -> None:
    with opened(name, width=390) as page:
        assert not page.locator(form).is_visible()
        button = page.get_by_role("button", name="Filters")
        button.focus()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog", name="Filters")
        assert dialog.is_visible()
        assert page.locator(form).is_visible()
        page.keyboard.press("Tab")
        assert page.evaluate("document.querySelector('dialog').contains(document.activeElement)")
        page.keyboard.press("Escape")
        assert not dialog.is_visible()
        assert focused(page) == "Filters"
        button.click()
        dialog.get_by_role("button", name="Close").click()
        assert not dialog.is_visible()
        assert focused(page) == "Filters"
        button.click()
        page.mouse.click(195, 20)  # beside the drawer
        assert not dialog.is_visible()


def test_the_button_counts_the_boards_active_filters(opened: Opened) -> None:
    with opened("index.html", width=390) as page:
        page.get_by_role("button", name="Filters").click()
        page.fill("#board-tools input[name=q]", "lora")
        page.select_option("#board-tools select[name=split]", "test")
        page.keyboard.press("Escape")
        assert page.locator(".drawer-open").inner_text() == "Filters: 2 active"
        assert page.locator("table.board:visible tbody tr:visible").count() == 1
        address = page.evaluate("location.hash")
        page.locator(".drawer-open").click()
        page.click("#board-tools button[type=reset]")
        assert page.locator(".drawer-open").inner_text() == "Filters"
    with opened(f"index.html{address}", width=390) as page:
        assert page.locator(".drawer-open").inner_text() == "Filters: 2 active"


def test_the_button_counts_the_examples_active_filters(opened: Opened) -> None:
    with opened(f"{EXAMPLES}#split=test&a=tfidf&b=majority&show=disagree&least=3", width=390) as page:
        button = page.locator(".drawer-open")
        assert button.inner_text() == "Filters: 2 active"
        button.click()
        page.select_option("select[name=label]", "positive")
        page.wait_for_function("location.hash.includes('label=positive')")
        page.keyboard.press("Escape")
        assert button.inner_text() == "Filters: 3 active"


@pytest.mark.parametrize(("name", "form"), PAGES.items())
def test_on_a_desk_the_filters_stand_in_the_page_and_follow_its_width(opened: Opened, name: str, form: str) -> None:
    with opened(name, width=1440) as page:
        assert page.locator(form).is_visible()
        assert not page.locator(".drawer-open").is_visible()
        page.set_viewport_size({"width": 390, "height": 900})
        page.locator(".drawer-open").click()
        page.set_viewport_size({"width": 1440, "height": 900})
        page.wait_for_function("!document.querySelector('dialog').open")
        assert page.locator(form).is_visible()
        assert not page.locator(".drawer-open").is_visible()


def test_without_a_script_everything_is_in_the_page(opened: Opened) -> None:
    with opened("index.html", width=390, java_script_enabled=False) as page:
        assert page.locator("button:text('Filters')").count() == 0
        assert page.locator("table.board tbody tr").count() == 10
        assert page.locator("table.board tbody tr").first.is_visible()
    with opened(EXAMPLES, width=390, java_script_enabled=False) as page:
        assert page.locator("button:text('Filters')").count() == 0
        assert page.locator("#consensus table tbody tr").first.is_visible()
    with opened(COMPARE, width=390, java_script_enabled=False) as page:
        assert page.locator("#beforehand table tbody tr").first.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_the_open_drawer_is_sound_for_axe_and_fits(opened: Opened, name: str, scheme: str) -> None:
    from importlib import resources

    axe = (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    with opened(name, width=390, scheme=scheme) as page:
        page.locator(".drawer-open").click()
        box = page.locator("dialog").bounding_box()
        assert box is not None
        assert box["width"] == 390
        assert box["y"] + box["height"] == pytest.approx(900, abs=1)
        page.evaluate(axe)
        found = page.evaluate("axe.run({resultTypes: ['violations'], preload: false})")["violations"]
        assert [one["id"] for one in found] == []
