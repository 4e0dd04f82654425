"""The compare page in a real browser; its scripts' statistics against Python's."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from harness.gates.compare import flips, shared
from harness.records import Outcomes
from harness.stats import estimates, inference
from harness.stats.metrics import disagreements, is_right
from leaderboard.board.records import Board
from leaderboard.site import render
from tests.leaderboard.browsing import COMPARE, EXAMPLES, Opened, cells, outcomes_of, section_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.leaderboard.conftest import Bench

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def board(with_texts: "Bench") -> Board:
    return with_texts.board()


# Numbers of the scripts against Python's


def test_the_scripts_intervals_and_exact_tests_are_those_of_the_harness(opened: Opened) -> None:
    counts = [(0, 0, 1), (0, 0, 50), (1, 0, 1), (0, 1, 1), (3, 9, 20), (9, 3, 20), (12, 12, 400), (131, 52, 885),
              (40, 900, 10_000), (900, 40, 1000), (5, 0, 5), (1, 2, 3)]  # fmt: skip
    with opened(COMPARE) as page:
        for b, c, n in counts:
            both = "([b, c, n]) => [...harnessStats.tango(b, c, n), harnessStats.mcnemar(b, c)]"
            found = page.evaluate(both, [b, c, n])
            assert found[:2] == pytest.approx(inference.tango(b, c, n), abs=1e-9), (b, c, n)
            assert found[2] == pytest.approx(inference.mcnemar(b, c), rel=1e-9, abs=1e-300), (b, c, n)


def test_the_scripts_corrections_and_normal_p_values_are_those_of_the_harness(opened: Opened) -> None:
    chance = np.random.default_rng(5)
    many = [[], [0.04], [0.01, 0.01, 0.5], *(chance.uniform(size=n).tolist() for n in (2, 7, 30))]
    with opened(COMPARE) as page:
        for p_values in many:
            assert page.evaluate("p => harnessStats.holm(p)", p_values) == pytest.approx(inference.holm(p_values))
            adjusted = page.evaluate("p => harnessStats.benjaminiHochberg(p)", p_values)
            assert adjusted == pytest.approx(inference.benjamini_hochberg(p_values))
        for value, error in ((0.0, 1.0), (0.02, 0.01), (-0.3, 0.1), (1.0, 0.1), (0.1, 0.0)):
            found = page.evaluate("([v, e]) => harnessStats.twoSidedP(v, e)", [value, error])
            assert found == pytest.approx(inference.two_sided_p(value, error), rel=2e-7, abs=1e-9)
        for value, degrees in itertools.product((0.0, 0.4, 2.0, 9.0), (1.0, 2.0, 3.7, 25.0, 4000.0)):
            found = page.evaluate("([v, d]) => harnessStats.twoSidedT(v, 1, d)", [value, degrees])
            assert found == pytest.approx(inference.two_sided_p(value, 1.0, degrees), rel=1e-9, abs=1e-12)
            both = page.evaluate("d => harnessStats.widened(0.1, [0, 0.3], d)", degrees)
            assert both == pytest.approx(inference.widened(0.1, (0.0, 0.3), degrees), rel=1e-9)


def test_the_scripts_bootstrap_is_the_harness_but_for_the_draws(opened: Opened, board: "Board") -> None:
    for split_id, a, b in (
        ("elsewhere", "tiny+lora", "tfidf"),
        ("elsewhere", "tiny+ia3", "tfidf"),
        ("test", "tiny+lora", "tfidf"),
    ):
        (of_a, keys_a), (of_b, keys_b) = outcomes_of(board, split_id, a), outcomes_of(board, split_id, b)
        expected = estimates.difference_of_runs("accuracy", of_a, keys_a, of_b, keys_b)
        assert expected is not None
        clusters = of_a[0].clusters
        numbers = None if clusters is None else np.unique(clusters, return_inverse=True)[1].tolist()
        with opened(COMPARE) as page:
            found = page.evaluate(
                """([a, b, clusters, n, resamples]) => harnessStats.difference(
                    a, b, clusters, Uint32Array.from({length: n}, (_, i) => i), resamples)""",
                [
                    *([is_right(one).astype(int).tolist() for one in side] for side in (of_a, of_b)),
                    numbers,
                    len(of_a[0].labels),
                    inference.RESAMPLES,
                ],
            )
        width = expected.ci_high - expected.ci_low
        assert found["value"] == pytest.approx(expected.value, abs=1e-12)
        assert found["interval"] == pytest.approx([expected.ci_low, expected.ci_high], abs=0.12 * width)
        assert found["exact"] is False
        assert found["p"] == pytest.approx(expected.p_value, rel=1.0, abs=0.05)


@pytest.mark.parametrize("share_wrong", [0.0, 1.0])
def test_the_scripts_interval_admits_doubt_where_no_resample_differs(
    opened: Opened, make_outcomes: Any, share_wrong: float
) -> None:
    clusters = [str(i // 3) for i in range(60)]
    a, b = (make_outcomes([1] * 60, [score] * 60, clusters) for score in (0.9, 0.9 - 0.8 * share_wrong))
    expected = estimates.difference("accuracy", [a], [b], np.random.default_rng(0))
    assert expected is not None
    assert expected.ci_low < expected.ci_high
    with opened(COMPARE) as page:
        found = page.evaluate(
            """([a, b, clusters]) => harnessStats.difference(
                a, b, clusters, Uint32Array.from({length: 60}, (_, i) => i), 200)""",
            [*([is_right(one).astype(int).tolist()] for one in (a, b)), [int(name) for name in clusters]],
        )
    assert found["interval"] == pytest.approx([expected.ci_low, expected.ci_high], abs=1e-9)


def test_numbers_are_written_as_python_writes_them(opened: Opened) -> None:
    from leaderboard.pages import formats

    values = [
        0.0,
        -0.0,
        0.0625,
        0.1875,
        0.8125,
        0.9375,
        -0.0625,
        0.0004,
        -0.0004,
        1.0,
        -1.0,
        0.12345,
        1 / 3,
        7 / 16,
        12.0625,
    ]
    with opened(COMPARE) as page:
        for value in values:
            assert page.evaluate("v => harnessPage.score(v)", value) == formats.score(value), value
            assert page.evaluate("v => harnessPage.signed(v)", value) == formats.difference(value), value
        for p_value in (None, 0.0, 0.0009, 0.0011, 0.0625, 1.0):
            assert page.evaluate("v => harnessPage.pValue(v)", p_value) == formats.p_value(p_value)


# The compare page


def test_a_deep_link_shows_the_pair_with_tangos_interval_and_the_exact_test(opened: Opened, board: "Board") -> None:
    (one,), (other,) = outcomes_of(board, "test", "tiny+ia3")[0], outcomes_of(board, "test", "majority")[0]
    counts = disagreements(one, other)
    low, high = inference.tango(*counts, len(one.labels))
    with opened(f"{COMPARE}#split=test&a=tiny%2Bia3&b=majority") as page:
        assert page.locator("select[name=a]").input_value() == "tiny+ia3"
        assert page.locator("select[name=b]").input_value() == "majority"
        ((metric, value, interval, p, _),) = cells(page, "#difference")
        assert metric == "Accuracy"
        assert value == f"+{(counts[0] - counts[1]) / len(one.labels):.3f}"
        assert interval == f"[+{low:.3f}, +{high:.3f}]"
        assert p == "< 0.001"
        assert "Tango's interval" in page.locator("#answer").inner_text()
        ((_, only_a, only_b, _, _),) = cells(page, "#mcnemar")
        assert (int(only_a), int(only_b)) == counts


def test_a_pair_that_was_compared_beforehand_has_the_harness_own_numbers_both_ways_round(
    opened: Opened, board: "Board"
) -> None:
    (of_a, keys_a), (of_b, keys_b) = (
        outcomes_of(board, "elsewhere", "tiny+lora"),
        outcomes_of(board, "elsewhere", "tiny"),
    )
    expected = estimates.difference_of_runs("accuracy", of_b, keys_b, of_a, keys_a)
    assert expected is not None
    for a, b, found in (("tiny", "tiny+lora", expected), ("tiny+lora", "tiny", expected.turned)):
        with opened(f"{COMPARE}#split=elsewhere&a={a.replace('+', '%2B')}&b={b.replace('+', '%2B')}") as page:
            ((_, value, interval, _, _),) = cells(page, "#difference")
            numbers = [float(text.replace("−", "-")) for text in (value, *interval.strip("[]").split(", "))]
            assert numbers == [round(number, 3) for number in (found.value, found.ci_low, found.ci_high)]
            assert "As computed by harness compare." in page.locator("#answer").inner_text()
            assert len(cells(page, "#mcnemar")) == 3, "both sides have the seeds 13, 42 and 87"


def test_flips_are_those_of_harness_compare_with_their_texts(opened: Opened, board: "Board") -> None:
    only_a, only_b, _ = flips(outcomes_of(board, "test", "tiny+lora")[0], outcomes_of(board, "test", "tiny+ia3")[0])
    with opened(f"{COMPARE}#split=test&a=tiny%2Blora&b=tiny%2Bia3") as page:
        for place, expected in (("#only-a", only_a), ("#only-b", only_b)):
            assert f"{len(expected)} examples" in page.locator(place).inner_text()
            page.wait_for_selector(f"{place} li")
            shown = page.locator(f"{place} code").all_inner_texts()
            assert shown == [flip.example_id for flip in expected[: len(shown)]]
            assert len(shown) == min(10, len(expected))
    only_a, _, _ = flips(outcomes_of(board, "test", "tiny+lora")[0], outcomes_of(board, "test", "tfidf")[0])
    with opened(f"{COMPARE}#split=test&a=tiny%2Blora&b=tfidf") as page:
        page.click("#only-a button:text-matches('Show more')")
        page.wait_for_function("n => document.querySelectorAll('#only-a li').length === n", arg=min(60, len(only_a)))


def test_slices_have_the_accuracy_of_their_examples(opened: Opened, board: "Board", with_texts: "Bench") -> None:
    from harness.stats.slices import all_slices

    (one,), (other,) = outcomes_of(board, "test", "tiny+ia3")[0], outcomes_of(board, "test", "tfidf")[0]
    expected = {
        name: [f"{int(mask.sum())}", f"{is_right(one)[mask].mean():.3f}", f"{is_right(other)[mask].mean():.3f}"]
        for name, mask in all_slices(with_texts.examples["test"]).items()
        if mask.sum() >= 10
    }
    with opened(f"{COMPARE}#split=test&a=tiny%2Bia3&b=tfidf") as page:
        shown = {row[0]: row[1:4] for row in cells(page, "#slices")}
    assert {name: shown[name] for name in expected} == expected
    assert len(expected) >= 4


def test_choosing_and_swapping_changes_the_address_and_a_changed_address_the_choice(opened: Opened) -> None:
    with opened(f"{COMPARE}#split=test&a=tfidf&b=majority") as page:
        first = cells(page, "#difference")
        page.click("#swap")
        page.wait_for_function("location.hash === '#split=test&a=majority&b=tfidf'")
        page.wait_for_function("document.querySelector('#difference td').innerText.startsWith('−')")
        assert cells(page, "#difference")[0][1].replace("−", "+") == first[0][1]
        page.evaluate("location.hash = '#split=elsewhere&a=tiny&b=tfidf'")
        page.wait_for_function(
            "document.querySelector('#difference caption').innerText.includes('tiny minus tfidf on elsewhere')"
        )
        assert page.locator("select[name=split]").input_value() == "elsewhere"


def test_an_address_that_names_nothing_known_shows_the_usual_pair(opened: Opened) -> None:
    with opened(f"{COMPARE}#split=nowhere&a=../../x&b=<img src=x onerror=alert(1)>") as page:
        assert len(cells(page, "#difference")) == 1


def test_the_form_works_from_the_keyboard(opened: Opened) -> None:
    with opened(f"{COMPARE}#split=test&a=tfidf&b=majority") as page:
        page.locator("select[name=split]").focus()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.name") == "a"
        page.keyboard.press("ArrowUp")
        page.wait_for_function("!location.hash.includes('a=tfidf')")
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "swap"
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", "what has the focus must be seen"
        page.keyboard.press("Enter")
        page.wait_for_function("location.hash.includes('a=majority')")


def test_without_javascript_the_pairs_are_a_plain_table(opened: Opened) -> None:
    with opened(COMPARE, java_script_enabled=False) as page:
        text = page.locator("main").inner_text()
        assert "needs JavaScript" in text
        assert page.locator("#app").is_hidden()
        assert page.locator("#beforehand table").first.is_visible()
    with opened(EXAMPLES, java_script_enabled=False) as page:
        assert page.locator("#consensus table").first.is_visible()


def test_a_missing_data_file_is_told_in_words(
    whole: dict[str, str | bytes], browser: "Browser", tmp_path: Path
) -> None:
    site = {name: text for name, text in whole.items() if name != "demo/data/test/predictions/tfidf.js"}
    render.write(site, tmp_path / "site")
    page = browser.new_page()
    page.goto((tmp_path / "site" / COMPARE).as_uri() + "#split=test&a=tfidf&b=majority")
    alert = page.wait_for_selector("[role=alert]")
    assert alert is not None
    assert "test/predictions/tfidf.js cannot be read; render the site again" in alert.inner_text()
    page.close()


# The whole page


def test_the_page_opens_on_an_adapter_against_its_base_and_draws_where_they_differ(opened: Opened) -> None:
    with opened(COMPARE) as page:
        assert page.eval_on_selector("#choice", "form => [form.a.value, form.b.value]") == ["tiny+lora", "tiny"]
        rows = cells(page, "#drawn")
        slices = [row[0] for row in cells(page, "#slices")]
        assert [row[0] for row in rows] == [
            "test",
            *(name for name in slices if name in {r[0] for r in rows}),
            "elsewhere",
        ]
        assert rows[0][3] == cells(page, "#difference")[0][1]
        drawn = page.eval_on_selector_all("#drawn .zeroed", "all => all.map(one => one.getAttribute('style'))")
        for style in drawn:
            places = {name: float(at) for name, at in (part.split(":") for part in style.replace("--", "").split(";"))}
            assert 0 <= places["l"] <= places["p"] <= places["h"] <= 100
            assert 0 <= places["z"] <= 100


def test_a_link_that_names_a_model_that_is_gone_says_so(opened: Opened) -> None:
    with opened(f"{COMPARE}#split=test&a=tiny%2Blora&b=removed") as page:
        assert "The link names removed" in page.inner_text("#missing")
        assert page.eval_on_selector("#choice", "form => form.a.value") == "tiny+lora"
    with opened(f"{COMPARE}#split=test&a=tiny%2Blora&b=tfidf") as page:
        assert page.is_hidden("#missing")


def test_flips_show_both_scores_as_bars(opened: Opened) -> None:
    with opened(f"{COMPARE}#split=test&a=tiny%2Blora&b=tfidf") as page:
        page.wait_for_selector("#only-a li .meter")
        first = page.locator("#only-a li").first
        shown = [float(text.split()[-1]) for text in first.locator(".scored").all_inner_texts()]
        drawn = first.locator(".meter").evaluate_all(
            "all => all.map(one => parseFloat(one.style.getPropertyValue('--p')))"
        )
        assert drawn == pytest.approx([100 * value for value in shown], abs=0.06)


def test_the_page_names_what_the_flips_of_a_pair_share_both_ways_round_as_harness_compare_does(
    opened: Opened, with_texts: "Bench", tmp_path: Path
) -> None:
    """IA3 is wrong on all texts with two nots, and LoRA right."""
    board = with_texts.board()
    chosen = np.array(["not not" in one.content for one in with_texts.examples["test"]])
    sides = {}
    for model_id, right in (("tiny+lora", np.ones(300, bool)), ("tiny+ia3", ~chosen)):
        runs = next(one for one in section_of(board, "test").entries if one.model_id == model_id).runs
        sides[model_id] = [changed_to(board.outcomes[one.run.run_id], right) for one in runs]
        known = {one.run.run_id: outcomes for one, outcomes in zip(runs, sides[model_id], strict=True)}
        board = replace(board, outcomes={**board.outcomes, **known})
    expected = shared(with_texts.examples["test"], sides["tiny+lora"], sides["tiny+ia3"], with_text=True)
    render.write(render.render([board], {"demo": with_texts.examples}), tmp_path / "site")
    for a, b, who in (("tiny%2Blora", "tiny%2Bia3", "only A"), ("tiny%2Bia3", "tiny%2Blora", "only B")):
        with opened(f"{COMPARE}#split=test&a={a}&b={b}", folder=tmp_path / "site") as page:
            rows = cells(page, "#shared")
            assert [row[1] for row in rows] == [one.name for one in expected.directions[0]]
            assert rows[0] == [who, '"not not"', "99 of 99", "0 of 201", "< 0.001"]
            assert f"exact tests of {expected.n_tested:,} slices, words" in page.locator("#shared").inner_text()


def test_the_page_says_so_where_flips_share_nothing_and_where_it_was_not_computed(opened: Opened) -> None:
    with opened(f"{COMPARE}#split=test&a=tiny%2Blora&b=tiny") as page:
        assert "Nothing is more frequent" in page.locator("#shared").inner_text()
        assert page.locator("#shared table").count() == 0
    with opened(f"{COMPARE}#split=test&a=tiny%2Bia3&b=majority") as page:
        assert "Not computed for this pair" in page.locator("#shared").inner_text()


def changed_to(outcomes: Outcomes, right: Any) -> Outcomes:
    """The same examples, answered so."""
    predicted = np.where(right, outcomes.labels, 1 - outcomes.labels)
    return replace(outcomes, predicted=predicted, scores=np.where(predicted == 1, 0.9, 0.1))
