"""The suite's own question, answered for every adapter: is it better than its base, and by how much? Pure.

The base is what people have without the adapter: prompted, frozen under a probe, or, by chance, with an untrained head.
Differences are those of `harness compare`: paired by example, with draws seeded by examples and runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.evaluation.unadapted import Base, Side, Sides, best_bases, trained_models
from harness.records import Evidence
from harness.stats import estimates, inference
from harness.stats.estimates import Difference, Resampled
from harness.stats.inference import ALPHA
from harness.stats.metrics import METRICS
from harness.suite.schema import Suite

Outcome = Literal["better", "worse", "undecided", "unknown"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A trained model on one split, held against its base."""

    model_id: str
    base_id: str
    """The foundation model."""
    split_id: str
    base: Base | None
    """None where the suite declares no such model, or none has all its runs."""
    lead: Difference | None
    """Its advantage over the base in the primary metric's unit: positive is better whichever direction is good. None
    where a side has not all its runs, or there is no interval."""
    adjusted_p: float | None
    """The lead's p-value, corrected over all answers of the split (Holm)."""
    null_id: str | None = None
    """The same recipe on permuted labels; None where the suite asks for none."""
    over_null: Difference | None = None
    """Its advantage over its null, as `lead`."""
    null_p: float | None = None
    """That advantage's p-value, corrected over all nulls of the split (Holm)."""

    @property
    def clear_of_null(self) -> bool | None:
        """True if the data show that it is better than its null; None where that is not known."""
        if self.over_null is None or self.null_p is None:
            return None
        return self.null_p < ALPHA and self.over_null.ci_low > 0

    @property
    def outcome(self) -> Outcome:
        """`better` and `worse` where the data show it after the correction."""
        if self.lead is None or self.adjusted_p is None:
            return "unknown"
        if self.adjusted_p < ALPHA and self.lead.ci_low > 0:
            return "better"
        return "worse" if self.adjusted_p < ALPHA and self.lead.ci_high < 0 else "undecided"


def answers(
    suite: Suite, split_id: str, sides: Sides, bases: Mapping[str, Base], drawn: Mapping[str, Resampled] | None = None
) -> tuple[Answer, ...]:
    """Hold every model with trained weights against its base on one split, in the suite's order.

    Args:
        sides: on that split.
        bases: by foundation model, from `best_bases`.
        drawn: what `estimates.resampled` has drawn of these sides already, seeded as by `harness compare`.
    """
    held = [(model, base_id, bases.get(base_id)) for model, base_id in trained_models(suite)]
    pairs = {
        model.id: base.model_id
        for model, _, base in held
        if base is not None and model.id in sides and base.model_id in sides
    }
    nulls = {one: null for one, null in suite.null_models.items() if one in sides and null in sides}
    wanted = [*pairs, *pairs.values(), *nulls, *nulls.values()]
    known = _resampled(suite.primary_metric, sides, wanted, drawn or {})
    leads, adjusted = _tested(pairs, known)
    over_null, null_p = _tested(nulls, known)
    return tuple(
        Answer(
            model.id,
            base_id,
            split_id,
            base,
            leads.get(model.id),
            adjusted.get(model.id),
            suite.null_models.get(model.id),
            over_null.get(model.id),
            null_p.get(model.id),
        )
        for model, base_id, base in held
    )


def _tested(
    pairs: Mapping[str, str], known: Mapping[str, Resampled]
) -> tuple[dict[str, Difference | None], dict[str, float]]:
    """The leads of models over others, and their corrected p-values."""
    leads = {model_id: _lead(known[model_id], known[other_id]) for model_id, other_id in pairs.items()}
    tested = {model_id: lead.p_value for model_id, lead in leads.items() if lead is not None}
    return leads, dict(zip(tested, inference.holm([*tested.values()]), strict=True))


def _lead(model: Resampled, base: Resampled) -> Difference | None:
    found = estimates.between(model, base)
    return found if found is None or METRICS[model.name].higher_is_better else found.turned


def _resampled(
    name: str, sides: Sides, wanted: Sequence[str], drawn: Mapping[str, Resampled]
) -> Mapping[str, Resampled]:
    """Add the wanted models that are missing: what is drawn depends on examples and own runs, not on the company."""
    missing = [model_id for model_id in dict.fromkeys(wanted) if model_id not in drawn]
    if not missing:
        return drawn
    examples = estimates.examples_generator(sides[missing[0]].outcomes[0])
    seeds = [estimates.seeds_generator(sides[model_id].run_keys) for model_id in missing]
    found = estimates.resampled(name, [sides[model_id].outcomes for model_id in missing], examples, seeds)
    return {**drawn, **dict(zip(missing, found, strict=True))}


def of_evidence(suite: Suite, found: Evidence, splits: Sequence[str]) -> dict[str, tuple[Answer, ...]]:
    """The answers on every split of stored results, by split in the given order.

    Args:
        splits: the suite's scored splits; the bases are chosen on the first one that has results.
    """
    sides: dict[str, dict[str, Side]] = {split_id: {} for split_id in splits}
    for (model_id, split_id), outcomes in found.outcomes.items():
        keys = tuple(run.run_key for run in found.runs[model_id, split_id])
        sides[split_id][model_id] = Side(keys, outcomes)
    scored = [split_id for split_id in splits if sides[split_id]]
    bases = best_bases(suite, sides[scored[0]]) if scored else {}
    return {split_id: answers(suite, split_id, sides[split_id], bases) for split_id in scored}


def of_model(found: Sequence[Answer], model_id: str) -> Answer | None:
    """The answer about a model; None for one without trained weights."""
    return next((answer for answer in found if answer.model_id == model_id), None)
