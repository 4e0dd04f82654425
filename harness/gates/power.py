"""Sample sizes: the examples that a suite's gates need, planned before anything is trained or after a first run.

A rule is decided when the interval of its number excludes the limit. The probability of that follows from the gap
between the assumed truth and the limit, and from the standard errors: those that `judge` finds in stored runs, or those
of an assumption. Assumptions are about accuracies, which determine their own variance; the spread of any other metric
is known from stored runs only. The normal approximation is used, aiming at slightly more power than requested
(`inference.aimed`); docs/simulations.md reports how often it keeps its promise.

Pure: rules, evidence and assumptions in, rows out.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from harness.errors import UsageError
from harness.gates import questions
from harness.gates.judge import (
    Unjudgeable,
    candidate_of,
    reference_of,
    run_keys,
    run_keys_elsewhere,
    run_keys_of_reference,
    seeds_of,
)
from harness.records import Evidence, Outcomes, Place
from harness.stats import anytime, estimates, inference, slices
from harness.stats.anytime import Seen
from harness.stats.estimates import Spread
from harness.stats.metrics import METRICS, disagreements
from harness.suite.rules import Bound, Comparison, Drop, Flips, Kind, Rule

Seeds: TypeAlias = tuple[Outcomes, ...]
EARLY_DRAWS = 101
"""Simulated gates that stop early; an odd number has one in the middle."""


@dataclass(frozen=True, slots=True)
class Assumption:
    """Assumed truth about accuracies; the stored runs replace a value of None."""

    value: float | None = None
    """The model's accuracy, in (0, 1): for `min` and `max`."""
    difference: float | None = None
    """Candidate minus reference, in (-1, 1): for comparisons, and together with the disagreement for flips."""
    disagreement: float | None = None
    """Share of examples that exactly one of two sides gets right, in (0, 1]."""

    def __post_init__(self) -> None:
        if self.value is not None and not 0 < self.value < 1:
            raise UsageError(f"--value {self.value:g}: an accuracy must be above 0 and below 1")
        if self.difference is not None and not -1 < self.difference < 1:
            raise UsageError(f"--difference {self.difference:g}: a difference must be above -1 and below 1")
        if self.disagreement is not None and not 0 < self.disagreement <= 1:
            raise UsageError(f"--disagreement {self.disagreement:g}: a share must be above 0 and at most 1")
        if self.difference is not None and self.disagreement is not None:
            _check_possible(self.difference, self.disagreement)


class Stand(NamedTuple):
    """Position of a rule relative to its limit under the assumed truth."""

    supposed: float
    """In the rule's unit: a metric, a difference, a share of flips, a drop."""
    gap: float
    """Assumed truth minus limit, positive where the rule would pass."""
    n: int
    """Number of available examples."""
    clusters: int | None
    spread: Spread
    """Standard errors at `n`."""
    se_limit: float | None
    """For a score interval, the standard error at `n` if the limit were the truth."""
    seeds: int
    """Number of seeds of the side that has more of them."""
    guessed: bool
    note: str | None = None


def stand(rule: Rule, evidence: Evidence, assumption: Assumption) -> Stand:
    """Compute the position of a rule that is decided by an interval.

    Raises:
        Unjudgeable: too little is stored or assumed, or an assumption contradicts the stored runs.
        UsageError: an assumption contradicts another.
    """
    return STANDS[rule.kind](rule, evidence, assumption)


def count_available(rule: Rule, evidence: Evidence) -> tuple[int | None, int | None]:
    """Count the examples and the clusters of a rule's split or slice; None where there are none."""
    examples = evidence.examples.get(rule.split)
    if examples is None:
        return None, None
    if rule.slice is not None:
        chosen = slices.chosen(rule.slice, examples)
        examples = tuple(example for example, kept in zip(examples, chosen, strict=True) if kept)
    clusters = {example.cluster for example in examples if example.cluster is not None}
    return len(examples), len(clusters) or None


