"""How fast trained weights are scored: our forms beside what people use otherwise. Part of `nox -s bench`.

Side by side in one process with one thread, interleaved, on the same texts and the same merged weights; medians over
rounds. Ours and the pipelines start from texts, Trainer and ONNX Runtime from tokens, which favours them. Flips are
texts of which another class is said than torch says in fp32, nothing merged. Prints, asserts nothing.

    HARNESS_DATA=… python benchmarks/inference.py suites/amazon-polarity-local.toml --texts 1000 --rounds 5
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness import models, parity, provenance, suite
from harness.gather import Workspace, gather
from harness.jobs import checks
from harness.models import forms, transformer
from harness.models.peft import network as loaded_network
from harness.models.transformer import TOKENS_PER_BATCH, Encoded, packed
from harness.parity import Check
from harness.progress import silent

QUICKSTART = Path(__file__).parents[1] / "suites" / "quickstart.toml"
Answers = Any
"""Shape (n,): 0 or 1."""


def prepared(path: Path, db: Path, count: int, max_length: int) -> tuple[Check, list[str]]:
    """The suite's first PEFT model and seed, trained if need be, and texts of its first scored split."""
    declared, workspace = suite.load(path), Workspace(path, db)
    materials = gather(declared, workspace)
    model = next(model for model in declared.model if model.backend == "peft")
    from harness.training import jobs, loop

    loop.train(
        next(
            job
            for job in jobs(declared, materials.splits, materials.bases, workspace.adapters)
            if job.adapter.id == model.adapter
        ),
        silent,
    )
    check = checks(declared, materials, workspace, model_ids=[model.id], forms=list(parity.TOLERANCES))[0]
    split = next(split for split in materials.splits.values() if split.split_id not in declared.train_split_ids)
    texts = [declared.text.render(example.title, example.content) for example in split.examples[:count]]
    from dataclasses import replace

    return replace(check, ingredients=replace(check.ingredients, max_length=max_length)), texts


def ours(check: Check, form: str, texts: Sequence[str]) -> Callable[[], Answers]:
    """Our evaluation in a form, from texts."""
    model = parity.as_form(check.model, form)
    of_base = check.weights.base_digest
    made_from = parity.in_runtime(check.ingredients, model, of_base, check.weights, check.suite, check.cache)
    classifier = models.load(model, made_from)

    def run() -> Answers:
        transformer._kept.clear()  # tokenised in every round, as the others are
        return (classifier.predict(texts, lambda units, note: None).scores > 0.5).astype(int)

    return run


def pipeline(network: Any, tokenizer: Any, texts: list[str], max_length: int, batch: int) -> Callable[[], Answers]:
    from transformers import pipeline as made

    pipe = made("text-classification", model=network, tokenizer=tokenizer, batch_size=batch, device="cpu")

    def run() -> Answers:
        said = pipe(texts, truncation=True, max_length=max_length)
        return np.array([int(one["label"].endswith("1")) for one in said])

    return run


def trainer(network: Any, encoded: Encoded, max_length: int, padded: bool) -> Callable[[], Answers]:
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    how = {"padding": "max_length", "max_length": max_length} if padded else {"padding": True}
    collator = DataCollatorWithPadding(encoded.tokenizer, **how)
    rows = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in encoded.ids]
    arguments = TrainingArguments(
        tempfile.mkdtemp(), per_device_eval_batch_size=32, report_to=[], use_cpu=True, disable_tqdm=True
    )
    made = Trainer(network, arguments, data_collator=collator)
    return lambda: np.asarray(made.predict(rows).predictions).argmax(1)


