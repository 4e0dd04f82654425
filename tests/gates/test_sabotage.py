"""Something is broken on purpose, each time in another place, and a gate turns red and says its name.

One world is made and evaluated once: made-up reviews in files, a tiny real BERT, LoRA trained on them. Every test
breaks a copy of it. The first test shows that all gates are green before.
"""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from harness.artifacts import digest
from tests.worlds import ALL, FLIPS, MIN, NON_INFERIOR, SUPERIOR, World, rows, write_rows

pytestmark = pytest.mark.slow


def test_before_anything_is_broken_every_gate_is_green(world: World) -> None:
    verdicts = json.loads(world.command("gate", world.suite, "--json").stdout)
    assert {verdict["gate_id"]: verdict["outcome"] for verdict in verdicts} == dict.fromkeys(ALL, "pass")


# What is scored


def test_a_random_head(world: World) -> None:
    """Weights that were overwritten are not the ones that the card describes."""
    file = world.adapter("lora", 1) / "adapter_model.safetensors"
    tensors = load_file(file)
    head = [name for name in tensors if "classifier" in name]
    assert head
    generator = np.random.default_rng(0)
    save_file(tensors | {name: generator.normal(size=tensors[name].shape).astype("f4") for name in head}, file)
    assert world.evaluate().exit_code == 3
    red = world.red()
    assert set(red) == ALL
    assert "the weights are not the ones its card describes" in red[MIN]


def test_a_random_head_that_was_declared(world: World) -> None:
    """A base whose head nobody trained, under the name of the adapter."""
    world.edit(
        'id = "tiny+lora"\nbackend = "peft"\nadapter = "lora"',
        'id = "tiny+lora"\nbackend = "transformer"\nbase = "tiny"\nseeds = [3, 4]',
    )
    assert world.evaluate().exit_code == 0
    assert {MIN, SUPERIOR} <= set(world.red())


def test_a_swapped_adapter(world: World) -> None:
    """Each folder is sound, but it is the other seed's."""
    one, two = world.adapter("lora", 1), world.adapter("lora", 2)
    one.rename(one.parent / "aside")
    two.rename(one)
    (one.parent / "aside").rename(two)
    assert world.evaluate().exit_code == 3
    assert "weights that were not trained as the suite declares: adapter 'lora' seed 1" in world.red()[MIN]


def test_seeds_that_are_one_seed_twice(world: World) -> None:
    """The same weights twice, each under a card that tells of the seed it should be."""
    one, two = (world.adapter("lora", seed) for seed in (1, 2))
    cards = [json.loads((folder / "harness-card.json").read_text()) for folder in (one, two)]
    shutil.rmtree(two)
    shutil.copytree(one, two)
    forged = cards[0] | {key: cards[1][key] for key in ("seed", "train_key")}
    (two / "harness-card.json").write_text(json.dumps(forged))
    assert world.evaluate().exit_code == 0
    red = world.red()
    assert {MIN, SUPERIOR} <= set(red)
    assert "seeds 1 and 2 of tiny+lora have the same weights" in red[MIN]


def test_an_adapter_that_is_gone(world: World) -> None:
    shutil.rmtree(world.adapter("lora", 2))
    assert "adapter 'lora' seed 2 has not been trained yet" in world.red()[MIN]


def test_training_that_never_happened(world: World) -> None:
    world.edit("epochs = 24, learning_rate = 1e-2", "epochs = 8, learning_rate = 1e-9")
    assert world.evaluate().exit_code == 0
    assert {MIN, SUPERIOR} <= set(world.red())


def test_training_on_flipped_labels(world: World) -> None:
    """The lock notices; whoever pins the rows anew is told by the gates."""
    write_rows(world.suite.parent / "train.jsonl", [row | {"label": 1 - row["label"]} for row in rows(240, 0)])
    assert world.command("gate", world.suite).exit_code == 2
    assert world.command("data", world.suite, "--update-lock").exit_code == 0
    assert world.evaluate().exit_code == 0
    red = world.red()
    assert {MIN, SUPERIOR} <= set(red)
    assert float(red[MIN].split()[0]) < 0.3


def test_scores_that_are_not_numbers(world: World) -> None:
    """Weights of nan in a base that was pinned so."""
    file = world.suite.parent / "base" / "model.safetensors"
    before = digest.of_file(file)
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("encoder.layer.1.output.dense.weight"))
    save_file(tensors | {name: np.full_like(tensors[name], np.nan)}, file, {"format": "pt"})
    assert world.command("gate", world.suite).exit_code == 2, "the base is not the one that was pinned"
    world.edit(before, digest.of_file(file))
    refused = world.evaluate()
    assert refused.exit_code == 2, "nothing can be trained on it, which is found out before anything is"
    assert "not finite" in refused.stderr
    assert set(world.red()) == ALL


# What is stored


