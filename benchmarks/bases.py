"""Foundation models of twenty families, tiny and built from configuration: what trains, scores, merges and converts.

    python benchmarks/bases.py
    python benchmarks/bases.py --write docs/bases.md
    python benchmarks/bases.py --family BERT --family T5

Each base goes the way of a suite: it is pinned, a LoRA and a head are trained on it, and both are scored, merged and
converted. Each result is compared with transformers and PEFT, which read one text at a time, without padding.
"""

import argparse
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from peft import PeftModelForSequenceClassification
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing

from harness import api, models
from harness.artifacts import digest
from harness.errors import HarnessError
from harness.models import peft, transformer
from harness.models.variants import merged
from harness.stats.inference import Floats

MAX_LENGTH = 60
ALLOWED = 1e-5
"""Largest difference from the reference, in fp32, with which a cell counts as working."""
SPECIAL = ["<s>", "</s>", "<pad>", "<mask>", "<unk>"]
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
SIZE = len(SPECIAL) + len(BYTES)
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
"""Texts of one token to more than the allowed number, some of one length."""

COMMON: dict[str, Any] = {
    "vocab_size": SIZE, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.2,
}  # fmt: skip
LIKE_BERT = {**COMMON, "intermediate_size": 32, "max_position_embeddings": 80}
LIKE_LLAMA = {**LIKE_BERT, "num_key_value_heads": 1, "head_dim": 8}
DEBERTA = {**LIKE_BERT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "pooler_hidden_size": 16}


@dataclass(frozen=True)
class Family:
    """The shape of a tiny base, and the layers that LoRA adapts."""

    name: str
    model_type: str
    keys: dict[str, Any]
    targets: tuple[str, ...]
    is_encoder: bool = False
    """True if its tokenizer adds special tokens."""


FAMILIES = {
    family.name: family
    for family in (
        Family("BERT", "bert", LIKE_BERT, ("query", "value"), True),
        Family("RoBERTa", "roberta", LIKE_BERT, ("query", "value"), True),
        Family(
            "DistilBERT",
            "distilbert",
            {"vocab_size": SIZE, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32,
             "max_position_embeddings": 80, "initializer_range": 0.2},
            ("q_lin", "v_lin"),
            True,
        ),
        Family("ELECTRA", "electra", {**LIKE_BERT, "embedding_size": 16}, ("query", "value"), True),
        Family("ALBERT", "albert", {**LIKE_BERT, "embedding_size": 16}, ("query", "value"), True),
        Family("DeBERTa-v2", "deberta-v2", DEBERTA, ("query_proj", "value_proj"), True),
        Family(
            "DeBERTa-v3",
            "deberta-v2",
            {**DEBERTA, "share_att_key": True, "position_biased_input": False, "norm_rel_ebd": "layer_norm",
             "position_buckets": 16, "max_relative_positions": -1, "type_vocab_size": 0},
            ("query_proj", "value_proj"),
            True,
        ),
        Family(
            "ModernBERT",
            "modernbert",
            {**LIKE_BERT, "num_hidden_layers": 3, "local_attention": 16},
            ("Wqkv",),
            True,
        ),
        Family("MPNet", "mpnet", LIKE_BERT, ("q", "v"), True),
        Family(
            "XLNet",
            "xlnet",
            {"vocab_size": SIZE, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32, "initializer_range": 0.2},
            ("layer_1", "layer_2"),
            True,
        ),
        Family("GPT-2", "gpt2", {**COMMON, "n_positions": 80}, ("c_attn",)),
        Family("GPT-NeoX", "gpt_neox", LIKE_BERT, ("query_key_value",)),
        Family(
            "OPT",
            "opt",
            {**COMMON, "init_std": 0.2, "ffn_dim": 32, "max_position_embeddings": 80, "word_embed_proj_dim": 16},
            ("q_proj", "v_proj"),
        ),
        Family(
            "BLOOM",
            "bloom",
            {"vocab_size": SIZE, "hidden_size": 16, "n_layer": 2, "n_head": 2, "initializer_range": 0.2},
            ("query_key_value",),
        ),
        Family("Llama", "llama", LIKE_LLAMA, ("q_proj", "v_proj")),
        Family("Qwen2", "qwen2", LIKE_LLAMA, ("q_proj", "v_proj")),
        Family("Qwen3", "qwen3", LIKE_LLAMA, ("q_proj", "v_proj")),
        Family("Gemma", "gemma", LIKE_LLAMA, ("q_proj", "v_proj")),
        Family("Mistral", "mistral", {**LIKE_LLAMA, "sliding_window": 16}, ("q_proj", "v_proj")),
        Family(
            "BART",
            "bart",
            {"vocab_size": SIZE, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 32,
             "decoder_ffn_dim": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
             "max_position_embeddings": 80, "init_std": 0.2, "decoder_start_token_id": 1, "forced_eos_token_id": 1},
            ("q_proj", "v_proj"),
            True,
        ),
        Family(
            "T5",
            "t5",
            {"vocab_size": SIZE, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2,
             "decoder_start_token_id": 2, "initializer_factor": 1.0},
            ("q", "v"),
            True,
        ),
    )
}  # fmt: skip

