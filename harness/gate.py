"""Rules and stored evidence in, verdicts out. No I/O.

A rule is decided by a 95 % interval, not by a point: it passes when the whole interval is on the good side, fails when
the whole interval is on the bad side, and is inconclusive when the limit lies inside; then it says how many more
examples would decide it. Comparisons are paired: both sides see the same resampled examples. A rule whose run is
missing, stale or failed fails, and so does one whose sides are the same run.

Sizes and timings are measured, not sampled: they have no interval and are compared as they are.
"""

import statistics
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

from harness import digest, estimates, flips, stats, timing
from harness.declarations import Suite
from harness.metrics import METRICS
from harness.records import Baseline, Evidence, Outcome, Outcomes, Verdict
from harness.rules import Kind, Rule, of_gates
from harness.sides import Unjudgeable, adapters_of, candidate_of, reference_of, seeds_of


class Decision(NamedTuple):
    """What came of one rule."""

    outcome: Outcome
    reason: str
    """One sentence with the numbers that decided, or with what is missing."""
    numbers: dict[str, Any]
    """Empty where nothing could be measured."""


def judge(suite: Suite, evidence: Evidence, judged_at: datetime) -> list[Verdict]:
    """Decide every rule of a suite's gates, in the file's order.

    Args:
        judged_at: UTC, without time zone.
    """
    verdicts = []
    for rule in of_gates(suite):
        decision = decide(rule, evidence)
        blocking = decision.outcome == "fail" or (decision.outcome == "inconclusive" and rule.inconclusive_fails)
        verdicts.append(Verdict(suite.digest, rule.gate_id, judged_at, blocking=blocking, **decision._asdict()))
    return verdicts


def decide(rule: Rule, evidence: Evidence) -> Decision:
    """One rule's outcome; a fail without numbers where something is missing or not comparable."""
    try:
        decision = KINDS[rule.kind](rule, evidence)
    except Unjudgeable as problem:
        return Decision("fail", str(problem), {})
    return decision if rule.baseline is None else _naming(evidence.baselines[rule.baseline], rule, decision)


def _naming(baseline: Baseline, rule: Rule, decision: Decision) -> Decision:
    """A decision that says which baseline it is against, since the command line may ask for another than the rule."""
    reason = decision.reason if baseline.name == rule.baseline else f"against {baseline.name}: {decision.reason}"
    told = {"reference": f"baseline {baseline.name}", "canary": baseline.canary}
    return decision._replace(reason=reason, numbers=decision.numbers | told)


def _bound(rule: Rule, evidence: Evidence) -> Decision:
    seeds, name = candidate_of(rule, evidence), _metric(rule)
    metric = estimates.summarise(name, seeds, _generator_of_bound(rule, evidence))
    if metric.value is None or metric.ci_low is None or metric.ci_high is None:
        raise Unjudgeable(f"{name} is not defined for {rule.place}")
    low, high = metric.ci_low - rule.limit, metric.ci_high - rule.limit
    outcome = _where_zero_lies(low, high) if rule.kind == "min" else _where_zero_lies(-high, -low)
    numbers = {
        "value": metric.value, "ci_low": metric.ci_low, "ci_high": metric.ci_high, "n": metric.n, "limit": rule.limit,
        "seeds": len(seeds),
    }  # fmt: skip
    reason = f"{metric.value:.3f} [{metric.ci_low:.3f}, {metric.ci_high:.3f}], n {metric.n}, limit {rule.limit:g}"
    if outcome == "inconclusive":
        spread = estimates.at_limit(estimates.spread(name, seeds, _generator(rule)), rule.limit, name, seeds)
        return _undecided(reason, numbers, metric.value - rule.limit, spread, metric.n)
    return Decision(outcome, reason, numbers)


