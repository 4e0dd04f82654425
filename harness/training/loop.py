"""Training loop: AdamW, linear warm-up and decay, batches of similar length, bf16 autocast over fp32 weights.

A batch goes through the network in parts of limited size, whose gradients add up to the batch's, so that a layer's
output is still in the processor's cache when the next layer reads it. A step uses the mean loss of the whole batch.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from transformers import get_linear_schedule_with_warmup

from harness.errors import TrainingError
from harness.models import device
from harness.models.encoding import TOKENS_PER_BATCH, TOKENS_PER_PASS
from harness.progress import Progress
from harness.suite.schema import EarlyStopping, Training
from harness.training import batching, checkpoint, methods, saving
from harness.training.batching import Rows
from harness.training.checkpoint import Pace, Position
from harness.training.objective import Classifying, Objective
from harness.training.plan import TrainingJob
from harness.training.speedups.frozen_layers import FrozenPrefix

_Passes: TypeAlias = tuple[list[float], list[torch.Tensor], list[torch.Tensor]]


def run(
    network: Any,
    below: FrozenPrefix,
    rows: Rows,
    job: TrainingJob,
    folder: Path,
    progress: Progress,
    pace: Pace,
    objective: Objective | None = None,
) -> Position:
    """Train a network in place, from the checkpoint in `folder` if there is one.

    Args:
        objective: prepared by its `encoded`; may be omitted for a classifier.

    Raises:
        TrainingError: a loss or a gradient is not finite, or the result predicts the same class for every text.
    """
    how = job.adapter.train
    steps = batching.steps(how, len(rows.trained))
    labels = batching.labels(job.split.examples, job.adapter, job.seed)
    state = _initial_state(network, how, steps, objective or Classifying(job), labels, job.precision)
    kept = checkpoint.read(folder, job.key)
    if kept is not None:
        state.restore(*kept)
    position = state.position
    before_seconds, began = position.seconds + below.seconds, time.perf_counter()

    where = device.of(network)

    def note_time() -> None:
        device.synchronise(where)
        position.seconds = before_seconds + time.perf_counter() - began
        position.peak_bytes = max(position.peak_bytes, device.peak_bytes(where) or saving.peak_bytes())

    with progress(f"train {job.adapter.id} seed {job.seed}", steps) as advance:
        advance(position.step, "")
        step = 0
        epochs = batching.epochs(below.lengths[rows.trained], how.batch_size, how.epochs, job.seed)
        for epoch, order in enumerate(epochs, start=1):
            for group in batching.groups(order, how.accumulate or 1):
                step += 1
                if step <= position.step:
                    continue
                if group[0] is order[0]:
                    state.read(job, steps)
                    position.said = [0, 0]
                state.step(below, [rows.trained[batch].tolist() for batch in group], job, steps)
                if len(state.unread) >= device.steps_unread(where):
                    state.read(job, steps)
                advance(1, f"loss {position.curve[-1][2]:.3f}" if position.curve else "")
                if pace.is_due():
                    state.read(job, steps)
                    started = time.perf_counter()
                    note_time()
                    state.keep(folder, job.key)
                    pace.wrote(started)
            state.read(job, steps)
            if how.early_stopping is not None:
                if len(position.held_out) < epoch:
                    state.judge(below, rows.held_out.tolist(), job, epoch)
                if _is_over(position.held_out, how.early_stopping):
                    break
    note_time()
    state.take_best()
    _check_not_constant(position, job)
    return position


def _initial_state(
    network: Any, how: Training, steps: int, objective: Objective, labels: Sequence[int], precision: str
) -> "TrainState":
    where = device.of(network)
    parameters = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    optimizer = torch.optim.AdamW(list(parameters.values()), lr=how.learning_rate, weight_decay=how.weight_decay)
    schedule = get_linear_schedule_with_warmup(  # type: ignore[no-untyped-call]  # untyped there
        optimizer, _warmup_steps(how, steps), steps
    )
    return TrainState(
        network,
        objective,
        labels,
        parameters,
        optimizer,
        schedule,
        Position(),
        {},
        device.tokens_per_pass(where, TOKENS_PER_PASS),
        device.scaler(where, precision),
    )


def _warmup_steps(how: Training, steps: int) -> int:
    """Steps over which the learning rate rises."""
    if how.warmup_steps is not None:
        return how.warmup_steps
    return round((how.warmup_share or 0.0) * steps)  # the declaration asks for one of the two


def _is_over(held_out: list[list[float]], rule: EarlyStopping) -> bool:
    """Check that the lowest loss is at least `patience` epochs old."""
    losses = [loss for _, loss in held_out]
    return len(losses) - 1 - losses.index(min(losses)) >= rule.patience


def _check_not_constant(position: Position, job: TrainingJob) -> None:
    labels = {example.label for example in job.split.examples}
    if 0 in position.said and len(labels) == 2 and job.adapter.labels is None:  # a null has nothing to learn
        raise TrainingError(
            f"adapter {job.adapter.id}, seed {job.seed}: in its last epoch it predicted class "
            f"{int(position.said[0] == 0)} for all {sum(position.said)} training rows; it has learned nothing: change "
            "learning_rate, or train longer"
        )


@dataclass(frozen=True, slots=True)
class Unread:
    """Numbers of one step that are still on the device."""

    step: int
    learning_rate: float
    count: int
    """Texts of the step."""
    shares: list[float]
    """Share of each pass in the step's texts."""
    losses: list[torch.Tensor]
    """Mean loss of each pass."""
    ones: list[torch.Tensor]
    """Number of texts of each pass that were predicted as class 1."""
    norm: torch.Tensor
    """Norm of the gradients."""
    may_overflow: bool
    """True in fp16, while the scale of the losses can still be lowered."""