SUITE = """version = 1
name = "bases"
description = "One family"
primary_metric = "accuracy"
text = {{ template = "{{content}}", max_length = {length} }}
split = [
    {{ id = "train", source = "file", path = "train.jsonl", format = "jsonl" }},
    {{ id = "test", source = "file", path = "test.jsonl", format = "jsonl" }},
]
base = [{{ id = "base", source = "path", path = "base", sha256 = "{sha256}" }}]
metric = [{{ name = "accuracy" }}]
"""
ADAPTER = """
[[adapter]]
id = "{method}"
base = "base"
method = "{method}"
params = {params}
train = {{ split = "train", epochs = {epochs}, learning_rate = {rate}, batch_size = 4, warmup_share = 0.0, \
weight_decay = 0.0, max_grad_norm = 1.0, precision = "fp32", seeds = [1] }}
"""
MODEL = """
[[model]]
id = "{method}-{runtime}"
backend = "{backend}"
adapter = "{method}"
precision = "fp32"
runtime = "{runtime}"
"""
RECIPES: dict[str, dict[str, Any]] = {"lora": {"epochs": 8, "rate": "5e-3"}, "head": {"epochs": 20, "rate": "5e-2"}}
METHODS = tuple(RECIPES)
STEPS = ("trains", "scores", "merges", "OpenVINO")


def make_base(folder: Path, family: Family) -> Path:
    """A base with wide weights, and a tokenizer of bytes."""
    inner = Tokenizer(BPE({word: i for i, word in enumerate([*SPECIAL, *BYTES])}, [], unk_token="<unk>"))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    if family.is_encoder:
        inner.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    fast: Any = transformers.PreTrainedTokenizerFast
    fast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>").save_pretrained(folder)
    config = transformers.AutoConfig.for_model(
        family.model_type, pad_token_id=2, bos_token_id=0, eos_token_id=1, **family.keys
    )
    torch.manual_seed(7)
    auto: Any = transformers.AutoModel
    auto.from_config(config).save_pretrained(folder)
    return folder


def write_suite(folder: Path, family: Family, method: str) -> Path:
    """A suite that trains one method on the base in a folder, and scores it with both runtimes."""
    for name, n in (("train", 32), ("test", 8)):
        lines = [f'{{"label": {i % 2}, "content": "{("bad", "good")[i % 2] * 3} {name} {i}"}}\n' for i in range(n)]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    targets = ", ".join(f'"{name}"' for name in family.targets)
    turned = ", fan_in_fan_out = true" if family.model_type == "gpt2" else ""
    params = f"{{ r = 4, lora_alpha = 8, target_modules = [{targets}]{turned} }}" if method == "lora" else "{}"
    backend = "peft" if method == "lora" else "transformer"
    text = SUITE.format(length=MAX_LENGTH, sha256=digest.of_file(folder / "base" / "model.safetensors"))
    text += ADAPTER.format(method=method, params=params, **RECIPES[method])
    text += "".join(MODEL.format(method=method, backend=backend, runtime=name) for name in ("torch", "openvino"))
    path = folder / f"{method}.toml"
    path.write_text(text)
    return path


