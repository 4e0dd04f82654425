"""Adapters of language models: trained on the label words of a prompt, and scored exactly as the prompted base is."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from harness.artifacts import digest
from harness.cli import app
from harness.evaluation.inputs import Workspace, gather
from harness.evaluation.plan import plan
from harness.store import reader
from harness.store.connection import opened
from harness.suite.load import load
from tests import language_models
from tests.worlds import rows, write_rows

SUITE = """
version = 1
name = "words"
description = "A language model and its adapter, asked in the same words"
primary_metric = "accuracy"

[text]
template = "{content}"
max_length = 48
store = true

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
id = "llama"
source = "path"
path = "base"
sha256 = "@BASE_SHA256@"

[[prompt]]
id = "plain"
template = "{{ content }} :"
label_words = { negative = ["bad"], positive = ["good"] }

[[prompt]]
id = "other"
template = "the review is {{ content }} the answer is"
label_words = { negative = ["bad"], positive = ["good"] }

[[adapter]]
id = "lora"
base = "llama"
task = "causal_lm"
prompts = ["plain"]
method = "lora"
params = { r = 4, lora_alpha = 8, target_modules = "all-linear" }
train = { split = "train", epochs = 12, learning_rate = 3e-2, batch_size = 16, warmup_share = 0.1, weight_decay = 0.0, max_grad_norm = 1.0, precision = "fp32", seeds = [1, 2] }

[[model]]
id = "prompted"
backend = "prompt"
base = "llama"
task = "causal_lm"
prompts = ["plain"]
precision = "fp32"

[[model]]
id = "llama+lora"
backend = "prompt"
adapter = "lora"
task = "causal_lm"
prompts = ["plain"]
precision = "fp32"

[[metric]]
name = "accuracy"

[[gate]]
model = "llama+lora"
split = "test"
metric = "accuracy"
superior_to = { model = "prompted", margin = 0.1 }
on_inconclusive = "fail"
"""
BETTER = "llama+lora on test: accuracy better than prompted by more than 0.1"


@dataclass
class World:
    """A folder with a suite and its store."""

    root: Path

    @property
    def here(self) -> Path:
        return self.root / "suites"

    @property
    def suite(self) -> Path:
        return self.here / "words.toml"

    @property
    def db(self) -> Path:
        return self.root / "runs" / "harness.duckdb"

    def command(self, verb: str, *words: object) -> Any:
        many = [verb, str(self.suite), "--db", str(self.db), *map(str, words)]
        return CliRunner().invoke(app, many, catch_exceptions=False)

    def evaluate(self, *words: object) -> Any:
        return self.command("evaluate", "--workers", 1, *words)

    def edit(self, old: str, new: str) -> None:
        text = self.suite.read_text()
        assert old in text
        self.suite.write_text(text.replace(old, new))

    def jobs(self, model_id: str) -> dict[int | None, Any]:
        """The jobs of a model by seed."""
        suite, workspace = load(self.suite), Workspace(self.suite, self.db)
        return {job.seed: job for job in plan(suite, gather(suite, workspace), workspace, model_ids=[model_id])}

    def verdicts(self) -> dict[str, Any]:
        found = json.loads(self.command("gate", "--json").stdout)
        return {verdict["gate_id"]: verdict for verdict in found}

    def adapter(self, seed: int = 1) -> Path:
        (folder,) = (self.root / "runs" / "adapters" / "lora").glob(f"seed-{seed}-*")
        return folder


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A tiny Llama, prompted, and with two trained LoRA; all scored."""
    world = World(tmp_path_factory.mktemp("words"))
    world.here.mkdir()
    language_models.save(world.here / "base", "llama")
    write_rows(world.here / "train.jsonl", rows(96, 0))
    write_rows(world.here / "test.jsonl", rows(60, 1000))
    world.suite.write_text(SUITE.replace("@BASE_SHA256@", digest.of_file(world.here / "base" / "model.safetensors")))
    result = world.evaluate()
    assert result.exit_code == 0, result.stderr
    return world


@pytest.fixture
def world(evaluated: World, tmp_path: Path) -> World:
    """A copy to break."""
    shutil.copytree(evaluated.root, tmp_path / "world", symlinks=True)
    return World(tmp_path / "world")


def test_it_is_scored_with_every_prompt_and_seed_and_beats_its_prompted_base(evaluated: World) -> None:
    with opened(evaluated.db, read_only=True) as connection:
        runs = connection.execute(
            "SELECT seed, spec->>'$.prompt.id', adapter_digest FROM run WHERE model_id = 'llama+lora' ORDER BY seed"
        ).fetchall()
    assert [(seed, prompt) for seed, prompt, _ in runs] == [(0, "plain"), (1, "plain")]
    assert runs[0][2] != runs[1][2]
    verdict = evaluated.verdicts()[BETTER]
    assert verdict["outcome"] == "pass", verdict
