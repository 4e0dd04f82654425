"""Rules and outcomes in, verdicts out: decided by where the whole interval lies."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.gates.judge import judge
from harness.records import Evidence, Outcomes, Verdict
from harness.stats import inference
from harness.stats.metrics import disagreements
from harness.suite.load import load
from harness.suite.rules import of_gates
from harness.suite.schema import Suite

NOW = datetime(2025, 1, 1)  # noqa: DTZ001 (the store keeps UTC without a zone)
Make = Callable[..., Outcomes]


@pytest.fixture
def declared(suite_path: Path) -> Callable[[str], Suite]:
    """The made-up suite with one gate of these lines."""

    text = suite_path.read_text().split("[[gate]]")[0]

    def with_gate(lines: str) -> Suite:
        head = 'model = "tiny+lora"\nsplit = "test"\n' + ("" if "metric" in lines else 'metric = "accuracy"\n')
        tail = "" if "on_inconclusive" in lines else '\non_inconclusive = "fail"\n'
        suite_path.write_text(f'{text}[[metric]]\nname = "brier"\n\n[[gate]]\n{head}{lines}{tail}')
        return load(suite_path)

    return with_gate


def right(make: Make, n: int, share: float, shift: int = 0) -> Outcomes:
    """n outcomes of which this share is right, the wrong ones standing together from `shift`."""
    labels = [i % 2 for i in range(n)]
    wrong = {(shift + i) % n for i in range(round(n * (1 - share)))}
    return make(labels, [0.9 if (label == 1) != (i in wrong) else 0.1 for i, label in enumerate(labels)])


def evidence(**known: Any) -> Evidence:
    """Evidence of which only this much is known."""
    nothing: dict[str, Any] = {name: {} for name in Evidence.__dataclass_fields__}
    return Evidence(**(nothing | known))


def outcome(suite: Suite, **found: list[Outcomes]) -> Verdict:
    """The verdict of the suite's one rule."""
    places = {(name.replace("lora", "tiny+lora"), "test"): tuple(seeds) for name, seeds in found.items()}
    (verdict,) = judge(suite, evidence(outcomes=places), NOW)
    return verdict


@pytest.mark.parametrize(("share", "expected"), [(0.95, "pass"), (0.80, "inconclusive"), (0.60, "fail")])
def test_a_bound_is_decided_by_the_whole_interval(
    declared: Callable[[str], Suite], make_outcomes: Make, share: float, expected: str
) -> None:
    verdict = outcome(declared("min = 0.8"), lora=[right(make_outcomes, 400, share)])
    assert verdict.outcome == expected
    assert verdict.blocking == (expected != "pass")
    assert verdict.numbers["value"] == pytest.approx(share)
    assert verdict.numbers["ci_low"] < share < verdict.numbers["ci_high"]
    assert f"{share:.3f}" in verdict.reason


@pytest.mark.parametrize(("bound", "expected"), [(0.3, "pass"), (0.165, "inconclusive"), (0.05, "fail")])
def test_a_maximum_passes_below_it(
    declared: Callable[[str], Suite], make_outcomes: Make, bound: float, expected: str
) -> None:
    suite = declared(f'metric = "brier"\nmax = {bound}')
    assert outcome(suite, lora=[right(make_outcomes, 400, 0.81)]).outcome == expected


@pytest.mark.parametrize(
    ("candidate", "margin", "expected"),
    [(0.90, 0.0, "inconclusive"), (0.90, 0.05, "pass"), (0.80, 0.05, "fail"), (0.95, 0.0, "pass")],
)
def test_non_inferiority_is_decided_by_the_paired_interval(
    declared: Callable[[str], Suite], make_outcomes: Make, candidate: float, margin: float, expected: str
) -> None:
    suite = declared(f'non_inferior_to = {{ model = "tfidf", margin = {margin} }}')
    shift = 0 if candidate != 0.90 else 200
    found = {"lora": [right(make_outcomes, 400, candidate, shift)], "tfidf": [right(make_outcomes, 400, 0.90)]}
    if margin and candidate == 0.90:
        found["lora"] = [right(make_outcomes, 400, 0.90, 4)]
    assert outcome(suite, **found).outcome == expected


