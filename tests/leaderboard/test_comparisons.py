"""Many entries at once: matrices of p-values, Pareto fronts, slices, and what stays bounded on a big board."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from harness.records import Example, Outcomes
from harness.stats import estimates, inference, slices
from harness.stats.metrics import subset, value
from harness.store import reader
from leaderboard.board import pairwise, pareto, ranking
from leaderboard.board import slices as board_slices

if TYPE_CHECKING:
    from tests.leaderboard.conftest import Bench

SEEDS = st.integers(0, 2**32 - 1)


def made_up(seed: int, n_seeds: int, *, n: int = 60, clusters: int | None = None) -> list[Outcomes]:
    """Seeds of a configuration on the same n examples."""
    labels = np.arange(n) % 2
    names = None if clusters is None else np.array([f"c{i % clusters}" for i in range(n)])
    chance = np.random.default_rng(seed)
    found = []
    for _ in range(n_seeds):
        scores = np.clip(labels * 0.3 + 0.7 * chance.random(n), 0, 1)
        found.append(Outcomes(tuple(map(str, range(n))), labels, (scores > 0.5).astype(np.int64), scores, names))
    return found


@pytest.mark.parametrize("name", ["accuracy", "log_loss", "roc_auc"])
@pytest.mark.parametrize("clusters", [None, 12, 1])
def test_the_matrix_of_p_values_has_those_of_every_two_compared_alone(name: str, clusters: int | None) -> None:
    sides = [made_up(seed, n_seeds, clusters=clusters) for seed, n_seeds in enumerate((1, 1, 3, 2, 1))]
    sides.append(sides[0])
    drawn = estimates.resampled(
        name, sides, np.random.default_rng(0), [np.random.default_rng(i) for i in range(len(sides))]
    )
    found = pairwise.p_values(drawn)
    for i, j in combinations(range(len(sides)), 2):
        alone = estimates.between(drawn[i], drawn[j])
        if alone is None:
            assert clusters == 1
            assert np.isnan(found[i, j])
        else:
            assert found[i, j] == pytest.approx(alone.p_value, rel=1e-9)
            assert found[j, i] == pytest.approx(alone.p_value, rel=1e-9)


def test_resamples_in_which_a_metric_is_undefined_do_not_count_in_the_matrix_either() -> None:
    sides = [made_up(seed, 2, n=8) for seed in range(3)]
    drawn = estimates.resampled("roc_auc", sides, np.random.default_rng(0), [np.random.default_rng(1)] * 3)
    patchy = [one._replace(seeds_drawn=np.where(np.arange(2000) % (5 + i) == 0, np.nan, one.seeds_drawn),
                           examples_drawn=np.where(np.arange(2000) % (5 + i) == 0, np.nan, one.examples_drawn))
              for i, one in enumerate(drawn)]  # fmt: skip
    found = pairwise.p_values(patchy)
    for i, j in combinations(range(3), 2):
        alone = estimates.between(patchy[i], patchy[j])
        assert alone is not None
        assert found[i, j] == pytest.approx(alone.p_value, rel=0.01)


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=1, max_size=20))
def test_mcnemar_of_many_pairs_is_that_of_each(counts: list[tuple[int, int]]) -> None:
    only_first, only_second = np.array(counts).T
    expected = [inference.mcnemar(*pair) for pair in counts]
    assert inference.mcnemar_many(only_first, only_second).tolist() == pytest.approx(expected, rel=1e-9)


def dominated(costs: list[float], scores: list[float], i: int) -> bool:
    """By definition, one against each."""
    return any(
        costs[j] <= costs[i] and scores[j] >= scores[i] and (costs[j] < costs[i] or scores[j] > scores[i])
        for j in range(len(costs))
    )


@given(arrays.arrays(np.float64, (6, 2), elements=st.integers(0, 4).map(float)))
def test_on_the_front_is_who_nobody_beats_at_no_higher_cost(
    table: "np.ndarray[tuple[int, int], np.dtype[np.float64]]",
) -> None:
    costs, scores = table[:, 0].tolist(), table[:, 1].tolist()
    found = pareto.on_front(table[:, 0], table[:, 1:])[:, 0]
    assert found.tolist() == [not dominated(costs, scores, i) for i in range(6)]


def test_chances_of_being_on_the_front_come_from_the_same_resamples_as_the_ranking(bench: "Bench") -> None:
    split = bench.add_split("test", 120)
    cheap, dear = (
        bench.add_adapter("ia3", 13, n_trainable=10),
        [bench.add_adapter("lora", seed, n_trainable=1000) for seed in (13, 42, 87)],
    )
    bench.add_run("tiny+ia3", split, 13, right=0.80, adapter=cheap)
    for adapter in dear:
        bench.add_run("tiny+lora", split, adapter.seed, right=0.82, adapter=adapter)
    (front, *_) = bench.board().sections[0].fronts
    assert front.cost == "n_trainable"
    points = {point.model_id: point for point in front.points}
    assert points["tiny+ia3"].chance == 1.0, "the line is the Pareto front"
    assert points["tiny+ia3"].on_front
    assert 0.2 < points["tiny+lora"].chance < 1.0
    again = {point.model_id: point for point in bench.board().sections[0].fronts[0].points}
    assert again == points


def test_a_cost_that_is_the_same_for_all_makes_no_front(filled: "Bench") -> None:
    assert [front.cost for front in filled.board().sections[0].fronts] == ["train_seconds"]


def test_of_many_entries_all_are_compared_but_few_pairs_are_listed(bench_of: "Callable[..., Bench]") -> None:
    n = ranking.LISTED + 5
    declared = "".join(f'[[model]]\nid = "m{i:02}"\nbackend = "majority"\ntrain_split = "train"\n\n' for i in range(n))
    bench = bench_of(models=declared, gate=False)
    split = bench.add_split("test", 400)
    for i in range(n):
        bench.add_run(f"m{i:02}", split, right=0.95 - 0.03 * i, noise=0.05)
    section = bench.board().sections[0]
    assert section.n_pairs == n * (n - 1) // 2
    listed = {(pair.model_id, pair.other_id) for pair in section.pairs}
    assert len(listed) < section.n_pairs
    assert {(f"m{i:02}", f"m{j:02}") for i, j in combinations(range(ranking.LISTED), 2)} <= listed
    assert len(section.tiers) > 3
    for tier in section.tiers[1:]:
        assert tier.gap is not None
        assert tier.gap.other_id == tier.model_ids[0]
        assert tier.gap.apart
    assert f"of which those of {len({name for pair in listed for name in pair})} models" in str(
        bench.pages()["index.html"]
    )


def test_outcomes_of_many_runs_are_those_of_each(filled: "Bench") -> None:
    runs = reader.latest_runs(filled.connection, filled.run_keys).values()
    many = reader.outcomes_of_runs(filled.connection, [run.run_id for run in runs])
    assert set(many) == {run.run_id for run in runs}
    for run_id, found in many.items():
        alone = reader.outcomes(filled.connection, run_id)
        assert found.example_ids == alone.example_ids
        for name in ("labels", "predicted", "scores"):
            assert np.array_equal(getattr(found, name), getattr(alone, name))
        assert (found.clusters is None) == (alone.clusters is None)
        if found.clusters is not None and alone.clusters is not None:
            assert found.clusters.tolist() == alone.clusters.tolist()


@pytest.mark.parametrize("clusters", [None, 20])
def test_accuracy_by_slice_is_the_accuracy_of_the_slices_examples(bench: "Bench", clusters: int | None) -> None:
    split = bench.add_split("test", 120, clusters=clusters)
    bench.fill(split, {"tiny+lora": 0.8, "tfidf": 0.7})
    board = bench.board()
    ranked = [entry for entry in board.sections[0].entries if entry.ranked]
    found = board_slices.accuracies(ranked, board.outcomes, split.examples)
    assert (
        {one.slice for one in found} == set(slices.all_slices(split.examples)) == {"label=positive", "label=negative"}
    )
    for one in found:
        entry = next(entry for entry in ranked if entry.model_id == one.model_id)
        chosen = slices.chosen(one.slice, split.examples)
        parts = [subset(board.outcomes[scored.run.run_id], chosen) for scored in entry.runs]
        assert one.value == pytest.approx(np.mean([value("accuracy", part) for part in parts]))
        expected = estimates.summarise("accuracy", parts, np.random.default_rng(0))
        assert one.n == 60
        assert one.ci_low == pytest.approx(expected.ci_low, abs=0.04)
        assert one.ci_high == pytest.approx(expected.ci_high, abs=0.04)


def test_slices_of_other_examples_than_were_scored_are_not_told(bench: "Bench") -> None:
    split = bench.add_split("test", 40)
    bench.fill(split, {"tfidf": 0.7})
    board = bench.board()
    others: list[Example] = [replace(example, example_id=f"x{i}") for i, example in enumerate(split.examples)]
    assert board_slices.accuracies(board.sections[0].entries[:1], board.outcomes, others) == []
