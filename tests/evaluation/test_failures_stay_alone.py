"""No failure of one model or adapter ends the others, and each says why, then and later."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.artifacts import digest
from harness.errors import RunError
from harness.evaluation.inputs import Workspace, gather
from harness.evaluation.weights import doubt_of
from harness.models import openvino
from harness.models.classifier import ModelInputs
from harness.models.encoding import settle
from harness.models.transformer import untrained
from harness.suite.load import load
from harness.suite.schema import PackageBase, PathAdapter, PathBase
from harness.training import plan
from tests.models.test_adapter_sabotage import CONFIG, foreign, lora, save_adapter

pytestmark = pytest.mark.slow

Command = Callable[..., Any]


def diverging(suite_path: Path) -> None:
    """The made-up suite, whose LoRA cannot be trained, and a gate about it."""
    text = suite_path.read_text().replace("learning_rate = 1e-2", "learning_rate = 0.99")
    text = text.replace("max_grad_norm = 1.0, precision", "max_grad_norm = 1e30, precision", 1)
    text = text.replace("lora_alpha = 8", "lora_alpha = 8000000000000000000000000000")
    suite_path.write_text(text.replace('model = "tfidf"\nsplit', 'model = "tiny+lora"\nsplit'))


def reason_of_the_gate(harness: Command, suite_path: Path) -> str:
    (verdict,) = harness("gate", suite_path, "--json").json()
    return str(verdict["reason"])


def test_after_a_failed_training_the_gate_says_that_it_failed_and_why(
    harness: Command, suite_path: Path, tmp_path: Path
) -> None:
    diverging(suite_path)
    only = ("evaluate", suite_path, "--workers", "1", "--model", "tiny+lora", "--model", "majority")
    assert harness("evaluate", suite_path, "--workers", "1", "--model", "majority").code == 0
    assert "has not been trained yet; evaluate the suite first" in reason_of_the_gate(harness, suite_path)
    result = harness(*only)
    assert result.code == 3
    assert "scored 0, already stored 1, failed 2" in result.err
    reason = reason_of_the_gate(harness, suite_path)
    assert "the training of adapter 'lora' seed " in reason
    assert "failed: adapter lora" in reason
    assert "not been trained yet" not in reason
    assert "\n" not in reason
    suite_path.write_text(suite_path.read_text().replace("lora_alpha = 8000000000000000000000000000", "lora_alpha = 8"))
    suite_path.write_text(suite_path.read_text().replace("learning_rate = 0.99", "learning_rate = 1e-2"))
    assert "has not been trained yet" in reason_of_the_gate(harness, suite_path), "it is another training"


def test_a_training_that_succeeds_forgets_that_it_failed(harness: Command, suite_path: Path, tmp_path: Path) -> None:
    suite, workspace = load(suite_path), Workspace(suite_path, tmp_path / "runs" / "harness.duckdb")
    materials = gather(suite, workspace)
    job = plan.jobs(suite, materials.splits, materials.bases, workspace.adapters)[2]
    plan.note_failure(job, "Traceback …\nMemoryError: there was no room\n")
    assert plan.why_missing(job) == (
        "the training of adapter 'full' seed 1 failed: MemoryError: there was no room; evaluate the suite again once "
        "that is fixed"
    )
    assert harness("train", suite_path, "--adapter", "full", "--workers", "1").code == 0
    assert "has not been trained yet" in plan.why_missing(job)
    assert list(workspace.adapters.rglob("*.failed")) == []


@pytest.fixture
def with_foreign(suite_path: Path, tiny_base: Path) -> Path:
    """An adapter from elsewhere, named in the made-up suite."""
    folder = suite_path.parent / "theirs"
    save_adapter(tiny_base, folder, lora())
    suite_path.write_text(suite_path.read_text() + "\n" + foreign("theirs", folder))
    return suite_path


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", '"\\ud800"'])
def test_a_value_that_the_store_does_not_take_fails_its_adapter_alone(
    harness: Command, with_foreign: Path, value: str
) -> None:
    path = with_foreign.parent / "theirs" / CONFIG
    path.write_text(path.read_text().replace('"lora_alpha": 8', f'"lora_alpha": {value}'))
    result = harness("evaluate", with_foreign, "--workers", "1", "--model", "theirs", "--model", "majority")
    assert result.code == 3
    assert "scored 1, already stored 0, failed 1" in result.err
    assert "failed: theirs on test: " in result.err
    assert "is not JSON" in result.err
    assert harness("gate", with_foreign).code in (0, 1)


def test_an_adapter_whose_file_may_not_be_read_fails_alone(harness: Command, with_foreign: Path) -> None:
    path = with_foreign.parent / "theirs" / CONFIG
    path.unlink()
    path.mkdir()
    result = harness("evaluate", with_foreign, "--workers", "1", "--model", "theirs", "--model", "majority")
    assert result.code == 3
    assert "scored 1, already stored 0, failed 1" in result.err


def test_a_base_that_cannot_be_loaded_fails_what_is_made_of_it_alone(
    harness: Command, suite_path: Path, tiny_base: Path
) -> None:
    folder = suite_path.parent / "broken"
    shutil.copytree(tiny_base, folder)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"num_hidden_layers": 3}))
    text = suite_path.read_text().replace(f'"{tiny_base}"', '"broken"').replace("seeds = [1, 2]", "seeds = [1]")
    suite_path.write_text(text)
    models = [word for name in ("tiny+lora", "untrained", "majority") for word in ("--model", name)]
    result = harness("evaluate", suite_path, "--workers", "1", *models)
    assert result.code == 3
    assert "scored 1, already stored 0, failed 2" in result.err
    assert result.err.count("the checkpoint lacks weights of the encoder") == 2


def test_an_adapter_with_trained_biases_and_saved_modules_trains_and_is_scored(
    harness: Command, suite_path: Path
) -> None:
    text = suite_path.read_text().replace("seeds = [1, 2]", "seeds = [1]")
    suite_path.write_text(
        text.replace("lora_alpha = 8,", 'lora_alpha = 8, bias = "all", modules_to_save = ["pooler"],')
    )
    result = harness("evaluate", suite_path, "--workers", "1", "--model", "tiny+lora")
    assert result.code == 0, result.err


class Undecided(torch.nn.Module):
    """A head whose way depends on what it is given, of which a conversion would have one way alone."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return states[:, :2] if float(states.sum()) > 0 else -states[:, :2]


