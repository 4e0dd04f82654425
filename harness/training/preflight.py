"""Preflight check that methods fit their bases, before anything is trained.

Each adapter is really built on its base, in the same way as for training: it runs a forward and a backward pass on the
shortest and the longest text of its split, takes a step, and scores both as it will be scored: alone and in a batch. An
error from PEFT or the model is reported as the reason.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from harness.errors import RunError
from harness.models import device, nf4
from harness.models.encoding import TOKENS_PER_BATCH
from harness.models.peft import NOT_IN_NF4, without_known_warnings
from harness.training import batching, methods, objective
from harness.training.determinism import deterministic
from harness.training.plan import TrainingJob
from harness.training.speedups.frozen_layers import FrozenPrefix


def misfit(job: TrainingJob) -> str | None:
    """The reason why an adapter cannot be trained on its base and scored, or None if it can.

    A base that cannot be loaded is not a misfit: its trainings report that, and the suite's other models continue.
    """
    adapter = job.adapter
    rows = batching.hold_out(job.split.examples, adapter.train, job.seed)
    steps = batching.steps(adapter.train, len(rows.trained))
    try:
        methods.config(adapter, steps)
    except Exception as problem:  # noqa: BLE001 (params are user input; PEFT says why it refuses them)
        return str(problem) or f"method {adapter.method!r} does not take these params ({type(problem).__name__})"
    if nf4.is_asked(job.base.folder) and (changed := methods.changes_base(adapter)) is not None:
        return f"{changed}, {NOT_IN_NF4}"
    # A worker without the device reports that when it trains.
    kind = job.device if job.device == device.accelerator() else device.PROCESSOR
    with deterministic(job.seed, kind), without_known_warnings():
        by_length = sorted(range(len(job.texts)), key=lambda i: len(job.texts[i]))
        ends = [by_length[0], by_length[-1]]
        how = objective.of(job)
        try:
            base = how.base(device.training_attention(kind))
            how.check_rows(base, ends)
        except RunError:
            return None
        try:
            return _trial(job, how, base, ends, steps, kind)
        except Exception as problem:  # noqa: BLE001 (any error of a method is the reason why it does not fit)
            reason = str(problem) or type(problem).__name__
            return f"{adapter.method} does not fit base {adapter.base!r}: {reason}"


def _trial(
    job: TrainingJob, how: objective.Objective, base: torch.nn.Module, indices: Sequence[int], steps: int, kind: str
) -> str | None:
    if job.adapter.train.gradient_checkpointing:
        trained: Any = base
        trained.gradient_checkpointing_enable({"use_reentrant": False})
    network: torch.nn.Module = device.place(methods.apply(job.adapter, base, steps).train(), kind)
    if job.prompts:
        objective.check_trains(network, job)
    elif left := methods.untrained_of_head(network):
        return f"{job.adapter.method} does not train the head ({', '.join(left[:3])}), which would answer at random"
    for loss in _losses(network, how, indices):
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    _move(network)
    methods.after_step(network, 1)
    with torch.inference_mode():
        if not all(bool(loss.isfinite()) for loss in _losses(network, how, indices, settled=True)):
            return None  # params that make it overflow are no misfit: its own training says so, and the others go on
    methods.score_as_loaded(network.eval(), how.kernel())
    with torch.inference_mode():
        list(_losses(network, how, indices))
    return None


def _losses(
    network: torch.nn.Module, how: objective.Objective, indices: Sequence[int], *, settled: bool = False
) -> Iterator[torch.Tensor]:
    """The losses of some rows, whose labels alternate, one batch at a time."""
    encoded = how.encoded(network, indices, settled=settled)
    for chosen in encoded.batches(TOKENS_PER_BATCH):
        loss, _ = how.loss(network, FrozenPrefix(encoded, 0, 0.0), chosen, torch.arange(len(chosen)) % 2)
        yield loss


def _move(network: torch.nn.Module) -> None:
    """Move all trained weights by up to 0.1 against their gradients.

    Most adapters start as no change at all, so that only afterwards do their answers show how they treat a batch.
    """
    with torch.no_grad():
        for weight in network.parameters():
            if weight.grad is not None and (largest := weight.grad.abs().max()) > 0:
                weight.sub_(0.1 * weight.grad / largest)
