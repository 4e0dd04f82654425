"""Parity checks, from the store to the board's badge and the configuration's page."""

from typing import TYPE_CHECKING, Any

from harness.records import Parity
from harness.store import writer
from tests.leaderboard.test_pages import NOON, Page

if TYPE_CHECKING:
    from tests.leaderboard.conftest import Bench


def note(bench: "Bench", adapter: str, seed: int, form: str, **changes: Any) -> None:
    """A check that passed with one flip of 256, unless it says otherwise."""
    values: dict[str, Any] = {
        "flips": 1, "flips_low": 0.001, "flips_high": 0.022, "turned_positive": 1, "turned_negative": 0,
        "p_value": 1.0, "largest_move": 0.0712, "passed": True, "problem": None,
    }  # fmt: skip
    parity = Parity(
        parity_key=f"{adapter} {form} {changes}",
        adapter_digest=adapter,
        adapter_id="lora",
        seed=seed,
        form=form,
        n=256,
        compared=80,
        flips_allowed=0.01,
        move_allowed=0.5,
        spec={},
        hardware={},
        checked_at=NOON,
        **(values | changes),
    )
    writer.write_parities(bench.connection, [parity])


def scored_in_bf16(bench: "Bench") -> list[tuple[int, str]]:
    """Three seeds of LoRA, scored in bf16: seeds and digests of their weights."""
    split = bench.add_split("test", 60)
    found = []
    for seed in (13, 42, 87):
        adapter = bench.add_adapter("lora", seed)
        bench.add_run(
            "tiny+lora", split, seed, right=0.9, adapter=adapter, spec={"model": {"precision": "bf16"}}
        )  # fmt: skip
        found.append((seed, adapter.adapter_digest))
    return found


def test_a_form_that_passed_for_every_seed_is_a_badge_with_the_most_flips_of_any(bench: "Bench") -> None:
    for flips, (seed, adapter) in enumerate(scored_in_bf16(bench)):
        note(bench, adapter, seed, "torch bf16", flips=flips)
    assert "torch bf16: 2 of 256 flip" in Page(bench.pages()["index.html"]).text


def test_there_is_no_badge_where_a_seed_was_not_held_or_another_form_was(bench: "Bench") -> None:
    seeds = scored_in_bf16(bench)
    for seed, adapter in seeds[:2]:
        note(bench, adapter, seed, "torch bf16")
    note(bench, seeds[2][1], 87, "openvino bf16")
    assert "of 256 flip" not in Page(bench.pages()["index.html"]).text
    note(bench, seeds[2][1], 87, "torch bf16", passed=False, flips=9)
    assert "of 256 flip" not in Page(bench.pages()["index.html"]).text


def test_the_page_has_a_row_for_each_form_and_seed_and_says_what_failed(bench: "Bench") -> None:
    seeds = scored_in_bf16(bench)
    note(bench, seeds[0][1], 13, "torch bf16")
    note(bench, seeds[1][1], 42, "torch bf16", flips=9, turned_positive=1, turned_negative=8, p_value=20 / 2**9)
    earlier: dict[str, Any] = {"turned_positive": None, "turned_negative": None, "p_value": None}
    note(bench, seeds[2][1], 87, "torch bf16", flips=2, **earlier)
    note(bench, seeds[0][1], 13, "openvino int8", passed=False, flips=None, flips_low=None, flips_high=None, **earlier,
         largest_move=None, problem="no <memory>")  # fmt: skip
    text = Page(bench.pages()["demo/tiny+lora.html"]).text
    assert "torch bf16 13 256 1 [0.001, 0.022] 1 / 0 1.000 0.071 1 %, 0.5 yes" in text
    assert "torch bf16 42 256 9 [0.001, 0.022] 1 / 8 0.039 0.071 1 %, 0.5 yes" in text
    assert "torch bf16 87 256 2 [0.001, 0.022] – – 0.071 1 %, 0.5 yes" in text, "an earlier release's"
    assert "openvino int8 13 256 – – – – 1 %, 0.5 no : no <memory>" in text or "no: no <memory>" in text


def test_a_page_without_checks_has_no_such_section(bench: "Bench") -> None:
    scored_in_bf16(bench)
    assert 'id="parity"' not in bench.pages()["demo/tiny+lora.html"]
