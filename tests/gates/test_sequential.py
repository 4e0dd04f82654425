"""Gates that stop scoring as soon as they are decided, on real models; resumed, and finished by a whole run."""

import itertools
import json
import math
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.gates import sequential
from harness.gates.sequential import Sides, units_in_order
from harness.progress import Advance, silent
from harness.records import Example, Outcomes
from harness.stats import anytime
from harness.stats.anytime import Seen
from harness.stats.inference import Floats
from harness.store import reader
from harness.store.connection import opened
from harness.suite.load import load
from harness.suite.rules import Bound, Comparison, Flips, Kind, OtherModel, Rule
from tests.conftest import _outcomes, _split
from tests.worlds import FLIPS, MIN, NON_INFERIOR, SUPERIOR, World

pytestmark = pytest.mark.slow


def verdicts(world: World, *words: object) -> dict[str, dict[str, Any]]:
    result = world.command("gate", world.suite, "--json", *words)
    return {verdict["gate_id"]: verdict for verdict in json.loads(result.stdout)}


def blocks(world: World) -> list[Path]:
    return sorted((world.root / "runs" / "shards" / "blocks").glob("*/*.parquet"))


@pytest.fixture
def unscored(world: World) -> World:
    """Everything is trained, nothing is scored."""
    world.db.unlink()
    return world


def test_a_gate_is_decided_on_a_part_of_the_split(unscored: World) -> None:
    found = verdicts(unscored, "--sequential")
    result = unscored.command("gate", unscored.suite, "--sequential")
    assert re.search(r"decided on \d+ of 400 answers; the others were not scored", result.stderr)
    decided = found[MIN]
    assert decided["outcome"] == "pass"
    assert decided["numbers"]["units"] < decided["numbers"]["of_units"] == 100
    assert decided["numbers"]["n"] == decided["numbers"]["units"]
    assert f"decided after {decided['numbers']['units']} of 100 units" in decided["reason"]
    assert decided["numbers"]["ci_low"] > 0.8
    assert {name: one["outcome"] for name, one in found.items()} == {
        MIN: "pass", SUPERIOR: "pass", NON_INFERIOR: "pass", FLIPS: "pass",
    }  # fmt: skip
    with opened(unscored.db, read_only=True) as connection:
        assert reader.all_runs(connection) == []  # a part of a run is no run


def test_a_second_look_scores_nothing_and_says_the_same(unscored: World) -> None:
    first, kept = verdicts(unscored, "--sequential"), blocks(unscored)
    written = [path.stat().st_mtime_ns for path in kept]
    second = verdicts(unscored, "--sequential")
    assert [path.stat().st_mtime_ns for path in blocks(unscored)] == written
    assert {name: one["numbers"] for name, one in first.items()} == {n: one["numbers"] for n, one in second.items()}


def test_a_gate_that_was_stopped_between_blocks_comes_to_the_same_verdict(unscored: World) -> None:
    first, kept = verdicts(unscored, "--sequential"), blocks(unscored)
    assert len(kept) > 2
    for path in kept[1::2]:
        path.unlink()
    again = verdicts(unscored, "--sequential")
    assert {name: one["numbers"] for name, one in again.items()} == {
        name: pytest.approx(one["numbers"]) for name, one in first.items()
    }
    assert len(blocks(unscored)) >= len(kept)


def test_a_damaged_block_is_scored_again(unscored: World) -> None:
    first = verdicts(unscored, "--sequential")
    for path in blocks(unscored):
        path.write_bytes(path.read_bytes()[:-40])
    assert verdicts(unscored, "--sequential")[MIN]["outcome"] == first[MIN]["outcome"]


def test_a_later_evaluation_scores_only_the_rest_and_gives_the_same_predictions(world: World, tmp_path: Path) -> None:
    with opened(world.db, read_only=True) as connection:
        before = {
            (run.model_id, run.seed): reader.outcomes(connection, run.run_id).scores
            for run in reader.all_runs(connection)
        }
    world.db.unlink()
    verdicts(world, "--sequential")
    (runs,) = [world.root / "runs" / "shards"]
    for path in runs.glob("[0-9a-f][0-9a-f]/*.parquet"):
        path.unlink()
    assert world.evaluate().exit_code == 0
    with opened(world.db, read_only=True) as connection:
        for run in reader.all_runs(connection):
            assert reader.outcomes(connection, run.run_id).scores == pytest.approx(
                before[run.model_id, run.seed], abs=1e-6
            )
            if run.model_id == "tiny-full":  # a part was scored before: no timing of the whole, no count of its tokens
                assert run.seconds is None
                assert run.tokens is None
    whole = verdicts(world, "--sequential")
    assert "units" not in whole[MIN]["numbers"]  # all is stored now


