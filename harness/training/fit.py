"""Whether methods fit their bases, found out before anything is trained.

Each adapter is really built on a model of its base's architecture, with random weights in place of the base's, and
takes one step forward and back on made-up ids as long as the suite allows. What PEFT or the model says is the reason.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from harness.declarations import Suite
from harness.errors import SuiteError
from harness.models.peft import without_known_warnings
from harness.training import TrainingJob, batches, methods
from harness.training.determinism import deterministic


def check(suite: Suite, jobs: Sequence[TrainingJob], suite_name: str) -> None:
    """Refuse what cannot be trained: unknown methods and params, and methods that do not fit base or task.

    Args:
        jobs: what is about to be trained; each adapter is tried once, whatever its seeds.
        suite_name: for the messages.

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
    """Why an adapter cannot be trained on its base, or None if it can."""
    adapter = job.adapter
    rows = batches.parted(job.split.examples, adapter.train, job.seed)
    steps = batches.steps(adapter.train, len(rows.trained))
    try:
        peft_config = methods.config(adapter, steps)
    except (ValueError, TypeError) as problem:
        return str(problem)
    base_config: Any = AutoConfig.from_pretrained(job.base.folder, local_files_only=True, num_labels=2)
    virtual, positions = (
        getattr(peft_config, "num_virtual_tokens", 0),
        getattr(base_config, "max_position_embeddings", None),
    )
    if virtual and 0 < (positions or 0) < virtual + job.max_length:  # none in BLOOM's, -1 in XLNet's: no limit
        return (
            f"{virtual} virtual tokens and text.max_length {job.max_length} are more than the {positions} positions of "
            f"base {adapter.base!r}"
        )
    try:
        with deterministic(job.seed), without_known_warnings():
            return _trial(job, base_config, steps)
    except Exception as problem:  # noqa: BLE001 (whatever a method raises is why it does not fit)
        reason = str(problem) or type(problem).__name__
        return f"{adapter.method} does not fit base {adapter.base!r}: {reason}"


def _trial(job: TrainingJob, base_config: Any, steps: int) -> str | None:
    auto: Any = AutoModelForSequenceClassification  # untyped there
    base = auto.from_config(base_config, attn_implementation="eager")
    network = methods.apply(job.adapter, base, steps).train()
    if not methods.head_is_trained(network):
        return f"{job.adapter.method} does not train the head, which would answer at random"
    ids = torch.randint(base_config.vocab_size, (2, job.max_length))
    with torch.autocast("cpu", torch.bfloat16, enabled=job.precision == "bf16"):
        logits = network(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    torch.nn.functional.cross_entropy(logits.float(), torch.tensor([0, 1])).backward()  # type: ignore[no-untyped-call]
    methods.after_step(network, 1)
    return None
