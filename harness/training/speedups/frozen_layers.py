"""Lower layers in which nothing trains: run once for a whole training, not once per epoch.

    with run_once(network, encoded, folder, precision) as below:
        network(**below.batch(indices))        # begins at the first layer in which something trains

An adapter of the upper layers, or a head alone, leaves the embeddings and the lower layers of its base unchanged. Their
output is computed before the first step, for all texts, and read again in every epoch. They run as in scoring, without
dropout: layers that do not learn need no regularising noise, and each text then has a single output to keep.

Measured gain: 26 % of the CPU time of fitting a LoRA on the two top layers of six for three epochs, in bf16
(`benchmarks/speedups.py`).

The output lies in a file beside the checkpoint, mapped into memory and unlinked: the system keeps as much of it in
memory as fits, and it disappears with the process. A resumed training computes it again, bit for bit. No layers are
frozen on trust: no trainable parameter may contribute to their output, and the network's answers must be bit-identical
with the layers and with their stored output.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.errors import TrainingError
from harness.models import device, speedups
from harness.models.encoding import TOKENS_PER_PASS, Encoded
from harness.models.speedups import shared_layers
from harness.stats.inference import Ints

NAME = ".frozen-layers"
_TRIAL_TEXTS = 4


@dataclass(slots=True)
class FrozenPrefix:
    """Batches of token ids, with the frozen layers' output for the latest batch."""

    encoded: Encoded
    count: int
    """Number of frozen layers; if 0, there is no stored output."""
    seconds: float
    """Seconds that they took to run."""
    kept: torch.Tensor | None = None
    """Stored output: shape (tokens of all texts, width)."""
    starts: Ints | None = None
    """Index in `kept` at which each text begins."""
    given: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    """Output for the latest batch: shape (texts, tokens, width), zeros at padding; empty before the first batch."""

    @property
    def lengths(self) -> Ints:
        """Length of each text in tokens, shape (n,)."""
        return self.encoded.lengths

    def batch(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """Make the batch on which the network must be called next."""
        made = self.encoded.batch(indices)
        if self.kept is not None and self.starts is not None:
            is_text = made["attention_mask"].bool()
            self.given = torch.zeros(*is_text.shape, self.kept.shape[-1], dtype=self.kept.dtype)
            rows = [self.kept[self.starts[i] : self.starts[i] + self.lengths[i]] for i in indices]
            self.given[is_text] = torch.cat(rows)
        return made

    def trial(self) -> dict[str, torch.Tensor]:
        """A batch of a few texts, on which the network may be called as well."""
        return self.batch(self.encoded.trial_texts(_TRIAL_TEXTS))

    def each(self) -> Iterator[torch.Tensor]:
        """Endless iterator over the frozen layers' output, each time for the latest batch."""
        while True:
            yield self.given


@contextmanager
def run_once(network: Any, encoded: Encoded, folder: Path, precision: str) -> Iterator[FrozenPrefix]:
    """Run the frozen layers on all texts, and bypass them within the block.

    Args:
        network: in training mode, before its first step.
        folder: folder for the file with their output.
        precision: precision of the training, fp32 or bf16.

    Raises:
        TrainingError: there is no room in the folder.
    """
    encoded, began = encoded.for_network(network), time.perf_counter()
    is_possible = speedups.is_on("frozen_layers") and device.is_processor(device.of(network))
    layers = shared_layers.layers_of(network) if is_possible else None
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
    """The number of lowest layers that have no trainable parameters in them or below them."""
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
    """Ends a pass once the last frozen layer has returned its output; later layers need not run."""


def _computed(
    network: Any, layer: torch.nn.Module, encoded: Encoded, path: Path, precision: str
) -> tuple[torch.Tensor, Ints]:
    """A layer's output for all texts, as `FrozenPrefix.kept` and `FrozenPrefix.starts`."""
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
                with device.autocast(encoded.where, precision), suppress(_Reached):
                    network(**batch)
                states = found.pop()[batch["attention_mask"].bool()]
                file.write(states.contiguous().view(-1).view(torch.uint8).numpy().data)
                starts[indices] = total + np.cumsum([0, *encoded.lengths[indices][:-1]])
                total += len(states)
        width, dtype = states.shape[-1], states.dtype
        kept = torch.from_file(str(path), shared=False, size=total * width, dtype=dtype).view(total, width)
    except OSError as problem:
        raise TrainingError(
            f"{path}: the output of the frozen layers cannot be written ({problem.strerror}); make room"
        ) from None
    finally:
        hook.remove()
        path.unlink(missing_ok=True)
    return kept, starts
