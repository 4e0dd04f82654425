"""Bases in several files: the same network as in one, every shard pinned, and nothing else read."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import models
from harness.artifacts import digest
from harness.drafts import pins
from harness.errors import DataError
from harness.models import bases, weight_files
from harness.models.classifier import ModelInputs
from harness.models.transformer import layers_of_base, untrained
from harness.suite.load import load
from harness.suite.schema import CheckpointModel, PackageBase, PathBase, TransformerModel
from tests.fixtures import finished_beside

INDEX = "model.safetensors.index.json"
TEXTS = ["the phone is great and solid", "the router number 7 is broken", "", "case"]


def split_up(folder: Path, n: int = 12) -> Path:
    """Put a folder's weights into n files with an index, as large models are published."""
    tensors = load_file(folder / "model.safetensors")
    mapped: dict[str, str] = {}
    for k in range(n):
        name = f"model-{k + 1:05}-of-{n:05}.safetensors"
        part = {tensor: tensors[tensor] for tensor in sorted(tensors)[k::n]}
        save_file(part, folder / name, {"format": "pt"})
        mapped |= dict.fromkeys(part, name)
    index = {"metadata": {"total_size": sum(one.nbytes for one in tensors.values())}, "weight_map": mapped}
    (folder / INDEX).write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()
    return folder


@pytest.fixture
def base(tiny_base: Path, tmp_path: Path) -> Path:
    """A base of twelve shards in a suite's folder."""
    return split_up(Path(shutil.copytree(tiny_base, tmp_path / "suites" / "base")))


def declared(folder: Path) -> PathBase:
    return PathBase(id="b", source="path", path=folder.name, sha256=weight_files.pin(folder, "b"))


def resolved(folder: Path) -> bases.ResolvedBase:
    return bases.resolve(declared(folder), folder.parent, folder.parent.parent / "cache")


def inputs(folder: Path) -> ModelInputs:
    return ModelInputs(
        seed=1, max_length=32, base_dir=folder, adapter_dir=None, train_texts=(), train_labels=(), states_dir=None
    )


def answers(model: Any, folder: Path) -> list[float]:
    scores: list[float] = models.load(model, inputs(folder)).predict(TEXTS, lambda n, note: None).scores.tolist()
    return scores


def test_a_base_of_twelve_shards_scores_as_its_one_file_twin_bit_for_bit(base: Path, tiny_base: Path) -> None:
    found = resolved(base).folder
    assert len(list(found.glob("*.safetensors"))) == 12
    one, many = untrained(tiny_base, seed=1).state_dict(), untrained(found, seed=1).state_dict()
    assert one.keys() == many.keys()
    assert all(torch.equal(one[name], many[name]) for name in one)
    model = TransformerModel(id="m", backend="transformer", base="b", seeds=(1,), precision="fp32")
    assert answers(model, found) == answers(model, tiny_base)
    assert layers_of_base(untrained(found, seed=1).eval(), inputs(found)) is not None


def test_a_finished_classifier_of_twelve_shards_does_too(tiny_base: Path, tmp_path: Path) -> None:
    finished = finished_beside(tiny_base)
    folder = split_up(Path(shutil.copytree(finished, tmp_path / "suites" / "finished")))
    model = CheckpointModel(id="m", backend="checkpoint", base="b", precision="fp32")
    assert answers(model, resolved(folder).folder) == answers(model, finished)


def test_every_shard_and_the_index_are_pinned(base: Path) -> None:
    pinned = declared(base)
    shards = sorted(path.name for path in base.glob("*.safetensors"))
    assert pinned.sha256 == digest.of_files(base, [INDEX, *shards])
    identity = resolved(base).digest
    for name in (shards[-1], INDEX):
        before = (base / name).read_bytes()
        changed = (
            before[:-1] + bytes([before[-1] ^ 1]) if name != INDEX else before.replace(b"total_size", b"whole_size")
        )
        (base / name).write_bytes(changed)
        with pytest.raises(DataError, match=r"with its shards has sha256 [0-9a-f]{64}, but the suite pins"):
            bases.resolve(pinned, base.parent, base.parent.parent / "cache")
        assert resolved(base).digest != identity
        (base / name).write_bytes(before)
    assert resolved(base).digest == identity


