"""Kinds of devices: how one is chosen, what its name changes, and that nothing else in the harness names one."""

import ast
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import harness as api
from harness import keys
from harness.errors import RunError, UsageError
from harness.evaluation.inputs import Workspace, gather
from harness.evaluation.plan import plan
from harness.models import device
from harness.records import Split
from harness.suite.load import load
from harness.suite.schema import Adapter, PeftModel
from harness.suite.text import Text
from tests.fixtures import Result

HARNESS = Path(api.__file__).parent
NAMES = {"cpu", "cuda", "mps"}
HOME = HARNESS / "models" / "device.py"
ASKS_A_DEVICE = tuple(f"torch.{name}" for name in ("autocast", "amp", *NAMES, "accelerator", "get_device_module"))


def faults(source: str) -> Iterator[str]:
    """Names of devices in a module, `torch.autocast`, and moves to a device or number format that a string names."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.partition(":")[0] in NAMES:
            yield f"line {node.lineno}: {node.value!r}"
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith(ASKS_A_DEVICE):
            yield f"line {node.lineno}: {ast.unparse(node)}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            method, named = node.func.attr, any(isinstance(one, ast.Constant) for one in node.args)
            if method in NAMES or (method == "to" and named):
                yield f"line {node.lineno}: {ast.unparse(node)}"


def test_no_other_module_names_a_device() -> None:
    found = {
        path.relative_to(HARNESS).as_posix(): list(faults(path.read_text(encoding="utf-8")))
        for path in HARNESS.rglob("*.py")
        if path != HOME
    }
    assert {name: some for name, some in found.items() if some} == {}
    assert list(faults(HOME.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "source",
    ['x = "cpu"', 'x.to("cuda:0")', "x.cuda()", "x.cpu()", 'torch.autocast("m")', "torch.cuda.is_available()"],
)
def test_a_module_that_names_a_device_would_be_found(source: str) -> None:
    assert list(faults(source))


def test_without_a_word_the_processor_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(device.VARIABLE, raising=False)
    assert device.resolve(None) == device.PROCESSOR
    monkeypatch.setenv(device.VARIABLE, "cuda")
    assert device.resolve(None) == "cuda"
    assert device.resolve("cpu") == device.PROCESSOR


def test_auto_is_the_accelerator_that_is_there() -> None:
    here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    assert device.resolve("auto") == (device.PROCESSOR if here is None else here.type)


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"--device tpu: unknown kind of device; choose one of auto, cpu, cuda, mps"):
        device.resolve("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there_is_refused_before_anything_is_computed(
    evaluated: Path, harness: Callable[..., Result]
) -> None:
    for verb in ("evaluate", "train", "parity"):
        done = harness(verb, evaluated, "--device", "cuda", "--workers", 1)
        assert done.code == 2
        assert re.search(r"--device cuda: torch \S+ finds no accelerator on this machine; .* --device cpu", done.err)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_placing_a_network_on_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(RunError, match="this machine has no device of the kind 'cuda'"):
        device.place(torch.nn.Linear(2, 2), "cuda")


def test_on_the_processor_nothing_is_moved_or_copied() -> None:
    network, ids = torch.nn.Linear(2, 2), torch.arange(3)
    weight = network.weight
    assert device.place(network, device.PROCESSOR) is network
    assert device.bring_home(network) is network
    assert network.weight is weight
    assert device.put({"input_ids": ids}, device.of(network))["input_ids"] is ids
    assert device.home(ids) is ids


# On the processor nothing changed: digests of specs that earlier releases made, apart from what differs by environment.

_OF_ENVIRONMENT = ("packages", "scoring_code", "hardware")
SPLIT = Split("test", (), "d" * 64, {"source": "sdist"})
TEXT = Text(template="{content}", max_length=32)


def _declared() -> tuple[PeftModel, Adapter]:
    how = {
        "split": "train", "epochs": 4, "learning_rate": 1e-2, "batch_size": 16, "warmup_share": 0.1,
        "weight_decay": 0.0, "max_grad_norm": 1.0, "precision": "fp32", "seeds": (1, 2),
    }  # fmt: skip
    params = {"r": 4, "target_modules": ["query"]}
    fields = {"id": "lora", "base": "tiny", "method": "lora", "params": params, "train": how}
    return PeftModel(id="tiny+lora", backend="peft", adapter="lora", precision="fp32"), Adapter.model_validate(fields)


def specs(kind: str) -> dict[str, dict[str, Any]]:
    """The spec of each key that depends on a device."""
    model, adapter = _declared()
    on: dict[str, Any] = {"device": device.for_key(kind)}
    digests: dict[str, Any] = {"adapter_digest": "a" * 64, "base_digest": "b" * 64}
    return {
        "run": keys.run(model, adapter, seed=1, train_digest="c" * 64, split=SPLIT, text=TEXT, **digests, **on),
        "training": keys.training(
            adapter, seed=1, precision="fp32", base_digest="b" * 64, split=SPLIT, text=TEXT, **on
        ),
        "parity": keys.parity(
            "torch bf16", calibrated_on=None, sample_digest="c" * 64, max_length=32, allowed=(0.01, 0.5),
            **digests, **on
        ),
        "forgetting": keys.forgetting(split=SPLIT, n_texts=50, text=TEXT, **digests, **on),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("run", "02cd616c06d7951b4c8a396effd6bc30f309c8a3550c3cdac34f00c8616439c5"),
        ("training", "43dd25a41f2ddc1dbdab25e9b9f4de13e3f44066fab86c7c0d24d7a2d4f7ebf1"),
        ("parity", "eda7843fd897eda72d9dc849eceb5efcdd1d958d923d8f464ac67a5ff55e8e55"),
        ("forgetting", "be2fa667f699f8b409853d04f9292a561f3cc8c1d9ddb91e067eb245ada61902"),
    ],
)
def test_keys_of_the_processor_are_as_they_were_before_there_were_devices(name: str, expected: str) -> None:
    spec = specs(device.PROCESSOR)[name]
    assert keys.key({part: value for part, value in spec.items() if part not in _OF_ENVIRONMENT}) == expected
    assert specs("cuda")[name] == {**spec, "device": "cuda"}


def test_networks_in_torch_have_the_device_in_their_keys_and_nothing_else_has(
    configured: Any, suite_path: Path, tmp_path: Path
) -> None:
    suite, db = load(suite_path), tmp_path / "runs" / "harness.duckdb"
    here, there = (Workspace(suite_path, db, kind) for kind in (device.PROCESSOR, "cuda"))
    planned = [plan(suite, gather(suite, one), one) for one in (here, there)]
    for mine, its in zip(*planned, strict=True):
        assert "device" not in mine.spec
        assert mine.ingredients.device == device.PROCESSOR
        if mine.model.backend in ("majority", "tfidf"):
            assert its.run_key == mine.run_key
        else:
            assert its.spec["device"] == its.ingredients.device == "cuda"
            assert its.run_key != mine.run_key


def test_a_run_of_another_device_is_named_as_the_reason_why_a_result_is_missing(
    evaluated: Path, harness: Callable[..., Result]
) -> None:
    assert harness("evaluate", evaluated, "--model", "untrained", "--workers", 1).code == 0
    project = api.open(evaluated, os.environ["HARNESS_DB"], device="cuda")
    reason = api.evidence(project, models=["untrained"]).missing["untrained", "test"]
    assert "was last scored with another device; evaluate the suite again" in reason


def test_fp16_training_needs_an_accelerator() -> None:
    device.check_precision("cuda", "fp16")
    with pytest.raises(RunError, match="precision = 'fp16' needs an accelerator"):
        device.check_precision(device.PROCESSOR, "fp16")
