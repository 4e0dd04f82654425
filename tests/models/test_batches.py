"""A score is a function of its text and its model, not of the texts that it shares a batch with.

Networks of many families, built from config and loaded through the production path, are checked against transformers
and PEFT, which are called one text at a time as in their own documentation.
"""

import itertools
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from peft import PeftModelForSequenceClassification, PeftType, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from harness import models
from harness.artifacts import digest
from harness.errors import DataError, RunError
from harness.models import encoding, padding, tokens, transformer
from harness.models.bases import check_has_tokenizer
from harness.models.classifier import ModelInputs
from harness.models.peft import with_adapter, without_known_warnings
from harness.stats.inference import Floats
from harness.store.connection import opened
from harness.suite.models import PeftModel, ProbeModel, TransformerModel
from harness.training import saving
from tests.fixtures import Result

TEXTS = [
    "a",
    "It works, and it was worth the money.",
    "bad",
    "The cable broke on the first day, and I sent it back. " * 3,
    "Great!",
    "I wanted to like this. I could not.",
    "of",
    "no",
]
"""Texts of 1 to more than the allowed number of tokens, some of one length."""
MAX_LENGTH = 60
AutoModel: Any = transformers.AutoModel  # untyped there, as is the next
Fast: Any = transformers.PreTrainedTokenizerFast
SPECIAL = ["<s>", "</s>", "<pad>", "<other>", "<unk>"]
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
SIZE = len(SPECIAL) + len(BYTES)
COMMON = {"vocab_size": SIZE, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
WIDE = {"initializer_range": 0.2}
LIKE_BERT = {**COMMON, **WIDE, "intermediate_size": 32, "max_position_embeddings": 80}
LIKE_LLAMA = {**LIKE_BERT, "num_key_value_heads": 1, "head_dim": 8}
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": LIKE_BERT,
    "roberta": LIKE_BERT,
    "distilbert": {**COMMON, **WIDE, "hidden_dim": 32, "max_position_embeddings": 80},
    "modernbert": {**LIKE_BERT, "num_hidden_layers": 3, "local_attention": 16},
    "gpt2": {**COMMON, **WIDE, "n_positions": 80},
    "gpt_neox": LIKE_BERT,
    "opt": {**COMMON, "init_std": 0.2, "ffn_dim": 32, "max_position_embeddings": 80, "word_embed_proj_dim": 16},
    "bloom": {"vocab_size": SIZE, "hidden_size": 16, "n_layer": 2, "n_head": 2, **WIDE},
    "llama": LIKE_LLAMA,
    "qwen2": LIKE_LLAMA,
    "qwen3": LIKE_LLAMA,
    "gemma": LIKE_LLAMA,
    "mistral": {**LIKE_LLAMA, "sliding_window": 16},
}
ENCODERS = ("bert", "roberta", "distilbert", "modernbert")
PADS = {"equal": (2, "<pad>"), "other": (2, "<other>"), "none": (None, None)}
"""The network's id of padding, and the tokenizer's token for it."""


def made_base(
    folder: Path, family: str, pad: str = "equal", side: str = "right", *, special: bool | None = None
) -> Path:
    """A base with wide weights, and a tokenizer of bytes; encoders' tokenizers add special tokens."""
    pad_id, pad_token = PADS[pad]
    numbers = {word: i for i, word in enumerate([*SPECIAL, *BYTES])}
    inner = Tokenizer(BPE(numbers, [], unk_token="<unk>"))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    if family in ENCODERS if special is None else special:
        both = [("<s>", 0), ("</s>", 1)]
        inner.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=both)
    known = {"bos_token": "<s>", "eos_token": "</s>", **({"pad_token": pad_token} if pad_token else {})}
    tokenizer = Fast(tokenizer_object=inner, padding_side=side, **known)
    tokenizer.save_pretrained(folder)
    config = AutoConfig.for_model(family, pad_token_id=pad_id, bos_token_id=0, eos_token_id=1, **FAMILIES[family])
    torch.manual_seed(7)
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


def with_head(base: Path) -> Any:
    torch.manual_seed(8)
    network = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2, dtype=torch.float32)
    for parameter in dict.fromkeys(network.parameters()):
        if parameter.ndim == 2 and parameter.shape[0] == 2:
            torch.nn.init.normal_(parameter, std=0.5)
    return network


