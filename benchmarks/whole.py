"""Whole commands on the clock: `harness evaluate` from an empty store beside plain scripts that people use.

Every candidate is a process of its own, timed from its start to its end: imports, loading, reading, scoring. They take
turns on the same adapter, rows and cores; medians over rounds. Prints Markdown, asserts nothing.

    python benchmarks/whole.py FOLDER                  # 1,000 rows, five rounds
    python benchmarks/whole.py FOLDER --rows 5000
    python benchmarks/whole.py FOLDER --only fp32 bf16

FOLDER holds `base` (a foundation model with its tokenizer), `adapter` (a LoRA of it, as PEFT saves it) and
`reviews.parquet` with the columns `title`, `content` and `label` (0 or 1).
"""

import argparse
import json
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

from harness import provenance

MAX_LENGTH = 256
READING = """
import pandas as pd, torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer
rows = pd.read_parquet("reviews.parquet")
texts = [f"{title} {content}" for title, content in zip(rows["title"], rows["content"])]
tokenizer = AutoTokenizer.from_pretrained("base")
network = AutoModelForSequenceClassification.from_pretrained("base", num_labels=2)
network = PeftModel.from_pretrained(network, "adapter").merge_and_unload().eval()
"""
PIPELINE = """
from transformers import pipeline
pipe = pipeline("text-classification", model=network, tokenizer=tokenizer, device="cpu", batch_size={batch})
answers = [int(one["label"].endswith("1")) for one in pipe(texts, truncation=True, max_length={max_length})]
"""
TRAINER = """
from datasets import Dataset
from transformers import Trainer, TrainingArguments
encoded = Dataset.from_dict(dict(tokenizer(texts, truncation=True, padding="max_length", max_length={max_length})))
arguments = TrainingArguments("out", per_device_eval_batch_size=32, report_to=[], use_cpu=True)
answers = Trainer(network, arguments).predict(encoded).predictions.argmax(-1).tolist()
"""
LAST = """
import json
print("answers", json.dumps(answers))
"""
SCRIPTS = {
    "pipeline": PIPELINE.format(batch=1, max_length=MAX_LENGTH),
    "pipeline, batch 32": PIPELINE.format(batch=32, max_length=MAX_LENGTH),
    "Trainer, padded": TRAINER.format(max_length=MAX_LENGTH),
}
FORMS = {
    "fp32": {"precision": "fp32"},
    "bf16": {"precision": "bf16"},
    "OpenVINO bf16": {"precision": "bf16", "runtime": "openvino"},
}


def run(folder: Path, *words: str) -> str:
    """Run Python in a folder to its end, and return what it printed on stdout."""
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"python {' '.join(words)[:200]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def script(folder: Path, last: str) -> list[int]:
    """Answers of a plain script, run as a process."""
    path = folder / "plain.py"
    path.write_text(READING + last + LAST)
    printed = run(folder, path.name)
    answers: list[int] = json.loads(printed.split("answers ", 1)[1])
    return answers


def draft(folder: Path) -> None:
    """Write the suite that `harness init` writes, with one model in each form."""
    run(folder, "-m", "harness", "init", "adapter", "--base", "base", "--data", "reviews.parquet")
    text = (folder / "adapter.toml").read_text()
    text = "".join(
        f"max_length = {MAX_LENGTH}\n" if line.startswith("max_length") else line for line in text.splitlines(True)
    )
    (folder / "adapter.toml").write_text(text)
    for name, keys in FORMS.items():
        declared = "".join(f'{key} = "{value}"\n' for key, value in keys.items())
        (folder / f"{file_name(name)}.toml").write_text(text.replace('precision = "fp32"\n', declared, 1))
        shutil.copy(folder / "adapter.lock", folder / f"{file_name(name)}.lock")


def file_name(form: str) -> str:
    """Name of a form's suite."""
    return form.replace(" ", "-").lower()


def evaluate(folder: Path, form: str, *, keep: bool = False) -> tuple[Path, Path]:
    """Run `harness evaluate` as a process, from an empty store unless it is kept; return suite and store."""
    suite, db = f"{file_name(form)}.toml", folder / f"runs-{file_name(form)}" / "harness.duckdb"
    if not keep:
        shutil.rmtree(db.parent, ignore_errors=True)
    timeline = ("--timeline", f"{file_name(form)}.json")
    run(folder, "-m", "harness", "evaluate", suite, "--model", "adapter", "--db", str(db), *timeline)
    return folder / suite, db


def answers_of(given: list[int] | tuple[Path, Path]) -> list[int]:
    """Answers of a candidate, 0 or 1 by row."""
    import harness

    if isinstance(given, list):
        return given
    found = harness.predictions(harness.open(*given), models=["adapter"])
    return [int(score > 0.5) for score in found["score"]]


def ways(folder: Path, only: Sequence[str]) -> dict[str, Callable[[], Any]]:
    """The candidates, by name."""
    found: dict[str, Callable[[], Any]] = {}
    for form in FORMS:
        found[f"harness evaluate, {form}"] = partial(evaluate, folder, form)
    found["harness evaluate again, fp32"] = partial(evaluate, folder, "fp32", keep=True)
    for name, last in SCRIPTS.items():
        found[name] = partial(script, folder, last)
    return {name: way for name, way in found.items() if not only or any(one in name for one in only)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[], help="candidates whose names contain one of these")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="whole-") as made:
        folder = Path(made)
        for name in ("base", "adapter"):
            shutil.copytree(options.folder / name, folder / name)
        rows = pd.read_parquet(options.folder / "reviews.parquet").head(options.rows)
        rows[["title", "content", "label"]].to_parquet(folder / "reviews.parquet", index=False)
        draft(folder)
        seconds, given = measuring.interleaved(ways(folder, options.only), options.rounds)
        print(
            f"{len(rows):,} reviews cut at {MAX_LENGTH} tokens, {provenance.cores()} cores, {options.rounds} rounds\n"
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
