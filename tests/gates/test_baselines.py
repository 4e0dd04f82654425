"""Baselines and the canary: what is kept beside a suite, what a rule is held against, and whose doing a difference is.

One small world is evaluated once: a model whose every weight was trained, a probe and counted words, and the baseline
`main` of them. Each test works on its own copy.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from harness import provenance
from harness.artifacts import digest
from harness.cli import app
from harness.evaluation.inputs import Workspace, gather
from harness.evaluation.plan import plan
from harness.gates import baseline_file, baselines, canary
from harness.gates.baseline_file import BaselineFile, BaselineRun, Unreadable
from harness.gates.service import judge_stored
from harness.records import Prediction, Split
from harness.stats import inference
from harness.suite.load import load
from harness.suite.schema import Precision
from tests.fixtures import finished_beside

Command = Callable[..., Any]
RESOURCES = Path(__file__).parents[1] / "resources"
GATE = """[[gate]]
model = "tiny-full"
split = "test"
metric = "accuracy"
non_inferior_to = { baseline = "main", margin = 0.2 }
on_inconclusive = "fail"
"""
"""Equal answers in the 16 clusters of `test` leave a difference of 3.84 / (16 + 3.84) = 0.194 open: 0.2 allows it."""
MODELS = ("tiny-full", "probe", "tfidf", "majority")
ALL = [word for model in MODELS for word in ("--model", model)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, index: Any, tiny_base: Path) -> Path:
    """A folder with a suite, its store and its baseline `main`."""
    folder = tmp_path_factory.mktemp("world")
    path = folder / "suites" / "made-up.toml"
    path.parent.mkdir()
    text = (RESOURCES / "made_up_suite.toml").read_text().split("[[gate]]")[0] + GATE
    base_sha256 = digest.of_file(tiny_base / "model.safetensors")
    finished_sha256 = digest.of_file(finished_beside(tiny_base) / "model.safetensors")
    pins = {"SHA256": index.sha256, "BASE_SHA256": base_sha256, "FINISHED_SHA256": finished_sha256}
    for name, value in {"BASE": str(tiny_base), **pins}.items():
        text = text.replace(f"@{name}@", value)
    path.write_text(text.replace("epochs = 2,", "epochs = 20,"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_INDEX_URL", index.url)
        patch.setenv("PIP_EXTRA_INDEX_URL", "")
        patch.setenv("HARNESS_DB", str(folder / "runs" / "harness.duckdb"))
        for words in (["evaluate", path, *ALL, "--workers", "1"], ["baseline", "set", "main", path, *ALL]):
            done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
            assert done.exit_code == 0, done.stderr
    return folder


@pytest.fixture
def suite_path(world: Path, tmp_path: Path) -> Path:
    """The suite, in this test's copy of the world."""
    shutil.copytree(world, tmp_path, dirs_exist_ok=True)
    return tmp_path / "suites" / "made-up.toml"


@pytest.fixture
def main(suite_path: Path) -> Path:
    """The file of the baseline `main`."""
    return baseline_file.path_of(suite_path, "main")


@pytest.fixture
def again(harness: Command, suite_path: Path) -> Callable[..., Any]:
    """Score the model anew, under run ids that the baseline does not hold."""

    def evaluate(*words: object) -> None:
        done = harness("evaluate", suite_path, "--model", "tiny-full", "--workers", "1", "--fresh", *words)
        assert done.code == 0, done.err

    return evaluate


def verdict(result: Any) -> dict[str, Any]:
    """The one verdict that `harness gate --json` printed."""
    (found,) = result.json()
    return dict(found)


def with_models(path: Path, *model_ids: str) -> None:
    """Leave only these models' runs in a baseline's file, through its own writer."""
    kept = baseline_file.read(path, "made-up")
    baseline_file.write(path, replace(kept, runs=tuple(run for run in kept.runs if run.model_id in model_ids)))


# Files