@pytest.mark.parametrize(
    ("candidate", "expected"), [(0.99, "pass"), (0.93, "inconclusive"), (0.90, "fail"), (0.80, "fail")]
)
def test_superiority_needs_the_whole_interval_above_the_margin(
    declared: Callable[[str], Suite], make_outcomes: Make, candidate: float, expected: str
) -> None:
    suite = declared('superior_to = { model = "tfidf", margin = 0.03 }')
    found = {"lora": [right(make_outcomes, 400, candidate)], "tfidf": [right(make_outcomes, 400, 0.90)]}
    assert outcome(suite, **found).outcome == expected


def test_of_a_model_that_answers_the_same_the_examples_still_leave_some_doubt(
    declared: Callable[[str], Suite], make_outcomes: Make
) -> None:
    same = {"lora": [right(make_outcomes, 400, 0.9)], "tfidf": [right(make_outcomes, 400, 0.9)]}
    for lines, expected in [
        ('superior_to = { model = "tfidf", margin = 0.0 }', "inconclusive"),
        ('superior_to = { model = "tfidf", margin = 0.01 }', "fail"),
        ('non_inferior_to = { model = "tfidf", margin = 0.0 }', "inconclusive"),
        ('non_inferior_to = { model = "tfidf", margin = 0.01 }', "pass"),
    ]:
        assert outcome(declared(lines), **same).outcome == expected


