"""Texts as token ids in batches, and forward passes over them, for every model on the transformers library.

Inference sorts texts by length and divides them into batches within a budget of padded tokens so that padding and
passes together cost least, and returns results in the order of the texts.
"""

import hashlib
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.artifacts import digest
from harness.errors import RunError
from harness.models import bases, device, padding, tokens
from harness.models.tokens import PROBE_TEXTS
from harness.progress import Advance

TOKENS_PER_PASS = 1024
"""Padded tokens in one forward pass of scoring; the fastest of five budgets (docs/benchmarks.md)."""
TOKENS_A_PASS_COSTS = 64
"""Fixed cost of a forward pass, in tokens: a batch is only split where that saves more padding than this."""
TOKENS_PER_BATCH = 2048
"""Padded tokens in one pass over training's held-out rows; another number would change the training."""
TEXTS_AT_ONCE = 1000
"""Texts per call of the tokenizer, whose result is many times as large as the ids that are kept."""
TOKENS_KEPT = 4_000_000
"""Token ids that a process keeps from one model to the next: about 20 MB."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch to one thread within the block, so that sums are the same on any number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Encoded:
    """Texts as token ids, cut at `max_length`."""

    def __init__(self, folder: Path, texts: Sequence[str], max_length: int) -> None:
        self.folder, self.tokenizer = folder, tokens.tokenizer(folder)
        self.batching, self.where = padding.UNPADDED, torch.device(device.PROCESSOR)
        whole: list[array[int]] = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            some = list(texts[start : start + TEXTS_AT_ONCE])
            result = self.tokenizer(some, verbose=False, return_attention_mask=False, return_token_type_ids=False)
            whole += [array("i", ids) for ids in result["input_ids"]]  # 4 bytes a token, where a list takes 36
        tokens.check_tells_apart(texts, whole, folder)
        long = [i for i, ids in enumerate(whole) if len(ids) > max_length]
        if long:
            cut = self.tokenizer([texts[i] for i in long], truncation=True, max_length=max_length)["input_ids"]
            for i, ids in zip(long, cut, strict=True):
                whole[i] = array("i", ids)
        self._hold([ids or array("i", [tokens.stand_in(self.tokenizer, folder)]) for ids in whole], len(long))

    def _hold(self, rows: "list[array[int]]", truncated: int) -> None:
        self.ids = rows
        self.lengths = np.array([len(ids) for ids in self.ids])
        self.largest_id = max((max(ids) for ids in self.ids), default=0)
        self.truncated = truncated
        self.spared_seconds = 0.0
        """Seconds that tokenizing took, where it was done for an earlier model."""

    @classmethod
    def of_rows(cls, folder: Path, rows: Sequence[Sequence[int]], truncated: int) -> "Encoded":
        """Texts that were made into token ids elsewhere, such as prompts, `truncated` of which were cut."""
        made = cls(folder, [], 0)
        made._hold([array("i", row) for row in rows], truncated)
        return made

    def for_network(self, network: Any) -> "Encoded":
        """The same texts, in batches in which the network's answers depend on the text alone.

        If `settle` has not proven that yet, it is proven here, for texts up to the length of these.

        Raises:
            RunError: no batching has this property, or the network has no embeddings for some of the token ids.
        """
        found = copy(self)
        found.where = device.of(network)
        found.batching = padding.of(network) or settle(network, self.folder, int(self.lengths.max()))
        if self.largest_id >= found.batching.vocabulary:
            raise RunError(
                f"{self.folder}: the tokenizer gives token id {self.largest_id}, but the network has embeddings for "
                f"{found.batching.vocabulary} (from 0 on): tokenizer and weights belong to different models"
            )
        return found

    def batches(self, budget: int, chosen: Sequence[int] | None = None) -> Iterator[list[int]]:
        """Batches of at most `budget` padded tokens: indices of all texts, or positions in `chosen`."""
        lengths = self.lengths if chosen is None else self.lengths[chosen]
        return packed(lengths, budget, one_length=self.batching.side is None)

    def batch(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """Padded int64 tensors of shape (len(indices), longest of them), on the device of the network."""
        return self.batching.batch([self.ids[i] for i in indices], self.where)

    def trial_texts(self, count: int) -> Sequence[int]:
        """The first few texts, to try a network on in one batch; only one of them where nothing may be padded."""
        count = min(count, len(self.ids))
        return range(count) if self.batching.side is not None else [int(self.lengths[:count].argmax())]

    def digest(self) -> str:
        """SHA-256 over everything that batches are made from (64 hex digits)."""
        summed = hashlib.sha256(f"{self.batching.pad_id} {self.batching.side}".encode() + self.lengths.tobytes())
        summed.update(np.concatenate([np.array(ids, dtype=np.int64) for ids in self.ids]).tobytes())
        return summed.hexdigest()


def settle(network: Any, folder: Path, max_length: int, ask: padding.Ask = padding.logits) -> padding.Batching:
    """Find a network's batching and record it on the network.

    It is tested on `of_all_lengths`.

    Raises:
        RunError: the network cannot read such texts, or its answers depend on the batch or on earlier texts.
    """
    _check_positions(network, folder, max_length)
    texts = of_all_lengths(folder, max_length)
    special = [getattr(texts.tokenizer, f"{name}_token_id") for name in ("pad", "eos", "unk", "bos")]
    with one_thread():
        return padding.settle(network, texts.ids, special, ask)


_kept: dict[str, tuple[Encoded, float]] = {}
"""Texts as token ids, and the seconds that tokenizing took, by digest of tokenizer and texts."""


def encode(folder: Path, texts: Sequence[str], max_length: int) -> Encoded:
    """Encode texts, or reuse the ids: the models of an evaluation that share a tokenizer read the same splits."""
    key = digest.of_json([digest.of_files(folder, bases.TOKENIZER), max_length, list(texts)])
    if key in _kept:
        known, seconds = _kept[key]
        again = copy(known)
        again.spared_seconds = seconds
        return again
    began = time.perf_counter()
    encoded = Encoded(folder, texts, max_length)
    _kept[key] = encoded, time.perf_counter() - began
    while len(_kept) > 1 and sum(int(kept.lengths.sum()) for kept, _ in _kept.values()) > TOKENS_KEPT:
        del _kept[next(iter(_kept))]
    return encoded


def packed(
    lengths: Sequence[int] | np.ndarray[Any, Any], budget: int, *, one_length: bool = False
) -> Iterator[list[int]]:
    """Indices in batches of at most `budget` padded tokens (at least one text), the longest texts first.

    Dynamic programming, from the shortest text on, finds the division of the sorted texts with the fewest padded
    tokens, where each pass counts as `TOKENS_A_PASS_COSTS` of them.

    Args:
        lengths: lengths in tokens, at least 1.
        one_length: put only texts of one length into a batch.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    longest_first, n = np.asarray(lengths)[order], len(order)
    sizes, costs, alike = np.zeros(n, dtype=np.int64), np.zeros(n + 1), 0
    for start in range(n - 1, -1, -1):
        length = int(longest_first[start])
        most = min(n - start, max(1, budget // length))
        if one_length:
            alike = alike + 1 if start + 1 < n and longest_first[start + 1] == length else 1
            most = min(most, alike)
        each = length * np.arange(1, most + 1) + costs[start + 1 : start + 1 + most]
        sizes[start] = 1 + each.argmin()
        costs[start] = TOKENS_A_PASS_COSTS + each[sizes[start] - 1]
    start = 0
    while start < n:
        yield order[start : start + sizes[start]].tolist()
        start += sizes[start]


def forward_all(
    encoded: Encoded,
    step: Callable[[dict[str, torch.Tensor]], torch.Tensor],
    advance: Advance,
    chosen: Sequence[int] | None = None,
) -> torch.Tensor:
    """Apply a function from a batch to shape (batch, k) to all texts, or to the chosen ones.

    Returns:
        Shape (n, k) float64, in the order of the texts, or of `chosen`.
    """
    places = range(len(encoded.ids)) if chosen is None else chosen
    parts, order = [], []

    def one_pass(indices: Sequence[int]) -> torch.Tensor:
        return step(encoded.batch([places[index] for index in indices]))

    with torch.inference_mode(), one_thread():
        budget = device.tokens_per_pass(encoded.where, TOKENS_PER_PASS)
        is_padded = encoded.batching.side is not None
        for indices, part in passes(encoded.lengths[places], budget, encoded.where, one_pass, one_length=not is_padded):
            parts.append(part)
            order += indices
            advance(len(indices), "")
    whole = device.home(torch.cat(parts)).double()
    result = torch.empty_like(whole)
    result[torch.tensor(order)] = whole
    return result


def passes(
    lengths: Sequence[int] | np.ndarray[Any, Any],
    budget: int,
    where: torch.device,
    compute: Callable[[list[int]], torch.Tensor],
    *,
    one_length: bool,
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Compute texts in batches; where an accelerator's memory does not suffice for one, go on with half the budget.

    Args:
        lengths: of the texts, in tokens.
        budget: most padded tokens of a batch.
        compute: takes positions of texts.
        one_length: put only texts of one length into a batch.

    Yields:
        Positions of texts with their results.

    Raises:
        RunError: the memory does not suffice for one text.
    """
    left = list(range(len(lengths)))
    while left:
        done: set[int] = set()
        sizes = [int(lengths[i]) for i in left]
        try:
            for batch in packed(sizes, budget, one_length=one_length):
                chosen = [left[i] for i in batch]
                result = compute(chosen)
                done.update(chosen)
                yield chosen, result
        except torch.OutOfMemoryError:
            if budget <= max(sizes):
                raise RunError(
                    f"the device's memory does not suffice for one text of {max(sizes)} tokens; lower text.max_length, "
                    "choose a smaller base, or end what else uses the device"
                ) from None
        left = [i for i in left if i not in done]
        if left:
            budget = budget // 2
            device.release(where)


def _check_positions(network: Any, folder: Path, max_length: int) -> None:
    """Refuse dynamic RoPE beyond its length: stretched for a long text, it stays so for shorter ones read after it."""
    for part in network.modules():
        limit = getattr(part, "original_max_seq_len", None)
        if "dynamic" in str(getattr(part, "rope_type", "")) and limit is not None and limit < max_length:
            raise RunError(
                f"{folder}: positions beyond {limit} tokens depend on the texts read before (dynamic RoPE), so a score "
                f"would not be a function of its text; lower text.max_length to {limit}"
            )


def of_all_lengths(folder: Path, max_length: int) -> Encoded:
    """An empty text, a word, a sentence, and a text of `max_length` tokens."""
    longest = " ".join(PROBE_TEXTS * (1 + max_length // 32))
    return Encoded(folder, ["", "good", PROBE_TEXTS[0], longest], max_length)


def trial(folder: Path, network: Any) -> dict[str, torch.Tensor]:
    """The probe texts as a batch to try a network on."""
    texts = Encoded(folder, PROBE_TEXTS, max_length=64).for_network(network)
    return texts.batch(texts.trial_texts(len(PROBE_TEXTS)))
