"""Tiny causal language models, built from configuration, on a vocabulary that knows the made-up reviews."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from tests.fixtures import BAD, GOOD, THINGS

VOCABULARY = 400
ANSWERS = ["good", "bad", "positive", "negative"]
CHAT = (
    "{% for message in messages %}<s>{{ message['role'] }}\n{{ message['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def vocabulary() -> Tokenizer:
    """A byte-level BPE with whole words for the made-up reviews, and pieces for others."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [f"the {thing} is {word} : {answer}" for thing in THINGS for word in GOOD + BAD for answer in ANSWERS]
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "initializer_range": 0.2,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WIDE: dict[str, Any] = {
    **SHAPE, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "head_dim": 8,
}  # fmt: skip


def config(family: str) -> Any:
    """The configuration of a tiny network."""
    if family == "gpt2":
        return GPT2Config(**SHAPE, n_embd=32, n_layer=2, n_head=4, n_positions=512)
    if family == "mistral":
        return MistralConfig(**WIDE, sliding_window=16)
    return {"llama": LlamaConfig, "qwen3": Qwen3Config}[family](**WIDE)


def save(folder: Path, family: str, seed: int = 5) -> Path:
    """Save a random network and its tokenizer into a new folder."""
    torch.manual_seed(seed)
    auto: Any = AutoModelForCausalLM
    model = auto.from_config(config(family))
    model.save_pretrained(folder)
    fast: Any = PreTrainedTokenizerFast
    tokenizer = fast(tokenizer_object=vocabulary(), unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    return folder
