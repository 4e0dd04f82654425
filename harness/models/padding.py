"""Batches in which a text's answer does not depend on the texts beside it.

    found = settle(network, rows, pad_ids)      # proven once for each network
    network(**found.batch(rows))

Networks differ in how they treat padding. Some heads look for a text's last token by the padding id in the network's
configuration, others take the last place; absolute positions shift when padding stands on the left; virtual tokens hide
the ids from the head. Nothing is taken on trust: the unchanged network reads texts of very different lengths, one at a
time. The first way of padding under which it gives the same answers in one batch is used, in training and in scoring.
Where no padding is harmless, only texts of one length share a batch, and nothing is padded.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from harness.errors import RunError
from harness.models import device

TOLERANCE = 1e-5
"""Largest difference between answers to a text alone and in a batch, in float32, relative where answers exceed 1."""

Row = Sequence[int]
"""A text's token ids."""
Batch = dict[str, torch.Tensor]
Ask = Callable[[Any, Batch], torch.Tensor]
"""Function from a network and a batch to answers of shape (batch, k)."""


@dataclass(frozen=True, slots=True)
class Batching:
    """The way in which texts share a batch."""

    side: Literal["right", "left"] | None
    """Side of the padding; None if only texts of one length share a batch, without padding."""
    pad_id: int
    """Token id of padding, in batches and in the network's configuration."""
    vocabulary: int
    """Number of token ids that the network has embeddings for."""

    def batch(self, rows: Sequence[Row], where: torch.device) -> Batch:
        """Padded int64 tensors of shape (rows, longest of them) on a device."""
        shape = len(rows), max(map(len, rows))
        assert self.side is not None or all(len(row) == shape[1] for row in rows)
        ids, mask = np.full(shape, self.pad_id), np.zeros(shape, dtype=np.int64)
        for i, row in enumerate(rows):
            place = slice(shape[1] - len(row), None) if self.side == "left" else slice(len(row))
            ids[i, place], mask[i, place] = row, 1
        return device.put({"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}, where)


UNPADDED = Batching(None, 0, 0)
"""For a single text, which every network can read."""


def of(network: Any) -> Batching | None:
    """The batching that was settled for a network, or None."""
    found: Batching | None = getattr(_inner(network), "batching", None)
    return found


def settled(network: Any) -> Batching:
    """The batching that was settled for a network.

    Raises:
        RunError: none was.
    """
    found = of(network)
    if found is None:
        raise RunError(f"{type(network).__name__}: no batching was settled before it is scored")
    return found


def use(network: Any, batching: Batching) -> None:
    """Record a batching on a network, and its padding id in the configuration, where heads look for it."""
    inner = _inner(network)
    inner.config.get_text_config().pad_token_id = batching.pad_id
    inner.batching = batching


def logits(network: Any, batch: Batch) -> torch.Tensor:
    """A classifier's answers."""
    answers: torch.Tensor = network(**batch).logits
    return answers


def settle(network: Any, rows: Sequence[Row], pad_ids: Iterable[int | None], ask: Ask = logits) -> Batching:
    """Find the batching of a network, and record it there.

    Args:
        network: a transformers model in float32, with or without a PEFT adapter.
        rows: texts of very different lengths, the longest last.
        pad_ids: the tokenizer's candidates, in the order in which they are tried after the network's own.

    Raises:
        RunError: the network cannot read one of the rows, or no batching is harmless.
    """
    inner, was_training = _inner(network), network.training
    config = inner.config.get_text_config()
    as_it_came, vocabulary = config.pad_token_id, vocabulary_size(inner)
    network.eval()
    try:
        with torch.no_grad():
            alone = _alone(network, rows, ask)
            for batching in _candidates([as_it_came, *pad_ids, 0], vocabulary):
                config.pad_token_id = batching.pad_id
                difference = _difference(network, rows, alone, batching, ask)
                if isinstance(difference, float) and difference <= TOLERANCE:
                    use(network, batching)
                    return batching
        raise RunError(
            f"{type(inner).__name__}: a text's answer depends on the texts beside it in a batch, whatever the padding "
            f"({_described(difference)}, {TOLERANCE:g} is allowed); such a network cannot be scored"
        )
    finally:
        if of(network) is None:
            config.pad_token_id = as_it_came
        network.train(was_training)


def vocabulary_size(network: Any) -> int:
    """Number of token ids that a network has embeddings for."""
    embeddings = network.get_input_embeddings()
    size: int = getattr(embeddings, "num_embeddings", None) or embeddings.weight.shape[0]
    return size


def _inner(network: Any) -> Any:
    return network.get_base_model() if hasattr(network, "peft_config") else network


def _candidates(pad_ids: Iterable[int | None], vocabulary: int) -> Iterator[Batching]:
    known = [pad_id for pad_id in dict.fromkeys(pad_ids) if pad_id is not None and 0 <= pad_id < vocabulary]
    sides: tuple[Literal["right", "left"] | None, ...] = ("right", "left", None)
    for side in sides:
        for pad_id in known:
            yield Batching(side, pad_id, vocabulary)


def _alone(network: Any, rows: Sequence[Row], ask: Ask) -> torch.Tensor:
    answers = []
    for row in rows:
        try:
            answers.append(ask(network, UNPADDED.batch([row], device.of(network))))
        except Exception as problem:
            raise RunError(
                f"{type(_inner(network)).__name__} cannot read a text of {len(row)} tokens ({_reason(problem)}); "
                "lower text.max_length if the network has fewer positions"
            ) from problem
    found = device.double(torch.cat(answers))
    if not torch.isfinite(found).all():
        raise RunError(
            f"{type(_inner(network)).__name__}: answers to the probe texts are not finite numbers; the weights of "
            "the base, or those trained on it, are damaged"
        )
    return found


def _difference(
    network: Any, rows: Sequence[Row], alone: torch.Tensor, batching: Batching, ask: Ask
) -> float | Exception:
    """The largest difference from answers to a row alone, or the reason why there are no answers."""
    if batching.side is None:
        # Each text stands before and after another one of its length.
        turned = [row[::-1] for row in rows]
        batches = [([row, other, row], [i, None, i]) for i, (row, other) in enumerate(zip(rows, turned, strict=True))]
    else:
        order = [*range(1, len(rows)), 0]
        batches = [([rows[i] for i in order], list(order))]
    differences = []
    for batch, places in batches:
        try:
            answers = device.double(ask(network, batching.batch(batch, device.of(network))))
        except Exception as problem:  # noqa: BLE001 (any failure on such a batch is the reason not to use it)
            return problem
        differences += [
            (answers[at] - alone[i]).abs().max() / alone[i].abs().max().clamp(min=1.0)
            for at, i in enumerate(places)
            if i is not None
        ]
    return float(torch.stack(differences).max())


def _described(difference: float | Exception) -> str:
    return f"by {difference:.2g}" if isinstance(difference, float) else _reason(difference)


def _reason(problem: Exception) -> str:
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0][:300]