_words = st.text(st.characters(codec="utf-8"), max_size=8)
_names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=8)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def kept_runs(draw: st.DrawFn) -> tuple[BaselineRun, ...]:
    """Runs of different models, seeds and splits, with any scores."""
    places = st.tuples(_names, st.none() | st.integers(0, 2**32 - 1), _names)
    runs = []
    for model_id, seed, split_id in draw(st.lists(places, unique=True, max_size=3)):
        ids = draw(st.lists(_names, unique=True, max_size=4))
        scores = [draw(st.floats(0, 1)) for _ in ids]
        said = tuple(Prediction(one, int(score > 0.5), score) for one, score in zip(ids, scores, strict=True))
        spec = draw(st.dictionaries(_words, _values, max_size=3))
        runs.append(
            BaselineRun("run", "key", model_id, seed, split_id, "d", "c", draw(st.none() | _names), spec, {}, {}, said)
        )
    return tuple(runs)


@given(kept_runs(), st.datetimes(), st.none() | st.booleans())
def test_what_is_read_is_what_was_written_and_the_same_content_gives_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, runs: tuple[BaselineRun, ...], created_at: datetime, dirty: bool | None
) -> None:
    path = tmp_path_factory.mktemp("kept") / "s.main.parquet"
    kept = BaselineFile("s", "5" * 64, created_at, None, dirty, runs)
    baseline_file.write(path, kept)
    first = path.read_bytes()
    assert baseline_file.read(path, "s") == kept
    baseline_file.write(path, kept)
    assert path.read_bytes() == first
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_file_holds_ids_and_scores_and_neither_texts_nor_labels(main: Path, suite_path: Path) -> None:
    rows = pq.read_table(main)
    assert rows.column_names == ["model", "seed", "split", "example_id", "predicted", "score"]
    workspace = Workspace(suite_path, suite_path.parents[1] / "runs" / "harness.duckdb")
    split = gather(load(suite_path), workspace).splits["test"]
    assert set(rows["example_id"].to_pylist()) == {example.example_id for example in split.examples}
    whole = str(rows.to_pydict()) + str(pq.read_metadata(main).metadata)
    assert not [example for example in split.examples if example.content in whole]


def test_a_file_that_was_damaged_anywhere_is_never_taken_for_another_evaluation(main: Path, tmp_path: Path) -> None:
    kept, whole, damaged = baseline_file.read(main, "made-up"), main.read_bytes(), tmp_path / "damaged.parquet"
    for place in range(0, len(whole), 29):
        damaged.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            found = baseline_file.read(damaged, "made-up")
        except Unreadable:
            continue
        assert found == kept, place  # what the byte said is not read, such as the name of the writing library
    for length in range(0, len(whole), 997):
        damaged.write_bytes(whole[:length])
        with pytest.raises(Unreadable, match="is damaged or is no baseline"):
            baseline_file.read(damaged, "made-up")


def edited(path: Path, *, score: float | None = None, about: dict[str, Any] | None = None) -> None:
    """Change a file as one would with other tools, its digest left as it was."""
    rows, metadata = pq.read_table(path), dict(pq.read_metadata(path).metadata)
    if score is not None:
        scores = [score, *rows["score"].to_pylist()[1:]]
        rows = rows.set_column(5, "score", pa.array(scores))
    metadata[baseline_file.ABOUT] = json.dumps(json.loads(metadata[baseline_file.ABOUT]) | (about or {})).encode()
    with pq.ParquetWriter(path, rows.schema, store_schema=False) as writer:
        writer.write_table(rows)
        writer.add_key_value_metadata({key: metadata[key] for key in (baseline_file.ABOUT, baseline_file.DIGEST)})


def forged(path: Path, change: Callable[[Any, dict[str, list[Any]]], Any]) -> None:
    """Change a file and write the digest that fits, as somebody would who means harm."""
    rows, metadata = pq.read_table(path).to_pydict(), dict(pq.read_metadata(path).metadata)
    about = json.loads(metadata[baseline_file.ABOUT])
    about = change(about, rows) or about
    described(path, json.dumps(about), rows, digest.of_json([about, rows]))


