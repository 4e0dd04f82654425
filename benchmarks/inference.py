"""Scoring speed of trained weights: our forms against common alternatives. Part of `nox -s bench`.

Side by side, interleaved, on the same texts and the same merged weights; medians over rounds. Every candidate has
the same number of cores: ours as single-threaded processes with a share of the texts each, as in `harness evaluate`;
the others in one process with as many threads, as they are usually called. Ours and the pipelines start from texts,
Trainer and ONNX Runtime from tokens, which favours them. Prints Markdown, asserts nothing.

    python benchmarks/inference.py suites/mine.toml                     # the suite's first adapter, two cores
    python benchmarks/inference.py suites/mine.toml --cores 1           # all in one process, one thread
    python benchmarks/inference.py suites/mine.toml --base distilbert   # DistilBERT-sized, random weights
    python benchmarks/inference.py suites/mine.toml --flips 1000        # flips of our forms on this many texts
    python benchmarks/inference.py suites/mine.toml --memory            # each candidate in its own process

Flips are texts that get another class than from torch in fp32 with nothing merged. Random weights have hardly any.
Their head is scaled until log-odds spread like those of trained weights (mean 0, standard deviation 4), since int8
scores texts again when it is nearly undecided.
"""

import argparse
import contextlib
import multiprocessing
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import torch

from harness import models, provenance
from harness.evaluation import parity
from harness.evaluation.inputs import Workspace, gather
from harness.evaluation.plan import checks
from harness.models import encoding, variants
from harness.models.classifier import ModelInputs
from harness.models.encoding import TOKENS_PER_PASS, Encoded
from harness.models.openvino import Logits
from harness.models.peft import network as with_adapter
from harness.progress import silent
from harness.stats import inference
from harness.suite.load import load
from harness.suite.schema import PeftModel, TransformerModel

QUICKSTART = Path(__file__).parents[1] / "suites" / "quickstart.toml"
FORMS = [
    form
    for form in (parity.REFERENCE, *parity.TOLERANCES)
    if len(form.split()) == 2 and ("bf16" not in form or provenance.has_fast_bf16())
]
Answers = Any
"""Shape (n,): 0 or 1."""
Way = Callable[[], Answers]


@dataclass(frozen=True)
class Subject:
    """A model to be scored, and texts."""

    name: str
    model: PeftModel | TransformerModel
    ingredients: ModelInputs
    network: Any
    """In fp32; an adapter beside its base."""
    texts: list[str]
    labels: Any
    """Shape (n,)."""

    @property
    def encoded(self) -> Encoded:
        """The texts as tokens."""
        assert self.ingredients.base_dir is not None
        texts = Encoded(self.ingredients.base_dir, self.texts, self.ingredients.max_length)
        return texts.for_network(self.network)


def trained(path: Path, db: Path, count: int, max_length: int) -> Subject:
    """The suite's first PEFT model and seed, trained if need be, and texts of its first scored split."""
    from harness.training.plan import jobs
    from harness.training.train import train

    declared, workspace = load(path), Workspace(path, db)
    materials = gather(declared, workspace)
    model = next(model for model in declared.model if isinstance(model, PeftModel))
    trainings = jobs(declared, materials.splits, materials.bases, workspace.adapters)
    job = next(job for job in trainings if job.adapter.id == model.adapter)
    train(job, silent)
    check = checks(declared, materials, workspace, model_ids=[model.id], variants=list(parity.TOLERANCES))[0]
    split = next(split for split in materials.splits.values() if split.split_id not in declared.train_split_ids)
    rows = split.examples[:count]
    texts = [declared.text.render(example.title, example.content) for example in rows]
    ingredients = replace(check.recipe.ingredients, max_length=max_length, train_texts=job.texts)
    labels = np.array([example.label for example in rows])
    return Subject(model.id, model, ingredients, with_adapter(ingredients), texts, labels)


def distilbert_sized(like: Subject) -> Subject:
    """A DistilBERT-sized model (66 million parameters), random weights, with another base's tokenizer and texts."""
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    folder, encoded = Path(tempfile.mkdtemp()), like.encoded
    encoded.tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = DistilBertConfig(vocab_size=len(encoded.tokenizer), num_labels=2)
    network: Any = DistilBertForSequenceClassification(config).eval()
    some = replace(like, texts=like.texts[:64]).encoded
    with torch.no_grad():
        logits = encoding.forward_all(some, lambda batch: network(**batch).logits, lambda units, note: None)
        odds = logits[:, 1] - logits[:, 0]
        scale = 4 / odds.std().item()
        network.classifier.weight *= scale
        network.classifier.bias *= scale
        network.classifier.bias[1] -= scale * odds.mean().item()
    network.save_pretrained(folder)
    declared = {"id": "distilbert-sized", "backend": "transformer", "adapter": "a", "precision": "fp32"}
    ingredients = replace(like.ingredients, base_dir=folder, adapter_dir=folder, seed=None)
    model = TransformerModel.model_validate(declared)
    return replace(like, name="DistilBERT-sized, random", model=model, ingredients=ingredients, network=network)