def test_without_asking_nothing_is_scored_and_what_blocks_decide_is_used(unscored: World) -> None:
    with opened(unscored.db):
        pass
    assert "has no run in the store" in verdicts(unscored)[MIN]["reason"]
    assert blocks(unscored) == []
    verdicts(unscored, "--sequential")
    assert verdicts(unscored)[MIN]["outcome"] == "pass"


def test_a_gate_that_the_suite_declares_sequential_needs_no_option_and_the_others_are_as_ever(
    unscored: World,
) -> None:
    unscored.edit('superior_to = { model = "majority", margin = 0.1 }', "sequential = true")
    with opened(unscored.db):
        pass
    result = unscored.command("gate", unscored.suite, "--json", "--junit", unscored.root / "gates.xml")
    found = {verdict["gate_id"]: verdict for verdict in json.loads(result.stdout)}
    assert found[MIN]["outcome"] == "pass"
    assert found[MIN]["numbers"]["units"] < 100
    assert "has no run in the store" in found[NON_INFERIOR]["reason"]
    assert len({path.parent for path in blocks(unscored)}) == found[MIN]["numbers"]["seeds"]  # of one model alone
    of_units = re.search(rf"{re.escape(MIN)}: (\d+) of 100 in", result.stderr)
    assert of_units is not None
    assert int(of_units[1]) == found[MIN]["numbers"]["units"]  # the bar counts what was scored
    written = (unscored.root / "gates.xml").read_text()
    for name in ("units", "p_fail", "p_fail_holm"):
        assert f'name="{name}"' in written


def test_a_comparison_with_a_stored_baseline_stops_early_too(world: World) -> None:
    assert world.command("baseline", "set", "main", world.suite, "--model", "tiny+lora").exit_code == 0
    world.edit('superior_to = { model = "majority", margin = 0.1 }', 'max_flips = { baseline = "main", share = 0.2 }')
    world.db.unlink()
    rule = "tiny+lora on test: flips against baseline main <= 0.2"
    decided = verdicts(world, "--sequential")[rule]
    assert decided["outcome"] == "pass"
    assert decided["numbers"]["units"] < 100
    assert decided["numbers"]["reference"] == "baseline main"
    assert decided["numbers"]["canary"].startswith("same: ")
    folder = world.suite.parent / "baselines"
    (kept,) = folder.glob("*.parquet")
    kept.rename(folder / kept.name.replace("main", "other"))
    assert "no baseline 'main'" in verdicts(world, "--sequential")[rule]["reason"]


def test_nothing_is_trained_for_a_gate_that_stops_early(unscored: World) -> None:
    """Stored weights decide a rule; without weights it fails, and says what trains them."""
    adapters = unscored.root / "runs" / "adapters"
    before = {path: path.stat().st_mtime_ns for path in adapters.rglob("*")}
    assert verdicts(unscored, "--sequential")[MIN]["outcome"] == "pass"
    assert {path: path.stat().st_mtime_ns for path in adapters.rglob("*")} == before
    shutil.rmtree(unscored.adapter("full", 1))
    left = sorted(adapters.rglob("*"))
    found = verdicts(unscored, "--sequential")
    assert found[MIN]["outcome"] == "pass"
    assert (found[NON_INFERIOR]["outcome"], found[NON_INFERIOR]["numbers"]) == ("fail", {})
    assert "adapter 'full' seed 1 has not been trained yet" in found[NON_INFERIOR]["reason"]
    assert sorted(adapters.rglob("*")) == left


def test_places_that_only_sequential_gates_ask_for_need_no_evaluation(unscored: World) -> None:
    assert sequential.only_early(load(unscored.suite)) == frozenset()
    unscored.edit("margin = 0.1 }\non_inc", "margin = 0.1 }\nsequential = true\non_inc")
    # The other gate compares with tiny+lora on the whole split.
    assert sequential.only_early(load(unscored.suite)) == {("majority", "test")}
    unscored.edit("share = 0.2 }\non_inc", "share = 0.2 }\nsequential = true\non_inc")
    assert sequential.only_early(load(unscored.suite)) == {
        ("majority", "test"), ("tiny+lora", "test"), ("tiny-full", "test"),
    }  # fmt: skip


