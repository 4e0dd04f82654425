"""Adaptation methods: from a name and keyword arguments to a model in which exactly the right parameters train.

Any PEFT type works by its name in lower case, with its own configuration class's keywords: a new one needs no code.
Three methods are not PEFT's and serve as references for the others: `full` trains every weight of the base, `bitfit`
its biases (Ben Zaken et al. 2022), `head` none of them. The head on top is always trained.
"""

import copy
import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from peft import PeftType, TaskType, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from harness.models import device, own_format, peft
from harness.models.peft import without_known_warnings
from harness.models.transformer import head_names
from harness.suite import allowed
from harness.suite.schema import WITHOUT_PEFT, Adapter

_CHANGES_BASE = ("pissa", "olora")
"""Beginnings of `init_lora_weights` that move part of the base's weights into the adapter."""
_NEEDS_MORE = {
    "corda": "a pass over data before training",
    "eva": "a pass over data before training",
    "loftq": "a quantised base",
    "lora_ga": "a pass over data before training",
}
"""Values of `init_lora_weights` that would silently mean something else here, with their requirements."""


def config(adapter: Adapter, steps: int) -> Any:
    """The PEFT configuration of an adapter, or None for a method that is not PEFT's.

    Args:
        steps: the optimizer's steps in the whole training, on which AdaLoRA's schedule of ranks depends.

    Raises:
        ValueError: the method is unknown, or params contradict each other.
        TypeError: the method's configuration has no such keyword.
    """
    for place, message in allowed.problems(adapter.params):  # again: not every declaration comes from a suite file
        raise ValueError(f"params.{place} {message}")
    if adapter.method in WITHOUT_PEFT:
        if adapter.params:
            raise ValueError(f"method {adapter.method!r} takes no params")
        return None
    known = {peft_type.value.lower(): peft_type for peft_type in PeftType if peft_type in PEFT_TYPE_TO_CONFIG_MAPPING}
    if adapter.method not in known:
        raise ValueError(f"there is no method {adapter.method!r} (known: {', '.join(sorted([*known, *WITHOUT_PEFT]))})")
    config_class: Any = PEFT_TYPE_TO_CONFIG_MAPPING[known[adapter.method]]
    own = {"total_step": steps} if adapter.method == "adalora" else {}
    # A deep copy: PEFT extends and sorts the lists it receives, and a declaration must not change.
    task = TaskType.SEQ_CLS if adapter.task is None else TaskType.CAUSAL_LM
    made = config_class(task_type=task, **{**own, **copy.deepcopy(adapter.params)})
    _check_supported(made, adapter)
    return made


def _check_supported(made: Any, adapter: Adapter) -> None:
    init = str(getattr(made, "init_lora_weights", None)).lower()
    if init in _NEEDS_MORE:
        raise ValueError(f"init_lora_weights = {init!r} needs {_NEEDS_MORE[init]}, which is not available here")
    if init.startswith(_CHANGES_BASE):
        barred = {"alpha_pattern", "bias", "rank_pattern", "use_dora"}
        for name in sorted(barred & set(adapter.params)):
            raise ValueError(f"init_lora_weights = {init!r} cannot be combined with {name}")
    if made.peft_type == PeftType.ADALORA and adapter.train.early_stopping is not None:
        raise ValueError("adalora allocates ranks by a schedule over all steps, which early_stopping would cut short")
    if getattr(made, "use_asa", False):
        raise ValueError("use_asa keeps importances outside the parameters, which no checkpoint holds")


def changes_base(adapter: Adapter) -> str | None:
    """The part of a declaration that changes, reads or copies weights of the base; None if there is none.

    Raises:
        ValueError, TypeError: as for `config`.
    """
    if adapter.method.upper() not in peft.BESIDE:
        return f"the method {adapter.method} may change weights of the base"
    return peft.changes_base(config(adapter, steps=1))


def apply(adapter: Adapter, base: torch.nn.Module, steps: int) -> Any:
    """Apply a method to the base: the parameters that it trains and the head require gradients, and nothing else."""
    with without_known_warnings():
        peft_config = config(adapter, steps)
        if peft_config is None:
            return _without_peft(adapter.method, base)
        if adapter.task is None:  # a language model answers with its own output layer
            _train_whole_head(peft_config, base)
        with nullcontext() if peft.changes_base(peft_config) else own_format.formats_alone():
            network = get_peft_model(base, peft_config)
    # A local path does not belong in a file that is shared, and would change its digest.
    network.peft_config["default"].base_model_name_or_path = adapter.base
    return network


def _without_peft(method: str, base: Any) -> Any:
    for name, parameter in base.named_parameters():
        in_head = not name.startswith(f"{base.base_model_prefix}.")
        parameter.requires_grad_(in_head or method == "full" or (method == "bitfit" and name.endswith(".bias")))
    return base


