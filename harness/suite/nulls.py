"""Null adapters: the same recipe on permuted labels, declared by `null_seeds` and written out as tables of their own.

An adapter that does not stand clear of its null has not shown that it learned anything from its labels.
"""

from collections.abc import Mapping

from harness.suite.schema import NULL_SUFFIX, Adapter, Suite


def expanded(suite: Suite) -> Suite:
    """Add to a suite the null of every adapter that asks for one, and of every model that uses such an adapter."""
    adapters = {
        adapter.id: _null(adapter) for adapter in suite.trained_adapters if adapter.train.null_seeds is not None
    }
    used = [model for model in suite.model if getattr(model, "adapter", None) in adapters]
    models = [
        model.model_copy(update={"id": model.id + NULL_SUFFIX, "adapter": getattr(model, "adapter", "") + NULL_SUFFIX})
        for model in used
    ]
    return suite.model_copy(update={"adapter": (*suite.adapter, *adapters.values()), "model": (*suite.model, *models)})


def _null(adapter: Adapter) -> Adapter:
    train = adapter.train.model_copy(update={"seeds": adapter.train.null_seeds, "null_seeds": None})
    changed: Mapping[str, object] = {
        "id": adapter.id + NULL_SUFFIX,
        "labels": "permuted",
        "trials": None,
        "train": train,
    }
    return adapter.model_copy(update=changed)
