"""Pairs, rows without labels and changed copies: read alike from every format, linked, pinned, scored and judged."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness import data
from harness.artifacts import digest
from harness.data import lock, perturb
from harness.data.source import Places
from harness.errors import DataError, SuiteError
from harness.records import UNLABELLED, Split
from harness.store.connection import opened
from harness.suite.load import load
from harness.suite.schema import FileSplit
from tests.fixtures import Result
from tests.stats.test_pairs import FALLEN, PAIRS, RIGHT, SAME

ROWS: list[dict[str, Any]] = [
    {"content": f"{'one' if k else 'other'} of pair {i}", "label": label, "pair": f"p{i}", "move": "fall" if k else ""}
    for i, (first, _, second, _) in enumerate(PAIRS)
    for k, label in enumerate((first, second))
]
SCORES = [score for _, first, _, second in PAIRS for score in (first, second)]
BEHAVIOUR: dict[str, Any] = {"pair": "pair", "change": "move", "unlabelled": True}


def write(folder: Path, kind: str, rows: Sequence[Mapping[str, Any]] = ROWS) -> Path:
    path = folder / f"rows.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


def read(path: Path, **keys: Any) -> Split:
    rule = {"id": "pairs", "source": "file", "path": path.name, "format": path.suffix[1:], **keys}
    return data.load_split(FileSplit.model_validate_json(json.dumps(rule)), Places(path.parent, path.parent, None))


def test_pairs_are_clusters_and_the_same_in_every_format(tmp_path: Path) -> None:
    read_as = [read(write(tmp_path, kind), pair="pair") for kind in ("csv", "jsonl", "parquet")]
    assert read_as[0].examples == read_as[1].examples == read_as[2].examples
    assert [example.pair for example in read_as[0].examples] == [row["pair"] for row in ROWS]
    assert all(example.cluster == example.pair for example in read_as[0].examples)


def test_rows_without_labels_are_the_same_in_every_format_and_no_label_column_is_read(tmp_path: Path) -> None:
    bare = [{name: value for name, value in row.items() if name != "label"} for row in ROWS]
    read_as = [read(write(tmp_path, kind, bare), **BEHAVIOUR) for kind in ("csv", "jsonl", "parquet")]
    read_as.append(read(write(tmp_path, "csv", [row | {"label": "mixed"} for row in ROWS]), **BEHAVIOUR))
    assert all(one.examples == read_as[0].examples for one in read_as)
    assert {example.label for example in read_as[0].examples} == {UNLABELLED}
    assert [example.change for example in read_as[0].examples] == [0, -1] * 10
    assert lock.describe(read_as[0]).positives == 0


def test_the_lock_notices_another_direction(tmp_path: Path) -> None:
    first = read(write(tmp_path, "csv"), **BEHAVIOUR)
    turned = [row | {"move": row["move"].replace("fall", "rise")} for row in ROWS]
    second = read(write(tmp_path, "csv", turned), **BEHAVIOUR)
    assert first.digest == second.digest
    with pytest.raises(DataError, match="pinned values"):
        lock.check(tmp_path / "a.lock", {"pairs": lock.describe(first)}, [second])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS[:-1], r"1 of 10 pairs have a single row \(first: 'p9'\); correct `pair`"),
        ([row | {"move": "up"} for row in ROWS], "move 'up' is none of rise, fall and empty"),
        ([row | {"move": "rise"} for row in ROWS], r"10 pairs have no original \(first: 'p0'\); leave move empty"),
    ],
)
def test_pairs_that_are_none_are_refused(rows: list[dict[str, Any]], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(write(tmp_path, "csv", rows), pair="pair", change="move")


# Changed copies

TEXTS = {"names": "Mary and Mary like it", "negation": "The lens isn't sharp, it is dull"}


@pytest.mark.parametrize("kind", perturb.KINDS)
def test_a_copy_stands_behind_its_original_and_is_linked_to_it(kind: str, tmp_path: Path) -> None:
    text = TEXTS.get(kind, "It broke twice")
    rows = [{"content": f"{text} {i}", "label": i % 2} for i in range(6)] + [{"content": "1 2", "label": 1}]
    keys = {"columns": {"content": "content"}, "perturb": {"kind": kind, "seed": 1}}
    found = read(write(tmp_path, "csv", rows), **keys)
    originals, copies = found.examples[::2], found.examples[1::2]
    assert [one.content for one in originals[:6]] == [row["content"] for row in rows[:6]]
    for one, other in zip(originals, copies, strict=True):
        assert one.pair == other.pair == one.cluster == other.cluster
        assert str(one.pair).startswith(one.example_id)
        assert one.content != other.content
        moves = {"praise": 1, "complaint": -1, "negation": -1 if one.label else 1}.get(kind, 0)
        assert (one.change, other.change) == (0, moves)
        assert other.label == (UNLABELLED if moves else one.label)
    assert len({one.pair for one in originals}) == len(originals)
    left_out = 0 if kind in ("neutral", "praise", "complaint") else 1
    assert found.source.get("unchanged", 0) == left_out
    assert len(data.notes([found])) == left_out
    again = read(tmp_path / "rows.csv", **keys, shuffle_seed=3)
    copy_of = {one.content: other.content for one, other in zip(originals, copies, strict=True)}
    assert all(copy_of[a.content] == b.content for a, b in zip(again.examples[::2], again.examples[1::2], strict=True))


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("It is good, it is new", "It is not good, it is new"),
        ("It is not good", "It is good"),
        ("They weren't good", "They were good"),
        ("You can’t return it", "You can return it"),
        ("It cannot be good", "It can be good"),
        ("This island", "This island"),
    ],
)
def test_negation_negates_the_first_auxiliary_or_undoes_it(text: str, changed: str) -> None:
    assert perturb.KINDS["negation"].change(text, np.random.default_rng(0)) == changed


def test_a_name_is_replaced_by_one_other_name_throughout() -> None:
    for seed in range(20):
        first, _, second, *_ = (
            perturb.KINDS["names"].change("Mary and Mary sold it", np.random.default_rng(seed)).split()
        )
        assert first == second != "Mary"
        assert first in perturb.NAMES


def test_a_typo_exchanges_two_letters_inside_a_word_and_nothing_else() -> None:
    for seed in range(50):
        text = "The camera, however, broke in week two"
        changed = perturb.KINDS["typos"].change(text, np.random.default_rng(seed))
        differing = [i for i in range(len(text)) if text[i] != changed[i]]
        assert len(differing) == 2
        assert differing[1] == differing[0] + 1
        assert sorted(text) == sorted(changed)
        assert text[differing[0] - 1].isalpha()
        assert text[differing[1] + 1].isalpha()


def test_nothing_to_change_anywhere_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "csv", [{"content": "it works", "label": 1}])
    with pytest.raises(DataError, match="'names' can change none of its 1 rows; choose another kind"):
        read(path, columns={"content": "content"}, perturb={"kind": "names", "seed": 1})


# The whole way

SPLIT = '[[split]]\nid = "{}"\nsource = "file"\npath = "rows.csv"\nformat = "csv"\n{}\n'
SUITE = """
version = 1
name = "behaviour"
description = "Pairs"
primary_metric = "accuracy"

