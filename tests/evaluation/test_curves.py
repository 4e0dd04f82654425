"""Learning curves: models on nested subsets of their training rows, as ordinary runs."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import api
from harness.api.project import expand
from harness.data import subsets
from harness.errors import DataError
from harness.evaluation.inputs import Workspace, gather
from harness.records import Example, Split
from harness.store import reader
from harness.store.connection import opened
from harness.suite.curves import Subset, expanded, points
from harness.suite.load import by_id, load
from tests.fixtures import Index, Result
from tests.worlds import World

pytestmark = pytest.mark.slow

CURVE = """
[[curve]]
id = "size"
model = "tiny+lora"
against = ["tfidf", "untrained", "majority"]
split = "test"
rows = [8, 24, 60]
seeds = [3, 4]
balanced = true
min_steps = 12
"""


@pytest.fixture
def curved(suite_path: Path) -> Path:
    """The made-up suite with a curve."""
    suite_path.write_text(suite_path.read_text() + CURVE)
    return suite_path


def split_of(labels: list[int]) -> Split:
    """A split with rows of these labels."""
    made = [Example(f"e{i}", "", f"text {i}", label, None, f"t{i}") for i, label in enumerate(labels)]
    return Split("train", tuple(made), "0" * 64, {})


def part(rows: int, seed: int = 1, *, balanced: bool = False) -> Subset:
    return Subset(f"train.size-{rows}-{seed}", "train", rows, seed, balanced)


# Subsets


@given(labels=st.lists(st.integers(0, 1), min_size=30, max_size=60), seed=st.integers(0, 99), balanced=st.booleans())
def test_subsets_are_nested_keep_their_order_and_have_the_declared_shares(
    labels: list[int], seed: int, balanced: bool
) -> None:
    whole = split_of([0, 1] * 8 + labels)
    share = float(np.mean([example.label for example in whole.examples]))
    smaller: set[str] = set()
    for rows in (6, 9, 16):
        drawn = subsets.drawn(whole, part(rows, seed, balanced=balanced))
        ids = [example.example_id for example in drawn.examples]
        assert len(ids) == len(set(ids)) == rows
        assert ids == sorted(ids, key=lambda one: int(one[1:]))
        assert smaller <= set(ids)
        positive = sum(example.label for example in drawn.examples)
        assert abs(positive - rows * (0.5 if balanced else share)) <= 0.5
        smaller = set(ids)


def test_another_seed_draws_other_rows_and_all_rows_are_the_split_itself() -> None:
    whole = split_of([0, 1] * 20)
    one, other = (subsets.drawn(whole, part(10, seed)) for seed in (1, 2))
    assert one.examples != other.examples
    assert one.digest != other.digest
    assert subsets.drawn(whole, part(10, 1)).digest == one.digest
    assert subsets.drawn(whole, part(40, 7)).examples == whole.examples


@pytest.mark.parametrize(
    ("labels", "rows", "balanced", "message"),
    [
        ([0, 1] * 4, 9, False, r"has 8 rows, and a curve asks for 9 of them; lower its rows"),
        ([0] * 8 + [1] * 2, 6, True, r"has 2 rows of label 1, and 6 balanced rows need 3; lower"),
        ([0] * 30 + [1], 6, False, r"shares leave no row of label 1 among 6; raise the curve's rows, or add balanced"),
    ],
)
def test_a_subset_that_cannot_be_drawn_is_refused(labels: list[int], rows: int, balanced: bool, message: str) -> None:
    with pytest.raises(DataError, match=message):
        subsets.drawn(split_of(labels), part(rows, balanced=balanced))


def test_validate_refuses_more_rows_than_the_lock_pins(curved: Path, harness: Callable[..., Result]) -> None:
    assert harness("data", curved).code == 0
    assert harness("validate", curved).code == 0
    curved.write_text(curved.read_text().replace("[8, 24, 60]", "[8, 24, 6000]"))
    refused = harness("validate", curved)
    assert refused.code == 2
    n = json.loads(curved.with_suffix(".lock").read_text())["splits"]["train"]["n"]
    said = f"curve 'size'.rows: split 'train' has {n} rows, and a curve asks for 6,000 of them; lower its rows"
    assert refused.err.count(said) == 1


# Expansion


def test_each_point_is_an_ordinary_model_on_a_subset_with_enough_steps(curved: Path) -> None:
    suite = load(curved)
    whole = expanded(suite)
    derived = by_id(whole.model, "tiny+lora.size-24-3")
    adapter = by_id(whole.adapter, derived.adapter)
    assert adapter.id == "lora.size-24-3"
    assert (adapter.train.split, adapter.train.seeds, adapter.train.epochs) == ("train.size-24-3", (3,), 6)
    assert by_id(whole.adapter, "lora.size-60-3").train.epochs == 4, "as declared, where that is enough"
    assert by_id(whole.model, "tfidf.size-8-4").train_split == "train.size-8-4"
    assert len(points(suite)) == 3 * 2 * 3, "the untrained head has no points"
    assert whole.declared == suite
    assert whole.digest == suite.digest
    assert [model.id for model in suite.model if suite.curve_of(model.id)] == []
    assert whole.scores(derived, "test")
    assert not whole.scores(derived, "elsewhere")


def test_the_inputs_of_the_whole_suite_have_the_subsets_and_those_of_the_declared_one_do_not(
    configured: Index, curved: Path, tmp_path: Path
) -> None:
    suite, workspace = load(curved), Workspace(curved, tmp_path / "x.duckdb")
    assert set(gather(suite, workspace).splits) == {"train", "test"}
    inputs = gather(expanded(suite), workspace)
    assert len(inputs.splits) == 2 + 6
    job = inputs.trainings["lora.size-24-3", 3]
    assert len(job.texts) == 24
    assert {example.text_digest for example in job.split.examples} <= {
        example.text_digest for example in inputs.splits["train"].examples
    }


# The command


def test_a_curve_is_scored_stored_shown_and_not_scored_again(world: World) -> None:
    world.suite.write_text(world.suite.read_text() + CURVE)
    result = world.evaluate("--curve", "size")
    assert result.exit_code == 0, result.stderr
    assert "scored 18," in result.stderr
    answer = " ".join(result.stdout.split())
    table = answer.partition("mean over seeds")[2].partition("beats")[0]
    assert "untrained" in table
    assert "majority" not in table, "only what is a flat line is scored besides the points"
    assert "size-24" not in answer, "points are in no ranking"
    assert answer.count("beats") == 3
    again = world.evaluate("--curve", "size", "--json")
    assert "scored 0," in again.stderr
    (curve,) = json.loads(again.stdout)["curves"]
    assert [one["against"] for one in curve["crossovers"]] == ["tfidf", "untrained", "majority"]
    sizes = [(one["model"], one["rows"], one["seeds"]) for one in curve["points"]]
    assert sizes[:4] == [("tiny+lora", 8, 2), ("tiny+lora", 24, 2), ("tiny+lora", 60, 2), ("tfidf", 8, 2)]
    assert ("untrained", None, 2) in sizes

    with opened(world.db, read_only=True) as connection:
        runs = {run.model_id: run for run in reader.all_runs(connection)}
    point = runs["tiny+lora.size-24-3"]
    assert point.adapter_digest is not None
    assert point.suite_digest == load(world.suite).digest
    assert point.spec["train"] != runs["tiny+lora.size-24-4"].spec["train"]
    assert runs["tfidf.size-24-3"].spec["train"] == point.spec["train"], "both models see the same rows"

    assert world.red() == {}, "gates see the declared models alone"
    site = world.site()
    assert site.exit_code == 0, site.stderr
    board = (world.root / "site" / "index.html").read_text()
    assert "How much data does tiny+lora take?" in board
    assert not list((world.root / "site").rglob("*size-24*"))
    assert world.command("site", world.suite, "--check", "--out", world.root / "site").exit_code == 0


def test_a_suite_is_evaluated_without_a_curve_for_one_model_and_with_it_for_all(
    curved: Path, harness: Callable[..., Result]
) -> None:
    one = harness("evaluate", curved, "--model", "tfidf", "--workers", 1)
    assert one.code == 0, one.err
    assert "scored 1," in one.err
    curved.write_text(
        curved.read_text().replace(
            'model = "tiny+lora"\nagainst = ["tfidf", "untrained", "majority"]',
            'model = "tfidf"\nagainst = ["majority"]',
        )
    )
    suite, wanted = expand(api.open(curved))
    assert {model.id for model in suite.model} == set(wanted)
    assert "tfidf.size-8-3" in wanted
    unknown = harness("evaluate", curved, "--curve", "sise", "--workers", 1)
    assert unknown.code == 2
    assert "there is no curve 'sise'; did you mean 'size'? (known: size)" in unknown.err
