"""The surroundings in which the same job gives the same weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from harness.models.encoding import one_thread


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Torch seeded, deterministic and single-threaded within the block; its state outside is left as it was.

    Memory that a kernel is about to write whole is not filled beforehand, as torch would: that makes operations which
    read what nobody wrote repeatable, and takes an eighth of the time. No operation of a training is one of them, which
    the tests show by training twice.
    """
    memory: Any = torch.utils.deterministic  # whose one attribute its stubs do not know
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
