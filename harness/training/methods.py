"""From a method's name and keyword arguments to a model in which just the right parameters train.

Any PEFT type works by its name in lower case, with its own configuration class's keywords: a new one needs no code.
`full`, which trains every weight of the base, is the one method here that is not PEFT's.
"""

from typing import Any

import torch
from peft import PeftType, TaskType, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from harness.declarations import WITHOUT_PEFT, Adapter
from harness.errors import SuiteError
from harness.models.peft import without_known_warnings


def check(adapters: tuple[Adapter, ...], suite_name: str) -> None:
    """Refuse methods and params that the installed PEFT does not know, before anything is trained.

    Raises:
        SuiteError: lists every such adapter.
    """
    problems = []
    for position, adapter in enumerate(adapters):
        try:
            config(adapter)
        except (ValueError, TypeError) as problem:
            problems.append(f"{suite_name}: adapter[{position}]: {problem}")
    if problems:
        raise SuiteError(problems)


def config(adapter: Adapter) -> Any:
    """The PEFT configuration of an adapter, or None for `full`.

    Raises:
        ValueError: an unknown method, or params that contradict each other.
        TypeError: a keyword that the method's configuration does not have.
    """
    if adapter.method in WITHOUT_PEFT:
        if adapter.params:
            raise ValueError(f"method {adapter.method!r} takes no params")
        return None
    known = {peft_type.value.lower(): peft_type for peft_type in PeftType if peft_type in PEFT_TYPE_TO_CONFIG_MAPPING}
    if adapter.method not in known:
        raise ValueError(f"there is no method {adapter.method!r} (known: {', '.join(sorted([*known, *WITHOUT_PEFT]))})")
    config_class: Any = PEFT_TYPE_TO_CONFIG_MAPPING[known[adapter.method]]
    return config_class(task_type=TaskType.SEQ_CLS, **adapter.params)


def apply(adapter: Adapter, base: torch.nn.Module) -> Any:
    """The base, changed so that what the method trains, and the head, require gradients and nothing else does."""
    peft_config = config(adapter)
    if peft_config is None:
        return base
    with without_known_warnings():
        network = get_peft_model(base, peft_config)
    # A path of this machine has no business in a file that travels, and would change its digest.
    network.peft_config["default"].base_model_name_or_path = adapter.base
    return network