[text]
template = "{content}"
max_length = 32
store = true

[[model]]
id = "given"
backend = "predictions"
path = "answers.jsonl"
format = "jsonl"
sha256 = "@SHA256@"
columns = { text = "text", score = "score" }
splits = ["pairs", "moves", "same"]

[[model]]
id = "words"
backend = "tfidf"
train_split = "train"
ngram_range = [1, 1]
sublinear_tf = true
C = 10.0

[[split]]
id = "train"
source = "file"
path = "train.csv"
format = "csv"
columns = { content = "content" }

"""
SUITE += "".join(
    SPLIT.format(name, keys)
    for name, keys in (
        ("pairs", 'pair = "pair"'),
        ("moves", 'pair = "pair"\nchange = "move"\nunlabelled = true'),
        ("same", 'pair = "pair"\nunlabelled = true'),
        ("loud", 'columns = { content = "content" }\nperturb = { kind = "case", seed = 1 }'),
    )
)
SUITE += "".join(f'[[metric]]\nname = "{name}"\n' for name in ("accuracy", "pair_accuracy", "invariance", "direction"))
SUITE += "".join(
    f'[[gate]]\nmodel = "{model}"\nsplit = "{split}"\nmetric = "{metric}"\nmin = {low}\non_inconclusive = "warn"\n'
    for model, split, metric, low in (
        ("given", "pairs", "pair_accuracy", 0.95),
        ("given", "moves", "direction", 0.05),
        ("given", "same", "invariance", 0.05),
        ("words", "loud", "invariance", 0.5),
    )
)


@pytest.fixture
def suite_path(tmp_path: Path) -> Path:
    write(tmp_path, "csv")
    (tmp_path / "train.csv").write_text("content,label\ngood,1\nbad,0\none,1\nother,0\n")
    answers = [{"text": row["content"], "score": score} for row, score in zip(ROWS, SCORES, strict=True)]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(one) + "\n" for one in answers))
    path = tmp_path / "behaviour.toml"
    path.write_text(SUITE.replace("@SHA256@", digest.of_file(tmp_path / "answers.jsonl")))
    return path


def test_ten_pairs_are_evaluated_judged_verified_and_shown_as_counted_by_hand(
    suite_path: Path, tmp_path: Path, harness: Callable[..., Result]
) -> None:
    assert harness("data", suite_path, "--pin").code == 0
    evaluated = harness("evaluate", suite_path, "--workers", 1)
    assert evaluated.code == 0, evaluated.err
    with opened(tmp_path / "runs" / "harness.duckdb", read_only=True) as store:
        values = store.execute(
            """SELECT split_id, name, value FROM run JOIN metric USING (run_id)
               WHERE model_id = 'given' AND value IS NOT NULL"""
        ).fetchall()
        (loud,) = store.execute(
            "SELECT value FROM run JOIN metric USING (run_id) WHERE split_id = 'loud' AND name = 'invariance'"
        ).fetchall()
        labels = store.execute("SELECT DISTINCT label FROM example ORDER BY label").fetchall()
    assert {(split, name): value for split, name, value in values} == {
        ("pairs", "accuracy"): 12 / 20,
        ("pairs", "pair_accuracy"): RIGHT / 10,
        ("pairs", "invariance"): SAME / 10,
        ("moves", "direction"): FALLEN / 10,
        ("same", "invariance"): SAME / 10,
    }
    assert loud == (1.0,)  # counted words are the same in capitals
    assert labels == [(-1,), (0,), (1,)]
    judged = harness("gate", suite_path, "--json")
    assert judged.code == 1
    assert [verdict["outcome"] for verdict in json.loads(judged.out)] == ["fail", "pass", "pass", "pass"]
    for words in (
        ["store", "verify"],
        ["site", suite_path, "--out", tmp_path / "site"],
        ["compare", suite_path, "given", "words", "--split", "pairs"],
        ["compare", suite_path, "given", "words", "--split", "same"],
        ["plan", suite_path],
    ):
        done = harness(*words)
        assert done.code == 0, (words, done.out, done.err)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('metric = "pair_accuracy"', 'metric = "direction"', None),
        (
            '"moves"\nmetric = "direction"',
            '"moves"\nmetric = "accuracy"',
            "'accuracy' needs labels, which 'moves' lacks",
        ),
        ('"csv"\npair = "pair"\n[', '"csv"\n[', "'pair_accuracy' is a share of pairs, and 'pairs' has none"),
        ('pair = "pair"\nunlabelled', 'cluster = "pair"\nunlabelled', "rows without labels need pair or perturb"),
        ('change = "move"', 'change = "move"\ntake = 4', "pair and take exclude each other"),
        ('path = "train.csv"', 'path = "train.csv"\nperturb = { kind = "case", seed = 1 }', "is used for training"),
        ('perturb = { kind = "case"', 'unlabelled = true\nperturb = { kind = "negation"', "'negation' needs labels"),
    ],
)
def test_what_cannot_be_measured_is_refused_when_the_suite_is_loaded(
    old: str, new: str, message: str | None, suite_path: Path
) -> None:
    text = suite_path.read_text()
    assert old in text
    suite_path.write_text(text.replace(old, new, 1))
    if message is None:
        load(suite_path)
        return
    with pytest.raises(SuiteError) as caught:
        load(suite_path)
    assert message in str(caught.value)