def described(path: Path, about: str, rows: dict[str, list[Any]] | None = None, fitting: str = "") -> None:
    """Write a file that says this of itself."""
    rows = pq.read_table(path).to_pydict() if rows is None else rows
    metadata = {baseline_file.ABOUT: about, baseline_file.DIGEST: fitting}
    with pq.ParquetWriter(path, baseline_file.schema(), store_schema=False) as writer:
        writer.write_table(pa.table(rows, baseline_file.schema()))
        writer.add_key_value_metadata(metadata)


def retyped(path: Path, example_id: Any) -> None:
    """Give a file one row, whose example is of another type."""
    metadata = dict(pq.read_metadata(path).metadata)
    rows = pq.read_table(path).slice(0, 1).set_column(3, "example_id", example_id)
    with pq.ParquetWriter(path, rows.schema, store_schema=False) as writer:
        writer.write_table(rows)
        writer.add_key_value_metadata({key: metadata[key] for key in (baseline_file.ABOUT, baseline_file.DIGEST)})


FORGERIES: dict[str, Callable[[Any, dict[str, list[Any]]], Any]] = {
    "a list": lambda about, rows: [about],
    "no suite": lambda about, rows: about.pop("suite") and None,
    "runs that are no list": lambda about, rows: about.update(runs=3),
    "a run that is no table": lambda about, rows: about.update(runs=["run"]),
    "a run without a seed": lambda about, rows: about["runs"][0].pop("seed"),
    "a seed that is a list": lambda about, rows: about["runs"][0].update(seed=[0]),
    "a specification that is no table": lambda about, rows: about["runs"][0].update(spec="x"),
    "a time that is none": lambda about, rows: about.update(created_at="yesterday"),
    "a package's version that is a number": lambda about, rows: about["runs"][0].update(packages={"torch": 2}),
    "a name that speaks to the terminal": lambda about, rows: about["runs"][0].update(model_id="\x1b[2J"),
    "hardware that speaks to the terminal": lambda about, rows: about["runs"][0].update(hardware={"a": ["\x9b2J"]}),
    "a name that cannot be printed": lambda about, rows: about["runs"][0].update(hardware={"a": "\ud800"}),
    "no example": lambda about, rows: rows["example_id"].__setitem__(0, None),
    "an example twice": lambda about, rows: rows["example_id"].__setitem__(0, rows["example_id"][1]),
    "an example that speaks to the terminal": lambda about, rows: rows["example_id"].__setitem__(0, "\x1b[2J"),
    "a third class": lambda about, rows: rows["predicted"].__setitem__(0, 2),
    "no class": lambda about, rows: rows["predicted"].__setitem__(0, None),
    "a probability above one": lambda about, rows: rows["score"].__setitem__(0, 1.5),
    "no probability": lambda about, rows: rows["score"].__setitem__(0, None),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_file_whose_digest_fits_is_refused_too(main: Path, name: str) -> None:
    forged(main, lambda about, rows: None)
    assert baseline_file.read(main, "made-up").runs, "what is not changed is taken"
    forged(main, FORGERIES[name])
    with pytest.raises(Unreadable, match="is damaged or is no baseline"):
        baseline_file.read(main, "made-up")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: edited(path, score=0.123), "was edited: "),
        (lambda path: edited(path, about={"git_commit": "f" * 40}), "was edited: "),
        (lambda path: edited(path, about={"runs": []}), "was edited: "),
        (lambda path: edited(path, about={"version": 2}), "has schema 2, this release reads 1"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "is damaged or is no baseline"),
        (lambda path: edited(path, about={"version": "\x1b[2J"}), r"has schema '\x1b[2J', this release reads 1"),
        (lambda path: retyped(path, pa.array([2**62], pa.timestamp("us"))), "is damaged or is no baseline"),
        (lambda path: retyped(path, pa.array([["a"]])), "is damaged or is no baseline"),
        (lambda path: described(path, "[" * 100_000), "is damaged or is no baseline"),
        (lambda path: path.write_text("version = 1\n"), "is damaged or is no baseline"),
        (lambda path: path.write_bytes(b""), "is damaged or is no baseline"),
        (lambda path: pq.write_table(pa.table({"a": [1]}), path), "is damaged or is no baseline"),
        (
            lambda path: baseline_file.write(path, replace(baseline_file.read(path, "made-up"), suite="other")),
            "is of the suite 'other', not of 'made-up'",
        ),
    ],
)
def test_a_file_that_is_no_good_makes_the_rule_red_with_a_plain_reason(
    harness: Command, suite_path: Path, main: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(main)
    result = harness("gate", suite_path, "--json")
    assert result.code == 1
    assert verdict(result)["reason"].startswith("baseline main: ")
    assert reason in verdict(result)["reason"]
    assert "Traceback" not in result.err
    (row,) = harness("baseline", "ls", suite_path, "--json").json()
    assert (row["name"], row["models"], row["n"]) == ("main", None, None)
    assert reason in row["problem"]


def test_a_baseline_that_is_not_there_is_told_with_how_to_make_it(
    harness: Command, suite_path: Path, main: Path
) -> None:
    main.rename(baseline_file.path_of(suite_path, "older"))
    result = harness("gate", suite_path, "--json")
    assert result.code == 1
    assert verdict(result)["reason"] == (
        f"baseline main: no baseline 'main' beside {suite_path} (there is older); "
        f"`harness baseline set main {suite_path}` makes it"
    )


# Setting and listing


def test_a_baseline_is_set_once_and_replaced_only_by_force(harness: Command, suite_path: Path, main: Path) -> None:
    before = main.read_bytes()
    refused = harness("baseline", "set", "main", suite_path)
    assert refused.code == 2
    assert f"{main}: is there already; --force replaces it" in refused.err
    assert main.read_bytes() == before
    forced = harness("baseline", "set", "main", suite_path, "--force", "--json")
    assert forced.code == 0
    assert (forced.json()["models"], forced.json()["splits"]) == (["tiny-full"], ["test"])
    assert forced.json()["bytes"] == main.stat().st_size < len(before)


def test_what_is_listed_is_what_was_set(harness: Command, suite_path: Path) -> None:
    assert harness("baseline", "set", "words", suite_path, "--model", "tfidf", "--split", "test").code == 0
    rows = harness("baseline", "ls", suite_path, "--json").json()
    assert [(row["name"], row["models"], row["runs"]) for row in rows] == [
        ("main", ["majority", "tfidf", "probe", "tiny-full"], 4),
        ("words", ["tfidf"], 1),
    ]
    assert rows[0]["n"] == 4 * rows[1]["n"]
    assert all(row["splits"] == ["test"] and row["problem"] is None for row in rows)
    shown = harness("baseline", "ls", suite_path)
    assert (shown.code, shown.err) == (0, "")
    assert "words" in shown.out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["x", "--model", "untrained"], "untrained seed 2 on test has no run in the store; evaluate the suite first"),
        (["x", "--model", "gpt"], "there is no model 'gpt'"),
        (["x", "--split", "train"], "there is no split to score 'train'"),
        (["../x"], "a name is lower-case letters, digits and . _ + - only"),
    ],
)
def test_a_baseline_that_cannot_be_set_leaves_no_file(
    harness: Command, suite_path: Path, main: Path, words: list[str], reason: str
) -> None:
    name, *options = words
    result = harness("baseline", "set", name, suite_path, *options)
    assert result.code == 2
    assert reason in result.err
    assert list(main.parent.iterdir()) == [main]


