"""Badges of a suite: pictures and shields endpoints that say what the cards and gates say."""

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote
from xml.etree import ElementTree

from harness.records import Outcome
from leaderboard.pages import answers, badges
from leaderboard.pages.badges import COLOURS, Badge
from tests.leaderboard.conftest import MODELS

if TYPE_CHECKING:
    from tests.leaderboard.conftest import Bench

SVG = "{http://www.w3.org/2000/svg}"


def found(bench: "Bench") -> dict[str, Badge]:
    return {badge.file: badge for badge in badges.badges(bench.board())}


def test_an_adapters_badge_says_what_its_card_says(filled: "Bench") -> None:
    cards = {card.model_id: card for card in answers.cards(filled.board())}
    shown = found(filled)
    for model_id, card in cards.items():
        badge = shown[f"demo/badges/lead/{model_id}"]
        assert badge.label == f"{model_id} vs {card.over_id}"
        assert badge.message == f"{re.sub('<[^>]+>', '', str(card.lead))} {card.interval}"
        assert badge.outcome == card.outcome


def test_a_gates_badge_has_the_colour_of_the_worst_and_counts_those_that_passed(
    bench_of: "Callable[..., Bench]",
) -> None:
    bench = bench_of(models=MODELS)
    bench.add_split("test", 40)
    judged: list[tuple[str, Outcome]] = [
        *(("tfidf", "pass"), ("tfidf", "inconclusive"), ("tiny", "fail"), ("tiny+lora", "pass"))
    ]
    for model_id, outcome in judged:
        bench.add_verdict(f"{model_id} on test: accuracy >= 0.5", outcome, "as it is.")
    shown = {name: badge for name, badge in found(bench).items() if "/lead/" not in name}
    assert {name: (badge.label, badge.message, badge.outcome) for name, badge in shown.items()} == {
        "demo/badges/gates": ("gates", "2 of 4 passed", "fail"),
        "demo/badges/gates/tfidf": ("tfidf gates", "1 of 2 passed", "inconclusive"),
        "demo/badges/gates/tiny": ("tiny gates", "0 of 1 passed", "fail"),
        "demo/badges/gates/tiny+lora": ("tiny+lora gates", "1 of 1 passed", "pass"),
    }


def test_an_adapter_without_an_answer_has_a_badge_that_says_so(bench_of: "Callable[..., Bench]") -> None:
    bench = bench_of(models=MODELS)
    bench.add_split("test", 40)
    assert {badge.message for badge in found(bench).values() if "/lead/" in badge.file} == {"not known"}


def test_every_badge_is_a_picture_that_can_be_read_and_an_endpoint(filled: "Bench") -> None:
    pages, shown = filled.pages(), found(filled)
    assert shown
    for name, badge in shown.items():
        root = ElementTree.fromstring(str(pages[f"{name}.svg"]))
        words = [text.text for text in root.iter(f"{SVG}text")]
        assert words == [badge.label, badge.message]
        ends = [float(text.get("x", 0)) + float(text.get("textLength", 0)) for text in root.iter(f"{SVG}text")]
        assert ends[0] < float([*root.iter(f"{SVG}text")][1].get("x", 0))
        assert ends[1] < float(root.get("width", 0))
        endpoint = json.loads(pages[f"{name}.json"])
        assert endpoint == {
            "schemaVersion": 1,
            "label": badge.label,
            "message": badge.message,
            "color": COLOURS[badge.outcome],
        }


def test_a_models_page_shows_its_badges_and_the_line_that_shows_them_elsewhere(filled: "Bench") -> None:
    page = str(filled.pages()["demo/tiny+lora.html"])
    assert '<img src="../demo/badges/lead/tiny%2Blora.svg"' in page
    (lead, gates) = re.findall(r"^(?:<pre[^>]*><code>)?!\[(.+)\]\(SITE/([^)]+)\)", page, re.MULTILINE)
    assert lead[0].startswith("tiny+lora vs tiny: +")
    assert unquote(lead[1]) == "demo/badges/lead/tiny+lora.svg"
    assert gates == ("tiny+lora gates: 0 of 1 passed", "demo/badges/gates/tiny%2Blora.svg")
