"""Answers from elsewhere: matched row by row, pinned, refused where one is missing or doubled, marked as foreign."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness import api
from harness.artifacts import digest
from harness.data.source import Places
from harness.evaluation.answers import given
from harness.records import Split
from harness.suite.load import load
from harness.suite.schema import PredictionsModel, Text
from tests.worlds import World

MODEL = """
[[model]]
id = "elsewhere"
backend = "predictions"
path = "{path}"
format = "{format}"
sha256 = "{sha256}"
columns = {columns}

[[metric]]"""


@pytest.fixture
def examples(world: World) -> list[Any]:
    """The rows of the scored split."""
    jobs = api.plan(api.open(world.suite, world.db), models=["majority"])
    return list(jobs[0].split.examples)


def scores_for(examples: list[Any]) -> list[float]:
    return [round(float(score), 6) for score in np.random.default_rng(5).uniform(size=len(examples))]


def declare(world: World, name: str, columns: str) -> None:
    """Add a model whose answers are in a file beside the suite."""
    path = world.suite.parent / name
    format = name.rpartition(".")[2]
    made = MODEL.format(path=name, format=format, sha256=digest.of_file(path), columns=columns)
    world.suite.write_text(world.suite.read_text().replace("\n[[metric]]", made, 1))


def write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def stored(world: World) -> list[float]:
    frame = api.predictions(api.open(world.suite, world.db), models=["elsewhere"])
    return [float(score) for score in frame["score"]]


def test_answers_are_stored_as_they_were_given_compared_by_pairs_and_marked_on_the_board(
    world: World, examples: list[Any]
) -> None:
    scores = scores_for(examples)
    backwards = list(zip(examples, scores, strict=True))[::-1]
    write_csv(world.suite.parent / "a.csv", ["text", "p"], [[e.content, s] for e, s in backwards])
    declare(world, "a.csv", '{ text = "text", score = "p" }\norigin = "lm-evaluation-harness 0.4, <a.jsonl>"')
    result = world.evaluate("--model", "elsewhere")
    assert result.exit_code == 0, result.stderr
    assert "they cannot be reproduced here" in result.stderr
    assert stored(world) == scores
    assert world.command("compare", world.suite, "elsewhere", "majority").exit_code == 0
    assert world.site().exit_code == 0
    page = (world.root / "site" / "made-up" / "elsewhere.html").read_text()
    assert "answers from elsewhere, not reproducible here" in page
    assert "answers from elsewhere; lm-evaluation-harness 0.4, &lt;a.jsonl&gt;" in page
    assert "scored 0, already stored 1" in world.evaluate("--model", "elsewhere").stderr


@pytest.mark.parametrize("format", ["jsonl", "parquet", "csv"])
def test_ids_and_row_numbers_match_too_in_every_format(world: World, examples: list[Any], format: str) -> None:
    scores = scores_for(examples)
    rows = [{"id": e.example_id, "n": i, "p": s} for i, (e, s) in enumerate(zip(examples, scores, strict=True))][::-1]
    path, key = world.suite.parent / f"a.{format}", "n" if format == "parquet" else "id"
    if format == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif format == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        write_csv(path, ["id", "n", "p"], [list(row.values()) for row in rows])
    declare(world, path.name, f'{{ {"row" if key == "n" else "example"} = "{key}", score = "p" }}')
    assert world.evaluate("--model", "elsewhere").exit_code == 0
    assert stored(world) == scores


def test_a_file_that_was_changed_after_it_was_pinned_fails_its_model_alone(world: World, examples: list[Any]) -> None:
    path = world.suite.parent / "a.csv"
    rows = [[e.example_id, s] for e, s in zip(examples, scores_for(examples), strict=True)]
    write_csv(path, ["id", "p"], rows)
    declare(world, "a.csv", '{ example = "id", score = "p" }')
    assert world.evaluate("--model", "elsewhere").exit_code == 0
    path.write_text(path.read_text().replace(f"{rows[0][1]}", "0.5", 1))
    result = world.evaluate()
    assert result.exit_code == 3
    assert "but the suite pins" in result.stderr
    assert "failed 1" in result.stderr
    world.edit(digest_pinned(world), digest.of_file(path))
    assert world.evaluate("--model", "elsewhere").exit_code == 0
    assert stored(world)[0] == 0.5


def digest_pinned(world: World) -> str:
    (model,) = [model for model in load(world.suite).model if isinstance(model, PredictionsModel)]
    return model.sha256


def test_the_digest_is_written_by_a_pin(world: World, examples: list[Any]) -> None:
    write_csv(world.suite.parent / "a.csv", ["id", "p"], [[e.example_id, 0.7] for e in examples])
    declare(world, "a.csv", '{ example = "id", score = "p" }')
    sha256 = digest_pinned(world)
    world.edit(f'sha256 = "{sha256}"\ncolumns', "columns")
    assert world.command("data", world.suite, "--pin").exit_code == 0
    assert digest_pinned(world) == sha256


BY_ID, BY_ROW = {"example": "id", "score": "p"}, {"row": "n", "score": "p"}
BY_LABEL = {"example": "id", "label": "l"}
TEXT = Text(template="{content}", max_length=32)


@pytest.mark.parametrize(
    ("header", "rows", "columns", "expected"),
    [
        (["id", "p"], lambda ids: [[one, 0.1] for one in ids[1:]], BY_ID, "no answer for 1 of 4"),
        (["id", "p"], lambda ids: [[one, 0.1] for one in [*ids, ids[0]]], BY_ID, "answers 2 times"),
        (["n", "p"], lambda ids: [[i, 0.1] for i in range(5)], BY_ROW, "1 rows beyond the 4"),
        (["n", "p"], lambda ids: [[i + 1, 0.1] for i in range(4)], BY_ROW, "no answer for 1 of 4"),
        (["n", "p"], lambda ids: [["x", 0.1]], BY_ROW, "row 1: n is 'x'; it must be a number"),
        (["id", "p"], lambda ids: [[one, 1.5] for one in ids], BY_ID, "row 1: score '1.5' is not"),
        (["id", "p"], lambda ids: [[one, "nan"] for one in ids], BY_ID, "score 'nan' is not"),
        (["id", "l"], lambda ids: [[one, "meh"] for one in ids], BY_LABEL, "'meh' means neither"),
        (["id", "q"], lambda ids: [[one, 0.1] for one in ids], BY_ID, "has no column 'p'"),
        (["t", "p"], lambda ids: [["other", 0.1]], {"text": "t", "score": "p"}, "no answer for 4 of 4"),
    ],
)  # fmt: skip
def test_answers_that_do_not_fit_the_rows_are_refused(
    tmp_path: Path,
    make_split: Callable[..., Split],
    header: list[str],
    rows: Callable[[list[str]], list[list[Any]]],
    columns: dict[str, str],
    expected: str,
) -> None:
    split = make_split(4)
    write_csv(tmp_path / "a.csv", header, rows([example.example_id for example in split.examples]))
    found = given(model_of(tmp_path, columns), TEXT, [split], places_of(tmp_path))
    assert not found.scores
    assert expected in found.problems["test"]


def model_of(folder: Path, columns: dict[str, str], **keys: Any) -> PredictionsModel:
    declared = {"id": "m", "backend": "predictions", "path": "a.csv", "format": "csv", "columns": columns}
    return PredictionsModel.model_validate(declared | {"sha256": digest.of_file(folder / "a.csv")} | keys)


def places_of(folder: Path) -> Any:
    return Places(folder, folder, None)


def test_labels_count_as_certain_and_may_be_words(tmp_path: Path, make_split: Callable[..., Split]) -> None:
    split = make_split(4)
    answers = ["bad", "good", "good", "bad"]
    rows = [[example.content, answer] for example, answer in zip(split.examples, answers, strict=True)]
    write_csv(tmp_path / "a.csv", ["t", "l"], rows)
    labels = {"negative": "bad", "positive": "good"}
    found = given(model_of(tmp_path, {"text": "t", "label": "l"}, labels=labels), TEXT, [split], places_of(tmp_path))
    assert list(found.scores.values()) == [0.0, 1.0, 1.0, 0.0]
    assert not found.problems


def test_rows_with_one_text_share_an_answer_and_two_different_ones_are_refused(
    tmp_path: Path, make_split: Callable[..., Split]
) -> None:
    split = make_split(3)
    twin = replace(split.examples[1], content=split.examples[0].content)
    split = replace(split, examples=(split.examples[0], twin, split.examples[2]))
    texts = [split.examples[0].content, split.examples[2].content]
    write_csv(tmp_path / "a.csv", ["t", "p"], [[text, 0.2] for text in texts])
    found = given(model_of(tmp_path, {"text": "t", "score": "p"}), TEXT, [split], places_of(tmp_path))
    assert list(found.scores.values()) == [0.2, 0.2, 0.2]
    write_csv(tmp_path / "a.csv", ["t", "p"], [[texts[0], 0.2], [texts[0], 0.3], [texts[1], 0.1]])
    found = given(model_of(tmp_path, {"text": "t", "score": "p"}), TEXT, [split], places_of(tmp_path))
    assert "answers 2 times for 2 row" in found.problems["test"]


def test_the_words_of_answers_from_elsewhere_are_not_explained_and_the_others_are(
    world: World, examples: list[Any]
) -> None:
    write_csv(world.suite.parent / "a.csv", ["text", "p"], [[e.content, 0.75] for e in examples])
    declare(world, "a.csv", '{ text = "text", score = "p" }')
    result = world.evaluate("--model", "elsewhere", "--model", "tfidf", "--explain")
    assert result.exit_code == 0, result.stderr
    said = " ".join(result.stderr.split())
    assert "elsewhere: its words are not explained: its answers were given elsewhere" in said
    assert "explained 12 examples, already stored 0" in said