def test_a_stale_run_is_not_kept(harness: Command, suite_path: Path) -> None:
    suite_path.write_text(suite_path.read_text().replace("epochs = 20,", "epochs = 21,"))
    result = harness("baseline", "set", "x", suite_path)
    assert result.code == 2
    assert "a baseline needs all of its runs:\n" in result.err


def test_a_suite_without_rules_must_be_told_what_to_keep(harness: Command, suite_path: Path) -> None:
    suite_path.write_text(suite_path.read_text().replace(GATE, ""))
    result = harness("baseline", "set", "x", suite_path)
    assert result.code == 2
    assert "no gate or expectation says what to keep; give --model and --split" in result.err
    assert harness("baseline", "set", "x", suite_path, "--model", "tfidf", "--split", "test").code == 0


def test_a_folder_that_cannot_be_written_is_told(harness: Command, suite_path: Path, main: Path) -> None:
    shutil.rmtree(main.parent)
    main.parent.write_text("a file")
    result = harness("baseline", "set", "main", suite_path)
    assert result.code == 2
    assert f"{main}: cannot be written" in result.err


def test_what_judges_imports_arrow_only_to_read_or_write_files() -> None:
    modules = (
        "harness.api",
        "harness.gates.service",
        "harness.gates.compare",
        "harness.cli.tables",
        "harness.evaluation.evaluate",
    )
    code = f"import sys, {', '.join(modules)}; print('pyarrow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("words", [[], ["set"], ["ls"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        f"import sys\nfrom harness.cli import app\ntry:\n    app(['baseline', *{words}, '--help'])\n"
        "except SystemExit as exit:\n    assert exit.code == 0, exit.code\n"
        "heavy = {'torch', 'pandas', 'pyarrow', 'sklearn', 'scipy', 'duckdb', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


