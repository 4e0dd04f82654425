"""Lower layers that a network shares with its base: computed once, with their output reused by other networks.

    shared = found(network, of_base, trial, folder)     # None if nothing can be shared
    with reused(shared, texts, shapes) as borrowed:     # the network is called on these batches, in order
        …

Adapters of the upper layers, heads and the probe leave the embeddings and the lower k layers of an encoder unchanged.
The output of those depends only on the base, k, the precision and the texts. The first network computes and caches it;
later networks continue from there. The answers are bit-identical: batches follow from the texts' lengths, so the upper
layers multiply the same numbers in the same shapes.

Measured gain: scoring four adapters of the two top layers on 300 texts takes 0.42 times as long, 0.46 with loading
(`benchmarks/adapters.py`). On 60 texts loading outweighs it, and 3 % of the CPU time is saved
(`benchmarks/speedups.py`).

Nothing is shared on trust. Modules and tensors of the lower layers must be the base's, bit for bit; their output for
trial texts must equal the base's; and the whole network's answers to those texts must be bit-identical with and without
the lower layers. If any of this fails, or the encoder is built differently, the network is left unchanged.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness import provenance
from harness.artifacts import digest
from harness.models import speedups
from harness.models.speedups import state_cache
from harness.models.speedups.state_cache import MOST_BYTES

Batch = Mapping[str, torch.Tensor]
OTHERWISE_BUILT = (AttributeError, TypeError, RuntimeError)
"""Errors of an encoder that asks its layers for more than their output, when stand-ins take their places."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Digests and trial outputs of a network's layers, for comparison with its base's."""

    below: str
    """Digest of the encoder without its layers (64 hex digits)."""
    layers: tuple[str, ...]
    """Digest of each layer."""
    given: tuple[torch.Tensor, ...]
    """Output of each layer for the trial texts: shape (texts, tokens, width)."""


@dataclass(frozen=True, slots=True)
class SharedLayers:
    """The lower layers that a network shares with its base."""

    layers: torch.nn.ModuleList
    """All layers of the encoder."""
    count: int
    """Number of shared layers, from the lowest; at least 1."""
    width: int
    dtype: torch.dtype
    made_of: Mapping[str, Any]
    """Everything besides the texts that determines their output."""
    folder: Path | None
    """Folder that caches their output; None to cache none."""
    most_bytes: int = MOST_BYTES
    """Limit on the folder's files together."""

    @property
    def is_all(self) -> bool:
        """True if no layer is the network's own."""
        return self.count == len(self.layers)


def found(
    network: Any,
    of_base: Callable[[torch.dtype], Fingerprint | None],
    trial: Batch,
    folder: Path | None,
    most_bytes: int = MOST_BYTES,
) -> SharedLayers | None:
    """Find the lower layers that a network shares with its base; None if there are none that can be shared.

    Args:
        network: a transformers model in evaluation mode, with or without a PEFT adapter.
        of_base: returns the base's `fingerprint` in a precision.
        trial: a batch to try both on.
        folder: folder that caches states; None to cache none.
        most_bytes: limit on the folder's files together.
    """
    is_of_prompts = getattr(getattr(network, "active_peft_config", None), "is_prompt_learning", False)
    layers = None if is_of_prompts or not speedups.is_on("shared_layers") else layers_of(network)
    mine = None if layers is None else fingerprint(network, trial)
    if layers is None or mine is None:
        return None
    dtype = mine.given[0].dtype
    its = of_base(dtype)
    count = 0 if its is None else _common(mine, its)
    if its is None or count == 0 or not torch.equal(mine.given[count - 1], its.given[count - 1]):
        return None
    made_of = {
        "below": mine.below,
        "layers": list(mine.layers[:count]),
        "dtype": str(dtype),
        "packages": {name: provenance.packages().get(name) for name in ("torch", "transformers")},
        "processor": [provenance.hardware()["processor"], torch.backends.cpu.get_cpu_capability()],
    }
    shared = SharedLayers(layers, count, mine.given[0].shape[-1], dtype, made_of, folder, most_bytes)
    with torch.inference_mode():
        whole = network(**trial)[0]
        try:
            with without(layers, count, iter([mine.given[count - 1]])):
                upper = network(**trial)[0]
        except OTHERWISE_BUILT:
            return None
    return shared if torch.equal(whole, upper) else None


def _common(mine: Fingerprint, its: Fingerprint) -> int:
    """The number of lower layers that are the same."""
    if mine.below != its.below or len(mine.layers) != len(its.layers):
        return 0
    same = [one == other for one, other in zip(mine.layers, its.layers, strict=True)]
    return same.index(False) if False in same else len(same)


def fingerprint(network: Any, trial: Batch) -> Fingerprint | None:
    """The fingerprint of a network's layers; None if it has no list of layers that are called once each, in order.

    Args:
        network: in evaluation mode; in training mode it has no fingerprint.
    """
    encoder, layers = _encoder(network), layers_of(network)
    if layers is None or network.training:
        return None
    with torch.inference_mode():
        given = given_by(layers, network, trial)
    if given is None:
        return None
    config = {name: str(value) for name, value in encoder.config.to_dict().items() if name not in _NOT_OF_THE_ENCODER}
    config["attention"] = str(encoder.config._attn_implementation)
    inside = {id(module) for module in layers.modules()} - {id(layers)}
    below = digest.of_json([config, _digest(encoder, inside)])
    return Fingerprint(below, tuple(_digest(layer, set()) for layer in layers), given)