@pytest.mark.parametrize(
    "lines",
    [
        "min = 0.9",
        'metric = "f1"\nmin = 0.9',
        'non_inferior_to = { model = "tfidf", margin = 0.05 }',
        'metric = "f1"\nnon_inferior_to = { model = "tfidf", margin = 0.05 }',
        'max_flips = { model = "tfidf", share = 0.05 }',
    ],
)
@pytest.mark.parametrize("seeds", [1, 2])
def test_where_clusters_are_all_right_the_verdict_says_how_many_more_examples_decide(
    declared: Callable[[str], Suite], make_outcomes: Make, lines: str, seeds: int
) -> None:
    def judged(clusters: int) -> Verdict:
        labels, names = [0, 1, 0, 1] * clusters, [f"c{i // 4}" for i in range(clusters * 4)]
        side = [make_outcomes(labels, [0.1, 0.9, 0.1, 0.9] * clusters, names)] * seeds
        return outcome(declared(lines), lora=side, tfidf=side)

    few = judged(16)
    assert few.outcome == "inconclusive"
    more = few.numbers["more_examples"]
    assert "more examples would decide it" in few.reason
    assert judged(16 + more // 4 + 1).outcome == "pass"


def test_of_a_metric_that_should_be_low_the_lower_is_superior(
    declared: Callable[[str], Suite], make_outcomes: Make
) -> None:
    suite = declared('metric = "brier"\nsuperior_to = { model = "tfidf", margin = 0.01 }')
    better, worse = right(make_outcomes, 400, 0.95), right(make_outcomes, 400, 0.80)
    assert outcome(suite, lora=[better], tfidf=[worse]).outcome == "pass"
    assert outcome(suite, lora=[worse], tfidf=[better]).outcome == "fail"


def test_pairing_decides_what_unpaired_intervals_could_not(
    declared: Callable[[str], Suite], make_outcomes: Make
) -> None:
    suite = declared('superior_to = { model = "tfidf", margin = 0.0 }')
    better, worse = right(make_outcomes, 400, 0.90), right(make_outcomes, 400, 0.88)
    verdict = outcome(suite, lora=[better], tfidf=[worse])
    assert verdict.outcome == "pass"
    assert 0 < verdict.numbers["ci_low"] < 0.02 < verdict.numbers["ci_high"] < 0.04


def test_an_inconclusive_rule_may_only_warn(declared: Callable[[str], Suite], make_outcomes: Make) -> None:
    verdict = outcome(declared('min = 0.8\non_inconclusive = "warn"'), lora=[right(make_outcomes, 400, 0.80)])
    assert (verdict.outcome, verdict.blocking) == ("inconclusive", False)


def test_a_rule_whose_run_is_missing_fails_and_says_which(
    declared: Callable[[str], Suite], make_outcomes: Make
) -> None:
    suite = declared('superior_to = { model = "tfidf", margin = 0.0 }')
    scored = {("tiny+lora", "test"): (right(make_outcomes, 40, 0.9),)}
    (verdict,) = judge(suite, evidence(outcomes=scored, missing={("tfidf", "test"): "gone"}), NOW)
    assert (verdict.outcome, verdict.blocking, verdict.reason) == ("fail", True, "gone")
    (verdict,) = judge(suite, evidence(), NOW)
    assert verdict.reason == "tiny+lora was not scored on test"


def test_a_metric_that_is_not_defined_fails(declared: Callable[[str], Suite], make_outcomes: Make) -> None:
    suite = declared('metric = "f1"\nmin = 0.1')
    none_positive = make_outcomes([0] * 20, [0.1] * 20)
    assert outcome(suite, lora=[none_positive]).reason == "f1 is not defined for tiny+lora on test"
    suite = declared('metric = "f1"\nsuperior_to = { model = "tfidf", margin = 0.0 }')
    verdict = outcome(suite, lora=[none_positive], tfidf=[none_positive])
    assert (verdict.outcome, verdict.reason) == ("fail", "f1 is not defined for tiny+lora on test or for tfidf")


def test_one_gate_with_several_rules_gives_a_verdict_each(declared: Callable[[str], Suite]) -> None:
    suite = declared('min = 0.8\nmax = 0.99\nsuperior_to = { model = "tfidf", margin = 0.03 }')
    assert [rule.gate_id for rule in of_gates(suite)] == [
        "tiny+lora on test: accuracy >= 0.8",
        "tiny+lora on test: accuracy <= 0.99",
        "tiny+lora on test: accuracy better than tfidf by more than 0.03",
    ]


def test_judging_again_gives_the_same_numbers(declared: Callable[[str], Suite], make_outcomes: Make) -> None:
    suite = declared('superior_to = { model = "tfidf", margin = 0.0 }')
    generator = np.random.default_rng(0)
    scores: Any = generator.random((2, 100))
    found = {"lora": [make_outcomes([0, 1] * 50, scores[0])], "tfidf": [make_outcomes([0, 1] * 50, scores[1])]}
    assert outcome(suite, **found) == outcome(suite, **found)


def test_more_examples_are_asked_for_with_the_variance_that_the_interval_has(
    declared: Callable[[str], Suite], make_outcomes: Make
) -> None:
    candidate, reference = right(make_outcomes, 400, 0.84), right(make_outcomes, 400, 0.80, 20)
    bound = outcome(declared("min = 0.82"), lora=[candidate])
    wilson = np.sqrt(0.82 * 0.18 / 400)
    assert bound.numbers["more_examples"] == inference.more_examples(0.84 - 0.82, wilson, 0.0, 400)
    sides = {"lora": [candidate], "tfidf": [reference]}
    compared = outcome(declared('superior_to = { model = "tfidf", margin = 0.02 }'), **sides)
    gained, lost = disagreements(candidate, reference)
    tango = np.sqrt(inference.paired_variance(gained / 400, lost / 400, 0.02) / 400)
    assert compared.numbers["more_examples"] == inference.more_examples(
        compared.numbers["value"] - 0.02, tango, 0.0, 400
    )
    flips = outcome(declared('max_flips = { model = "tfidf", share = 0.05 }'), **sides)
    gap = 0.05 - flips.numbers["value"]
    assert flips.numbers["more_examples"] == inference.more_examples(gap, np.sqrt(0.05 * 0.95 / 400), 0.0, 400)
