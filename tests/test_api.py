"""The public API on a real evaluation: the same numbers as the command line, the store and the site have."""

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import harness
from harness import api
from harness.errors import StoreError, SuiteError, UsageError
from harness.gates.power import Assumption

Command = Callable[..., Any]


@pytest.fixture
def project(configured: Any, suite_path: Path, tmp_path: Path) -> api.Project:
    """The made-up suite, its two cheapest models and one of several seeds evaluated."""
    opened = api.open(suite_path, tmp_path / "runs" / "harness.duckdb")
    evaluated = api.evaluate(opened, models=["tfidf", "majority", "untrained"], workers=1)
    assert (len(evaluated.scored), evaluated.failed) == (4, [])
    return opened


def test_opening_a_suite_fetches_and_stores_nothing(suite_path: Path, tmp_path: Path) -> None:
    project = api.open(str(suite_path), tmp_path / "elsewhere" / "x.duckdb")
    assert project.suite.name == "made-up"
    assert project.scored_splits == ("test",)
    assert not (tmp_path / "elsewhere").exists()


def test_the_store_is_the_one_that_the_environment_names(suite_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DB", "over/there.duckdb")
    assert api.open(suite_path).db == Path("over/there.duckdb")
    monkeypatch.delenv("HARNESS_DB")
    assert api.open(suite_path).db == Path("runs/harness.duckdb")


def test_a_suite_that_is_not_there_is_an_error_for_users(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"missing\.toml"):
        api.open(tmp_path / "missing.toml")


def test_the_package_loads_fast_and_alone() -> None:
    heavy = ("torch", "pandas", "numpy", "duckdb", "pydantic")
    code = f"import sys, harness; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_evaluating_again_scores_nothing_and_gives_the_same_results(project: api.Project) -> None:
    first = api.evaluate(project, models=["tfidf"], workers=1)
    assert (len(first.scored), len(first.reused)) == (0, 1)
    (row,) = first.results
    stored = api.results(project)
    (same,) = stored[(stored.model == "tfidf") & (stored.metric == "accuracy")].to_dict("records")
    assert (row["value"], row["ci_low"], row["ci_high"], row["n"]) == (
        same["value"], same["ci_low"], same["ci_high"], same["n"],
    )  # fmt: skip


def test_warnings_come_back_with_the_results(configured: Any, suite_path: Path, tmp_path: Path) -> None:
    evaluated = api.evaluate(api.open(suite_path, tmp_path / "x.duckdb"), models=["majority"], workers=1)
    assert any("no lock pins train, test" in warning for warning in evaluated.warnings)


def test_results_are_the_sites_downloads_row_by_row(project: api.Project, tmp_path: Path) -> None:
    found = api.results(project)
    site = api.render(project, tmp_path / "site")
    (name,) = [one for one in site.files if one.endswith(".parquet")]
    downloaded = pd.read_parquet(tmp_path / "site" / name)
    assert len(found) == len(downloaded) * len(project.suite.metric)
    for _, row in found.iterrows():
        (same,) = downloaded[(downloaded.split == row["split"]) & (downloaded.model == row["model"])].to_dict("records")
        costs = ("n", "n_seeds", "tier", "n_trainable", "size_bytes", "train_seconds", "examples_per_second")
        names = {"value": row["metric"], "ci_low": f"{row['metric']}_ci_low", "ci_high": f"{row['metric']}_ci_high"}
        for ours, theirs in [*names.items(), *zip(costs, costs, strict=True)]:
            assert (pd.isna(row[ours]) and pd.isna(same[theirs])) or row[ours] == same[theirs]
    assert found[found.model == "tiny+lora"].value.isna().all()  # declared and not run: absent, not 0


def test_predictions_are_those_that_metrics_are_made_of(project: api.Project) -> None:
    found = api.predictions(project, models=["untrained"])
    assert sorted(found.seed.unique()) == [1, 2]
    assert set(found.columns) == {"split", "model", "seed", "example", "label", "predicted", "score", "text"}
    assert ((found.score > 0.5).astype(int) == found.predicted).all()
    by_seed = found.assign(right=found.label == found.predicted).groupby("seed").right.mean()
    accuracy = api.results(project).query("model == 'untrained' and metric == 'accuracy'").value.item()
    assert np.isclose(by_seed.mean(), accuracy)
    assert found.text.str.contains("number").all()


def test_predictions_without_runs_are_an_empty_table(project: api.Project) -> None:
    found = api.predictions(project, models=["probe"])
    assert found.empty
    assert {"split", "model", "seed", "example", "label", "predicted", "score"} <= set(found.columns)


def test_judging_says_whether_the_gates_pass(project: api.Project, harness: Command) -> None:
    judged = api.judge(project)
    assert judged.passed == (harness("gate", project.path, "--db", project.db).code == 0)
    assert [verdict.outcome for verdict in judged.verdicts]


def test_a_comparison_is_the_one_of_the_command_line(project: api.Project, harness: Command) -> None:
    (found,) = api.compare(project, "untrained", "tfidf").comparisons
    printed = json.loads(harness("compare", project.path, "untrained", "tfidf", "--json", "--db", project.db).out)
    (same,) = printed["comparisons"]
    assert found.metrics[0].difference is not None
    assert found.metrics[0].difference.value == same["metrics"][0]["difference"]["value"]


def test_the_site_is_the_one_of_the_command_line(project: api.Project, harness: Command, tmp_path: Path) -> None:
    made = api.render(project, tmp_path / "site")
    assert (made.folder / "index.html").is_file()
    assert made.changed == len(made.files)
    again = harness("site", project.path, "--out", made.folder, "--db", project.db, "--json").json()
    assert (sorted(again["pages"]), again["changed"]) == (list(made.files), 0)


def test_the_power_of_gates_is_the_one_of_the_command_line(project: api.Project, harness: Command) -> None:
    printed = harness("plan", project.path, "--db", project.db, "--json").json()
    assert [asdict(row) for row in api.power(project)] == printed
    assumed = api.power(project, assumption=Assumption(value=0.9))
    assert [row.source for row in assumed] == ["guessed"]


def test_baselines_and_the_store_are_looked_after_as_on_the_command_line(
    project: api.Project, harness: Command, tmp_path: Path
) -> None:
    made, _ = api.set_baseline(project, "main", models=["tfidf"], splits=["test"])
    assert (made.models, made.runs, made.problem) == (["tfidf"], 1, None)
    assert api.baselines(project) == [made]
    (listed,) = harness("baseline", "ls", project.path, "--json").json()
    assert (listed["name"], listed["n"]) == ("main", made.n)
    with pytest.raises(UsageError, match="is there already"):
        api.set_baseline(project, "main", models=["tfidf"], splits=["test"])
    assert api.verify_store(project.db).problems == ()
    assert api.clear_store(project.db, dry_run=True).freed_bytes == 0
    exported = api.export_runs(project.db, tmp_path / "runs.bundle")
    taken = api.import_runs(tmp_path / "other" / "harness.duckdb", tmp_path / "runs.bundle")
    assert exported.rows["run"] == taken.rows["run"] == 4


@pytest.mark.parametrize("verb", ["baseline", "compare", "judge", "parity", "plan", "site", "store"])
def test_a_verb_owns_no_step_that_the_api_lacks(verb: str) -> None:
    """Its module imports the API, tables and output; from below only what it names an argument or a format by."""
    tree = ast.parse((Path(harness.__file__).parent / "cli" / f"{verb}.py").read_text())
    found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module is not None}
    below = {name for name in found if name.startswith(("harness.", "leaderboard."))}
    allowed = {"harness.api", "harness.errors", "harness.gates", "harness.gates.power", "leaderboard.site"}
    assert {name for name in below if not name.startswith(("harness.cli", "harness.output"))} <= allowed


@pytest.mark.parametrize(
    "ask",
    [
        lambda project: api.check_variants(project, models=["tfidf"]),
        lambda project: api.set_baseline(project, "main", models=["nobody"]),
        lambda project: api.evaluate(project, models=["nobody"]),
        lambda project: api.evaluate(project, splits=["train"]),
        lambda project: api.evaluate(project, engine="steam"),
        lambda project: api.predictions(project, models=["nobody"]),
        lambda project: api.compare(project, "tfidf", "nobody"),
        lambda project: api.compare(project, "tfidf", "tfidf"),
        lambda project: api.compare(project, "tfidf", "probe"),
    ],
)
def test_what_is_not_there_is_named(project: api.Project, ask: Callable[[api.Project], object]) -> None:
    with pytest.raises(UsageError, match=r"nobody|train|steam|itself|probe|tfidf"):
        ask(project)


def test_without_a_store_there_are_no_results(configured: Any, suite_path: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store"):
        api.results(api.open(suite_path, tmp_path / "none.duckdb"))
