"""Rules beyond bounds and comparisons: flips, domains, costs, slices, baselines; and what is no evidence."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.artifacts import digest
from harness.gates import judge as gates_judge
from harness.gates.judge import compared, judge
from harness.records import AdapterRecord, Baseline, Evidence, Outcomes, Run, Split, Verdict
from harness.stats import estimates, inference
from harness.suite.load import load
from harness.suite.rules import Bound, of_gates
from harness.suite.schema import Suite

NOW = datetime(2025, 1, 1)  # noqa: DTZ001 (the store keeps UTC without a zone)
N = 400
Declare = Callable[[str], Suite]


@pytest.fixture
def declared(suite_path: Path) -> Declare:
    """The made-up suite, with a split of another domain and one gate of these lines about tiny+lora on test."""
    text = suite_path.read_text().split("[[gate]]")[0]
    text += '[[split]]\nid = "other"\nsource = "file"\npath = "other.jsonl"\nformat = "jsonl"\n\n'

    def with_gate(lines: str) -> Suite:
        tail = "" if "on_inconclusive" in lines else '\non_inconclusive = "fail"\n'
        suite_path.write_text(f'{text}[[gate]]\nmodel = "tiny+lora"\nsplit = "test"\n{lines}{tail}')
        return load(suite_path)

    return with_gate


@pytest.fixture
def scored(
    make_outcomes: Callable[..., Outcomes], make_run: Callable[..., Run], make_split: Callable[..., Split]
) -> Any:
    """Evidence for models of which these shares are right, each seed's wrong ones standing together from `shift`."""

    split = make_split(N)

    def right(share: float, shift: int = 0) -> Outcomes:
        wrong = {(shift + i) % N for i in range(round(N * (1 - share)))}
        made = make_outcomes(
            [example.label for example in split.examples],
            [0.9 if (e.label == 1) != (i in wrong) else 0.1 for i, e in enumerate(split.examples)],
        )
        return replace(made, example_ids=tuple(example.example_id for example in split.examples))

    def evidence(changes: dict[str, Any] | None = None, **shares: Sequence[float | tuple[float, int]]) -> Evidence:
        outcomes, runs = {}, {}
        for name, seeds in shares.items():
            place = (name.replace("lora", "tiny+lora"), "test")
            outcomes[place] = tuple(right(*seed) if isinstance(seed, tuple) else right(seed) for seed in seeds)
            runs[place] = tuple(
                make_run(
                    split, run_id=f"{name}-{i}", run_key=digest.of_json([name, i]), model_id=place[0], seed=i,
                    evaluation_id="e1", seconds=2.0, adapter_digest=f"weights-{i}" if name == "lora" else None,
                )
                for i in range(len(seeds))
            )  # fmt: skip
        found = Evidence(outcomes, runs, {}, {}, {"test": split.examples}, {})
        return replace(found, **(changes or {}))

    return evidence


def only(suite: Suite, evidence: Evidence) -> Verdict:
    """The verdict of the suite's one rule."""
    (verdict,) = judge(suite, evidence, NOW)
    return verdict


def test_every_kind_of_rule_has_a_judge_and_words_of_its_own(declared: Declare) -> None:
    suite = declared(
        'metric = "accuracy"\nmin = 0.1\nmax = 0.9\nnon_inferior_to = { baseline = "main", margin = 0.01 }\n'
        'superior_to = { model = "tfidf", margin = 0.03 }\nmax_flips = { model = "tfidf", share = 0.05 }\n'
        'max_drop_out_of_domain = { split = "other", drop = 0.1 }\nmax_size_bytes = 5_000_000\n'
        'max_train_seconds = 60\nmin_throughput = { model = "tfidf", ratio = 0.5 }\n'
    )  # fmt: skip
    rules = of_gates(suite)
    assert {rule.kind for rule in rules} == set(gates_judge.KINDS)
    assert [rule.gate_id for rule in rules] == [
        "tiny+lora on test: accuracy >= 0.1",
        "tiny+lora on test: accuracy <= 0.9",
        "tiny+lora on test: accuracy not worse than baseline main by more than 0.01",
        "tiny+lora on test: accuracy better than tfidf by more than 0.03",
        "tiny+lora on test: flips against tfidf <= 0.05",
        "tiny+lora on test: accuracy drop to other <= 0.1",
        "tiny+lora on test: size_bytes <= 5000000",
        "tiny+lora on test: train_seconds <= 60.0",
        "tiny+lora on test: throughput >= 0.5 of tfidf",
    ]


# Flips


