"""Planning a suite of many adapters takes time in proportion to their number."""

import cProfile
import pstats
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import harness
from harness.artifacts import digest
from harness.errors import DataError, StoreError
from harness.evaluation.inputs import Workspace, gather
from harness.evaluation.plan import plan
from harness.suite.load import load
from tests.worlds import rows, write_rows

HEAD = """
version = 1
name = "many"
description = "Many adapters"
primary_metric = "accuracy"

[text]
template = "{content}"
max_length = 32
store = true

[[metric]]
name = "accuracy"

[[base]]
id = "tiny"
source = "path"
path = "base"
sha256 = "@SHA256@"
"""
SPLIT = """
[[split]]
id = "{name}"
source = "file"
path = "{name}.jsonl"
format = "jsonl"
"""
ADAPTER = """
[[adapter]]
id = "a{number}"
base = "tiny"
method = "lora"
params = {{ r = {number}, target_modules = ["query"] }}
[adapter.train]
split = "train"
epochs = 1
learning_rate = 1e-2
batch_size = 16
warmup_share = 0.1
weight_decay = 0.0
max_grad_norm = 1.0
precision = "fp32"
seeds = [1, 2, 3, 4, 5]

[[model]]
id = "m{number}"
backend = "peft"
adapter = "a{number}"
precision = "fp32"
"""


def suite_of(root: Path, tiny_base: Path, n_adapters: int) -> Path:
    """A suite with so many adapters of five seeds each, none of them trained."""
    shutil.copytree(tiny_base, root / "base")
    write_rows(root / "train.jsonl", rows(100, 0))
    write_rows(root / "test.jsonl", rows(20, 1000))
    adapters = "".join(ADAPTER.format(number=number) for number in range(1, n_adapters + 1))
    path = root / "many.toml"
    head = HEAD.replace("@SHA256@", digest.of_file(tiny_base / "model.safetensors"))
    path.write_text(head + SPLIT.format(name="train") + SPLIT.format(name="test") + adapters)
    return path


def calls(work: Callable[[], object]) -> int:
    """The number of function calls that some work comes to, which does not depend on the machine's speed."""
    profile = cProfile.Profile()
    profile.runcall(work)
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]  # documented, but absent from typeshed


def test_six_times_as_many_adapters_take_six_times_the_calls_to_check_and_to_plan(
    tiny_base: Path, tmp_path: Path
) -> None:
    checked, planned = [], []
    for count in (10, 60):
        root = tmp_path / str(count)
        root.mkdir()
        path = suite_of(root, tiny_base, count)
        suite, workspace = load(path), Workspace(path, root / "runs" / "harness.duckdb")
        inputs = gather(suite, workspace)
        assert len(plan(suite, inputs, workspace)) == 5 * count
        checked.append(calls(lambda path=path: load(path)))  # type: ignore[misc]
        planned.append(calls(lambda suite=suite, w=workspace: plan(suite, gather(suite, w), w)))  # type: ignore[misc]
    assert checked[1] <= 6.3 * checked[0]
    assert planned[1] <= 6.3 * planned[0]


def test_a_model_that_needs_no_base_is_scored_although_none_can_be_had(tiny_base: Path, tmp_path: Path) -> None:
    path = suite_of(tmp_path, tiny_base, 2)
    path.write_text(path.read_text() + '[[model]]\nid = "majority"\nbackend = "majority"\ntrain_split = "train"\n')
    (tmp_path / "base" / "model.safetensors").unlink()
    project = harness.open(path, tmp_path / "runs" / "harness.duckdb")
    assert harness.evaluate(project, models=["majority"], workers=1).scored[0].model_id == "majority"
    with pytest.raises(DataError, match="base tiny: "):
        harness.evaluate(project, models=["majority", "m1"], workers=1)


def test_a_store_that_is_missing_is_reported_before_any_base_is_fetched(tiny_base: Path, tmp_path: Path) -> None:
    path = suite_of(tmp_path, tiny_base, 1)
    gate = '[[gate]]\nmodel = "m1"\nsplit = "test"\nmetric = "accuracy"\nmin = 0.5\non_inconclusive = "fail"\n'
    path.write_text(path.read_text() + gate)
    (tmp_path / "base" / "model.safetensors").unlink()
    with pytest.raises(StoreError, match="there is no store here yet"):
        harness.judge(harness.open(path, tmp_path / "runs" / "harness.duckdb"))
