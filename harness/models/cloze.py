"""Log-likelihoods of answers under a masked language model, for many prompts at a time: the answer is what is hidden.

    asked = settle(network, frame, rows)                        # batching proven once, in float32
    found = asked.log_likelihoods(rows, answers, advance)       # (prompts, answers)

An answer of one token stands behind one mask. One of k tokens stands behind k of them: its first token is read with
all k hidden, its second with the first one shown, and so on; their log-likelihoods are added. So later tokens never
help to guess earlier ones of a word (Kauf & Ivanova 2023, "A Better Way to Do Masked Language Model Scoring").
Answers whose masks and shown tokens are the same share a pass.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from harness.models import device, padding
from harness.models.causal import TOKENS_PER_PASS, log_probabilities, reading_only
from harness.models.encoding import one_thread, passes
from harness.models.padding import Batch, Batching, Row
from harness.progress import Advance


@dataclass(slots=True)
class Hidden:
    """A masked language model that is ready to be asked."""

    network: Any
    batching: Batching
    mask_id: int
    ending: tuple[int, ...]
    """Token ids after the answer: what the prompt has there, and the tokenizer's own."""
    prefix: tuple[int, ...] = ()
    """Nothing is shared: every token of a prompt sees the answer's place."""
    kept: list[Any] = field(default_factory=list)

    def log_likelihoods(self, rows: Sequence[Row], answers: Sequence[Row], advance: Advance) -> torch.Tensor:
        """Log-likelihood of every answer after every prompt, shape (prompts, answers), float64."""
        found = torch.zeros(len(rows), len(answers), dtype=torch.float64)
        passes: dict[tuple[Row, int], list[tuple[int, int]]] = {}
        for column, answer in enumerate(answers):
            for place, token in enumerate(answer):
                passes.setdefault((tuple(answer[:place]), len(answer) - place), []).append((column, token))
        with torch.inference_mode(), one_thread():
            for (shown, n_hidden), read in passes.items():
                whole = [[*row, *shown, *[self.mask_id] * n_hidden, *self.ending] for row in rows]
                from_end, tokens = n_hidden + len(self.ending), [token for _, token in read]
                for chosen, logs in list(self._passes(whole, from_end, tokens)):  # a device goes on meanwhile
                    for place, (column, _) in enumerate(read):
                        found[chosen, column] += device.home(logs[:, place])
        advance(len(rows), "")
        return found

    def _passes(
        self, rows: Sequence[Row], from_end: int, tokens: Sequence[int]
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Log-probabilities of tokens at one place of each row, shape (batch, tokens)."""
        where = device.of(self.network)

        def one_pass(chosen: Sequence[int]) -> torch.Tensor:
            batch = self.batching.batch([rows[i] for i in chosen], where)
            return log_probabilities(logits_at(self.network, batch, from_end))[:, list(tokens)]

        budget, lengths = device.tokens_per_pass(where, TOKENS_PER_PASS), list(map(len, rows))
        return passes(lengths, budget, where, one_pass, one_length=self.batching.side is None)


def logits_at(network: Any, batch: Batch, from_end: int) -> torch.Tensor:
    """Logits at one token of each text, shape (batch, vocabulary), counted from the text's end, 1 being its last."""
    ids, mask = batch["input_ids"], batch["attention_mask"]
    ends = (mask * torch.arange(1, ids.shape[1] + 1, device=mask.device)).amax(1)
    with reading_only(network, ids.shape[1] - ends[:, None] + from_end):
        logits: torch.Tensor = network(input_ids=ids, attention_mask=mask).logits
    return logits[:, 0]


def settle(
    network: Any, rows: Sequence[Row], pad_ids: Sequence[int | None], mask_id: int, ending: Sequence[int]
) -> Hidden:
    """Find a batching in which a masked language model's answers depend on the prompt alone.

    Args:
        network: in float32.
        rows: prompts of very different lengths, without the answer.

    Raises:
        RunError: there is none, or the network cannot read one of the rows.
    """
    whole = [[*row, mask_id, *ending] for row in rows]
    with one_thread():
        batching = padding.settle(network, whole, pad_ids, partial(_read, from_end=1 + len(ending)))
    return Hidden(network, batching, mask_id, tuple(ending))


def _read(network: Any, batch: Batch, from_end: int) -> torch.Tensor:
    return logits_at(network, batch, from_end)
