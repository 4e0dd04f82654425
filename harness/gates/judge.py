"""Judging of rules on evidence, without I/O: selection of the outcomes a rule is about, and the decision on them.

Results that are missing, stale, failed, counted twice or on other examples raise `Unjudgeable`, which fails the rule
with that reason.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from harness.records import AdapterRecord, Baseline, Evidence, Outcome, Outcomes, Verdict
from harness.stats import estimates, inference, slices, timing
from harness.stats.metrics import METRICS, subset
from harness.suite.rules import (
    Bound,
    Comparison,
    Cost,
    Drop,
    Flips,
    Kind,
    OtherModel,
    Rule,
    Throughput,
    of_gates,
)
from harness.suite.schema import Suite


class Unjudgeable(Exception):
    """Raised with the reason why a rule cannot be judged."""


def candidate_of(rule: Rule, evidence: Evidence) -> tuple[Outcomes, ...]:
    """Select the model's outcomes by seed, and check that no two seeds have the same weights."""
    found = seeds_of(rule, rule.model, rule.split, evidence)
    seed_of: dict[str, int | None] = {}
    for run in evidence.runs.get((rule.model, rule.split), ()):
        if run.adapter_digest is not None and run.adapter_digest in seed_of:
            same = f"seeds {seed_of[run.adapter_digest]} and {run.seed} of {rule.model} have the same weights"
            raise Unjudgeable(f"{same} ({run.adapter_digest[:12]}): they are one seed counted twice")
        if run.adapter_digest is not None:
            seed_of[run.adapter_digest] = run.seed
    return _in_slice(rule, found, evidence)


def reference_of(rule: Comparison | Flips, evidence: Evidence) -> tuple[Outcomes, ...]:
    """Select the outcomes of the other side by seed, on the same examples."""
    if isinstance(rule.other, OtherModel):
        return _in_slice(rule, seeds_of(rule, rule.other.model, rule.split, evidence), evidence)
    place = (rule.model, rule.split)
    baseline, outcomes = baseline_of(rule, evidence)
    if outcomes[0].example_ids != evidence.outcomes[place][0].example_ids:
        raise Unjudgeable(f"baseline {baseline.name} holds other examples of {rule.split} than are scored now")
    return _in_slice(rule, outcomes, evidence)


def baseline_of(rule: Comparison | Flips, evidence: Evidence) -> tuple[Baseline, tuple[Outcomes, ...]]:
    """Select the baseline that a rule names and its outcomes by seed, on the whole split as it is now."""
    place, name = (rule.model, rule.split), str(rule.baseline)
    baseline = evidence.baselines.get(name, Baseline(name, {}, frozenset(), "was not looked up"))
    if baseline.problem is not None:
        raise Unjudgeable(f"baseline {baseline.name}: {baseline.problem}")
    if place in baseline.other_examples:
        raise Unjudgeable(f"baseline {baseline.name} holds other examples of {rule.split} than are scored now")
    if place not in baseline.outcomes:
        raise Unjudgeable(f"baseline {baseline.name} holds no run of {rule.model} on {rule.split}")
    same = [run.run_id for run in evidence.runs.get(place, ()) if run.run_id in baseline.run_ids]
    if same:
        raise Unjudgeable(
            f"{rule.model} would be compared with itself: baseline {baseline.name} holds the very run {same[0][:12]}; "
            "name an earlier baseline"
        )
    if baseline.drift is not None:
        raise Unjudgeable(f"environment drift: {baseline.drift}")
    return baseline, baseline.outcomes[place]


def seeds_of(rule: Rule, model: str, split: str, evidence: Evidence) -> tuple[Outcomes, ...]:
    """Select a model's outcomes on a split, by seed."""
    if (model, split) in evidence.missing or (model, split) not in evidence.outcomes:
        raise Unjudgeable(evidence.missing.get((model, split), f"{model} was not scored on {split}"))
    return evidence.outcomes[model, split]


def _in_slice(rule: Rule, seeds: Sequence[Outcomes], evidence: Evidence) -> tuple[Outcomes, ...]:
    """Reduce outcomes to the rule's slice."""
    if rule.slice is None:
        return tuple(seeds)
    examples = evidence.examples[rule.split]
    if tuple(example.example_id for example in examples) != seeds[0].example_ids:
        raise Unjudgeable(f"{rule.model} was scored on other examples of {rule.split} than the suite names")
    chosen = slices.chosen(rule.slice, examples)
    if not chosen.any():
        raise Unjudgeable(f"no example of {rule.split} is in the slice {rule.slice}")
    return tuple(subset(outcomes, chosen) for outcomes in seeds)


