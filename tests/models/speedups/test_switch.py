"""Every speed-up can be turned off, and the plain way answers and trains the same."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch.nn import functional

from harness import models
from harness.errors import UsageError
from harness.models import speedups, transformer
from harness.models.adapter_files import WEIGHTS
from harness.models.classifier import ModelInputs
from harness.models.peft import without_known_warnings
from harness.progress import silent
from harness.suite.schema import PeftModel
from harness.training import card
from harness.training.plan import TrainingJob
from harness.training.speedups import dropout
from harness.training.train import train
from tests.fixtures import without_dropout

HARNESS = Path(__file__).parents[3] / "harness"
TOP: dict[str, Any] = {"r": 4, "target_modules": ["query", "value"], "layers_to_transform": [1]}
TEXTS = [f"the phone number {i} is " + "very " * (i % 7) + "bad" for i in range(24)]


def test_every_module_of_the_two_folders_has_a_switch() -> None:
    modules = {path.stem for room in ("models", "training") for path in (HARNESS / room / "speedups").glob("*.py")}
    assert modules - {"__init__", "state_cache"} == set(speedups.NAMES), "state_cache holds the states of shared_layers"
    for name in speedups.NAMES:
        with speedups.without(name):
            assert not speedups.is_on(name)
        assert speedups.is_on(name)


def test_a_block_inside_another_turns_nothing_on_again() -> None:
    with speedups.without("dropout"):
        with speedups.without("dropout", "first_token"):
            pass
        assert not speedups.is_on("dropout")
        assert speedups.is_on("first_token")


def test_a_name_that_no_speed_up_has_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no speed-up 'magic' \(known: allocator, dropout"), speedups.without("magic"):
        pass


@pytest.fixture(scope="module")
def adapter(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA with random numbers on the upper layer, saved as PEFT saves it."""
    folder = tmp_path_factory.mktemp("adapter")
    with torch.random.fork_rng(devices=[]), without_known_warnings():
        torch.manual_seed(5)
        base = transformer.untrained(tiny_base, seed=1)
        network: Any = get_peft_model(base, LoraConfig(task_type="SEQ_CLS", **TOP))
        for name, parameter in network.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                torch.nn.init.normal_(parameter, std=0.3)
    network.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ["first_token", "shared_layers"])
def test_scores_are_those_of_the_plain_way(name: str, tiny_base: Path, adapter: Path, tmp_path: Path) -> None:
    model = PeftModel.model_validate({"id": "m", "backend": "peft", "adapter": "a", "precision": "fp32"})
    made_from = ModelInputs(None, 48, tiny_base, adapter, [], [], states_dir=tmp_path / "states")
    classifier: Any = models.load(model, made_from)
    fast = classifier.predict(TEXTS, lambda units, note: None).scores
    with speedups.without(name):
        plain: Any = models.load(model, made_from)
        slow = plain.predict(TEXTS, lambda units, note: None).scores
    assert len({*slow.round(6)}) > 20, "the texts get different answers"
    if name == "shared_layers":
        assert (classifier.shared is not None, plain.shared) == (True, None)
        assert fast.tobytes() == slow.tobytes()
    else:
        last = [one.model.get_base_model().bert.encoder.layer[-1] for one in (classifier, plain)]
        assert [type(layer).__name__ for layer in last] == ["FirstBertLayer", "BertLayer"]
        assert abs(fast - slow).max() < 1e-6


@pytest.mark.parametrize("name", ["frozen_layers", "first_token"])
def test_a_training_ends_as_the_plain_way_does(jobs: list[TrainingJob], tmp_path: Path, name: str) -> None:
    job = without_dropout(jobs[0], tmp_path / "base")
    how = job.adapter.train.model_copy(update={"epochs": 1})
    job = replace(
        job,
        adapter=job.adapter.model_copy(update={"params": TOP, "train": how}),
        precision="fp32",
    )
    ended = {}
    for way, off in (("fast", ()), ("plain", (name,))):
        with speedups.without(*off):
            folder = train(replace(job, folder=tmp_path / way / "seed"), silent)
        ended[way] = load_file(folder / WEIGHTS)
        if name == "frozen_layers":
            assert card.read(folder).card["frozen_layers"] == (way == "fast")
    assert ended["fast"].keys() == ended["plain"].keys()
    for key, fast in ended["fast"].items():
        torch.testing.assert_close(fast, ended["plain"][key], atol=1e-4, rtol=1e-3)


def test_turned_off_dropout_is_torchs_own() -> None:
    with speedups.without("dropout"), dropout.fast(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        drawn = functional.dropout(torch.ones(1000), 0.3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        assert torch.equal(drawn, functional.dropout(torch.ones(1000), 0.3))