def ours(subject: Subject, form: str) -> Way:
    """Our evaluation in a form, from texts. Nothing is shared with other models."""
    kept = Path(tempfile.mkdtemp()) / "converted"
    classifier = models.load(parity.as_variant(subject.model, form), replace(subject.ingredients, converted_dir=kept))

    def run() -> Answers:
        encoding._kept.clear()  # tokenised in every round, as the others are
        return (classifier.predict(subject.texts, lambda units, note: None).scores > 0.5).astype(int)

    return run


def pipeline(network: Any, subject: Subject, batch: int) -> Way:
    """transformers' pipeline."""
    from transformers import pipeline as made

    tokenizer = subject.encoded.tokenizer
    pipe = made("text-classification", model=network, tokenizer=tokenizer, batch_size=batch, device="cpu")

    def run() -> Answers:
        said = pipe(subject.texts, truncation=True, max_length=subject.ingredients.max_length)
        return np.array([int(one["label"].endswith("1")) for one in said])

    return run


def trainer(network: Any, subject: Subject, *, padded: bool) -> Way:
    """transformers' Trainer, as usually called for an evaluation."""
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    encoded = subject.encoded
    how = {"padding": "max_length", "max_length": subject.ingredients.max_length} if padded else {"padding": True}
    collator = DataCollatorWithPadding(encoded.tokenizer, **how)
    rows = [{"input_ids": list(ids), "attention_mask": [1] * len(ids)} for ids in encoded.ids]
    arguments = TrainingArguments(
        tempfile.mkdtemp(), per_device_eval_batch_size=32, report_to=[], use_cpu=True, disable_tqdm=True
    )
    made = Trainer(network, arguments, data_collator=collator)
    return lambda: np.asarray(made.predict(rows).predictions).argmax(1)


def onnx(network: Any, subject: Subject) -> Way:
    """ONNX Runtime in fp32, on our batches."""
    import onnxruntime

    encoded, path = subject.encoded, Path(tempfile.mkdtemp()) / "model.onnx"
    example = tuple(encoded.batch([0, 1]).values())
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    torch.onnx.export(Logits(network), example, path, dynamo=True, dynamic_shapes=(axes, axes), verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options)
    names = [one.name for one in session.get_inputs()]

    def run() -> Answers:
        said = np.zeros(len(encoded.ids), dtype=int)
        for indices in encoded.batches(TOKENS_PER_PASS):
            batch = [tensor.numpy() for tensor in encoded.batch(indices).values()]
            said[indices] = session.run(None, dict(zip(names, batch, strict=True)))[0].argmax(1)
        return said

    return run


def evaluator(network: Any, subject: Subject) -> Way:
    """The library evaluate, at its defaults."""
    import evaluate

    task = evaluate.evaluator("text-classification")
    pipe = task.prepare_pipeline(network, tokenizer=subject.encoded.tokenizer)

    def run() -> Answers:
        said, _ = task.call_pipeline(pipe, subject.texts, max_length=subject.ingredients.max_length)
        return np.array([int(one["label"].endswith("1")) for one in said])

    return run


class Workers:
    """Single-threaded processes that score their share of the texts in a form, like those of an evaluation."""

    def __init__(self, asked: argparse.Namespace) -> None:
        context = multiprocessing.get_context("spawn")
        self.ends = []
        for part in range(asked.cores):
            here, there = context.Pipe()
            context.Process(target=serve, args=(there, asked, part), daemon=True).start()
            there.close()  # so that a failed worker is an end of file, not an endless wait
            self.ends.append(here)

    def way(self, form: str) -> Way:
        """The way of scoring with all of them at once."""

        def run() -> Answers:
            for end in self.ends:
                end.send(form)
            shares = [end.recv() for end in self.ends]
            said = np.zeros(sum(map(len, shares)), dtype=int)
            for part, share in enumerate(shares):
                said[part :: len(shares)] = share
            return said

        return run


