"""Frozen weights rounded to bf16 once for a whole training instead of in every pass.

    with frozen_weights.once(network):
        network(…)                  # under torch's autocast to bf16

Autocast caches its rounding of trainable weights, but rounds all others again in every pass. A frozen base consists of
little else, so here each of its linear layers keeps a bf16 copy of its weights beside those in fp32. The answers are
bit-identical. PEFT also widens the input of a LoRA's matrices to fp32, only for autocast to round it again: that is
switched off.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from peft import LoraConfig
from peft.helpers import disable_input_dtype_casting
from torch.nn.functional import linear

from harness.models import speedups


@contextmanager
def once(network: Any) -> Iterator[None]:
    """Use the rounded weights within the block, for passes under autocast to bf16; other passes are unchanged.

    Args:
        network: a network whose frozen weights do not change within the block.
    """
    if not speedups.is_on("frozen_weights"):
        yield
        return
    frozen: list[Any] = [one for one in network.modules() if type(one) is torch.nn.Linear and _is_frozen(one)]
    is_lora = isinstance(getattr(network, "active_peft_config", None), LoraConfig)
    try:
        for module in frozen:
            bias = None if module.bias is None else module.bias.detach().bfloat16()
            module.forward = partial(_forward, module.forward, module.weight.detach().bfloat16(), bias)
        with disable_input_dtype_casting(network, active=is_lora):
            yield
    finally:
        for module in frozen:
            del module.forward


def _is_frozen(module: torch.nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in module.parameters())


def _forward(as_it_was: Any, weight: torch.Tensor, bias: torch.Tensor | None, given: torch.Tensor) -> Any:
    return linear(given, weight, bias) if torch.is_autocast_enabled("cpu") else as_it_was(given)