def _of_bound(rule: Bound, evidence: Evidence, assumption: Assumption) -> Stand:
    name, sign = rule.metric, 1 if rule.kind == "min" else -1
    value = assumption.value if name == "accuracy" else None
    try:
        seeds = candidate_of(rule, evidence)
    except Unjudgeable as problem:
        if value is None:
            raise _nothing_known(problem, "--value" if name == "accuracy" else None) from None
        return _of_assumption(
            rule, evidence, value, sign * (value - rule.limit), _variance(value), _variance(rule.limit)
        )
    keys = run_keys(rule, evidence)
    stored = estimates.summarise(name, seeds, estimates.generator_for(keys)).value
    if stored is None:
        raise Unjudgeable(f"{name} is not defined for {rule.place}")
    spread = estimates.spread(name, seeds, estimates.generator_for(keys))
    if value is not None:
        spread = _scaled(spread, _variance(stored), _variance(value), len(seeds[0].labels))
    at_limit = _variance(rule.limit) if name == "accuracy" else None
    supposed = stored if value is None else value
    return _of_runs((seeds,), supposed, sign * (supposed - rule.limit), spread, at_limit, guessed=value is not None)


def _of_comparison(rule: Comparison, evidence: Evidence, assumption: Assumption) -> Stand:
    name, limit = rule.metric, rule.limit if rule.kind == "superior_to" else -rule.limit
    if name != "accuracy":
        assumption = Assumption()
    try:
        sides = candidate_of(rule, evidence), reference_of(rule, evidence)
    except Unjudgeable as problem:
        if assumption.difference is None or assumption.disagreement is None:
            both = "--difference and --disagreement" if name == "accuracy" else None
            raise _nothing_known(problem, both) from None
        variance = assumption.disagreement - assumption.difference**2
        at_limit = _variance_at(limit, assumption.difference, assumption.disagreement)
        return _of_assumption(rule, evidence, assumption.difference, assumption.difference - limit, variance, at_limit)
    keys, theirs = run_keys(rule, evidence), run_keys_of_reference(rule, evidence)
    found = estimates.difference_of_runs(name, sides[0], keys, sides[1], theirs)
    if found is None:
        raise Unjudgeable(f"{name} is not defined for {rule.place} or for {rule.other.words}")
    spread = Spread(found.se_examples, found.se_seeds)
    if name != "accuracy":
        gap = (found if METRICS[name].higher_is_better else found.turned).value - limit
        return _of_runs(sides, found.value, gap, spread, None, guessed=False)
    stored = _disagreement(*sides)
    difference = found.value if assumption.difference is None else assumption.difference
    disagreement = stored if assumption.disagreement is None else assumption.disagreement
    guessed = assumption.difference is not None or assumption.disagreement is not None
    if guessed:
        _check_possible(difference, disagreement)
        spread = _scaled(spread, stored - found.value**2, disagreement - difference**2, found.n)
    at_limit = _variance_at(limit, difference, disagreement)
    return _of_runs(sides, difference, difference - limit, spread, at_limit, guessed=guessed)


def _of_flips(rule: Flips, evidence: Evidence, assumption: Assumption) -> Stand:
    share: float | None = None
    if assumption.difference is not None and assumption.disagreement is not None:
        share = (assumption.disagreement - assumption.difference) / 2
    try:
        sides = candidate_of(rule, evidence), reference_of(rule, evidence)
    except Unjudgeable as problem:
        if share is None:
            raise _nothing_known(problem, "--difference and --disagreement") from None
        return _of_assumption(rule, evidence, share, rule.limit - share, _variance(share), _variance(rule.limit))
    keys = [*run_keys(rule, evidence), *run_keys_of_reference(rule, evidence)]
    found = estimates.flip_share(*sides, estimates.seeds_generator(keys, "flips"))
    if found is None:
        raise Unjudgeable(f"{rule.place} has no interval: a single cluster does not show how clusters differ")
    spread = Spread(found.se_examples, found.se_seeds)
    if share is not None:
        spread = _scaled(spread, _variance(found.value), _variance(share), found.n)
    supposed = found.value if share is None else share
    at_limit = _variance(rule.limit)
    return _of_runs(sides, supposed, rule.limit - supposed, spread, at_limit, guessed=share is not None)