# What a rule is held against


def test_the_very_runs_of_the_baseline_are_not_held_against_it(harness: Command, suite_path: Path) -> None:
    result = harness("gate", suite_path, "--json")
    assert result.code == 1
    assert verdict(result)["reason"].startswith("tiny-full would be compared with itself: baseline main holds the very")
    assert "canary" not in result.err


def test_training_again_in_another_folder_passes_and_the_canary_comes_back(
    harness: Command, suite_path: Path, tmp_path: Path
) -> None:
    db = tmp_path / "elsewhere" / "harness.duckdb"
    assert harness("evaluate", suite_path, "--model", "tiny-full", "--workers", "1", "--db", db).code == 0
    result = harness("gate", suite_path, "--db", db, "--json")
    assert result.code == 0, result.out
    numbers = verdict(result)["numbers"]
    assert (numbers["value"], numbers["ci_low"], numbers["ci_high"]) == (0, *inference.tango(0, 0, 16))
    assert numbers["reference"] == "baseline main"
    assert numbers["canary"].startswith("same: 56 examples of tiny-full seed 1 on test, largest logit move ")
    assert result.err.count("canary: tiny-full seed 1 on test: 56 in") == 1
    assert "baseline main: 56 examples of tiny-full seed 1 on test score as they did" in result.err


def test_a_worse_training_is_a_regression_and_no_drift(harness: Command, suite_path: Path, again: Any) -> None:
    suite_path.write_text(suite_path.read_text().replace("epochs = 20,", "epochs = 1,"))
    again()
    result = harness("gate", suite_path, "--json")
    assert (result.code, verdict(result)["outcome"]) == (1, "fail")
    assert verdict(result)["reason"].startswith("difference -")
    assert verdict(result)["numbers"]["ci_high"] < -0.2
    assert verdict(result)["numbers"]["canary"].startswith("same: 56 examples of probe on test")


def test_scores_from_another_environment_are_told_as_drift_and_not_as_a_regression(
    harness: Command, suite_path: Path, main: Path, again: Any
) -> None:
    """A file written by the module's own writer, all its log-odds moved by 0.05, stands for another environment."""
    kept = baseline_file.read(main, "made-up")
    baseline_file.write(main, replace(kept, runs=tuple(map(moved, kept.runs))))
    again()
    result = harness("gate", suite_path, "--json")
    assert (result.code, verdict(result)["outcome"]) == (1, "fail")
    assert verdict(result)["reason"] == (
        "environment drift: 56 of 56 examples of tiny-full seed 1 on test score differently than in baseline main "
        "with the same inputs, the largest logit move is 0.05 (0.001 is allowed); torch 1.0 then, "
        f"{provenance.packages()['torch']} now, processor an abacus then, {provenance.hardware()['processor']} now, "
        f"bf16 in hardware 2 then, {provenance.hardware()['bf16']} now; "
        "set the baseline anew from an evaluation in this environment"
    )