def test_only_the_shards_that_the_index_names_are_given_to_transformers(base: Path) -> None:
    for name in ("model-00013-of-00013.safetensors", "other.safetensors", "pytorch_model.bin"):
        (base / name).write_bytes(b"not verified")
    there = {path.name for path in resolved(base).folder.iterdir()}
    shards = {path.name for path in base.glob("model-*-of-00012.safetensors")}
    assert there == {path.name for path in base.iterdir()} & {"config.json", INDEX, *shards, *bases.TOKENIZER}
    assert shards < there


def test_one_file_goes_before_an_index(tiny_base: Path, base: Path) -> None:
    (base / INDEX).write_text("{")
    shutil.copy(tiny_base / "model.safetensors", base)
    assert declared(base).sha256 == digest.of_file(tiny_base / "model.safetensors")
    assert not (resolved(base).folder / INDEX).exists()
    assert resolved(base).digest == resolved(Path(shutil.copytree(tiny_base, base.parent / "twin"))).digest


def index_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / INDEX).read_text())
    return found


def mapping(name: str) -> Callable[[Path], Any]:
    """Map the first tensor to another file."""

    def edit(folder: Path) -> None:
        index = index_of(folder)
        index["weight_map"][next(iter(index["weight_map"]))] = name
        (folder / INDEX).write_text(json.dumps(index))

    return edit


def first(folder: Path) -> Path:
    return folder / "model-00001-of-00012.safetensors"


def one_missing(folder: Path) -> None:
    first(folder).unlink()


def linked_out(folder: Path) -> None:
    outside = folder.parent.parent / "outside.safetensors"
    first(folder).rename(outside)
    first(folder).symlink_to(outside)


def linked_index(folder: Path) -> None:
    (folder / INDEX).rename(folder.parent.parent / "outside.json")
    (folder / INDEX).symlink_to(folder.parent.parent / "outside.json")


def doubled_key(folder: Path) -> None:
    name = next(iter(index_of(folder)["weight_map"]))
    text = (folder / INDEX).read_text()
    (folder / INDEX).write_text(text.replace('"weight_map": {', f'"weight_map": {{"{name}": "{first(folder).name}", '))


def doubled_shard(folder: Path) -> None:
    """A shard under a second name, to which one of its tensors is mapped."""
    shutil.copy(first(folder), folder / "again.safetensors")
    mapping("again.safetensors")(folder)


def doubled_tensor(folder: Path) -> None:
    part = load_file(first(folder))
    name = next(iter(index_of(folder)["weight_map"].items()))[0]
    other = folder / "model-00002-of-00012.safetensors"
    save_file(load_file(other) | {name: part[name] + 1}, other, {"format": "pt"})


def lost_tensor(folder: Path) -> None:
    part = load_file(first(folder))
    save_file(dict(list(part.items())[1:]), first(folder), {"format": "pt"})


def truncated(folder: Path) -> None:
    first(folder).write_bytes(first(folder).read_bytes()[:-10])


def piped(folder: Path) -> None:
    first(folder).unlink()
    os.mkfifo(first(folder))


def no_table(folder: Path) -> None:
    (folder / INDEX).write_text('{"weight_map": ["model-00001-of-00012.safetensors"]}')


def many(folder: Path) -> None:
    index = {"weight_map": {f"t{i}": f"s{i}.safetensors" for i in range(1001)}}
    (folder / INDEX).write_text(json.dumps(index))


@dataclass(frozen=True)
class Case:
    """An index or a shard that is refused."""

    spoil: Callable[[Path], Any]
    refused: str


