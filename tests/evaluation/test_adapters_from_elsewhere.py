"""An adapter that somebody else trained, from the suite file to the board, and what makes its stored scores stale."""

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.artifacts import digest
from harness.cli import app
from harness.evaluation.inputs import Workspace, gather
from harness.evaluation.plan import plan
from harness.store.connection import opened
from harness.suite.load import load
from harness.training import plan as training_plan
from tests.models.test_adapter_sabotage import (
    CARD,
    CONFIG,
    HEAD,
    TRAINED,
    WEIGHTS,
    file_split,
    foreign,
    lora,
    path_base,
    save_adapter,
    tensors,
)
from tests.worlds import rows, write_rows

pytestmark = pytest.mark.slow

GATES = """
[[gate]]
model = "theirs"
split = "test"
metric = "accuracy"
min = 0.0
max_size_bytes = 1000000
on_inconclusive = "fail"
"""
TRAINED_MODEL = '[[model]]\nid = "trained"\nbackend = "peft"\nadapter = "lora"\nprecision = "fp32"\n'
MIN = "theirs on test: accuracy >= 0.0"
UNKNOWN = "warning: theirs on test: what adapter 'theirs' was trained on is unknown"


@dataclass
class World:
    """A folder with a suite and its store."""

    root: Path

    @property
    def here(self) -> Path:
        return self.root / "suites"

    @property
    def suite(self) -> Path:
        return self.here / "elsewhere.toml"

    @property
    def theirs(self) -> Path:
        return self.here / "adapters" / "theirs"

    def command(self, verb: str, *words: object) -> Any:
        db = self.root / "runs" / "harness.duckdb"
        many = [verb, str(self.suite), "--db", str(db), *map(str, words)]
        return CliRunner().invoke(app, many, catch_exceptions=False)

    def evaluate(self, *words: object) -> Any:
        return self.command("evaluate", "--workers", 1, *words)

    def reasons(self) -> dict[str, str]:
        """What every gate says."""
        verdicts = json.loads(self.command("gate", "--json").stdout)
        return {verdict["gate_id"]: verdict["reason"] for verdict in verdicts}

    def write(self, *, adapter: Path | None = None) -> None:
        """The suite, with the adapter pinned as it is now."""
        folder = adapter or self.theirs
        declared = foreign("theirs", folder, path=str(folder.relative_to(self.here)))
        splits = file_split("train") + file_split("test")
        base = path_base("tiny", self.here / "base")
        self.suite.write_text(HEAD + splits + base + TRAINED + TRAINED_MODEL + declared + GATES)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with opened(self.root / "runs" / "harness.duckdb") as connection:
            return connection.execute(query).fetchall()


