"""Training on a real tiny BERT: repeatable to the byte, whole or not at all, with a card that tells everything."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import provenance, training
from harness.declarations import Adapter
from harness.errors import AdapterError, SuiteError, TrainingError
from harness.gather import Workspace, gather
from harness.progress import Advance, silent
from harness.suite import load
from harness.training import TrainingJob, card, loop, methods


@pytest.fixture
def jobs(configured: Any, suite_path: Path, tmp_path: Path) -> list[TrainingJob]:
    """The made-up suite's trainings: LoRA with seeds 1 and 2, and a full fine-tuning."""
    suite, workspace = load(suite_path), Workspace(suite_path, tmp_path / "runs" / "x.duckdb")
    materials = gather(suite, workspace)
    return training.jobs(suite, materials.splits, materials.bases, workspace.adapters)


def changed(job: TrainingJob, tmp_path: Path, **fields: Any) -> TrainingJob:
    """A job with another adapter declaration, in a folder of its own."""
    adapter = job.adapter.model_copy(update=fields)
    return replace(job, adapter=adapter, folder=tmp_path / "changed")


def test_the_same_job_twice_gives_the_same_bytes_and_another_seed_does_not(
    jobs: list[TrainingJob], tmp_path: Path
) -> None:
    one, again, other = (
        loop.train(replace(job, folder=tmp_path / name), silent)
        for name, job in [("one", jobs[0]), ("again", jobs[0]), ("other", jobs[1])]
    )
    weights = [(folder / "adapter_model.safetensors").read_bytes() for folder in (one, again, other)]
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]
    assert (one / "adapter_config.json").read_bytes() == (again / "adapter_config.json").read_bytes()
    assert card.adapter_digest(one) == card.adapter_digest(again) != card.adapter_digest(other)


def test_training_does_not_depend_on_threads_or_on_the_callers_generator(
    jobs: list[TrainingJob], tmp_path: Path
) -> None:
    one = loop.train(replace(jobs[0], folder=tmp_path / "one"), silent)
    torch.set_num_threads(2)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    again = loop.train(replace(jobs[0], folder=tmp_path / "again"), silent)
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    assert card.adapter_digest(one) == card.adapter_digest(again)


def test_only_the_adapter_and_the_head_train(jobs: list[TrainingJob]) -> None:
    lora, full = card.read(loop.train(jobs[0], silent)), card.read(loop.train(jobs[2], silent))
    # r 4 on query and value of two layers of width 32, and a head of 32 x 2 + 2
    assert lora.n_trainable == 2 * 2 * (32 * 4 + 4 * 32) + 66
    assert full.n_trainable == full.card["n_parameters"]


