"""Whether methods fit their bases, found out before anything is trained.

Each adapter is really built on its base, by the way on which it is trained: it takes a step forward and back on the
shortest and the longest text of its split, and answers them as it will when it is scored. What PEFT or the model says
is the reason.
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
    """Why an adapter cannot be trained on its base and scored, or None if it can.

    A base that cannot be loaded is no misfit: its trainings say so, and the suite's other models go on.
    """
    adapter = job.adapter
    rows = batching.hold_out(job.split.examples, adapter.train, job.seed)
    steps = batching.steps(adapter.train, len(rows.trained))
    try:
        methods.config(adapter, steps)
    except Exception as problem:  # noqa: BLE001 (params are somebody's; PEFT says why it does not take them)
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
        except Exception as problem:  # noqa: BLE001 (whatever a method raises is why it does not fit)
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
    methods.after_step(network, 1)
    methods.score_as_loaded(network.eval(), job.base.folder)
    with torch.inference_mode():
        for batch in batches_of_texts:
            network(**batch)
    return None
