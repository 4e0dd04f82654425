"""Progress of a training on disk, from which a killed training continues to the same weights.

One safetensors file holds all of it: tensors as such, everything else as JSON in its header. There is always a complete
file or none.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from harness.artifacts import atomic
from harness.models import device

NAME = "checkpoint.safetensors"
Tensors: TypeAlias = Mapping[str, dict[str, torch.Tensor]]
"""Tensors by kind and name."""


@dataclass(slots=True)
class Position:
    """Progress of a training. Everything else follows from the job."""

    step: int = 0
    """Completed steps of the optimizer."""
    seconds: float = 0.0
    """Wall time of the loop so far, over all processes that trained it, without time lost when one was killed."""
    tokens: int = 0
    """Tokens trained on, special ones included and padding excluded."""
    examples: int = 0
    """Examples trained on, counted each time."""
    curve: list[list[float]] = field(default_factory=list)
    """Rows of [step, learning rate, loss]."""
    said: list[int] = field(default_factory=lambda: [0, 0])
    """Training rows of this epoch that were predicted as class 0 and as class 1."""
    held_out: list[list[float]] = field(default_factory=list)
    """With early stopping, rows of [epoch, loss on the held-out rows]."""
    peak_bytes: int = 0
    """Largest resident set of any process that trained it."""
    resumed: int = 0
    """Times it was resumed."""


@dataclass(slots=True)
class Pace:
    """Schedule of checkpoints: at least `seconds` apart, and rare enough to cost at most `share` of the time.

    A large model takes seconds to write, a small adapter milliseconds.
    """

    seconds: float = 15.0
    share: float = 0.02
    """Largest share of the training's time to spend on checkpoints."""
    _ended: float = field(default_factory=time.perf_counter)
    _cost_seconds: float = 0.0

    def is_due(self) -> bool:
        """True if a checkpoint should be written now."""
        return time.perf_counter() - self._ended >= max(self.seconds, self._cost_seconds / self.share)

    def wrote(self, began: float) -> None:
        """Record that a checkpoint was written, beginning at this time of `time.perf_counter`."""
        self._ended = time.perf_counter()
        self._cost_seconds = self._ended - began


def write(folder: Path, key: str, position: Position, state: Any, tensors: Tensors) -> None:
    """Replace the last checkpoint with a new one.

    Args:
        key: key of the training.
        state: anything else that is not a tensor, as plain JSON.
        tensors: by kind and name; no kind contains a slash.
    """
    header = {"key": key, "position": json.dumps(asdict(position)), "state": json.dumps(state)}
    header["kinds"] = json.dumps(list(tensors))
    flat = {
        f"{kind}/{name}": device.home(tensor).contiguous()
        for kind, of in tensors.items()
        for name, tensor in of.items()
    }
    with atomic.whole(folder / NAME) as fresh:
        save_file(flat, fresh, header)


def remove(folder: Path) -> None:
    """Remove the checkpoint of a finished training, and those that a killed process left incomplete."""
    for path in (folder / NAME, *folder.glob(f"{atomic.PARTIAL}*")):
        path.unlink(missing_ok=True)


def read(folder: Path, key: str) -> tuple[Position, Any, Tensors] | None:
    """The checkpoint of a training, as passed to `write`; None if there is no usable one."""
    try:
        with safe_open(folder / NAME, framework="pt") as file:
            header = file.metadata()
            if header["key"] != key:
                return None
            tensors: dict[str, dict[str, torch.Tensor]] = {kind: {} for kind in json.loads(header["kinds"])}
            for path in file.keys():  # noqa: SIM118 (no mapping)
                kind, _, name = path.partition("/")
                tensors[kind][name] = file.get_tensor(path)
        return Position(**json.loads(header["position"])), json.loads(header["state"]), tensors
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None
