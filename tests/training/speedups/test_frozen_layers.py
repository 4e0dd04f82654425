"""Frozen lower layers of a training, on a real tiny BERT: run once, left out of the steps, with the same result."""

import json
import os
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.errors import TrainingError
from harness.models.encoding import Encoded, packed
from harness.models.transformer import untrained
from harness.progress import silent
from harness.training import batching, card, loop, methods
from harness.training.checkpoint import Pace
from harness.training.determinism import deterministic
from harness.training.plan import TrainingJob
from harness.training.speedups import frozen_layers
from harness.training.speedups.frozen_layers import FrozenPrefix
from harness.training.train import train
from tests.fixtures import without_dropout

TOP = {"r": 4, "target_modules": ["query", "value"], "layers_to_transform": [1]}


@pytest.fixture
def job(jobs: list[TrainingJob]) -> TrainingJob:
    """LoRA on both layers of the tiny base."""
    return jobs[0]


def by(job: TrainingJob, folder: Path, method: str, params: dict[str, Any], **changes: Any) -> TrainingJob:
    """The same rows and base, trained by another method, in a folder of its own."""
    declared = job.adapter.train.model_dump(mode="json") | changes
    how = type(job.adapter.train).model_validate_json(json.dumps(declared))
    adapter = job.adapter.model_copy(update={"method": method, "params": params, "train": how})
    return replace(job, adapter=adapter, folder=folder)


def network_of(job: TrainingJob) -> Any:
    return methods.apply(job.adapter, untrained(job.base.folder, job.seed, attention="eager"), steps=10).train()


FROZEN: dict[str, tuple[str, dict[str, Any], int]] = {
    "the upper layer": ("lora", TOP, 1),
    "the head alone": ("head", {}, 2),
    "all layers": ("lora", {"r": 4, "target_modules": ["query", "value"]}, 0),
    "the lower layer alone": ("lora", TOP | {"layers_to_transform": [0]}, 0),
    "norms below the layers too": ("ln_tuning", {"target_modules": ["LayerNorm"]}, 0),
    "every weight": ("full", {}, 0),
    "prompts": ("prompt_tuning", {"num_virtual_tokens": 3}, 0),
    "prompts in every layer": ("prefix_tuning", {"num_virtual_tokens": 3}, 0),
}


@pytest.mark.parametrize("name", FROZEN)
def test_layers_with_nothing_that_trains_in_or_below_them_are_frozen(
    job: TrainingJob, tmp_path: Path, name: str
) -> None:
    method, params, count = FROZEN[name]
    told = card.read(train(by(job, tmp_path / "new", method, params, epochs=1), silent)).card
    assert told["frozen_layers"] == count


def test_a_frozen_layer_runs_once_however_many_epochs_there_are(job: TrainingJob, tmp_path: Path) -> None:
    job = by(job, tmp_path / "new", "lora", TOP, epochs=3)
    network = network_of(job)
    encoded = Encoded(job.base.folder, job.texts, job.max_length).for_network(network)
    rows, tokens = batching.hold_out(job.split.examples, job.adapter.train, job.seed), [0, 0]
    for index, layer in enumerate(network.get_base_model().bert.encoder.layer):

        def count(_: Any, __: Any, given: torch.Tensor, index: int = index) -> None:
            tokens[index] += given.shape[0] * given.shape[1]

        layer.register_forward_hook(count)
    trial = encoded.batch(range(4))["input_ids"].numel()
    once = sum(len(part) * int(encoded.lengths[part[0]]) for part in packed(encoded.lengths, 1024))
    with deterministic(job.seed), frozen_layers.run_once(network, encoded, tmp_path, "fp32") as below:
        loop.run(network, below, rows, job, tmp_path, silent, Pace())
    assert tokens[0] == 2 * trial + once, "two trials, and all texts once"
    assert tokens[1] >= 3 * encoded.lengths.sum(), "every epoch"


