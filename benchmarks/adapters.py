"""Cost of many adapters on one base, and of many texts. Part of `nox -s bench`.

    python benchmarks/adapters.py suites/mine.toml --part adapters   # LoRA on the two top layers: shared and separate
    python benchmarks/adapters.py suites/mine.toml --part memory     # LoRA on all layers: 8 adapters, 1 and 2 models
    python benchmarks/adapters.py suites/mine.toml --part texts      # seconds and memory against the number of texts

Adapters are LoRA of random numbers on the suite's first base, saved as PEFT saves them and loaded like any other; each
evaluation loads one, proves it and scores the texts, in bf16 where the processor has it, else in fp32. Shared and
separate evaluations of an adapter take turns in one process with one thread, and must give the same bits. Prints
Markdown.
"""

import argparse
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import torch

from harness import models, provenance
from harness.evaluation.inputs import Workspace, gather
from harness.models.classifier import ModelInputs
from harness.models.peft import without_known_warnings
from harness.models.transformer import untrained
from harness.stats.inference import Floats
from harness.suite.load import load as load_suite
from harness.suite.schema import PeftModel, TransformerModel

QUICKSTART = Path(__file__).parents[1] / "suites" / "quickstart.toml"
PRECISION = "bf16" if provenance.has_fast_bf16() else "fp32"
MODEL = PeftModel.model_validate({"id": "lora", "backend": "peft", "adapter": "a", "precision": PRECISION})
TARGETS = {"bert": ["query", "value"], "distilbert": ["q_lin", "v_lin"]}


def real(path: Path, db: Path, count: int, max_length: int) -> tuple[ModelInputs, list[str]]:
    """The suite's first base, and texts of its first scored split."""
    declared = load_suite(path)
    materials = gather(declared, Workspace(path, db))
    split = next(split for split in materials.splits.values() if split.split_id not in declared.train_split_ids)
    texts = [declared.text.render(example.title, example.content) for example in split.examples[:count]]
    base = next(iter(materials.bases.values()))
    return ModelInputs(None, max_length, base.folder, None, [], []), texts


def made(base: Path, count: int, top: int | None) -> list[Path]:
    """Adapters on the top layers, or on all of them."""
    from peft import LoraConfig, get_peft_model

    folders = []
    for seed in range(count):
        network: Any = untrained(base, seed)
        layers = network.config.num_hidden_layers
        on = list(range(layers - (top or layers), layers))
        targets = TARGETS[network.config.model_type]
        with without_known_warnings(), torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            config = LoraConfig(task_type="SEQ_CLS", r=8, target_modules=targets, layers_to_transform=on)
            adapted: Any = get_peft_model(network, config)
            for name, parameter in adapted.named_parameters():
                if "lora_" in name or "modules_to_save" in name:
                    parameter.normal_(std=0.05)
            folders.append(Path(tempfile.mkdtemp()))
            adapted.save_pretrained(folders[-1])
    return folders


def scored(ingredients: ModelInputs, texts: list[str]) -> tuple[float, float, Floats]:
    """Seconds of loading, seconds of scoring, probabilities of class 1."""
    began = time.perf_counter()
    classifier = models.load(MODEL, ingredients)
    loaded = time.perf_counter()
    scores = classifier.predict(texts, lambda units, note: None).scores
    return loaded - began, time.perf_counter() - loaded, scores


def adapters(ingredients: ModelInputs, texts: list[str], count: int, top: int) -> str:
    """Cumulative seconds of shared and separate evaluations, by the number of adapters."""
    assert ingredients.base_dir is not None
    folders = made(ingredients.base_dir, count, top)
    shared = replace(ingredients, states_dir=Path(tempfile.mkdtemp()))
    scored(replace(ingredients, adapter_dir=folders[0]), texts)  # warms up
    rows, total = [], {"separate": np.zeros(2), "shared": np.zeros(2)}
    for index, folder in enumerate(folders):
        turn = {"separate": ingredients, "shared": shared}
        scores = []
        for name in list(turn)[:: 1 if index % 2 else -1]:
            load, score, given = scored(replace(turn[name], adapter_dir=folder), texts)
            total[name] += (load, score)
            scores.append(given)
        if not np.array_equal(*scores):
            sys.exit(f"adapter {index}: shared layers changed an answer")
        if (index + 1).bit_count() == 1 or index + 1 == count:
            separate, together = total["separate"], total["shared"]
            rows.append(
                [
                    f"{index + 1}",
                    f"{separate.sum():.1f}",
                    f"{together.sum():.1f}",
                    f"{together.sum() / separate.sum():.2f}",
                    f"{together[1] / separate[1]:.2f}",
                ]
            )
    head = ["adapters", "separate, s", "shared, s", "ratio", "ratio of scoring alone"]
    return f"LoRA on the {top} top layers, {len(texts)} texts, {PRECISION}\n\n{measuring.table(head, rows)}"


