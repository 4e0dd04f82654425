"""What the store does when the machine fails it: each fault is caused for real, in a process of its own.

docs/reliability.md has a line for each.
"""

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from harness.engine import ENGINES
from harness.engine.scheduler import complete
from harness.evaluation.evaluate import score_missing
from harness.evaluation.inputs import Workspace, gather
from harness.evaluation.plan import plan
from harness.progress import silent
from harness.records import Run, Split
from harness.store import bundle, reader, writer
from harness.store.connection import opened
from harness.store.verify import verify
from harness.suite.load import load
from tests.processes import Command, command

pytestmark = pytest.mark.slow

NOW = datetime(2025, 6, 1)  # noqa: DTZ001 (the store keeps UTC without a zone)


@pytest.fixture
def db(tmp_path: Path, make_store: Callable[..., None]) -> Path:
    path = tmp_path / "runs" / "harness.duckdb"
    make_store(path)
    return path


def problems(path: Path) -> list[str]:
    with opened(path, read_only=True) as store:
        return [str(problem) for problem in verify(store, NOW).problems]


@pytest.fixture(scope="module")
def large_bundle(tmp_path_factory: pytest.TempPathFactory, make_sound_run: Callable[..., Run]) -> Path:
    """A bundle of one run on 2,000 examples with texts of 2,000 characters that cannot be compressed to a few."""
    from harness import data
    from harness.data.source import Row
    from harness.records import Prediction

    folder, n = tmp_path_factory.mktemp("large"), 2_000
    texts = [np.random.default_rng(i).bytes(1_000).hex() for i in range(n)]
    split = data.as_split("large", [Row("", text, i % 2, None) for i, text in enumerate(texts)], {"source": "file"})
    scores = [i % 97 / 97 for i in range(n)]
    with opened(folder / "large.duckdb") as store:
        writer.write_split(store, "demo", split, with_text=True)
        run = make_sound_run(split, scores, "run-large")
        answers = [Prediction(e.example_id, int(s > 0.5), s) for e, s in zip(split.examples, scores, strict=True)]
        writer.write_run(store, run, answers)
        bundle.write(store, folder / "large.bundle")
    return folder / "large.bundle"


# Disk and memory


def test_a_full_disk_is_said_to_be_one_and_what_was_stored_stays(db: Path, large_bundle: Path) -> None:
    """No file may grow beyond 1 MB: what a disk without room answers to."""
    failed = command("store", "import", large_bundle, "--db", db, limit=(resource.RLIMIT_FSIZE, 1_000_000))
    assert failed.returncode == 2, failed.stderr
    assert "File too large" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert problems(db) == []
    assert [path.name for path in db.parent.iterdir()] == [db.name]
    assert command("store", "import", large_bundle, "--db", db).returncode == 0
    assert problems(db) == []


def test_a_full_disk_within_a_transaction_keeps_the_store_as_it_was(db: Path) -> None:
    code = """if True:
        import resource, sys
        from pathlib import Path
        from harness.errors import StoreError
        from harness.store.connection import opened, transaction
        path = Path(sys.argv[1])
        size = path.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1000, size + 1000))
        try:
            with opened(path) as store, transaction(store):
                store.execute("DELETE FROM prediction")
                store.execute(
                    "INSERT INTO metric "
                    "SELECT md5(i::VARCHAR), md5(i::VARCHAR), 1, 1, 1, 1, true, NULL FROM range(500_000) t(i)"
                )
        except StoreError as problem:
            print(problem)
    """
    done = subprocess.run([sys.executable, "-c", code, str(db)], capture_output=True, text=True, check=True)
    assert "there is no room on the disk" in done.stdout
    assert "earlier results are unchanged" in done.stdout
    assert problems(db) == []


def test_a_process_without_enough_memory_for_a_bundle_stores_nothing(db: Path, large_bundle: Path) -> None:
    """Where a library of C++ cannot even make its threads, the process is ended; else the command says why it ends."""
    code = """if True:
        import resource, sys
        import harness.store.bundle, harness.output.terminal  # what is loaded already is not what is looked at here
        from harness.cli import main
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 60_000_000,) * 2)
        sys.argv = ["harness", "store", "import", sys.argv[1], "--db", sys.argv[2]]
        main()
    """
    typed = [sys.executable, "-c", code, str(large_bundle), str(db)]
    failed = subprocess.run(typed, capture_output=True, text=True, check=False)
    assert failed.returncode != 0
    assert failed.returncode != 2 or "emory" in failed.stderr
    assert problems(db) == []
    with opened(db, read_only=True) as store:
        assert [run.run_id for run in reader.all_runs(store)] == ["run-0", "run-1", "run-2"]


# Kill


