"""Many rules: passing all of them needs no correction; a fail by chance among many does."""

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.gates.judge import Decision, family_of, in_family, judge
from harness.records import Evidence, Outcomes, Verdict
from harness.stats import inference
from harness.suite.load import load
from harness.suite.rules import Bound, Cost, Rule, of_gates
from harness.suite.schema import Suite
from tests.conftest import _outcomes

NOW = datetime(2025, 1, 1)  # noqa: DTZ001 (the store keeps UTC without a zone)
LEVEL, N = 0.025, 150


def bound(name: str) -> Rule:
    return Bound(name, "min", "new", "test", 0.8, True, "accuracy")


def decision(p_fail: float) -> Decision:
    return Decision("fail" if p_fail <= LEVEL else "pass", "numbers", {"value": 0.7, "p_fail": p_fail})


def corrected(*p_values: float, how: Any = "holm") -> list[Decision]:
    rules = [bound(f"rule {i}") for i in range(len(p_values))]
    return in_family(how, rules, [decision(p) for p in p_values])


def test_a_fail_that_chance_explains_among_many_rules_is_inconclusive() -> None:
    found = corrected(0.02, 0.9, 0.5, 0.3)
    assert [one.outcome for one in found] == ["inconclusive", "pass", "pass", "pass"]
    assert found[0].reason == ("numbers; a fail by itself, not among all: p 0.0200 alone, 0.0800 among 4 rules (Holm)")
    assert found[0].numbers["p_fail_holm"] == pytest.approx(0.08)
    assert found[0].numbers["family"] == 4


def test_a_clear_fail_stays_one_and_says_both_p_values() -> None:
    found = corrected(0.001, 0.9, 0.5, 0.3)
    assert found[0].outcome == "fail"
    assert found[0].reason == "numbers; p 0.0010 alone, 0.0040 among 4 rules (Holm)"


def test_holm_steps_down_where_bonferroni_would_not() -> None:
    assert [one.outcome for one in corrected(0.001, 0.012)] == ["fail", "fail"]
    assert corrected(0.001, 0.012)[1].numbers["p_fail_holm"] == pytest.approx(0.012)


def test_without_a_correction_both_p_values_are_shown_and_nothing_changes() -> None:
    found = corrected(0.02, 0.9, how="none")
    assert found[0].outcome == "fail"
    assert "p 0.0200 alone, 0.0400 among 2 rules (Holm)" in found[0].reason


def test_passes_are_not_corrected() -> None:
    assert [one.outcome for one in corrected(0.98, 0.98, 0.98)] == ["pass"] * 3


def test_costs_and_missing_results_fail_without_chance() -> None:
    rules = [bound("one"), Cost("bytes", "max_size_bytes", "new", "test", 10, True), bound("two")]
    decisions = [Decision("fail", "not scored", {}), Decision("fail", "11 bytes", {"value": 11}), decision(0.02)]
    found = in_family("holm", rules, decisions)
    assert [one.outcome for one in found] == ["fail", "fail", "inconclusive"]  # the missing rule counts in the family
    assert found[0].numbers == {}
    assert family_of(rules) == 2


def test_one_rule_is_no_family() -> None:
    (found,) = corrected(0.025)
    assert (found.outcome, found.reason) == ("fail", "numbers")


def test_a_family_of_true_rules_fails_as_rarely_as_one() -> None:
    """Ten rules whose truths stand at their limits: without a correction one of them fails in 22 % of cases."""
    generator, repeats = np.random.default_rng(1), 2000
    wrong = {"none": 0, "holm": 0}
    for _ in range(repeats):
        p_values = generator.random(10)
        for how in wrong:
            wrong[how] += any(one.outcome == "fail" for one in corrected(*p_values, how=how))
    assert 0.18 < wrong["none"] / repeats < 0.27
    assert wrong["holm"] / repeats < 0.035


# The p-value and the interval agree


def suite_with(suite_path: Path, lines: str, top: str = "") -> Suite:
    text = suite_path.read_text().split("[[gate]]")[0]
    head = 'model = "tiny+lora"\nsplit = "test"\n' + ("" if "metric" in lines else 'metric = "accuracy"\n')
    name = f"{suite_path.stem}-again.toml"
    path = suite_path.with_name(name)
    path.write_text(f'{top}{text}[[metric]]\nname = "brier"\n\n[[gate]]\n{head}{lines}\non_inconclusive = "warn"\n')
    return load(path)


def drawn(accuracy: float, seed: int, clusters: int | None = None) -> Outcomes:
    generator = np.random.default_rng(seed)
    labels = [i % 2 for i in range(N)]
    right = generator.random(N) < accuracy
    scores = [0.9 if bool(label) == bool(one) else 0.1 for label, one in zip(labels, right, strict=True)]
    names = None if clusters is None else [f"c{i % clusters}" for i in range(N)]
    return _outcomes(labels, scores, names)


