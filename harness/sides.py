"""Which stored outcomes a rule is about, or why it cannot be judged.

Whatever is missing, stale, failed, counted twice or on other examples ends here: it raises `Unjudgeable`, which fails
the rule with its reason.
"""

from collections.abc import Sequence

from harness import slices
from harness.metrics import subset
from harness.records import AdapterRecord, Baseline, Evidence, Outcomes
from harness.rules import Rule


class Unjudgeable(Exception):
    """Why a rule cannot be judged."""


def candidate_of(rule: Rule, evidence: Evidence) -> tuple[Outcomes, ...]:
    """The model's outcomes, by seed, which must be seeds indeed."""
    found = seeds_of(rule, rule.model, rule.split, evidence)
    seed_of: dict[str, int | None] = {}
    for run in evidence.runs.get((rule.model, rule.split), ()):
        if run.adapter_digest is not None and run.adapter_digest in seed_of:
            same = f"seeds {seed_of[run.adapter_digest]} and {run.seed} of {rule.model} have the same weights"
            raise Unjudgeable(f"{same} ({run.adapter_digest[:12]}): they are one seed counted twice")
        if run.adapter_digest is not None:
            seed_of[run.adapter_digest] = run.seed
    return _cut(rule, found, evidence)


def reference_of(rule: Rule, evidence: Evidence) -> tuple[Outcomes, ...]:
    """The other side's outcomes, by seed, on the same examples."""
    if rule.baseline is None:
        assert rule.reference is not None
        return _cut(rule, seeds_of(rule, rule.reference, rule.split, evidence), evidence)
    place = (rule.model, rule.split)
    baseline = evidence.baselines.get(rule.baseline, Baseline(rule.baseline, {}, frozenset(), "was not looked up"))
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
    if baseline.outcomes[place][0].example_ids != evidence.outcomes[place][0].example_ids:
        raise Unjudgeable(f"baseline {baseline.name} holds other examples of {rule.split} than are scored now")
    return _cut(rule, baseline.outcomes[place], evidence)


def seeds_of(rule: Rule, model: str, split: str, evidence: Evidence) -> tuple[Outcomes, ...]:
    """A model's outcomes on a split, by seed."""
    if (model, split) in evidence.missing or (model, split) not in evidence.outcomes:
        raise Unjudgeable(evidence.missing.get((model, split), f"{model} was not scored on {split}"))
    return evidence.outcomes[model, split]


def _cut(rule: Rule, seeds: Sequence[Outcomes], evidence: Evidence) -> tuple[Outcomes, ...]:
    """Only the rule's slice."""
    if rule.slice is None:
        return tuple(seeds)
    examples = evidence.examples[rule.split]
    if tuple(example.example_id for example in examples) != seeds[0].example_ids:
        raise Unjudgeable(f"{rule.model} was scored on other examples of {rule.split} than the suite names")
    chosen = slices.chosen(rule.slice, examples)
    if not chosen.any():
        raise Unjudgeable(f"no example of {rule.split} is in the slice {rule.slice}")
    return tuple(subset(outcomes, chosen) for outcomes in seeds)


def run_keys(rule: Rule, evidence: Evidence, *, of_reference: bool = False, elsewhere: bool = False) -> tuple[str, ...]:
    """The keys of a side's runs, in the order of its outcomes: whatever is drawn of them is seeded by these.

    Args:
        of_reference: of the other side, and not of the model's own.
        elsewhere: on the split of the other domain.
    """
    if of_reference and rule.baseline is not None:
        kept = evidence.baselines[rule.baseline].run_keys.get((rule.model, rule.split), ())
        return ("baseline", *kept)  # seeds of the same key are drawn for each side alone
    model = rule.reference if of_reference and rule.reference is not None else rule.model
    split = rule.elsewhere if elsewhere and rule.elsewhere is not None else rule.split
    return tuple(run.run_key for run in evidence.runs.get((model, split), ()))


def adapters_of(rule: Rule, evidence: Evidence) -> list[AdapterRecord]:
    """What is known of the training of the model's weights, by seed."""
    candidate_of(rule, evidence)
    digests = [run.adapter_digest for run in evidence.runs[rule.model, rule.split]]
    found = [evidence.adapters[key] for key in digests if key is not None and key in evidence.adapters]
    if len(found) < len(digests):
        raise Unjudgeable(f"the store has no record of the training of {rule.model}")
    return found


def compared(rule: Rule, evidence: Evidence) -> tuple[tuple[Outcomes, ...], tuple[Outcomes, ...]] | None:
    """What a comparison compares, seeds of the model and of its other side, cut to the rule's slice.

    Returns:
        None where the rule compares nothing or cannot be judged.
    """
    if rule.other_side is None or rule.kind == "min_throughput":
        return None
    try:
        return candidate_of(rule, evidence), reference_of(rule, evidence)
    except Unjudgeable:
        return None
