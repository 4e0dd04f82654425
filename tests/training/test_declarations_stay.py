"""A declaration never differs from its file, whatever is done with it: keys and digests are made from it repeatedly."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.engine import ENGINES
from harness.engine.scheduler import Scheduler
from harness.evaluation import parity
from harness.evaluation.evaluate import bring_up_to_date
from harness.evaluation.inputs import Workspace, gather
from harness.evaluation.plan import checks
from harness.gates.service import judge_stored
from harness.models.peft import without_known_warnings
from harness.models.transformer import untrained
from harness.progress import silent
from harness.suite.load import load
from harness.training import methods, plan, preflight

pytestmark = pytest.mark.slow

Command = Callable[..., Any]

ROOT = Path(__file__).parents[2]

MUTABLE = (
    '{ r = 4, lora_alpha = 8, target_modules = ["value", "query"], modules_to_save = ["pooler"], '
    "rank_pattern = { query = 2 } }"
)
"""Lists and a table, which PEFT is known to extend in place."""


@pytest.fixture
def saving_more(suite_path: Path) -> Path:
    """The made-up suite, its LoRA with one seed and more params that are lists and tables."""
    text = suite_path.read_text()
    before = '{ r = 4, lora_alpha = 8, target_modules = ["query", "value"] }'
    assert before in text
    suite_path.write_text(text.replace(before, MUTABLE).replace("seeds = [1, 2]", "seeds = [1]"))
    return suite_path


def test_no_verb_changes_a_loaded_suite(configured: Any, saving_more: Path, tmp_path: Path) -> None:
    suite, workspace = load(saving_more), Workspace(saving_more, tmp_path / "runs" / "harness.duckdb")
    whole, digest = copy.deepcopy(suite), suite.digest

    def check(verb: str) -> None:
        assert suite == whole, verb
        assert suite.digest == digest, verb

    for _ in range(2):
        with ENGINES["local"](1, silent) as map_unordered:  # one worker: all in this process, on these very objects
            _, report = bring_up_to_date(suite, workspace, map_unordered)
            check("evaluate")
            assert report.failed == []
            held = checks(suite, gather(suite, workspace), workspace, variants=(parity.RELOADED, parity.MERGED))
            scheduler = Scheduler(map_unordered)
            (made,) = scheduler.run([parity.bring_up_to_date(held, workspace, scheduler)])
            assert all(one.passed for one in made)
            check("parity")
        assert judge_stored(suite, workspace).passed
        check("gate")
    assert report.scored == []


def test_params_are_copied_before_peft_has_them(configured: Any, saving_more: Path, tmp_path: Path) -> None:
    suite, workspace = load(saving_more), Workspace(saving_more, tmp_path / "runs" / "harness.duckdb")
    materials = gather(suite, workspace)
    job = plan.jobs(suite, materials.splits, materials.bases, workspace.adapters)[0]
    before = json.dumps(job.adapter.params)
    assert preflight.misfit(job) is None
    with without_known_warnings():
        network = methods.apply(job.adapter, untrained(job.base.folder, 1), 8)
    network.peft_config["default"].rank_pattern["value"] = 3
    assert json.dumps(job.adapter.params) == before


def test_every_verb_comes_to_the_same_twice(harness: Command, saving_more: Path, tmp_path: Path) -> None:
    verbs: list[tuple[object, ...]] = [
        ("validate", saving_more),
        ("data", saving_more),
        ("train", saving_more, "--workers", 1),
        ("evaluate", saving_more, "--workers", 1),
        ("parity", saving_more, "--model", "tiny+lora", "--workers", 1),
        ("gate", saving_more),
        ("plan", saving_more),
        ("compare", saving_more, "tiny+lora", "tfidf"),
        ("baseline", "set", "main", saving_more, "--force"),
        ("ls",),
        ("site", saving_more, "--out", tmp_path / "site"),
    ]
    for verb in verbs:
        for _ in range(2):
            result = harness(*verb)
            assert result.code == 0, (verb, result.err)
    assert "scored 0" in harness("evaluate", saving_more, "--workers", 1).err


@pytest.mark.parametrize("path", sorted((ROOT / "suites").glob("*.toml")), ids=lambda path: path.stem)
def test_a_suite_of_this_repository_is_valid_twice_and_stays_as_it_was(harness: Command, path: Path) -> None:
    """Its data are elsewhere; the quickstart's are evaluated twice by the main job."""
    whole = load(path)
    before = copy.deepcopy(whole)
    for _ in range(2):
        assert harness("validate", path).code == 0
    assert whole == before == load(path)