def _comparison(rule: Rule, evidence: Evidence) -> Decision:
    sides, name = (candidate_of(rule, evidence), reference_of(rule, evidence)), _metric(rule)
    difference = _difference(rule, evidence, *sides)
    if difference is None:
        raise Unjudgeable(f"{name} is not defined for {rule.place} or for {rule.other_side}")
    better = difference if METRICS[name].higher_is_better else difference.turned
    limit = rule.limit if rule.kind == "superior_to" else -rule.limit
    outcome = _where_zero_lies(better.ci_low - limit, better.ci_high - limit, strictly=rule.kind == "superior_to")
    numbers = {
        "value": difference.value, "ci_low": difference.ci_low, "ci_high": difference.ci_high, "n": difference.n,
        "limit": rule.limit, "reference": rule.other_side, "p_value": difference.p_value,
    }  # fmt: skip
    reason = (
        f"difference {difference.value:+.3f} [{difference.ci_low:+.3f}, {difference.ci_high:+.3f}], "
        f"n {difference.n}, margin {rule.limit:g}"
    )
    if outcome == "inconclusive":
        spread = estimates.Spread(difference.se_examples, difference.se_seeds)
        spread = estimates.at_limit(spread, limit, name, *sides)
        return _undecided(reason, numbers, better.value - limit, spread, difference.n)
    return Decision(outcome, reason, numbers)


def _difference(
    rule: Rule, evidence: Evidence, candidate: Sequence[Outcomes], reference: Sequence[Outcomes]
) -> estimates.Difference | None:
    """Of two models the one that the board shows; against a baseline one whose draws are seeded by the rule."""
    places = [(model, rule.split) for model in (rule.model, rule.reference) if model is not None]
    keys = [[run.run_key for run in evidence.runs.get(place, ())] for place in places]
    if len(keys) < 2 or not all(keys):
        return estimates.difference(_metric(rule), candidate, reference, _generator(rule))
    return estimates.difference_of_runs(_metric(rule), candidate, keys[0], reference, keys[1])


def _flips(rule: Rule, evidence: Evidence) -> Decision:
    sides = candidate_of(rule, evidence), reference_of(rule, evidence)
    found = flips.share(*sides, _generator(rule))
    if found is None:
        raise Unjudgeable(f"one cluster says nothing of how clusters differ: {rule.place} has no interval")
    outcome = _where_zero_lies(rule.limit - found.ci_high, rule.limit - found.ci_low)
    numbers = {
        "value": found.value, "ci_low": found.ci_low, "ci_high": found.ci_high, "n": found.n, "limit": rule.limit,
        "reference": rule.other_side,
    }  # fmt: skip
    reason = f"{found.value:.3f} flip [{found.ci_low:.3f}, {found.ci_high:.3f}], n {found.n}, limit {rule.limit:g}"
    if outcome == "inconclusive":
        spread = estimates.at_limit(estimates.Spread(found.se_examples, found.se_seeds), rule.limit, "flips", *sides)
        return _undecided(reason, numbers, rule.limit - found.value, spread, found.n)
    return Decision(outcome, reason, numbers)


def _drop(rule: Rule, evidence: Evidence) -> Decision:
    assert rule.elsewhere is not None
    name, sides = _metric(rule), (candidate_of(rule, evidence), seeds_of(rule, rule.model, rule.elsewhere, evidence))
    found = [estimates.summarise(name, side, _generator(rule)) for side in sides]
    ends = []
    for metric in found:
        if metric.value is None or metric.ci_low is None or metric.ci_high is None:
            raise Unjudgeable(f"{name} is not defined for {rule.model} on {rule.split} or {rule.elsewhere}")
        ends.append((metric.value, metric.ci_low, metric.ci_high))
    here, there = ends if METRICS[name].higher_is_better else ends[::-1]
    value, low, high = stats.independent_difference(here, there)
    outcome = _where_zero_lies(rule.limit - high, rule.limit - low)
    n = found[0].n + found[1].n
    numbers = {"value": value, "ci_low": low, "ci_high": high, "n": n, "limit": rule.limit, "elsewhere": rule.elsewhere}
    reason = f"drop {value:+.3f} [{low:+.3f}, {high:+.3f}], n {found[0].n} and {found[1].n}, limit {rule.limit:g}"
    if outcome == "inconclusive":
        spreads = np.array([estimates.spread(name, side, _generator(rule)) for side in sides])
        spread = estimates.Spread(*(float(error) for error in np.hypot(spreads[0], spreads[1])))
        return _undecided(reason, numbers, rule.limit - value, spread, n)
    return Decision(outcome, reason, numbers)