def run_keys(rule: Rule, evidence: Evidence) -> tuple[str, ...]:
    """List the keys of the model's runs in the order of its outcomes; they seed all draws about them."""
    return _keys(rule.model, rule.split, evidence)


def run_keys_of_reference(rule: Comparison | Flips, evidence: Evidence) -> tuple[str, ...]:
    """List the keys of the other side's runs, likewise."""
    if isinstance(rule.other, OtherModel):
        return _keys(rule.other.model, rule.split, evidence)
    kept = evidence.baselines[rule.other.name].run_keys.get((rule.model, rule.split), ())
    return ("baseline", *kept)  # seeds of the same key are drawn for each side alone


def run_keys_elsewhere(rule: Drop, evidence: Evidence) -> tuple[str, ...]:
    """List the keys of the model's runs on the other domain, likewise."""
    return _keys(rule.model, rule.elsewhere, evidence)


def _keys(model: str, split: str, evidence: Evidence) -> tuple[str, ...]:
    return tuple(run.run_key for run in evidence.runs.get((model, split), ()))


def adapters_of(rule: Rule, evidence: Evidence) -> list[AdapterRecord]:
    """List the training records of the model's weights, by seed."""
    candidate_of(rule, evidence)
    digests = [run.adapter_digest for run in evidence.runs[rule.model, rule.split]]
    found = [evidence.adapters[key] for key in digests if key is not None and key in evidence.adapters]
    if len(found) < len(digests):
        raise Unjudgeable(f"the store has no record of the training of {rule.model}")
    return found


def compared(rule: Rule, evidence: Evidence) -> tuple[tuple[Outcomes, ...], tuple[Outcomes, ...]] | None:
    """Select both sides of a comparison, the seeds of the model and of its other side, reduced to the rule's slice.

    Returns:
        None if the rule compares nothing or cannot be judged.
    """
    if not isinstance(rule, Comparison | Flips):
        return None
    try:
        return candidate_of(rule, evidence), reference_of(rule, evidence)
    except Unjudgeable:
        return None


class Decision(NamedTuple):
    """Outcome of one rule."""

    outcome: Outcome
    reason: str
    """One sentence with the numbers that decided, or that names what is missing."""
    numbers: dict[str, Any]
    """Empty where nothing could be measured."""


def judge(
    suite: Suite, evidence: Evidence, judged_at: datetime, early: Mapping[str, Decision] | None = None
) -> list[Verdict]:
    """Decide every rule of a suite's gates, in the file's order.

    Args:
        judged_at: UTC, without time zone.
        early: decisions on a part of the split, by the rule in words; they take precedence.
    """
    verdicts = []
    rules = of_gates(suite)
    decisions = decide_all(rules, evidence, early or {})
    for rule, decision in zip(rules, in_family(suite.family, rules, decisions), strict=True):
        blocking = decision.outcome == "fail" or (decision.outcome == "inconclusive" and rule.inconclusive_fails)
        verdicts.append(
            Verdict(suite.digest, rule.gate_id, rule.model, judged_at, blocking=blocking, **decision._asdict())
        )
    return verdicts


def decide_all(rules: Sequence[Rule], evidence: Evidence, early: Mapping[str, Decision]) -> list[Decision]:
    """Decide rules on the stored results, except those that are decided early."""
    return [early.get(rule.gate_id) or decide(rule, evidence) for rule in rules]


def family_of(rules: Sequence[Rule]) -> int:
    """Count the rules that can fail by chance: those that are decided by an interval, judged or not."""
    return sum(isinstance(rule, Bound | Comparison | Flips | Drop) for rule in rules)


