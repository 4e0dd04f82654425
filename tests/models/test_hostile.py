"""Hostile bases, adapters and suites under audit hooks: only verified files and no network addresses are opened."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts import digest
from harness.models.bases import TOKENIZER
from harness.models.weight_files import INDEX
from tests.models import test_adapter_sabotage as adapters
from tests.models import test_bases as bases

pytestmark = pytest.mark.slow

BASE_FILES = {"config.json", "model.safetensors", INDEX, *TOKENIZER}
ADAPTER_FILES = {"adapter_model.safetensors", "adapter_config.json", "config.json", "harness-card.json"}
BAITS = ("other.safetensors", "config.4.0.0.json", "tokenizer.4.0.0.json", "pytorch_model.bin", "adapter_model.bin",
         "generation_config.json", "chat_template.json", "modeling_evil.py", "evil.py")  # fmt: skip
PARAMS = [
    '{ prompt_tuning_init_state_dict_path = "@ROOT@/bait.bin" }',
    '{ prompt_tuning_init = "TEXT", prompt_tuning_init_text = "x", tokenizer_name_or_path = "@ROOT@/suites/base" }',
    '{ corda_config = { cache_file = "@ROOT@/bait.bin" } }',
    '{ megatron_config = {}, megatron_core = "evil" }',
    '{ r = 8, target_modules = "(a+)+b" }',
    '{ r = 8, lora_alpha = nan }',
    '{ r = 1_000_000_000 }',
    '{ init_lora_weights = "@ROOT@/bait.bin" }',
    '{ shadow_model = "someone/model" }',
]  # fmt: skip


@pytest.fixture(scope="module")
def seen(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Report of a process that was given all hostile files, and the folder that holds them."""
    root = tmp_path_factory.mktemp("hostile").resolve()
    here = root / "suites"
    here.mkdir()
    adapters.bomb(root)
    (root / "adapter_model.bin").rename(root / "bait.bin")
    pins = {}
    for case in [bases.Case("base", lambda folder: None, ""), *bases.CASES]:
        folder = here / (case.name if case.name == "base" else f"base-{case.name}")
        shutil.copytree(tiny_base, folder)
        for bait in BAITS:
            shutil.copy(root / "bait.bin", folder / bait)
        pins[folder.name] = digest.of_file(folder / "model.safetensors")
        case.spoil(folder)
        if case.name == "truncated":
            pins[folder.name] = digest.of_file(folder / "model.safetensors")
    adapters.save_adapter(tiny_base, root / "made" / "lora", adapters.lora())
    for one in adapters.CASES:
        if one.made != "lora" or one.base != "tiny" or one.name in ("another-method", "linked-file", "linked-folder"):
            continue  # those links are checked before a folder is loaded
        folder = here / f"adapter-{one.name}"
        shutil.copytree(root / "made" / "lora", folder)
        if one.apply is not None:
            one.apply(folder)
        if folder.is_dir() and not folder.is_symlink():
            for bait in BAITS:
                shutil.copy(root / "bait.bin", folder / bait)
    whole = (Path(__file__).parents[1] / "resources" / "full_suite.toml").read_text()
    for i, params in enumerate(PARAMS):
        start = whole.index("params = {")
        changed = whole[:start] + "params = " + params.replace("@ROOT@", str(root)) + whole[whole.index("\n", start) :]
        (here / f"suite-{i}.toml").write_text(changed)
    (root / "pins.json").write_text(json.dumps(pins))
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parents[1] / "spy.py"), str(root)],
        capture_output=True, text=True, check=False, cwd=root, env=environment, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found | {"root": root}


def test_each_is_refused_by_name_and_the_sound_ones_are_not(seen: dict[str, Any]) -> None:
    outcomes: dict[str, str | None] = seen["outcomes"]
    wanted = {f"base-{case.name}": case.refused for case in bases.CASES}
    assert outcomes["base"] is None
    for name, refused in wanted.items():
        assert refused in str(outcomes[name])
    suites = [problem for name, problem in outcomes.items() if name.startswith("suite-")]
    assert len(suites) == len(PARAMS)
    assert all(problem is not None and ".params." in problem for problem in suites)
    assert outcomes["adapter-sound"] is None
    hostile = [name for name, problem in outcomes.items() if problem is not None]
    assert len(hostile) >= 40


def test_nothing_but_verified_files_is_opened(seen: dict[str, Any]) -> None:
    here, views = seen["root"] / "suites", seen["root"] / "cache" / "bases"
    assert seen["opened"], "the spy sees what is opened"
    for path in map(Path, seen["opened"]):
        if path.is_relative_to(views):
            assert path.name in BASE_FILES
        else:
            assert path.is_relative_to(here), path
            is_base = path.parent.name.startswith("base")
            assert path.parent == here or path.name in (BASE_FILES if is_base else ADAPTER_FILES), path


def test_no_address_is_asked_no_process_started_and_nothing_unpickled(seen: dict[str, Any]) -> None:
    assert seen["reached"] == []
    assert not (seen["root"] / "the-pickle-was-read").exists()