def _size(rule: Rule, evidence: Evidence) -> Decision:
    value = max(adapter.size_bytes for adapter in adapters_of(rule, evidence))
    numbers = {"value": value, "limit": rule.limit}
    return Decision("pass" if value <= rule.limit else "fail", f"{value:,} bytes, limit {rule.limit:,.0f}", numbers)


def _train_seconds(rule: Rule, evidence: Evidence) -> Decision:
    told = [adapter.train_seconds for adapter in adapters_of(rule, evidence)]
    seconds = [one for one in told if one is not None]
    if len(seconds) < len(told):
        raise Unjudgeable(f"nobody told how long {rule.model} was trained")
    numbers = {"value": max(seconds), "limit": rule.limit, "seeds": len(seconds)}
    reason = f"{max(seconds):.1f} s, the slowest of {len(seconds)} seeds, limit {rule.limit:g}"
    return Decision("pass" if max(seconds) <= rule.limit else "fail", reason, numbers)


def _throughput(rule: Rule, evidence: Evidence) -> Decision:
    assert rule.reference is not None
    candidate_of(rule, evidence)
    seeds_of(rule, rule.reference, rule.split, evidence)
    candidate, reference = (evidence.runs[model, rule.split] for model in (rule.model, rule.reference))
    evaluations = {run.evaluation_id for run in (*candidate, *reference)}
    again = f"`harness evaluate SUITE --fresh --model {rule.model} --model {rule.reference}`"
    if len(evaluations) > 1 or None in evaluations:
        raise Unjudgeable(f"timed in different evaluations, which says nothing of speed; {again} times them together")
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


KINDS: dict[Kind, Callable[[Rule, Evidence], Decision]] = {
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


def _undecided(reason: str, numbers: dict[str, Any], gap: float, spread: estimates.Spread, n: int) -> Decision:
    """Inconclusive, with the number of examples that would probably decide it."""
    more = stats.more_examples(gap, spread.se_examples, spread.se_seeds, n)
    if more is not None:
        words = f"about {_two_digits(more):,} more examples would decide it"
    elif spread.se_seeds > 0:
        words = "no number of examples would decide it: train more seeds, or allow more"
    else:
        words = f"not even {stats.MOST_GROWTH:,} times as many examples would decide it"
    return Decision("inconclusive", f"{reason}; {words}", {**numbers, "more_examples": more})


def _two_digits(n: int) -> int:
    """A sample size is an estimate: 1,234 reads 1,300."""
    unit = int(10 ** max(0, len(str(n)) - 2))
    return -(-n // unit) * unit


def _where_zero_lies(low: float, high: float, *, strictly: bool = False) -> Outcome:
    """Of an interval whose positive side is good; zero is good too, unless strictly more is asked."""
    if low > 0 or (low == 0 and not strictly):
        return "pass"
    return "fail" if high < 0 or (high == 0 and strictly) else "inconclusive"


def _metric(rule: Rule) -> str:
    assert rule.metric is not None
    return rule.metric


def _generator_of_bound(rule: Rule, evidence: Evidence) -> np.random.Generator:
    """On the whole split that of the runs: the table of results and the board show the same interval."""
    keys = [run.run_key for run in evidence.runs.get((rule.model, rule.split), ())]
    return estimates.generator_for(_metric(rule), keys) if keys and rule.slice is None else _generator(rule)


def _generator(rule: Rule) -> np.random.Generator:
    """Seeded by the rule: judging the same runs again gives the same verdict."""
    return np.random.default_rng(int(digest.of_json(rule.gate_id)[:16], 16))
