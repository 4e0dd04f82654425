"""Results of other harnesses become a model of a suite, or are refused by name with nothing written."""

import json
import math
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from harness import api
from harness.artifacts import digest
from harness.cli import app
from harness.errors import SuiteError, UsageError
from harness.evaluation.answers import given
from harness.evaluation.inputs import Workspace, load_splits
from harness.suite.load import load
from harness.suite.schema import PredictionsModel
from tests.interchange import written
from tests.interchange.written import WORDS

SUITE = """version = 1
name = "made-up"
description = "Made-up reviews"
primary_metric = "accuracy"

[text]
template = "{content}"
max_length = 32

[[split]]
id = "train"
source = "file"
path = "train.jsonl"
format = "jsonl"
columns = { content = "text" }

[[split]]
id = "test"
source = "file"
path = "test.jsonl"
format = "jsonl"
columns = { content = "text" }

[[split]]
id = "books"
source = "file"
path = "books.jsonl"
format = "jsonl"
columns = { content = "text" }

[[model]]
id = "majority"
backend = "majority"
train_split = "train"

[[metric]]
name = "accuracy"
"""
N = 24


def rows_about(thing: str, n: int = N) -> list[dict[str, Any]]:
    return [
        {"label": i % 2, "text": f"the {thing} of room {i} is {'great' if i % 2 else 'awful'}, they say"}
        for i in range(n)
    ]


TEST, BOOKS = rows_about("phone"), rows_about("book")
ANSWERS = [WORDS[row["label"] if i % 5 else 1 - row["label"]] for i, row in enumerate(TEST)]
"""Every fifth is wrong."""


@dataclass
class Desk:
    """A suite's folder, and the commands on it."""

    folder: Path

    @property
    def suite(self) -> Path:
        return self.folder / "suite.toml"

    def command(self, *words: object) -> Any:
        db = self.folder.parent / "runs" / "harness.duckdb"
        return CliRunner().invoke(app, [*map(str, words), "--db", str(db)], catch_exceptions=False)

    def take_in(self, *words: object) -> Any:
        return self.command("import", self.suite, *words, "--model", "elsewhere")

    def answers(self) -> dict[str, list[float]]:
        """The scores of the model from elsewhere on the splits that it declares, as an evaluation reads them."""
        suite, workspace = load(self.suite), Workspace(self.suite, self.folder.parent / "runs" / "harness.duckdb")
        model, splits = declared(self), load_splits(suite, workspace)[0].splits
        wanted = [splits[split_id] for split_id in model.splits or ("test", "books")]
        found = given(model, suite.text, wanted, workspace.places)
        assert not found.problems
        return {split.split_id: [found.scores[one.example_id] for one in split.examples] for split in wanted}

    def contents(self) -> dict[str, str]:
        return {path.name: digest.of_file(path) for path in self.folder.iterdir() if path.is_file()}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path / "suites")
    made.folder.mkdir()
    made.suite.write_text(SUITE)
    for name, rows in (("train", rows_about("case", 6)), ("test", TEST), ("books", BOOKS)):
        written.lines(made.folder / f"{name}.jsonl", rows)
    return made


def declared(desk: Desk) -> PredictionsModel:
    (model,) = [model for model in load(desk.suite).model if isinstance(model, PredictionsModel)]
    return model


def certain(answers: list[str]) -> list[float]:
    return [float(WORDS.index(answer)) for answer in answers]