def test_a_rule_that_needs_the_whole_split_fails_with_the_reason(unscored: World) -> None:
    unscored.edit('metric = "accuracy"\nmin = 0.8', 'metric = "f1"\nmin = 0.8')
    found = verdicts(unscored, "--sequential")
    (of_f1,) = [one for name, one in found.items() if "f1 >= 0.8" in name]
    assert of_f1["outcome"] == "fail"
    assert "f1 is not a mean of bounded terms" in of_f1["reason"]


def rule(kind: Kind, limit: float) -> Rule:
    at = ("the rule", kind, "new", "test", limit, True)
    if kind in ("min", "max"):
        return Bound(*at, "accuracy")
    other = OtherModel("old")
    return Flips(*at, other) if kind == "max_flips" else Comparison(*at, other, "accuracy")


def examples(n: int, clusters: int | None = None) -> tuple[Example, ...]:
    names = None if clusters is None else [f"c{i % clusters}" for i in range(n)]
    return _split(n, clusters=names).examples


def outcomes(many: tuple[Example, ...], right: np.ndarray[Any, Any]) -> Outcomes:
    labels = [example.label for example in many]
    scores = [0.9 if bool(label) == bool(one) else 0.1 for label, one in zip(labels, right, strict=True)]
    made = _outcomes(labels, scores)
    return Outcomes(tuple(one.example_id for one in many), made.labels, made.predicted, made.scores, None)


@pytest.mark.parametrize(
    ("kind", "limit", "ours", "theirs", "outcome"),
    [
        ("min", 0.8, 0.95, 0, "pass"),
        ("min", 0.95, 0.8, 0, "fail"),
        ("max", 0.8, 0.95, 0, "fail"),
        ("max", 0.95, 0.8, 0, "pass"),
        ("superior_to", 0.05, 0.95, 0.7, "pass"),
        ("superior_to", 0.05, 0.7, 0.95, "fail"),
        ("non_inferior_to", 0.05, 0.9, 0.8, "pass"),
        ("non_inferior_to", 0.05, 0.7, 0.9, "fail"),
        ("max_flips", 0.05, 1.0, 0.9, "pass"),
        ("max_flips", 0.05, 0.7, 1.0, "fail"),
    ],
)
@pytest.mark.parametrize("clusters", [None, 400])
def test_every_kind_of_rule_passes_and_fails_as_it_should(
    kind: Kind, limit: float, ours: float, theirs: float, outcome: str, clusters: int | None
) -> None:
    many, generator = examples(1200, clusters), np.random.default_rng(3)
    sides = [
        (sequential.from_outcomes(outcomes(many, generator.random(1200) < accuracy)),) for accuracy in (ours, theirs)
    ]
    one = rule(kind, limit)
    found = sequential.decide(one, Sides(sides[0], sides[1] if len(one.models) > 1 else ()), many, silent)
    assert found.outcome == outcome
    assert found.numbers["units"] < found.numbers["of_units"] == (clusters or 1200)


class Stopped(Exception):
    """A kill."""


@pytest.mark.parametrize("clusters", [None, 60])
def test_a_gate_that_is_killed_at_any_block_and_goes_on_comes_to_the_same_verdict(clusters: int | None) -> None:
    many, generator = examples(600, clusters), np.random.default_rng(5)
    whole = sequential.from_outcomes(outcomes(many, generator.random(600) < 0.9))
    one = rule("min", 0.8)
    expected = sequential.decide(one, Sides((whole,), ()), many, silent)
    assert 100 < expected.numbers["n"] < 600

    def until(kill_at: int, kept: dict[str, float]) -> sequential.Scores:
        calls = 0

        def scores(examples: Sequence[Example], advance: Advance) -> Floats:
            nonlocal calls
            calls += 1
            if calls == kill_at:
                raise Stopped
            fresh = [example for example in examples if example.example_id not in kept]
            kept.update(zip([example.example_id for example in fresh], whole(fresh, advance).tolist(), strict=True))
            return np.array([kept[example.example_id] for example in examples], dtype=np.float64)

        return scores

    for kill_at in itertools.count(1):
        kept: dict[str, float] = {}
        try:
            found = sequential.decide(one, Sides((until(kill_at, kept),), ()), many, silent)
        except Stopped:
            assert sequential.decide(one, Sides((until(0, kept),), ()), many, silent) == expected
        else:
            assert found == expected
            break
    assert kill_at > 3


