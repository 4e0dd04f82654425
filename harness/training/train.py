"""Training one adapter, whole or not at all: built, fitted (`loop`), saved, proven to reload, and only then named.

Training is deterministic: every draw comes from the job's seed, and torch's deterministic algorithms are on. At
intervals a checkpoint is written, from which a killed training continues to the same weights.
"""

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.errors import TrainingError
from harness.models import device, own_format
from harness.models.classifier import CARD
from harness.models.encoding import Encoded
from harness.models.peft import without_known_warnings
from harness.models.speedups import first_token
from harness.progress import Progress
from harness.training import batching, card, checkpoint, loop, methods, objective, saving
from harness.training.checkpoint import Pace
from harness.training.determinism import deterministic
from harness.training.plan import TrainingJob
from harness.training.speedups import dropout, frozen_layers
from harness.training.speedups.frozen_layers import FrozenPrefix


def train(job: TrainingJob, progress: Progress, pace: Pace | None = None) -> Path:
    """Train an adapter and put it in its folder, whole or not at all; continue where a killed training stopped.

    A second process that has to train the same adapter waits, and uses the first one's result.

    Args:
        pace: schedule of checkpoints.

    Returns:
        The folder with weights, configuration, card and digests of the training texts.

    Raises:
        TrainingError: training diverged, the method does not fit the base, or the saved weights are not the trained
            ones.
    """
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(job, progress):
        if (job.folder / CARD).is_file():
            return job.folder
        _clear_abandoned(job)
        partial = _partial(job.folder)
        partial.mkdir(exist_ok=True)
        try:
            if not (partial / CARD).is_file():  # the last thing to be written
                _train_into(partial, job, progress, pace or Pace())
        except Exception:
            shutil.rmtree(partial)
            raise
        checkpoint.remove(partial)
        shutil.rmtree(job.folder, ignore_errors=True)
        return partial.rename(job.folder)


def _partial(folder: Path) -> Path:
    """Folder in which an adapter is made until it is complete."""
    return folder.with_name(f".{folder.name}.partial")


@contextmanager
def _alone(job: TrainingJob, progress: Progress) -> Iterator[None]:
    """Lock out other processes that train this adapter. The system releases a killed process's lock."""
    lock = FileLock(job.folder.with_name(f".{job.folder.name}.lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        with progress(f"wait for the process that trains {job.adapter.id} seed {job.seed}", 1):
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _clear_abandoned(job: TrainingJob) -> None:
    """Remove leftovers of killed trainings of this adapter and seed by other recipes; nothing would resume them."""
    for lock_path in job.folder.parent.glob(f".seed-{job.seed}-*.lock"):
        left = lock_path.with_suffix(".partial")
        if left == _partial(job.folder) or not left.is_dir():
            continue
        try:
            with FileLock(lock_path, blocking=False):
                shutil.rmtree(left, ignore_errors=True)
        except Timeout:  # it is being trained
            continue


def _train_into(partial: Path, job: TrainingJob, progress: Progress, pace: Pace) -> None:
    """Train, then save weights, configuration and, last, the card in a folder that no other process writes to."""
    rows = batching.hold_out(job.split.examples, job.adapter.train, job.seed)
    device.check_precision(job.device, job.precision)
    with deterministic(job.seed, job.device):
        how = objective.of(job)
        network = _network(job, how, batching.steps(job.adapter.train, len(rows.trained)))
        encoded = how.encoded(network)
        before = methods.initial(network)
        with (
            without_known_warnings(),
            dropout.fast(),
            _frozen(network, encoded, partial, job, how) as below,
            first_token.only(network, below.trial()),
        ):
            position = loop.run(network, below, rows, job, partial, progress, pace, how)
        n_trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
        n_parameters = own_format.n_numbers(network)
        plain = lambda: device.place(how.base(how.kernel()), job.device)  # noqa: E731 (called if the method needs it)
        network = methods.settled(network, before, plain).eval()
        methods.score_as_loaded(network, how.kernel())
        probe = how.probe(network)
        saving.save(device.bring_home(network), partial)
        saving.check_reloads(partial, job, probe, how)
    facts = {
        "n_trainable": n_trainable,
        "n_parameters": n_parameters,
        "frozen_layers": below.count,
        "train_seconds": position.seconds,
        "tokens_per_second": position.tokens / position.seconds,
        "examples_per_second": position.examples / position.seconds,
        "truncated": encoded.truncated,
        "padding": {"side": encoded.batching.side, "id": encoded.batching.pad_id},
        "curve": position.curve,
        "resumed": position.resumed,
        "probe_scores": probe,
        "peak_bytes": position.peak_bytes,
    }
    if job.adapter.train.early_stopping is not None:
        facts["held_out"] = {"n": len(rows.held_out), "loss": position.held_out}
    card.write(partial, saving.card_of(job, partial) | facts, [example.text_digest for example in job.split.examples])


def _frozen(
    network: Any, encoded: Encoded, folder: Path, job: TrainingJob, how: objective.Objective
) -> AbstractContextManager[FrozenPrefix]:
    """The lower layers that do not train, run once, where a row's own tokens are all that is read."""
    if not how.one_pass:
        return nullcontext(FrozenPrefix(encoded, 0, 0.0))
    return frozen_layers.run_once(network, encoded, folder, job.precision)


def _network(job: TrainingJob, how: objective.Objective, steps: int) -> Any:
    base: Any = how.base(device.training_attention(job.device))
    try:
        if job.adapter.train.gradient_checkpointing:
            base.gradient_checkpointing_enable({"use_reentrant": False})
        # The method draws its weights before they are moved, so that they are the same on every device.
        network = methods.apply(job.adapter, base, steps).train()
    except (ValueError, TypeError, AttributeError, RuntimeError, KeyError) as problem:
        raise TrainingError(f"adapter {job.adapter.id}: {job.adapter.method} does not fit: {problem}") from None
    return device.place(network, job.device)
