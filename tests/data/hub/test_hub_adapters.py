"""Adapters on the hub over real HTTP: each at its own commit, apart from its base's, held to what the hub states."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts import digest
from tests.data.hub.test_hub_dataset import FIRST, SECOND, Outcome, Workplace
from tests.models.test_adapter_sabotage import CONFIG, HEAD, WEIGHTS, file_split, lora, path_base, save_adapter
from tests.worlds import rows, write_rows

pytestmark = pytest.mark.slow

MODELS = {
    "theirs": ("own/theirs", FIRST, ""),
    "theirs-later": ("own/theirs", SECOND, ""),
    "theirs-pinned": ("own/theirs", FIRST, "@SHA256@"),
    "theirs-pinned-wrongly": ("own/theirs", SECOND, "@SHA256@"),
    "pickled": ("own/pickled", FIRST, ""),
    "full": ("own/full", FIRST, ""),
}


def suite_text(base: Path, sha256: str, models: dict[str, tuple[str, str, str]]) -> str:
    """A suite of adapters on the hub and a base in a folder."""
    parts = [HEAD, file_split("test"), path_base("tiny", base)]
    for name, (repo, revision, pinned) in models.items():
        pin = f'sha256 = "{sha256}"\n' if pinned else ""
        parts.append(f'[[adapter]]\nid = "{name}"\nbase = "tiny"\nsource = "hub"\nname = "{repo}"\n'
                     f'revision = "{revision}"\n{pin}[[model]]\nid = "{name}"\nbackend = "peft"\nadapter = "{name}"\n'
                     'precision = "fp32"\n')  # fmt: skip
    return "".join(parts)


@pytest.fixture(scope="module")
def outcomes(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory, loopback: Any) -> dict[str, Outcome]:
    """Evaluations with the hub and without it."""
    place = Workplace(tmp_path_factory.mktemp("hub-adapters"), loopback.url)
    base = place.folder / "base"
    base.mkdir()
    for file in tiny_base.iterdir():
        (base / file.name).write_bytes(file.read_bytes())
    write_rows(place.folder / "test.jsonl", rows(20, 1000))
    made = place.folder / "made"
    save_adapter(base, made, lora())
    files = {file.name: file.read_bytes() for file in made.iterdir()}
    config = json.loads(files[CONFIG])
    later = {**files, CONFIG: json.dumps(config | {"lora_alpha": 1}).encode()}
    files |= {"tokenizer.json": b"never read", "README.md": b"never read", "evil.py": b"raise SystemExit"}
    loopback.serve("models/own/theirs", {FIRST: files, SECOND: later | {WEIGHTS: files[WEIGHTS][:-4] + b"\1\1\1\1"}})
    loopback.serve("models/own/pickled", {FIRST: {CONFIG: files[CONFIG], "adapter_model.bin": b"a pickle"}})
    loopback.serve("models/own/full", {FIRST: {"config.json": b"{}", "model.safetensors": b"x" * 100}})
    sha256 = digest.of_file(made / WEIGHTS)
    (place.folder / "many.toml").write_text(suite_text(base, sha256, MODELS))
    gone = {"gone": ("own/theirs", "9" * 40, "")}
    (place.folder / "gone.toml").write_text(suite_text(base, sha256, gone))
    many = ["evaluate", "many.toml", "--db", "runs/harness.duckdb", "--workers", "1"]
    found = place.run({"many": many, "gone": ["evaluate", "gone.toml", "--db", "gone/x.duckdb", "--workers", "1"]})
    asked = {request.path for request in loopback.requests}
    assert not [path for path in asked if path.endswith((".py", ".md", "tokenizer.json", ".bin", "/model.safetensors"))]
    loopback.close()
    return found | place.run({"again": many, "models": ["ls", "--db", "runs/harness.duckdb", "--json"]})


def test_each_commit_is_a_competitor_of_its_own(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["many"].code == 3, outcomes["many"]
    assert "scored 3, already stored 0, failed 3" in outcomes["many"].err
    stored = {run["model_id"]: run for run in json.loads(outcomes["models"].out)}
    assert {stored[name]["status"] for name in ("theirs", "theirs-later", "theirs-pinned")} == {"success"}


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("theirs-pinned-wrongly", "but the suite pins"),
        ("pickled", "has no adapter_model.safetensors (weights found: adapter_model.bin); pickled weights are never"),
        ("full", "has no adapter_model.safetensors (weights found: model.safetensors)"),
    ],
)
def test_what_cannot_be_used_fails_alone(outcomes: dict[str, Outcome], model: str, said: str) -> None:
    (line,) = [line for line in outcomes["many"].err.splitlines() if line.startswith(f"failed: {model} on test: ")]
    assert said in line


def test_a_commit_that_is_gone_fails_its_own_model(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["gone"].code == 3
    assert (
        "failed: gone on test: adapter gone: model own/theirs at commit 999999999999: the hub has no such commit"
        in outcomes["gone"].err
    )


def test_what_was_fetched_once_needs_no_network(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["again"].code == 3
    assert "scored 0, already stored 3, failed 3" in outcomes["again"].err