def _of_drop(rule: Drop, evidence: Evidence, assumption: Assumption) -> Stand:
    name = rule.metric
    try:
        sides = candidate_of(rule, evidence), seeds_of(rule, rule.model, rule.elsewhere, evidence)
    except Unjudgeable as problem:
        raise _nothing_known(problem, None) from None
    keys = run_keys(rule, evidence), run_keys_elsewhere(rule, evidence)
    both = [(side, estimates.generator_for(of_side)) for side, of_side in zip(sides, keys, strict=True)]
    here, there = (estimates.summarise(name, *one).value for one in both)
    if here is None or there is None:
        raise Unjudgeable(f"{name} is not defined for {rule.model} on {rule.split} or {rule.elsewhere}")
    drop = here - there if METRICS[name].higher_is_better else there - here
    both = [(side, estimates.generator_for(of_side)) for side, of_side in zip(sides, keys, strict=True)]
    spreads = [estimates.spread(name, *one) for one in both]
    spread = Spread(*(float(np.hypot(*errors)) for errors in zip(*spreads, strict=True)))
    found = _of_runs(sides, drop, rule.limit - drop, spread, None, guessed=False)
    note = f"examples of {rule.split} and {rule.elsewhere} together, in their present proportion"
    return found._replace(n=sum(len(side[0].labels) for side in sides), clusters=None, note=note)


STANDS: dict[Kind, Callable[[Any, Evidence, Assumption], Stand]] = {
    "min": _of_bound,
    "max": _of_bound,
    "non_inferior_to": _of_comparison,
    "superior_to": _of_comparison,
    "max_flips": _of_flips,
    "max_drop_out_of_domain": _of_drop,
}
"""The rules that are decided by an interval."""


def _of_runs(
    sides: tuple[Seeds, ...], supposed: float, gap: float, spread: Spread, at_limit: float | None, *, guessed: bool
) -> Stand:
    """Compute the position from stored runs.

    Args:
        at_limit: variance per example if the limit were the truth; None for a metric without a score interval, which
            needs one seed a side without clusters.
    """
    outcomes, n = sides[0][0], len(sides[0][0].labels)
    if not spread.se_examples > 0:
        raise Unjudgeable("no resample differs from the stored runs, so they do not show how far this spreads")
    clusters = None if outcomes.clusters is None else len(np.unique(outcomes.clusters))
    exact = at_limit is not None and clusters is None and all(len(side) == 1 for side in sides)
    se_limit = float(np.sqrt(at_limit / n)) if exact and at_limit is not None else None
    return Stand(supposed, gap, n, clusters, spread, se_limit, max(len(side) for side in sides), guessed)


def _of_assumption(
    rule: Rule, evidence: Evidence, supposed: float, gap: float, variance: float, at_limit: float
) -> Stand:
    """Compute the position from an assumption alone.

    Args:
        variance: per example.
        at_limit: variance per example if the limit were the truth.
    """
    n, clusters = count_available(rule, evidence)
    if not n:
        raise Unjudgeable(f"there is no example of {rule.place}")
    note = "assumes one seed a side"
    if clusters is not None:
        note += f"; the design effect of {clusters:,} clusters is unknown without stored runs: more may be needed"
    se_limit = float(np.sqrt(at_limit / n)) if clusters is None else None
    return Stand(supposed, gap, n, clusters, Spread(float(np.sqrt(variance / n)), 0.0), se_limit, 1, True, note)


def _variance(share: float) -> float:
    """Variance per example of being right or flipping; 0 for an impossible share."""
    return max(0.0, share * (1 - share))


def _variance_at(limit: float, difference: float, disagreement: float) -> float:
    """Variance per example of a difference of accuracies if the limit were the truth."""
    shares = (disagreement + difference) / 2, (disagreement - difference) / 2
    return inference.paired_variance(*shares, min(1.0, max(-1.0, limit)))


def _scaled(spread: Spread, stored: float, supposed: float, n: int) -> Spread:
    """Scale standard errors to another variance per example; clusters and seeds have the same effect as in the runs."""
    if stored <= 0:
        return spread._replace(se_examples=float(np.sqrt(supposed / n)))
    return spread._replace(se_examples=spread.se_examples * float(np.sqrt(supposed / stored)))


def _disagreement(candidate: Seeds, reference: Seeds) -> float:
    """Share of examples that exactly one side gets right, averaged over all pairs of seeds."""
    pairs = [sum(disagreements(now, was)) for now in candidate for was in reference]
    return float(np.mean(pairs)) / len(candidate[0].labels)


def _check_possible(difference: float, disagreement: float) -> None:
    if abs(difference) > disagreement + 1e-12:
        raise UsageError(
            f"a difference of {difference:g} is impossible if two sides disagree on {disagreement:.3g} of the "
            "examples: state a larger --disagreement, or a smaller --difference"
        )


