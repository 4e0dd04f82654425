"""Splits without labels on the tools' pages: pairs, both texts' answers, and whether the pair holds."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from harness.records import UNLABELLED, Example, Split
from harness.stats import metrics
from harness.store import writer
from leaderboard.board.examples import pairs_hold
from leaderboard.site import check, render
from tests.leaderboard.browsing import COMPARE, EXAMPLES, Opened

if TYPE_CHECKING:
    from tests.leaderboard.conftest import Bench


def rows_of(n: int, change: int) -> tuple[Example, ...]:
    """n pairs of an original and a changed copy."""
    return tuple(
        Example(
            f"{i:030d}-{k}",
            "",
            f"{'copy' if k else 'original'} {i}",
            UNLABELLED,
            f"p{i}",
            f"{i}{k}",
            {},
            f"p{i}",
            k * change,
        )
        for i in range(n)
        for k in (0, 1)
    )


@pytest.mark.parametrize("change", [0, 1, -1])
def test_pairs_hold_as_the_metric_counts_them(change: int) -> None:
    generator = np.random.default_rng(change + 1)
    rows, scores = rows_of(50, change), generator.random(100).round(1)
    split = Split("pairs", rows, "d" * 64, {})
    outcomes = metrics.of_split(split, (scores > 0.5).astype(np.int64), scores)
    held = pairs_hold(rows, outcomes)
    assert (held[::2] == held[1::2]).all()
    name = "direction" if change else "invariance"
    assert held.mean() == pytest.approx(metrics.value(name, outcomes))
    assert 0 < held.mean() < 1


@pytest.fixture
def unlabelled(bench_of: Callable[..., "Bench"]) -> "Bench":
    """A split with labels, and one of ten pairs without: `tfidf` breaks the first two of these, `majority` none."""
    bench = bench_of(splits=["test", "typos"], store=True)
    test = bench.add_split("test", 20, texts=[("", f"text {i}") for i in range(20)])
    bench.fill(test, {"tfidf": 0.7, "majority": 0.5})
    rows = rows_of(10, 0)
    split = Split("typos", rows, "e" * 64, {"source": "made up"})
    writer.write_split(bench.connection, bench.suite.name, split, with_text=True)
    bench.examples["typos"] = rows
    for model_id, breaks in (("tfidf", 2), ("majority", 0)):
        scores = [0.9 if k == 0 or i >= breaks else 0.2 for i in range(10) for k in (0, 1)]
        bench.add_answers(model_id, split, scores)
    return bench


def test_the_check_of_a_site_takes_splits_without_labels(unlabelled: "Bench", tmp_path: Path) -> None:
    from harness.store import sql_metrics

    board, files = unlabelled.board(), unlabelled.whole_site()
    assert "demo/data/typos/predictions/tfidf.js" in files
    render.write(files, tmp_path / "site")
    known = sql_metrics.metrics_of(unlabelled.connection, check.run_ids([board]))
    assert check.check(files, [board], tmp_path / "site", known).problems == ()


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1440])
def test_a_pair_is_one_row_with_both_answers_and_whether_it_holds(
    opened: Opened, unlabelled: "Bench", tmp_path: Path, width: int
) -> None:
    folder = tmp_path / "site"
    render.write(unlabelled.whole_site(), folder)
    with opened(f"{EXAMPLES}#split=typos&a=tfidf&b=majority", folder=folder, width=width) as page:
        assert page.locator("#found").inner_text() == "10 of 10 pairs"
        first = page.locator("#answer tbody tr").first
        assert first.locator(".pair li .content").all_inner_texts() == ["original 0", "copy 0"]
        assert first.locator(".pair .badge").all_inner_texts() == ["original", "must get the same answer"]
        assert first.locator("td.said").all_inner_texts() == ["0.900 → 0.200\nbreaks", "0.900 → 0.900\nholds"]
        assert first.get_attribute("class") == "differ"
        assert page.locator("#answer tbody tr").nth(2).get_attribute("class") is None
        assert page.locator("select[name=label]").is_disabled()
        if width < 640:
            page.locator(".drawer-open").click()
        page.select_option("select[name=show]", label="it holds for B alone")
        page.wait_for_function("location.hash.includes('only-b')")
        page.wait_for_function("!document.querySelector('[aria-busy]')")
        assert page.locator("#found").inner_text() == "2 of 10 pairs"
        page.select_option("select[name=split]", "test")
        page.wait_for_function("location.hash.includes('split=test')")
        assert page.locator("select[name=show] option").nth(1).inner_text() == "A is wrong"
    with opened(f"{COMPARE}#split=typos&a=tfidf&b=majority", folder=folder, width=width) as page:
        shares = page.locator("#answer table td").all_inner_texts()
        assert shares == ["0.800", "1.000"]
        page.wait_for_selector("#only-b li")
        assert page.locator("#only-b > .examples > li").count() == 2
        assert page.locator("#only-b .fine").first.inner_text() == "A 0.900 positive · B 0.900 positive"
        assert page.locator("#only-a > .examples > li").count() == 0