def made_adapter(base: Path, folder: Path, method: str) -> Path:
    """An adapter with random weights on a base, as PEFT saves it; "full" is the whole network."""
    network = with_head(base)
    if method != "full":
        params: dict[str, Any] = {"num_virtual_tokens": 3} if method.endswith("tuning") else {}
        if network.config.model_type == "gpt2":
            params |= {} if method.endswith("tuning") else {"fan_in_fan_out": True}
        config = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(method.upper())](task_type="SEQ_CLS", **params)
        with without_known_warnings():
            network = get_peft_model(network, config)
        network.peft_config["default"].base_model_name_or_path = "base"
        for parameter in network.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, mean=float(method == "ia3"), std=0.3)
    saving.save(network.eval(), folder)
    return folder


def one_at_a_time(
    base: Path, adapter: Path, method: str, texts: Sequence[str] = TEXTS, max_length: int = MAX_LENGTH
) -> Floats:
    """Probabilities of class 1, as transformers and PEFT give them."""
    if method == "full":
        network: Any = AutoModelForSequenceClassification.from_pretrained(adapter, dtype=torch.float32)
    else:
        plain = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2, dtype=torch.float32)
        with without_known_warnings():
            network = PeftModelForSequenceClassification.from_pretrained(plain, adapter)
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    scores = []
    with torch.inference_mode():
        for text in texts:
            ids = tokenizer(text, truncation=True, max_length=max_length)["input_ids"]
            batch = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.int64)}
            scores.append(torch.softmax(network.eval()(**batch).logits.double(), 1)[0, 1].item())
    return np.array(scores)


def ingredients(base: Path, adapter: Path | None, **more: Any) -> ModelInputs:
    return ModelInputs(0, MAX_LENGTH, base, adapter, **{"train_texts": (), "train_labels": (), **more})


def loaded(base: Path, adapter: Path, method: str, runtime: str = "torch", **more: Any) -> Callable[..., Floats]:
    kind: Any = TransformerModel if method == "full" else PeftModel
    name = "transformer" if method == "full" else "peft"
    declared = kind(id="m", backend=name, adapter="a", precision="fp32", runtime=runtime)
    classifier = models.load(declared, ingredients(base, adapter, **more))
    return lambda texts: classifier.predict(texts, lambda units, note: None).scores


def check_alone_and_together(score: Callable[[Sequence[str]], Floats], expected: Floats, allowed: float = 1e-5) -> None:
    """All at once, alone, and first, in the middle and last beside others."""
    assert expected.std() > 1e-3, "scores that are all alike prove nothing"
    assert np.abs(score(TEXTS) - expected).max() <= allowed
    for i, text in enumerate(TEXTS):
        assert abs(score([text])[0] - expected[i]) <= allowed
    for order in ([3, 0], [0, 3], [7, 6, 5, 4, 3, 2, 1, 0]):
        assert np.abs(score([TEXTS[i] for i in order]) - expected[order]).max() <= allowed


WHOLE = ("bert", "roberta", "gpt2", "qwen2")
"""Families that are tested in all combinations; the others in the two that are hardest to get right."""
KINDS = [
    (family, pad, side)
    for family, pad, side in itertools.product(FAMILIES, PADS, ("right", "left"))
    if (family in WHOLE or (pad, side) in {("other", "left"), ("none", "right")})
    # RoBERTa counts positions from its padding, without which it reads nothing.
    and (family, pad) != ("roberta", "none")
]


@pytest.mark.parametrize(("family", "pad", "side"), KINDS)
def test_a_network_says_the_same_of_a_text_alone_and_in_any_batch(
    tmp_path: Path, family: str, pad: str, side: str
) -> None:
    base = made_base(tmp_path / "base", family, pad, side)
    adapter = made_adapter(base, tmp_path / "adapter", "full")
    check_alone_and_together(loaded(base, adapter, "full"), one_at_a_time(base, adapter, "full"))


