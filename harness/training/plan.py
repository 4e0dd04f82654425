"""Planning trainings: one job per adapter and seed, with a key over everything that can change its weights.

    for job in plan.jobs(suite, splits, bases, adapters_dir):
        train.train(job, progress)      # weights, configuration and card appear together

An adapter lives in `runs/adapters/<id>/seed-<seed>-<key>/`: weights in safetensors, `harness-card.json` beside them
with all inputs, and `trained-on.txt` with the digests of the texts that it has seen. A key whose folder exists is never
trained again.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness import keys
from harness.models import device
from harness.models.bases import ResolvedBase
from harness.models.device import PROCESSOR
from harness.records import Split
from harness.suite.load import by_id
from harness.suite.schema import Adapter, Prompt, Suite
from harness.suite.text import Rendered


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """One adapter to train with one seed, and all that can change its weights."""

    adapter: Adapter
    seed: int
    base: ResolvedBase
    split: Split
    texts: tuple[Rendered, ...]
    max_length: int
    template: str
    precision: str
    """fp32 or bf16, with `auto` resolved for this machine."""
    key: str
    """Digest of all of this."""
    folder: Path
    """Folder for its weights."""
    prompts: tuple[Prompt, ...] = ()
    """The prompts that a language model is trained to answer; empty for a classifier."""
    device: str = PROCESSOR
    """Kind of device to train on."""


def jobs(
    suite: Suite,
    splits: Mapping[str, Split],
    bases: Mapping[str, ResolvedBase],
    adapters_dir: Path,
    kind: str = PROCESSOR,
) -> list[TrainingJob]:
    """One job for every adapter that a suite trains on these bases and every one of its seeds, in the file's order.

    Args:
        kind: kind of device to train on.
    """
    trained = [adapter for adapter in suite.trained_adapters if adapter.base in bases]
    rendered = {
        split_id: tuple(suite.text.render(example.title, example.content) for example in splits[split_id].examples)
        for split_id in {adapter.train.split for adapter in trained}
    }
    return [
        _job(suite, adapter, seed, splits[adapter.train.split], rendered, bases[adapter.base], adapters_dir, kind)
        for adapter in trained
        for seed in adapter.train.seeds
    ]


def _failure_of(job: TrainingJob) -> Path:
    """File with the reason for missing weights; its name contains the training's key."""
    return job.folder.with_name(f".{job.folder.name}.failed")


def note_failure(job: TrainingJob, reason: str) -> None:
    """Record why a training failed, for later reports. If the folder is not writable, nothing is recorded."""
    with suppress(OSError):
        _failure_of(job).parent.mkdir(parents=True, exist_ok=True)
        _failure_of(job).write_text(reason, encoding="utf-8")


def forget_failure(job: TrainingJob) -> None:
    """Remove the recorded failure, now that there are weights."""
    _failure_of(job).unlink(missing_ok=True)


def why_missing(job: TrainingJob) -> str:
    """The reason for missing weights, in one sentence."""
    who = f"adapter {job.adapter.id!r} seed {job.seed}"
    try:
        recorded = _failure_of(job).read_text(encoding="utf-8").strip().splitlines()
    except (OSError, UnicodeDecodeError):
        recorded = []
    if recorded:
        return f"the training of {who} failed: {recorded[-1]}; evaluate the suite again once that is fixed"
    return f"{who} has not been trained yet; evaluate the suite first"


def _job(
    suite: Suite,
    adapter: Adapter,
    seed: int,
    split: Split,
    rendered: Mapping[str, tuple[Rendered, ...]],
    base: ResolvedBase,
    adapters_dir: Path,
    kind: str,
) -> TrainingJob:
    precision: str = adapter.train.precision
    if precision == "auto":
        precision = device.training_precision(kind)
    prompts = tuple(by_id(suite.prompt, prompt_id) for prompt_id in adapter.prompts or ())
    spec = keys.training(
        adapter,
        seed=seed,
        precision=precision,
        base_digest=base.digest,
        split=split,
        text=suite.text,
        prompts=prompts,
        device=device.for_key(kind),
    )
    key = keys.key(spec)
    return TrainingJob(
        adapter=adapter,
        seed=seed,
        base=base,
        split=split,
        texts=rendered[adapter.train.split],
        max_length=suite.text.max_length,
        template=suite.text.template,
        precision=precision,
        key=key,
        folder=adapters_dir / adapter.id / f"seed-{seed}-{key[:16]}",
        prompts=prompts,
        device=kind,
    )