def test_without_dropout_a_training_ends_as_if_the_layers_had_run_every_time(job: TrainingJob, tmp_path: Path) -> None:
    job = without_dropout(by(job, tmp_path / "new", "lora", TOP), tmp_path / "steady")
    encoded = Encoded(job.base.folder, job.texts, job.max_length).for_network(network_of(job))
    rows = batching.hold_out(job.split.examples, job.adapter.train, job.seed)
    ends = []
    for is_once in (True, False):
        with deterministic(job.seed):
            network = network_of(job)
            if is_once:
                with frozen_layers.run_once(network, encoded, tmp_path, "fp32") as below:
                    position = loop.run(network, below, rows, job, tmp_path, silent, Pace())
            else:
                position = loop.run(network, FrozenPrefix(encoded, 0, 0.0), rows, job, tmp_path, silent, Pace())
        ends.append([loss for _, _, loss in position.curve])
    assert ends[0] == pytest.approx(ends[1], abs=1e-4)
    assert ends[0][0] != ends[0][-1]


def test_each_text_of_a_batch_gets_what_the_layers_gave_for_it(job: TrainingJob, tmp_path: Path) -> None:
    job = by(job, tmp_path / "new", "lora", TOP)
    network = network_of(job)
    texts = ["the phone is great", "it is broken", "the manual is awful and the cable is bad", "fine"] * 3
    encoded = Encoded(job.base.folder, texts, job.max_length)
    with frozen_layers.run_once(network, encoded, tmp_path, "fp32") as below:
        given = [
            below.given[row, : encoded.lengths[i]].clone()
            for some in ([3, 0], [1, 2, 7], [11])
            for row, i in enumerate(some)
            if below.batch(some)
        ]
    network.eval()
    expected = []
    with torch.no_grad():
        layer = network.get_base_model().bert.encoder.layer[0]
        layer.register_forward_hook(lambda _, __, one: expected.append(one[0]))
        for i in (3, 0, 1, 2, 7, 11):
            network(**encoded.batch([i]))
    for mine, alone in zip(given, expected, strict=True):
        torch.testing.assert_close(mine, alone, rtol=1e-4, atol=1e-5)
    assert len({round(float(one[0, 0]), 3) for one in given}) == 4, "texts 3, 7 and 11 are the same, the others not"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_trains_to_the_same_bytes_and_leaves_nothing_beside_them(
    job: TrainingJob, tmp_path: Path, precision: str
) -> None:
    job = replace(by(job, tmp_path / "new", "lora", TOP | {"lora_dropout": 0.1}), precision=precision)
    one, two = (train(replace(job, folder=tmp_path / name), silent) for name in ("one", "two"))
    assert card.adapter_digest(one) == card.adapter_digest(two)
    assert not list(one.glob(".*"))


def test_early_stopping_judges_rows_whose_lower_layers_ran_once_too(job: TrainingJob, tmp_path: Path) -> None:
    rule = {"share": 0.2, "patience": 1}
    told = card.read(train(by(job, tmp_path / "new", "head", {}, early_stopping=rule, epochs=6), silent)).card
    assert told["frozen_layers"] == 2
    losses = [loss for _, loss in told["held_out"]["loss"]]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0] or len(losses) < 6


def test_the_time_that_frozen_layers_take_counts_as_training(job: TrainingJob, tmp_path: Path) -> None:
    job = by(job, tmp_path / "new", "head", {}, epochs=1)
    network, encoded = network_of(job), Encoded(job.base.folder, job.texts, job.max_length)
    rows = batching.hold_out(job.split.examples, job.adapter.train, job.seed)
    with deterministic(job.seed), frozen_layers.run_once(network, encoded, tmp_path, "fp32") as below:
        assert below.seconds > 0
        below.seconds = 500.0
        position = loop.run(network, below, rows, job, tmp_path, silent, Pace())
    assert 500 < position.seconds < 600


def test_where_there_is_no_room_for_it_the_training_fails_with_a_message(job: TrainingJob, tmp_path: Path) -> None:
    """In a process of its own, whose files may not grow beyond 8 KiB."""
    job = by(job, tmp_path / "new", "head", {})
    child = os.fork()
    if child == 0:
        code = 1
        try:
            network, encoded = network_of(job), Encoded(job.base.folder, job.texts, job.max_length)
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
            with frozen_layers.run_once(network, encoded, tmp_path, "fp32"):
                pass
        except TrainingError as problem:
            code = 0 if "cannot be written (File too large); make room" in str(problem) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not (tmp_path / frozen_layers.NAME).exists()
