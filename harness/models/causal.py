"""Log-likelihoods of answers under a causal language model, for many prompts at a time.

    asked = settle(network, rows, prefix, answers, pad_ids)     # proven once for each network, in float32
    found = asked.log_likelihoods(rows, answers, advance)       # (prompts, answers)

The beginning that all prompts share goes through the network once, and its keys and values serve every batch. Answers
of one token are read from the prompt's own pass; longer ones continue from its keys and values. The output layer is
computed for the positions that are read and no others.

Nothing of this is taken on trust. `settle` computes the same numbers one prompt at a time, without padding, prefix or
cache, and where they differ, prompts are read whole, batched as `harness.models.padding` has proven harmless.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from harness.models import device, padding
from harness.models.encoding import one_thread, passes
from harness.models.padding import UNPADDED, Batch, Batching, Row
from harness.progress import Advance

TOKENS_PER_PASS = 1024
"""Padded tokens in one forward pass, those of a cached prefix not counted."""
TOKENS_IN_CACHE = 16_384
"""Keys and values that a batch may hold, in tokens: every prompt of a batch holds a copy of the prefix."""
LEAST_PREFIX = 24
"""Shortest shared beginning that is worth the mask that it needs, in tokens."""


@dataclass(slots=True)
class Likelihoods:
    """A network that is ready to be asked."""

    network: Any
    batching: Batching
    prefix: tuple[int, ...]
    """Token ids with which prompts begin whose keys and values are computed once; empty to share nothing."""
    shares: bool
    """True if longer answers may continue from the keys and values of their prompt."""
    kept: list[Any] = field(default_factory=list)
    """Layers of a cache that hold keys and values of the prefix, once computed."""

    def log_likelihoods(self, rows: Sequence[Row], answers: Sequence[Row], advance: Advance) -> torch.Tensor:
        """Log-likelihood of every answer after every prompt, shape (prompts, answers), float64."""
        found = torch.empty(len(rows), len(answers), dtype=torch.float64)
        n = len(self.prefix)
        begins = [n > 0 and len(row) > n and tuple(row[:n]) == self.prefix for row in rows]
        with torch.inference_mode(), one_thread():
            for shared in (True, False):
                tails = [row[n:] if shared else row for row, one in zip(rows, begins, strict=True) if one is shared]
                chosen = [i for i, one in enumerate(begins) if one is shared]
                parts = []
                for batch, read in self._passes(tails, answers, with_prefix=shared):
                    parts.append(([chosen[i] for i in batch], read))  # a device goes on while the next batch is made
                    advance(len(batch), "")
                for indices, read in parts:
                    found[indices] = device.home(read)
        return found

    def _passes(
        self, tails: Sequence[Row], answers: Sequence[Row], *, with_prefix: bool
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        if not tails:
            return iter(())
        lengths, prefix, where = list(map(len, tails)), len(self.prefix) * with_prefix, device.of(self.network)
        most = device.tokens_per_pass(where, TOKENS_PER_PASS)
        in_cache = TOKENS_IN_CACHE * most // TOKENS_PER_PASS
        budget = min(most, in_cache * max(lengths) // (prefix + max(lengths)))
        return passes(
            lengths,
            budget,
            where,
            lambda batch: self._read([tails[i] for i in batch], answers, with_prefix=with_prefix),
            one_length=self.batching.side is None,
        )

    def _read(self, tails: Sequence[Row], answers: Sequence[Row], *, with_prefix: bool) -> torch.Tensor:
        """Log-likelihoods for one batch of prompts, without their common prefix if they have it."""
        longer = any(len(answer) > 1 for answer in answers)
        if not self.shares and longer:
            columns = [self._read_whole(tails, answer) for answer in answers]
            return torch.stack(columns, dim=1)
        batch, n = self._batch(tails), len(self.prefix) * with_prefix
        lengths = batch["attention_mask"].sum(1)
        cache = self._cache(len(tails), goes_on=longer) if with_prefix else DynamicCache() if longer else None
        given: dict[str, Any] = {"past_key_values": cache, "use_cache": True} if cache is not None else {}
        first = log_probabilities(self._logits(batch, **given)[:, 0])
        columns = [first[:, answer[0]] for answer in answers]
        for column, answer in enumerate(answers):
            if len(answer) > 1:
                assert cache is not None
                columns[column] = columns[column] + self._continued(cache, batch, n, lengths, answer)
        return torch.stack(columns, dim=1)

    def _continued(self, cache: Any, batch: Batch, n: int, lengths: torch.Tensor, answer: Row) -> torch.Tensor:
        """Log-likelihood of an answer's tokens after the first, from the keys and values of the prompts."""
        count, more = len(lengths), len(answer) - 1
        seen = batch["attention_mask"]
        mask = torch.cat([seen.new_ones(count, n), seen, seen.new_ones(count, more)], dim=1)
        logits = self.network(
            input_ids=torch.tensor(answer[:-1], device=seen.device).expand(count, more),
            attention_mask=mask,
            position_ids=n + lengths[:, None] + torch.arange(more, device=seen.device),
            past_key_values=cache,
            use_cache=True,
        ).logits
        cache.crop(-more)
        return picked(log_probabilities(logits), answer[1:])

    def _read_whole(self, rows: Sequence[Row], answer: Row) -> torch.Tensor:
        """Log-likelihood of one answer, with its tokens after each prompt."""
        batch = self._batch([[*row, *answer[:-1]] for row in rows])
        return picked(log_probabilities(self._logits(batch, len(answer))), answer)

    def _logits(self, batch: Batch, count: int = 1, **given: Any) -> torch.Tensor:
        return logits_at_end(self.network, batch, count, on_right=self.batching.side != "left", **given)

    def _batch(self, rows: Sequence[Row]) -> Batch:
        return self.batching.batch(rows, device.of(self.network))

    def _cache(self, count: int, *, goes_on: bool = True) -> Any:
        """Keys and values of the prefix for `count` prompts, without copying them.

        Args:
            goes_on: keys and values of the prompts are added, to continue from them.
        """
        if not self.kept:
            cache: Any = DynamicCache()
            where = device.of(self.network)
            with reading_only(self.network, torch.tensor([[1]], device=where)):
                self.network(input_ids=torch.tensor([self.prefix], device=where), past_key_values=cache, use_cache=True)
            self.kept.extend(cache.layers)
        shared = DynamicCache()
        # From tensors, a cache would copy them.
        shared.layers.extend(_repeated(layer, count, goes_on=goes_on) for layer in self.kept)
        return shared