def serve(end: Any, asked: argparse.Namespace, part: int) -> None:
    """Body of a worker process, which runs until its parent ends."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    whole = subject_of(asked)
    share = slice(part, None, asked.cores)
    subject, made = replace(whole, texts=whole.texts[share], labels=whole.labels[share]), dict[str, Way]()
    with contextlib.suppress(EOFError):
        while True:
            form = end.recv()
            if form not in made:
                made[form] = ours(subject, form)
            end.send(made[form]())


def ways(subject: Subject, wanted: Sequence[str] = (), workers: Workers | None = None) -> Iterator[tuple[str, Way]]:
    """Every candidate available here; its construction is not timed."""
    merged = variants.merged(subject.network)
    of_form = workers.way if workers else partial(ours, subject)
    made: dict[str, Callable[[], Way]] = {f"ours, {form}": partial(of_form, form) for form in FORMS}
    made |= {
        "pipeline, default": lambda: pipeline(merged, subject, 1),
        "pipeline, batches of 32": lambda: pipeline(merged, subject, 32),
        "Trainer, padded to the limit": lambda: trainer(merged, subject, padded=True),
        "Trainer, padded dynamically": lambda: trainer(merged, subject, padded=False),
        "evaluate.evaluator": lambda: evaluator(merged, subject),
        "ONNX Runtime fp32, our batches": lambda: onnx(merged, subject),
    }
    for name, make in made.items():
        if not wanted or name in wanted:
            try:
                yield name, make()
            except ImportError as problem:
                print(f"{name}: left out ({problem})", file=sys.stderr)


COMPARED = {
    "Trainer, padded to the limit": "x Trainer padded",
    "Trainer, padded dynamically": "x Trainer dynamic",
    "pipeline, batches of 32": "x pipeline 32",
    "pipeline, default": "x pipeline 1",
}


def speed(subject: Subject, asked: argparse.Namespace) -> str:
    """Time all candidates, interleaved, as a table: fastest first."""
    lengths, rounds = subject.encoded.lengths, asked.rounds
    workers = Workers(asked) if asked.cores > 1 else None
    medians, _ = measuring.interleaved(dict(ways(subject, workers=workers)), rounds)
    torch.set_num_threads(asked.cores)  # a library called meanwhile may have set another number
    peak = measuring.peaks()
    work = measuring.forward_flops(_config(subject), lengths)
    rows = []
    for name, median in sorted(medians.items(), key=lambda pair: pair[1]):
        of = max(peak.values()) if "int8" in name else peak["bf16" if "bf16" in name else "fp32"]
        ratios = [f"{medians[other] / median:.2f}" for other in COMPARED]
        rows.append([name, f"{len(lengths) / median:.1f}", f"{lengths.sum() / median:,.0f}", *ratios])
        rows[-1].append(f"{100 * work / median / of:.0f} %")
    head = [subject.name, "texts/s", "tokens/s", *COMPARED.values(), "of peak"]
    said = f"{len(lengths)} texts, {int(lengths.sum()):,} tokens, medians of {rounds} rounds"
    threads = f"{asked.cores} of them used by every candidate"
    return f"{measuring.machine(peak, threads)}; {said}\n\n{measuring.table(head, rows)}"


def flips(subject: Subject) -> str:
    """Flips of our forms against the reference, and their effect on accuracy."""
    said = {name: way() for name, way in ways(subject, [f"ours, {form}" for form in FORMS])}
    reference = said[f"ours, {parity.REFERENCE}"]
    rows = []
    for name, answers in said.items():
        count = int((answers != reference).sum())
        low, high = inference.wilson(count, len(reference))
        correct = [100 * float((one == subject.labels).mean()) for one in (answers, reference)]
        interval = f"{100 * low:.2f} to {100 * high:.2f} %"
        rows.append([name, str(count), interval, f"{correct[0]:.2f} %", f"{correct[0] - correct[1]:+.2f}"])
    head = [f"{subject.name}, n = {len(reference)}", "flips", "95 % interval", "accuracy", "points from the reference"]
    return measuring.table(head, rows)


def memory(subject: Subject, words: Sequence[object]) -> str:
    """Memory of each candidate in its own process."""
    names = [name for name, _ in ways(subject)]
    rows = [[name, measuring.alone(__file__, [*words, "--only", name])] for name in names]
    return measuring.table([subject.name, "largest resident set, MiB"], rows)


def _config(subject: Subject) -> Any:
    inner = subject.network
    return (inner.get_base_model() if hasattr(inner, "get_base_model") else inner).config


def subject_of(asked: argparse.Namespace) -> Subject:
    """Parse the command line."""
    count = asked.flips or (asked.texts if asked.base == "suite" else asked.texts // 4)
    subject = trained(asked.suite, asked.db, count, asked.max_length)
    return distilbert_sized(subject) if asked.base == "distilbert" else subject


def main() -> None:
    """Print the requested table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path, nargs="?", default=QUICKSTART)
    parser.add_argument("--db", type=Path, default=Path("runs/harness.duckdb"))
    parser.add_argument("--base", choices=["suite", "distilbert"], default="suite")
    parser.add_argument("--texts", type=int, default=240, help="a quarter of them with --base distilbert")
    parser.add_argument("--cores", type=int, default=2, help="of every candidate")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--flips", type=int, help="on this many texts, instead of speed")
    parser.add_argument("--memory", action="store_true", help="largest resident sets, instead of speed")
    parser.add_argument("--only", help="one candidate, once; prints the process's largest resident set")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    subject = subject_of(asked)
    if asked.only is not None:
        for _, way in ways(subject, [asked.only]):
            way()
        print(measuring.resident_mib())
    elif asked.flips:
        print(flips(subject))
    elif asked.memory:
        words = [asked.suite, "--db", asked.db, "--base", asked.base, "--texts", asked.texts]
        print(memory(subject, [*words, "--max-length", asked.max_length]))
    else:
        torch.set_num_threads(asked.cores)
        print(speed(subject, asked))


if __name__ == "__main__":
    main()