@pytest.mark.parametrize(("limit", "expected"), [(0.2, "pass"), (0.1, "inconclusive"), (0.02, "fail")])
def test_flips_are_held_to_a_share_of_the_examples(declared: Declare, scored: Any, limit: float, expected: str) -> None:
    """Both are right on 90 %, but not on the same 90 %: no metric of either would tell."""
    suite = declared(f'max_flips = {{ model = "tfidf", share = {limit} }}')
    verdict = only(suite, scored(lora=[(0.9, 200)], tfidf=[0.9]))
    assert verdict.outcome == expected
    assert verdict.numbers["value"] == pytest.approx(0.1)
    low, high = inference.wilson(40, N)
    assert (verdict.numbers["ci_low"], verdict.numbers["ci_high"]) == (low, high)
    assert "more_examples" in verdict.numbers or expected != "inconclusive"


# Other domains


@pytest.mark.parametrize(("drop", "expected"), [(0.3, "pass"), (0.2, "inconclusive"), (0.05, "fail")])
def test_the_drop_to_another_domain_is_held_to_a_limit(
    declared: Declare, scored: Any, suite_path: Path, drop: float, expected: str
) -> None:
    suite = declared(f'metric = "accuracy"\nmax_drop_out_of_domain = {{ split = "other", drop = {drop} }}')
    here, there = scored(lora=[0.9]), scored(lora=[0.7])
    elsewhere = {("tiny+lora", "other"): there.outcomes["tiny+lora", "test"]}
    verdict = only(suite, replace(here, outcomes=here.outcomes | elsewhere))
    assert verdict.outcome == expected
    assert verdict.numbers["value"] == pytest.approx(0.2)
    one, other = (0.9, *inference.wilson(360, N)), (0.7, *inference.wilson(280, N))
    expected_interval = inference.independent_difference(one, other)[1:]
    assert (verdict.numbers["ci_low"], verdict.numbers["ci_high"]) == pytest.approx(expected_interval)


def test_a_drop_to_a_domain_that_was_not_scored_fails(declared: Declare, scored: Any) -> None:
    suite = declared('metric = "accuracy"\nmax_drop_out_of_domain = { split = "other", drop = 0.3 }')
    assert only(suite, scored(lora=[0.9])).reason == "tiny+lora was not scored on other"


# Costs


def weights(seed: int, size_bytes: int, train_seconds: float) -> AdapterRecord:
    """What the store knows of one seed's weights."""
    return AdapterRecord(
        adapter_digest=f"weights-{seed}", adapter_id="lora", method="lora", params={}, base_digest="b" * 64,
        trained_on="t" * 64, n_trainable=10, seed=seed, train_seconds=train_seconds, peak_bytes=1,
        size_bytes=size_bytes, card={},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "outcome", "value"),
    [
        ("max_size_bytes = 2000", "pass", 2000),
        ("max_size_bytes = 1999", "fail", 2000),
        ("max_train_seconds = 9.5", "pass", 9.5),
        ("max_train_seconds = 9.4", "fail", 9.5),
    ],
)
def test_the_largest_and_slowest_seed_counts(
    declared: Declare, scored: Any, lines: str, outcome: str, value: float
) -> None:
    known = {"weights-0": weights(0, 1000, 9.5), "weights-1": weights(1, 2000, 3.0)}
    verdict = only(declared(lines), scored({"adapters": known}, lora=[0.9, 0.8]))
    assert (verdict.outcome, verdict.numbers["value"]) == (outcome, value)


def test_costs_of_weights_that_the_store_does_not_know_fail(declared: Declare, scored: Any) -> None:
    verdict = only(
        declared("max_size_bytes = 2000"), scored({"adapters": {"weights-0": weights(0, 1, 1)}}, lora=[1, 1])
    )
    assert (verdict.outcome, verdict.numbers) == ("fail", {})
    assert verdict.reason == "the store has no record of the training of tiny+lora"


@pytest.mark.parametrize(("ratio", "expected"), [(0.4, "pass"), (0.5, "pass"), (0.6, "fail")])
def test_throughput_is_a_ratio_within_one_evaluation(
    declared: Declare, scored: Any, ratio: float, expected: str
) -> None:
    suite = declared(f'min_throughput = {{ model = "tfidf", ratio = {ratio} }}')
    found = scored(lora=[0.9], tfidf=[0.8])
    slow = replace(found.runs["tiny+lora", "test"][0], seconds=4.0)
    verdict = only(suite, replace(found, runs=found.runs | {("tiny+lora", "test"): (slow,)}))
    assert (verdict.outcome, verdict.numbers["value"]) == (expected, 0.5)