@dataclass(slots=True)
class TrainState:
    """State of a running training: everything that changes from step to step."""

    network: Any
    objective: Objective
    labels: Sequence[int]
    """Labels of the split's examples, in their order."""
    parameters: dict[str, torch.nn.Parameter]
    """Trainable parameters by name."""
    optimizer: torch.optim.Optimizer
    schedule: Any
    position: Position
    best: dict[str, torch.Tensor]
    """With early stopping, the parameters after the best epoch so far."""
    budget_tokens: int
    """Padded tokens in one pass; halved where an accelerator's memory does not suffice."""
    scaler: Any
    """Scales losses, so that gradients in fp16 do not vanish; None in other formats."""
    unread: list[Unread] = field(default_factory=list)
    """Steps whose numbers were not read yet."""

    def step(self, below: FrozenPrefix, group: list[list[int]], job: TrainingJob, steps: int) -> None:
        """Take one step of the optimizer on the mean loss over a group of batches; its numbers are left to `read`."""
        count, step = sum(map(len, group)), self.position.step + 1
        who = f"adapter {job.adapter.id}, seed {job.seed}"
        shares, losses, ones = self._gradients(below, group, who, f"at step {step} of {steps}")
        self.position.tokens += sum(int(below.lengths[batch].sum()) for batch in group)
        self.position.examples += count
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), job.adapter.train.max_grad_norm)
        may_overflow = self.scaler is not None and self.scaler.get_scale() >= 1
        rate = float(self.schedule.get_last_lr()[0])
        self.unread.append(Unread(step, rate, count, shares, losses, ones, norm, may_overflow))
        if self.scaler is None:
            self.optimizer.step()
            self.schedule.step()
        else:
            self._scaled_step()
        self.position.step = step
        methods.after_step(self.network, step)
        self.optimizer.zero_grad()

    def read(self, job: TrainingJob, steps: int) -> None:
        """Read the numbers of the steps since the last time, all at once.

        Raises:
            TrainingError: a loss or a gradient was not finite; its step is named.
        """
        unread, self.unread = self.unread, []
        if not unread:
            return
        numbers = device.home(
            torch.stack([one.float() for of in unread for one in (*of.losses, *of.ones, of.norm)])
        ).tolist()
        for of in unread:
            n, who = len(of.losses), f"adapter {job.adapter.id}, seed {job.seed}"
            where = f"at step {of.step} of {steps}; lower learning_rate or max_grad_norm"
            losses, ones, norm, numbers = numbers[:n], numbers[n : 2 * n], numbers[2 * n], numbers[2 * n + 1 :]
            for loss in losses:
                if not math.isfinite(loss):
                    raise TrainingError(f"{who}: the loss is {loss} {where}")
            if not math.isfinite(norm) and not of.may_overflow:
                raise TrainingError(f"{who}: the norm of the gradients is {norm} {where}")
            mean = 0.0
            for loss, share in zip(losses, of.shares, strict=True):
                mean += loss * share
            said = int(sum(ones))
            self.position.said[0] += of.count - said
            self.position.said[1] += said
            self.position.curve.append([of.step, of.learning_rate, mean])

    def _gradients(self, below: FrozenPrefix, group: list[list[int]], who: str, where: str) -> _Passes:
        """Add up the gradients of a step; where memory does not suffice, again from its beginning with half the budget.

        Returns:
            By pass: its share of the texts, its mean loss, and the number of texts predicted as class 1.
        """
        on = device.of(self.network)
        began = torch.get_rng_state(), device.generator(on.type)
        while True:
            try:
                return self._passes(below, group)
            except torch.OutOfMemoryError:
                longest = max(int(below.lengths[batch].max()) for batch in group)
                if self.budget_tokens <= longest:
                    raise TrainingError(
                        f"{who}: the device's memory does not suffice for one text of {longest} tokens {where}; "
                        "set gradient_checkpointing, lower text.max_length, or choose a "
                        "smaller base"
                    ) from None
            self.budget_tokens //= 2
            self.optimizer.zero_grad()
            torch.set_rng_state(began[0])
            device.set_generator(on.type, began[1])
            device.release(on)

    def _passes(self, below: FrozenPrefix, group: list[list[int]]) -> _Passes:
        shares, losses, ones, count = [], [], [], sum(map(len, group))
        for batch in (part for whole in group for part in _parts(below, whole, self.budget_tokens)):
            loss, predicted = self.objective.loss(self.network, below, batch, self._labels(batch))
            share = len(batch) / count
            of_batch = loss * share if self.scaler is None else self.scaler.scale(loss * share)
            of_batch.backward()
            shares.append(share)
            losses.append(loss.detach())
            ones.append(predicted.sum())
        return shares, losses, ones

    def _scaled_step(self) -> None:
        """Take a step with scaled gradients; one that overflowed is left out, and the scale lowered."""
        before = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scaler.get_scale() >= before:
            self.schedule.step()

    def judge(self, below: FrozenPrefix, held_out: list[int], job: TrainingJob, epoch: int) -> None:
        """Record the loss on the held-out rows, and keep the parameters if it is the lowest so far."""
        self.network.eval()
        losses = []
        with torch.inference_mode():
            for chosen in below.encoded.batches(TOKENS_PER_BATCH, held_out):
                batch = [held_out[i] for i in chosen]
                loss, _ = self.objective.loss(self.network, below, batch, self._labels(batch), "sum")
                losses.append(loss)
        self.network.train()
        total = 0.0
        for one in device.home(torch.stack(losses)).tolist():
            total += one
        mean = total / len(held_out)
        if not math.isfinite(mean):
            raise TrainingError(
                f"adapter {job.adapter.id}, seed {job.seed}: the loss on the held-out rows is {mean} after epoch "
                f"{epoch}; lower learning_rate or max_grad_norm"
            )
        if all(mean < earlier for _, earlier in self.position.held_out):
            self.best = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        self.position.held_out.append([epoch, mean])

    def _labels(self, indices: list[int]) -> torch.Tensor:
        return torch.tensor([self.labels[i] for i in indices])

    def take_best(self) -> None:
        """Return to the parameters of the best epoch with early stopping; without it, keep those of the last."""
        self._set(self.best)

    def _set(self, values: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, tensor in values.items():
                self.parameters[name].copy_(tensor)

    def keep(self, folder: Path, key: str) -> None:
        """Write a checkpoint."""
        kept, ranks = methods.kept_state(self.network)
        moments = self.optimizer.state_dict()
        where = device.of(self.network)
        tensors = {
            "parameter": {name: parameter.detach() for name, parameter in self.parameters.items()},
            "best": self.best,
            "method": kept,
            "optimizer": {f"{i}/{name}": tensor for i, of in moments["state"].items() for name, tensor in of.items()},
            "generator": {"torch": torch.get_rng_state(), **device.generator(where.type)},
        }
        schedule = {name: value for name, value in self.schedule.state_dict().items() if name != "lr_lambdas"}
        state = {"groups": moments["param_groups"], "schedule": schedule, "ranks": ranks}
        if self.scaler is not None:
            state["scaler"] = self.scaler.state_dict()
        checkpoint.write(folder, key, self.position, state, tensors)

    def restore(self, position: Position, state: Any, tensors: checkpoint.Tensors) -> None:
        """Go back to a checkpoint."""
        self._set(tensors["parameter"])
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for path, tensor in tensors["optimizer"].items():
            i, _, name = path.partition("/")
            moments.setdefault(int(i), {})[name] = tensor
        self.optimizer.load_state_dict({"state": moments, "param_groups": state["groups"]})
        self.schedule.load_state_dict({**state["schedule"], "lr_lambdas": [None]})
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])
        methods.restore_kept_state(self.network, tensors["method"], state["ranks"])
        torch.set_rng_state(tensors["generator"]["torch"])
        device.set_generator(device.of(self.network).type, tensors["generator"])
        self.best = tensors["best"]
        self.position = position
        self.position.resumed += 1


def _parts(below: FrozenPrefix, batch: Sequence[int], budget: int) -> Iterator[list[int]]:
    """A batch in parts with as many padded tokens as one pass of scoring, the longest texts first."""
    for some in below.encoded.batches(budget, batch):
        yield [batch[i] for i in some]