def test_choices_of_lm_evaluation_harness_become_probabilities_of_a_run(desk: Desk, tmp_path: Path) -> None:
    pairs = np.random.default_rng(4).normal(-40, 3, size=(N, 2)).tolist()
    file = written.lines(tmp_path / "samples_polarity.jsonl", written.lm_eval(TEST, pairs)[::-1])
    result = desk.take_in(file)
    assert result.exit_code == 0, result.stderr
    assert "answers the 24 rows of test, matched by the texts in doc.text" in result.stderr
    expected = [1 / (1 + math.exp(negative - positive)) for negative, positive in pairs]
    assert desk.answers()["test"] == pytest.approx(expected, rel=1e-12)
    result = desk.command("evaluate", desk.suite, "--workers", 1)
    assert result.exit_code == 0, result.stderr
    assert "scored 3, already stored 0, failed 0" in result.stderr
    assert "elsewhere on test: its answers were given elsewhere" in result.stderr
    frame = api.predictions(api.open(desk.suite, tmp_path / "runs" / "harness.duckdb"), models=["elsewhere"])
    assert list(frame["score"]) == desk.answers()["test"]
    assert declared(desk).splits == ("test",)
    assert declared(desk).origin == f"lm-evaluation-harness, {file.name} (sha256 {digest.of_file(file)[:12]})"
    assert desk.command("compare", desk.suite, "elsewhere", "majority").exit_code == 0


@pytest.mark.parametrize("suffix", ["eval", "json"])
def test_logs_of_inspect_are_matched_by_the_text_inside_the_question_and_judged_as_there(
    desk: Desk, tmp_path: Path, suffix: str
) -> None:
    answers = [f" {one.title()}." for one in ANSWERS]
    answers[5], answers[7] = "I cannot say", "it is hard"
    log = written.inspect(TEST, answers, "Is it positive or negative?\n\n{}\n\nAnswer:")
    for sample, answer in zip(log["samples"], ANSWERS, strict=True):
        sample["scores"]["match"]["value"] = "CI"[answer != sample["target"]]
    log["samples"][7]["scores"]["match"]["value"] = "C"
    path = tmp_path / f"log.{suffix}"
    path.write_bytes(written.archive(log) if suffix == "eval" else json.dumps(log).encode())
    result = desk.take_in(path)
    assert result.exit_code == 0, result.stderr
    assert "matched by the texts inside input" in result.stderr
    assert "2 of 24 answers mean neither class" in result.stderr
    expected = certain(ANSWERS)
    assert expected[5] == 1 - TEST[5]["label"]
    expected[7] = float(TEST[7]["label"])
    assert desk.answers()["test"] == expected
    assert "Inspect 0.0.1 of made/up" in (declared(desk).origin or "")