@pytest.mark.parametrize("other", ["e2", None])
def test_timings_of_different_evaluations_are_not_compared(declared: Declare, scored: Any, other: str | None) -> None:
    suite = declared('min_throughput = { model = "tfidf", ratio = 0.1 }')
    found = scored(lora=[0.9], tfidf=[0.8])
    elsewhere = replace(found.runs["tfidf", "test"][0], evaluation_id=other)
    verdict = only(suite, replace(found, runs=found.runs | {("tfidf", "test"): (elsewhere,)}))
    assert verdict.outcome == "fail"
    assert "timed in different evaluations" in verdict.reason
    assert "--fresh --model tiny+lora --model tfidf" in verdict.reason


# Slices


def test_a_rule_on_a_slice_is_about_its_examples_alone(declared: Declare, scored: Any) -> None:
    """Labels alternate; the wrong ones are 40 in a row, so 20 of each label."""
    whole = only(declared('metric = "accuracy"\nmin = 0.8'), scored(lora=[0.9]))
    part = only(declared('metric = "accuracy"\nslice = "label=positive"\nmin = 0.8'), scored(lora=[0.9]))
    assert (whole.numbers["n"], part.numbers["n"]) == (400, 200)
    assert part.numbers["value"] == pytest.approx(0.9)
    assert part.numbers["ci_high"] - part.numbers["ci_low"] > whole.numbers["ci_high"] - whole.numbers["ci_low"]
    assert part.gate_id == "tiny+lora on test where label=positive: accuracy >= 0.8"


def test_a_slice_without_examples_fails(declared: Declare, scored: Any) -> None:
    verdict = only(declared('metric = "accuracy"\nslice = "negation=present"\nmin = 0.1'), scored(lora=[0.9]))
    assert verdict.reason == "no example of test is in the slice negation=present"


def test_a_slice_of_other_examples_than_were_scored_fails(
    declared: Declare, scored: Any, make_split: Callable[..., Split]
) -> None:
    found = scored({"examples": {"test": make_split(N).examples[::-1]}}, lora=[0.9])
    verdict = only(declared('metric = "accuracy"\nslice = "label=positive"\nmin = 0.1'), found)
    assert "other examples of test" in verdict.reason


# Inconclusive says what would decide


def test_an_inconclusive_verdict_says_how_many_more_examples_would_decide_it(declared: Declare, scored: Any) -> None:
    verdict = only(declared('metric = "accuracy"\nmin = 0.88'), scored(lora=[0.9]))
    assert verdict.outcome == "inconclusive"
    more = verdict.numbers["more_examples"]
    assert 400 < more < 40_000
    assert "more examples would decide it" in verdict.reason
    near = only(declared('metric = "accuracy"\nmin = 0.895'), scored(lora=[0.9]))
    assert near.numbers["more_examples"] > more


def test_seeds_that_spread_too_far_cannot_be_outweighed_by_examples(declared: Declare, scored: Any) -> None:
    verdict = only(declared('metric = "accuracy"\nmin = 0.79'), scored(lora=[0.95, 0.65]))
    assert verdict.outcome == "inconclusive"
    assert verdict.numbers["more_examples"] is None
    assert "train more seeds" in verdict.reason


# Baselines


def baseline(evidence: Evidence, **changes: Any) -> Baseline:
    """What the model's runs were, under other run ids."""
    place = ("tiny+lora", "test")
    return replace(Baseline("main", {place: evidence.outcomes[place]}, frozenset({"old-0"})), **changes)


AGAINST_MAIN = 'metric = "accuracy"\nnon_inferior_to = { baseline = "main", margin = 0.02 }'


@pytest.mark.parametrize(("share", "expected"), [(0.90, "pass"), (0.80, "fail"), (0.885, "inconclusive")])
def test_a_model_is_held_against_itself_as_it_was(declared: Declare, scored: Any, share: float, expected: str) -> None:
    was = scored(lora=[0.9])
    verdict = only(declared(AGAINST_MAIN), scored({"baselines": {"main": baseline(was)}}, lora=[share]))
    assert verdict.outcome == expected
    assert verdict.numbers["reference"] == "baseline main"


def other_examples(outcomes: Outcomes) -> tuple[Outcomes]:
    """The same, of examples that have other ids."""
    return (replace(outcomes, example_ids=tuple(f"x{i}" for i in range(len(outcomes.labels)))),)


