"""How many examples rules need: against formulas, what is stored, what is guessed, and what nothing can decide."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.errors import UsageError
from harness.gates.power import Assumption, PowerEstimate, power_of_rules
from harness.records import Evidence, Example, Outcomes
from harness.stats import estimates
from harness.suite.rules import Bound, Comparison, Cost, Drop, Flips, Kind, OtherModel, Rule, Throughput

Z = float(scipy_stats.norm.ppf(0.975))
Z_POWER, Z_POWER_ESTIMATED = (float(scipy_stats.norm.ppf(power)) for power in (0.82, 0.84))
"""What is aimed at where 80 % are asked for; the latter where the standard error is the bootstrap's."""
HARDWARE = {"cores": 2}


def rule(kind: Kind, limit: float, **changes: Any) -> Rule:
    """A rule about the accuracy of `new` on `test`, against `old` where it compares."""
    at, old = ("the rule", kind, "new", "test", limit, True), OtherModel("old")
    made: Rule
    match kind:
        case "min" | "max":
            made = Bound(*at, "accuracy")
        case "non_inferior_to" | "superior_to":
            made = Comparison(*at, old, "accuracy")
        case "max_flips":
            made = Flips(*at, old)
        case "max_drop_out_of_domain":
            made = Drop(*at, "accuracy", "elsewhere")
        case "min_throughput":
            made = Throughput(*at, "old")
        case _:
            made = Cost(*at)
    return replace(made, **changes)


def rows(n: int, clusters: int | None = None) -> tuple[Example, ...]:
    """Examples numbered as `make_outcomes` does, half of them positive."""
    return tuple(
        Example(f"{i:032x}", "", "text", i % 2, None if clusters is None else f"c{i % clusters}", f"t{i}")
        for i in range(n)
    )


def unscored(n: int = 400, clusters: int | None = None) -> Evidence:
    """Nothing is stored; the split's rows are known."""
    return Evidence({}, {}, {("new", "test"): "new was not scored"}, {}, {"test": rows(n, clusters)}, {})


@pytest.fixture
def scored(make_outcomes: Callable[..., Outcomes]) -> Callable[..., Evidence]:
    """Evidence of seeds of `new` and `old` that are right with these chances, on the same examples."""

    def evidence(new: list[float], old: Sequence[float] = (), n: int = 400, clusters: int | None = None) -> Evidence:
        generator = np.random.default_rng(1)
        labels = [i % 2 for i in range(n)]
        names = None if clusters is None else [f"c{i % clusters}" for i in range(n)]

        def one(share: float) -> Outcomes:
            right = generator.permutation(n) < round(share * n)
            scores = [0.9 if (label == 1) == ok else 0.1 for label, ok in zip(labels, right, strict=True)]
            return make_outcomes(labels, scores, names)

        found = {("new", "test"): tuple(one(share) for share in new)}
        if old:
            found["old", "test"] = tuple(one(share) for share in old)
        return Evidence(found, {}, {}, {}, {"test": rows(n, clusters)}, {})

    return evidence


def only(asked: Rule, evidence: Evidence, guess: Assumption = Assumption(), power: float = 0.8) -> PowerEstimate:  # noqa: B008
    """What the one rule needs."""
    (need,) = power_of_rules([asked], evidence, guess, HARDWARE, power)
    return need


# From guesses alone


def test_a_guessed_accuracy_needs_what_the_score_test_of_one_proportion_needs() -> None:
    """Fleiss, Levin & Paik (2003), section 2.4: the variance of the limit under 95 %, that of the truth under power."""
    need = only(rule("min", 0.86), unscored(), Assumption(value=0.9))
    n = ((Z * np.sqrt(0.86 * 0.14) + Z_POWER * np.sqrt(0.9 * 0.1)) / 0.04) ** 2
    assert need.needed == int(np.ceil(n))
    assert (need.supposed, need.source, need.expected, need.n, need.decidable) == (0.9, "guessed", "pass", 400, "no")
    assert need.power is not None
    assert need.power < 0.8


@pytest.mark.slow
def test_with_as_many_examples_as_are_needed_the_power_is_a_little_above_the_one_that_was_asked_for() -> None:
    for asked, guess in [
        (rule("min", 0.86), Assumption(value=0.9)),
        (rule("max", 0.95), Assumption(value=0.97)),
        (rule("non_inferior_to", 0.03), Assumption(difference=0.0, disagreement=0.1)),
        (rule("superior_to", 0.02), Assumption(difference=0.1, disagreement=0.2)),
        (rule("max_flips", 0.06), Assumption(difference=0.02, disagreement=0.08)),
    ]:
        for power in (0.5, 0.8, 0.95):
            needed = only(asked, unscored(), guess, power).needed
            assert needed is not None
            again = only(asked, unscored(needed), guess, power)
            assert again.decidable == "yes"
            assert again.power == pytest.approx(power + 0.1 * (1 - power), abs=0.005)  # a little more


