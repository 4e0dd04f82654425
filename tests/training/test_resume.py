"""A training that is killed goes on from its last checkpoint and ends with the same weights as an undisturbed one.

The trainings are killed with SIGKILL, in processes of their own that a fork server starts once torch is imported.
"""

import json
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.progress import Advance, Progress, silent
from harness.training import card, checkpoint
from harness.training.checkpoint import Pace
from harness.training.plan import TrainingJob
from harness.training.train import train as train_loop
from tests.processes import FORKS, Command

pytestmark = pytest.mark.slow

KILLS, SEED = 8, 20


def often() -> Pace:
    """Checkpoints all the time, whatever they cost."""
    return Pace(seconds=0.0, share=1.0)


def train(job: TrainingJob) -> None:
    """In a process of its own: train with checkpoints all the time."""
    train_loop(job, silent, often())


def with_dropout(job: TrainingJob, folder: Path) -> TrainingJob:
    """A LoRA training that draws random numbers at every step, and stops early; long enough to be killed midway."""
    train = job.adapter.train.model_copy(update={"epochs": 8, "accumulate": 2, "batch_size": 8, "learning_rate": 2e-2})
    adapter = job.adapter.model_copy(update={"params": job.adapter.params | {"lora_dropout": 0.1}, "train": train})
    return replace(job, adapter=adapter, folder=folder)


def killed_after(job: TrainingJob, seconds: float) -> bool:
    """Train in another process and kill it some seconds after its first checkpoint; True if it was still training."""
    process = FORKS.Process(target=train, args=(job,))
    process.start()
    try:
        file = job.folder.with_name(f".{job.folder.name}.partial") / checkpoint.NAME
        known = file.stat().st_mtime_ns if file.exists() else None
        while process.is_alive() and (not file.exists() or file.stat().st_mtime_ns == known):
            time.sleep(0.002)
        process.join(seconds)
        alive = process.is_alive()
    finally:
        process.kill()
        process.join()
    return alive


def test_a_training_killed_at_any_point_ends_with_the_same_weights(jobs: list[TrainingJob], tmp_path: Path) -> None:
    undisturbed = with_dropout(jobs[0], tmp_path / "undisturbed")
    process = FORKS.Process(target=train, args=(undisturbed,))
    process.start()
    process.join()
    expected = card.read(undisturbed.folder)
    draw = random.Random(SEED)
    resumed = 0
    kills = 0
    while kills < KILLS:
        job = with_dropout(jobs[0], tmp_path / f"killed-{kills}")
        # Several times in one training, now and then.
        waits = [draw.uniform(0, expected.card["train_seconds"] / 2) for _ in range(draw.choice([1, 1, 3]))]
        for wait in waits:
            if not job.folder.exists():
                sys.stdout.write(f"killed {wait:.3f} s after a checkpoint, in training: {killed_after(job, wait)}\n")
                kills += 1
        record = card.read(train_loop(job, silent, often()))
        resumed += record.card["resumed"]
        assert record.adapter_digest == expected.adapter_digest, f"after kills {waits}, drawn with seed {SEED}"
        assert record.card["curve"] == expected.card["curve"]
        assert [path.name for path in tmp_path.glob(f".{job.folder.name}*")] == [f".{job.folder.name}.lock"]
    assert resumed >= KILLS / 2, "the kills missed the trainings; they say nothing"


def interrupted_at(share: float) -> Progress:
    """A `Progress` that interrupts the training when this share of its steps is done."""

    @contextmanager
    def progress(label: str, total: int) -> Iterator[Advance]:
        done = 0

        def advance(units: int, note: str) -> None:
            nonlocal done
            done += units
            if done >= share * total:
                raise KeyboardInterrupt

        yield advance

    return progress


interrupted = interrupted_at(0.5)


METHODS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "full": ("full", {}, {}),
    "adalora": ("adalora", {"init_r": 6, "target_r": 4, "tinit": 2, "tfinal": 4}, {}),
    "pissa": ("lora", {"r": 4, "init_lora_weights": "pissa"}, {}),
    "prompts": ("p_tuning", {"num_virtual_tokens": 4, "encoder_hidden_size": 16, "target_modules": None}, {}),
    "pvera, sampling": ("pvera", {"r": 4}, {}),
    "frozen lower layers": ("lora", {"r": 4, "lora_dropout": 0.1, "layers_to_transform": [1]}, {}),
    "accumulating": ("lora", {"r": 4, "lora_dropout": 0.1}, {"accumulate": 3}),
    "stopping early": ("lora", {"r": 4}, {"early_stopping": {"share": 0.2, "patience": 1}, "epochs": 6}),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_training_gives_the_same_bytes(jobs: list[TrainingJob], tmp_path: Path, name: str) -> None:
    method, params, changes = METHODS[name]
    if method not in ("full", "p_tuning"):
        params = {"target_modules": ["query", "value"], **params}
    params = {key: value for key, value in params.items() if value is not None}
    declared = jobs[0].adapter.train.model_dump(mode="json") | changes
    how = type(jobs[0].adapter.train).model_validate_json(json.dumps(declared))
    adapter = jobs[0].adapter.model_copy(update={"method": method, "params": params, "train": how})
    job = replace(jobs[0], adapter=adapter, folder=tmp_path / "resumed")
    once = card.read(train_loop(replace(job, folder=tmp_path / "once"), silent))
    with pytest.raises(KeyboardInterrupt):
        # AdaLoRA is just before its last allocation, and early stopping before the end.
        train_loop(job, interrupted_at(0.2 if "early_stopping" in changes else 0.8), often())
    record = card.read(train_loop(job, silent))
    assert record.card["resumed"] == 1
    assert record.adapter_digest == once.adapter_digest
    assert record.card.get("held_out") == once.card.get("held_out")


