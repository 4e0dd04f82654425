"""The environment in which the same job gives the same weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from harness.models import device
from harness.models.encoding import one_thread


@contextmanager
def deterministic(seed: int, kind: str = device.PROCESSOR) -> Iterator[None]:
    """Seed torch and make it deterministic and single-threaded within the block; its state is restored afterwards.

    On an accelerator, operations of which it has no deterministic form are done with a warning.

    In deterministic mode torch fills new memory before a kernel writes to it. That takes an eighth of the time and only
    makes operations repeatable that read uninitialised memory, so it is off here: training has no such operation, as
    the tests show by training twice.
    """
    memory: Any = torch.utils.deterministic  # its stubs lack its one attribute
    filled_before = memory.fill_uninitialized_memory
    with (
        torch.random.fork_rng(devices=[]),
        device.own_generator(kind),
        one_thread(),
        device.deterministic(kind),
    ):
        torch.manual_seed(seed)
        memory.fill_uninitialized_memory = False
        try:
            yield
        finally:
            memory.fill_uninitialized_memory = filled_before