def _nothing_known(problem: Unjudgeable, options: str | None) -> Unjudgeable:
    if options is None:
        return Unjudgeable(f"{problem}; only stored runs show how far this spreads")
    return Unjudgeable(f"{problem}; or state an assumption: {options}")


Decidable: TypeAlias = Literal["yes", "no", "never", "unknown", "measured"]
"""With the available examples. `unknown`: too little is stored or assumed. `measured`: costs, which need none."""


@dataclass(frozen=True, slots=True)
class PowerEstimate:
    """Sample size and power of one rule. A field is None where there is no such number."""

    rule: str
    """The rule in words."""
    kind: Kind
    limit: float
    decidable: Decidable
    note: str | None
    """Missing information, or further assumptions."""
    n: int | None = None
    """Available examples: rows of the split or its slice, or of both splits if the rule is about two."""
    clusters: int | None = None
    """Number of their clusters."""
    supposed: float | None = None
    """Assumed truth in the rule's unit: a metric, a difference, a share of flips, a drop."""
    source: Literal["stored", "guessed"] | None = None
    """Source of the assumed truth: the estimate of the stored runs, or an assumption."""
    expected: Literal["pass", "fail"] | None = None
    """Verdict under the assumed truth; None where that is the limit itself."""
    power: float | None = None
    """Probability of that verdict with the available examples."""
    needed: int | None = None
    """Total number of examples for the requested power; None if no number is enough."""
    units_early: int | None = None
    """Median number of units (clusters, else examples) until a gate that stops early is decided, if the assumed truth
    holds; None if more than half of them are undecided on all units, or the rule needs the whole split."""
    units: int | None = None
    """Available units."""
    seconds: float | None = None
    """Estimated time to score them with every seed of both sides, at the speed of the stored runs on this hardware."""
    seeds: int | None = None
    """Seeds of the side that has more of them, where seeds spread too far for any number of examples."""
    seeds_needed: int | None = None
    """Seeds that suffice with `needed_with_seeds` examples; they then use half of the allowed variance."""
    needed_with_seeds: int | None = None


def power_of_rules(
    rules: Sequence[Rule],
    evidence: Evidence,
    assumption: Assumption,
    hardware: Mapping[str, Any],
    power: float = inference.POWER,
) -> list[PowerEstimate]:
    """Estimate power and sample size of each rule, in the given order.

    Args:
        evidence: the examples of the rules' splits, and the stored runs if there are any.
        assumption: takes precedence over stored runs.
        hardware: of this machine. Only runs on the same hardware show how long scoring takes here.
        power: requested probability of a verdict, in [0.5, 1).

    Raises:
        UsageError: the power is out of range, or an assumption contradicts another or the stored runs.
    """
    if not 0.5 <= power < 1:
        raise UsageError(f"--power {power:g}: a probability must be at least 0.5 and below 1")
    return [_power_of_rule(rule, evidence, assumption, hardware, power) for rule in rules]


def _power_of_rule(
    rule: Rule, evidence: Evidence, assumption: Assumption, hardware: Mapping[str, Any], power: float
) -> PowerEstimate:
    if rule.kind not in STANDS:
        return PowerEstimate(
            rule.gate_id, rule.kind, rule.limit, "measured", "needs no examples: it is measured, not sampled"
        )
    try:
        found = stand(rule, evidence, assumption)
    except Unjudgeable as problem:
        return PowerEstimate(
            rule.gate_id, rule.kind, rule.limit, "unknown", str(problem), *count_available(rule, evidence)
        )
    examples, seeds = found.spread
    power = inference.aimed(power, is_error_estimated=found.se_limit is None)
    needed = inference.examples_for(found.gap, examples, seeds, found.n, power, se_limit=found.se_limit)
    seeds_needed = _seeds_for(found, power) if needed is None else None
    return PowerEstimate(
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
        power=inference.power_of(found.gap, examples, seeds, se_limit=found.se_limit),
        needed=needed,
        units_early=units_early(rule, evidence, assumption, found),
        units=found.n if found.guessed else found.clusters or found.n,
        seconds=None if needed is None else _seconds(rule, needed / found.n, evidence, hardware),
        seeds=None if seeds_needed is None else found.seeds,
        seeds_needed=seeds_needed,
        needed_with_seeds=None if seeds_needed is None else _examples_with(seeds_needed, found, power),
    )