def test_the_card_tells_what_went_in_and_what_it_cost(jobs: list[TrainingJob]) -> None:
    job = jobs[0]
    folder = loop.train(job, silent)
    record = card.read(folder)
    told = json.loads((folder / "harness-card.json").read_text())
    assert (record.adapter_id, record.method, record.seed) == ("lora", "lora", 1)
    assert record.base_digest == job.base.digest
    assert record.trained_on == job.split.digest
    assert record.size_bytes == sum(
        (folder / f"adapter_{n}").stat().st_size for n in ("model.safetensors", "config.json")
    )
    assert record.train_seconds > 0
    assert record.peak_bytes > 50 * 2**20
    assert [row[0] for row in told["curve"]] == list(range(1, len(told["curve"]) + 1))
    assert len(told["curve"]) == 4 * -(-len(job.texts) // 16)
    assert told["curve"][-1][2] < told["curve"][0][2]
    assert told["packages"] == provenance.packages()
    assert card.trained_on(folder, card.read(folder)) == {example.text_digest for example in job.split.examples}
    assert str(job.base.folder) not in (folder / "adapter_config.json").read_text()


def test_every_epoch_sees_every_text_once() -> None:
    lengths = np.random.default_rng(0).integers(3, 40, size=70)
    batches = list(loop._batches(lengths, 8, epochs=2, seed=5))
    half = len(batches) // 2
    for epoch in (batches[:half], batches[half:]):
        assert sorted(i for batch in epoch for i in batch) == list(range(70))
    assert batches[:half] != batches[half:]


def test_the_rate_rises_over_the_warm_up_and_falls_to_zero(jobs: list[TrainingJob]) -> None:
    told = card.read(loop.train(jobs[0], silent)).card["curve"]
    rates = [rate for _, rate, _ in told]
    steps, warmup = len(rates), round(0.1 * len(rates))
    assert rates[0] == 0
    assert rates[warmup] == max(rates) == jobs[0].adapter.train.learning_rate
    assert rates[-1] == pytest.approx(max(rates) / (steps - warmup))


def test_a_warm_up_longer_than_the_training_never_reaches_the_peak(jobs: list[TrainingJob], tmp_path: Path) -> None:
    train = jobs[0].adapter.train.model_copy(update={"warmup_share": None, "warmup_steps": 400})
    told = card.read(loop.train(changed(jobs[0], tmp_path, train=train), silent)).card["curve"]
    assert max(rate for _, rate, _ in told) == pytest.approx((len(told) - 1) / 400 * train.learning_rate)


def test_training_that_diverges_stops_with_the_step_and_leaves_nothing(jobs: list[TrainingJob], tmp_path: Path) -> None:
    train = jobs[2].adapter.train.model_copy(update={"learning_rate": 0.999, "max_grad_norm": 1e30, "epochs": 50})
    job = changed(jobs[2], tmp_path, train=train)

    with pytest.raises(TrainingError, match=r"adapter full, seed 1: the loss is (nan|inf) at step \d+ of"):
        _train_with_poison(job)
    assert not job.folder.exists()


def _train_with_poison(job: TrainingJob) -> None:
    """Train on a base whose weights hold an infinity, as a damaged checkpoint does."""
    from safetensors.torch import load_file, save_file

    folder = job.folder.with_name("poisoned-base")
    folder.mkdir()
    for file in job.base.folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layer.0.output.dense.weight"][0, 0] = float("inf")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    loop.train(replace(job, base=replace(job.base, folder=folder)), silent)


def test_modules_that_the_base_does_not_have_are_named(jobs: list[TrainingJob], tmp_path: Path) -> None:
    job = changed(jobs[0], tmp_path, params={"r": 2, "target_modules": ["q_lin"]})
    with pytest.raises(TrainingError, match="adapter lora: lora does not fit: No modules were targeted"):
        loop.train(job, silent)


@pytest.mark.parametrize(
    ("method", "params", "expected"),
    [
        ("telepathy", {}, "there is no method 'telepathy'"),
        ("lora", {"rank": 8}, "rank"),
        ("full", {"r": 8}, "method 'full' takes no params"),
    ],
)
def test_a_method_that_peft_does_not_know_is_refused_before_training(
    jobs: list[TrainingJob], method: str, params: dict[str, Any], expected: str
) -> None:
    adapter: Adapter = jobs[0].adapter.model_copy(update={"method": method, "params": params})
    with pytest.raises(SuiteError, match=rf"x\.toml: adapter\[1\]: .*{expected}"):
        methods.check((jobs[0].adapter, adapter), "x.toml")


OTHER_METHODS: dict[str, dict[str, Any]] = {
    "ia3": {"target_modules": ["query", "value"], "feedforward_modules": []},
    "vera": {"target_modules": ["query", "value"], "r": 4},
    "loha": {"target_modules": ["query", "value"], "r": 2},
    "ln_tuning": {"target_modules": ["LayerNorm"]},
}


@pytest.mark.filterwarnings("ignore:Unsupported layer type")  # PEFT's own, of its own LN tuning
@pytest.mark.parametrize("method", OTHER_METHODS)
def test_a_peft_method_needs_no_code(jobs: list[TrainingJob], tmp_path: Path, method: str) -> None:
    job = changed(jobs[0], tmp_path, method=method, params=OTHER_METHODS[method])
    record = card.read(loop.train(job, silent))
    assert 0 < record.n_trainable < record.card["n_parameters"] / 2


def test_a_card_whose_weights_changed_is_refused(jobs: list[TrainingJob]) -> None:
    folder = loop.train(jobs[0], silent)
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(AdapterError, match="the weights are not the ones its card is about; delete the folder"):
        card.read(folder)
    (folder / "harness-card.json").write_text("{}")
    with pytest.raises(AdapterError, match=r"has no readable harness-card\.json"):
        card.read(folder)


def test_a_training_that_breaks_off_leaves_no_folder(jobs: list[TrainingJob]) -> None:
    @contextmanager
    def interrupted(label: str, total: int) -> Iterator[Advance]:
        def advance(units: int, note: str) -> None:
            raise KeyboardInterrupt

        yield advance

    with pytest.raises(KeyboardInterrupt):
        loop.train(jobs[0], interrupted)
    assert list(jobs[0].folder.parent.iterdir()) == []
    assert card.read(loop.train(jobs[0], silent)).adapter_id == "lora"


def test_the_key_changes_with_everything_that_can_change_the_weights(
    configured: Any, suite_path: Path, tmp_path: Path
) -> None:
    text = suite_path.read_text()
    keys = set()
    changes = [
        ("", ""),
        ("r = 4", "r = 2"),
        ("epochs = 4", "epochs = 5"),
        ("learning_rate = 1e-2", "learning_rate = 2e-2"),
        ('template = "{content}"', 'template = "It says: {content}"'),
        ("max_length = 32", "max_length = 31"),
        ("stop = 0.6", "stop = 0.5"),
        ("seeds = [1, 2]", "seeds = [3, 2]"),
    ]
    for old, new in changes:
        suite_path.write_text(text.replace(old, new, 1))
        suite, workspace = load(suite_path), Workspace(suite_path, tmp_path / "runs" / "x.duckdb")
        materials = gather(suite, workspace)
        keys.add(training.jobs(suite, materials.splits, materials.bases, workspace.adapters)[0].key)
    assert len(keys) == len(changes)
