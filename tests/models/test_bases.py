"""Bases: the pinned files are read, and nothing else."""

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from harness.artifacts import digest
from harness.errors import DataError
from harness.models import base_config, bases
from harness.models.transformer import untrained
from harness.suite.schema import PathBase


def declared(folder: Path, path: str | None = None) -> PathBase:
    sha256 = digest.of_file(folder / "model.safetensors") if (folder / "model.safetensors").is_file() else "0" * 64
    return PathBase(id="b", source="path", path=path or folder.name, sha256=sha256)


def resolved(folder: Path, path: str | None = None) -> bases.ResolvedBase:
    return bases.resolve(declared(folder, path), folder.parent, folder.parent / "cache")


@pytest.fixture
def base(tiny_base: Path, tmp_path: Path) -> Path:
    """A base in a suite's folder, to spoil."""
    return Path(shutil.copytree(tiny_base, tmp_path / "suites" / "base"))


def edited(name: str = "config.json", **changed: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        values = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(values | changed))

    return edit


def moved_out(name: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        outside = folder.parent.parent / f"outside-{name}"
        (folder / name).rename(outside)
        (folder / name).symlink_to(outside)

    return edit


def linked_folder(folder: Path) -> None:
    outside = folder.parent.parent / "outside"
    folder.rename(outside)
    folder.symlink_to(outside)


def sharded(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text("{}")


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")


def truncated(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


@dataclass(frozen=True)
class Case:
    """A base that is refused."""

    name: str
    spoil: Callable[[Path], Any]
    refused: str


def of_tokenizer(**changed: Any) -> Callable[[Path], None]:
    return edited("tokenizer_config.json", **changed)


CASES = [
    Case("other-weights", edited(transformers_weights="other.safetensors"), "transformers_weights names other files"),
    Case("other-configuration", edited(configuration_files=["config.4.0.0.json"]), "configuration_files names other"),
    Case("other-tokenizer", of_tokenizer(fast_tokenizer_files=["tokenizer.4.0.0.json"]), "fast_tokenizer_files names"),
    Case("gguf", of_tokenizer(gguf_file="/etc/hostname"), "gguf_file names other files"),
    Case("a-vocabulary-by-name", of_tokenizer(vocab="/etc/hostname"), "vocab could name other files"),
    Case("inputs-by-position", of_tokenizer(init_inputs=["/etc/hostname"]), "init_inputs could name other files"),
    Case("sentencepiece", of_tokenizer(sp_model_kwargs={"model_file": "/etc/hostname"}), "sp_model_kwargs could name"),
    Case("code", edited(auto_map={"AutoModel": "evil.Model"}), "auto_map asks for code"),
    Case("code-of-a-tokenizer", of_tokenizer(auto_map={"AutoTokenizer": ["evil.T", None]}), "auto_map asks for code"),
    Case("code-of-a-part", edited(text_config={"auto_map": {"AutoModel": "evil.Model"}}), "auto_map asks for code"),
    Case("quantised", edited(quantization_config={"quant_method": "gptq"}), "quantization_config asks for code"),
    Case("kernels", edited(_attn_implementation="kernels-community/flash-attn"), "asks for code from elsewhere"),
    Case("kernels-too", edited(attn_implementation="flash_attention_2"), "asks for code from elsewhere"),
    Case("kernels-of-a-part", edited(text_config={"_attn_implementation": "x/y"}), "asks for code from elsewhere"),
    Case("experts", edited(_experts_implementation="someone/kernels"), "asks for code from elsewhere"),
    Case("an-adapter-beside", lambda folder: (folder / "adapter_config.json").write_text("{}"), "holds an adapter"),
    Case("a-link-for-a-folder", linked_folder, "is a symlink out of the suite's folder"),
    Case("linked-weights", moved_out("model.safetensors"), "is a symlink out of the base's folder"),
    Case("linked-configuration", moved_out("config.json"), "is a symlink out of the base's folder"),
    Case("linked-tokenizer", moved_out("tokenizer.json"), "is a symlink out of the base's folder"),
    Case("sharded", sharded, "model.safetensors.index.json has no weight_map"),
    Case("pickled", pickled, "pickled weights are never read"),
    Case("truncated", truncated, "model.safetensors is damaged"),
    Case("no-configuration", lambda folder: (folder / "config.json").unlink(), "has no config.json"),
    Case("not-json", lambda folder: (folder / "config.json").write_text("{"), "config.json is not JSON"),
    Case("nested", lambda folder: (folder / "config.json").write_text("[" * 100_000), "is not JSON (RecursionError)"),
    Case("huge", edited(note="x" * 11_000_000), "has more than 10,000,000 bytes"),
    Case("not-a-number", edited(layer_norm_eps=float("nan")), "has a number that is not finite"),
    Case(
        "infinite",
        lambda folder: (folder / "config.json").write_text('{"layer_norm_eps": 1e999}'),
        "has a number that is not finite",
    ),
    Case("a-million-layers", edited(num_hidden_layers=10**6), "num_hidden_layers = 1,000,000 is more than"),
    Case("a-thousand-layers", edited(num_hidden_layers=1000), "describes a network of"),
    Case("wide", edited(hidden_size=10**6), "describes a network of"),
    Case("wider", edited(hidden_size=10**12), "hidden_size = 1,000,000,000,000 is more than"),
    Case("many-labels", edited(num_labels=10**9), "num_labels = 1,000,000,000 is more than"),
    Case("many-positions", edited(max_position_embeddings=10**7), "describes a network of"),
    Case("no-such-network", edited(model_type="sorcery"), "no network can be built from its config.json"),
    Case("impossible", edited(num_attention_heads=3), "no network can be built from its config.json"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_base_that_reaches_beyond_its_verified_files_is_refused_by_name(base: Path, case: Case) -> None:
    pin = declared(base)
    case.spoil(base)
    if case.name in ("truncated",):
        pin = declared(base)
    with pytest.raises(DataError, match=r"^base b: ") as refusal:
        bases.resolve(pin, base.parent, base.parent / "cache")
    assert case.refused in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_transformers_is_given_the_verified_files_and_nothing_else(base: Path) -> None:
    for name in ("other.safetensors", "pytorch_model.bin", "generation_config.json", "modeling.py", "notes.md"):
        (base / name).write_text("not verified")
    (base / "additional_chat_templates").mkdir()
    found = resolved(base)
    there = {path.name for path in found.folder.iterdir()}
    assert there == {path.name for path in base.iterdir()} & {"config.json", "model.safetensors", *bases.TOKENIZER}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= there
    assert found.digest == digest.of_files(base, ["config.json", "model.safetensors", *bases.TOKENIZER])
    untrained(found.folder, seed=0)


def test_a_second_look_makes_nothing_anew_and_a_spoilt_view_is_made_again(base: Path) -> None:
    folder = resolved(base).folder
    before = folder.stat().st_mtime_ns
    assert resolved(base).folder == folder
    assert folder.stat().st_mtime_ns == before
    (folder / "adapter_config.json").write_text("{}")
    (folder / "config.json").unlink()
    (folder / "config.json").write_text("{}")
    assert resolved(base).folder == folder
    assert not (folder / "adapter_config.json").exists()
    assert (folder / "config.json").read_text() == (base / "config.json").read_text()
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]


def test_names_of_files_in_a_tokenizers_configuration_are_not_followed(base: Path, tmp_path: Path) -> None:
    plain = AutoTokenizer.from_pretrained(base)("the phone is great")["input_ids"]
    (tmp_path / "vocab.txt").write_text("the\nphone\n")
    elsewhere = str(tmp_path / "vocab.txt")
    of_tokenizer(vocab_file=elsewhere, merges_file=elsewhere, special_tokens_map_file=elsewhere)(base)
    folder = resolved(base).folder
    assert not [key for key in json.loads((folder / "tokenizer_config.json").read_text()) if key.endswith("_file")]
    assert AutoTokenizer.from_pretrained(folder)("the phone is great")["input_ids"] == plain


def test_a_suite_may_name_a_folder_that_is_not_below_its_own(base: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "models"
    base.rename(elsewhere)
    base.parent.mkdir(exist_ok=True)
    for path in ("../models", str(elsewhere)):
        found = bases.resolve(declared(elsewhere, path), tmp_path / "suites", tmp_path / "cache")
        assert (found.folder / "config.json").read_text() == (elsewhere / "config.json").read_text()


def test_a_pipe_in_place_of_a_file_is_not_waited_for(base: Path) -> None:
    (base / "vocab.txt").unlink(missing_ok=True)
    os.mkfifo(base / "vocab.txt")
    assert not (resolved(base).folder / "vocab.txt").exists()


def test_networks_of_two_number_formats_are_described_in_threads_at_once(tiny_base: Path, tmp_path: Path) -> None:
    folders = []
    for name in ("float16", "bfloat16"):
        folder = tmp_path / name
        shutil.copytree(tiny_base, folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"dtype": name}))
        folders.append(folder)
    before = torch.get_default_dtype()
    try:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda folder: base_config.check_size(folder, "base"), folders * 40))
        assert torch.get_default_dtype() == before
    finally:
        torch.set_default_dtype(before)