def units_early(rule: Rule, evidence: Evidence, assumption: Assumption, found: Stand) -> int | None:
    """Simulate a gate that stops early, and find the median number of units until it is decided.

    Without an assumption, stored units are drawn again with replacement; with one, independent examples.

    Returns:
        None if at least half of the draws are undecided on all units, or if the rule needs the whole split.
    """
    if questions.why_whole(rule) is not None or not isinstance(rule, Bound | Comparison | Flips):
        return None
    asked = questions.question(rule)
    if not asked.low < asked.limit < asked.high:
        return None
    generator, taken = np.random.default_rng(0), []
    draw = _units_assumed(rule, evidence, assumption, found) if found.guessed else _units_stored(rule, evidence, asked)
    for _ in range(EARLY_DRAWS):
        sums, sizes = draw(generator)
        seen = Seen(sums, sizes, int(sizes.max()), float(sizes.mean()), asked.low, asked.high)
        side, units = anytime.first_decision(seen, asked.limit, questions.ends_of_blocks(sizes))
        taken.append(math.inf if side is None else units)
    median = float(np.median(taken))
    return None if math.isinf(median) or math.isnan(median) else int(median)


Units: TypeAlias = tuple[inference.Floats, inference.Ints]
"""Sums of the units' terms, and their sizes: shapes (u,)."""


def _units_stored(
    rule: Bound | Comparison | Flips, evidence: Evidence, asked: questions.Question
) -> Callable[[np.random.Generator], Units]:
    ours = candidate_of(rule, evidence)
    theirs = () if isinstance(rule, Bound) else reference_of(rule, evidence)
    terms = asked.terms([one.scores for one in ours], [one.scores for one in theirs], ours[0].labels)
    codes = estimates.units_of(ours[0])
    sums = np.asarray(np.bincount(codes, terms), dtype=np.float64)
    sizes = np.asarray(np.bincount(codes), dtype=np.int64)

    def draw(generator: np.random.Generator) -> Units:
        chosen = generator.integers(len(sums), size=len(sums))
        return sums[chosen], sizes[chosen]

    return draw


def _units_assumed(
    rule: Bound | Comparison | Flips, evidence: Evidence, assumption: Assumption, found: Stand
) -> Callable[[np.random.Generator], Units]:
    """Draw independent examples: right or wrong, flipped or not, or which of two sides is right."""
    values, chances = [1.0, 0.0], [found.supposed, 1 - found.supposed]
    if isinstance(rule, Comparison):
        disagreement = assumption.disagreement
        if disagreement is None:
            disagreement = _disagreement(candidate_of(rule, evidence), reference_of(rule, evidence))
        gained, lost = (disagreement + found.supposed) / 2, (disagreement - found.supposed) / 2
        values, chances = [1.0, -1.0, 0.0], [gained, lost, 1 - disagreement]
    shares = np.clip(np.array(chances), 0, 1)

    def draw(generator: np.random.Generator) -> Units:
        drawn = generator.choice(np.array(values), size=found.n, p=shares / shares.sum())
        return drawn, np.ones(found.n, dtype=np.int64)

    return draw


def _seeds_for(found: Stand, power: float) -> int | None:
    """Compute the number of seeds that uses up half of the variance that the gap allows."""
    allowed = inference.allowed_error(found.gap, power) ** 2
    return math.ceil(found.seeds * 2 * found.spread.se_seeds**2 / allowed) if allowed > 0 else None


def _examples_with(seeds: int, found: Stand, power: float) -> int | None:
    se_seeds = found.spread.se_seeds * math.sqrt(found.seeds / seeds)
    return inference.examples_for(found.gap, found.spread.se_examples, se_seeds, found.n, power)


def _seconds(rule: Rule, growth: float, evidence: Evidence, hardware: Mapping[str, Any]) -> float | None:
    """Estimate the time to score `growth` times the available examples with every seed of both sides."""
    places: list[Place] = [(model, split) for model in rule.models for split in rule.splits]
    if rule.baseline is not None:  # the same model, as it was
        places *= 2
    runs = [evidence.runs.get(place, ()) for place in places]
    here = [run.seconds for side in runs for run in side if dict(run.hardware) == dict(hardware)]
    if not all(runs) or len(here) < sum(map(len, runs)) or None in here:
        return None
    of_split, (of_rule, _) = len(evidence.examples[rule.split]), count_available(rule, evidence)
    return growth * (of_rule or 0) / of_split * sum(seconds for seconds in here if seconds is not None)