METHODS = [
    *[(method, "bert", "equal", "left") for method in ("lora", "prompt_tuning", "prefix_tuning")],
    ("p_tuning", "roberta", "other", "right"),
    ("ia3", "bert", "none", "right"),
    *[(method, "qwen2", "other", "left") for method in ("lora", "ia3", "prompt_tuning", "p_tuning", "prefix_tuning")],
    ("prompt_tuning", "qwen2", "equal", "right"),
    ("lora", "gpt2", "none", "right"),
    ("prompt_tuning", "gpt2", "none", "right"),
    ("prompt_tuning", "llama", "none", "left"),
    ("p_tuning", "opt", "equal", "left"),
    ("prefix_tuning", "mistral", "equal", "right"),
    ("prompt_tuning", "gpt_neox", "other", "right"),
    ("lora", "qwen3", "none", "left"),
    ("ia3", "gemma", "other", "left"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "family", "pad", "side"), METHODS)
def test_an_adapter_says_the_same_of_a_text_alone_and_in_any_batch(
    tmp_path: Path, method: str, family: str, pad: str, side: str
) -> None:
    base = made_base(tmp_path / "base", family, pad, side)
    adapter = made_adapter(base, tmp_path / "adapter", method)
    check_alone_and_together(loaded(base, adapter, method), one_at_a_time(base, adapter, method))


def test_without_harmless_padding_only_texts_of_one_length_share_a_batch(tmp_path: Path) -> None:
    base = made_base(tmp_path / "base", "gpt2")
    network = transformer.untrained(base, 1).eval()
    with_prompt = with_adapter(base, made_adapter(base, tmp_path / "adapter", "prompt_tuning"))
    assert encoding.settle(network, base, MAX_LENGTH).side == "right"
    assert encoding.settle(with_prompt, base, MAX_LENGTH).side is None
    texts = encoding.Encoded(base, TEXTS, MAX_LENGTH).for_network(with_prompt)
    batches = list(texts.batches(1024))
    assert sorted(i for batch in batches for i in batch) == list(range(len(TEXTS)))
    assert all(len({int(texts.lengths[i]) for i in batch}) == 1 for batch in batches)
    assert max(map(len, batches)) > 1, "texts of one length do share one"