def one_at_a_time(base: Path, adapter: Path, method: str) -> Floats:
    """Probabilities of class 1 by transformers and PEFT, each text alone: shape (texts,)."""
    auto: Any = transformers.AutoModelForSequenceClassification
    if method == "lora":
        plain = auto.from_pretrained(base, num_labels=2, dtype=torch.float32)
        with peft.without_known_warnings():
            network: Any = PeftModelForSequenceClassification.from_pretrained(plain, adapter)
    else:
        network = auto.from_pretrained(adapter, dtype=torch.float32)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(base)
    scores = []
    with torch.inference_mode():
        for text in TEXTS:
            ids = tokenizer(text, truncation=True, max_length=MAX_LENGTH)["input_ids"]
            batch = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.int64)}
            scores.append(torch.softmax(network.eval()(**batch).logits.double(), 1)[0, 1].item())
    return np.array(scores)


def cells(family: Family, method: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Each step and its outcome: "yes", or the largest difference from the reference."""
    project = api.open(write_suite(folder, family, method), folder / f"{method}-runs" / "x.duckdb")
    _, failures = api.train(project, workers=1)
    if failures:
        raise HarnessError(failures[0])
    yield "trains", "yes"
    by_model = {job.model.id: job for job in api.plan(project)}
    torch_job, converted_job = by_model[f"{method}-torch"], by_model[f"{method}-openvino"]
    inputs = torch_job.ingredients
    expected = one_at_a_time(inputs.base, inputs.adapter, method)
    assert expected.std() > 1e-3, "scores that are all alike prove nothing"
    assert (expected * (1 - expected)).max() > 1e-2, "nor do scores that are all certain"

    def of_merged() -> Any:
        module = peft if method == "lora" else transformer
        return transformer.SequenceClassifier(merged(module.network(inputs)), inputs.base, MAX_LENGTH)

    steps: dict[str, Callable[[], Any]] = {
        "scores": lambda: models.load(torch_job.model, changed(inputs, states_dir=None)),
        **({"merges": of_merged} if method == "lora" else {}),
        "OpenVINO": lambda: models.load(converted_job.model, converted_job.ingredients),
    }
    for step, load in steps.items():
        found = load().predict(TEXTS, lambda units, note: None).scores
        yield step, f"{np.abs(found - expected).max():.0e}"


def measure(names: Sequence[str]) -> list[list[str]]:
    """A row for each family and method: family, method, and an outcome for each step."""
    rows = []
    for name in names:
        with tempfile.TemporaryDirectory() as made:
            make_base(Path(made) / "base", FAMILIES[name])
            for method in METHODS:
                outcomes = dict(cells(FAMILIES[name], method, Path(made)))
                rows.append([name, method, *(outcomes.get(step, "–") for step in STEPS)])
                print(*rows[-1], sep=" | ", flush=True)
    return rows


PAGE = """# Bases

Foundation models of {count} families, as `benchmarks/bases.py` measured them. It builds a tiny base of each family from
its configuration, with random wide weights, and takes it the way of a suite: the base is pinned, a LoRA and a head are
trained on it in fp32, and both are scored, merged and converted.

A number is the largest difference, over {texts} texts of 1 to {length} tokens, between the harness's probabilities and
those of transformers and PEFT, which read one text at a time, without padding; at most {allowed:.0e} counts as working.
A head has nothing to merge.

Weights of a real size add rounding of their own: [precision.md](precision.md) says how variants of trained weights are
compared.

| family | LoRA trains | scores | merges | OpenVINO | head trains | scores | OpenVINO |
|---|---|---|---|---|---|---|---|
{table}

Measured with torch {torch}, transformers {transformers}, PEFT {peft} and OpenVINO {openvino}:

```bash
python benchmarks/bases.py --write docs/bases.md
```
"""


def page(rows: Sequence[Sequence[str]]) -> str:
    """The page with these rows."""
    by_family: dict[str, list[str]] = {}
    for family, method, *outcomes in rows:
        by_family.setdefault(family, []).extend(outcomes if method == "lora" else [*outcomes[:2], outcomes[3]])
    from importlib.metadata import version

    return PAGE.format(
        count=len(by_family),
        texts=len(TEXTS),
        length=MAX_LENGTH,
        allowed=ALLOWED,
        table="\n".join(f"| {family} | {' | '.join(found)} |" for family, found in by_family.items()),
        **{name: version(name) for name in ("torch", "transformers", "peft", "openvino")},
    )


def main() -> None:
    """Measure the families and print them, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", action="append", choices=FAMILIES, help="only this one; may be given several times")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page of all families to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    rows = measure(options.family or list(FAMILIES))
    if options.write:
        options.write.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
