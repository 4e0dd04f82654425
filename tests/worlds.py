"""A world that is made and evaluated once, and copied by each test that breaks something in it.

Made-up reviews in files, a tiny real BERT, LoRA and a full fine-tuning on them, and gates that are green.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

from harness.artifacts import digest
from harness.cli import app
from harness.store import checksum, reader
from harness.store.connection import opened
from tests.fixtures import BAD, GOOD, RESOURCES, THINGS, finished_beside

GATES = """
[[gate]]
model = "tiny+lora"
split = "test"
metric = "accuracy"
min = 0.8
superior_to = { model = "majority", margin = 0.1 }
on_inconclusive = "fail"

[[gate]]
model = "tiny-full"
split = "test"
metric = "accuracy"
non_inferior_to = { model = "tiny+lora", margin = 0.2 }
max_flips = { model = "tiny+lora", share = 0.2 }
on_inconclusive = "fail"
"""
MIN = "tiny+lora on test: accuracy >= 0.8"
SUPERIOR = "tiny+lora on test: accuracy better than majority by more than 0.1"
NON_INFERIOR = "tiny-full on test: accuracy not worse than tiny+lora by more than 0.2"
FLIPS = "tiny-full on test: flips against tiny+lora <= 0.2"
ALL = {MIN, SUPERIOR, NON_INFERIOR, FLIPS}


def rows(n: int, seed: int) -> list[dict[str, Any]]:
    """Made-up reviews, half of them good, all different."""
    generator = np.random.default_rng(seed)
    made = []
    for i in range(n):
        words = generator.choice(GOOD if i % 2 else BAD, size=2)
        thing = generator.choice(THINGS)
        made.append({"label": i % 2, "content": f"the {thing} number {seed + i} is {words[0]} and {words[1]}"})
    return made


def write_rows(path: Path, many: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in many))


@dataclass
class World:
    """A folder with a suite, its rows, its base and what was made from them."""

    root: Path

    @property
    def suite(self) -> Path:
        return self.root / "suites" / "made-up.toml"

    @property
    def db(self) -> Path:
        return self.root / "runs" / "harness.duckdb"

    def adapter(self, name: str, seed: int) -> Path:
        """The folder of trained weights."""
        (folder,) = (self.root / "runs" / "adapters" / name).glob(f"seed-{seed}-*")
        return folder

    def command(self, *words: object) -> Any:
        """What a verb comes to."""
        return CliRunner().invoke(app, [*map(str, words), "--db", str(self.db)], catch_exceptions=False)

    def evaluate(self, *words: object) -> Any:
        return self.command("evaluate", self.suite, "--workers", 1, *words)

    def red(self, *words: object) -> dict[str, str]:
        """The reasons of the gates that fail the command, by rule."""
        result = self.command("gate", self.suite, "--json", *words)
        verdicts = json.loads(result.stdout)
        blocking = {verdict["gate_id"]: verdict["reason"] for verdict in verdicts if verdict["blocking"]}
        assert result.exit_code == (1 if blocking else 0)
        return blocking

    def edit(self, old: str, new: str) -> None:
        """Change the suite file."""
        text = self.suite.read_text()
        assert old in text
        self.suite.write_text(text.replace(old, new))

    def sql(self, statement: str) -> None:
        """Change the store behind the harness's back."""
        with opened(self.db) as connection:
            connection.execute(statement)

    def reseal(self) -> None:
        """Make the checksums anew, as if all runs had been scored and stored as they are now."""
        with opened(self.db) as connection:
            for run in [run for run in reader.all_runs(connection) if run.status == "success"]:
                found = reader.outcomes(connection, run.run_id)
                predictions = checksum.of_predictions(found.predicted, found.scores)
                connection.execute(
                    "UPDATE checksum SET predictions = ?, record = ? WHERE run_id = ?",
                    [predictions, checksum.of_record(run, predictions), run.run_id],
                )

    def site(self) -> Any:
        """What `harness site` comes to."""
        return self.command("site", self.suite, "--out", self.root / "site")


def make(tiny_base: Path, root: Path) -> World:
    """Everything trained, scored, pinned and green."""
    world = World(root)
    world.suite.parent.mkdir()
    shutil.copytree(tiny_base, world.suite.parent / "base")
    shutil.copytree(finished_beside(tiny_base), finished_beside(world.suite.parent / "base"))
    write_rows(world.suite.parent / "train.jsonl", rows(240, 0))
    write_rows(world.suite.parent / "test.jsonl", rows(100, 1000))
    head, _, tail = (RESOURCES / "made_up_suite.toml").read_text().partition("[[split]]")
    rest = tail.partition("[[base]]")[2].partition("[[gate]]")[0]
    splits = "".join(
        f'[[split]]\nid = "{name}"\nsource = "file"\npath = "{name}.jsonl"\nformat = "jsonl"\n\n'
        for name in ("train", "test")
    )
    base = {"BASE": "base", "BASE_SHA256": digest.of_file(tiny_base / "model.safetensors")}
    base["FINISHED_SHA256"] = digest.of_file(finished_beside(tiny_base) / "model.safetensors")
    for name, value in base.items():
        rest = rest.replace(f"@{name}@", value)
    world.suite.write_text(f"{head}{splits}[[base]]{rest}{GATES}")
    world.edit("epochs = 4, learning_rate = 1e-2", "epochs = 24, learning_rate = 1e-2")
    world.edit("epochs = 2, learning_rate = 1e-3", "epochs = 8, learning_rate = 2e-3")
    world.edit("batch_size = 16", "batch_size = 48")
    assert world.command("data", world.suite).exit_code == 0
    result = world.evaluate()
    assert result.exit_code == 0, result.stderr
    return world
