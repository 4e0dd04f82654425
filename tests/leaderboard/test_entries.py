"""From stored runs to a board: aggregation over seeds, order, tiers, and what is missing."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pytest

from harness.records import Metric
from harness.stats import estimates, inference
from harness.stats.inference import ALPHA
from harness.store import reader, writer
from harness.suite.schema import Suite
from leaderboard.board import read
from leaderboard.board.records import Board, Entry, Pair, Section
from leaderboard.pages import formats
from leaderboard.pages.standings import headline_row

if TYPE_CHECKING:
    from tests.leaderboard.conftest import Bench


def of(section: Section, model_id: str) -> Entry:
    return next(entry for entry in section.entries if entry.model_id == model_id)


def pair(section: Section, above: str, below: str) -> Pair:
    return next(found for found in section.pairs if (found.model_id, found.other_id) == (above, below))


def many_models(n: int) -> str:
    """Declarations of `m0`, `m1`, … without seeds."""
    return "".join(f'[[model]]\nid = "m{i}"\nbackend = "majority"\ntrain_split = "train"\n\n' for i in range(n))


def order(section: Section) -> list[str]:
    return [entry.model_id for entry in section.entries]


def test_every_scored_split_has_a_section_in_the_suites_order_and_the_training_split_has_none(board: Board) -> None:
    assert [section.split.id for section in board.sections] == ["test", "elsewhere"]


def test_an_entrys_score_is_the_mean_over_its_seeds_with_an_interval_around_it(board: Board) -> None:
    entry = of(board.sections[0], "tiny+lora")
    assert entry.primary is not None
    assert entry.primary.value is not None
    assert entry.primary.value == pytest.approx((0.90 + 0.91 + 0.92) / 3, abs=0.003)
    assert entry.primary.ci_low is not None
    assert entry.primary.ci_high is not None
    assert entry.primary.ci_low < entry.primary.value < entry.primary.ci_high
    assert entry.primary.n == 120
    assert [scored.run.seed for scored in entry.runs] == [13, 42, 87]
    assert list(entry.metrics) == ["accuracy", "f1", "log_loss"]


def test_an_entry_of_one_run_shows_that_runs_own_interval(board: Board) -> None:
    entry = of(board.sections[1], "tfidf")
    assert entry.metrics == {metric.name: metric for metric in entry.runs[0].run.metrics}


def test_a_metric_that_was_never_stored_is_made_from_the_predictions(bench: "Bench") -> None:
    run = bench.add_run("tfidf", bench.add_split("test", 40), right=0.75, metric_names=["accuracy"])
    entry = of(bench.board().sections[0], "tfidf")
    assert [metric.name for metric in run.metrics] == ["accuracy"]
    expected = estimates.summarise("f1", [reader.outcomes(bench.connection, run.run_id)], np.random.default_rng(0))
    assert entry.metrics["f1"].value == expected.value


def test_entries_are_sorted_from_best_to_worst_where_higher_is_better(board: Board) -> None:
    assert order(board.sections[0]) == ["tiny+lora", "tiny+ia3", "tfidf", "majority", "tiny"]


def test_entries_are_sorted_from_best_to_worst_where_lower_is_better(bench_of: "Callable[..., Bench]") -> None:
    bench = bench_of(primary="brier")
    bench.fill(bench.add_split("test", 120), {"majority": 0.5, "tfidf": 0.7, "tiny+lora": 0.9})
    section = bench.board().sections[0]
    assert order(section)[:3] == ["tiny+lora", "tfidf", "majority"]
    values = [entry.primary.value for entry in section.entries[:3] if entry.primary is not None]
    assert values == sorted(values, key=lambda value: value or 0.0)
    assert [tier.model_ids for tier in section.tiers] == [("tiny+lora",), ("tfidf",), ("majority",)]
    gap = section.tiers[1].gap
    assert gap is not None
    assert gap.lead is not None
    assert 0 < gap.lead.ci_low < gap.lead.value, "the smaller loss leads by a positive number"


def test_entries_that_the_data_cannot_separate_share_a_tier(bench: "Bench") -> None:
    bench.fill(bench.add_split("test", 120), {"tiny+lora": 0.9, "tiny+ia3": 0.9, "tfidf": 0.6})
    section = bench.board().sections[0]
    assert [tier.model_ids for tier in section.tiers] == [("tiny+lora", "tiny+ia3"), ("tfidf",)]
    assert [entry.tier for entry in section.entries[:3]] == [1, 1, 2]


def test_a_tier_is_held_against_its_first_entry_and_not_against_the_neighbour(bench_of: "Callable[..., Bench]") -> None:
    bench = bench_of(models=many_models(4), gate=False)
    split = bench.add_split("test", 200)
    for i, right in enumerate((0.90, 0.86, 0.82, 0.78)):
        bench.add_run(f"m{i}", split, right=right, noise=1.0)
    section = bench.board().sections[0]
    assert not any(pair(section, f"m{i}", f"m{i + 1}").apart for i in range(3)), "neighbours are alike"
    assert pair(section, "m0", "m3").apart
    assert section.tiers[0].model_ids[0] == "m0"
    assert "m3" not in section.tiers[0].model_ids


@pytest.mark.parametrize(("n_others", "n_tiers"), [(0, 2), (6, 1)])
def test_a_difference_that_is_enough_for_two_models_is_not_enough_among_many(
    bench_of: "Callable[..., Bench]", n_others: int, n_tiers: int
) -> None:
    bench = bench_of(models=many_models(2 + n_others), gate=False)
    split = bench.add_split("test", 200)
    bench.add_run("m0", split, right=0.90, noise=0.05)
    for i in range(n_others + 1):
        bench.add_run(f"m{i + 1}", split, right=0.87, noise=0.05)
    section = bench.board().sections[0]
    found = pair(section, "m0", "m1")
    assert found.lead is not None
    assert found.lead.p_value < ALPHA, "alone it would do"
    assert found.lead.ci_low > 0, "and its own interval excludes zero"
    assert len(section.tiers) == n_tiers
    assert found.apart == (n_tiers == 2)


def test_every_two_ranked_entries_are_compared_and_adjusted_together(board: Board) -> None:
    section = board.sections[0]
    ranked = [entry.model_id for entry in section.entries if entry.ranked]
    assert [(p.model_id, p.other_id) for p in section.pairs] == list(combinations(ranked, 2))
    leads = [p.lead for p in section.pairs if p.lead is not None]
    assert [p.adjusted_p for p in section.pairs] == pytest.approx(inference.holm([lead.p_value for lead in leads]))
    scores = {entry.model_id: (entry.primary.value if entry.primary else None) or 0.0 for entry in section.entries}
    for p in section.pairs:
        assert p.lead is not None
        assert p.lead.value == pytest.approx(scores[p.model_id] - scores[p.other_id])
        assert p.lead.value >= 0


def test_the_comparison_of_two_entries_is_the_same_number_whoever_else_is_there(bench: "Bench") -> None:
    split = bench.add_split("test", 120)
    bench.fill(split, {"tiny+lora": 0.8, "tfidf": 0.6})
    (alone,) = bench.board().sections[0].pairs
    bench.fill(split, {"majority": 0.95, "tiny+ia3": 0.7})
    section = bench.board().sections[0]
    assert order(section)[:4] == ["majority", "tiny+lora", "tiny+ia3", "tfidf"], "before, between and after"
    among_others = pair(section, "tiny+lora", "tfidf")
    assert alone.lead is not None
    assert alone.lead == among_others.lead
    assert alone.lead.se_seeds > 0
    assert alone.adjusted_p == pytest.approx(alone.lead.p_value), "one pair needs no correction"


def test_a_difference_in_the_wrong_direction_opens_no_tier(bench: "Bench") -> None:
    split = bench.add_split("test", 200)
    claimed = Metric("accuracy", 0.99, 0.98, 1.0, 200, higher_is_better=True)
    bench.add_run("tfidf", split, right=0.5, metrics=(claimed,))  # a store whose metric belies its predictions
    bench.add_run("majority", split, right=0.9)
    section = bench.board().sections[0]
    found = pair(section, "tfidf", "majority")
    assert found.adjusted_p is not None
    assert found.adjusted_p < ALPHA
    assert [tier.model_ids for tier in section.tiers] == [("tfidf", "majority")]


def test_one_single_cluster_tells_nobody_apart(bench: "Bench") -> None:
    split = bench.add_split("test", 40, clusters=1)
    bench.add_run("tfidf", split, right=0.9)
    bench.add_run("majority", split, right=0.5)
    section = bench.board().sections[0]
    assert [(p.lead, p.adjusted_p, p.apart) for p in section.pairs] == [(None, None, False)]
    assert [tier.model_ids for tier in section.tiers] == [("tfidf", "majority")]


def test_a_later_tier_is_held_against_its_own_first_entry(bench: "Bench") -> None:
    bench.fill(bench.add_split("test", 120), {"tiny+lora": 0.9, "tfidf": 0.6, "majority": 0.6})
    section = bench.board().sections[0]
    assert [tier.model_ids for tier in section.tiers] == [("tiny+lora",), ("majority", "tfidf")]


def test_errors_on_the_same_examples_separate_what_single_intervals_do_not(bench: "Bench") -> None:
    split = bench.add_split("test", 200)
    bench.add_run("tfidf", split, right=0.85, noise=0.0)
    bench.add_run("majority", split, right=0.80, noise=0.0)
    section = bench.board().sections[0]
    better, worse = (of(section, name).primary for name in ("tfidf", "majority"))
    assert better is not None
    assert worse is not None
    assert better.ci_low is not None
    assert worse.ci_high is not None
    assert better.ci_low < worse.ci_high, "the intervals overlap"
    assert [tier.model_ids for tier in section.tiers] == [("tfidf",), ("majority",)]


def test_an_untrained_head_is_marked_and_in_no_tier_however_lucky(bench: "Bench") -> None:
    bench.fill(bench.add_split("test", 120), {"tfidf": 0.6, "tiny": 0.9})
    section = bench.board().sections[0]
    entry = of(section, "tiny")
    assert entry.badges == ("untrained head",)
    assert entry.tier is None
    assert order(section)[0] == "tfidf"
    assert all("tiny" not in tier.model_ids for tier in section.tiers)


def test_one_training_seed_is_marked_but_a_model_without_randomness_is_not(board: Board) -> None:
    section = board.sections[0]
    assert of(section, "tiny+ia3").badges == ("1 seed",)
    assert of(section, "tfidf").badges == ()
    assert of(section, "tiny+lora").badges == ()


def test_a_model_without_runs_is_shown_without_numbers(bench: "Bench") -> None:
    bench.fill(bench.add_split("test", 60), {"tfidf": 0.7})
    entry = of(bench.board().sections[0], "tiny+lora")
    assert entry.badges == ("not run",)
    assert (entry.primary, entry.tier, entry.runs) == (None, None, ())
    assert (entry.n_trainable, entry.train_seconds, entry.size_bytes, entry.peak_bytes) == (None, None, None, None)
    assert entry.examples_per_second is None


def test_a_model_with_some_of_its_seeds_keeps_its_score_but_is_in_no_tier(bench: "Bench") -> None:
    split = bench.add_split("test", 60)
    bench.fill(split, {"tfidf": 0.7})
    for seed in (13, 87):
        bench.add_run("tiny+lora", split, seed, right=0.9)
    section = bench.board().sections[0]
    entry = of(section, "tiny+lora")
    assert entry.badges == ("2 of 3 seeds",)
    assert entry.tier is None
    assert entry.primary is not None
    assert order(section)[:2] == ["tfidf", "tiny+lora"]


def test_an_undefined_score_is_in_no_tier_and_comes_last(bench_of: "Callable[..., Bench]") -> None:
    bench = bench_of(primary="mcc")
    split = bench.add_split("test", 40)
    only_positive = replace(split, examples=tuple(replace(e, label=1) for e in split.examples), digest="e" * 64)
    writer.write_split(bench.connection, "demo", only_positive, with_text=False)
    bench.add_run("majority", only_positive, right=1.0)
    entry = of(bench.board().sections[0], "majority")
    assert entry.primary is not None
    assert entry.primary.value is None
    assert entry.tier is None
    assert bench.board().headline is None


def test_an_empty_store_gives_a_board_of_missing_models(bench: "Bench") -> None:
    board = bench.board()
    assert board.headline is None
    assert [entry.badges for entry in board.sections[0].entries if not entry.untrained_head] == [("not run",)] * 4
    assert of(board.sections[0], "tiny").badges == ("untrained head", "not run")
    assert (board.sections[0].n, board.sections[0].n_clusters, board.sections[0].split_digest) == (None, None, None)


def test_cost_comes_from_the_adapters_and_speed_from_the_median_run(bench: "Bench") -> None:
    split = bench.add_split("test", 60)
    for seed, seconds, trained in ((13, 1.0, 30.0), (42, 2.0, 40.0), (87, 6.0, 80.0)):
        adapter = bench.add_adapter("lora", seed, train_seconds=trained, peak_bytes=1000 + seed, size_bytes=seed)
        bench.add_run("tiny+lora", split, seed, right=0.9, adapter=adapter, seconds=seconds)
    entry = of(bench.board().sections[0], "tiny+lora")
    assert entry.train_seconds == 50.0
    assert (entry.n_trainable, entry.size_bytes, entry.peak_bytes) == (12_345, 87, 1087)
    assert entry.examples_per_second == 30.0


def test_numbers_that_nobody_measured_stay_absent(bench: "Bench") -> None:
    bench.add_run("tiny+ia3", bench.add_split("test", 60), 13, right=0.9, adapter_digest="f" * 64, seconds=None)
    entry = of(bench.board().sections[0], "tiny+ia3")
    assert (entry.n_trainable, entry.train_seconds, entry.examples_per_second) == (None, None, None)


def test_clusters_are_counted_where_the_split_names_them(board: Board) -> None:
    test, elsewhere = board.sections
    assert (test.n, test.n_clusters) == (120, None)
    assert (elsewhere.n, elsewhere.n_clusters) == (90, 30)


def test_runs_of_unknown_models_and_failed_runs_do_not_count(bench: "Bench") -> None:
    split = bench.add_split("test", 60)
    good = bench.add_run("tfidf", split, right=0.8)
    outcomes = {good.run_id: reader.outcomes(bench.connection, good.run_id)}
    failed = replace(good, run_id="x", status="error", finished_at=good.finished_at + timedelta(days=1))
    strange = replace(good, run_id="y", model_id="nobody")
    board = read.build(bench.suite, [good, failed, strange], outcomes, {}, [])
    assert of(board.sections[0], "tfidf").runs[0].run == good
    assert len(board.sections[0].entries) == len(bench.suite.model)


def test_of_two_runs_of_one_seed_the_later_counts(bench: "Bench") -> None:
    split = bench.add_split("test", 60)
    runs = [bench.add_run("tfidf", split, right=right, run_id=str(right)) for right in (0.8, 0.6)]
    outcomes = {run.run_id: reader.outcomes(bench.connection, run.run_id) for run in runs}
    board = read.build(bench.suite, runs[::-1], outcomes, {}, [])
    assert of(board.sections[0], "tfidf").runs[0].run.run_id == "0.6"


def test_the_headline_names_the_leader_its_equals_and_the_best_untrained_competitors(board: Board) -> None:
    headline = board.headline
    assert headline is not None
    assert headline.leader.model_id == "tiny+lora"
    assert headline.tied == ("tiny+ia3",)
    assert [found.other_id for found in headline.comparisons] == ["tfidf"]
    assert headline.comparisons[0] == pair(board.sections[0], "tiny+lora", "tfidf")


def test_the_leaders_score_is_corrected_for_being_the_best(board: Board) -> None:
    """Its close follower makes it likely that the leader leads by chance."""
    headline = board.headline
    assert headline is not None
    assert headline.corrected is not None
    ranked = [entry for entry in board.sections[0].entries if entry.ranked]
    assert headline.n_candidates == len(ranked) > 1
    primary = headline.leader.primary
    assert primary is not None
    assert primary.value is not None
    assert headline.corrected.ci_low < headline.corrected.value < primary.value
    row = headline_row(board, headline)
    (clause,) = [one for one in row.clauses if one.text.startswith("corrected")]
    assert clause.text == (f"corrected for being the best of {len(ranked)}: {formats.score(headline.corrected.value)}")


def test_an_entry_without_competitors_is_not_corrected(bench: "Bench") -> None:
    bench.fill(bench.add_split("test", 120), {"tiny+lora": 0.9})
    headline = bench.board().headline
    assert headline is not None
    assert headline.corrected is None
    assert not [one for one in headline_row(bench.board(), headline).clauses if "corrected" in one.text]


@pytest.mark.parametrize(
    ("rights", "named"),
    [
        ({"majority": 0.5, "tiny+lora": 0.9}, ["majority"]),
        ({"tiny+ia3": 0.5, "tiny+lora": 0.9}, ["tiny+ia3"]),
        ({"tiny+lora": 0.9}, []),
    ],
)
def test_the_headline_compares_with_the_next_best_thing_there_is(
    bench: "Bench", rights: dict[str, float], named: list[str]
) -> None:
    bench.fill(bench.add_split("test", 120), rights)
    headline = bench.board().headline
    assert headline is not None
    assert [found.other_id for found in headline.comparisons] == named


def test_nothing_depends_on_the_order_in_which_runs_come(filled: "Bench", board: Board) -> None:
    runs = list(reader.latest_runs(filled.connection, filled.run_keys).values())
    outcomes = {run.run_id: reader.outcomes(filled.connection, run.run_id) for run in runs}

    def numbers(suite: Suite, turned: int) -> list[tuple[object, ...]]:
        board = read.build(suite, runs[::turned], outcomes, {}, [])
        shown = [(e.model_id, e.tier, e.metrics) for section in board.sections for e in section.entries]
        return [*shown, *(section.pairs for section in board.sections)]

    turned = filled.suite.model_copy(update={"model": filled.suite.model[::-1]})
    assert numbers(filled.suite, 1) == numbers(filled.suite, -1) == numbers(turned, 1)


def test_verdicts_of_the_suite_come_along(board: Board) -> None:
    assert [verdict.outcome for verdict in board.verdicts] == ["pass", "fail"]


def test_each_split_says_how_many_configurations_were_scored_on_its_rows(bench_of: "Callable[..., Bench]") -> None:
    bench = bench_of(splits=("test", "elsewhere", "unseen"))
    test, elsewhere = bench.add_split("test", 20), bench.add_split("elsewhere", 20)
    bench.fill(test, {"tfidf": 0.7, "tiny+lora": 0.7})
    bench.fill(elsewhere, {"tfidf": 0.7})
    bench.add_run("tfidf", test, right=0.6, configuration="with another C", suite="another", run_key="f" * 64)
    bench.add_run("majority", test, right=0.6, status="error", error="No.")
    assert [section.times_scored for section in bench.board().sections] == [3, 1, 0]


def test_findings_of_the_audit_come_along_where_they_are_about_these_rows(bench: "Bench") -> None:
    test, elsewhere = bench.add_split("test", 20), bench.add_split("elsewhere", 20)
    bench.add_run("tfidf", test, right=0.7)
    bench.add_run("tfidf", elsewhere, right=0.7)
    found = bench.add_finding(test, "balance", {"n": 20, "positive": 10, "negative": 10})
    writer.write_audit(bench.connection, [found, replace(found, split_id="elsewhere", split_digest="f" * 64)])
    sections = bench.board().sections
    assert sections[0].audit == (found,)
    assert sections[1].audit == (), "other rows were audited than are scored"


def test_an_audit_before_anything_is_scored_is_shown_too(bench: "Bench") -> None:
    found = bench.add_finding(bench.add_split("test", 20), "balance", {"n": 20, "positive": 10, "negative": 10})
    assert bench.board().sections[0].audit == (found,)
