"""The suite's own question, answered for every adapter: is it better than its base, and by how much? Pure.

The base is what people have without the adapter: prompted, frozen under a probe, or, by chance, with an untrained head.
Differences are those of `harness compare`: paired by example, with draws seeded by examples and runs.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.provenance import cores
from harness.records import Evidence, Outcomes
from harness.stats import estimates, inference, metrics
from harness.stats.estimates import Difference, Resampled
from harness.stats.inference import ALPHA
from harness.stats.metrics import METRICS
from harness.suite.schema import Model, Suite

Kind = Literal["prompted", "probed", "untrained"]
Outcome = Literal["better", "worse", "undecided", "unknown"]

KINDS: Mapping[str, Kind] = {"prompt": "prompted", "probe": "probed", "transformer": "untrained"}
"""Backends whose models show a base without an adapter; of two that score alike the first is named."""


@dataclass(frozen=True, slots=True)
class Side:
    """A model's runs on one split, one for each declared seed."""

    run_keys: tuple[str, ...]
    outcomes: tuple[Outcomes, ...]
    """Their outcomes, in the same order."""


Sides = Mapping[str, Side]
"""The models of a split that have all their runs, by id."""


@dataclass(frozen=True, slots=True)
class Base:
    """A model that shows what an adapter's base can do without it."""

    model_id: str
    kind: Kind


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


def trained_models(suite: Suite) -> list[tuple[Model, str]]:
    """The models with trained weights and the foundation model of each, in the suite's order; no nulls."""
    adapters = {declared.id: declared.base for declared in suite.adapter}
    nulls = set(suite.null_models.values())
    named = ((model, getattr(model, "adapter", None)) for model in suite.model)
    return [
        (model, adapters[adapter_id]) for model, adapter_id in named if adapter_id is not None and model.id not in nulls
    ]


def bases_of(suite: Suite, base_id: str) -> list[Base]:
    """The declared models that show a foundation model without an adapter, in the order of `KINDS`."""
    found = [
        Base(model.id, KINDS[model.backend])
        for model in suite.model
        if model.backend in KINDS and getattr(model, "base", None) == base_id and not getattr(model, "adapter", None)
    ]
    return sorted(found, key=lambda base: [*KINDS.values()].index(base.kind))


def best_bases(suite: Suite, sides: Sides) -> dict[str, Base]:
    """The base that each foundation model's adapters are held against: its best prompted or probed model on a split.

    An untrained head is chance, and is chosen only where there is no other. A foundation model without any of them is
    absent.

    Args:
        sides: on the suite's first scored split, by which the choice is made for all splits.
    """
    found: dict[str, Base] = {}
    for base_id in dict.fromkeys(base_id for _, base_id in trained_models(suite)):
        scored = [base for base in bases_of(suite, base_id) if base.model_id in sides]
        able = [base for base in scored if base.kind != "untrained"] or scored
        if able:
            found[base_id] = max(able, key=lambda base: _goodness(suite.primary_metric, sides[base.model_id]))
    return found


def _goodness(name: str, side: Side) -> float:
    """The mean over seeds, larger is better; an undefined one is the worst."""
    mean = float(np.mean([metrics.value(name, outcomes) for outcomes in side.outcomes]))
    return -np.inf if np.isnan(mean) else mean if METRICS[name].higher_is_better else -mean


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
    examples = estimates.examples_generator(name, sides[missing[0]].outcomes[0])
    seeds = [estimates.seeds_generator(name, sides[model_id].run_keys) for model_id in missing]
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
    with ThreadPoolExecutor(cores()) as threads:  # numpy draws without Python's lock
        found_on = threads.map(lambda split_id: answers(suite, split_id, sides[split_id], bases), scored)
        return dict(zip(scored, found_on, strict=True))


def of_model(found: Sequence[Answer], model_id: str) -> Answer | None:
    """The answer about a model; None for one without trained weights."""
    return next((answer for answer in found if answer.model_id == model_id), None)
