"""Stored results in the forms of others: read back by their libraries, and by this harness to the last digit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard
from typer.testing import CliRunner

from harness import api
from harness.artifacts import digest
from harness.cli import app
from harness.interchange import to_eval_ever, to_model_index
from harness.interchange.results import Result
from harness.records import Outcomes, Run, Split
from harness.stats import estimates
from tests.fixtures import RESOURCES
from tests.interchange import written

SUITE = (RESOURCES / "counted_suite.toml").read_text(encoding="utf-8")


def rows(thing: str, n: int) -> list[dict[str, Any]]:
    return [
        {"label": i % 2, "content": f"the {thing} {i} is {'great' if (i % 2) ^ (i % 7 == 0) else 'awful'} — “so”"}
        for i in range(n)
    ]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> api.Project:
    """A suite of two models without seeds, evaluated once."""
    folder = tmp_path_factory.mktemp("handed-out")
    for name, n in (("train", 40), ("test", 28)):
        written.lines(folder / f"{name}.jsonl", rows(name, n))
    (folder / "suite.toml").write_text(SUITE)
    made = api.open(folder / "suite.toml", folder / "runs" / "harness.duckdb")
    report = api.evaluate(made, workers=1)
    assert not report.failed
    return made


def command(project: api.Project, *words: object) -> Any:
    return CliRunner().invoke(app, [*map(str, words), "--db", str(project.db)], catch_exceptions=False)


def test_instances_that_were_exported_are_taken_in_to_the_last_digit(project: api.Project, tmp_path: Path) -> None:
    result = command(project, "export", project.path, "--to", "every-eval-ever", "--out", tmp_path, "--model", "tfidf")
    assert result.exit_code == 0, result.stderr
    assert "1 result in 2 files" in result.stdout
    (instances,) = tmp_path.rglob("*_samples.jsonl")
    copy = tmp_path / "suite"
    copy.mkdir()
    for name in ("suite.toml", "train.jsonl", "test.jsonl"):
        (copy / name).write_bytes((project.path.parent / name).read_bytes())
    taken = api.import_answers(api.open(copy / "suite.toml", tmp_path / "x.duckdb"), "again", [instances])
    scores = [json.loads(line)["score"] for line in taken.path.read_text().splitlines()]
    assert scores == list(api.predictions(project, models=["tfidf"])["score"])
    assert "example ids in sample_id" in taken.notes[0] or "texts in input.raw" in taken.notes[0]


def test_an_aggregate_of_every_eval_ever_has_the_boards_numbers_intervals_methods_and_digests(
    project: api.Project, tmp_path: Path
) -> None:
    handed = api.export_results(project, "every-eval-ever", tmp_path)
    assert (handed.results, len(handed.files), handed.missing) == (2, 4, ())
    board = api.results(project).set_index(["model", "metric"])
    for path in tmp_path.rglob("*.json"):
        found = json.loads(path.read_text())
        name = found["model_info"]["name"]
        for one in found["evaluation_results"]:
            row = board.loc[name, one["metric_config"]["metric_id"]]
            interval = one["score_details"]["uncertainty"]["confidence_interval"]
            assert (one["score_details"]["score"], interval["lower"], interval["upper"]) == pytest.approx(
                (row["value"], row["ci_low"], row["ci_high"]), abs=1e-12
            )
        methods = {
            one["metric_config"]["metric_id"]: (
                one["score_details"]["uncertainty"]["confidence_interval"]["method"],
                one["score_details"]["uncertainty"].get("num_bootstrap_samples"),
            )
            for one in found["evaluation_results"]
        }
        assert methods["accuracy"] == ("Wilson score interval", None)
        assert methods["log_loss"] == ("percentile bootstrap over examples", 2000)
        beside = path.with_name(f"{path.stem}_samples.jsonl")
        stated = found["detailed_evaluation_results"]
        assert stated["checksum"] == digest.of_file(beside)
        assert stated["total_rows"] == len(beside.read_text().splitlines()) == 28
        assert stated["file_path"] == beside.relative_to(tmp_path).as_posix()
        details = found["model_info"]["additional_details"]
        assert details["split_digest"] == api.plan(project)[0].split.digest
        assert details["suite_digest"] == project.suite.digest


def test_the_library_of_every_eval_ever_finds_nothing_wrong(project: api.Project, tmp_path: Path) -> None:
    validator = pytest.importorskip("every_eval_ever.validator.validation_core")
    api.export_results(project, "every-eval-ever", tmp_path)
    for path in tmp_path.rglob("*.json*"):
        assert validator.validate_file(path).errors == []


def test_a_model_card_is_read_back_by_the_hubs_library(project: api.Project, tmp_path: Path) -> None:
    handed = api.export_results(project, "model-index", tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in handed.files] == ["majority/README.md", "tfidf/README.md"]
    board = api.results(project).set_index(["model", "metric"])
    card = ModelCard.load(tmp_path / "tfidf" / "README.md")
    assert card.data.model_name == "tfidf"
    assert [one.metric_type for one in card.data.eval_results] == ["accuracy", "f1", "log_loss"]
    for one in card.data.eval_results:
        row = board.loc["tfidf", one.metric_type]
        shown = (one.metric_value, one.metric_args["ci_low"], one.metric_args["ci_high"])
        assert shown == pytest.approx((row["value"], row["ci_low"], row["ci_high"]), abs=1e-12)
        assert one.dataset_args == {"split_digest": api.plan(project)[0].split.digest, "n": 28}
    assert "| test | accuracy | " in card.text


def test_the_same_results_have_the_same_files(project: api.Project, tmp_path: Path) -> None:
    for form in ("every-eval-ever", "model-index"):
        first = api.export_results(project, form, tmp_path / form).files
        before = {path: path.read_bytes() for path in first}
        assert {path: path.read_bytes() for path in api.export_results(project, form, tmp_path / form).files} == before


def test_an_unknown_form_a_store_without_results_and_a_file_in_the_way_are_refused(
    project: api.Project, tmp_path: Path
) -> None:
    result = command(project, "export", project.path, "--to", "model-card")
    assert result.exit_code == 2
    assert "there is no form 'model-card'" in result.stderr
    empty = api.open(project.path, tmp_path / "empty.duckdb")
    result = command(empty, "export", empty.path, "--to", "model-index", "--out", tmp_path / "out")
    assert result.exit_code == 2
    (tmp_path / "file").write_text("x")
    result = command(project, "export", project.path, "--to", "model-index", "--out", tmp_path / "file")
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()


@pytest.fixture
def of_two_seeds(
    project: api.Project, make_split: Callable[..., Split], make_run: Callable[..., Run]
) -> Callable[[bool], Result]:
    def made(store: bool) -> Result:
        split = make_split(12, clusters=[f"c{i // 2}" for i in range(12)])
        generator = np.random.default_rng(2)
        labels = np.array([example.label for example in split.examples])
        outcomes = []
        for _ in range(2):
            scores = generator.uniform(size=12)
            ids = tuple(example.example_id for example in split.examples)
            clusters = np.array([example.cluster for example in split.examples])
            outcomes.append(Outcomes(ids, labels, (scores > 0.5).astype(np.int64), scores, clusters))
        runs = tuple(make_run(split, run_key=f"{seed}" * 64, seed=seed) for seed in (1, 2))
        keys = [run.run_key for run in runs]
        metrics = tuple(
            estimates.summarise(name, outcomes, estimates.generator_for(keys)) for name in ("accuracy", "f1")
        )
        suite = project.suite.model_copy(
            update={"text": project.suite.text.model_copy(update={"store": store, "template": "{title}: {content}"})}
        )
        return Result(suite, suite.model[0], split, runs, tuple(outcomes), metrics)

    return made


def test_seeds_are_told_apart_and_clusters_are_named_in_the_method(of_two_seeds: Callable[[bool], Result]) -> None:
    result = of_two_seeds(True)
    (aggregate, instances) = to_eval_ever.files([result]).values()
    found = json.loads(aggregate)
    uncertainty = found["evaluation_results"][0]["score_details"]["uncertainty"]
    assert uncertainty["confidence_interval"]["method"] == (
        "percentile bootstrap over clusters of examples and seeds, widened as Student's t"
    )
    assert uncertainty["num_bootstrap_samples"] == 2000
    assert found["model_info"]["additional_details"]["seeds"] == "1 2"
    rows = [json.loads(line) for line in instances.splitlines()]
    assert [row["metadata"]["seed"] for row in rows] == ["1"] * 12 + ["2"] * 12
    assert rows[0]["input"]["raw"] == "Review 0: The 0th thing was bad."
    (card,) = to_model_index.files([result]).values()
    data: Any = ModelCard(card.decode()).data
    assert data.eval_results[0].metric_args["n_seeds"] == 2


def test_texts_that_may_not_be_stored_are_not_handed_out(of_two_seeds: Callable[[bool], Result]) -> None:
    made = to_eval_ever.files([of_two_seeds(False)]) | to_model_index.files([of_two_seeds(False)])
    assert not [name for name, data in made.items() if b"thing" in data or b"Review" in data]
