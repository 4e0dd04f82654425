"""Parts that only a configuration's page has: suite text, past runs, hardest examples, training curves."""

import re
import tomllib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from harness.records import Expected, Outcomes, Split
from leaderboard.board.records import Board, Past
from leaderboard.pages import gallery, hardest, history, origins
from tests.leaderboard.test_pages import NOON, Page

if TYPE_CHECKING:
    from tests.leaderboard.conftest import Bench


def test_the_suites_tables_are_toml_that_says_what_was_declared(board: Board) -> None:
    for model in board.suite.model:
        found = tomllib.loads(origins.declared(board.suite, model))
        assert found["model"] == [model.model_dump(mode="json", by_alias=True, exclude_none=True)]
        adapter_id = getattr(model, "adapter", None)
        if adapter_id is not None:
            (adapter,) = found["adapter"]
            assert (adapter["id"], adapter["params"], adapter["train"]["epochs"]) == (adapter_id, {"r": 8}, 3)
            assert found["split"][0]["id"] == "train"


def test_runs_of_an_earlier_commit_are_shown_beside_those_of_now(bench: "Bench") -> None:
    split = bench.add_split("test", 40)
    bench.add_run("tfidf", split, right=0.6, run_key="e" * 64, git_commit="a" * 40, run_id="then")
    bench.run_keys.clear()
    bench.add_run("tfidf", split, right=0.8, git_commit="b" * 40)
    bench.add_run("majority", split, right=0.5, git_commit="b" * 40)
    pages = bench.pages()
    text = Page(pages["demo/tfidf.html"]).text
    assert re.search(r"Over commits .* b{10} test – 0\.800 \[.*?\] .* a{10} test – 0\.600 \[", text)
    assert pages["demo/tfidf.html"].count("<b>0.800</b>") == 1
    assert "<b>0.600</b>" not in pages["demo/tfidf.html"], "it is not what the page is about"
    assert "Over commits" not in pages["demo/majority.html"], "it was scored at one commit only"
    assert 'class="plot"' not in pages["demo/majority.html"]


def evaluated(bench: "Bench", split: Split, day: int, commit: str, right: float, **changes: Any) -> None:
    """Two seeds of LoRA, scored in one evaluation on that day of March; the board shows the last one."""
    bench.run_keys.clear()
    for seed in (13, 42):
        adapter = bench.add_adapter("lora", seed)
        when = NOON.replace(day=day, second=seed)
        told: dict[str, Any] = {"git_commit": commit * 40, "evaluation_id": f"of {day}", "finished_at": when}
        told |= {"run_id": f"{split.split_id}-{day}-{seed}", "run_key": f"{split.split_id}-{day}-{seed}"}
        bench.add_run("tiny+lora", split, seed, right=right, adapter=adapter, **(told | changes))


def test_the_history_is_a_plot_of_evaluations_in_the_order_of_time_on_the_first_split(bench: "Bench") -> None:
    test, elsewhere = bench.add_split("test", 40), bench.add_split("elsewhere", 40)
    evaluated(bench, elsewhere, 1, "e", 0.6)
    evaluated(bench, test, 4, "b", 0.7, git_dirty=True)
    assert history.history_plot(bench.board(), "tiny+lora", ()) is None, "one evaluation on the first split"
    evaluated(bench, test, 2, "a", 0.6, evaluation_id=None)
    evaluated(bench, test, 9, "c", 0.8)
    page = bench.pages()["demo/tiny+lora.html"]
    (plot,) = re.findall(r'<svg class="plot".*?</svg>', page, re.DOTALL)
    lines = re.findall(r"<tspan[^>]*>([^<]+)</tspan>", plot)
    assert lines == [
        "aaaaaaa", "2026-03-02 12:00", "bbbbbbb changed", "2026-03-04 12:00", "ccccccc", "2026-03-09 12:00",
    ]  # fmt: skip
    said = re.findall(r"<title>([^<]+)</title>", plot)
    assert {text.split(": ")[0] for text in said} == {
        f"{commit}, 2026-03-0{day} 12:00 UTC, seed {seed}"
        for commit, day in (("aaaaaaa", 2), ("bbbbbbb changed", 4), ("ccccccc", 9))
        for seed in (13, 42)
    }
    assert all(re.search(r"UTC, seed \d\d: 0\.[678]00 \[0\.\d{3}, 0\.\d{3}\]$", text) for text in said)
    assert plot.count('fill="var(--paper)"') == 2
    assert page.index(plot) < page.index("One row per run with its 95 % interval")
    assert bench.pages()["demo/tiny+lora.html"] == page