def in_family(
    correction: Literal["none", "holm"], rules: Sequence[Rule], decisions: Sequence[Decision]
) -> list[Decision]:
    """Add what a fail is worth among all rules of the suite, and correct for their number where the suite says so.

    Passing all rules is right at the level of each (an intersection-union test), but with many rules one of them fails
    by chance. Holm's method limits the chance of even one such fail to 2.5 %; a fail that it does not keep is
    inconclusive.

    Args:
        rules: all of them, whose number is fixed before anything is scored.
        decisions: on each of the rules.
    """
    of = [index for index, rule in enumerate(rules) if family_of([rule])]
    adjusted = inference.holm([decisions[index].numbers.get("p_fail", 1.0) for index in of])
    found = list(decisions)
    for index, p_holm in zip(of, adjusted, strict=True):
        decision = found[index]
        if "p_fail" not in decision.numbers:  # something is missing, which is no chance
            continue
        found[index] = decision._replace(numbers={**decision.numbers, "p_fail_holm": p_holm, "family": len(of)})
        if decision.outcome != "fail" or len(of) < 2:
            continue
        p_values = f"p {_p_words(decision.numbers['p_fail'])} alone, {_p_words(p_holm)} among {len(of)} rules (Holm)"
        outcome: Outcome = "fail" if correction == "none" or p_holm <= inference.ALPHA / 2 else "inconclusive"
        words = p_values if outcome == "fail" else f"a fail by itself, not among all: {p_values}"
        found[index] = found[index]._replace(outcome=outcome, reason=f"{decision.reason}; {words}")
    return found


