"""Networks that keep their weights in bfloat16, as their file has them, and compute in float32, one module at a time.

    if own_format.is_bf16(folder):
        network = language_model.causal(folder, dtype=torch.bfloat16)
        with own_format.in_float32(network):
            network(…)                  # as if it had been loaded in float32
        network(…)                      # in bfloat16

A network that is scored in bf16 is proven in float32 first. Loading it in float32 for that takes twice the memory of
its file, and more while it is rounded. Every bfloat16 is a float32, so a module whose weights are widened when it is
called computes exactly what it would with weights that were loaded in float32. Afterwards they are narrow again.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from harness.models import weight_files

AT_ONCE = 2**20
"""Numbers of a linear layer's weights that are widened at a time, in whole rows: 4 MiB, where an output layer may take
gigabytes."""


def is_bf16(folder: Path) -> bool:
    """Report whether all numbers of a base's weights are bfloat16."""
    return weight_files.formats(folder, str(folder)) == {"BF16"}


def has_wide_buffers(network: torch.nn.Module) -> bool:
    """Report whether a network computed its own constants, such as frequencies of positions, in float32 or better."""
    return all(one.dtype != torch.bfloat16 for one in network.buffers())


@contextmanager
def in_float32(network: torch.nn.Module) -> Iterator[None]:
    """Compute in float32 within the block."""
    narrow = [module for module in network.modules() if any(map(_is_narrow, module._parameters.values()))]
    room = _room(narrow)
    with ExitStack() as stack:
        for module in narrow:
            _widen(module, room, stack)
        yield


def _is_narrow(parameter: torch.Tensor | None) -> bool:
    return parameter is not None and parameter.dtype == torch.bfloat16


def _widen(module: Any, room: torch.Tensor, stack: ExitStack) -> None:
    if type(module) is torch.nn.Embedding:  # only the rows that are looked up
        handle = module.register_forward_hook(lambda _, __, given: given.float())
        stack.callback(handle.remove)
        return
    if type(module) is torch.nn.Linear:
        setattr(module, "forward", partial(_in_parts, module, room))  # noqa: B010 (it hides the method of the class)
        stack.callback(delattr, module, "forward")
        return
    kept: dict[str, torch.nn.Parameter] = {}

    def before(*_: Any) -> None:
        for name, one in module._parameters.items():
            if _is_narrow(one):
                kept[name] = one
                module._parameters[name] = torch.nn.Parameter(one.detach().float(), requires_grad=False)

    def after(*_: Any) -> None:
        module._parameters.update(kept)

    for handle in (module.register_forward_pre_hook(before), module.register_forward_hook(after, always_call=True)):
        stack.callback(handle.remove)


def _in_parts(module: torch.nn.Linear, room: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """The output of a linear layer, whose weights are widened in `room`; of one with many, some rows after the other.

    All layers share the room. Blocks of their own would leave holes of many sizes in the heap, which add up to a
    quarter of the weights.
    """
    weight, parts = module.weight, []
    rows = max(1, AT_ONCE // weight.shape[1])
    for start in range(0, len(weight), rows):
        narrow = weight[start : start + rows]
        wide = room[: narrow.numel()].view(narrow.shape).copy_(narrow)
        bias = None if module.bias is None else module.bias[start : start + rows].float()
        parts.append(torch.nn.functional.linear(given, wide, bias))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def _room(modules: Sequence[torch.nn.Module]) -> torch.Tensor:
    """Memory for as many widened weights as a linear layer needs at a time."""
    weights = [module.weight for module in modules if type(module) is torch.nn.Linear]
    most = max((max(min(AT_ONCE, one.numel()), one.shape[1]) for one in weights), default=0)
    return torch.empty(most, device=weights[0].device if weights else None)