def test_a_long_history_is_drawn_from_its_newest_evaluations(board: Board) -> None:
    past = tuple(
        Past(f"run-{i}", "tfidf", "test", None, f"{i:040x}", False, None, NOON + timedelta(hours=i), 0.8, 0.7, 0.9)
        for i in reversed(range(history.SHOWN + 5))
    )
    drawn = history.history_plot(replace(board, past={"tfidf": past}), "tfidf", ())
    assert drawn is not None
    assert f"the last {history.SHOWN} of {history.SHOWN + 5} evaluations" in drawn.caption
    assert drawn.svg.count("<tspan") == 2 * history.SHOWN
    assert "2026-03-01 12:00" not in drawn.svg


def of_label(outcomes: Outcomes, i: int) -> float:
    return float(outcomes.scores[i] if outcomes.labels[i] else 1 - outcomes.scores[i])


def test_the_hardest_examples_are_those_that_are_wrong_and_surest_first(bench: "Bench") -> None:
    split = bench.add_split("test", 60)
    bench.add_run("tfidf", split, right=0.5)
    board = bench.board()
    (entry,) = [entry for entry in board.sections[0].entries if entry.runs]
    found = hardest.hardest(entry, board.outcomes, split.examples, with_text=False)
    outcomes = board.outcomes[entry.runs[0].run.run_id]
    everything = sorted((of_label(outcomes, i), name) for i, name in enumerate(outcomes.example_ids))
    assert [one.example_id for one in found] == [name for _, name in everything[: hardest.SHOWN]]
    assert all(float(one.probability) < 0.5 and one.text == "" for one in found)


@pytest.mark.parametrize("with_text", [True, False])
def test_texts_of_hard_examples_stand_there_only_where_the_suite_lets_them(bench: "Bench", with_text: bool) -> None:
    split = bench.add_split("test", 10, texts=[("Secret", "words " * 200)] * 10)
    bench.add_run("tfidf", split, right=0.0)
    board = bench.board()
    (entry,) = [entry for entry in board.sections[0].entries if entry.runs]
    found = hardest.hardest(entry, board.outcomes, split.examples, with_text=with_text)
    assert len(found) == hardest.SHOWN
    assert all(one.text.startswith("Secret — words") == with_text for one in found)
    assert all(len(one.text) < 420 for one in found)


def test_a_models_page_names_its_expectations_and_no_others(bench: "Bench") -> None:
    bench.add_run("tfidf", bench.add_split("test", 40), right=0.8)
    told = Expected(
        "tfidf on test: accuracy >= 0.6", "tfidf", "confirmed", "0.8 is above 0.6", {"value": 0.8}, NOON, True
    )
    bench.expected += [told, replace(told, rule="tiny on test: accuracy <= 0.6", model_id="tiny")]
    text = Page(bench.pages()["demo/tfidf.html"]).text
    assert "tfidf on test ✓ confirmed accuracy >= 0.6" in text
    assert "tiny on test" not in text


def test_a_training_curve_is_drawn_through_means_of_its_stretches(bench_of: "Callable[..., Bench]") -> None:
    bench = bench_of()
    curve = [[step, 0.001, 0.7 if step % 2 else 0.5] for step in range(1, 401)]
    adapter = bench.add_adapter("ia3", 13, card={"curve": curve})
    bench.add_run("tiny+ia3", bench.add_split("test", 40), 13, right=0.8, adapter=adapter)
    points = gallery.smoothed(adapter)
    assert len(points) == gallery.CURVE_POINTS
    assert {round(loss, 9) for _, loss in points} == {0.6}
    assert "training loss, from 0.600 to 0.600 nats" in bench.pages()["demo/tiny+ia3.html"]
    assert gallery.smoothed(bench.add_adapter("lora", 13)) == []
