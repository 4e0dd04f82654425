"""The surroundings in which the same job gives the same weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from harness.models.transformer import one_thread


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Torch seeded, deterministic and single-threaded within the block; its state outside is left as it was."""
    before = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)
