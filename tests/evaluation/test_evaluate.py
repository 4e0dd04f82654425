"""The main job on a small real world: train, score, store, judge; and what happens when something breaks on the way."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import provenance
from harness.store.connection import opened
from tests import processes

Command = Callable[..., Any]


def query(db: Path, sql: str) -> list[tuple[Any, ...]]:
    """Rows of the store."""
    with opened(db, read_only=True) as connection:
        return connection.execute(sql).fetchall()


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "harness.duckdb"


def test_a_first_evaluation_scores_all_and_a_second_nothing(harness: Command, suite_path: Path) -> None:
    first = harness("evaluate", suite_path, "--workers", "1", "--json")
    assert first.code == 0, first.err
    assert first.json()["scored"] == 9
    assert {row["model"] for row in first.json()["results"]} == {
        "majority", "tfidf", "untrained", "probe", "tiny+lora", "tiny-full", "finished",
    }  # fmt: skip
    second = harness("evaluate", suite_path, "--workers", "1", "--json")
    assert (second.code, second.json()["scored"], second.json()["reused"]) == (0, 0, 9)
    assert second.json()["results"] == first.json()["results"]
    assert "scored 0, already stored 9, failed 0" in second.err


def test_the_store_recomputes_every_accuracy_and_f1_exactly(harness: Command, suite_path: Path, db: Path) -> None:
    assert harness("evaluate", suite_path, "--workers", "1").code == 0
    rows = query(
        db,
        """SELECT m.name, m.value, CASE m.name
               WHEN 'accuracy' THEN avg((predicted = label)::INT)
               ELSE 2.0 * sum(predicted * label) / nullif(sum(predicted) + sum(label), 0) END
           FROM metric m JOIN run USING (run_id) JOIN prediction p USING (run_id)
           JOIN example e ON e.digest = run.split_digest AND e.example_id = p.example_id
           WHERE m.name IN ('accuracy', 'f1') GROUP BY m.run_id, m.name, m.value""",
    )
    assert len(rows) == 18
    assert all(stored == recomputed for _, stored, recomputed in rows)


@pytest.mark.slow
def test_predictions_do_not_depend_on_the_folder_or_on_the_number_of_workers(
    harness: Command, suite_path: Path, tmp_path: Path
) -> None:
    exported = []
    for folder, workers in (("one", 1), ("two", 2)):
        db = tmp_path / folder / "harness.duckdb"
        result = harness("evaluate", suite_path, "--db", db, "--workers", workers)
        assert result.code == 0, result.err
        exported.append(
            query(
                db,
                """SELECT model_id, seed, run_key, adapter_digest, example_id, predicted, score
                   FROM prediction JOIN run USING (run_id) ORDER BY ALL""",
            )
        )
    assert len(exported[0]) > 8 * 40
    assert exported[0] == exported[1]


def test_what_is_printed_of_one_run_is_what_is_stored_of_it(harness: Command, suite_path: Path, db: Path) -> None:
    (row,) = harness("evaluate", suite_path, "--model", "tfidf", "--workers", "1", "--json").json()["results"]
    stored = query(db, "SELECT value, ci_low, ci_high FROM metric WHERE name = 'accuracy'")
    assert stored == [(row["value"], row["ci_low"], row["ci_high"])]


def test_another_seed_template_or_precision_is_another_run(harness: Command, suite_path: Path, db: Path) -> None:
    text = suite_path.read_text()
    only = ("evaluate", suite_path, "--model", "untrained", "--workers", "1", "--json")
    assert harness(*only).json()["scored"] == 2
    changes = [("seeds = [1, 2]\nprecision", "seeds = [1, 3]\nprecision", 1), ('"{content}"', '"So: {content}"', 2)]
    for old, new, expected in changes:
        suite_path.write_text(text.replace(old, new, 1))
        assert harness(*only).json()["scored"] == expected
    configurations = query(db, "SELECT count(DISTINCT configuration), count(DISTINCT run_key) FROM run")
    assert configurations == [(2, 5)]


def test_a_metric_or_a_gate_that_is_added_costs_no_forward_pass(harness: Command, suite_path: Path) -> None:
    assert harness("evaluate", suite_path, "--model", "tfidf", "--workers", "1").code == 0
    suite_path.write_text(suite_path.read_text().replace("[[gate]]", '[[metric]]\nname = "brier"\n\n[[gate]]'))
    again = harness("evaluate", suite_path, "--model", "tfidf", "--workers", "1", "--json")
    assert (again.json()["scored"], again.json()["reused"]) == (0, 1)


def test_limit_scores_the_first_examples_under_a_key_of_their_own(harness: Command, suite_path: Path, db: Path) -> None:
    only = ("evaluate", suite_path, "--model", "tfidf", "--workers", "1", "--json")
    (row,) = harness(*only, "--limit", "5").json()["results"]
    assert row["n"] == 5
    (whole,) = harness(*only).json()["results"]
    assert whole["n"] > 5
    assert query(db, "SELECT count(DISTINCT run_key), count(DISTINCT split_digest) FROM run") == [(2, 2)]


def test_fresh_scores_again_what_is_stored(harness: Command, suite_path: Path, db: Path) -> None:
    only = ("evaluate", suite_path, "--model", "tfidf", "--workers", "1", "--json")
    harness(*only)
    assert harness(*only, "--fresh").json()["scored"] == 1
    assert query(db, "SELECT count(*) FROM run") == [(2,)]
    assert query(db, "SELECT count(*) FROM leaderboard") == [(1,)]


def test_a_model_that_fails_is_stored_as_an_error_and_the_others_go_on(
    harness: Command, suite_path: Path, db: Path
) -> None:
    in_the_way = db.parent / "adapters" / "lora"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("where the folders of the weights belong")
    result = harness("evaluate", suite_path, "--workers", "1", "--json")
    assert result.code == 3
    assert result.json()["scored"] == 7
    assert "failed: tiny+lora seed 1 on test: " in result.err
    assert "Traceback" not in result.err
    errors = query(db, "SELECT model_id, seed, error FROM run WHERE status = 'error' ORDER BY seed")
    assert [(model, seed) for model, seed, _ in errors] == [("tiny+lora", 1), ("tiny+lora", 2)]
    assert all("FileExistsError" in error for *_, error in errors)
    in_the_way.unlink()
    mended = harness("evaluate", suite_path, "--workers", "1", "--json")
    assert (mended.code, mended.json()["scored"], mended.json()["reused"]) == (0, 2, 7)


def test_a_damaged_adapter_fails_its_model_only(harness: Command, suite_path: Path, tmp_path: Path) -> None:
    assert harness("train", suite_path, "--workers", "1").code == 0
    (weights,) = (tmp_path / "runs" / "adapters" / "lora").glob("seed-1-*/adapter_model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    result = harness("evaluate", suite_path, "--workers", "1", "--json")
    assert result.code == 3
    (failed,) = result.json()["failed"]
    assert failed["model"] == "tiny+lora"
    assert "the weights are not the ones its card describes" in failed["error"]


def test_an_unknown_method_is_refused_before_anything_is_trained(
    harness: Command, suite_path: Path, tmp_path: Path
) -> None:
    suite_path.write_text(suite_path.read_text().replace('method = "lora"', 'method = "telepathy"'))
    result = harness("evaluate", suite_path, "--workers", "1")
    assert result.code == 2
    assert f"{suite_path}: adapter[0]: there is no method 'telepathy'" in result.err
    assert not (tmp_path / "runs" / "adapters").exists()


def test_a_lock_that_does_not_agree_stops_everything(harness: Command, suite_path: Path, db: Path) -> None:
    assert harness("data", suite_path).code == 0
    text = suite_path.read_text()
    suite_path.write_text(text.replace("stop = 1.0", "stop = 0.9"))
    result = harness("evaluate", suite_path, "--workers", "1")
    assert result.code == 2
    assert "split 'test' does not have the pinned rows" in result.err
    assert query(db, "SELECT count(*) FROM split") == [(0,)], "only the audit is in the store"
    assert harness("data", suite_path).code == 2
    assert harness("data", suite_path, "--update-lock").code == 0
    assert harness("evaluate", suite_path, "--workers", "1", "--model", "majority").code == 0


def test_scoring_rows_that_are_trained_on_is_refused(harness: Command, suite_path: Path, db: Path) -> None:
    suite_path.write_text(suite_path.read_text().replace("start = 0.6, stop = 1.0", "start = 0.5, stop = 1.0"))
    result = harness("evaluate", suite_path, "--workers", "1")
    assert result.code == 2
    assert "models that use split 'train' were trained on" in result.err
    assert not db.exists()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


@pytest.fixture
def long_training(configured: Any, suite_path: Path, db: Path) -> Iterator[tuple[processes.Command, list[int]]]:
    """An evaluation with two workers in a process of its own, in the middle of training; and its workers."""
    suite_path.write_text(suite_path.read_text().replace("epochs = 4", "epochs = 900"))
    with processes.Command(["evaluate", suite_path, "--workers", "2"], HARNESS_DB=str(db)) as command:
        while not list((db.parent / "adapters").glob("lora/.*.partial")):
            assert command.poll() is None, command.errors()
            time.sleep(0.1)
        (server,) = [pid for pid in _children(command.pid) if "forkserver" in _command_line(pid)]
        workers = _children(server)
        assert len(workers) == 2
        yield command, workers


def _is_working(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
@pytest.mark.parametrize("has_bf16", [False, True])
def test_bf16_where_it_is_emulated_is_warned_of(
    harness: Command, suite_path: Path, monkeypatch: pytest.MonkeyPatch, has_bf16: bool
) -> None:
    monkeypatch.setattr(provenance, "has_fast_bf16", lambda: has_bf16)
    text = suite_path.read_text()
    text = text.replace('seeds = [1, 2]\nprecision = "fp32"', 'seeds = [1, 2]\nprecision = "bf16"')
    text = text.replace('precision = "fp32", seeds = [1, 2]', 'precision = "bf16", seeds = [1, 2]')
    suite_path.write_text(text)
    models = [word for name in ("tiny+lora", "untrained", "tiny-full", "tfidf") for word in ("--model", name)]
    result = harness("evaluate", suite_path, *models, "--workers", "1")
    assert result.code == 0
    warned = "does not multiply bf16 in hardware: the training of lora, untrained will take many times as long as in"
    assert (warned in result.err) == (not has_bf16)
    assert "hardware" not in harness("evaluate", suite_path, "--model", "tfidf", "--workers", "1").err


@pytest.mark.slow
def test_ctrl_c_leaves_the_store_whole_and_the_next_call_goes_on(
    long_training: tuple[processes.Command, list[int]], suite_path: Path, harness: Command
) -> None:
    command, workers = long_training
    command.send_signal(signal.SIGINT)
    done = command.wait()
    assert done.returncode == 130, done.stderr
    assert "interrupted; what was finished is stored" in done.stderr
    assert "Traceback" not in done.stderr
    assert not any(map(_is_working, workers))
    suite_path.write_text(suite_path.read_text().replace("epochs = 900", "epochs = 4"))
    result = harness("evaluate", suite_path, "--workers", "1", "--json")
    assert (result.code, result.json()["scored"]) == (0, 9)


def test_a_worker_that_is_killed_ends_the_command_with_a_reason(
    long_training: tuple[processes.Command, list[int]],
) -> None:
    command, workers = long_training
    os.kill(workers[0], signal.SIGKILL)
    done = command.wait()
    assert done.returncode == 3, done.stderr
    assert "a worker process died" in done.stderr
    assert not any(map(_is_working, workers))


def test_workers_end_when_the_command_is_killed(long_training: tuple[processes.Command, list[int]]) -> None:
    command, workers = long_training
    command.send_signal(signal.SIGKILL)
    command.wait()
    deadline = time.monotonic() + 10
    while any(map(_is_working, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(_is_working, workers))


def test_adapters_that_came_before_the_store_are_told_to_it(
    harness: Command, suite_path: Path, db: Path, tmp_path: Path
) -> None:
    assert harness("train", suite_path, "--workers", "1").code == 0
    db.unlink()
    assert harness("evaluate", suite_path, "--workers", "1").code == 0
    stored = query(db, "SELECT adapter_id, seed FROM adapter ORDER BY ALL")
    assert stored == [("full", 1), ("lora", 1), ("lora", 2)]
    shutil.rmtree(tmp_path / "runs" / "adapters")
    gate = harness("gate", suite_path)
    assert gate.code == 0, "a gate on a model without an adapter needs none"