CASES = {
    "missing": Case(one_missing, "there is no file"),
    "a-pipe": Case(piped, "there is no file"),
    "above": Case(mapping("../outside.safetensors"), "which is no name of a shard beside it"),
    "absolute": Case(mapping("/etc/passwd"), "which is no name of a shard beside it"),
    "below": Case(mapping("part/a.safetensors"), "which is no name of a shard beside it"),
    "pickled": Case(mapping("pytorch_model.bin"), "which is no name of a shard beside it"),
    "the-one-file": Case(mapping("model.safetensors"), "which is no name of a shard beside it"),
    "linked-shard": Case(linked_out, "is a symlink out of the base's folder"),
    "linked-index": Case(linked_index, "is a symlink out of the base's folder"),
    "doubled-key": Case(doubled_key, "twice"),
    "doubled-shard": Case(doubled_shard, "which model.safetensors.index.json maps to"),
    "doubled-tensor": Case(doubled_tensor, "which model.safetensors.index.json maps to"),
    "lost-tensor": Case(lost_tensor, "which lacks it"),
    "truncated": Case(truncated, "is damaged"),
    "no-json": Case(lambda folder: (folder / INDEX).write_text("{"), "is not JSON"),
    "no-table": Case(no_table, "weight_map is no table of tensors"),
    "nested": Case(lambda folder: (folder / INDEX).write_text("[" * 10**5), "is not JSON (RecursionError)"),
    "huge": Case(lambda folder: (folder / INDEX).write_text(" " * 10_000_001), "has more than 10,000,000 bytes"),
    "a-thousand-shards": Case(many, "names more than 1,000 shards"),
}


@pytest.mark.parametrize("name", CASES)
def test_an_index_that_does_not_fit_its_shards_is_refused_by_name(base: Path, name: str) -> None:
    case, pinned = CASES[name], declared(base)
    case.spoil(base)
    with suppress(DataError):
        pinned = declared(base)  # as if the spoilt base had been pinned
    with pytest.raises(DataError, match=r"^(base )?b: ") as refusal:
        bases.resolve(pinned, base.parent, base.parent.parent / "cache")
    assert case.refused in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_base_in_a_package_may_have_shards(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    (site / "made_up-1.0.dist-info").mkdir(parents=True)
    (site / "made_up-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: made-up\nVersion: 1.0\n")
    shutil.copytree(base, site / "made_up")
    monkeypatch.syspath_prepend(site)
    sha256 = weight_files.pin(base, "b")
    package = PackageBase(id="b", source="package", package="made-up", version="1.0", path="made_up", sha256=sha256)
    assert bases.resolve(package, tmp_path, tmp_path / "cache").digest == resolved(base).digest


def test_the_digest_of_shards_is_written_by_a_pin(base: Path) -> None:
    suite = base.parent / "suite.toml"
    suite.write_text(
        'version = 1\nname = "s"\ndescription = "d"\nprimary_metric = "accuracy"\n\n[text]\ntemplate = "{content}"\n'
        'max_length = 32\n\n[[split]]\nid = "test"\nsource = "file"\npath = "t.jsonl"\nformat = "jsonl"\n\n'
        '[[base]]\nid = "b"\nsource = "path"\npath = "base"\n\n[[model]]\nid = "m"\n'
        'backend = "transformer"\nbase = "b"\n'
        'seeds = [1]\nprecision = "fp32"\n\n[[metric]]\nname = "accuracy"\n'
    )
    assert len(pins.add_missing(suite, base.parent / "cache")) == 1
    (made,) = load(suite).base
    assert isinstance(made, PathBase)
    assert made.sha256 == weight_files.pin(base, "b")
    assert bases.resolve(made, base.parent, base.parent / "cache").digest == resolved(base).digest


def test_tensors_are_read_one_at_a_time(base: Path, tiny_base: Path) -> None:
    read = weight_files.tensors(base)
    assert isinstance(read, Iterator)
    whole = load_file(tiny_base / "model.safetensors")
    found = dict(read)
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[name], whole[name]) for name in whole)