def test_a_difference_needs_about_the_variance_that_disagreement_gives_it() -> None:
    need = only(rule("non_inferior_to", 0.03), unscored(), Assumption(difference=0.0, disagreement=0.1))
    assert need.needed == pytest.approx(0.1 * (Z + Z_POWER) ** 2 / 0.03**2, rel=0.1)
    closer = only(rule("non_inferior_to", 0.015), unscored(), Assumption(difference=0.0, disagreement=0.1))
    assert need.needed is not None
    assert closer.needed is not None
    assert closer.needed > 3.5 * need.needed


def test_a_guess_on_the_wrong_side_of_the_limit_plans_a_fail() -> None:
    assert only(rule("min", 0.9), unscored(), Assumption(value=0.85)).expected == "fail"
    assert only(rule("max", 0.9), unscored(), Assumption(value=0.85)).expected == "pass"
    worse = Assumption(difference=-0.1, disagreement=0.2)
    assert only(rule("non_inferior_to", 0.03), unscored(), worse).expected == "fail"
    assert only(rule("superior_to", 0.03), unscored(), Assumption(difference=0.02, disagreement=0.2)).expected == "fail"
    assert only(rule("max_flips", 0.06), unscored(), worse).expected == "fail"


def test_no_number_of_examples_decides_where_the_limit_itself_is_supposed() -> None:
    need = only(rule("min", 0.9), unscored(), Assumption(value=0.9))
    assert (need.decidable, need.needed, need.expected, need.seeds_needed) == ("never", None, None, None)
    assert need.power == pytest.approx(0.025)


def test_clusters_without_stored_runs_have_an_unknown_design_effect_and_the_row_says_so() -> None:
    need = only(rule("min", 0.86), unscored(400, clusters=40), Assumption(value=0.9))
    assert (need.n, need.clusters) == (400, 40)
    assert need.note is not None
    assert "the design effect of 40 clusters is unknown" in need.note


def test_a_slice_has_its_own_examples_at_hand() -> None:
    need = only(rule("min", 0.86, slice="label=negative"), unscored(400), Assumption(value=0.9))
    assert need.n == 200


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (rule("min", 0.9), "new was not scored; or state an assumption: --value"),
        (rule("superior_to", 0.0), "new was not scored; or state an assumption: --difference and --disagreement"),
        (rule("max_flips", 0.1), "new was not scored; or state an assumption: --difference and --disagreement"),
        (rule("min", 0.9, metric="f1"), "new was not scored; only stored runs show how far this spreads"),
        (rule("superior_to", 0.0, metric="brier"), "new was not scored; only stored runs show how far this"),
        (rule("max_drop_out_of_domain", 0.1, elsewhere="other"), "new was not scored; only stored runs"),
    ],
)
def test_a_rule_of_which_too_little_is_known_says_what_would_help(asked: Rule, words: str) -> None:
    need = only(asked, unscored())
    assert (need.decidable, need.needed, need.power, need.n) == ("unknown", None, None, 400)
    assert need.note is not None
    assert need.note.startswith(words)


def test_a_guess_is_about_accuracy_alone() -> None:
    guess = Assumption(value=0.9, difference=0.1, disagreement=0.2)
    assert only(rule("min", 0.8, metric="f1"), unscored(), guess).decidable == "unknown"
    assert only(rule("superior_to", 0.0, metric="f1"), unscored(), guess).decidable == "unknown"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"value": 1.0}, "--value 1: "),
        ({"value": 0.0}, "--value 0: "),
        ({"value": float("nan")}, "--value nan: "),
        ({"difference": 1.0}, "--difference 1: "),
        ({"disagreement": 0.0}, "--disagreement 0: "),
        ({"disagreement": 1.1}, "--disagreement 1.1: "),
        (
            {"difference": -0.2, "disagreement": 0.1},
            "a difference of -0.2 is impossible if two sides disagree on 0.1 of",
        ),
    ],
)
def test_what_cannot_be_is_not_supposed(wrong: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match="^" + words.replace(".", r"\.")):
        Assumption(**wrong)


@pytest.mark.parametrize("power", [0.49, 1.0, -1.0, float("nan")])
def test_a_power_below_even_odds_or_of_certainty_is_refused(power: float) -> None:
    with pytest.raises(UsageError, match="a probability must be at least"):
        power_of_rules([], unscored(), Assumption(), HARDWARE, power)


# From stored runs


