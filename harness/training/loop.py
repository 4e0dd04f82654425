"""The training loop: AdamW, linear warm-up and decay, batches of similar length, bf16 autocast over fp32 weights.

Deterministic: every draw comes from the job's seed, and torch's deterministic algorithms are on.
"""

import json
import math
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import get_linear_schedule_with_warmup

from harness import provenance
from harness.declarations import Training
from harness.errors import TrainingError
from harness.models.transformer import Encoded, one_thread, probe_scores, untrained
from harness.progress import Progress
from harness.training import TrainingJob, card, methods

WINDOW_BATCHES = 16
"""Batches whose texts are sorted by length together: little padding, and still a new mixture every epoch."""


def train(job: TrainingJob, progress: Progress) -> Path:
    """Train an adapter and put it in its folder, whole or not at all.

    Returns:
        The folder with weights, configuration, card and digests of the training texts.

    Raises:
        TrainingError: the loss is not a number any more, or the method does not fit the base.
    """
    folder = job.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", suffix=".partial", dir=folder.parent))
    try:
        return _trained(job, partial, progress)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _trained(job: TrainingJob, partial: Path, progress: Progress) -> Path:
    """Train into a folder of this process's own, and give it its name when it is whole."""
    with _deterministic(job.seed):
        network = _network(job)
        encoded = Encoded(job.base.folder, job.texts, job.max_length)
        started = time.perf_counter()
        curve, tokens = _fit(network, encoded, job, progress)
        seconds = time.perf_counter() - started
        probe = probe_scores(network.eval(), job.base.folder)
    _save(network, partial)
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    facts = {
        "n_trainable": trainable,
        "n_parameters": sum(p.numel() for p in network.parameters()),
        "train_seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "examples_per_second": len(job.texts) * job.adapter.train.epochs / seconds,
        "truncated": encoded.truncated,
        "curve": curve,
        "probe_scores": probe,
    }
    card.write(partial, _card(job, partial) | facts, [example.text_digest for example in job.split.examples])
    shutil.rmtree(job.folder, ignore_errors=True)
    return partial.rename(job.folder)


def _network(job: TrainingJob) -> Any:
    # Eager attention: on a processor, for sequences as short as reviews, its backward pass is the faster one.
    base = untrained(job.base.folder, job.seed, attention="eager")
    try:
        return methods.apply(job.adapter, base).train()
    except (ValueError, TypeError, AttributeError, RuntimeError, KeyError) as problem:
        raise TrainingError(f"adapter {job.adapter.id}: {job.adapter.method} does not fit: {problem}") from None


def _fit(network: Any, encoded: Encoded, job: TrainingJob, progress: Progress) -> tuple[list[list[float]], int]:
    """Train in place.

    Returns:
        The curve as [step, learning rate, loss] rows, and the tokens that were read.
    """
    how = job.adapter.train
    labels = torch.tensor([example.label for example in job.split.examples])
    parameters = [p for p in network.parameters() if p.requires_grad]
    steps = how.epochs * math.ceil(len(labels) / how.batch_size)
    optimizer = torch.optim.AdamW(parameters, lr=how.learning_rate, weight_decay=how.weight_decay)
    schedule = get_linear_schedule_with_warmup(  # type: ignore[no-untyped-call]  # untyped there
        optimizer, _warmup_steps(how, steps), steps
    )
    curve: list[list[float]] = []
    with progress(f"train {job.adapter.id} seed {job.seed}", steps) as advance:
        for step, indices in enumerate(_batches(encoded.lengths, how.batch_size, how.epochs, job.seed)):
            with torch.autocast("cpu", torch.bfloat16, enabled=job.precision == "bf16"):
                logits = network(**encoded.batch(indices)).logits
            loss = torch.nn.functional.cross_entropy(logits.float(), labels[indices])
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"adapter {job.adapter.id}, seed {job.seed}: the loss is {loss.item()} at step {step + 1} "
                    f"of {steps}; lower learning_rate or max_grad_norm"
                )
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            torch.nn.utils.clip_grad_norm_(parameters, how.max_grad_norm)
            curve.append([step + 1, float(schedule.get_last_lr()[0]), loss.item()])
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            advance(1, f"loss {loss.item():.3f}")
    return curve, int(encoded.lengths.sum()) * how.epochs


def _warmup_steps(how: Training, steps: int) -> int:
    """Steps over which the learning rate rises."""
    if how.warmup_steps is not None:
        return how.warmup_steps
    assert how.warmup_share is not None  # the declaration asks for one of the two
    return round(how.warmup_share * steps)


def _batches(lengths: np.ndarray[Any, Any], batch_size: int, epochs: int, seed: int) -> Iterator[list[int]]:
    """Indices of every text once per epoch, texts of similar length together, in a new order every epoch."""
    generator = np.random.default_rng(seed)
    window = batch_size * WINDOW_BATCHES
    for _ in range(epochs):
        shuffled = generator.permutation(len(lengths))
        batches: list[Sequence[int]] = []
        for start in range(0, len(shuffled), window):
            part = shuffled[start : start + window]
            by_length = part[np.argsort(lengths[part], kind="stable")]
            batches += [by_length[i : i + batch_size].tolist() for i in range(0, len(by_length), batch_size)]
        for i in generator.permutation(len(batches)):
            yield list(batches[i])


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    """Torch seeded, deterministic and single-threaded within the block; its state outside is left as it was."""
    before = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)


def _save(network: Any, folder: Path) -> None:
    # save_embedding_layers looks the base up on a hub otherwise; no method here changes the vocabulary.
    extra = {"save_embedding_layers": False} if hasattr(network, "peft_config") else {}
    network.save_pretrained(folder, safe_serialization=True, **extra)
    (folder / "README.md").unlink(missing_ok=True)  # a model card template full of blanks; ours is the harness card
    config = folder / "adapter_config.json"
    if config.is_file():
        # PEFT writes sets in hash order, which differs from process to process: the digest must not.
        values = json.loads(config.read_text(encoding="utf-8"))
        for key in ("target_modules", "feedforward_modules", "modules_to_save"):
            if isinstance(values.get(key), list):
                values[key] = sorted(values[key])
        config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _card(job: TrainingJob, folder: Path) -> dict[str, Any]:
    commit, dirty = provenance.git(Path.cwd())
    return {
        "adapter_id": job.adapter.id,
        "adapter_digest": card.adapter_digest(folder),
        "train_key": job.key,
        "method": job.adapter.method,
        "params": job.adapter.params,
        "train": job.adapter.train.model_dump(mode="json", exclude={"seeds"}),
        "precision": job.precision,
        "seed": job.seed,
        "base": {"id": job.base.base_id, "digest": job.base.digest},
        "trained_on": {"split": job.split.split_id, "digest": job.split.digest, "n": len(job.texts)},
        "text": {"template": job.template, "max_length": job.max_length},
        "packages": provenance.packages(),
        "hardware": provenance.hardware(),
        "git": {"commit": commit, "dirty": dirty},
        "trained_at": provenance.now().isoformat(timespec="seconds"),
        "peak_bytes": _peak_bytes(),
        "size_bytes": card.size_bytes(folder),
    }


def _peak_bytes() -> int:
    """Largest resident set of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