@pytest.fixture(scope="module")
def evaluated(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """One adapter trained here and one made elsewhere, both scored."""
    world = World(tmp_path_factory.mktemp("elsewhere"))
    world.here.mkdir()
    shutil.copytree(tiny_base, world.here / "base")
    write_rows(world.here / "train.jsonl", rows(64, 0))
    write_rows(world.here / "test.jsonl", rows(20, 1000))
    save_adapter(world.here / "base", world.theirs, lora())
    world.write()
    result = world.evaluate()
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count(UNKNOWN) == 1
    return world


@pytest.fixture
def world(evaluated: World, tmp_path: Path) -> World:
    """A copy to be changed."""
    shutil.copytree(evaluated.root, tmp_path / "copy")
    return World(tmp_path / "copy")


def test_it_is_one_run_without_a_seed_and_what_nobody_told_is_absent(world: World) -> None:
    ((seed, digest),) = world.rows("SELECT seed, adapter_digest FROM run WHERE model_id = 'theirs'")
    assert seed is None
    ((method, params, *absent, size),) = world.rows(
        f"""SELECT method, params, trained_on, n_trainable, seed, train_seconds, peak_bytes, size_bytes
            FROM adapter WHERE adapter_digest = '{digest}'"""  # noqa: S608 (our own)
    )
    assert method == "lora"
    said = json.loads(params)
    assert (said["r"], said["lora_alpha"], sorted(said["target_modules"])) == (4, 8, ["query", "value"])
    assert absent == [None] * 5
    assert size == sum((world.theirs / name).stat().st_size for name in (WEIGHTS, CONFIG))


def test_its_size_can_be_limited_and_its_gates_judged(world: World) -> None:
    reasons = world.reasons()
    assert "bytes, limit 1,000,000" in reasons["theirs on test: size_bytes <= 1000000"]
    assert world.command("gate").exit_code == 0


def test_the_board_shows_a_dash_and_says_that_its_training_is_unknown(world: World) -> None:
    assert world.command("site", "--out", world.root / "site").exit_code == 0
    assert "trained on unknown texts" in (world.root / "site" / "index.html").read_text()
    page = (world.root / "site" / "from-elsewhere" / "theirs.html").read_text()
    assert "trained on unknown texts" in page
    assert "unknown" not in (world.root / "site" / "from-elsewhere" / "trained.html").read_text()


def test_nothing_is_done_twice(world: World) -> None:
    assert "scored 0, already stored 2" in world.evaluate().stderr


def test_train_trains_the_others_only(world: World) -> None:
    assert [row["adapter_id"] for row in json.loads(world.command("train", "--json").stdout)] == ["lora"]
    result = world.command("train", "--adapter", "theirs")
    assert result.exit_code == 2
    assert "there is no adapter to train 'theirs' (known: lora)" in result.stderr


def test_weights_that_were_overwritten_in_place_are_not_the_pinned_ones(world: World) -> None:
    tensors(lambda t: {name: tensor + 1 for name, tensor in t.items()})(world.theirs)
    reasons = world.reasons()
    assert "but the suite pins" in reasons[MIN]
    result = world.evaluate()
    assert result.exit_code == 3
    assert "already stored 1, failed 1" in result.stderr
    world.write()
    assert "is stale: it was last scored with another adapter.sha256" in world.reasons()[MIN]
    assert world.evaluate().exit_code == 0


def test_a_configuration_that_was_edited_in_place_makes_its_scores_stale(world: World) -> None:
    values = json.loads((world.theirs / CONFIG).read_text())
    (world.theirs / CONFIG).write_text(json.dumps(values | {"lora_alpha": 80}))
    reason = world.reasons()[MIN]
    assert "is stale: it was last scored with another adapter_digest;" in reason


def test_a_template_makes_scores_stale_and_a_comment_or_another_folder_does_not(world: World) -> None:
    world.suite.write_text("# A comment.\n" + world.suite.read_text())
    world.theirs.rename(world.here / "moved")
    world.suite.write_text(world.suite.read_text().replace('"adapters/theirs"', '"moved"'))
    assert "scored 0, already stored 2" in world.evaluate().stderr
    world.suite.write_text(world.suite.read_text().replace('template = "{content}"', 'template = "{content}."'))
    assert "is stale: it was last scored with another text.template" in world.reasons()[MIN]


def keys(world: World) -> tuple[list[Any], str]:
    """Under what adapters and runs are kept, and the suite's digest."""
    suite, workspace = load(world.suite), Workspace(world.suite, world.root / "runs" / "harness.duckdb")
    materials = gather(suite, workspace)
    trained = training_plan.jobs(suite, materials.splits, materials.bases, workspace.adapters)
    planned = plan(suite, materials, workspace)
    assert (len(trained), len(planned)) == (1, 2)
    return [
        *((job.key, job.folder) for job in trained),
        *((job.run_key, job.configuration, job.spec, job.blocked) for job in planned),
    ], suite.digest


def test_how_many_trials_there_were_is_on_the_board_and_makes_nothing_stale(world: World) -> None:
    before, without = keys(world)
    told = world.suite.read_text().replace('base = "tiny"\n', 'base = "tiny"\ntrials = 7\n')
    world.suite.write_text(told)
    assert [adapter.trials for adapter in load(world.suite).adapter] == [7, 7]
    after, stated = keys(world)
    assert after == before
    assert stated != without, "it is declared, so it is in the suite's own digest"
    said = world.evaluate().stderr
    assert "scored 0, already stored 2" in said
    assert world.command("site", "--out", world.root / "site").exit_code == 0
    board = csv.DictReader((world.root / "site" / "from-elsewhere" / "board.csv").read_text().splitlines())
    assert [row["trials"] for row in board] == ["7", "7"]
    assert world.command("site", "--out", world.root / "site", "--check").exit_code == 0


def test_scoring_code_that_was_edited_makes_scores_stale_and_a_comment_in_it_does_not(world: World) -> None:
    code = world.root / "code"
    for package in ("harness", "leaderboard"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(Path(__file__).parents[2] / package, code / package, ignore=ignored)

    def gate() -> tuple[int, str]:
        words = ["gate", world.suite, "--db", world.root / "runs" / "harness.duckdb"]
        done = subprocess.run(
            [sys.executable, "-m", "harness", *map(str, words)], cwd=code, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout

    edited = code / "harness" / "models" / "encoding.py"
    _, _, after_its_docstring = edited.read_text().split('"""', 2)
    edited.write_text(f'"""Said otherwise."""\n# A comment.\n{after_its_docstring}')
    assert gate()[0] == 0
    source = edited.read_text()
    edited.write_text(source.replace("TOKENS_PER_BATCH = 2048", "TOKENS_PER_BATCH = 1024"))
    assert edited.read_text() != source
    code_and_words = gate()
    assert code_and_words[0] == 1
    assert "another scoring_code" in " ".join(code_and_words[1].split())


def trained_here(world: World) -> Path:
    """A copy, below the suite, of the adapter that the harness trained, with its card."""
    (folder,) = (world.root / "runs" / "adapters" / "lora").glob("seed-*")
    copy = world.here / "adapters" / "carded"
    shutil.copytree(folder, copy)
    return copy


def test_an_adapter_with_our_card_is_known(world: World) -> None:
    world.write(adapter=trained_here(world))
    result = world.evaluate()
    assert result.exit_code == 0
    assert "is unknown" not in result.stderr
    found = world.rows("SELECT adapter_digest, train_seconds FROM run JOIN adapter USING (adapter_digest)"
                       " WHERE model_id IN ('theirs', 'trained') ORDER BY run.started_at DESC LIMIT 2")  # fmt: skip
    assert found[0][1] is not None


def test_a_card_that_does_not_pin_its_list_of_texts_leaves_open_what_was_seen(world: World) -> None:
    folder = trained_here(world)
    card = json.loads((folder / CARD).read_text())
    del card["trained_on"]["sha256"]
    (folder / CARD).write_text(json.dumps(card))
    world.write(adapter=folder)
    result = world.evaluate()
    assert result.exit_code == 0
    assert "what adapter 'theirs' was trained on is unknown" in result.stderr


def test_an_adapter_that_says_it_has_seen_a_scored_text_is_refused(world: World) -> None:
    folder = trained_here(world)
    text_digest = world.rows("SELECT text_digest FROM example JOIN split USING (digest) WHERE split_id = 'test'")[0][0]
    seen = (folder / "trained-on.txt").read_text().split()
    (folder / "trained-on.txt").write_text("\n".join([text_digest, *seen[1:]]) + "\n")
    world.write(adapter=folder)
    assert "is not the list of texts that its card pins" in world.evaluate().stderr
    card = json.loads((folder / CARD).read_text())
    card["trained_on"]["sha256"] = digest.of_file(folder / "trained-on.txt")
    (folder / CARD).write_text(json.dumps(card))
    result = world.evaluate()
    assert result.exit_code == 3
    assert "adapter 'theirs'" in result.stderr
    assert (folder / CARD).is_file()
