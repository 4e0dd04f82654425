"""Training speed of a LoRA: our training against transformers' Trainer. Part of `nox -s bench`.

On the same rows, base, epochs, batch size, learning rate and limit of tokens, in one process with one thread, taking
turns. The Trainer is called in the usual way: fp32, batches padded to their longest text, or all to the limit. Loading
and saving are not timed. Prints Markdown.

    python benchmarks/training.py suites/mine.toml --rows 128 --rounds 3
    python benchmarks/training.py suites/mine.toml --epochs 3       # the two top layers: lower ones run once, or always
"""

import argparse
import contextlib
import io
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import measuring
import torch

from harness import data
from harness.evaluation.inputs import Workspace, gather
from harness.models.classifier import CARD
from harness.models.encoding import Encoded
from harness.models.peft import without_known_warnings
from harness.models.speedups import first_token
from harness.models.transformer import untrained
from harness.progress import silent
from harness.suite.load import load
from harness.training import batching, loop, methods
from harness.training.checkpoint import Pace
from harness.training.determinism import deterministic
from harness.training.plan import TrainingJob, jobs
from harness.training.speedups import dropout, frozen_layers
from harness.training.speedups.frozen_layers import FrozenPrefix
from harness.training.train import train as train_loop

QUICKSTART = Path(__file__).parents[1] / "suites" / "quickstart.toml"


def shortened(path: Path, db: Path, rows: int, max_length: int) -> TrainingJob:
    """The suite's first LoRA, for one epoch on the first rows of its training split."""
    declared, workspace = load(path), Workspace(path, db)
    materials = gather(declared, workspace)
    trainings = jobs(declared, materials.splits, materials.bases, workspace.adapters)
    job = next(job for job in trainings if job.adapter.method == "lora")
    once = job.adapter.train.model_copy(update={"epochs": 1, "early_stopping": None})
    adapter = job.adapter.model_copy(update={"train": once})
    split = data.first(job.split, rows)
    return replace(job, adapter=adapter, split=split, texts=job.texts[:rows], max_length=max_length)


def ours(job: TrainingJob) -> float:
    """Seconds of fitting, from the card."""
    folder = Path(tempfile.mkdtemp()) / "seed"
    train_loop(replace(job, folder=folder), silent)
    return float(json.loads((folder / CARD).read_text(encoding="utf-8"))["train_seconds"])


def of_two_layers(job: TrainingJob, epochs: int, *, once: bool) -> float:
    """Seconds of fitting a LoRA on the two top layers; the lower ones run once, or in every epoch."""
    count = untrained(job.base.folder, 0).config.num_hidden_layers
    params = {**job.adapter.params, "layers_to_transform": [count - 2, count - 1]}
    train = job.adapter.train.model_copy(update={"epochs": epochs})
    job = replace(job, adapter=job.adapter.model_copy(update={"params": params, "train": train}))
    folder = Path(tempfile.mkdtemp())
    rows = batching.hold_out(job.split.examples, train, job.seed)
    with deterministic(job.seed), without_known_warnings(), dropout.fast():
        base = untrained(job.base.folder, job.seed, attention="eager")
        network = methods.apply(job.adapter, base, batching.steps(train, len(rows.trained))).train()
        encoded = Encoded(job.base.folder, job.texts, job.max_length).for_network(network)
        how = (
            frozen_layers.run_once(network, encoded, folder, job.precision)
            if once
            else nullcontext(FrozenPrefix(encoded, 0, 0.0))
        )
        with how as below, first_token.only(network, below.trial()):
            return loop.run(network, below, rows, job, folder, silent, Pace()).seconds


def theirs(job: TrainingJob, *, padded: bool) -> float:
    """Seconds of `Trainer.train`."""
    from peft import LoraConfig, get_peft_model
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    how = job.adapter.train
    encoded = Encoded(job.base.folder, job.texts, job.max_length)
    labels = [example.label for example in job.split.examples]
    rows = [
        {"input_ids": list(ids), "attention_mask": [1] * len(ids), "labels": label}
        for ids, label in zip(encoded.ids, labels, strict=True)
    ]
    padding: dict[str, Any] = {"padding": "max_length", "max_length": job.max_length} if padded else {"padding": True}
    with without_known_warnings():
        network: Any = get_peft_model(
            untrained(job.base.folder, job.seed), LoraConfig(task_type="SEQ_CLS", **job.adapter.params)
        )
    arguments = TrainingArguments(
        tempfile.mkdtemp(),
        per_device_train_batch_size=how.batch_size,
        num_train_epochs=how.epochs,
        learning_rate=how.learning_rate,
        weight_decay=how.weight_decay,
        max_grad_norm=how.max_grad_norm,
        seed=job.seed,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    made = Trainer(
        network, arguments, train_dataset=rows, data_collator=DataCollatorWithPadding(encoded.tokenizer, **padding)
    )
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):  # its summary
        made.train()
    return time.perf_counter() - began


def main() -> None:
    """Train in turns and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path, nargs="?", default=QUICKSTART)
    parser.add_argument("--db", type=Path, default=Path("runs/harness.duckdb"))
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--epochs", type=int, help="of a LoRA on the two top layers, instead of the Trainer")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    job = shortened(asked.suite, asked.db, asked.rows, asked.max_length)
    ways: dict[str, Callable[[], float]] = (
        {
            "lower layers run once": lambda: of_two_layers(job, asked.epochs, once=True),
            "lower layers run in every epoch": lambda: of_two_layers(job, asked.epochs, once=False),
        }
        if asked.epochs
        else {
            f"ours, {job.precision}": lambda: ours(job),
            "Trainer, fp32, padded dynamically": lambda: theirs(job, padded=False),
            "Trainer, fp32, padded to the limit": lambda: theirs(job, padded=True),
        }
    )
    found: dict[str, list[float]] = {}
    for turn in range(asked.rounds):
        for name in list(ways)[:: -1 if turn % 2 else 1]:
            found.setdefault(name, []).append(ways[name]())
    medians = {name: sorted(seconds)[len(seconds) // 2] for name, seconds in found.items()}
    encoded = Encoded(job.base.folder, job.texts, job.max_length)
    config = untrained(job.base.folder, 0).config
    # A frozen base has two passes: forward, and backward to the activations. Its weights need no gradients.
    work = 2 * measuring.forward_flops(config, encoded.lengths)
    peak = measuring.peaks()
    first = medians[next(iter(ways))]
    epochs = asked.epochs or 1
    head = ["LoRA", "examples/s", "times our seconds"]
    rows = [
        [name, f"{epochs * len(job.texts) / seconds:.1f}", f"{seconds / first:.2f}"]
        for name, seconds in medians.items()
    ]
    if not asked.epochs:  # nothing to count for lower layers that are left out
        head.append("of peak")
        for row, (name, seconds) in zip(rows, medians.items(), strict=True):
            row.append(f"{100 * work / seconds / peak['bf16' if 'bf16' in name else 'fp32']:.0f} %")
    tokens = int(encoded.lengths.sum())
    said = f"{len(job.texts)} rows, {tokens:,} tokens, {epochs} epochs, medians of {asked.rounds} rounds"
    print(f"{measuring.machine(peak)}; {said}\n")
    print(measuring.table(head, rows))


if __name__ == "__main__":
    main()
