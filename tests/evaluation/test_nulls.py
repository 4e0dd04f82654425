"""Null adapters: the same recipe on permuted labels, declared by one key, trained, judged and shown."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts import digest
from harness.errors import SuiteError
from harness.evaluation.inputs import Workspace, gather
from harness.store.connection import opened
from harness.suite.load import load
from harness.training import batching, card
from tests.worlds import World, rows, write_rows

pytestmark = pytest.mark.slow

SUITE = """
version = 1
name = "nulls"
description = "An adapter and its null"
primary_metric = "accuracy"

[text]
template = "{content}"
max_length = 32

[[split]]
id = "train"
source = "file"
path = "train.jsonl"
format = "jsonl"

[[split]]
id = "test"
source = "file"
path = "test.jsonl"
format = "jsonl"

[[base]]
id = "tiny"
source = "path"
path = "base"
sha256 = "@BASE_SHA256@"

[[adapter]]
id = "lora"
base = "tiny"
method = "lora"
params = { r = 4, lora_alpha = 8, target_modules = ["query", "value"] }

[adapter.train]
split = "train"
epochs = 10
learning_rate = 1e-2
batch_size = 16
warmup_share = 0.1
weight_decay = 0.0
max_grad_norm = 1.0
precision = "fp32"
seeds = [1]
null_seeds = [7, 8, 9, 10]

[[model]]
id = "untrained"
backend = "transformer"
base = "tiny"
seeds = [1]
precision = "fp32"

[[model]]
id = "tiny+lora"
backend = "peft"
adapter = "lora"
precision = "fp32"

[[metric]]
name = "accuracy"

