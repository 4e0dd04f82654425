"""Encoders without a classifier: a base's states with and without an adapter, and its masked-language-model losses."""

from collections.abc import Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import MODEL_FOR_MASKED_LM_MAPPING, AutoConfig, AutoModelForMaskedLM

from harness.models import causal, device, tokens, weight_files
from harness.models.encoding import Encoded, forward_all, one_thread, settle
from harness.models.language_model import causal as causal_language_model
from harness.models.transformer import trained, untrained
from harness.progress import Advance
from harness.stats.inference import Floats


@dataclass(frozen=True, slots=True)
class Masked:
    """Texts in which some tokens are hidden."""

    encoded: Encoded
    """Texts with the mask token in place of hidden tokens."""
    places: tuple[tuple[int, ...], ...]
    """Positions of the hidden tokens, by text."""
    hidden: tuple[tuple[int, ...], ...]
    """Hidden token ids, by text."""


def encoded(base_dir: Path, texts: Sequence[str], max_length: int) -> Encoded:
    """Texts encoded by the base's tokenizer, cut at `max_length` tokens."""
    return Encoded(base_dir, texts, max_length)


def base(base_dir: Path, task: str | None = None) -> Any:
    """The base in float32, with an arbitrary head, or as the language model of a task."""
    return untrained(base_dir, seed=0).eval() if task is None else causal_language_model(base_dir)


def adapted(base_dir: Path, adapter_dir: Path, *, is_peft: bool, task: str | None = None) -> Any:
    """The base with an adapter on it, or the whole model that was trained from it, in float32.

    Args:
        task: of a language model's adapter; None for a classifier's.

    Raises:
        AdapterError: the weights cannot be loaded.
    """
    from harness.models.peft import with_adapter

    return with_adapter(base_dir, adapter_dir, task) if is_peft else trained(adapter_dir).eval()


def settle_causal(network: Any, base_dir: Path, max_length: int) -> None:
    """Settle the batching of a causal language model by its answers at the end of each text.

    Raises:
        RunError: its answers depend on the batch.
    """
    settle(network, base_dir, max_length, causal.last_logits)


def mean_states(network: Any, texts: Encoded, advance: Advance) -> Floats:
    """The mean of each text's last hidden states, padding excluded: shape (n, width).

    States of a prompt's virtual tokens, which precede the text's, do not count.
    """

    texts = texts.for_network(network)

    def step(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        has_vocabulary = network.get_output_embeddings() is not None
        only_last = torch.tensor([[1]], device=batch["input_ids"].device)
        with causal.reading_only(network, only_last) if has_vocabulary else nullcontext():
            states = network(**batch, output_hidden_states=True).hidden_states[-1]
        mask = batch["attention_mask"].unsqueeze(-1)
        summed: torch.Tensor = (states[:, -mask.shape[1] :] * mask).sum(1)
        return summed / mask.sum(1)

    return forward_all(texts, step, advance).numpy()


def causal_losses(network: Any, texts: Encoded) -> Floats:
    """The mean loss of a causal language model over each text's tokens after the first, in nats: shape (n,).

    A text of one token, which nothing precedes, yields nan.
    """
    losses = []
    with torch.inference_mode(), one_thread():
        for ids in texts.ids:
            row = torch.tensor([list(ids)])
            read = network(input_ids=row.to(device.of(network))).logits
            logits = device.home(read[0, -row.shape[1] :]).double()  # without virtual tokens before the text
            losses.append(float(torch.nn.functional.cross_entropy(logits[:-1], row[0, 1:])))
    return np.array(losses)


def masked(texts: Encoded, share: float, generator: np.random.Generator) -> Masked:
    """Hide a share of each text's tokens, special ones excepted; at least one in a text that has any."""
    mask_id = texts.tokenizer.mask_token_id
    covered, places, hidden = copy(texts), [], []
    covered.ids = [ids[:] for ids in texts.ids]
    for ids in covered.ids:
        special = texts.tokenizer.get_special_tokens_mask(list(ids), already_has_special_tokens=True)
        open_places = np.flatnonzero(np.array(special) == 0)
        count = min(len(open_places), max(1, round(share * len(open_places))))
        chosen = np.sort(generator.permutation(open_places)[:count])
        places.append(tuple(chosen.tolist()))
        hidden.append(tuple(ids[i] for i in chosen))
        if mask_id is not None:
            for i in chosen:
                ids[i] = mask_id
    return Masked(covered, tuple(places), tuple(hidden))


def language_model(base_dir: Path, adapted: Any) -> Any:
    """The base with its own masked-language-model head.

    Returns:
        None if the checkpoint has no such head, the tokenizer has no mask token, or the adapter works by prompts, for
        which such a head has no place.
    """
    if getattr(getattr(adapted, "active_peft_config", None), "is_prompt_learning", False):
        return None
    config = AutoConfig.from_pretrained(base_dir, local_files_only=True, trust_remote_code=False)
    if type(config) not in MODEL_FOR_MASKED_LM_MAPPING or tokens.tokenizer(base_dir).mask_token_id is None:
        return None
    with torch.device("meta"):
        empty: Any = AutoModelForMaskedLM.from_config(config)  # type: ignore[no-untyped-call]  # untyped there
    of_head = {name for name, _ in empty.named_parameters() if not name.startswith(f"{empty.base_model_prefix}.")}
    if not of_head <= weight_files.shapes(base_dir, str(base_dir)).keys():
        return None
    model = AutoModelForMaskedLM.from_pretrained(
        base_dir, dtype=torch.float32, local_files_only=True, trust_remote_code=False
    )
    return model.eval()


def masked_losses(language_model: Any, network: Any, texts: Masked) -> Floats:
    """The mean loss over each text's hidden tokens, of a network's encoder under a base's head, in nats: shape (n,).

    An empty text, which has nothing to hide, yields nan.
    """
    inner = network.get_base_model() if hasattr(network, "peft_config") else network
    setattr(language_model, language_model.base_model_prefix, inner.base_model)
    losses = []
    with torch.inference_mode(), one_thread():
        for i, (places, hidden) in enumerate(zip(texts.places, texts.hidden, strict=True)):
            batch = texts.encoded.batching.batch([texts.encoded.ids[i]], device.of(language_model))
            logits = device.home(language_model(**batch).logits)[0, list(places)].double()
            losses.append(float(torch.nn.functional.cross_entropy(logits, torch.tensor(hidden, dtype=torch.long))))
    return np.array(losses)
