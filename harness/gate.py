"""Rules and stored outcomes in, verdicts out. No I/O.

A rule is decided by a 95 % interval, not by a point: it passes when the whole interval is on the good side, fails when
the whole interval is on the bad side, and is inconclusive when the limit lies inside. Comparisons are paired: both
models see the same resampled examples. A rule whose run is missing fails.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

import numpy as np

from harness import digest, metrics
from harness.declarations import Suite
from harness.metrics import METRICS
from harness.records import Outcome, Outcomes, Verdict

Kind: TypeAlias = Literal["min", "max", "non_inferior_to", "superior_to"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that must hold; a `[[gate]]` of the suite declares one or more."""

    gate_id: str
    """The rule in words."""
    model: str
    split: str
    metric: str
    kind: Kind
    limit: float
    """The bound of `min` and `max`; the margin of a comparison."""
    reference: str | None
    """The other model of a comparison."""
    inconclusive_fails: bool


def rules(suite: Suite) -> Iterator[Rule]:
    """A suite's gates, one rule each, in the file's order."""
    for gate in suite.gate:
        place = f"{gate.model} on {gate.split}: {gate.metric}"
        strict = gate.on_inconclusive == "fail"
        bounds: list[tuple[Kind, str, float | None]] = [("min", ">=", gate.min), ("max", "<=", gate.max)]
        for kind, sign, bound in bounds:
            if bound is not None:
                yield Rule(f"{place} {sign} {bound!r}", gate.model, gate.split, gate.metric, kind, bound, None, strict)
        comparisons: list[tuple[Kind, Any, str]] = [
            ("non_inferior_to", gate.non_inferior_to, "not worse than {} by more than {!r}"),
            ("superior_to", gate.superior_to, "better than {} by more than {!r}"),
        ]
        for kind, against, words in comparisons:
            if against is not None:
                yield Rule(
                    f"{place} {words.format(against.model, against.margin)}",
                    gate.model, gate.split, gate.metric, kind, against.margin, against.model, strict,
                )  # fmt: skip


def judge(
    suite: Suite,
    found: Mapping[tuple[str, str], Sequence[Outcomes]],
    missing: Mapping[tuple[str, str], str],
    judged_at: datetime,
) -> list[Verdict]:
    """Decide every rule of a suite.

    Args:
        found: by model and split, the outcomes of each seed.
        missing: by model and split, why there are none.
        judged_at: UTC, without time zone.
    """
    verdicts = []
    for rule in rules(suite):
        absent = [
            missing.get((model, rule.split), f"{model} was not scored on {rule.split}")
            for model in (rule.model, rule.reference)
            if model is not None and (model, rule.split) not in found
        ]
        if absent:
            outcome, reason, numbers = _fail(absent[0])
        elif rule.reference is None:
            outcome, reason, numbers = _against_bound(rule, found[rule.model, rule.split])
        else:
            outcome, reason, numbers = _against_model(
                rule, found[rule.model, rule.split], found[rule.reference, rule.split]
            )
        blocking = outcome == "fail" or (outcome == "inconclusive" and rule.inconclusive_fails)
        verdicts.append(Verdict(suite.digest, rule.gate_id, judged_at, outcome, blocking, reason, numbers))
    return verdicts


def _fail(reason: str) -> tuple[Outcome, str, dict[str, Any]]:
    return "fail", reason, {}


def _against_bound(rule: Rule, seeds: Sequence[Outcomes]) -> tuple[Outcome, str, dict[str, Any]]:
    metric = metrics.summarise(rule.metric, seeds, _generator(rule))
    if metric.value is None or metric.ci_low is None or metric.ci_high is None:
        return _fail(f"{rule.metric} is not defined for {rule.model} on {rule.split}")
    low, high = metric.ci_low - rule.limit, metric.ci_high - rule.limit
    outcome = _decide(low, high) if rule.kind == "min" else _decide(-high, -low)
    reason = f"{metric.value:.3f} [{metric.ci_low:.3f}, {metric.ci_high:.3f}], n {metric.n}, limit {rule.limit:g}"
    numbers = {
        "value": metric.value, "ci_low": metric.ci_low, "ci_high": metric.ci_high, "n": metric.n, "limit": rule.limit,
        "seeds": len(seeds),
    }  # fmt: skip
    return outcome, reason, numbers


def _against_model(
    rule: Rule, candidate: Sequence[Outcomes], reference: Sequence[Outcomes]
) -> tuple[Outcome, str, dict[str, Any]]:
    difference = metrics.difference(rule.metric, candidate, reference, _generator(rule))
    if difference is None:
        return _fail(f"{rule.metric} is not defined for {rule.model} or {rule.reference} on {rule.split}")
    limit = rule.limit if rule.kind == "superior_to" else -rule.limit
    low, high = difference.ci_low, difference.ci_high
    if not METRICS[rule.metric].higher_is_better:
        low, high = -high, -low
    outcome = _decide(low - limit, high - limit, strictly=rule.kind == "superior_to")
    reason = (
        f"difference {difference.value:+.3f} [{difference.ci_low:+.3f}, {difference.ci_high:+.3f}], "
        f"n {difference.n}, margin {rule.limit:g}"
    )
    numbers = {
        "value": difference.value, "ci_low": difference.ci_low, "ci_high": difference.ci_high, "n": difference.n,
        "limit": rule.limit, "reference": rule.reference,
    }  # fmt: skip
    return outcome, reason, numbers


def _decide(low: float, high: float, *, strictly: bool = False) -> Outcome:
    """Where an interval lies of which the positive side is good; zero is good too, unless strictly more is asked."""
    if low > 0 or (low == 0 and not strictly):
        return "pass"
    return "fail" if high < 0 or (high == 0 and strictly) else "inconclusive"


def _generator(rule: Rule) -> np.random.Generator:
    """Seeded by the rule: judging the same runs again gives the same verdict."""
    return np.random.default_rng(int(digest.of_json(rule.gate_id)[:16], 16))