[[gate]]
model = "tiny+lora"
split = "test"
metric = "accuracy"
superior_to = { model = "tiny+lora-null", margin = 0.0 }
on_inconclusive = "fail"
"""
CLEAR = "tiny+lora on test: accuracy better than tiny+lora-null by more than 0.0"


@pytest.fixture(scope="module")
def evaluated(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """An adapter and its four nulls, trained and scored."""
    world = World(tmp_path_factory.mktemp("nulls"))
    world.suite.parent.mkdir()
    shutil.copytree(tiny_base, world.suite.parent / "base")
    write_rows(world.suite.parent / "train.jsonl", rows(128, 0))
    write_rows(world.suite.parent / "test.jsonl", rows(80, 1000))
    world.suite.write_text(SUITE.replace("@BASE_SHA256@", digest.of_file(tiny_base / "model.safetensors")))
    result = world.evaluate()
    assert result.exit_code == 0, result.stderr
    return world


def test_a_null_is_a_model_with_its_own_seeds_and_a_gate_may_ask_for_it(evaluated: World) -> None:
    suite = load(evaluated.suite)
    assert [model.id for model in suite.model] == ["untrained", "tiny+lora", "tiny+lora-null"]
    assert [(adapter.id, adapter.train.seeds) for adapter in suite.trained_adapters] == [
        ("lora", (1,)),
        ("lora-null", (7, 8, 9, 10)),
    ]
    assert evaluated.red() == {}
    with opened(evaluated.db, read_only=True) as connection:
        means = dict(
            connection.execute(
                "SELECT model_id, avg(value) FROM run JOIN metric USING (run_id) WHERE name = 'accuracy' GROUP BY 1"
            ).fetchall()
        )
    assert means["tiny+lora"] >= 0.8
    assert 0.2 < means["tiny+lora-null"] < 0.7


def test_a_null_that_learned_as_much_turns_its_gate_red_by_name(evaluated: World, tmp_path: Path) -> None:
    shutil.copytree(evaluated.root, tmp_path / "world", symlinks=True)
    world = World(tmp_path / "world")
    world.sql(
        "UPDATE prediction SET predicted = example.label, score = example.label FROM run, example WHERE "
        "prediction.run_id = run.run_id AND example.digest = run.split_digest AND example.example_id = "
        "prediction.example_id AND run.model_id = 'tiny+lora-null'"
    )
    world.reseal()
    assert CLEAR in world.red()


def test_labels_are_permuted_by_the_seed_and_keep_their_numbers(evaluated: World) -> None:
    suite = load(evaluated.suite)
    split = gather(suite, Workspace(evaluated.suite, evaluated.db)).splits["train"]
    plain, null = suite.trained_adapters
    own = [example.label for example in split.examples]
    assert batching.labels(split.examples, plain, 7) == own
    permuted = [batching.labels(split.examples, null, seed) for seed in (7, 8)]
    assert permuted[0] != permuted[1]
    for labels in permuted:
        assert sum(labels) == sum(own)
        agreeing = sum(one == other for one, other in zip(labels, own, strict=True)) / len(own)
        assert 0.3 < agreeing < 0.7
    assert batching.labels(split.examples, null, 7) == permuted[0]


def test_null_seeds_change_no_key_of_the_adapter_and_permuted_labels_change_that_of_a_training(
    evaluated: World, tmp_path: Path
) -> None:
    inputs = gather(load(evaluated.suite), Workspace(evaluated.suite, evaluated.db))
    with_null = {key: job.key for key, job in inputs.trainings.items()}
    text = evaluated.suite.read_text()
    without = evaluated.suite.with_name("without.toml")
    without.write_text(text.replace("null_seeds = [7, 8, 9, 10]\n", "").partition("[[gate]]")[0])
    alone = gather(load(without), Workspace(without, evaluated.db))
    assert {key: job.key for key, job in alone.trainings.items()} == {("lora", 1): with_null["lora", 1]}
    job = inputs.trainings["lora-null", 7]
    from harness import keys

    described: dict[str, Any] = {
        "seed": 7,
        "precision": "fp32",
        "base_digest": job.base.digest,
        "split": job.split,
        "text": load(evaluated.suite).text,
    }
    plain = job.adapter.model_copy(update={"labels": None})
    assert keys.key(keys.training(job.adapter, **described)) == job.key != keys.key(keys.training(plain, **described))
    record = card.read(job.folder)
    assert set(card.trained_on(job.folder, record) or ()) == {example.text_digest for example in job.split.examples}
    assert replace(job, seed=8).folder == job.folder


def test_the_board_says_where_the_adapter_stands_and_does_not_rank_its_null(evaluated: World) -> None:
    assert evaluated.site().exit_code == 0
    index = " ".join((evaluated.root / "site" / "index.html").read_text().split())
    assert "clear of its null on permuted labels: +" in index
    assert "not clear of its null" not in index
    assert "null: permuted labels" in index
    assert "Is LoRA better than tiny?" in index
    assert index.count('<li class="card ') == 1
    page = next((evaluated.root / "site").rglob("*lora-null*.html")).read_text()
    assert "labels = &#34;permuted&#34;" in page
    printed = evaluated.command("gate", evaluated.suite).stdout
    assert "clear of its null on permuted labels" in " ".join(printed.split())


REFUSED = {
    "a-taken-id": ('id = "untrained"', 'id = "tiny+lora-null"', "its null would be called 'tiny+lora-null', which is"),
    "a-gate-without-a-null": ("null_seeds = [7, 8, 9, 10]\n", "", "there is no model 'tiny+lora-null'"),
    "no-seeds": ("null_seeds = [7, 8, 9, 10]", "null_seeds = []", "has too few items; at least 1 required"),
    "a-long-id": ('id = "tiny+lora"', f'id = "{"x" * 62}"', "is too long for its null"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_null_that_cannot_be_is_refused_by_validate(evaluated: World, tmp_path: Path, case: str) -> None:
    before, after, expected = REFUSED[case]
    text = evaluated.suite.read_text()
    assert before in text
    (tmp_path / "bad.toml").write_text(text.replace(before, after))
    with pytest.raises(SuiteError) as caught:
        load(tmp_path / "bad.toml")
    assert expected in str(caught.value)


def test_a_null_that_says_the_same_of_every_row_is_no_failed_training(evaluated: World, tmp_path: Path) -> None:
    from harness.progress import silent
    from harness.training.train import train

    job = gather(load(evaluated.suite), Workspace(evaluated.suite, evaluated.db)).trainings["lora-null", 7]
    how = job.adapter.train.model_copy(update={"learning_rate": 1e-9, "epochs": 1})
    adapter = job.adapter.model_copy(update={"train": how})
    folder = train(replace(job, adapter=adapter, folder=tmp_path / "made", key="still"), silent)
    assert json.loads((folder / "harness-card.json").read_text())["train"]["learning_rate"] == 1e-9