def given_by(layers: torch.nn.ModuleList, network: Any, batch: Batch) -> tuple[torch.Tensor, ...] | None:
    """The output of each layer while the network reads a batch; None unless each is called once, in order, and returns
    one tensor of shape (texts, tokens, width)."""
    called: list[tuple[int, Any]] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, given, index=index: called.append((index, given)))
        for index, layer in enumerate(layers)
    ]
    try:
        network(**batch)
    finally:
        for hook in hooks:
            hook.remove()
    shape = batch["input_ids"].shape
    in_order = [index for index, _ in called] == list(range(len(layers)))
    if not in_order or any(not isinstance(given, torch.Tensor) or given.shape[:-1] != shape for _, given in called):
        return None
    return tuple(given for _, given in called)


_NOT_OF_THE_ENCODER = {
    "_name_or_path", "architectures", "classifier_dropout", "dtype", "id2label", "label2id", "problem_type",
    "seq_classif_dropout", "transformers_version",
}  # fmt: skip
"""Keys of a configuration that do not affect the encoder."""


def _encoder(network: Any) -> Any:
    inner = network.get_base_model() if hasattr(network, "get_base_model") else network
    return inner.base_model


def layers_of(network: Any) -> torch.nn.ModuleList | None:
    """The encoder's list of layers: the only one with as many modules as its configuration states layers."""
    encoder = _encoder(network)
    count = encoder.config.num_hidden_layers
    lists = [one for one in encoder.modules() if isinstance(one, torch.nn.ModuleList) and len(one) == count]
    return lists[0] if len(lists) == 1 else None


def _digest(module: torch.nn.Module, without: set[int]) -> str:
    """SHA-256 over names, kinds, settings and tensors of a module and its submodules, except some given by id."""
    summed = hashlib.sha256()
    for name, one in module.named_modules():
        if id(one) in without:
            continue
        summed.update(f"{name} {type(one).__module__}.{type(one).__qualname__} {one.extra_repr()}\n".encode())
        for own in (one.named_parameters(recurse=False), one.named_buffers(recurse=False)):
            for tensor_name, tensor in own:
                summed.update(f"{tensor_name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
                summed.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy())
    return summed.hexdigest()


class _StandIn(torch.nn.Module):
    """Stand-in for a layer, with its settings: some networks look up a layer's `attention_type` before they call it."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        for name, value in vars(layer).items():
            if not name.startswith("_") and isinstance(value, str | int | float):
                setattr(self, name, value)


class _Passing(_StandIn):
    """Stand-in for a lower layer: returns its input."""

    def forward(self, given: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return given


class _Giving(_StandIn):
    """Stand-in for the highest of the lower layers: returns that layer's cached output, batch by batch."""

    def __init__(self, layer: torch.nn.Module, kept: Iterator[torch.Tensor]) -> None:
        super().__init__(layer)
        self.kept = kept

    def forward(self, given: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        kept = next(self.kept)
        if kept.shape != given.shape:
            raise RuntimeError(f"the kept states have shape {tuple(kept.shape)}, not {tuple(given.shape)}")
        return kept


@contextmanager
def without(layers: torch.nn.ModuleList, count: int, kept: Iterator[torch.Tensor]) -> Iterator[None]:
    """Run the network without its lowest `count` layers (at least 1) within the block, given their output by batch."""
    taken_out = list(layers[:count])
    try:
        for index in range(count - 1):
            layers[index] = _Passing(layers[index])
        layers[count - 1] = _Giving(layers[count - 1], kept)
        yield
    finally:
        for index, layer in enumerate(taken_out):
            layers[index] = layer


@contextmanager
def reused(lower: SharedLayers, texts: str, shapes: Sequence[tuple[int, int]]) -> Iterator[float]:
    """Compute the lower layers once: cache their output, or reuse what is cached.

    Within the block the network must be called on these batches, once each and in order. Yields the seconds that the
    lower layers took in an earlier run; 0 if they are computed within the block.

    Args:
        texts: digest of the batches' token ids.
        shapes: texts, and tokens with padding, of each batch.
    """
    if lower.folder is None:
        yield 0.0
        return
    name = digest.of_json({**lower.made_of, "texts": texts, "shapes": [list(shape) for shape in shapes]})
    path, sizes = lower.folder / f"{name}.states", [(*shape, lower.width) for shape in shapes]
    kept = state_cache.read(path, sizes, lower.dtype)
    if kept is not None:
        with without(lower.layers, lower.count, iter(kept.parts)):
            yield kept.seconds
        return
    n_bytes = lower.width * lower.dtype.itemsize * sum(rows * tokens for rows, tokens in shapes)
    with state_cache.writing(path, n_bytes, lower.most_bytes) as keep:
        began = 0.0

        def begin(*_: Any) -> None:
            nonlocal began
            began = time.perf_counter()

        first, last = lower.layers[0], lower.layers[lower.count - 1]
        hooks = [
            first.register_forward_pre_hook(begin),
            last.register_forward_hook(lambda _, __, given: keep(given, time.perf_counter() - began)),
        ]
        try:
            yield 0.0
        finally:
            for hook in hooks:
                hook.remove()