def test_a_damaged_checkpoint_or_one_of_another_training_is_not_taken_up(
    jobs: list[TrainingJob], tmp_path: Path
) -> None:
    once = card.read(train_loop(replace(jobs[0], folder=tmp_path / "once"), silent))
    for position, (head, length) in enumerate(((b"", -9), (b"", 0), (b"{}", None))):
        job = replace(jobs[0], folder=tmp_path / f"damaged-{position}")
        with pytest.raises(KeyboardInterrupt):
            train_loop(job, interrupted, often())
        file = tmp_path / f".{job.folder.name}.partial" / checkpoint.NAME
        file.write_bytes(head + file.read_bytes()[:length])
        record = card.read(train_loop(job, silent))
        assert (record.card["resumed"], record.adapter_digest) == (0, once.adapter_digest)
    job = replace(jobs[0], folder=tmp_path / "other")
    with pytest.raises(KeyboardInterrupt):
        train_loop(replace(job, key="another"), interrupted, often())
    assert card.read(train_loop(job, silent)).card["resumed"] == 0


def test_what_killed_trainings_of_other_recipes_left_is_cleared_away(jobs: list[TrainingJob]) -> None:
    job = jobs[0]
    other = replace(job, folder=job.folder.with_name("seed-1-0123456789abcdef"), key="0123456789abcdef")
    other_seed = replace(jobs[1], folder=job.folder.with_name("seed-2-0123456789abcdef"), key="x")
    for left in (other, other_seed):
        with pytest.raises(KeyboardInterrupt):
            train_loop(left, interrupted, often())
    train_loop(job, silent)
    left_over = sorted(path.name for path in job.folder.parent.glob(".*.partial"))
    assert left_over == [".seed-2-0123456789abcdef.partial"]


def test_two_processes_that_train_the_same_adapter_train_it_once(jobs: list[TrainingJob]) -> None:
    job = jobs[0]
    waiting: list[str] = []

    @contextmanager
    def noted(label: str, total: int) -> Iterator[Advance]:
        waiting.append(label)
        yield lambda units, note: None

    process = FORKS.Process(target=train, args=(job,))
    process.start()
    while not job.folder.with_name(f".{job.folder.name}.partial").exists() and process.is_alive():
        time.sleep(0.002)
    train_loop(job, noted)
    process.join()
    assert process.exitcode == 0
    assert waiting == ["wait for the process that trains lora seed 1"]
    assert card.read(job.folder).card["resumed"] == 0


def test_the_command_leaves_nothing_of_a_training_that_was_killed(
    harness: Callable[..., Any], suite_path: Path, tmp_path: Path
) -> None:
    suite_path.write_text(suite_path.read_text().replace("epochs = 4", "epochs = 20"))
    words = ["train", suite_path, "--adapter", "lora", "--workers", "1"]
    folder = tmp_path / "runs" / "adapters" / "lora"
    with Command(words, HARNESS_DB=str(tmp_path / "runs/harness.duckdb")) as command:
        while command.poll() is None and not list(folder.glob(".*.partial")):
            time.sleep(0.01)
        command.send_signal(signal.SIGKILL)
        command.wait()
    assert list(folder.glob("seed-*")) == []
    assert harness("train", suite_path, "--adapter", "lora", "--workers", "1").code == 0
    assert len(list(folder.glob("seed-*/harness-card.json"))) == 2
    assert list(folder.glob(".*.partial")) == []


def test_checkpoints_take_at_most_their_share_of_the_time() -> None:
    pace = Pace(seconds=0.0, share=0.02)
    assert pace.is_due()
    pace.wrote(time.perf_counter() - 0.01)  # as if it had taken 10 ms: the next is due after 500 ms
    assert not pace.is_due()
    pace.wrote(time.perf_counter() - 1e-5)
    time.sleep(0.01)
    assert pace.is_due()