def _p_words(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def decide(rule: Rule, evidence: Evidence) -> Decision:
    """Decide one rule; it fails without numbers if something is missing or not comparable."""
    try:
        decision = KINDS[rule.kind](rule, evidence)
    except Unjudgeable as problem:
        return Decision("fail", str(problem), {})
    return naming_baseline(rule, evidence, decision)


def naming_baseline(rule: Rule, evidence: Evidence, decision: Decision) -> Decision:
    """Name the baseline in a decision, since the command line may substitute another one for that of the rule."""
    if rule.baseline is None:
        return decision
    baseline = evidence.baselines[rule.baseline]
    reason = decision.reason if baseline.name == rule.baseline else f"against {baseline.name}: {decision.reason}"
    added = {"reference": f"baseline {baseline.name}", "canary": baseline.canary}
    return decision._replace(reason=reason, numbers=decision.numbers | added)


def _bound(rule: Bound, evidence: Evidence) -> Decision:
    seeds, name, keys = candidate_of(rule, evidence), rule.metric, run_keys(rule, evidence)

    def measured(draws: int) -> Measured:
        metric = estimates.summarise(name, seeds, estimates.generator_for(keys), draws)
        if metric.value is None or metric.ci_low is None or metric.ci_high is None:
            raise Unjudgeable(f"{name} is not defined for {rule.place}")
        return metric.value, metric.ci_low, metric.ci_high

    (value, low, high), settled = _settled(measured, rule.limit, is_exact=estimates.is_exact(name, seeds))
    sign, n = 1 if rule.kind == "min" else -1, len(seeds[0].labels)
    outcome = settled.outcome(lambda value: sign * (value - rule.limit))
    error = None
    if estimates.is_exact(name, seeds):
        error = estimates.at_limit(estimates.Spread(0.0, 0.0), rule.limit, name, seeds).se_examples
    degrees = math.inf
    if len(seeds) > 1 and sign * (value - rule.limit) < 0:
        degrees = _degrees(estimates.spread(name, seeds, estimates.generator_for(keys)), seeds)
    numbers = {
        "value": value, "ci_low": low, "ci_high": high, "n": n, "limit": rule.limit, "seeds": len(seeds),
        "p_fail": settled.p_fail(value, lambda value: sign * (value - rule.limit), error, degrees),
        **settled.numbers,
    }  # fmt: skip
    reason = f"{value:.3f} [{low:.3f}, {high:.3f}], n {n}, limit {rule.limit:g}{settled.words}"
    if outcome == "inconclusive":
        spread = estimates.spread(name, seeds, estimates.generator_for(keys))
        spread = estimates.at_limit(spread, rule.limit, name, seeds)
        return _undecided(reason, numbers, value - rule.limit, spread, n)
    return Decision(outcome, reason, numbers)


def _comparison(rule: Comparison, evidence: Evidence) -> Decision:
    sides, name = (candidate_of(rule, evidence), reference_of(rule, evidence)), rule.metric
    keys, theirs = run_keys(rule, evidence), run_keys_of_reference(rule, evidence)
    is_superior = rule.kind == "superior_to"
    limit = rule.limit if is_superior else -rule.limit
    sign = 1 if METRICS[name].higher_is_better else -1

    @cache
    def found(draws: int) -> estimates.Difference:
        difference = estimates.difference_of_runs(name, sides[0], keys, sides[1], theirs, draws)
        if difference is None:
            raise Unjudgeable(f"{name} is not defined for {rule.place} or for {rule.other.words}")
        return difference

    difference = found(inference.RESAMPLES)
    _, settled = _settled(
        lambda draws: found(draws)[:3], sign * limit, is_exact=estimates.is_exact(name, *sides)
    )  # fmt: skip
    outcome = settled.outcome(lambda value: sign * value - limit, strictly=is_superior)
    spread = estimates.Spread(difference.se_examples, difference.se_seeds)
    error = estimates.at_limit(spread, limit, name, *sides).se_examples if estimates.is_exact(name, *sides) else None
    numbers = {
        "value": difference.value, "ci_low": difference.ci_low, "ci_high": difference.ci_high, "n": difference.n,
        "limit": rule.limit, "reference": rule.other.words, "p_value": difference.p_value,
        "p_fail": settled.p_fail(
            difference.value, lambda value: sign * value - limit, error, _degrees(spread, *sides)
        ),
        **settled.numbers,
    }  # fmt: skip
    reason = (
        f"difference {difference.value:+.3f} [{difference.ci_low:+.3f}, {difference.ci_high:+.3f}], "
        f"n {difference.n}, margin {rule.limit:g}{settled.words}"
    )
    if outcome == "inconclusive":
        spread = estimates.at_limit(spread, limit, name, *sides)
        return _undecided(reason, numbers, sign * difference.value - limit, spread, difference.n)
    return Decision(outcome, reason, numbers)


def _flips(rule: Flips, evidence: Evidence) -> Decision:
    sides = candidate_of(rule, evidence), reference_of(rule, evidence)
    keys = [*run_keys(rule, evidence), *run_keys_of_reference(rule, evidence)]

    @cache
    def shared(draws: int) -> estimates.Flips:
        share = estimates.flip_share(*sides, estimates.seeds_generator(keys, "flips"), draws)
        if share is None:
            raise Unjudgeable(f"{rule.place} has no interval: a single cluster does not show how clusters differ")
        return share

    found = shared(inference.RESAMPLES)
    _, settled = _settled(
        lambda draws: shared(draws)[:3], rule.limit, is_exact=estimates.is_exact("flips", *sides)
    )  # fmt: skip
    outcome = settled.outcome(lambda value: rule.limit - value)
    spread = estimates.Spread(found.se_examples, found.se_seeds)
    at_limit = estimates.at_limit(spread, rule.limit, "flips", *sides)
    error = at_limit.se_examples if estimates.is_exact("flips", *sides) else None
    numbers = {
        "value": found.value, "ci_low": found.ci_low, "ci_high": found.ci_high, "n": found.n, "limit": rule.limit,
        "reference": rule.other.words,
        "p_fail": settled.p_fail(found.value, lambda value: rule.limit - value, error, _degrees(spread, *sides)),
        **settled.numbers,
    }  # fmt: skip
    reason = (
        f"{found.value:.3f} flip [{found.ci_low:.3f}, {found.ci_high:.3f}], n {found.n}, limit {rule.limit:g}"
        f"{settled.words}"
    )
    if outcome == "inconclusive":
        return _undecided(reason, numbers, rule.limit - found.value, at_limit, found.n)
    return Decision(outcome, reason, numbers)


def _drop(rule: Drop, evidence: Evidence) -> Decision:
    name, sides = rule.metric, (candidate_of(rule, evidence), seeds_of(rule, rule.model, rule.elsewhere, evidence))
    keys = run_keys(rule, evidence), run_keys_elsewhere(rule, evidence)

    def measured(draws: int) -> Measured:
        ends = []
        for side, of_side in zip(sides, keys, strict=True):
            metric = estimates.summarise(name, side, estimates.generator_for(of_side), draws)
            if metric.value is None or metric.ci_low is None or metric.ci_high is None:
                raise Unjudgeable(f"{name} is not defined for {rule.model} on {rule.split} or {rule.elsewhere}")
            ends.append((metric.value, metric.ci_low, metric.ci_high))
        here, there = ends if METRICS[name].higher_is_better else ends[::-1]
        return inference.independent_difference(here, there)

    (value, low, high), settled = _settled(measured, rule.limit, is_exact=estimates.is_exact(name, *sides))
    outcome = settled.outcome(lambda value: rule.limit - value)
    n, m = (len(side[0].labels) for side in sides)

    def spread() -> estimates.Spread:
        of_sides = [
            estimates.spread(name, side, estimates.generator_for(of_side))
            for side, of_side in zip(sides, keys, strict=True)
        ]
        return estimates.Spread(*(float(np.hypot(*errors)) for errors in zip(*of_sides, strict=True)))

    degrees = math.inf
    if any(len(side) > 1 for side in sides) and value > rule.limit:
        degrees = _degrees(spread(), *sides)
    numbers = {
        "value": value, "ci_low": low, "ci_high": high, "n": n + m, "limit": rule.limit, "elsewhere": rule.elsewhere,
        "p_fail": settled.p_fail(value, lambda value: rule.limit - value, None, degrees), **settled.numbers,
    }  # fmt: skip
    reason = f"drop {value:+.3f} [{low:+.3f}, {high:+.3f}], n {n} and {m}, limit {rule.limit:g}{settled.words}"
    if outcome == "inconclusive":
        return _undecided(reason, numbers, rule.limit - value, spread(), n + m)
    return Decision(outcome, reason, numbers)


def _size(rule: Cost, evidence: Evidence) -> Decision:
    value = max(adapter.size_bytes for adapter in adapters_of(rule, evidence))
    numbers = {"value": value, "limit": rule.limit}
    return Decision("pass" if value <= rule.limit else "fail", f"{value:,} bytes, limit {rule.limit:,.0f}", numbers)


def _train_seconds(rule: Cost, evidence: Evidence) -> Decision:
    recorded = [adapter.train_seconds for adapter in adapters_of(rule, evidence)]
    seconds = [one for one in recorded if one is not None]
    if len(seconds) < len(recorded):
        raise Unjudgeable(f"no training time is recorded for {rule.model}")
    numbers = {"value": max(seconds), "limit": rule.limit, "seeds": len(seconds)}
    reason = f"{max(seconds):.1f} s, the slowest of {len(seconds)} seeds, limit {rule.limit:g}"
    return Decision("pass" if max(seconds) <= rule.limit else "fail", reason, numbers)


def _throughput(rule: Throughput, evidence: Evidence) -> Decision:
    candidate_of(rule, evidence)
    seeds_of(rule, rule.reference, rule.split, evidence)
    candidate, reference = (evidence.runs[model, rule.split] for model in (rule.model, rule.reference))
    evaluations = {run.evaluation_id for run in (*candidate, *reference)}
    again = f"`harness evaluate SUITE --fresh --model {rule.model} --model {rule.reference}`"
    if len(evaluations) > 1 or None in evaluations:
        raise Unjudgeable(f"timed in different evaluations, which cannot be compared; {again} times them together")
    kinds = {timing.device_of(run) or "the processor" for run in (*candidate, *reference)}
    if len(kinds) > 1:
        raise Unjudgeable(
            f"timed on different devices ({', '.join(sorted(kinds))}), which cannot be compared; compare models that "
            "run on the same"
        )
    n = len(evidence.outcomes[rule.model, rule.split][0].labels)
    rates = []
    for model, runs in ((rule.model, candidate), (rule.reference, reference)):
        known = [rate for run in runs if (rate := timing.examples_per_second(run, n)) is not None]
        if not known:
            raise Unjudgeable(
                f"{model} has no timing on {rule.split}: it used what another model had computed, or took less than "
                f"{timing.SHORTEST_SECONDS:g} s; where it used another's work, {again} times it"
            )
        rates.append(statistics.median(known))
    fast, slow = rates
    numbers = {"value": fast / slow, "limit": rule.limit, "examples_per_second": fast, "reference": rule.reference}
    reason = f"{fast:.1f} examples/s, {fast / slow:.2f} of {rule.reference}'s {slow:.1f}, limit {rule.limit:g}"
    return Decision("pass" if fast / slow >= rule.limit else "fail", reason, numbers)


KINDS: dict[Kind, Callable[[Any, Evidence], Decision]] = {
    "min": _bound,
    "max": _bound,
    "non_inferior_to": _comparison,
    "superior_to": _comparison,
    "max_flips": _flips,
    "max_drop_out_of_domain": _drop,
    "max_size_bytes": _size,
    "max_train_seconds": _train_seconds,
    "min_throughput": _throughput,
}
"""By kind, the decision on a rule of that kind's type."""


def _degrees(spread: estimates.Spread, *sides: Sequence[Outcomes]) -> float:
    """Degrees of freedom of an interval, as if all variance of seeds came from the side that has fewer of several."""
    several = [len(side) for side in sides if len(side) > 1]
    parts = [(spread.se_seeds**2, min(several))] if several else []
    return inference.welch_degrees(spread.se_examples**2 + spread.se_seeds**2, parts)


def _undecided(reason: str, numbers: dict[str, Any], gap: float, spread: estimates.Spread, n: int) -> Decision:
    """Decide "inconclusive", and name the number of further examples that would probably decide the rule."""
    if not any(spread):  # no resample differs, so the interval does not come from the resamples
        error = inference.standard_error_of(numbers["value"], numbers["ci_low"], numbers["ci_high"])
        spread = estimates.Spread(error, 0.0)
    more = inference.more_examples(gap, spread.se_examples, spread.se_seeds, n)
    if more is not None:
        words = f"about {_two_digits(more):,} more examples would decide it"
    elif spread.se_seeds > 0:
        words = "no number of examples would decide it: train more seeds, or allow more"
    else:
        words = f"not even {inference.MOST_GROWTH:,} times as many examples would decide it"
    return Decision("inconclusive", f"{reason}; {words}", {**numbers, "more_examples": more})


def _two_digits(n: int) -> int:
    """Round a sample size up to two digits, because it is an estimate: 1,234 becomes 1,300."""
    unit = int(10 ** max(0, len(str(n)) - 2))
    return -(-n // unit) * unit


Measured: TypeAlias = tuple[float, float, float]
"""A value and the ends of its 95 % interval."""


class Settled(NamedTuple):
    """An interval from enough draws that drawing again would not change the verdict."""

    low: float
    high: float
    draws: int
    is_open: bool
    """True if the limit is so close to an end that even the largest number of draws leaves its side open."""

    @property
    def numbers(self) -> dict[str, Any]:
        """The interval that decided, if it is not the one that is shown."""
        if self.draws == inference.RESAMPLES:
            return {}
        return {"draws": self.draws, "drawn_low": self.low, "drawn_high": self.high}

    @property
    def words(self) -> str:
        """The same numbers in words."""
        if self.draws == inference.RESAMPLES:
            return ""
        which = "not even" if self.is_open else "as"
        return (
            f"; the limit is close to an end: {which} {self.draws:,} draws, [{self.low:+.4f}, {self.high:+.4f}], decide"
        )

    def p_fail(self, value: float, good: Callable[[float], float], error: float | None, degrees: float) -> float:
        """Compute the one-sided p-value of a truth that keeps to the limit: at most 2.5 % where the rule fails.

        Args:
            value: the estimate.
            good: as for `outcome`.
            error: for a score interval, the standard error if the limit were the truth.
            degrees: degrees of freedom of the interval.
        """
        if error is not None:
            return inference.score_p(good(value), error)
        return inference.short_p(good(value), max(good(self.low), good(self.high)), degrees)

    def outcome(self, good: Callable[[float], float], *, strictly: bool = False) -> Outcome:
        """Decide by the position of the limit.

        Args:
            good: maps a value to its distance from the limit, positive on the good side.
        """
        low, high = sorted((good(self.low), good(self.high)))
        return "inconclusive" if self.is_open else _where_zero_lies(low, high, strictly=strictly)


def _settled(measured: Callable[[int], Measured], limit: float, *, is_exact: bool) -> tuple[Measured, Settled]:
    """Compute the interval that is shown everywhere, and the one that decides.

    Args:
        measured: maps a number of draws to a value and its interval.
        limit: in the unit of the interval.
        is_exact: the interval is computed, not drawn.
    """
    draws = inference.RESAMPLES
    shown = value, low, high = measured(draws)
    while (
        not is_exact
        and (near := inference.is_near_an_end(limit, value, (low, high), draws))
        and draws < inference.MOST_DRAWS
    ):
        draws *= 4
        value, low, high = measured(draws)
    return shown, Settled(low, high, draws, not is_exact and near)


def _where_zero_lies(low: float, high: float, *, strictly: bool = False) -> Outcome:
    """Decide by an interval whose positive side is good; zero is good too, unless `strictly` excludes it."""
    if low > 0 or (low == 0 and not strictly):
        return "pass"
    return "fail" if high < 0 or (high == 0 and strictly) else "inconclusive"
