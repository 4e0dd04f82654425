"""Lower layers in which nothing trains: run once for a whole training, not once an epoch.

    with run_once(network, encoded, folder, precision) as below:
        network(**below.batch(indices))        # begins at the first layer in which something trains

An adapter of the upper layers, or a head alone, leaves the embeddings and the lower layers of its base as they are.
What these give for a text is computed before the first step, for all texts, and read again in every epoch. They are run
as in scoring, without dropout: what cannot learn needs no noise to learn under, and what a text comes to is one thing.

What is kept lies in a file beside the checkpoint, mapped into memory and without a name: the system holds as much of it
in memory as there is room for, and it is gone with the process. A training that is resumed computes it again, to the
same bits. No layers are frozen on trust: nothing that trains may lie below what they give, and the network must answer
the same bits with them as with what they gave.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.errors import TrainingError
from harness.models.encoding import TOKENS_PER_PASS, Encoded
from harness.models.speedups import shared_layers
from harness.stats.inference import Ints

NAME = ".frozen-layers"
_TRIAL_TEXTS = 4


@dataclass(slots=True)
class FrozenPrefix:
    """Batches of token ids, and what the frozen layers give for the one that was asked for last."""

    encoded: Encoded
    count: int
    """Frozen layers; 0 where there are none, and then a batch is all there is."""
    seconds: float
    """That they took to run."""
    kept: torch.Tensor | None = None
    """Shape (tokens of all texts, width)."""
    starts: Ints | None = None
    """Where in `kept` each text begins."""
    given: torch.Tensor | None = None
    """Shape (texts, tokens, width), zeros where there is padding."""

    @property
    def lengths(self) -> Ints:
        """Of each text in tokens, shape (n,)."""
        return self.encoded.lengths

    def batch(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """What the network is to be called on next."""
        made = self.encoded.batch(indices)
        if self.kept is not None and self.starts is not None:
            is_text = made["attention_mask"].bool()
            self.given = torch.zeros(*is_text.shape, self.kept.shape[-1], dtype=self.kept.dtype)
            rows = [self.kept[self.starts[i] : self.starts[i] + self.lengths[i]] for i in indices]
            self.given[is_text] = torch.cat(rows)
        return made

    def trial(self) -> dict[str, torch.Tensor]:
        """A few texts, which the network may be called on as well."""
        return self.batch(self.encoded.trial_texts(_TRIAL_TEXTS))

    def each(self) -> Iterator[torch.Tensor]:
        """For ever, what belongs to the batch that was asked for last."""
        while True:
            assert self.given is not None
            yield self.given


@contextmanager
def run_once(network: Any, encoded: Encoded, folder: Path, precision: str) -> Iterator[FrozenPrefix]:
    """Run the frozen layers on all texts, and leave them out within the block.

    Args:
        network: in training mode, before its first step.
        folder: where what they give is kept.
        precision: of the training, fp32 or bf16.

    Raises:
        TrainingError: there is no room in the folder.
    """
    encoded, layers, began = encoded.for_network(network), shared_layers.layers_of(network), time.perf_counter()
    network.eval()
    count = 0 if layers is None else _count(network, layers, FrozenPrefix(encoded, 0, 0.0).trial())
    if layers is None or count == 0:
        network.train()
        yield FrozenPrefix(encoded, 0, time.perf_counter() - began)
        return
    kept, starts = _computed(network, layers[count - 1], encoded, folder / NAME, precision)
    network.train()
    below = FrozenPrefix(encoded, count, time.perf_counter() - began, kept, starts)
    with shared_layers.without(layers, count, below.each()):
        yield below


def _count(network: Any, layers: torch.nn.ModuleList, trial: dict[str, torch.Tensor]) -> int:
    """How many of the lowest layers have nothing that trains in them or below them."""
    given = shared_layers.given_by(layers, network, trial)
    if given is None:
        return 0
    count = next((index for index, one in enumerate(given) if one.requires_grad), len(given))
    if count == 0:
        return 0
    with torch.no_grad():
        whole = network(**trial).logits
        with shared_layers.without(layers, count, iter([given[count - 1]])):
            upper = network(**trial).logits
    return count if torch.equal(whole, upper) else 0


class _Reached(Exception):
    """The last frozen layer has given what is wanted; what follows need not be run."""


def _computed(
    network: Any, layer: torch.nn.Module, encoded: Encoded, path: Path, precision: str
) -> tuple[torch.Tensor, Ints]:
    """What a layer gives for all texts: `Below.kept` and `Below.starts`."""
    found: list[torch.Tensor] = []

    def reached(_: Any, __: Any, given: torch.Tensor) -> None:
        found.append(given)
        raise _Reached

    starts, total = np.zeros(len(encoded.ids), dtype=np.int64), 0
    hook = layer.register_forward_hook(reached)
    try:
        with torch.no_grad(), path.open("wb") as file:
            for indices in encoded.batches(TOKENS_PER_PASS):
                batch = encoded.batch(indices)
                with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"), suppress(_Reached):
                    network(**batch)
                states = found.pop()[batch["attention_mask"].bool()]
                file.write(states.contiguous().view(-1).view(torch.uint8).numpy().data)
                starts[indices] = total + np.cumsum([0, *encoded.lengths[indices][:-1]])
                total += len(states)
        width, dtype = states.shape[-1], states.dtype
        kept = torch.from_file(str(path), shared=False, size=total * width, dtype=dtype).view(total, width)
    except OSError as problem:
        raise TrainingError(f"{path}: what frozen layers give cannot be kept ({problem.strerror}); make room") from None
    finally:
        hook.remove()
        path.unlink(missing_ok=True)
    return kept, starts