class Mixing(torch.nn.Module):
    """Adds to each text's states the mean of the batch's."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = self.inner(states + states.mean(0, keepdim=True))
        return mixed


def test_a_network_whose_answers_depend_on_the_batch_is_refused_by_name(tmp_path: Path) -> None:
    base = made_base(tmp_path / "base", "bert")
    network: Any = with_head(base).eval()
    network.classifier = Mixing(network.classifier)
    with pytest.raises(
        RunError, match=r"BertForSequenceClassification: a text's answer depends on the texts beside it"
    ):
        encoding.settle(network, base, MAX_LENGTH)
    assert network.config.pad_token_id == 2, "as it was"


def test_a_network_that_has_fewer_positions_than_texts_may_have_tokens_is_refused_by_name(tmp_path: Path) -> None:
    base = made_base(tmp_path / "base", "roberta")  # 80 positions, of which the first ones are never used
    assert encoding.settle(with_head(base), base, 77).side == "right"
    with pytest.raises(
        RunError, match=r"RobertaForSequenceClassification cannot read a text of 78 tokens .*max_length"
    ):
        encoding.settle(with_head(base), base, 78)


def test_a_network_whose_answers_are_not_numbers_is_refused_by_name(tmp_path: Path) -> None:
    base = made_base(tmp_path / "base", "bert")
    network = with_head(base)
    torch.nn.init.constant_(network.classifier.weight, torch.inf)
    with pytest.raises(RunError, match=r"BertForSequenceClassification: answers to the probe texts are not finite"):
        encoding.settle(network, base, MAX_LENGTH)


def test_networks_without_a_number_of_positions_read_texts_of_any_length(tmp_path: Path) -> None:
    base = made_base(tmp_path / "base", "bloom")
    assert not hasattr(AutoConfig.from_pretrained(base), "max_position_embeddings")
    assert encoding.settle(with_head(base), base, 500).side == "right"


def test_an_empty_text_is_read_as_one_token_where_the_tokenizer_adds_none(tmp_path: Path) -> None:
    base = made_base(tmp_path / "base", "gpt2", "none")
    score = loaded(base, made_adapter(base, tmp_path / "adapter", "full"), "full")
    assert encoding.Encoded(base, ["", "a"], 8).ids[0].tolist() == [0], "<s>"
    alone = [score([text])[0] for text in ("", *TEXTS)]
    assert score(["", *TEXTS]) == pytest.approx(alone, abs=1e-5)


def test_the_chosen_padding_stands_in_the_configuration_where_the_network_had_none(tmp_path: Path) -> None:
    base = made_base(tmp_path / "base", "gpt2", "none")
    network = with_head(base)
    assert network.config.pad_token_id is None
    assert encoding.settle(network, base, MAX_LENGTH) == padding.Batching("right", 1, SIZE), "its </s>"
    assert network.config.pad_token_id == 1


@pytest.mark.parametrize(("family", "pad"), [("bert", "other"), ("qwen2", "other"), ("gpt2", "none")])
def test_a_probe_is_a_function_of_its_text(tmp_path: Path, family: str, pad: str) -> None:
    base = made_base(tmp_path / "base", family, pad, "left")
    declared = ProbeModel(id="p", backend="probe", base="b", train_split="s", C=1.0, precision="fp32")
    probe = models.load(declared, ingredients(base, None, train_texts=TEXTS, train_labels=(0, 1) * 4))

    def score(texts: Sequence[str]) -> Floats:
        return probe.predict(texts, lambda units, note: None).scores

    check_alone_and_together(score, np.array([score([text])[0] for text in TEXTS]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "method", "pad"),
    # The last two attend to a window of tokens, beyond which there may be nothing but padding.
    [
        ("gpt2", "full", "other"),
        ("qwen2", "prompt_tuning", "other"),
        ("modernbert", "full", "other"),
        ("mistral", "lora", "other"),
    ],
)
def test_a_converted_network_reads_the_padding_of_the_one_it_was_made_of(
    tmp_path: Path, family: str, method: str, pad: str
) -> None:
    pytest.importorskip("openvino")
    base = made_base(tmp_path / "base", family, pad, "left")
    adapter = made_adapter(base, tmp_path / "adapter", method)
    score = loaded(base, adapter, method, "openvino", converted_dir=tmp_path / "converted")
    check_alone_and_together(score, one_at_a_time(base, adapter, method))


def test_positions_that_depend_on_the_texts_read_before_are_refused_beyond_their_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers stretches dynamic RoPE for a long text, and leaves it so for the next text of a middle length."""
    stretched = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10_000.0}
    monkeypatch.setitem(FAMILIES, "llama", LIKE_LLAMA | {"rope_parameters": stretched, "max_position_embeddings": 16})
    base = made_base(tmp_path / "base", "llama", "other")
    adapter = made_adapter(base, tmp_path / "adapter", "full")
    with pytest.raises(RunError, match=r"beyond 16 tokens depend on the texts read before.*text.max_length to 16"):
        loaded(base, adapter, "full")
    monkeypatch.setitem(FAMILIES, "llama", LIKE_LLAMA | {"rope_parameters": stretched, "max_position_embeddings": 60})
    base = made_base(tmp_path / "longer", "llama", "other")
    adapter = made_adapter(base, tmp_path / "longer-adapter", "full")
    check_alone_and_together(loaded(base, adapter, "full"), one_at_a_time(base, adapter, "full"))


# Tokenizers


def test_a_base_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    base = made_base(tmp_path / "base", "bert")
    (base / "tokenizer.json").unlink()
    with pytest.raises(DataError, match=r"base has no tokenizer \(none of tokenizer\.json, vocab\.txt"):
        encoding.Encoded(base, TEXTS, MAX_LENGTH)
    with pytest.raises(DataError, match="base b: x has no tokenizer"):
        check_has_tokenizer(["config.json", "model.safetensors", "tokenizer_config.json"], "base b: x")


def test_a_tokenizer_to_which_texts_are_alike_is_refused(tmp_path: Path) -> None:
    base = made_base(tmp_path / "base", "bert")
    known = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    inner = Tokenizer(BPE({word: i for i, word in enumerate(SPECIAL)}, []))
    Fast(tokenizer_object=inner, **known).save_pretrained(base)
    with pytest.raises(RunError, match="the tokenizer gives most of 4 probe texts the same token ids"):
        tokens.tokenizer(base)