@pytest.mark.parametrize("clusters", [None, 60])
def test_the_size_of_the_blocks_decides_only_when_it_is_looked(clusters: int | None) -> None:
    many, generator = examples(600, clusters), np.random.default_rng(5)
    sides = Sides((sequential.from_outcomes(outcomes(many, generator.random(600) < 0.9)),), ())
    found = {size: sequential.decide(rule("min", 0.8), sides, many, silent, block=size) for size in (1, 10, 32, 100)}
    assert {one.outcome for one in found.values()} == {"pass"}
    assert all(one.numbers["n"] >= found[1].numbers["n"] for one in found.values())  # a look less, not another answer


def test_a_fail_that_will_be_corrected_for_ten_rules_takes_more_units_and_stands() -> None:
    many, generator = examples(1200), np.random.default_rng(6)
    sides = Sides((sequential.from_outcomes(outcomes(many, generator.random(1200) < 0.8)),), ())
    alone, among = (sequential.decide(rule("min", 0.9), sides, many, silent, family=n) for n in (1, 10))
    assert alone.outcome == among.outcome == "fail"
    assert alone.numbers["units"] < among.numbers["units"]
    assert 10 * among.numbers["p_fail"] <= 0.025 < 10 * alone.numbers["p_fail"]
    passing = [sequential.decide(rule("min", 0.7), sides, many, silent, family=n) for n in (1, 10)]
    assert passing[0] == passing[1]


def test_the_evidence_is_that_of_units_of_different_sizes_each_with_its_own_sum() -> None:
    names = [f"c{math.isqrt(i)}" for i in range(400)]  # clusters of 1, 3, 5, … examples
    many, generator = _split(400, clusters=names).examples, np.random.default_rng(7)
    right = generator.random(400) < 0.85
    found = sequential.decide(
        rule("min", 0.8), Sides((sequential.from_outcomes(outcomes(many, right)),), ()), many, silent
    )
    units = [[i for i, name in enumerate(names) if name == f"c{number}"] for number in range(20)]
    sums, sizes = np.array([right[unit].sum() for unit in units]), np.array([len(unit) for unit in units])
    above, below = anytime.log_evidence(Seen(sums.astype(float), sizes, 39, 20.0, 0.0, 1.0), 0.8)
    assert found.outcome == "inconclusive", "all units are seen, so that their order does not matter"
    assert found.numbers["p_fail"] == pytest.approx(math.exp(min(0.0, -below)))
    assert found.numbers["value"] == pytest.approx(right.mean())
    assert above > 0


def test_a_rule_about_a_slice_scores_nothing_else() -> None:
    many, scored = examples(400), list[int]()
    whole = sequential.from_outcomes(outcomes(many, np.ones(400, dtype=bool)))

    def noted(examples: Sequence[Example], advance: Advance) -> Floats:
        scored.extend(one.label for one in examples)
        return whole(examples, advance)

    one = replace(rule("min", 0.8), slice="label=negative")
    found = sequential.decide(one, Sides((noted,), ()), many, silent)
    assert (found.outcome, found.numbers["of_units"], set(scored)) == ("pass", 200, {0})


def test_of_several_seeds_the_verdict_says_that_it_is_about_these_weights() -> None:
    many = examples(400)
    side = sequential.from_outcomes(outcomes(many, np.ones(400, dtype=bool)))
    one, two = (sequential.decide(rule("min", 0.8), Sides((side,) * n, ()), many, silent) for n in (1, 2))
    assert "about these weights, not other seeds" in two.reason
    assert "seeds" not in one.reason


def test_equal_models_at_the_margin_stay_undecided_to_the_end() -> None:
    many = examples(200)
    side = (sequential.from_outcomes(outcomes(many, np.arange(200) % 10 > 0)),)
    found = sequential.decide(rule("superior_to", 0.0), Sides(side, side), many, silent)
    assert found.outcome == "inconclusive"
    assert "undecided after all 200 units" in found.reason


def test_the_order_depends_on_contents_and_keeps_clusters_together() -> None:
    many = examples(60, 20)
    assert units_in_order(many) == units_in_order(many[::-1])
    assert [unit[0].example_id for unit in units_in_order(many)] != [one.example_id for one in many[:20]]
    assert all(len({one.cluster for one in unit}) == 1 and len(unit) == 3 for unit in units_in_order(many))
