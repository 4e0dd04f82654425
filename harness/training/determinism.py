"""The environment in which the same job gives the same weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from harness.models.encoding import one_thread


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Seed torch and make it deterministic and single-threaded within the block; its state is restored afterwards.

    In deterministic mode torch fills new memory before a kernel writes to it. That takes an eighth of the time and only
    makes operations repeatable that read uninitialised memory, so it is off here: training has no such operation, as
    the tests show by training twice.
    """
    memory: Any = torch.utils.deterministic  # its stubs lack its one attribute
    deterministic_before, filled_before = torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        memory.fill_uninitialized_memory = False
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic_before)
            memory.fill_uninitialized_memory = filled_before