def test_a_baseline_that_proves_nothing_fails_and_says_why(declared: Declare, scored: Any) -> None:
    suite, was = declared(AGAINST_MAIN), scored(lora=[0.9])
    elsewhere = {("tiny+lora", "test"): other_examples(was.outcomes["tiny+lora", "test"][0])}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"problem": "was edited"}, "baseline main: was edited"),
        ({"outcomes": {}}, "baseline main holds no run of tiny+lora on test"),
        ({"run_ids": frozenset({"lora-0"})}, "tiny+lora would be compared with itself"),
        ({"drift": "logits moved by 0.3"}, "environment drift: logits moved by 0.3"),
        ({"outcomes": elsewhere}, "baseline main holds other examples of test than are scored now"),
    ]
    for changed, reason in cases:
        verdict = only(suite, scored({"baselines": {"main": baseline(was, **changed)}}, lora=[0.9]))
        assert (verdict.outcome, verdict.blocking, verdict.numbers) == ("fail", True, {})
        assert verdict.reason.startswith(reason)
    assert only(suite, was).reason == "baseline main: was not looked up"


# What is no evidence


def test_two_seeds_with_the_same_weights_are_one_seed(declared: Declare, scored: Any) -> None:
    found = scored(lora=[0.9, 0.9])
    twice = tuple(replace(run, adapter_digest="weights-0") for run in found.runs["tiny+lora", "test"])
    verdict = only(declared('metric = "accuracy"\nmin = 0.1'), replace(found, runs={("tiny+lora", "test"): twice}))
    assert (verdict.outcome, verdict.numbers) == ("fail", {})
    assert "seeds 0 and 1 of tiny+lora have the same weights" in verdict.reason


def test_what_is_compared_can_be_had_for_a_closer_look(declared: Declare, scored: Any) -> None:
    found = scored(lora=[0.9], tfidf=[0.8])
    (rule,) = of_gates(declared('max_flips = { model = "tfidf", share = 0.1 }\nslice = "label=negative"'))
    both = compared(rule, found)
    assert both is not None
    assert [len(side[0].labels) for side in both] == [200, 200]
    assert compared(rule, scored(lora=[0.9])) is None
    (bound,) = of_gates(declared('metric = "accuracy"\nmin = 0.1'))
    assert compared(bound, found) is None


def test_judging_is_repeatable_for_every_kind(declared: Declare, scored: Any) -> None:
    suite = declared(
        'metric = "accuracy"\nmin = 0.88\nsuperior_to = { model = "tfidf", margin = 0.03 }\n'
        'max_flips = { model = "tfidf", share = 0.05 }'
    )
    found = scored(lora=[0.9, 0.85], tfidf=[(0.8, 17)])
    assert judge(suite, found, NOW) == judge(suite, found, NOW)
    assert all(verdict.numbers for verdict in judge(suite, found, NOW))


@pytest.mark.parametrize(("below", "expected"), [(0.3, "inconclusive"), (1.3, "pass")])
def test_near_an_end_of_the_interval_the_verdict_does_not_depend_on_the_draw(
    below: float, expected: str, scored: Any
) -> None:
    """The same answers under other run keys, that is other draws: one verdict, though 2,000 draws say either.

    `below` is how far the limit lies below the end, in standard deviations of that end over draws of 2,000.
    """
    found = scored(lora=[0.9, (0.85, 200)])
    place = ("tiny+lora", "test")
    outcomes = found.outcomes[place]
    keyed = [[digest.of_json([number, seed]) for seed in range(2)] for number in range(100)]
    generators = (estimates.generator_for(keys) for keys in keyed)
    ends = np.array([estimates.summarise("f1", outcomes, generator).ci_low for generator in generators], dtype=float)
    limit = float(np.median(ends)) - below * float(np.std(ends))
    assert ends.min() < limit < ends.max(), "2,000 draws say either"
    order, near = np.argsort(ends), np.abs(ends - limit) < 3.5 * np.std(ends)
    assert near[order[:4]].all(), "these end below the limit"
    for number in (*order[:4], *order[-4:]):
        runs = tuple(replace(run, run_key=key) for run, key in zip(found.runs[place], keyed[number], strict=True))
        rule = Bound("x", "min", *place, limit, inconclusive_fails=False, metric="f1")
        decision = gates_judge.decide(rule, replace(found, runs={place: runs}))
        assert decision.outcome == expected
        assert decision.numbers["ci_low"] == ends[number], "what is shown everywhere"
        if near[number]:
            assert decision.numbers["draws"] > inference.RESAMPLES
            assert f"{decision.numbers['draws']:,} draws" in decision.reason