def only(suite: Suite, ours: list[Outcomes], theirs: list[Outcomes]) -> Verdict:
    nothing: dict[str, Any] = {name: {} for name in Evidence.__dataclass_fields__}
    places = {("tiny+lora", "test"): tuple(ours), ("tfidf", "test"): tuple(theirs)}
    (verdict,) = judge(suite, Evidence(**{**nothing, "outcomes": places}), NOW)
    return verdict


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("clusters", [None, 30])
@pytest.mark.parametrize(
    "lines",
    [
        "min = {x}",
        "max = {y}",
        'metric = "f1"\nmin = {x}',
        'metric = "brier"\nmax = {b}',
        'superior_to = {{ model = "tfidf", margin = {z} }}',
        'non_inferior_to = {{ model = "tfidf", margin = {z} }}',
        'max_flips = {{ model = "tfidf", share = {f} }}',
    ],
)
def test_a_rule_fails_exactly_where_its_p_value_is_at_most_two_and_a_half_per_cent(
    suite_path: Path, lines: str, clusters: int | None, seeds: int
) -> None:
    ours = [drawn(0.8, seed, clusters) for seed in range(seeds)]
    theirs = [drawn(0.72, 10, clusters)]
    outcomes = set()
    for step in range(4):
        limits = {"x": 0.6 + 0.12 * step, "y": 0.92 - 0.12 * step, "b": 0.30 - 0.09 * step, "z": 0.15 * step}
        suite = suite_with(suite_path, lines.format(**limits, f=0.36 - 0.11 * step))
        verdict = only(suite, ours, theirs)
        outcomes.add(verdict.outcome)
        assert (verdict.outcome == "fail") == (verdict.numbers["p_fail"] <= LEVEL), limits
        assert verdict.outcome != "pass" or verdict.numbers["p_fail"] > 0.5
    assert len(outcomes) > 1


def test_the_p_value_of_a_score_interval_is_that_of_its_test(suite_path: Path) -> None:
    verdict = only(suite_with(suite_path, "min = 0.9"), [drawn(0.8, 0)], [])
    z = (verdict.numbers["value"] - 0.9) / np.sqrt(0.9 * 0.1 / N)
    assert verdict.numbers["p_fail"] == pytest.approx(inference._tail(-z))


def test_few_seeds_leave_more_to_chance() -> None:
    assert inference.short_p(-0.1, -0.05) < inference.short_p(-0.1, -0.05, 2.0) < LEVEL
    assert inference.short_p(-0.1, 0.0) == inference.short_p(-0.1, 0.0, 2.0) == pytest.approx(LEVEL)


def test_an_interval_without_width_says_no_more_than_its_level() -> None:
    assert inference.short_p(-0.1, -0.1) == LEVEL
    assert inference.short_p(0.0, 0.0) == 1.0
    assert inference.score_p(-0.1, 0.0) == 0.0


# The suite says so


def test_a_suite_without_the_key_keeps_its_digest_and_an_unknown_correction_is_refused(suite_path: Path) -> None:
    plain = suite_with(suite_path, "min = 0.9")
    assert plain.family == "none"
    assert suite_with(suite_path, "min = 0.9", 'family = "none"\n').digest == plain.digest
    assert suite_with(suite_path, "min = 0.9", 'family = "holm"\n').digest != plain.digest
    with pytest.raises(Exception, match="family"):
        suite_with(suite_path, "min = 0.9", 'family = "bonferroni"\n')


def test_the_suites_correction_reaches_the_verdict(suite_path: Path) -> None:
    """A p-value between a half of 2.5 % and all of it: a fail alone, and inconclusive among two rules."""
    lines = "min = {0}\nmax = 0.99"
    by_chance = [drawn(0.8, 0)]
    value = by_chance[0].predicted == by_chance[0].labels
    limit = next(x for x in np.arange(0.75, 0.95, 0.0025) if 0.0126 < _score_p(float(value.mean()), x) < LEVEL)
    for top, expected in (("", "fail"), ('family = "holm"\n', "inconclusive")):
        suite = suite_with(suite_path, lines.format(limit), top)
        nothing: dict[str, Any] = {name: {} for name in Evidence.__dataclass_fields__}
        found = judge(suite, Evidence(**{**nothing, "outcomes": {("tiny+lora", "test"): tuple(by_chance)}}), NOW)
        assert [one.outcome for one in found] == [expected, "pass"]
        assert found[0].blocking != (expected == "inconclusive")
        assert len(of_gates(suite)) == found[0].numbers["family"] == 2


def _score_p(value: float, limit: float) -> float:
    return inference.score_p(value - limit, float(np.sqrt(limit * (1 - limit) / N)))