def onnx(network: Any, encoded: Encoded) -> Callable[[], Answers]:
    """ONNX Runtime in fp32, on our batches."""
    import onnxruntime

    path = Path(tempfile.mkdtemp()) / "model.onnx"
    example = tuple(encoded.batch([0, 1]).values())
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    torch.onnx.export(forms_logits(network), example, path, dynamo=True, dynamic_shapes=(axes, axes), verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    names = [one.name for one in session.get_inputs()]

    def run() -> Answers:
        said = np.zeros(len(encoded.ids), dtype=int)
        for indices in packed(encoded.lengths, TOKENS_PER_BATCH):
            batch = [tensor.numpy() for tensor in encoded.batch(indices).values()]
            said[indices] = session.run(None, dict(zip(names, batch, strict=True)))[0].argmax(1)
        return said

    return run


def forms_logits(network: Any) -> torch.nn.Module:
    from harness.models.openvino import Logits

    return Logits(network)


def evaluator(network: Any, tokenizer: Any, texts: list[str], max_length: int) -> Callable[[], Answers]:
    import evaluate

    task = evaluate.evaluator("text-classification")
    pipe = task.prepare_pipeline(network, tokenizer=tokenizer)

    def run() -> Answers:
        said, _ = task.call_pipeline(pipe, texts, max_length=max_length)
        return np.array([int(one["label"].endswith("1")) for one in said])

    return run


def ways(check: Check, texts: list[str], wanted: str | None) -> Iterator[tuple[str, Callable[[], Answers]]]:
    """Every way that can be had here, its making not timed."""
    assert check.ingredients.base_dir is not None
    max_length = check.ingredients.max_length
    encoded = Encoded(check.ingredients.base_dir, texts, max_length)
    merged = forms.merged(loaded_network(check.ingredients))
    tokenizer = encoded.tokenizer
    made: dict[str, Callable[[], Callable[[], Answers]]] = {
        f"ours, {form}": lambda form=form: ours(check, form, texts)  # type: ignore[misc]
        for form in (parity.REFERENCE, *parity.TOLERANCES)
        if len(form.split()) == 2
    }
    made |= {
        "pipeline, default": lambda: pipeline(merged, tokenizer, texts, max_length, 1),
        "pipeline, batches of 32": lambda: pipeline(merged, tokenizer, texts, max_length, 32),
        "Trainer, padded to the limit": lambda: trainer(merged, encoded, max_length, padded=True),
        "Trainer, padded dynamically": lambda: trainer(merged, encoded, max_length, padded=False),
        "evaluate.evaluator": lambda: evaluator(merged, tokenizer, texts, max_length),
        "ONNX Runtime fp32, our batches": lambda: onnx(merged, encoded),
    }
    for name, make in made.items():
        if wanted in (None, name):
            try:
                yield name, make()
            except ImportError as problem:
                print(f"{name}: left out ({problem})", file=sys.stderr)


def flops(check: Check, lengths: Any) -> float:
    """Floating-point operations of the encoder's matrix products on the texts without padding."""
    from transformers import AutoConfig

    config: Any = AutoConfig.from_pretrained(check.ingredients.base_dir, local_files_only=True)
    width, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    of_token = 2 * layers * (4 * width * width + 2 * width * inner)
    return float(lengths.sum()) * of_token + layers * 4 * width * float((lengths.astype(float) ** 2).sum())


def peak_flops(dtype: torch.dtype) -> float:
    """This machine's fastest matrix product per second, one thread, of the shapes of this work."""
    one, other = torch.randn(2048, 384).to(dtype), torch.randn(384, 1536).to(dtype)
    seconds = []
    for _ in range(30):
        began = time.perf_counter()
        torch.mm(one, other)
        seconds.append(time.perf_counter() - began)
    return 2 * 2048 * 384 * 1536 / min(seconds)


def main() -> None:
    """Time all ways, interleaved, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", type=Path, nargs="?", default=QUICKSTART)
    parser.add_argument("--db", type=Path, default=Path("runs/harness.duckdb"))
    parser.add_argument("--texts", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--only", help="one way, once; prints the process's largest resident set")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    check, texts = prepared(asked.suite, asked.db, asked.texts, asked.max_length)
    if asked.only is not None:
        for _, run in ways(check, texts, asked.only):
            run()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        return
    runs = dict(ways(check, texts, None))
    reference = runs[f"ours, {parity.REFERENCE}"]()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    said: dict[str, Answers] = {}
    for _ in range(asked.rounds + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            said[name] = run()
            seconds[name].append(time.perf_counter() - began)
    assert check.ingredients.base_dir is not None
    lengths = Encoded(check.ingredients.base_dir, texts, asked.max_length).lengths
    work = flops(check, lengths)
    peaks = {"fp32": peak_flops(torch.float32), "bf16": peak_flops(torch.bfloat16)}
    medians = {name: statistics.median(rounds[1:]) for name, rounds in seconds.items()}  # the first warms up
    of_trainer = medians["Trainer, padded to the limit"]
    print(f"{provenance.hardware()['processor']}, one thread, {len(texts)} texts, {int(lengths.sum()):,} tokens")
    print(", ".join(f"{name} peak {peak / 1e9:.0f} GFLOP/s" for name, peak in peaks.items()))
    print(f"{'':32} texts/s  tokens/s  x Trainer padded  flips  % of peak    MiB")
    for name, median in sorted(medians.items(), key=lambda pair: pair[1]):
        peak = peaks["bf16" if "bf16" in name or "int8" in name else "fp32"]
        print(
            f"{name:32} {len(texts) / median:7.1f}  {lengths.sum() / median:8,.0f}  {of_trainer / median:16.2f}  "
            f"{int((said[name] != reference).sum()):5}  {100 * work / median / peak:9.0f}  {memory(name, asked):>5}"
        )


def memory(name: str, asked: argparse.Namespace) -> str:
    """Largest resident set in MiB of a process that goes this way alone."""
    options = ["--db", asked.db, "--texts", asked.texts, "--max-length", asked.max_length, "--only", name]
    words = [sys.executable, __file__, asked.suite, *options]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "–"


if __name__ == "__main__":
    main()
