"""Preflight check that methods fit their bases, before anything is trained.

Each adapter is really built on its base, in the same way as for training: it runs a forward and a backward pass on the
shortest and the longest text of its split, takes a step, and scores both as it will be scored: alone and in a batch. An
error from PEFT or the model is reported as the reason.
"""

from collections.abc import Sequence

import torch

from harness.errors import RunError, SuiteError
from harness.models.encoding import TOKENS_PER_BATCH, Encoded, settle
from harness.models.peft import without_known_warnings
from harness.models.transformer import check_positions, untrained
from harness.suite.schema import Suite
from harness.training import batching, methods
from harness.training.determinism import deterministic
from harness.training.plan import TrainingJob


def check(suite: Suite, jobs: Sequence[TrainingJob], suite_name: str) -> None:
    """Refuse adapters that cannot be trained: unknown methods and params, and methods that do not fit base or task.

    Args:
        jobs: trainings that are about to start; each adapter is tried once, whatever its seeds.
        suite_name: the suite's name in messages.

    Raises:
        SuiteError: lists every such adapter.
    """
    of_adapter = {job.adapter.id: job for job in reversed(jobs)}
    reasons = [
        (position, misfit(of_adapter[adapter.id]))
        for position, adapter in enumerate(suite.adapter)
        if adapter.id in of_adapter
    ]
    problems = [f"{suite_name}: adapter[{position}]: {reason}" for position, reason in reasons if reason is not None]
    if problems:
        raise SuiteError(problems)


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
    with deterministic(job.seed), without_known_warnings():
        by_length = sorted(job.texts, key=len)
        try:
            base = untrained(job.base.folder, job.seed, attention="eager")
            texts = Encoded(job.base.folder, [by_length[0], by_length[-1]], job.max_length)
        except RunError:
            return None
        try:
            return _trial(job, base, texts, steps)
        except Exception as problem:  # noqa: BLE001 (any error of a method is the reason why it does not fit)
            reason = str(problem) or type(problem).__name__
            return f"{adapter.method} does not fit base {adapter.base!r}: {reason}"


def _trial(job: TrainingJob, base: torch.nn.Module, texts: Encoded, steps: int) -> str | None:
    network = methods.apply(job.adapter, base, steps).train()
    if left := methods.untrained_of_head(network):
        return f"{job.adapter.method} does not train the head ({', '.join(left[:3])}), which would answer at random"
    check_positions(network, job.max_length)
    settle(network, job.base.folder, job.max_length)
    texts = texts.for_network(network)
    batches_of_texts = [texts.batch(indices) for indices in texts.batches(TOKENS_PER_BATCH)]
    for batch in batches_of_texts:
        with torch.autocast("cpu", torch.bfloat16, enabled=job.precision == "bf16"):
            logits = network(**batch).logits
        labels = torch.arange(len(logits)) % 2
        torch.nn.functional.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
    _move(network)
    methods.after_step(network, 1)
    if not _answers_in_numbers(network, batches_of_texts):
        return None  # params that make it overflow are no misfit: its own training says so, and the others go on
    settle(network, job.base.folder, job.max_length)
    methods.score_as_loaded(network.eval(), job.base.folder)
    with torch.inference_mode():
        for batch in batches_of_texts:
            network(**batch)
    return None


def _answers_in_numbers(network: torch.nn.Module, batches: Sequence[dict[str, torch.Tensor]]) -> bool:
    with torch.inference_mode():
        return all(bool(network(**batch).logits.isfinite().all()) for batch in batches)


def _move(network: torch.nn.Module) -> None:
    """Move all trained weights by up to 0.1 against their gradients.

    Most adapters start as no change at all, so that only afterwards do their answers show how they treat a batch.
    """
    with torch.no_grad():
        for weight in network.parameters():
            if weight.grad is not None and (largest := weight.grad.abs().max()) > 0:
                weight.sub_(0.1 * weight.grad / largest)