@pytest.mark.parametrize("clusters", [None, 40])
@pytest.mark.parametrize("seeds", [1, 3])
def test_stored_runs_give_the_truth_and_the_spread(
    scored: Callable[..., Evidence], seeds: int, clusters: int | None
) -> None:
    found = scored([0.9, 0.89, 0.91][:seeds], [0.85], clusters=clusters)
    need = only(rule("superior_to", 0.0), found)
    keys = [[run.run_key for run in found.runs.get((model, "test"), ())] for model in ("new", "old")]
    difference = estimates.difference_of_runs(
        "accuracy", found.outcomes["new", "test"], keys[0], found.outcomes["old", "test"], keys[1]
    )
    assert difference is not None
    assert (need.supposed, need.source, need.n, need.clusters) == (difference.value, "stored", 400, clusters)
    aimed = Z_POWER if (seeds, clusters) == (1, None) else Z_POWER_ESTIMATED
    allowed = (difference.value / (Z + aimed)) ** 2 - difference.se_seeds**2
    assert need.needed == pytest.approx(400 * difference.se_examples**2 / allowed, rel=0.02)


@pytest.mark.parametrize("metric", ["f1", "brier", "accuracy"])
def test_a_stored_metric_is_planned_for_in_its_better_direction(scored: Callable[..., Evidence], metric: str) -> None:
    found = scored([0.9], [0.8])
    assert only(rule("superior_to", 0.0, metric=metric), found).expected == "pass"
    assert only(rule("superior_to", 0.3, metric=metric), found).expected == "fail"
    assert only(rule("non_inferior_to", 0.0, metric=metric), scored([0.8], [0.9])).expected == "fail"


def test_a_guess_comes_before_what_is_stored_and_keeps_how_clusters_weigh(scored: Callable[..., Evidence]) -> None:
    for clusters in (None, 40):
        found = scored([0.9], clusters=clusters)
        stored, guessed = only(rule("min", 0.8), found), only(rule("min", 0.8), found, Assumption(value=0.85))
        assert (stored.source, guessed.source, guessed.supposed) == ("stored", "guessed", 0.85)
        assert stored.needed is not None
        assert guessed.needed is not None
        if clusters is not None:
            ratio = (0.85 * 0.15 / 0.05**2) / (0.9 * 0.1 / 0.1**2)
            assert guessed.needed / stored.needed == pytest.approx(ratio, rel=0.02)
        else:
            assert (
                guessed.needed == only(rule("min", 0.8), unscored(), Assumption(value=0.85)).needed
                or abs(guessed.needed - (only(rule("min", 0.8), unscored(), Assumption(value=0.85)).needed or 0))
                < 0.05 * guessed.needed
            )


def test_a_guess_that_the_stored_disagreement_forbids_is_refused(scored: Callable[..., Evidence]) -> None:
    with pytest.raises(UsageError, match=r"a difference of 0\.6 is impossible if two sides disagree on"):
        only(rule("superior_to", 0.0), scored([0.9], [0.8]), Assumption(difference=0.6))


def test_seeds_that_spread_too_far_are_said_with_how_many_would_do(scored: Callable[..., Evidence]) -> None:
    found = scored([0.95, 0.85, 0.75])
    need = only(rule("min", 0.84), found)
    assert (need.decidable, need.needed, need.seeds) == ("never", None, 3)
    assert need.seeds_needed is not None
    assert need.seeds_needed > 3
    assert need.needed_with_seeds is not None
    half = estimates.spread("accuracy", found.outcomes["new", "test"], np.random.default_rng(0)).se_seeds ** 2 * 3
    allowed = ((need.supposed or 0) - 0.84) / (Z + Z_POWER_ESTIMATED)
    assert half / need.seeds_needed == pytest.approx(allowed**2 / 2, rel=0.1)


def test_runs_that_do_not_vary_tell_nothing_of_the_spread(scored: Callable[..., Evidence]) -> None:
    need = only(rule("min", 0.8), scored([1.0]))
    assert (need.decidable, need.needed) == ("unknown", None)
    assert need.note is not None
    assert "they do not show how far this spreads" in need.note
    assert only(rule("min", 0.8), scored([1.0]), Assumption(value=0.9)).decidable == "yes"


def test_a_drop_is_planned_for_both_splits_together(scored: Callable[..., Evidence]) -> None:
    here, there = scored([0.9]), scored([0.8], n=200)
    outcomes = {**here.outcomes, ("new", "other"): there.outcomes["new", "test"]}
    found = replace(here, outcomes=outcomes)
    need = only(rule("max_drop_out_of_domain", 0.2, elsewhere="other"), found)
    assert need.supposed == pytest.approx(0.1)
    assert (need.expected, need.n) == ("pass", 600)
    errors = [estimates.spread("accuracy", outcomes[p], np.random.default_rng(0)).se_examples for p in outcomes]
    assert need.needed == pytest.approx(
        600 * (errors[0] ** 2 + errors[1] ** 2) * ((Z + Z_POWER_ESTIMATED) / 0.1) ** 2, rel=0.1
    )


