"""Models that show what a foundation model can do without an adapter: prompted, frozen under a probe, or untrained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.records import Outcomes
from harness.stats import metrics
from harness.stats.metrics import METRICS
from harness.suite.schema import Model, Suite

Kind = Literal["prompted", "probed", "untrained"]

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