def test_predictions_of_one_class_only(world: World) -> None:
    world.sql("UPDATE prediction SET predicted = 1, score = 0.9 FROM run WHERE run.run_id = prediction.run_id"
              " AND model_id = 'tiny+lora'")  # fmt: skip
    world.reseal()
    red = world.red()
    assert {MIN, SUPERIOR} <= set(red)
    assert red[MIN].startswith("0.500")


def test_predictions_that_moved_to_the_next_example(world: World) -> None:
    world.sql(
        """UPDATE prediction SET predicted = next.predicted, score = next.score FROM (
               SELECT a.run_id, b.example_id, a.predicted, a.score FROM run
               JOIN prediction a USING (run_id)
               JOIN example x ON x.digest = split_digest AND x.example_id = a.example_id
               JOIN example b ON b.digest = split_digest AND b.position = x.position + 1
               WHERE model_id = 'tiny+lora') next
           WHERE prediction.run_id = next.run_id AND prediction.example_id = next.example_id"""
    )
    world.reseal()
    assert {MIN, SUPERIOR} <= set(world.red())


def test_lower_precision_gone_wrong(world: World) -> None:
    """A form of the model that answers otherwise on three examples of ten."""
    world.sql(
        """UPDATE prediction SET predicted = 1 - predicted, score = 1 - score FROM run, example
           WHERE run.run_id = prediction.run_id AND model_id = 'tiny-full' AND example.digest = split_digest
           AND example.example_id = prediction.example_id AND position % 10 < 3"""
    )
    world.reseal()
    red = world.red()
    assert set(red) == {NON_INFERIOR, FLIPS}
    assert "flip" in red[FLIPS]


def test_a_missing_run(world: World) -> None:
    world.sql("DELETE FROM run WHERE model_id = 'tiny+lora' AND seed = 2")
    red = world.red()
    assert set(red) == ALL
    assert red[MIN] == "tiny+lora seed 2 on test has no run in the store; evaluate the suite first"


def test_a_run_that_failed(world: World) -> None:
    world.sql("UPDATE run SET status = 'error', error = 'out of memory' WHERE model_id = 'majority'")
    assert world.red() == {SUPERIOR: "majority on test failed: out of memory"}


def test_stale_predictions(world: World) -> None:
    """Nobody evaluated after the suite was changed."""
    world.edit("max_length = 32", "max_length = 31")
    shutil.rmtree(world.root / "runs" / "adapters" / "full")
    red = world.red()
    assert set(red) == ALL
    world.edit("max_length = 31", "max_length = 32")
    world.edit(
        'id = "majority"\nbackend = "majority"',
        'id = "majority"\nbackend = "tfidf"\nngram_range = [1, 1]\nC = 1.0\nsublinear_tf = true',
    )
    assert "majority on test is stale: it was last scored with another model" in world.red()[SUPERIOR]


def test_a_wrong_template(world: World) -> None:
    """The words that carry the sentiment come after the cut."""
    world.edit('template = "{content}"\nmax_length = 32', f'template = "{"the " * 12}{{content}}"\nmax_length = 10')
    assert world.evaluate().exit_code == 0
    assert {MIN, SUPERIOR} <= set(world.red())


def test_a_part_of_the_split_for_the_whole(world: World) -> None:
    world.sql("DELETE FROM run")
    assert world.evaluate("--limit", 20).exit_code == 0
    red = world.red()
    assert set(red) == ALL
    assert "is stale: it was last scored with another split" in red[MIN]


# What is scored on


def test_a_truncated_split(world: World) -> None:
    write_rows(world.suite.parent / "test.jsonl", rows(100, 1000)[:-1])
    result = world.command("gate", world.suite)
    assert result.exit_code == 2
    assert "split 'test' does not have the pinned rows" in result.stderr


def test_a_truncated_split_without_a_lock(world: World) -> None:
    write_rows(world.suite.parent / "test.jsonl", rows(100, 1000)[:-1])
    world.suite.with_suffix(".lock").unlink()
    red = world.red()
    assert set(red) == ALL
    assert "is stale: it was last scored with another split" in red[MIN]


def test_an_edited_lock(world: World) -> None:
    lock = world.suite.with_suffix(".lock")
    pinned = json.loads(lock.read_text())
    pinned["splits"]["test"]["positives"] += 1
    lock.write_text(json.dumps(pinned))
    result = world.command("gate", world.suite)
    assert result.exit_code == 2
    assert "split 'test' does not have the pinned rows" in result.stderr


def test_test_rows_in_the_training_split(world: World) -> None:
    write_rows(world.suite.parent / "train.jsonl", [*rows(239, 0), rows(100, 1000)[0]])
    world.suite.with_suffix(".lock").unlink()
    result = world.command("gate", world.suite)
    assert result.exit_code == 2
    assert "models that use split 'train' were trained on" in result.stderr