class _ReadOnce(DynamicLayer):  # type: ignore[no-untyped-call]  # untyped there
    """A layer of a cache to which nothing is added: keys and values of the prompts last for one layer's attention."""

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        """The keys and values of prefix and prompts."""
        kept: Any = self
        return torch.cat([kept.keys, key_states], dim=-2), torch.cat([kept.values, value_states], dim=-2)


def _repeated(layer: Any, count: int, *, goes_on: bool) -> Any:
    """A layer of a cache with one prompt's keys and values for several prompts, which share them."""
    made = copy(layer)
    made.keys, made.values = (one.expand(count, -1, -1, -1) for one in (layer.keys, layer.values))
    if not goes_on and type(layer) is DynamicLayer:
        made.__class__ = _ReadOnce
    return made


def log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of tokens in float64."""
    return torch.log_softmax(device.double(logits), dim=-1)


def picked(log_probabilities: torch.Tensor, answer: Row) -> torch.Tensor:
    """Sum the log-probabilities of an answer's tokens, from shape (batch, tokens, vocabulary)."""
    places = torch.tensor(answer, device=log_probabilities.device)
    places = places.expand(log_probabilities.shape[0], len(answer))[:, :, None]
    return log_probabilities.gather(2, places)[:, :, 0].sum(1)


def logits_at_end(network: Any, batch: Batch, count: int = 1, *, on_right: bool = False, **given: Any) -> torch.Tensor:
    """Logits at the last `count` tokens of each text, shape (batch, count, vocabulary).

    Texts that are padded on the right need no mask: a causal network never looks there.

    Args:
        on_right: no text is padded on the left; otherwise the mask is read, for which a device must be waited for.
    """
    ids, mask = batch["input_ids"], batch["attention_mask"]
    ends = (mask * torch.arange(1, ids.shape[1] + 1, device=mask.device)).amax(1)
    from_end = ids.shape[1] - ends[:, None] + torch.arange(count, 0, -1, device=mask.device)
    if not on_right and not bool(mask[:, 0].all()):
        given["attention_mask"] = mask
    with reading_only(network, from_end):
        logits: torch.Tensor = network(input_ids=ids, **given).logits
    return logits


@contextmanager
def reading_only(network: Any, from_end: torch.Tensor) -> Iterator[None]:
    """Compute the output layer of a network for these positions alone, counted from the end, 1 being the last one."""

    def narrowed(_module: Any, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        states, *others = args
        rows = torch.arange(len(states), device=states.device)[:, None]
        return (states[rows, states.shape[1] - from_end], *others)

    hook = network.get_output_embeddings().register_forward_pre_hook(narrowed)
    try:
        yield
    finally:
        hook.remove()


def last_logits(network: Any, batch: Batch) -> torch.Tensor:
    """Logits at the last token of each text, for `padding.settle`."""
    return logits_at_end(network, batch)[:, 0]


def settle(
    network: Any, rows: Sequence[Row], answers: Sequence[Row], pad_ids: Sequence[int | None], prefix: Row
) -> Likelihoods:
    """Find out how a network can be asked fast without changing its answers.

    Args:
        network: a causal language model in float32.
        rows: prompts of very different lengths, the longest last.
        answers: token ids of the answers.
        prefix: token ids with which all rows begin.

    Raises:
        RunError: the network cannot read one of the rows, or its answers depend on the batch.
    """
    with one_thread():
        batching = padding.settle(network, rows, pad_ids, last_logits)
    plain = Likelihoods(network, batching, (), shares=False)
    slides = getattr(network.config.get_text_config(), "sliding_window", None) is not None
    if batching.side != "right" or slides:
        return plain
    alone = [Likelihoods(network, UNPADDED, (), shares=False).log_likelihoods([row], answers, _ignore) for row in rows]
    begins = tuple(prefix) if len(prefix) >= LEAST_PREFIX else ()
    for candidate in dict.fromkeys([begins, ()]):
        asked = Likelihoods(network, batching, candidate, shares=True)
        try:
            found = asked.log_likelihoods(rows, answers, _ignore)
        except (AttributeError, NotImplementedError, TypeError):  # its layers keep no keys and values of this kind
            continue
        difference = (found - torch.cat(alone)).abs() / torch.cat(alone).abs().clamp(min=1.0)
        if float(difference.max()) <= padding.TOLERANCE:
            return asked
    return plain


def _ignore(units: int, note: str) -> None:
    """Progress of a proof is not shown."""
