"""A device from the command line to the workers, the store and the board."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import harness as api
from harness.cli import app
from harness.gates.judge import KINDS, Unjudgeable
from harness.suite.rules import Throughput
from leaderboard.pages.board_table import devices
from tests import stand_in
from tests.fixtures import Index, Result
from tests.processes import run
from tests.stand_in import isolated

pytestmark = pytest.mark.slow

MODELS = ("tfidf", "untrained", "probe", "tiny+lora", "tiny-full", "finished")
CHOSEN = [word for model in MODELS for word in ("--model", model)]


def evaluate(suite: Path, db: Path, *words: object) -> Result:
    done = CliRunner().invoke(app, ["evaluate", str(suite), "--db", str(db), *CHOSEN, *map(str, words)])
    return Result(done.exit_code, done.stdout, done.stderr)


def compare_scores(suite: Path, db: Path) -> None:
    """Compare the stored scores of both devices."""
    here, there = (api.predictions(api.open(suite, db, kind), models=MODELS) for kind in ("cpu", stand_in.NAME))
    assert list(here["model"]) == list(there["model"])
    assert set(here["model"]) == set(MODELS)
    trained = here["model"].isin(["tiny+lora", "tiny-full"])  # dropout draws other numbers on another device
    difference = np.abs(here["score"] - there["score"])
    assert difference[~trained].max() <= 1e-5
    assert difference[trained].max() > 0


@isolated
def test_a_suite_is_trained_scored_and_shown_on_a_device(configured: Index, suite_path: Path, tmp_path: Path) -> None:
    os.environ["PIP_INDEX_URL"] = configured.url
    db = tmp_path / "runs" / "harness.duckdb"
    for kind in ("cpu", stand_in.NAME):
        done = evaluate(suite_path, db, "--device", kind, "--workers", 1)
        assert done.code == 0, done.err + done.out
    compare_scores(suite_path, db)
    project = api.open(suite_path, db, stand_in.NAME)
    runs = {model: found for (model, _), found in api.evidence(project, models=MODELS).runs.items()}
    assert {runs[model][0].spec.get("device") for model in MODELS} == {None, stand_in.NAME}
    assert "device" not in runs["tfidf"][0].hardware
    assert runs["probe"][0].hardware["device_name"] == "Stand-in"
    again = evaluate(suite_path, db, "--device", stand_in.NAME, "--workers", 1)
    assert "scored 0, already stored" in again.err
    api.render(project, tmp_path / "site")
    pages = "".join(path.read_text() for path in (tmp_path / "site").rglob("*.html"))
    assert "Stand-in" in pages
    entries = {entry.model_id: entry for entry in api.board(project).sections[0].entries}
    assert (devices(entries["probe"]), devices(entries["tfidf"])) == (stand_in.NAME, "")


def test_workers_in_processes_of_their_own_use_the_device(configured: Index, suite_path: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("from tests import stand_in\n\nstand_in.register()\n")
    db = tmp_path / "runs" / "harness.duckdb"
    words = ["evaluate", suite_path, "--db", db, *CHOSEN, "--workers", 2]
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(root)])}
    done = run([[*words, "--device", stand_in.NAME], [*words, "--device", "cpu"]], environment)
    assert done.codes == [0, 0], done.err.decode()
    script = (
        "from tests.evaluation.test_devices import compare_scores; from pathlib import Path; import sys; "
        "compare_scores(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    subprocess.run([sys.executable, "-c", script, suite_path, db], env=environment, check=True)


def test_timings_of_two_kinds_of_device_are_not_compared(evaluated: Path, harness: Callable[..., Result]) -> None:
    assert (
        harness("evaluate", evaluated, "--model", "tfidf", "--model", "majority", "--fresh", "--workers", 1).code == 0
    )
    found = api.evidence(api.open(evaluated, os.environ["HARNESS_DB"]), models=["tfidf", "majority"])
    runs = dict(found.runs)
    moved = {**runs["tfidf", "test"][0].spec, "device": "cuda"}
    runs["tfidf", "test"] = (replace(runs["tfidf", "test"][0], spec=moved),)
    rule = Throughput("g", "min_throughput", "tfidf", "test", 0.5, False, reference="majority")
    with pytest.raises(Unjudgeable, match=r"timed on different devices \(cuda, the processor\), which cannot be"):
        KINDS[rule.kind](rule, replace(found, runs=runs))