def moved(run: BaselineRun) -> BaselineRun:
    """A run as an environment would have scored it that adds 0.05 to every log-odds."""
    said = []
    for one in run.predictions:
        score = float(1 / (1 + np.exp(-(np.log(one.score / (1 - one.score)) + 0.05))))
        said.append(Prediction(one.example_id, int(score > 0.5), score))
    packages, hardware = {**run.packages, "torch": "1.0"}, {**run.hardware, "processor": "an abacus", "bf16": 2}
    return replace(run, predictions=tuple(said), packages=packages, hardware=hardware)


def test_a_baseline_none_of_whose_models_can_be_scored_again_is_judged_and_says_so(
    harness: Command, suite_path: Path, main: Path, again: Any
) -> None:
    with_models(main, "tiny-full", "majority")
    suite_path.write_text(suite_path.read_text().replace("epochs = 20,", "epochs = 1,"))
    again()
    result = harness("gate", suite_path, "--json")
    assert verdict(result)["numbers"]["canary"] == "none"
    assert "warning: baseline main: none of its runs can be scored again with the same inputs" in result.err


def test_a_canary_of_counted_words_shows_nothing_of_torch_and_says_so(
    harness: Command, suite_path: Path, main: Path, again: Any
) -> None:
    with_models(main, "tiny-full", "tfidf")
    suite_path.write_text(suite_path.read_text().replace("epochs = 20,", "epochs = 1,"))
    again()
    result = harness("gate", suite_path, "--json")
    assert verdict(result)["numbers"]["canary"] == "same: 56 examples of tfidf on test, largest logit move 0.0e+00"
    assert "only counted words can be scored again, which does not test torch" in result.err


def test_there_is_a_tolerance_for_every_precision() -> None:
    assert set(canary.TOLERANCE) == set(get_args(Precision))


def test_a_canary_that_cannot_be_scored_is_drift(
    harness: Command, suite_path: Path, main: Path, again: Any, tmp_path: Path
) -> None:
    again()
    (folder,) = (tmp_path / "runs" / "adapters" / "full").glob("seed-1-*")
    card = json.loads((folder / "harness-card.json").read_text())
    # A card that promises other answers than the weights give: loading refuses them, as it would had torch changed.
    (folder / "harness-card.json").write_text(json.dumps(card | {"probe_scores": [0.5, 0.5, 0.5, 0.5]}))
    result = harness("gate", suite_path, "--json")
    assert result.code == 1
    assert verdict(result)["reason"].startswith(
        "environment drift: tiny-full seed 1 on test, which baseline main has, can no longer be scored ("
    )
    assert "packages and processor are the same as then" in verdict(result)["reason"]


def test_one_canary_serves_every_rule_of_a_baseline_and_every_name_that_it_stands_in_for(
    harness: Command, suite_path: Path, again: Any
) -> None:
    of_f1 = GATE.replace("accuracy", "f1").replace('"main"', '"older"')
    superior = GATE.replace("non_inferior_to", "superior_to")
    expected = GATE.replace("[[gate]]", "[[expect]]").replace('on_inconclusive = "fail"\n', "")
    suite_path.write_text("\n".join([suite_path.read_text(), of_f1, superior, expected]))
    again()
    result = harness("gate", suite_path, "--baseline", "main", "--json")
    assert [one["outcome"] for one in result.json()] == ["pass", "pass", "fail"]
    assert result.err.count("canary:") == 1


def test_a_model_that_the_baseline_lacks_is_told(harness: Command, suite_path: Path, main: Path, again: Any) -> None:
    with_models(main, "tfidf")
    again()
    result = harness("gate", suite_path, "--json")
    assert verdict(result)["reason"] == "baseline main holds no run of tiny-full on test"


