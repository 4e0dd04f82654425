"""How many examples a suite's gates need to be decided: before anything is trained, or after a first run.

A rule is decided when the interval of its number leaves the limit out. How often that is to be expected follows from
the gap between the supposed truth and the limit, and from the standard errors: those that `gate` finds in stored runs,
or those of a guess. The normal approximation, with a little more power aimed at than is asked for (`stats.aimed`);
docs/simulations.md has how often it keeps its promise.

Pure: rules, evidence and guesses in, rows out.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from harness import stats
from harness.errors import UsageError
from harness.records import Evidence, Place
from harness.rules import Kind, Rule
from harness.sides import Unjudgeable
from harness.supposed import STANDS, Guess, Stand, at_hand, stand

Decidable: TypeAlias = Literal["yes", "no", "never", "unknown", "measured"]
"""With the examples at hand. `unknown`: too little is stored and guessed. `measured`: costs, which need no examples."""


@dataclass(frozen=True, slots=True)
class Need:
    """What one rule needs. A field is None where there is no such number."""

    rule: str
    """In words."""
    kind: Kind
    limit: float
    decidable: Decidable
    note: str | None
    """What is not known, or what was supposed besides."""
    n: int | None = None
    """Examples at hand: rows of the split, or of its slice; of both splits where the rule is about two."""
    clusters: int | None = None
    """Clusters of those."""
    supposed: float | None = None
    """The truth that is planned for, in the rule's unit: a metric, a difference, a share of flips, a drop."""
    source: Literal["stored", "guessed"] | None = None
    """Where that is from: the stored runs' estimate, or a guess."""
    expected: Literal["pass", "fail"] | None = None
    """The verdict, if that is the truth; None where it is the limit itself."""
    power: float | None = None
    """Chance of that verdict with the examples at hand."""
    needed: int | None = None
    """Examples in all for the power that was asked for; None where none are enough."""
    seconds: float | None = None
    """Of scoring as many with every seed of both sides, if it goes as fast as the stored runs on this hardware."""
    seeds: int | None = None
    """Of the side that has more of them, where seeds spread too far for any number of examples."""
    seeds_needed: int | None = None
    """How many would do, with `needed_with_seeds` examples: then half of the doubt that is allowed is theirs."""
    needed_with_seeds: int | None = None


def needs(
    rules: Sequence[Rule], evidence: Evidence, guess: Guess, hardware: Mapping[str, Any], power: float = stats.POWER
) -> list[Need]:
    """What each rule needs, in the order given.

    Args:
        evidence: the stored runs, if any, and in any case the examples of the rules' splits.
        guess: comes before what is stored.
        hardware: this machine's. Only runs of the same hardware say how long scoring takes here.
        power: the chance of a verdict that is asked for, in [0.5, 1).

    Raises:
        UsageError: no such power, or a guess contradicts another or the stored runs.
    """
    if not 0.5 <= power < 1:
        raise UsageError(f"--power {power:g}: a chance of at least 0.5 and below 1 is needed")
    return [_need(rule, evidence, guess, hardware, power) for rule in rules]


def _need(rule: Rule, evidence: Evidence, guess: Guess, hardware: Mapping[str, Any], power: float) -> Need:
    if rule.kind not in STANDS:
        return Need(rule.gate_id, rule.kind, rule.limit, "measured", "needs no examples: it is measured, not sampled")
    try:
        found = stand(rule, evidence, guess)
    except Unjudgeable as problem:
        return Need(rule.gate_id, rule.kind, rule.limit, "unknown", str(problem), *at_hand(rule, evidence))
    examples, seeds = found.spread
    power = stats.aimed(power, is_error_estimated=found.se_limit is None)
    needed = stats.examples_for(found.gap, examples, seeds, found.n, power, se_limit=found.se_limit)
    seeds_needed = _seeds_for(found, power) if needed is None else None
    return Need(
        rule=rule.gate_id,
        kind=rule.kind,
        limit=rule.limit,
        decidable="never" if needed is None else "yes" if needed <= found.n else "no",
        note=found.note,
        n=found.n,
        clusters=found.clusters,
        supposed=found.supposed,
        source="guessed" if found.guessed else "stored",
        expected=None if found.gap == 0 else "pass" if found.gap > 0 else "fail",
        power=stats.power_of(found.gap, examples, seeds, se_limit=found.se_limit),
        needed=needed,
        seconds=None if needed is None else _seconds(rule, needed / found.n, evidence, hardware),
        seeds=None if seeds_needed is None else found.seeds,
        seeds_needed=seeds_needed,
        needed_with_seeds=None if seeds_needed is None else _examples_with(seeds_needed, found, power),
    )


def _seeds_for(found: Stand, power: float) -> int | None:
    """How many seeds spread so little that they use up half of the variance that the gap allows."""
    allowed = stats.allowed_error(found.gap, power) ** 2
    return math.ceil(found.seeds * 2 * found.spread.se_seeds**2 / allowed) if allowed > 0 else None


def _examples_with(seeds: int, found: Stand, power: float) -> int | None:
    se_seeds = found.spread.se_seeds * math.sqrt(found.seeds / seeds)
    return stats.examples_for(found.gap, found.spread.se_examples, se_seeds, found.n, power)


def _seconds(rule: Rule, growth: float, evidence: Evidence, hardware: Mapping[str, Any]) -> float | None:
    """Of scoring `growth` times the examples at hand, with every seed of both sides."""
    places: list[Place] = [(rule.model, rule.split)]
    if rule.baseline is not None:  # the same model, as it was
        places *= 2
    if rule.reference is not None:
        places.append((rule.reference, rule.split))
    if rule.elsewhere is not None:
        places.append((rule.model, rule.elsewhere))
    runs = [evidence.runs.get(place, ()) for place in places]
    here = [run.seconds for side in runs for run in side if dict(run.hardware) == dict(hardware)]
    if not all(runs) or len(here) < sum(map(len, runs)) or None in here:
        return None
    of_split, (of_rule, _) = len(evidence.examples[rule.split]), at_hand(rule, evidence)
    return growth * (of_rule or 0) / of_split * sum(seconds for seconds in here if seconds is not None)
