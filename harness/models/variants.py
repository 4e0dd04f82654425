"""Variants of one trained network: what its weights are rounded to, and what computes it.

A variant is a runtime and a precision. `torch fp32` is the reference: nothing merged, nothing rounded. Every other
variant is merged first, where the method merges, since an adapter beside its base costs time.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch

from harness.models.classifier import ModelInputs

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def made(runtime: str, precision: str, network: Callable[[], Any], ingredients: ModelInputs) -> Callable[..., Any]:
    """A network in a variant, from `input_ids` and `attention_mask` to something with `logits`.

    Args:
        runtime: torch or openvino.
        precision: fp32, bf16, or for openvino int8.
        network: loads it in float32, in evaluation mode; not called where a converted one is kept.

    Raises:
        RunError: it cannot be converted.
        UsageError: the runtime is not installed.
    """
    if runtime == "openvino":
        from harness.models import openvino

        return openvino.compiled(precision, lambda: merged(network()), ingredients)
    if precision == "fp32":
        as_it_is: Callable[..., Any] = network()
        return as_it_is
    try:
        whole = _merged_itself(network())
    except _NOT_MERGEABLE:
        whole = network()  # anew: PEFT may have merged some of it before it said so
    rounded: Callable[..., Any] = whole.to(DTYPES[precision])
    return rounded


_NOT_MERGEABLE = (NotImplementedError, AttributeError, ValueError, TypeError)
"""PEFT says so in all of these."""


def merged(network: Any) -> Any:
    """The same function without an adapter beside the base, where the method has such a thing; else the network.

    The network is left as it was.
    """
    try:
        return _merged_itself(copy.deepcopy(network)) if hasattr(network, "peft_config") else network
    except _NOT_MERGEABLE:
        return network


def _merged_itself(network: Any) -> Any:
    """Without a second network in memory; raises one of `_NOT_MERGEABLE`."""
    merge = getattr(getattr(network, "base_model", None), "merge_and_unload", None)
    if not hasattr(network, "peft_config") or merge is None:
        return network
    return network.merge_and_unload(safe_merge=True).eval()