@pytest.mark.parametrize("change", ["missing", "more", "another"])
def test_a_baseline_of_other_examples_is_told(
    harness: Command, suite_path: Path, main: Path, again: Any, change: str
) -> None:
    kept = baseline_file.read(main, "made-up")
    new = Prediction("0" * 32, 1, 0.9)
    said = {"missing": slice(1, None), "more": slice(None), "another": slice(1, None)}[change]
    extra = () if change == "missing" else (new,)
    baseline_file.write(
        main, replace(kept, runs=tuple(replace(run, predictions=run.predictions[said] + extra) for run in kept.runs))
    )
    again()
    result = harness("gate", suite_path, "--json")
    assert verdict(result)["reason"] == "baseline main holds other examples of test than are scored now"


def test_examples_in_another_order_are_the_same_examples(
    harness: Command, suite_path: Path, main: Path, again: Any
) -> None:
    kept = baseline_file.read(main, "made-up")
    baseline_file.write(
        main, replace(kept, runs=tuple(replace(one, predictions=one.predictions[::-1]) for one in kept.runs))
    )
    again()
    numbers = verdict(harness("gate", suite_path, "--json"))["numbers"]
    assert (numbers["value"], numbers["canary"][:4]) == (0, "same")


# Which run is scored again


def test_the_rules_own_model_is_scored_again_or_else_the_cheapest_that_shows_something(
    configured: Any, suite_path: Path, main: Path
) -> None:
    suite = load(suite_path)
    workspace = Workspace(suite_path, suite_path.parents[1] / "runs" / "harness.duckdb")
    jobs = plan(suite, gather(suite, workspace), workspace)
    runs = baseline_file.read(main, "made-up").runs

    def first(preferred: set[str], *without: str) -> str | None:
        pair = canary.chosen([run for run in runs if run.model_id not in without], jobs, preferred)
        return pair and pair[0].model_id

    assert first({"tfidf"}) == "tfidf"
    assert first(set()) == "tiny-full"
    assert first(set(), "tiny-full") == "probe"
    assert first(set(), "tiny-full", "probe") == "tfidf"
    assert first({"majority"}, "tiny-full", "probe", "tfidf") is None
    other_packages = [replace(run, spec={**run.spec, "packages": {"torch": "1.0"}}) for run in runs]
    assert canary.chosen(other_packages, jobs, {"probe"}) is not None
    other_seed = [replace(run, spec={**run.spec, "seed": 99}) for run in runs]
    assert canary.chosen(other_seed, jobs, {"probe"}) is None


# What `--baseline` may name


