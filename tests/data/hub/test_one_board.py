"""Everything that one can bring, on one board: a checkpoint of the hub, answers from elsewhere, a plug-in, a base in
several files with an adapter, and a base in the GGUF form, each with its proof and its digest."""

import csv
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from harness import data, keys
from harness.artifacts import digest
from harness.data.source import Places
from harness.models import weight_files
from harness.store.connection import opened
from harness.suite.schema import FileSplit
from tests.data.hub.test_hub_dataset import FIRST, SECOND, THIRD, Outcome, Workplace
from tests.fixtures import finished_beside
from tests.models.test_adapter_sabotage import file_split
from tests.models.test_gguf import write as write_gguf
from tests.models.test_sharded import split_up
from tests.test_plugins import documented, install
from tests.worlds import rows, write_rows

pytestmark = pytest.mark.slow

SUITE = """version = 1
name = "own"
description = "Everything that one can bring"
primary_metric = "balanced_accuracy"
text = {{ template = "{{content}}", max_length = 32, store = true }}
{splits}
[[base]]
id = "sharded"
source = "path"
path = "sharded"
sha256 = "{sharded}"
[[base]]
id = "quantised"
source = "path"
path = "quantised"
gguf_file = "tiny.gguf"
sha256 = "{quantised}"
[[base]]
id = "published"
source = "hub"
name = "own/finished"
revision = "{commit}"
[[adapter]]
id = "lora"
base = "sharded"
method = "lora"
params = {{ r = 4, lora_alpha = 8, target_modules = ["query", "value"] }}
[adapter.train]
split = "train"
epochs = 2
learning_rate = 1e-2
batch_size = 16
warmup_share = 0.1
weight_decay = 0.0
max_grad_norm = 1.0
precision = "fp32"
seeds = [1]
[[model]]
id = "adapted"
backend = "peft"
adapter = "lora"
precision = "fp32"
[[model]]
id = "frozen"
backend = "probe"
base = "quantised"
train_split = "train"
C = 1.0
precision = "fp32"
[[model]]
id = "finished"
backend = "checkpoint"
base = "published"
precision = "fp32"
[[model]]
id = "elsewhere"
backend = "predictions"
path = "answers.csv"
format = "csv"
sha256 = "{answers}"
columns = {{ example = "id", score = "p" }}
[[model]]
id = "loud"
backend = "exclamations"
params = {{ weight = 0.3 }}
[[metric]]
name = "balanced_accuracy"
[[metric]]
name = "accuracy"
"""
MODELS = ("adapted", "frozen", "finished", "elsewhere", "loud")
GATE = '[[gate]]\nmodel = "{}"\nsplit = "test"\nmetric = "accuracy"\nmin = 0.0\non_inconclusive = "warn"\n'


class Place:
    """A folder with a suite and all that it names."""

    def __init__(self, folder: Path, url: str, installed: Path) -> None:
        self.folder, self.installed, self.work = folder, installed, Workplace(folder, url)
        self.suite, self.answers = folder / "own.toml", folder / "answers.csv"

    def declare(self, commit: str = FIRST) -> None:
        """Write the suite with the digests of the files as they are now."""
        pins = {
            "splits": file_split("train") + file_split("test"),
            "sharded": weight_files.pin(self.folder / "sharded", "b"),
            "quantised": digest.of_file(self.folder / "quantised" / "tiny.gguf"),
            "answers": digest.of_file(self.answers),
            "commit": commit,
        }
        self.suite.write_text(SUITE.format(**pins) + "".join(map(GATE.format, MODELS)))

    def edit(self, old: str, new: str) -> None:
        text = self.suite.read_text()
        assert old in text
        self.suite.write_text(text.replace(old, new, 1))

    def run(self, *commands: Sequence[str]) -> list[Outcome]:
        words = {str(i): [verb, "own.toml", *more, "--db", "runs/x.duckdb"] for i, (verb, *more) in enumerate(commands)}
        path = os.pathsep.join(filter(None, [str(self.installed), os.environ.get("PYTHONPATH")]))
        return list(self.work.run(words, PYTHONPATH=path).values())

    def reasons(self) -> dict[str, str]:
        """The reason of each model's gate."""
        (judged,) = self.run(["gate", "--json"])
        return {one["model_id"]: one["reason"] for one in json.loads(judged.out)}


