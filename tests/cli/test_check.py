"""One command from an adapter and a data file to a verdict and a site, drafts of suites, and pins that nobody types."""

import csv
import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts import digest
from harness.data import lock
from harness.data.sniff import sniff
from harness.errors import DataError
from harness.suite.load import load
from tests import worlds
from tests.fixtures import finished_beside

PLAIN_PEFT = """
import json, sys
import torch
from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

base, rows, folder = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
torch.manual_seed(0)
tokenizer = AutoTokenizer.from_pretrained(base)
network = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
config = LoraConfig(task_type=TaskType.SEQ_CLS, r=4, lora_alpha=8, target_modules=["query", "value"])
network = get_peft_model(network, config)
optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
for _ in range(12):
    for start in range(0, len(rows), 16):
        batch = rows[start : start + 16]
        encoded = tokenizer([row["content"] for row in batch], padding=True, return_tensors="pt")
        network(**encoded, labels=torch.tensor([row["label"] for row in batch])).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
network.save_pretrained(folder)
"""
"""A script that somebody else runs: it does not know this project."""


@pytest.fixture(scope="module")
def my_lora(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA folder made by plain PEFT."""
    folder = tmp_path_factory.mktemp("elsewhere") / "My LoRA"
    rows = json.dumps(worlds.rows(160, 5000))
    subprocess.run([sys.executable, "-c", PLAIN_PEFT, str(tiny_base), rows, str(folder)], check=True, timeout=300)
    return folder


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """A CSV as somebody writes it: other names, words for labels, semicolons, some neutral."""
    path = tmp_path / "elsewhere" / "reviews.csv"
    path.parent.mkdir()
    with path.open("w", newline="", encoding="cp1252") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["id", "text", "sentiment"])
        for i, row in enumerate(worlds.rows(80, 1000)):
            writer.writerow([i, row["content"], ["neg", "pos"][row["label"]]])
        writer.writerow([80, "naïve", "neutral"])
    return path


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which the commands run."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HARNESS_DB", "runs/harness.duckdb")
    return folder


def test_one_command_in_an_empty_folder_gives_a_suite_a_verdict_and_a_site(
    harness: Callable[..., Any], my_lora: Path, tiny_base: Path, reviews: Path, empty: Path
) -> None:
    monkey = ["check", my_lora, "--base", tiny_base, "--data", reviews, "--workers", 1, "--db", "runs/harness.duckdb"]
    result = harness(*monkey)
    assert result.code == 0, result.err
    assert "my-lora is better than its base with an untrained head, which is chance: accuracy" in result.out
    assert "Its gates pass. Training rows (--train FILE)" in result.out
    assert {path.name for path in empty.iterdir()} == {
        "my-lora.toml",
        "my-lora.lock",
        "adapters",
        "data",
        "runs",
        "site",
    }
    assert (empty / "site" / "index.html").is_file()
    for said in (
        "cp1252",
        "separated by semicolons",
        "'neutral' 1",
        "max_length: 16",
        "what adapter 'my-lora' was trained on",
    ):
        assert said in result.err, said
    suite = load(empty / "my-lora.toml")
    assert [model.backend for model in suite.model] == ["peft", "transformer"]
    assert lock.read(empty / "my-lora.lock") is not None
    again = harness(*monkey, "--json")
    assert again.code == 0
    assert again.json()["results"][0]["n"] == 80
    (empty / "my-lora.toml").write_text((empty / "my-lora.toml").read_text() + "\n# mine\n")
    refused = harness(*monkey)
    assert refused.code == 2
    assert "is there already and is not the suite that would be written" in refused.err


def test_with_training_rows_the_adapter_is_held_against_a_probe_and_words(
    harness: Callable[..., Any], my_lora: Path, tiny_base: Path, reviews: Path, empty: Path
) -> None:
    worlds.write_rows(empty / "train.jsonl", worlds.rows(60, 9000))
    result = harness("init", my_lora, "--base", tiny_base, "--data", reviews, "--train", "train.jsonl", "--json")
    assert result.code == 0, result.err
    suite = load(empty / "my-lora.toml")
    assert [model.id for model in suite.model] == ["my-lora", "base-untrained", "base-probe", "tfidf", "majority"]
    (gate,) = suite.gate
    assert gate.superior_to is not None
    assert (gate.superior_to.model, gate.min) == ("base-probe", 0.5)
    assert suite.train_split_ids == {"train"}


def test_a_finished_classifier_is_checked_as_it_is(
    harness: Callable[..., Any], tiny_base: Path, reviews: Path, empty: Path
) -> None:
    result = harness(
        "check", finished_beside(tiny_base), "--data", reviews, "--workers", 1, "--db", "runs/harness.duckdb", "--json"
    )
    assert result.code in (0, 1), result.err
    found = result.json()
    assert "reaches an accuracy" in found["verdict"]
    assert any("outputs: negative negative, positive positive; by their names" in choice for choice in found["choices"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("nowhere", "--data", "@"), "there is no such file or folder, and it is no name on the hub"),
        (("@/..", "--data", "@"), "has neither adapter_config.json nor config.json"),
        (("LORA", "--data", "absent.csv", "--base", "BASE"), "there is no such file, and it is no name on the hub"),
        (("LORA", "--data", "@", "--base", "nothing"), "there is no such folder, and it is no name on the hub"),
        (("LORA", "--data", "@", "--base", "BASE", "--columns", "content"), "is not written as in a suite"),
        (("LORA", "--data", "topics.csv", "--base", "BASE"), "--labels 'negative = …, positive = …'"),
        (("LORA", "--data", "numbers.csv", "--base", "BASE"), "no column looks like the content"),
    ],
)
def test_what_cannot_be_drafted_is_refused_and_nothing_is_written(
    harness: Callable[..., Any],
    my_lora: Path,
    tiny_base: Path,
    reviews: Path,
    empty: Path,
    words: tuple[str, ...],
    expected: str,
) -> None:
    (empty / "topics.csv").write_text("text,label\na story,sport\nanother,politics\n")
    (empty / "numbers.csv").write_text("a,label\n1,0\n2,1\n")
    before = sorted(path.name for path in empty.iterdir())
    named = {"LORA": str(my_lora), "BASE": str(tiny_base), "@": str(reviews), "@/..": str(reviews.parent)}
    result = harness("init", *(named.get(word, word) for word in words), "--db", "runs/harness.duckdb")
    assert result.code == 2, result.err
    assert expected in " ".join(result.err.split())
    assert sorted(path.name for path in empty.iterdir()) == before


def test_an_adapter_for_another_task_is_refused(
    harness: Callable[..., Any], my_lora: Path, tiny_base: Path, reviews: Path, empty: Path
) -> None:
    shutil.copytree(my_lora, empty / "other")
    config = json.loads((empty / "other" / "adapter_config.json").read_text()) | {"task_type": "CAUSAL_LM"}
    (empty / "other" / "adapter_config.json").write_text(json.dumps(config))
    result = harness("init", "other", "--base", tiny_base, "--data", reviews)
    assert result.code == 2
    assert "was trained for the task CAUSAL_LM" in result.err


# One file


def test_one_file_is_audited_without_a_suite_and_nothing_is_stored(
    harness: Callable[..., Any], reviews: Path, empty: Path
) -> None:
    result = harness("data", reviews)
    assert result.code == 0, result.err
    stated = result.out.partition("In a suite:")[2]
    (split,) = tomllib.loads(stated)["split"]
    assert split == {
        "id": "rows",
        "source": "file",
        "path": "reviews.csv",
        "format": "csv",
        "delimiter": ";",
        "encoding": "cp1252",
        "columns": {"content": "text", "label": "sentiment"},
        "labels": {"negative": "neg", "positive": "pos"},
    }
    assert "'neutral' 1" in result.err
    assert harness("data", reviews, "--json").json()["rows"]["n"] == 80
    assert harness("data", reviews, "--pin").code == 2
    assert list(empty.iterdir()) == []


def test_files_that_do_not_show_what_they_are_are_refused(tmp_path: Path) -> None:
    for name, content, expected in (
        ("absent.csv", None, "there is no such file"),
        ("empty.csv", b"", "neither commas, semicolons, tabs nor bars"),
        ("prose.txt", b"Once upon a time.\nThere was a file, it said.\n", "neither commas"),
        ("damaged.parquet", b"PAR1 and no more", "not readable as Parquet"),
        ("broken.jsonl", b'{"text": \n', "is not one JSON object"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=expected):
            sniff(tmp_path / name)


# Pins


def test_pins_that_are_missing_are_computed_and_written_and_everything_else_stays(
    harness: Callable[..., Any], world: worlds.World
) -> None:
    before = world.suite.read_text()
    pinned = tomllib.loads(before)
    lines = [line for line in before.splitlines() if not line.startswith("sha256")]
    world.suite.write_text("\n".join(lines) + "\n# the end\n")
    lock.path_for(world.suite).unlink()
    refused = harness("validate", world.suite)
    assert refused.code == 2
    assert "sha256: is required; `harness data --pin SUITE` computes it" in refused.err
    result = harness("data", "--pin", world.suite)
    assert result.code == 0, result.err
    assert tomllib.loads(world.suite.read_text()) == pinned
    assert world.suite.read_text().endswith("# the end\n")
    assert lock.read(lock.path_for(world.suite)) is not None
    digests = [base.sha256 for base in load(world.suite).base if base.source == "path"]
    assert digests[0] == digest.of_file(world.suite.parent / "base" / "model.safetensors")
    written = world.suite.read_bytes()
    assert harness("data", "--pin", world.suite).code == 0
    assert world.suite.read_bytes() == written


def test_a_pin_that_is_wrong_is_not_replaced(harness: Callable[..., Any], world: worlds.World) -> None:
    sha256 = digest.of_file(world.suite.parent / "base" / "model.safetensors")
    world.edit(sha256, "0" * 64)
    result = harness("data", "--pin", world.suite)
    assert "0" * 64 in world.suite.read_text()
    assert "but the suite pins" in result.err


def test_a_suite_that_is_laid_out_in_one_line_is_refused_with_the_pins(
    harness: Callable[..., Any], world: worlds.World
) -> None:
    lines = [line for line in world.suite.read_text().splitlines() if not line.startswith("sha256")]
    text = "\n".join(lines).replace('[[base]]\nid = "tiny"', '[["base"]]\nid = "tiny"')
    world.suite.write_text(text)
    result = harness("data", "--pin", world.suite)
    assert result.code == 2
    assert 'cannot be inserted; add base[0].sha256 = "' in result.err
    assert world.suite.read_text() == text