def test_a_tokenizer_of_another_language_is_refused_on_the_texts_themselves(tmp_path: Path) -> None:
    base = made_base(tmp_path / "base", "bert")
    inner = Tokenizer(BPE({word: i for i, word in enumerate([*SPECIAL, *map(chr, range(33, 127))])}, []))
    Fast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>").save_pretrained(base)
    texts = [chr(0x4E00 + i) * 3 for i in range(20)]
    with pytest.raises(RunError, match="the tokenizer distinguishes only 1 of 20 different texts"):
        encoding.Encoded(base, texts, MAX_LENGTH)
    encoding.Encoded(base, [*texts, *(f"number {i}" for i in range(30))], MAX_LENGTH)


def test_token_ids_beyond_the_embeddings_are_refused_by_name(tmp_path: Path) -> None:
    base, larger = made_base(tmp_path / "base", "bert"), made_base(tmp_path / "larger", "bert")
    tokenizer: Any = AutoTokenizer.from_pretrained(larger)
    tokenizer.add_tokens(["unheard-of"])
    tokenizer.save_pretrained(larger)
    for path in larger.glob("tokenizer*"):
        shutil.copy(path, base / path.name)
    score = loaded(base, made_adapter(base, tmp_path / "adapter", "full"), "full")
    assert np.isfinite(score(TEXTS)).all(), "a token that no text has does no harm"
    with pytest.raises(RunError, match=rf"gives token id {SIZE}, but the network has embeddings for {SIZE} \(from 0"):
        score([*TEXTS, "an unheard-of word"])


# From a suite to its scores


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "method", "params", "side"),
    # BLOOM counts positions by the mask, so that padding between prompts and text does no harm.
    [
        ("gpt2", "prompt_tuning", {"num_virtual_tokens": 3}, None),
        ("bloom", "p_tuning", {"num_virtual_tokens": 3}, "left"),
    ],
)
def test_a_decoder_without_a_padding_token_is_trained_and_scored_as_any_other(
    harness: Callable[..., Result],
    suite_path: Path,
    tiny_base: Path,
    tmp_path: Path,
    family: str,
    method: str,
    params: dict[str, Any],
    side: str | None,
) -> None:
    base = made_base(tmp_path / "base", family, "none")
    text = suite_path.read_text().replace(f'"{tiny_base}"', f'"{base}"')
    text = text.replace(digest.of_file(tiny_base / "model.safetensors"), digest.of_file(base / "model.safetensors"))
    toml = ", ".join(f"{name} = {value}" for name, value in params.items())
    text = text.replace('method = "lora"', f'method = "{method}"').replace(
        'params = { r = 4, lora_alpha = 8, target_modules = ["query", "value"] }', f"params = {{ {toml} }}"
    )
    suite_path.write_text(text.replace("epochs = 4", "epochs = 1").replace("seeds = [1, 2]", "seeds = [1]"))
    result = harness("evaluate", suite_path, "--model", "tiny+lora", "--model", "tiny-full", "--workers", "1")
    assert result.code == 0, result.err
    folders = {path.parent.parent.name: path.parent for path in tmp_path.glob("runs/adapters/*/*/harness-card.json")}
    told = {name: json.loads((folder / "harness-card.json").read_text())["padding"] for name, folder in folders.items()}
    assert told == {"lora": {"side": side, "id": 1}, "full": {"side": "right", "id": 1}}
    assert json.loads((folders["full"] / "config.json").read_text())["pad_token_id"] == 1
    with opened(tmp_path / "runs" / "harness.duckdb", read_only=True) as connection:
        texts = dict(connection.execute("SELECT example_id, content FROM example").fetchall())
        for model_id, name, kind in (("tiny+lora", "lora", method), ("tiny-full", "full", "full")):
            query = "SELECT example_id, score FROM prediction JOIN run USING (run_id) WHERE model_id = ?"
            scores = dict(connection.execute(query, [model_id]).fetchall())
            alone = one_at_a_time(base, folders[name], kind, [texts[example] for example in scores], 32)
            assert list(scores.values()) == pytest.approx(alone, abs=1e-5)