@pytest.mark.parametrize("after", ["run", "prediction", "checksum"])
def test_a_command_that_is_killed_while_a_run_is_written_leaves_all_of_it_or_nothing(after: str, db: Path) -> None:
    """The process kills itself within `write_run`, once it has written to the table."""
    code = """if True:
        import os, signal, sys
        from dataclasses import replace
        from pathlib import Path
        from harness.records import Prediction
        from harness.store import reader, writer
        from harness.store.connection import opened

        class Killing:
            '''A connection that kills its process after an INSERT into one table.'''
            def __init__(self, connection): self.connection = connection
            def __getattr__(self, name): return getattr(self.connection, name)
            def execute(self, sql, *values):
                done = self.connection.execute(sql, *values)
                if sql.startswith("INSERT INTO " + sys.argv[2] + " "):
                    os.kill(os.getpid(), signal.SIGKILL)
                return done

        with opened(Path(sys.argv[1])) as store:
            run = next(run for run in reader.all_runs(store) if run.run_id == "run-0")
            found = reader.outcomes(store, run.run_id)
            columns = found.example_ids, found.predicted.tolist(), found.scores.tolist()
            answers = [Prediction(*row) for row in zip(*columns)]
            writer.write_run(Killing(store), replace(run, run_id="killed"), answers)
    """
    killed = subprocess.run([sys.executable, "-c", code, str(db), after], check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert problems(db) == []
    with opened(db) as store:
        assert [run.run_id for run in reader.all_runs(store)] == ["run-0", "run-1", "run-2"]


# Clocks


def test_with_a_clock_that_goes_backwards_the_run_with_the_latest_time_counts_and_it_is_noted(
    db: Path, make_sound_run: Callable[..., Run], make_split: Callable[..., Split], make_predictions: Any
) -> None:
    split = make_split(4, split_id="more")
    with opened(db) as store:
        writer.write_split(store, "demo", split, with_text=False)
        for run_id, ended in (("first", NOW), ("second", NOW - timedelta(days=3))):
            run = make_sound_run(split, [0.9] * 4, run_id, started_at=NOW - timedelta(hours=1), finished_at=ended)
            writer.write_run(store, run, make_predictions(split, [0.9] * 4))
        assert reader.latest_runs(store, [run.run_key])[run.run_key].run_id == "first"
        report = verify(store, NOW)
        assert report.problems == ()
        assert report.notes == ("1 runs ended before they began: the clock went backwards",)


# Others at the same time


def test_two_evaluations_at_once_on_one_store_both_finish_and_nothing_is_lost(
    suite_path: Path, configured: Any, tmp_path: Path
) -> None:
    db = tmp_path / "runs" / "harness.duckdb"
    words = ["evaluate", suite_path, "--model", "tfidf", "--model", "majority", "--workers", "1", "--db", db]
    with Command(words) as one, Command(words) as other:
        done = [one.wait(), other.wait()]
    assert [result.returncode for result in done] == [0, 0], done
    assert problems(db) == []
    with opened(db, read_only=True) as store:
        runs = reader.all_runs(store)
        assert {run.model_id for run in runs} == {"majority", "tfidf"}
        assert len(runs) == sum(int(result.stderr.split("scored ")[-1].split(",")[0]) for result in done)


def test_an_adapter_that_is_replaced_after_it_was_trained_is_refused(
    harness: Callable[..., Any], suite_path: Path, tmp_path: Path
) -> None:
    only = ("evaluate", suite_path, "--model", "tiny+lora", "--workers", "1")
    assert harness(*only).code == 0
    first, second = sorted((tmp_path / "runs" / "adapters" / "lora").glob("seed-*"))
    (first / "adapter_model.safetensors").write_bytes((second / "adapter_model.safetensors").read_bytes())
    again = harness(*only, "--json")
    assert again.code == 3
    assert [failed["model"] for failed in again.json()["failed"]] == ["tiny+lora"]
    assert "the weights are not the ones its card describes" in again.json()["failed"][0]["error"]
    assert problems(tmp_path / "runs" / "harness.duckdb") == []


def test_an_adapter_that_is_replaced_between_planning_and_loading_is_no_success_of_the_old_one(
    harness: Callable[..., Any], suite_path: Path, tmp_path: Path
) -> None:
    """What the command line does, step by step, with another adapter in the place of the one that was planned with."""
    db = tmp_path / "runs" / "harness.duckdb"
    assert harness("train", suite_path, "--adapter", "lora", "--workers", "1").code == 0
    declared, workspace = load(suite_path), Workspace(suite_path, db)
    jobs = plan(declared, gather(declared, workspace), workspace, model_ids=["tiny+lora"])
    first, second = sorted((tmp_path / "runs" / "adapters" / "lora").glob("seed-*"))
    shutil.rmtree(first)
    shutil.copytree(second, first)  # whole and sound, its card with it
    with ENGINES["local"](1, silent) as map_unordered:
        report = complete(map_unordered, lambda scheduler: score_missing(jobs, workspace, scheduler, "e" * 32))
    assert [(run.seed, run.status) for run in report.failed] == [(1, "error")]
    assert "was replaced after it was checked" in str(report.failed[0].error)
    assert [run.seed for run in report.scored] == [2]


def test_the_store_may_be_cleared_while_another_command_trains(db: Path) -> None:
    """The lock is held by this process, and the command is another one."""
    partial = db.parent / "adapters" / "lora" / ".seed-1-0123.partial"
    partial.mkdir(parents=True)
    os.utime(partial, (0, 0))
    with FileLock(partial.with_suffix(".lock")):
        assert command("store", "gc", "--db", db).returncode == 0
        assert partial.is_dir()
    assert command("store", "gc", "--db", db).returncode == 0
    assert not partial.exists()