@pytest.mark.parametrize("kind", ["max_size_bytes", "max_train_seconds", "min_throughput"])
def test_costs_need_no_examples(kind: Kind) -> None:
    need = only(rule(kind, 1.0), unscored())
    assert (need.decidable, need.needed, need.n) == ("measured", None, None)


# How long it takes


def timed(found: Evidence, make_run: Callable[..., Any], make_split: Callable[..., Any], **changes: Any) -> Evidence:
    """The same, with runs of 2 seconds each."""
    split = make_split(3)
    runs = {
        place: tuple(make_run(split, seconds=2.0, hardware=HARDWARE, **changes) for _ in seeds)
        for place, seeds in found.outcomes.items()
    }
    return replace(found, runs=runs)


def test_scoring_takes_as_long_as_it_took_for_every_seed_of_both_sides(
    scored: Callable[..., Evidence], make_run: Callable[..., Any], make_split: Callable[..., Any]
) -> None:
    found = timed(scored([0.9, 0.89, 0.91], [0.85]), make_run, make_split)
    need = only(rule("superior_to", 0.0), found)
    assert need.needed is not None
    assert need.seconds == pytest.approx(need.needed / 400 * 4 * 2.0)
    sliced = only(rule("superior_to", 0.0, slice="label=negative"), found)
    assert sliced.needed is not None
    assert sliced.seconds == pytest.approx(sliced.needed / 400 * 4 * 2.0)
    bound = only(rule("min", 0.8), found)
    assert bound.needed is not None
    assert bound.seconds == pytest.approx(bound.needed / 400 * 3 * 2.0)


@pytest.mark.parametrize("changes", [{"hardware": {"cores": 64}}, {"seconds": None}])
def test_timings_of_another_machine_say_nothing_of_this_one(
    scored: Callable[..., Evidence],
    make_run: Callable[..., Any],
    make_split: Callable[..., Any],
    changes: dict[str, Any],
) -> None:
    found = timed(scored([0.9], [0.85]), make_run, make_split)
    other = {("old", "test"): tuple(replace(run, **changes) for run in found.runs["old", "test"])}
    need = only(rule("superior_to", 0.0), replace(found, runs={**found.runs, **other}))
    assert need.needed is not None
    assert need.seconds is None


# Gates that stop early


def test_a_gate_that_stops_early_is_planned_in_units_of_the_split() -> None:
    guess = Assumption(difference=0.0, disagreement=0.04)
    need = only(rule("non_inferior_to", 0.03), unscored(2000), guess)
    assert need.units == 2000
    assert need.units_early is not None
    assert 250 <= need.units_early <= 650
    closer = only(rule("non_inferior_to", 0.02), unscored(2000), guess)
    assert closer.units_early is not None
    assert closer.units_early > need.units_early
    assert only(rule("non_inferior_to", 0.03), unscored(100), guess).units_early is None
    assert only(rule("non_inferior_to", 0.03), unscored(2000), guess) == need  # drawn the same each time


def test_all_kinds_of_rules_about_a_mean_are_planned_early(scored: Callable[..., Evidence]) -> None:
    found = scored([0.95], [0.7], n=600)
    for asked in (rule("min", 0.8), rule("max", 0.8), rule("superior_to", 0.0), rule("max_flips", 0.2)):
        need = only(asked, found)
        assert need.units_early is not None
        assert need.units == 600
        assert 32 <= need.units_early < 600
    assert only(rule("min", 0.95), found).units_early is None  # the limit is the truth
    assert only(rule("min", 0.8, metric="f1"), found).units_early is None
    value = only(rule("min", 0.8), found, Assumption(value=0.85)).units_early
    assert value is not None
    assert value > (only(rule("min", 0.8), found).units_early or 0)


def test_stored_clusters_are_the_units_of_a_gate_that_stops_early(scored: Callable[..., Evidence]) -> None:
    need = only(rule("min", 0.7), scored([0.95], n=1000, clusters=100))
    assert need.units == 100
    assert need.units_early is not None
    assert 4 <= need.units_early < 60


def test_costs_and_drops_have_no_early_units(scored: Callable[..., Evidence]) -> None:
    found = scored([0.9])
    found = replace(found, outcomes={**found.outcomes, ("new", "elsewhere"): found.outcomes["new", "test"]})
    found = replace(found, examples={**found.examples, "elsewhere": found.examples["test"]})
    assert only(rule("max_drop_out_of_domain", 0.1), found).units_early is None
    assert only(rule("max_size_bytes", 10), found).units_early is None
