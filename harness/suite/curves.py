"""Learning curves: models on nested subsets of their training rows.

A `[[curve]]` declares a model, the models that it has to beat, numbers of rows, and seeds. `expanded` writes every
point out as an ordinary model, with an ordinary adapter where it has one, on a training split of its own::

    whole = expanded(suite)         # the suite with the models and adapters of all points
    points(whole)                   # these models, each with the subset of training rows that it stands for
    whole.declared                  # the suite as in the file

So points are planned, trained, scored, stored, verified and resumed like all models, and nothing else has to know of
them. Whatever is about the declared suite alone (its digest, its ranking, its rules) takes it unexpanded.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

from harness.suite.load import by_id
from harness.suite.schema import Adapter, Curve, Model, Suite


@dataclass(frozen=True, slots=True)
class Subset:
    """A training split that is part of another one."""

    split_id: str
    of: str
    """The whole split."""
    rows: int
    seed: int
    """Seed of an order of the whole split, of which the subset is the beginning."""
    balanced: bool
    """If true, it has as many rows of either label; if not, the whole split's share of each."""


@dataclass(frozen=True, slots=True)
class Point:
    """A model of a curve on one subset."""

    model_id: str
    """Id of the derived model."""
    of: str
    """The declared model."""
    subset: Subset


def expanded(suite: Suite) -> Suite:
    """Add to a suite the model at each point of its curves, and the adapter that it needs."""
    models, adapters = dict[str, Model](), dict[str, Adapter]()
    for curve in suite.curve:
        for point in _points(suite, curve):
            model, adapter = by_id(suite.model, point.of), _trained(suite, point.of)
            changed: dict[str, object] = {"id": point.model_id}
            if adapter is None:
                changed["train_split"] = point.subset.split_id
            else:
                derived = _on_subset(curve, adapter, point.subset)
                adapters[derived.id] = derived
                changed["adapter"] = derived.id
            if hasattr(model, "precision"):  # points need no choice of a variant, and no check of one
                changed["precision"] = "fp32"
            if hasattr(model, "runtime"):
                changed["runtime"] = "torch"
            models[point.model_id] = model.model_copy(update=changed)
    return suite.model_copy(
        update={"model": (*suite.model, *models.values()), "adapter": (*suite.adapter, *adapters.values())}
    )


def points(suite: Suite, curve_ids: Collection[str] = ()) -> list[Point]:
    """List the points of a suite's curves in the file's order, those with the fewest rows first.

    Args:
        curve_ids: only of these curves; of all where empty.
    """
    chosen = [curve for curve in suite.curve if not curve_ids or curve.id in curve_ids]
    return [point for curve in chosen for point in _points(suite, curve)]


def _points(suite: Suite, curve: Curve) -> list[Point]:
    found = []
    for model_id in (curve.model, *curve.against):
        if (split_id := trained_on(suite, model_id)) is None:
            continue
        for rows in curve.rows:
            for seed in curve.seeds:
                part = Subset(curve.point_id(split_id, rows, seed), split_id, rows, seed, curve.balanced)
                found.append(Point(curve.point_id(model_id, rows, seed), model_id, part))
    return found


def trained_on(suite: Suite, model_id: str) -> str | None:
    """The split on which a model, or its adapter, is trained here; None for one that is not."""
    adapter = _trained(suite, model_id)
    split_id: str | None = getattr(by_id(suite.model, model_id), "train_split", None)
    return split_id if adapter is None else adapter.train.split


def _trained(suite: Suite, model_id: str) -> Adapter | None:
    """The adapter of a model, if the suite trains it."""
    named = getattr(by_id(suite.model, model_id), "adapter", None)
    return next((adapter for adapter in suite.trained_adapters if adapter.id == named), None)


def _on_subset(curve: Curve, adapter: Adapter, part: Subset) -> Adapter:
    """An adapter as it is declared, but trained on a subset with its seed, and for enough steps."""
    how = adapter.train
    per_epoch = math.ceil(math.ceil(part.rows / how.batch_size) / (how.accumulate or 1))
    train = how.model_copy(
        update={
            "split": part.split_id,
            "seeds": (part.seed,),
            "null_seeds": None,
            "epochs": max(how.epochs, math.ceil((curve.min_steps or 0) / per_epoch)),
        }
    )
    return adapter.model_copy(update={"id": curve.point_id(adapter.id, part.rows, part.seed), "train": train})
