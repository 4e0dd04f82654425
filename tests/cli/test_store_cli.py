"""`harness store` as people type it: what was evaluated is verified, exported, taken in elsewhere and cleared."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.store.connection import opened

Command = Callable[..., Any]


@pytest.mark.slow
def test_what_was_evaluated_is_clean_here_and_where_it_is_taken_in(
    harness: Command, suite_path: Path, tmp_path: Path
) -> None:
    assert harness("evaluate", suite_path, "--workers", "1").code == 0
    verified = harness("store", "verify", "--json")
    assert verified.code == 0, verified.out
    told = verified.json()
    assert (told["ok"], told["problems"], told["notes"], told["counts"]["run"]) == (True, [], [], 9)

    bundle, other = tmp_path / "runs.bundle", tmp_path / "elsewhere" / "harness.duckdb"
    exported = harness("store", "export", bundle)
    assert exported.code == 0, exported.err
    assert f"{bundle}: 9 runs, " in exported.out
    assert "holds the texts of" in exported.err
    first, second = harness("store", "import", bundle, "--db", other), harness("store", "import", bundle, "--db", other)
    assert [first.out, second.out] == [
        f"{other}: 9 runs taken in, 0 were there already\n",
        f"{other}: 0 runs taken in, 9 were there already\n",
    ]
    assert harness("store", "verify", "--db", other).out.endswith(": all agree\n")
    listed = [json.loads(harness("ls", "--json", "--db", db).out) for db in (tmp_path / "runs/harness.duckdb", other)]
    assert listed[0] == listed[1]
    # The runs that were taken in are found under their keys: those that need no weights are not scored again.
    again = harness("evaluate", suite_path, "--model", "tfidf", "--workers", "1", "--db", other, "--json").json()
    assert (again["scored"], again["reused"]) == (0, 1)

    assert harness("store", "gc", "--json").json()["found"] == []


def test_problems_are_named_with_exit_code_1_and_notes_go_to_stderr(
    harness: Command, suite_path: Path, tmp_path: Path
) -> None:
    db = tmp_path / "runs" / "harness.duckdb"
    assert harness("evaluate", suite_path, "--model", "majority", "--workers", "1").code == 0
    with opened(db) as store:
        store.execute("DELETE FROM checksum")
        store.execute("DELETE FROM prediction WHERE example_id = (SELECT min(example_id) FROM prediction)")
    result = harness("store", "verify")
    assert result.code == 1
    problem, verdict = result.out.splitlines()
    assert "predictions are not exactly one per example (1 of " in problem
    assert "harness evaluate --fresh" in problem
    assert verdict.endswith(": 1 problems")
    assert "note: 1 runs were stored by an earlier release without a complete checksum" in result.err
    assert harness("store", "verify", "--json").json()["problems"][0]["to_do"]


def test_without_a_store_there_is_nothing_to_do(harness: Command, tmp_path: Path) -> None:
    for verb in (("verify",), ("gc",), ("export", tmp_path / "file")):
        result = harness("store", *verb)
        assert (result.code, result.out) == (2, "")
        assert "there is no store here yet" in result.err