@pytest.fixture
def repository(suite_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Git in the folder of the suite, which is committed there and tagged `v1`."""
    identity = {f"GIT_{who}_{what}": "t@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for name, value in {**identity, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}.items():
        monkeypatch.setenv(name, value)

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(suite_path.parent), *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--quiet")
    git("add", suite_path.name)
    git("commit", "--quiet", "-m", "first")
    git("tag", "v1")
    return git


@pytest.mark.slow
def test_every_kind_of_reference_leads_to_what_was_evaluated_then(
    harness: Command, suite_path: Path, main: Path, again: Any, repository: Callable[..., str], tmp_path: Path
) -> None:
    good, first = suite_path.read_text(), repository("rev-parse", "HEAD")
    again()
    between = provenance.now()
    suite_path.write_text(good.replace("weight_decay = 0.0,", "weight_decay = 1e-9,"))
    repository("commit", "--quiet", "-a", "-m", "second")
    again()
    elsewhere = tmp_path / "copy.parquet"
    shutil.copy(main, elsewhere)
    main.rename(baseline_file.path_of(suite_path, "older"))
    zoned = (between + timedelta(hours=2)).isoformat() + "+02:00"
    for ref in (elsewhere, "older", first, first[:10], "v1", "HEAD~1", between.isoformat(), zoned):
        result = harness("gate", suite_path, "--baseline", ref, "--json")
        found = verdict(result)
        assert (result.code, found["outcome"]) == (0, "pass"), found["reason"]
        assert found["gate_id"] == "tiny-full on test: accuracy not worse than baseline main by more than 0.2"
        assert found["numbers"]["reference"] == f"baseline {ref}"
        assert found["reason"].startswith(f"against {ref}: difference ")
    for ref in ("HEAD", "2100-01-01"):
        result = harness("gate", suite_path, "--baseline", ref, "--json")
        assert result.code == 1
        assert "would be compared with itself" in verdict(result)["reason"]


def test_uncommitted_changes_are_no_evaluation_of_a_commit(
    harness: Command, suite_path: Path, again: Any, repository: Callable[..., str]
) -> None:
    suite_path.write_text(suite_path.read_text().replace("epochs = 20,", "epochs = 1,"))
    again()
    result = harness("gate", suite_path, "--baseline", "v1")
    assert result.code == 2
    assert "--baseline v1: no run of made-up in " in result.err
    assert f"was evaluated at commit {repository('rev-parse', 'HEAD')[:12]} with nothing uncommitted" in result.err
    set_now = harness("baseline", "set", "now", suite_path, "--json")
    assert (set_now.code, set_now.json()["git_dirty"]) == (0, True)
    assert "warning: there are uncommitted changes" in set_now.err


def test_a_reference_that_is_nothing_is_told_with_what_was_tried(harness: Command, suite_path: Path) -> None:
    for ref in ("nonsense", "no/such.parquet", "-1"):
        result = harness("gate", suite_path, f"--baseline={ref}")
        assert result.code == 2
        assert (
            f"--baseline {ref}: is no .parquet file, no baseline of {suite_path} (known: main), no commit" in result.err
        )
    result = harness("gate", suite_path, "--baseline", "2001-01-01")
    assert result.code == 2
    assert "had finished at 2001-01-01 00:00:00 UTC" in result.err


def test_a_suite_whose_rules_name_no_baseline_is_told_what_to_add(harness: Command, suite_path: Path) -> None:
    suite_path.write_text(suite_path.read_text().replace('{ baseline = "main",', '{ model = "tfidf",'))
    result = harness("gate", suite_path, "--baseline", "main")
    assert result.code == 2
    assert "no rule is about a baseline" in result.err
    assert 'non_inferior_to = { baseline = "main", margin = 0.02 }' in result.err


def test_of_stored_runs_the_last_configuration_counts_whole_and_present_rows_come_first(
    make_split: Callable[..., Split], make_run: Callable[..., Any]
) -> None:
    split, was = make_split(6), make_split(4)
    noon = datetime(2025, 1, 1, 12)  # noqa: DTZ001 (the store keeps UTC without a zone)
    runs = [
        make_run(rows, run_id=name, configuration=kind, seed=seed, finished_at=noon + timedelta(hours=hours))
        for name, rows, kind, seed, hours in [
            ("old-1", split, "a", 1, 0), ("old-2", split, "a", 2, 0), ("old-3", split, "a", 3, 0),
            ("new-1", split, "b", 1, 1), ("new-2", split, "b", 2, 2), ("new-1-again", split, "b", 1, 3),
            ("other-rows", was, "b", 1, 4),
        ]
    ]  # fmt: skip
    chosen = baselines.last_of_each(runs, {"test": split})
    assert sorted(run.run_id for run in chosen) == ["new-1-again", "new-2"]
    assert [run.run_id for run in baselines.last_of_each(runs[-1:], {"test": split})] == ["other-rows"]
    assert baselines.last_of_each(runs, {}) == []


def test_judging_in_a_program_needs_no_terminal(configured: Any, suite_path: Path, again: Any) -> None:
    again()
    workspace = Workspace(suite_path, suite_path.parents[1] / "runs" / "harness.duckdb")
    judged = judge_stored(load(suite_path), workspace)
    assert judged.passed
    assert set(judged.evidence.baselines) == {"main"}