def memory(base: Path, words: list[object]) -> str:
    """Largest resident sets of separate processes; the adapters are made before, in this one."""
    ways = {"nothing scored": 0, "1 adapter": 1, "8 adapters, one after the other": 8, "2 models at once": -2}
    words += ["--adapters", *made(base, max(ways.values()), None)]
    rows = [[name, measuring.alone(__file__, [*words, "--only", count])] for name, count in ways.items()]
    return f"LoRA on all layers, {PRECISION}\n\n{measuring.table(['process', 'largest resident set, MiB'], rows)}"


def only(ingredients: ModelInputs, texts: list[str], folders: list[Path], count: int) -> int:
    """This number of adapters one after the other, or, if negative, of models at once."""
    each = [replace(ingredients, adapter_dir=folder) for folder in folders[: abs(count)]]
    at_once = [models.load(MODEL, one) for one in each] if count < 0 else []
    for classifier in at_once:
        classifier.predict(texts, lambda units, note: None)
    for one in each if count > 0 else []:
        scored(one, texts)
    return measuring.resident_mib()


def many_texts(ingredients: ModelInputs, sizes: list[int]) -> str:
    """Seconds and memory against the number of texts of made-up lengths, each in its own process."""
    model = TransformerModel.model_validate(
        {"id": "head", "backend": "transformer", "base": "b", "seeds": (0,), "precision": PRECISION}
    )
    classifier = models.load(model, replace(ingredients, seed=0))
    generator = np.random.default_rng(0)
    words = [str(number) for number in range(100)]
    rows, seconds = [], []
    for n in sizes:
        lengths = np.clip(generator.lognormal(3.2, 0.7, n), 3, 200).astype(int)  # tokens: about 30, few long
        texts = [" ".join(generator.choice(words, length)) for length in lengths]
        began = time.perf_counter()
        found = classifier.predict(texts, lambda units, note: None)
        seconds.append(time.perf_counter() - began)
        rate = (found.tokens or 0) / seconds[-1]
        rows.append([f"{n:,}", f"{seconds[-1]:.2f}", f"{rate:,.0f}", f"{measuring.resident_mib()}"])
    slope = np.polyfit(np.log(sizes), np.log(seconds), 1)[0]
    head = ["texts", "seconds", "tokens/s", "largest resident set so far, MiB"]
    return f"{measuring.table(head, rows)}\n\nSlope of log seconds against log n: {slope:.3f}"


def main() -> None:
    """Print the requested part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path, nargs="?", default=QUICKSTART)
    parser.add_argument("--db", type=Path, default=Path("runs/harness.duckdb"))
    parser.add_argument("--part", choices=["adapters", "memory", "texts"], default="adapters")
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--top", type=int, default=2)
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 1000, 2000, 5000, 10000, 20000])
    parser.add_argument("--adapters", type=Path, nargs="+", default=[], help=argparse.SUPPRESS)
    parser.add_argument("--only", type=int, help="prints this process's largest resident set")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    ingredients, texts = real(asked.suite, asked.db, asked.texts, asked.max_length)
    words = [asked.suite, "--db", asked.db, "--texts", asked.texts, "--max-length", asked.max_length]
    if asked.only is not None:
        print(only(ingredients, texts, asked.adapters, asked.only))
    elif asked.part == "adapters":
        print(adapters(ingredients, texts, asked.count, asked.top))
    elif asked.part == "memory":
        assert ingredients.base_dir is not None
        print(memory(ingredients.base_dir, words))
    else:
        print(many_texts(ingredients, asked.sizes))


if __name__ == "__main__":
    main()