def _train_whole_head(peft_config: Any, base: Any) -> None:
    """Have PEFT train and save all parts of a head: by default it takes those named classifier or score."""
    parts = sorted({name.partition(".")[0] for name in head_names(base)})
    others = [part for part in parts if not part.endswith(("classifier", "score"))]
    if others and hasattr(peft_config, "modules_to_save"):
        peft_config.modules_to_save = [*(peft_config.modules_to_save or ()), *others]


def untrained_of_head(network: Any) -> list[str]:
    """The parameters of the head that do not train: left as drawn, they would answer at random."""
    base = network.get_base_model() if hasattr(network, "peft_config") else network
    return [
        name
        for name in head_names(base)
        if not base.get_parameter(name).requires_grad
        and ".original_module." not in name  # PEFT's copy of the initial values
    ]


def initial(network: Any) -> dict[str, torch.Tensor] | None:
    """Initial adapter weights for `settled`, if the method took them out of the base; None for any other method."""
    if not _changes_base(network):
        return None
    state = get_peft_model_state_dict(network, save_embedding_layers=False)
    return {name: tensor.clone() for name, tensor in state.items()}


def settled(network: Any, before: dict[str, torch.Tensor] | None, plain_base: Callable[[], torch.nn.Module]) -> Any:
    """The network in exactly the form that its file has.

    AdaLoRA's file lacks the ranks that its schedule removed; in training they were zeros.

    PiSSA (Meng et al. 2024) and OLoRA (Büyükakyüz 2024) train B·A on W - B₀·A₀. The same matrix is W with a plain LoRA
    of twice the rank, [B | -B₀]·[A; A₀]. PEFT's own conversion on saving drops the head, so it is done here.

    Args:
        network: the trained network.
        before: `initial` of the same network before training.
        plain_base: loads a fresh base for the converted adapter.
    """
    if _allocator(network) is not None and network.active_peft_config.rank_pattern:
        network.base_model.resize_modules_by_rank_pattern(network.active_peft_config.rank_pattern, "default")
    if before is None:
        return network
    state = get_peft_model_state_dict(network, save_embedding_layers=False)
    for name in state:
        if "lora_A" in name:
            state[name] = torch.cat([state[name], before[name]], dim=0)
        elif "lora_B" in name:
            state[name] = torch.cat([state[name], -before[name]], dim=1)
    plain: Any = type(network.active_peft_config)(**network.active_peft_config.to_dict())
    plain.init_lora_weights = True
    plain.r *= 2
    plain.lora_alpha *= math.sqrt(2) if plain.use_rslora else 2
    name_of_base, plain.base_model_name_or_path = plain.base_model_name_or_path, None
    with without_known_warnings():
        converted = get_peft_model(plain_base(), plain)
        set_peft_model_state_dict(converted, state)
    converted.peft_config["default"].base_model_name_or_path = name_of_base
    return converted


def _changes_base(network: Any) -> bool:
    init = getattr(getattr(network, "active_peft_config", None), "init_lora_weights", None)
    return str(init).lower().startswith(_CHANGES_BASE)


def score_as_loaded(network: Any, kernel: str) -> None:
    """Switch a network from the attention kernel that trains faster to the one that it is scored with."""
    (network.get_base_model() if hasattr(network, "peft_config") else network).set_attn_implementation(kernel)


def after_step(network: Any, step: int) -> None:
    """Run a method's own work after an optimizer step: AdaLoRA (Zhang et al. 2023) reallocates its ranks.

    Args:
        step: the optimizer's step, from 1.
    """
    if hasattr(network, "peft_config") and hasattr(network.base_model, "update_and_allocate"):
        network.base_model.update_and_allocate(step)


_IMPORTANCES = ("ipt", "exp_avg_ipt", "exp_avg_unc")


def kept_state(network: Any) -> tuple[dict[str, torch.Tensor], Any]:
    """State that a method keeps between steps outside its parameters: AdaLoRA's importances, and its ranks as JSON."""
    allocator = _allocator(network)
    if allocator is None:
        return {}, None
    tensors = {f"{kind}/{name}": tensor for kind in _IMPORTANCES for name, tensor in getattr(allocator, kind).items()}
    return tensors, network.active_peft_config.rank_pattern


def restore_kept_state(network: Any, tensors: dict[str, torch.Tensor], ranks: Any) -> None:
    """Restore the result of `kept_state`."""
    allocator = _allocator(network)
    if allocator is None:
        return
    allocator.reset_ipt()
    for key, tensor in tensors.items():
        kind, _, name = key.partition("/")
        getattr(allocator, kind)[name] = tensor.to(device.of(network))
    network.active_peft_config.rank_pattern = ranks


def _allocator(network: Any) -> Any:
    return getattr(network.base_model, "rankallocator", None) if hasattr(network, "peft_config") else None