@pytest.fixture(scope="module")
def place(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory, loopback: Any) -> Place:
    """All of it, evaluated, judged and rendered; each test leaves the suite as it was."""
    folder = tmp_path_factory.mktemp("own")
    made = Place(folder, loopback.url, install(tmp_path_factory.mktemp("plug-in"), *documented()))
    split_up(Path(shutil.copytree(tiny_base, folder / "sharded")), 3)
    (folder / "quantised").mkdir()
    write_gguf(folder / "quantised" / "tiny.gguf", gguf.GGMLQuantizationType.Q4_1)
    write_rows(folder / "train.jsonl", rows(60, 0))
    write_rows(folder / "test.jsonl", rows(40, 1000))
    files = {path.name: path.read_bytes() for path in finished_beside(tiny_base).iterdir()}
    other = files | {"model.safetensors": files["model.safetensors"][:-4] + bytes(4)}
    loopback.serve("models/own/finished", {FIRST: files, SECOND: other})
    rule = FileSplit(id="test", source="file", path="test.jsonl", format="jsonl")
    examples = data.load_split(rule, Places(folder, folder, None)).examples
    scores = np.random.default_rng(5).uniform(size=len(examples)).round(6).tolist()
    with made.answers.open("w", newline="") as file:
        csv.writer(file).writerows([["id", "p"], *([e.example_id, s] for e, s in zip(examples, scores, strict=True))])
    made.declare()
    for outcome in made.run(["data", "--pin"], ["evaluate", "--workers", "1"], ["gate"], ["site", "--out", "site"]):
        assert outcome.code == 0, outcome.err
    return made


def test_all_stand_on_one_board_with_their_proofs_and_digests(place: Place) -> None:
    with opened(place.folder / "runs" / "x.duckdb", read_only=True) as store:
        specs = {model: json.loads(spec) for model, spec in store.execute("SELECT model_id, spec FROM run").fetchall()}
    assert set(specs) == set(MODELS)
    assert specs["adapted"]["base"] != specs["frozen"]["base"] != specs["finished"]["base"]
    assert specs["adapted"]["adapter_digest"]
    assert specs["frozen"]["base_origin"] == "llama, dequantised from GGUF (Q4_1)"
    assert specs["elsewhere"]["model"]["sha256"] == digest.of_file(place.answers)
    assert specs["loud"]["plugin"]["distribution"] == "harness-words"
    board = (place.folder / "site" / "index.html").read_text()
    for mark in (
        "adapter loaded", "trained checkpoint", "trained on unknown texts", "plug-in",
        "answers from elsewhere, not reproducible here",
    ):  # fmt: skip
        assert mark in board, mark
    for model in MODELS:
        page = (place.folder / "site" / "own" / f"{model}.html").read_text()
        assert keys.key(specs[model]) in page
    assert "harness-words 0.1" in (place.folder / "site" / "own" / "loud.html").read_text()
    assert FIRST in (place.folder / "site" / "own" / "finished.html").read_text()


def test_swapped_labels_of_the_checkpoint_are_refused(place: Place) -> None:
    swapped = 'labels = { negative = ["positive"], positive = ["negative"] }'
    place.edit('base = "published"', f'base = "published"\n{swapped}')
    (evaluated,) = place.run(["evaluate", "--workers", "1"])
    place.declare()
    assert evaluated.code == 2
    refusal = "model 'finished'.labels: 'positive' plainly states the other class; swap negative and positive"
    assert refusal in evaluated.err


def test_a_row_too_few_fails_the_answers_alone(place: Place) -> None:
    whole = place.answers.read_text()
    place.answers.write_text("\n".join(whole.splitlines()[:-1]) + "\n")
    place.declare()
    (evaluated,) = place.run(["evaluate", "--workers", "1"])
    reasons = place.reasons()
    place.answers.write_text(whole)
    place.declare()
    assert evaluated.code == 3
    assert "failed 1" in evaluated.err
    assert "1 of 40" in reasons.pop("elsewhere")
    assert len(reasons) == len(MODELS) - 1
    assert not any("stale" in reason for reason in reasons.values())


def test_another_commit_of_the_checkpoint_is_another_model_and_an_unknown_one_is_refused(place: Place) -> None:
    place.declare(SECOND)
    reasons = place.reasons()
    place.declare(THIRD)
    (unknown,) = place.run(["evaluate", "--workers", "1"])
    place.declare()
    assert "stale: it was last scored with another base" in reasons["finished"]
    assert f"at commit {THIRD[:12]}: the hub has no such commit" in unknown.err
    assert unknown.code == 2
