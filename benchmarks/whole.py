"""Whole commands on the clock: `harness evaluate` from an empty store beside plain scripts that people use.

Every candidate is a process of its own, timed from its start to its end: imports, loading, reading, scoring. They take
turns on the same adapter, rows and cores; medians over rounds. Prints Markdown, asserts nothing.

    python benchmarks/whole.py FOLDER                  # 1,000 rows, five rounds
    python benchmarks/whole.py FOLDER --rows 5000
    python benchmarks/whole.py FOLDER --only fp32 bf16
    python benchmarks/whole.py FOLDER --adapters 9     # as many on one base, such as three of three seeds

FOLDER holds `base` (a foundation model with its tokenizer), `adapter` (a LoRA of it, as PEFT saves it) and
`reviews.parquet` with the columns `title`, `content` and `label` (0 or 1). Further adapters are copies of the adapter,
each with a matrix scaled a little, so that nothing can be computed once for all; accuracy is the first one's.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import pandas as pd
from safetensors.torch import load_file, save_file

from harness import provenance
from harness.artifacts import digest

MAX_LENGTH = 256
READING = """
import pandas as pd, torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer
rows = pd.read_parquet("reviews.parquet")
texts = [f"{title} {content}" for title, content in zip(rows["title"], rows["content"])]
tokenizer = AutoTokenizer.from_pretrained("base")
def merged(adapter):
    network = AutoModelForSequenceClassification.from_pretrained("base", num_labels=2)
    return PeftModel.from_pretrained(network, adapter).merge_and_unload().eval()
"""
PIPELINE = """
from transformers import pipeline
def answer(network):
    pipe = pipeline("text-classification", model=network, tokenizer=tokenizer, device="cpu", batch_size={batch})
    return [int(one["label"].endswith("1")) for one in pipe(texts, truncation=True, max_length={max_length})]
"""
TRAINER = """
from datasets import Dataset
from transformers import Trainer, TrainingArguments
encoded = Dataset.from_dict(dict(tokenizer(texts, truncation=True, padding="max_length", max_length={max_length})))
arguments = TrainingArguments("out", per_device_eval_batch_size=32, report_to=[], use_cpu=True)
def answer(network):
    return Trainer(network, arguments).predict(encoded).predictions.argmax(-1).tolist()
"""
LAST = """
import json
answers = [answer(merged(adapter)) for adapter in {adapters}]
print("answers", json.dumps(answers[0]))
"""
SCRIPTS = {
    "pipeline": PIPELINE.format(batch=1, max_length=MAX_LENGTH),
    "pipeline, batch 32": PIPELINE.format(batch=32, max_length=MAX_LENGTH),
    "Trainer, padded": TRAINER.format(max_length=MAX_LENGTH),
}
FORMS = {
    "fp32": {"precision": "fp32"},
    "bf16": {"precision": "bf16"},
    "OpenVINO fp32": {"precision": "fp32", "runtime": "openvino"},
    "OpenVINO bf16": {"precision": "bf16", "runtime": "openvino"},
}
ANOTHER = """
[[adapter]]
id = "{name}"
base = "base"
source = "path"
path = "{name}"
sha256 = "{sha256}"

