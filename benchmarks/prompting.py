"""Prompted scoring beside lm-evaluation-harness: the same log-likelihoods, and the time that they take.

    python -m venv /tmp/lmeval && /tmp/lmeval/bin/pip install -c constraints.txt torch transformers lm-eval
    python benchmarks/prompting.py --lm-eval /tmp/lmeval/bin/python

A random Qwen3 of 18 million parameters and its tokenizer are made from configuration. Both sides read the same prompts
in float32 with one thread each, in turns; lm-evaluation-harness runs in an interpreter of its own, in batches of 16.
The harness's seconds include its tokenizing and the shared beginning. They are of processor time, which a busy machine
changes less than the clock's.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config

from harness.models import prompt as prompted
from harness.models.classifier import ModelInputs, PromptInputs, Solved
from harness.suite.prompts import LabelWords, Prompt, PromptModel
from harness.suite.text import Text

THINGS = ("phone", "router", "camera", "player", "battery", "case", "cable", "manual", "screen", "keyboard")
WORDS = (
    "great",
    "lovely",
    "solid",
    "perfect",
    "awful",
    "broken",
    "cheap",
    "useless",
    "the",
    "is",
    "and",
    "it",
    "works",
)
SHOT_WORDS = (60, 90)
"""Words of a shown review, so that eight of them are some 650 tokens."""
VOCABULARY = 32_768
TEXT = Text(template="{content}", max_length=512)

OTHER_SIDE = """
import json, sys, time
import torch
torch.set_num_threads(1)
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
lm = HFLM(pretrained=sys.argv[1], backend="causal", dtype="float32", device="cpu", batch_size=16)
print("ready", flush=True)
for line in sys.stdin:
    pairs = json.loads(line)
    asked = [Instance("loglikelihood", {}, tuple(pair), i) for i, pair in enumerate(pairs)]
    began = time.process_time()
    found = lm.loglikelihood(asked, disable_tqdm=True)
    print("answer " + json.dumps([time.process_time() - began, [value for value, _ in found]]), flush=True)
"""


def texts(n: int, seed: int, words: tuple[int, int] = (20, 60)) -> list[str]:
    """Made-up reviews of so many words, at least and at most."""
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice([*THINGS, *WORDS], size=generator.integers(*words))) for _ in range(n)]


def make(folder: Path) -> None:
    """A random network of 17 million parameters with a tokenizer."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY, hidden_size=256, intermediate_size=768, num_hidden_layers=12, num_attention_heads=4,
        num_key_value_heads=2, head_dim=64, max_position_embeddings=2048, tie_word_embeddings=True,
        initializer_range=0.05,
    )  # fmt: skip
    auto: Any = AutoModelForCausalLM
    network = auto.from_config(config)
    print(f"{sum(parameter.numel() for parameter in network.parameters()) / 1e6:.1f} million parameters")
    network.save_pretrained(folder)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<|end|>"]
    )
    tokenizer.train_from_iterator([*texts(200, 9), *["sentiment : positive negative"] * 20], trainer)
    fast: Any = PreTrainedTokenizerFast
    fast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>").save_pretrained(folder)


def ours(folder: Path, shots: int, words: LabelWords) -> Any:
    """The harness's model, loaded."""
    solved = tuple(Solved("", text, i % 2) for i, text in enumerate(texts(shots, 1, SHOT_WORDS)))
    asked = Prompt(id="p", template="review : {{ content }} sentiment :", label_words=words)
    declared = PromptModel(id="m", backend="prompt", base="b", task="causal_lm", prompts=("p",), precision="fp32")
    inputs = ModelInputs(
        seed=0, max_length=512, base_dir=folder, adapter_dir=None, train_texts=(), train_labels=(),
        prompt=PromptInputs(asked, solved, ()),
    )  # fmt: skip
    return prompted.prompt(declared, inputs)


def once(model: Any, some: Sequence[str]) -> tuple[float, torch.Tensor]:
    """Processor seconds and log-likelihoods of the harness, the shared beginning included."""
    model.asked.kept.clear()
    began = time.process_time()
    rows = [model.frame.ids("", text)[0] for text in some]
    found = model.asked.log_likelihoods(rows, model.frame.answers, lambda units, note: None)
    return time.process_time() - began, found


def main() -> None:
    """Compare and time."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--lm-eval", type=Path, required=True, help="interpreter of an environment with lm-eval")
    parser.add_argument("--base", type=Path, help="folder of a causal language model, in place of the random one")
    parser.add_argument("--texts", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as fresh:
        folder = options.base or Path(fresh) / "base"
        if options.base is None:
            make(folder)
        command = [str(options.lm_eval), "-c", OTHER_SIDE, str(folder)]
        other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert other.stdin is not None
        assert other.stdout is not None
        while (line := other.stdout.readline()) and line.strip() != "ready":
            pass
        some = texts(options.texts, 2)
        for shots in (0, 1, 4, 8):
            for name, words in {
                "one token": LabelWords(negative=("negative",), positive=("positive",)),
                "longer": LabelWords(negative=("negative is broken",), positive=("positive and works",)),
            }.items():
                model = ours(folder, shots, words)
                pairs = [(model.frame.text("", text), f" {word}") for text in some for word in words.both]
                mine, theirs, values = [], [], []
                for _ in range(options.rounds if shots in (0, 8) else 1):
                    seconds, found = once(model, some)
                    mine.append(seconds)
                    other.stdin.write(json.dumps(pairs) + "\n")
                    other.stdin.flush()
                    while (line := other.stdout.readline()) and not line.startswith("answer "):
                        pass
                    seconds, values = json.loads(line.removeprefix("answer "))
                    theirs.append(seconds)
                expected = torch.tensor(values, dtype=torch.float64).reshape(found.shape)
                apart, same = float((found - expected).abs().max()), torch.equal(found.argmax(1), expected.argmax(1))
                ratio = statistics.median(theirs) / statistics.median(mine)
                print(
                    f"{shots} shots, {name} ({max(map(len, model.frame.answers))} tokens), prefix of "
                    f"{len(model.asked.prefix)} tokens: largest difference {apart:.1e}, same picks {same}; "
                    f"{statistics.median(mine):.2f} s against {statistics.median(theirs):.2f} s, {ratio:.1f} times "
                    f"(n = {len(some)}, {len(mine)} rounds)",
                    flush=True,
                )
        other.stdin.close()
        other.wait()


if __name__ == "__main__":
    main()