def test_an_archive_that_is_deflated_reads_like_one_of_zstd(desk: Desk, tmp_path: Path) -> None:
    log = written.inspect(TEST, ANSWERS)
    with zipfile.ZipFile(tmp_path / "log.eval", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("header.json", json.dumps({key: log[key] for key in ("status", "eval")}))
        file.writestr("../../outside.json", "{}")
        for sample in log["samples"]:
            file.writestr(f"samples/{sample['id']}_epoch_1.json", json.dumps(sample))
    assert desk.take_in(tmp_path / "log.eval").exit_code == 0
    assert desk.answers()["test"] == certain(ANSWERS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.eval", "suites"]


def test_letters_of_a_multiple_choice_mean_its_choices(desk: Desk, tmp_path: Path) -> None:
    log = written.inspect(TEST, [f"ANSWER: {'BA'[WORDS.index(one)]}" for one in ANSWERS])
    for sample, answer in zip(log["samples"], ANSWERS, strict=True):
        sample |= {"choices": list(WORDS[::-1]), "target": "BA"[WORDS.index(sample["target"])]}
        sample["scores"]["match"]["answer"] = "BA"[WORDS.index(answer)]
    (tmp_path / "log.json").write_text(json.dumps(log))
    assert desk.take_in(tmp_path / "log.json").exit_code == 0
    assert desk.answers()["test"] == certain(ANSWERS)


def test_instances_of_every_eval_ever_are_read_by_the_extracted_answer(desk: Desk, tmp_path: Path) -> None:
    file = written.lines(tmp_path / "x_samples.jsonl", written.eval_ever(TEST, ANSWERS))
    assert desk.take_in(file).exit_code == 0
    assert desk.answers()["test"] == certain(ANSWERS)


def test_files_for_several_splits_become_one_model(desk: Desk, tmp_path: Path) -> None:
    files = [
        written.lines(tmp_path / f"{name}.jsonl", written.lm_eval_generated(rows, ANSWERS))
        for name, rows in (("books", BOOKS), ("test", TEST))
    ]
    result = desk.take_in(*files, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["splits"] == ["test", "books"]
    assert declared(desk).splits is None
    assert desk.answers() == {"test": certain(ANSWERS), "books": certain(ANSWERS)}


def test_what_was_taken_in_is_not_taken_in_twice_and_other_results_need_another_name(
    desk: Desk, tmp_path: Path
) -> None:
    file = written.lines(tmp_path / "a.jsonl", written.lm_eval_generated(TEST, ANSWERS))
    assert desk.take_in(file).exit_code == 0
    before = desk.contents()
    assert desk.take_in(file).exit_code == 0
    assert desk.contents() == before
    written.lines(file, written.lm_eval_generated(TEST, ANSWERS[::-1]))
    result = desk.take_in(file)
    assert result.exit_code == 2
    assert "is there already and has other answers" in result.stderr
    (desk.folder / "elsewhere.answers.jsonl").unlink()
    result = desk.take_in(file)
    assert result.exit_code == 2
    assert "has another model 'elsewhere' already" in result.stderr


def test_words_for_the_classes_can_be_declared(desk: Desk, tmp_path: Path) -> None:
    rows = written.lm_eval_generated(TEST, [{"negative": "thumbs down", "positive": "thumbs up"}[a] for a in ANSWERS])
    for sample, row in zip(rows, TEST, strict=True):
        sample["target"] = ("thumbs down", "thumbs up")[row["label"]]
    file = written.lines(tmp_path / "a.jsonl", rows)
    result = desk.take_in(file)
    assert result.exit_code == 2
    assert (
        "it is not clear which answers mean negative and positive (found: 'thumbs down', 'thumbs up')" in result.stderr
    )
    result = desk.take_in(file, "--labels", 'negative = "thumbs up", positive = "thumbs down"')
    assert result.exit_code == 2
    assert "the correct answers are not the labels of 24 of 24 rows" in result.stderr
    assert desk.take_in(file, "--labels", 'negative = "thumbs down", positive = "thumbs up"').exit_code == 0
    assert desk.answers()["test"] == certain(ANSWERS)


def test_filters_with_the_same_answers_count_once_and_others_are_refused(desk: Desk, tmp_path: Path) -> None:
    one = written.lm_eval_generated(TEST, ANSWERS)
    other = [sample | {"filter": "strict"} for sample in one]
    file = written.lines(tmp_path / "a.jsonl", [*one, *other])
    assert desk.take_in(file).exit_code == 0
    other[4] |= {"filtered_resps": ["positive" if other[4]["filtered_resps"] == ["negative"] else "negative"]}
    result = desk.command("import", desk.suite, written.lines(file, [*one, *other]), "--model", "again")
    assert result.exit_code == 2
    assert "has several answers to a row (none, strict); keep one of these" in result.stderr


def test_a_gate_on_a_split_without_answers_is_refused_when_the_suite_is_read(desk: Desk, tmp_path: Path) -> None:
    file = written.lines(tmp_path / "a.jsonl", written.lm_eval_generated(TEST, ANSWERS))
    assert desk.take_in(file).exit_code == 0
    gate = (
        '\n[[gate]]\nmodel = "elsewhere"\nsplit = "books"\nmetric = "accuracy"\nmin = 0.5\non_inconclusive = "fail"\n'
    )
    desk.suite.write_text(desk.suite.read_text() + gate)
    with pytest.raises(SuiteError, match="'elsewhere' has no answers for 'books'; add it to that model's splits"):
        load(desk.suite)
    desk.suite.write_text(desk.suite.read_text().replace('splits = ["test"]', 'splits = ["train", "nowhere"]'))
    with pytest.raises(SuiteError, match=r"(?s)'train' is used for training.*there is no split 'nowhere'"):
        load(desk.suite)


GENERATED = written.lm_eval_generated(TEST, ANSWERS)
LOG = written.inspect(TEST, ANSWERS)


def as_lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def with_error() -> bytes:
    samples = [LOG["samples"][0] | {"error": {"message": "timeout"}}, *LOG["samples"][1:]]
    return json.dumps(LOG | {"samples": samples}).encode()


def bomb() -> bytes:
    header = json.dumps({"status": "success", "eval": {}}).encode()
    return written.zip_of({"header.json": header, "samples/0_epoch_1.json": b" " * (2**28 + 1)})


@dataclass(frozen=True)
class Hostile:
    """A file that is refused, and a part of the reason."""

    name: str
    data: Callable[[], bytes]
    refused: str


HOSTILE = [
    Hostile("truncated.jsonl", lambda: as_lines(*GENERATED)[:-300], "line 24 is no JSON, or cut off"),
    Hostile("truncated.eval", lambda: written.archive(LOG)[:-90], "is no archive that can be read"),
    Hostile("truncated.json", lambda: json.dumps(LOG).encode()[:-90], "it is no JSON, or cut off"),
    Hostile("bomb.eval", bomb, "unpacks to 268,"),
    Hostile("bomb-of-zstd.eval", lambda: written.zip_of({"header.json": b" " * 2**24}, stated_bytes=9), "is damaged"),
    Hostile("lie.eval", lambda: written.archive(LOG, stated_bytes=10**9), "unpacks to 25,000,000,000 bytes"),
    Hostile("changed.eval", lambda: written.archive(LOG, crc=1), "does not unpack to what its entry states"),
    Hostile("nested.jsonl", lambda: b"[" * 100_000 + b"\n", "line 1 is nested too deeply"),
    Hostile(
        "nan.jsonl", lambda: as_lines(*GENERATED).replace(b'"doc_id": 3', b'"doc_id": NaN'), "line 4 has the number"
    ),
    Hostile("no-object.jsonl", lambda: b"[1, 2]\n", "line 1 is an array, but must be an object"),
    Hostile("empty.jsonl", lambda: b"", "is empty"),
    Hostile("unknown.jsonl", lambda: as_lines({"text": "x"}), "is in no form that is known"),
    Hostile("unknown.json", lambda: b"{}", "is no log of Inspect"),
    Hostile("not-text.jsonl", lambda: b"\xff\xfe\x00", "is UTF-16"),
    Hostile("types.jsonl", lambda: as_lines(GENERATED[0] | {"filtered_resps": 7}), "line 1: filtered_resps is 7"),
    Hostile("types-too.jsonl", lambda: as_lines(GENERATED[0] | {"arguments": [[1]]}), "do not begin with a prompt"),
    Hostile(
        "likelihoods.jsonl",
        lambda: as_lines(*written.lm_eval(TEST[:1], [[math.inf, -1.0]])),
        "line 1: has log-likelihoods that give no probability",
    ),
    Hostile(
        "no-number.jsonl",
        lambda: as_lines(*written.lm_eval(TEST[:1], [[0.0, 1.0]], filtered_resps=[["high"], ["low"]])),
        "has no log-likelihood",
    ),
    Hostile("doubled.jsonl", lambda: as_lines(*GENERATED, GENERATED[2]), "answers 2 times for 1 row"),
    Hostile("too-few.jsonl", lambda: as_lines(*GENERATED[1:]), "has no answer for 1 of 24 rows"),
    Hostile(
        "other-rows.jsonl",
        lambda: as_lines(*written.lm_eval_generated(rows_about("case"), ANSWERS)),
        "no field holds its texts or example ids",
    ),
    Hostile(
        "swapped.jsonl",
        lambda: as_lines(*[one | {"target": WORDS[one["target"] == "negative"]} for one in GENERATED]),
        "the correct answers are not the labels of 24 of 24 rows",
    ),
    Hostile(
        "unjudged.jsonl",
        lambda: as_lines(*GENERATED[1:], GENERATED[0] | {"filtered_resps": ["?"], "metrics": []}),
        "neither class",
    ),
    Hostile("failed.json", lambda: json.dumps(LOG | {"status": "error"}).encode(), "with status 'error'"),
    Hostile("one-failed.json", with_error, "samples[0]: ended with an error"),
    Hostile(
        "two-models.jsonl",
        lambda: as_lines(*written.eval_ever(TEST[:1], ANSWERS[:1]), *written.eval_ever(TEST, ANSWERS, model_id="b")),
        "line 2: is about another model",
    ),
    Hostile(
        "probability.jsonl",
        lambda: as_lines(*written.eval_ever(TEST, ANSWERS, metadata={"probability_of_positive": "nan"})),
        "not a probability from 0 to 1",
    ),
]


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_a_file_that_is_not_whole_or_not_about_these_rows_is_refused_by_name(
    desk: Desk, tmp_path: Path, hostile: Hostile
) -> None:
    path = tmp_path / hostile.name
    path.write_bytes(hostile.data())
    before = desk.contents()
    result = desk.take_in(path)
    assert result.exit_code == 2, result.stdout
    assert hostile.refused in result.stderr
    assert hostile.name in result.stderr
    assert "Traceback" not in result.stderr
    assert desk.contents() == before
    assert not (tmp_path / "runs" / "harness.duckdb").exists()


def test_a_file_of_gigabytes_a_folder_a_pipe_and_nothing_are_refused_without_being_read(
    desk: Desk, tmp_path: Path
) -> None:
    with (tmp_path / "huge.jsonl").open("wb") as file:
        file.truncate(10 * 2**30)
    os.mkfifo(tmp_path / "pipe.jsonl")
    for name, refused in [
        ("huge.jsonl", "has 10,737,418,240 bytes"),
        ("pipe.jsonl", "there is no such file"),
        ("suites", "there is no such file"),
        ("nothing.json", "there is no such file"),
        ("x" * 300, "cannot be read"),
    ]:
        result = desk.take_in(tmp_path / name)
        assert result.exit_code == 2
        assert refused in result.stderr


def test_an_id_that_is_a_path_and_a_suite_that_cannot_be_added_to_are_refused(desk: Desk, tmp_path: Path) -> None:
    file = written.lines(tmp_path / "a.jsonl", GENERATED)
    result = desk.command("import", desk.suite, file, "--model", "../outside")
    assert result.exit_code == 2
    assert "'../outside' is no id" in result.stderr
    inline = 'model = [{ id = "majority", backend = "majority", train_split = "train" }]\n'
    head, _, tail = SUITE.partition('[[model]]\nid = "majority"\nbackend = "majority"\ntrain_split = "train"\n')
    desk.suite.write_text(inline + head + tail)
    before = desk.contents()
    result = desk.take_in(file)
    assert result.exit_code == 2
    assert "is laid out so that no table can be added" in result.stderr
    assert desk.contents() == before


def test_two_files_that_answer_one_split_are_refused_and_so_is_a_split_that_none_answers(
    desk: Desk, tmp_path: Path
) -> None:
    one = written.lines(tmp_path / "a.jsonl", GENERATED)
    other = written.lines(tmp_path / "b.jsonl", written.lm_eval_generated(TEST, ANSWERS[::-1]))
    with pytest.raises(UsageError, match=r"answers split 'test', as .*a.jsonl does; give one of them"):
        api.import_answers(api.open(desk.suite), "elsewhere", [one, other])
    with pytest.raises(UsageError, match="answers no whole split books"):
        api.import_answers(api.open(desk.suite), "elsewhere", [one], splits=["test", "books"])
    with pytest.raises(UsageError, match="there is no split to score 'bocks'; did you mean 'books'"):
        api.import_answers(api.open(desk.suite), "elsewhere", [one], splits=["bocks"])


def test_a_question_with_the_texts_of_several_rows_is_refused(desk: Desk, tmp_path: Path) -> None:
    log = written.inspect(TEST, ANSWERS, f"Like this one: {TEST[0]['text']} (awful)\n\n{{}}")
    (tmp_path / "log.json").write_text(json.dumps(log))
    result = desk.take_in(tmp_path / "log.json")
    assert result.exit_code == 2
    assert "input holds the texts of 2 rows; log the text alone" in result.stderr