def test_what_openvino_cannot_convert_is_named_with_the_way_out(tiny_base: Path, tmp_path: Path) -> None:
    network: Any = untrained(tiny_base, 1).eval()
    settle(network, tiny_base, 32)
    network.classifier = Undecided()
    made_from = ModelInputs(1, 32, tiny_base, None, (), (), converted_dir=tmp_path / "converted")
    said = r"BertForSequenceClassification cannot be converted to OpenVINO \(.+\); use runtime = 'torch'"
    with pytest.raises(RunError, match=said):
        openvino.compiled("fp32", lambda: network, made_from)
    assert not (tmp_path / "converted").exists()


class TurnedIfLong(torch.nn.Module):
    """A layer that chooses by the number of tokens and does not warn of it, as libraries do."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return states if states.shape[1] <= 16 else -states


def test_a_conversion_that_answers_otherwise_on_long_texts_is_named_with_the_way_out(
    tiny_base: Path, tmp_path: Path
) -> None:
    network: Any = untrained(tiny_base, 1).eval()
    network.bert.embeddings.LayerNorm = TurnedIfLong()
    settle(network, tiny_base, 32)
    made_from = ModelInputs(1, 32, tiny_base, None, (), (), converted_dir=tmp_path / "converted")
    said = (
        r"cannot be converted to OpenVINO \(it would answer otherwise on a text of 32 tokens\); use runtime = 'torch'"
    )
    with pytest.raises(RunError, match=said):
        openvino.compiled("fp32", lambda: network, made_from)
    assert not (tmp_path / "converted").exists()


def declared(base: Any, made_on: str | None) -> str | None:
    adapter = PathAdapter(id="theirs", base="tiny", source="path", path="theirs", sha256="0" * 64)
    return doubt_of(adapter, made_on, base)


def test_a_base_of_another_name_is_doubted_and_one_of_the_same_is_not() -> None:
    base = PathBase(id="tiny", source="path", path="models/MiniLM-L6", sha256=digest.of_json(1))
    packed = PackageBase(id="m", source="package", package="gt-mini", version="1", path="a/model", sha256="0" * 64)
    for made_on in (None, "", "tiny", "someone/minilm-l6", "/home/me/models/MiniLM-L6/"):
        assert declared(base, made_on) is None
    assert declared(packed, "gt-mini") is None
    assert "names 'someone/bert' as its base, and the suite puts it on 'tiny'" in (declared(base, "someone/bert") or "")