[[model]]
id = "{name}"
backend = "peft"
adapter = "{name}"
precision = "fp32"
"""


def run(folder: Path, *words: str) -> str:
    """Run Python in a folder to its end, and return what it printed on stdout."""
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"python {' '.join(words)[:200]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def script(folder: Path, adapters: Sequence[str], answer: str) -> list[int]:
    """Answers of a plain script with the first adapter; it is run as a process, and answers with each."""
    path = folder / "plain.py"
    path.write_text(READING + answer + LAST.format(adapters=list(adapters)))
    printed = run(folder, path.name)
    answers: list[int] = json.loads(printed.split("answers ", 1)[1])
    return answers


def more_adapters(folder: Path, count: int) -> list[str]:
    """Make further adapters beside the first until there are as many; returns the names of all."""
    names = ["adapter", *(f"adapter-{i}" for i in range(2, count + 1))]
    weights = load_file(folder / "adapter" / "adapter_model.safetensors")
    scaled = next(key for key in weights if "lora_B" in key)
    for i, name in enumerate(names[1:], start=1):
        shutil.copytree(folder / "adapter", folder / name)
        changed = weights | {scaled: weights[scaled] * (1 + i / 1000)}
        save_file(changed, folder / name / "adapter_model.safetensors", {"format": "pt"})
    return names


def draft(folder: Path, adapters: Sequence[str]) -> None:
    """Write the suite that `harness init` writes, with a model for each adapter, once in each form."""
    run(folder, "-m", "harness", "init", "adapter", "--base", "base", "--data", "reviews.parquet")
    text = (folder / "adapter.toml").read_text()
    text = "".join(
        f"max_length = {MAX_LENGTH}\n" if line.startswith("max_length") else line for line in text.splitlines(True)
    )
    for name in adapters[1:]:
        text += ANOTHER.format(name=name, sha256=digest.of_file(folder / name / "adapter_model.safetensors"))
    (folder / "adapter.toml").write_text(text)
    for name, keys in FORMS.items():
        declared = "".join(f'{key} = "{value}"\n' for key, value in keys.items())
        of_adapters = re.sub(r'(?<=")\nprecision = "fp32"\n', f"\n{declared}", text)
        (folder / f"{file_name(name)}.toml").write_text(of_adapters)
        shutil.copy(folder / "adapter.lock", folder / f"{file_name(name)}.lock")


def file_name(form: str) -> str:
    """Name of a form's suite."""
    return form.replace(" ", "-").lower()


def evaluate(folder: Path, adapters: Sequence[str], form: str, *, keep: bool = False) -> tuple[Path, Path]:
    """Run `harness evaluate` as a process, from an empty store unless it is kept; return suite and store."""
    suite, db = f"{file_name(form)}.toml", folder / f"runs-{file_name(form)}" / "harness.duckdb"
    if not keep:
        shutil.rmtree(db.parent, ignore_errors=True)
    timeline = ("--timeline", f"{file_name(form)}.json")
    models = [word for name in adapters for word in ("--model", name)]
    run(folder, "-m", "harness", "evaluate", suite, *models, "--db", str(db), *timeline)
    return folder / suite, db


def answers_of(given: list[int] | tuple[Path, Path]) -> list[int]:
    """Answers of a candidate, 0 or 1 by row."""
    import harness

    if isinstance(given, list):
        return given
    found = harness.predictions(harness.open(*given), models=["adapter"])
    return [int(score > 0.5) for score in found["score"]]


def ways(folder: Path, adapters: Sequence[str], only: Sequence[str]) -> dict[str, Callable[[], Any]]:
    """The candidates, by name."""
    found: dict[str, Callable[[], Any]] = {}
    for form in FORMS:
        found[f"harness evaluate, {form}"] = partial(evaluate, folder, adapters, form)
    found["harness evaluate again, fp32"] = partial(evaluate, folder, adapters, "fp32", keep=True)
    for name, answer in SCRIPTS.items():
        found[name] = partial(script, folder, adapters, answer)
    return {name: way for name, way in found.items() if not only or any(one in name for one in only)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--adapters", type=int, default=1, help="how many to score on the base")
    parser.add_argument("--only", nargs="*", default=[], help="candidates whose names contain one of these")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="whole-") as made:
        folder = Path(made)
        for name in ("base", "adapter"):
            shutil.copytree(options.folder / name, folder / name)
        rows = pd.read_parquet(options.folder / "reviews.parquet").head(options.rows)
        rows[["title", "content", "label"]].to_parquet(folder / "reviews.parquet", index=False)
        adapters = more_adapters(folder, options.adapters)
        draft(folder, adapters)
        seconds, given = measuring.interleaved(ways(folder, adapters, options.only), options.rounds)
        print(
            f"{len(rows):,} reviews cut at {MAX_LENGTH} tokens, {len(adapters)} adapters, {provenance.cores()} cores, "
            f"{options.rounds} rounds\n"
        )
        fastest = min((seconds[name] for name in SCRIPTS if name in seconds), default=None)
        table = []
        for name, median in seconds.items():
            answers = np.array(answers_of(given[name]))
            correct = f"{np.mean(answers == rows['label'].to_numpy()):.4f}"
            ratio = "–" if fastest is None else f"{median / fastest:.2f}"
            table.append([name, f"{median:.1f}", ratio, correct])
        print(measuring.table(["whole process", "seconds", "× the fastest script", "accuracy"], table))


if __name__ == "__main__":
    main()
