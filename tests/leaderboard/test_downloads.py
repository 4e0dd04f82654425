"""The board as data: CSV, JSON and Parquet agree, in full precision, and absent values are null."""

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from pyarrow import parquet

from leaderboard.board.records import Board
from leaderboard.site import downloads

if TYPE_CHECKING:
    from tests.leaderboard.conftest import Bench


def read(board: Board) -> tuple[list[dict[str, str]], dict[str, Any], list[dict[str, Any]]]:
    files = downloads.files(board)
    text, whole, data = (files[f"demo/board.{name}"] for name in ("csv", "json", "parquet"))
    assert isinstance(text, str)
    assert isinstance(data, bytes)
    return list(csv.DictReader(io.StringIO(text))), json.loads(whole), parquet.read_table(io.BytesIO(data)).to_pylist()


def test_all_three_say_the_same_of_every_entry_on_every_split(board: Board) -> None:
    texts, whole, rows = read(board)
    assert whole["entries"] == rows
    assert [{name: "" if v is None else str(v) for name, v in row.items()} for row in rows] == texts
    assert [(row["split"], row["model"]) for row in rows] == [
        (section.split.id, entry.model_id) for section in board.sections for entry in section.entries
    ]


def test_numbers_are_those_of_the_board_and_what_is_absent_is_null(board: Board) -> None:
    _, whole, rows = read(board)
    found = {(row["split"], row["model"]): row for row in rows}
    for section in board.sections:
        for entry in section.entries:
            row = found[section.split.id, entry.model_id]
            for name, metric in entry.metrics.items():
                stored = (metric.value, metric.ci_low, metric.ci_high)
                assert (row[name], row[f"{name}_ci_low"], row[f"{name}_ci_high"]) == stored
            assert (row["tier"], row["n"], row["n_trainable"]) == (entry.tier, section.n, entry.n_trainable)
        for answer in section.answers:
            row = found[section.split.id, answer.model_id]
            assert answer.base is not None
            assert answer.lead is not None
            lead = (answer.lead.value, answer.lead.ci_low, answer.lead.ci_high)
            assert row["against"] == answer.base.model_id
            assert (row["against_base"], row["against_base_ci_low"], row["against_base_ci_high"]) == lead
    assert found["test", "tfidf"]["against_base"] is None
    assert found["test", "tfidf"]["train_seconds"] is None
    assert found["test", "tfidf"]["drop"] is None
    assert found["elsewhere", "tfidf"]["drop"] == pytest.approx(0.1)
    assert found["test", "tiny"]["untrained_head"]
    assert found["test", "tiny+lora"]["proofs"] == "adapter loaded"
    assert whole["higher_is_better"] == {"accuracy": True, "f1": True, "log_loss": False}


def test_the_same_store_gives_the_same_bytes_in_every_format(filled: "Bench") -> None:
    assert downloads.files(filled.board()) == downloads.files(filled.board())


def test_a_board_without_any_run_is_all_nulls(bench: "Bench") -> None:
    _, _, rows = read(bench.board())
    assert {row["model"] for row in rows} == {model.id for model in bench.suite.model}
    assert all(row["accuracy"] is None and row["tier"] is None for row in rows)
