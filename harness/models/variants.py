"""Variants of one trained network: the precision of its weights, and the runtime that computes it.

A variant is a runtime and a precision. `torch fp32` is the reference: nothing merged, nothing rounded. Every other
variant is merged first, where the method merges, since an adapter beside its base costs time.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch

from harness.models import own_format
from harness.models.classifier import ModelInputs

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def made(runtime: str, precision: str, network: Callable[[], Any], ingredients: ModelInputs) -> Callable[..., Any]:
    """A network in a variant, as a function from `input_ids` and `attention_mask` to an object with `logits`.

    Args:
        runtime: torch or openvino.
        precision: fp32, bf16, or for openvino int8.
        network: loads it in float32, in evaluation mode; not called if a converted one is kept.

    Raises:
        RunError: it cannot be converted.
        UsageError: the runtime is not installed.
    """
    if runtime == "openvino":
        from harness.models import openvino

        return openvino.compiled(precision, lambda: own_format.widened(merged(network())), ingredients)
    if precision == "fp32":
        as_it_is: Callable[..., Any] = network()
        return as_it_is
    try:
        whole = _merged_itself(network())
    except _NOT_MERGEABLE:
        whole = network()  # again: PEFT may have merged part of it before it failed
    rounded: Callable[..., Any] = own_format.rounded(whole, DTYPES[precision])
    return rounded


_NOT_MERGEABLE = (NotImplementedError, AttributeError, ValueError, TypeError)
"""Errors with which PEFT reports that a method cannot be merged."""


def merged(network: Any) -> Any:
    """The network with its adapter merged into the base, if the method and the base can be merged; else the network.

    The network's answers are left unchanged.
    """
    try:
        return _merged_itself(copy.deepcopy(network)) if hasattr(network, "peft_config") else network
    except _NOT_MERGEABLE:
        return network


def _merged_itself(network: Any) -> Any:
    """Merge in place, without a second network in memory; raises one of `_NOT_MERGEABLE`.

    A base in 4 bits stays as it is, with the adapter beside it: rounding the sum to 4 bits would give other answers.
    """
    merge = getattr(getattr(network, "base_model", None), "merge_and_unload", None)
    if not hasattr(network, "peft_config") or merge is None or own_format.is_packed(network):
        return network
    own_format.widened(network)
    return network.merge_and_unload(safe_merge=True).eval()
