"""Training on a real tiny BERT: repeatable to the byte, whole or not at all, with a card that records everything."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.profiler import ProfilerActivity, profile

from harness import provenance
from harness.engine import ENGINES
from harness.engine.scheduler import complete
from harness.errors import AdapterError, SuiteError, TrainingError
from harness.evaluation.evaluate import refuse_misfits
from harness.evaluation.inputs import Workspace, gather
from harness.models.encoding import Encoded, forward_all
from harness.models.peft import with_adapter
from harness.progress import Advance, silent
from harness.records import Example
from harness.suite.load import load
from harness.suite.schema import Adapter, EarlyStopping
from harness.training import batching, card, loop, plan
from harness.training.plan import TrainingJob
from harness.training.train import train as train_loop
from tests.fixtures import without_dropout


def changed(job: TrainingJob, tmp_path: Path, **fields: Any) -> TrainingJob:
    """A job with another adapter declaration, in a folder of its own."""
    adapter = job.adapter.model_copy(update=fields)
    return replace(job, adapter=adapter, folder=tmp_path / "changed")


def test_the_same_job_twice_gives_the_same_bytes_and_another_seed_does_not(
    jobs: list[TrainingJob], tmp_path: Path
) -> None:
    one, again, other = (
        train_loop(replace(job, folder=tmp_path / name), silent)
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
    one = train_loop(replace(jobs[0], folder=tmp_path / "one"), silent)
    torch.set_num_threads(2)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    again = train_loop(replace(jobs[0], folder=tmp_path / "again"), silent)
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic
    assert memory.fill_uninitialized_memory, "as it was"
    torch.set_num_threads(1)
    assert card.adapter_digest(one) == card.adapter_digest(again)


def test_only_the_adapter_and_the_head_train(jobs: list[TrainingJob]) -> None:
    lora, full = card.read(train_loop(jobs[0], silent)), card.read(train_loop(jobs[2], silent))
    # r 4 on query and value of two layers of width 32, and a head of 32 x 2 + 2
    assert lora.n_trainable == 2 * 2 * (32 * 4 + 4 * 32) + 66
    assert full.n_trainable == full.card["n_parameters"]


def test_the_card_tells_what_went_in_and_what_it_cost(jobs: list[TrainingJob]) -> None:
    job = jobs[0]
    folder = train_loop(job, silent)
    record = card.read(folder)
    told = json.loads((folder / "harness-card.json").read_text())
    assert (record.adapter_id, record.method, record.seed) == ("lora", "lora", 1)
    assert record.base_digest == job.base.digest
    assert record.trained_on == job.split.digest
    assert record.size_bytes == sum(
        (folder / f"adapter_{n}").stat().st_size for n in ("model.safetensors", "config.json")
    )
    assert told["train_seconds"] > 0
    assert told["peak_bytes"] > 50 * 2**20
    assert [row[0] for row in told["curve"]] == list(range(1, len(told["curve"]) + 1))
    assert len(told["curve"]) == 4 * -(-len(job.texts) // 16)
    losses = [row[2] for row in told["curve"]]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert told["packages"] == provenance.packages()
    seen = frozenset(example.text_digest for example in job.split.examples)
    assert card.trained_on(folder, card.read(folder)) == seen
    assert str(job.base.folder) not in (folder / "adapter_config.json").read_text()


def test_every_epoch_sees_every_text_once() -> None:
    lengths = np.random.default_rng(0).integers(3, 40, size=70)
    first, second = batching.epochs(lengths, 8, 2, seed=5)
    for epoch in (first, second):
        assert sorted(i for batch in epoch for i in batch) == list(range(70))
    assert first != second


def test_the_rate_rises_over_the_warm_up_and_falls_to_zero(jobs: list[TrainingJob]) -> None:
    told = card.read(train_loop(jobs[0], silent)).card["curve"]
    rates = [rate for _, rate, _ in told]
    steps, warmup = len(rates), round(0.1 * len(rates))
    assert rates[0] == 0
    assert rates[warmup] == max(rates) == jobs[0].adapter.train.learning_rate
    assert rates[-1] == pytest.approx(max(rates) / (steps - warmup))


def test_a_warm_up_longer_than_the_training_never_reaches_the_peak(jobs: list[TrainingJob], tmp_path: Path) -> None:
    train = jobs[0].adapter.train.model_copy(update={"warmup_share": None, "warmup_steps": 400})
    told = card.read(train_loop(changed(jobs[0], tmp_path, train=train), silent)).card["curve"]
    assert max(rate for _, rate, _ in told) == pytest.approx((len(told) - 1) / 400 * train.learning_rate)


def test_training_that_diverges_stops_with_the_step_and_leaves_nothing(jobs: list[TrainingJob], tmp_path: Path) -> None:
    train = jobs[2].adapter.train.model_copy(update={"learning_rate": 0.999, "max_grad_norm": 1e30, "epochs": 50})
    job = changed(jobs[2], tmp_path, train=train)

    with pytest.raises(TrainingError, match=r"adapter full, seed 1: the loss is (nan|inf) at step \d+ of"):
        _train_with_poison(job)
    assert not job.folder.exists()


def _train_with_poison(job: TrainingJob) -> None:
    """Train on a base that has an infinity for a word of the training texts, as a damaged checkpoint does."""
    folder = job.folder.with_name("poisoned-base")
    folder.mkdir()
    for file in job.base.folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    tensors["embeddings.word_embeddings.weight"][vocabulary["phone"], 0] = float("inf")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    train_loop(replace(job, base=replace(job.base, folder=folder)), silent)


def test_modules_that_the_base_does_not_have_are_named(jobs: list[TrainingJob], tmp_path: Path) -> None:
    job = changed(jobs[0], tmp_path, params={"r": 2, "target_modules": ["q_lin"]})
    with pytest.raises(TrainingError, match="adapter lora: lora does not fit: No modules were targeted"):
        train_loop(job, silent)


@pytest.mark.parametrize(
    ("method", "params", "expected"),
    [
        ("telepathy", {}, "there is no method 'telepathy'"),
        ("lora", {"rank": 8}, "rank"),
        ("full", {"r": 8}, "method 'full' takes no params"),
    ],
)
def test_a_method_that_peft_does_not_know_is_refused_before_training(
    suite_path: Path, jobs: list[TrainingJob], tmp_path: Path, method: str, params: dict[str, Any], expected: str
) -> None:
    adapter: Adapter = jobs[2].adapter.model_copy(update={"method": method, "params": params})
    misfit, workspace = replace(jobs[2], adapter=adapter), Workspace(Path("x.toml"), tmp_path / "harness.duckdb")
    with (
        ENGINES["local"](1, silent) as map_unordered,
        pytest.raises(SuiteError, match=rf"x\.toml: adapter\[1\]: .*{expected}"),
    ):
        complete(map_unordered, lambda one: refuse_misfits(load(suite_path), [jobs[0], misfit], workspace, one))


def test_a_card_whose_weights_changed_is_refused(jobs: list[TrainingJob]) -> None:
    folder = train_loop(jobs[0], silent)
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(AdapterError, match="the weights are not the ones its card describes; delete the folder"):
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
        train_loop(jobs[0], interrupted)
    assert not jobs[0].folder.exists()
    assert card.read(train_loop(jobs[0], silent)).adapter_id == "lora"
    assert [path.name for path in jobs[0].folder.parent.glob("[!.]*")] == [jobs[0].folder.name]


def test_the_key_changes_with_everything_that_can_change_the_weights(
    configured: Any, suite_path: Path, tmp_path: Path
) -> None:
    text = suite_path.read_text()
    keys = set()
    changes = [
        ("", ""),
        ("r = 4", "r = 2"),
        ("epochs = 4", "epochs = 5"),
        ("batch_size = 16", "batch_size = 16, accumulate = 2"),
        ("batch_size = 16", "batch_size = 16, early_stopping = { share = 0.1, patience = 1 }"),
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
        keys.add(plan.jobs(suite, materials.splits, materials.bases, workspace.adapters)[0].key)
    assert len(keys) == len(changes)


def test_keys_that_came_later_are_in_no_digest_unless_they_are_given(jobs: list[TrainingJob]) -> None:
    told = jobs[0].adapter.train.model_dump(mode="json")
    assert {"accumulate", "early_stopping"} & set(told) == set()
    assert "warmup_steps" in told  # as it always was, given or not


def with_training(job: TrainingJob, tmp_path: Path, **changes: Any) -> TrainingJob:
    """A job with another declaration, in a folder of its own."""
    return changed(job, tmp_path, train=job.adapter.train.model_copy(update=changes))


def test_accumulated_batches_make_one_step_on_their_mean_loss(jobs: list[TrainingJob], tmp_path: Path) -> None:
    n = len(jobs[0].texts)
    told = card.read(train_loop(with_training(jobs[0], tmp_path, accumulate=3), silent)).card
    assert len(told["curve"]) == 4 * math.ceil(math.ceil(n / 16) / 3)
    steady = without_dropout(jobs[0], tmp_path / "steady-base")
    whole = {"batch_size": n, "epochs": 1, "warmup_share": None, "warmup_steps": 0}
    parts = whole | {"batch_size": 8, "accumulate": n}
    one, other = (
        card.read(train_loop(with_training(steady, tmp_path / name, **how), silent)).card
        for name, how in (("whole", whole), ("parts", parts))
    )
    assert len(one["curve"]) == len(other["curve"]) == 1
    assert other["curve"][0][2] == pytest.approx(one["curve"][0][2], abs=1e-6)
    assert other["probe_scores"] == pytest.approx(one["probe_scores"], abs=1e-3)


def test_a_batch_goes_through_in_parts_that_make_one_step_on_its_mean_loss(
    jobs: list[TrainingJob], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = len(jobs[0].texts)
    steady = without_dropout(jobs[0], tmp_path / "steady-base")
    batch, sizes = Encoded.batch, list[int]()

    def noted(self: Encoded, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        made = batch(self, indices)
        sizes.append(made["input_ids"].numel())
        return made

    monkeypatch.setattr(Encoded, "batch", noted)
    told, seen = {}, {}
    for budget in (10_000, 40):
        monkeypatch.setattr(loop, "TOKENS_PER_PASS", budget)
        changes = {"batch_size": n, "epochs": 1, "warmup_share": None, "warmup_steps": 0}
        told[budget] = card.read(train_loop(with_training(steady, tmp_path / str(budget), **changes), silent)).card
        seen[budget] = sizes.copy()
        sizes.clear()
    # The first two batches are trials, the last ones are the probe texts.
    assert seen[10_000][2] > 400, "all at once"
    assert max(seen[40][2 : n // 10]) <= 40
    assert len(told[40]["curve"]) == 1
    assert told[40]["curve"][0][2] == pytest.approx(told[10_000]["curve"][0][2], abs=1e-6)
    assert told[40]["probe_scores"] == pytest.approx(told[10_000]["probe_scores"], abs=1e-3)


def test_a_training_computes_the_last_layer_for_the_first_token_alone(jobs: list[TrainingJob], tmp_path: Path) -> None:
    ends: list[tuple[str, int]] = []

    def note(module: torch.nn.Module, _: object, given: Any) -> None:
        if torch.is_grad_enabled() and type(module).__name__.endswith("BertLayer"):
            ends.append((type(module).__name__, given.shape[1]))

    hook = torch.nn.modules.module.register_module_forward_hook(note)
    try:
        train_loop(with_training(jobs[0], tmp_path, epochs=1), silent)
    finally:
        hook.remove()
    lowest, last = [n for name, n in ends if name == "BertLayer"], [n for name, n in ends if name == "FirstBertLayer"]
    assert len(last) > 4
    assert set(last) == {1}
    assert min(lowest) > 1


def test_a_training_draws_its_dropout_the_cheap_way(jobs: list[TrainingJob], tmp_path: Path) -> None:
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        train_loop(with_training(jobs[0], tmp_path, epochs=1), silent)
    called = {event.key for event in profiled.key_averages()}
    assert "aten::random_" in called
    assert "aten::bernoulli_" not in called


def test_training_ends_when_the_held_out_reviews_gain_no_more(jobs: list[TrainingJob], tmp_path: Path) -> None:
    rule = EarlyStopping(share=0.2, patience=2)
    job = with_training(jobs[0], tmp_path, early_stopping=rule, epochs=40, learning_rate=3e-2)
    told = card.read(train_loop(job, silent)).card
    losses = [loss for _, loss in told["held_out"]["loss"]]
    best = losses.index(min(losses))
    assert len(losses) == best + 1 + rule.patience < 40
    rows = batching.hold_out(job.split.examples, job.adapter.train, job.seed)
    assert told["held_out"]["n"] == len(rows.held_out)
    per_epoch = -(-len(rows.trained) // 16)
    assert len(told["curve"]) == per_epoch * len(losses)

    # The weights are those of the best epoch: what the saved adapter loses on the held-out rows is the least loss.
    network = with_adapter(job.base.folder, job.folder)
    encoded = Encoded(job.base.folder, [job.texts[i] for i in rows.held_out], job.max_length).for_network(network)
    logits = forward_all(encoded, lambda batch: network(**batch).logits, lambda units, note: None)
    labels = torch.tensor([job.split.examples[i].label for i in rows.held_out])
    assert torch.nn.functional.cross_entropy(logits, labels).item() == pytest.approx(min(losses), abs=1e-4)


def test_the_held_out_reviews_are_whole_and_come_from_the_training_rows(jobs: list[TrainingJob]) -> None:
    examples = jobs[0].split.examples
    how = jobs[0].adapter.train.model_copy(update={"early_stopping": EarlyStopping(share=0.25, patience=1)})
    rows = batching.hold_out(examples, how, seed=1)
    trained, held_out = ({examples[i].cluster for i in part} for part in (rows.trained, rows.held_out))
    assert not trained & held_out
    assert len(held_out) == round(0.25 * len(trained | held_out))
    assert sorted([*rows.trained, *rows.held_out]) == list(range(len(examples)))
    assert list(batching.hold_out(examples, how, seed=2).held_out) != list(rows.held_out)
    assert len(batching.hold_out(examples, jobs[0].adapter.train, seed=1).held_out) == 0


def test_a_training_that_ends_with_one_answer_for_all_is_refused(jobs: list[TrainingJob], tmp_path: Path) -> None:
    job = with_training(jobs[0], tmp_path, learning_rate=1e-9, epochs=1)
    one_sided = replace(job, split=replace(job.split, examples=tuple(_mostly(1, job.split.examples))))
    with pytest.raises(TrainingError, match=r"in its last epoch it predicted class \d for all \d+ training rows"):
        train_loop(replace(one_sided, adapter=_strong(one_sided)), silent)
    assert not job.folder.exists()
    assert list(job.folder.parent.glob(".changed.partial")) == []


def _mostly(label: int, examples: tuple[Example, ...]) -> Iterator[Example]:
    """Examples that all have one label, except the first."""
    for position, example in enumerate(examples):
        yield replace(example, label=label if position else 1 - label)


def _strong(job: TrainingJob) -> Adapter:
    """The head alone, at a rate that makes it answer with the larger class."""
    train = job.adapter.train.model_copy(update={"learning_rate": 0.05, "epochs": 6})
    return job.adapter.model_copy(update={"method": "head", "params": {}, "train": train})


def test_a_gradient_that_is_no_number_stops_the_training(jobs: list[TrainingJob], tmp_path: Path) -> None:
    # While B is zero, so large a scale leaves the loss as it is, and not its gradient.
    job = changed(jobs[0], tmp_path, params=jobs[0].adapter.params | {"lora_alpha": 1e38})
    with pytest.raises(TrainingError, match=r"adapter lora, seed 1: the norm of the gradients is inf at step 1 of"):
        train_loop(job, silent)
    assert not job.folder.exists()
