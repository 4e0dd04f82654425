"""A run in parts: nothing is scored twice, nothing is lost, and what is damaged is found, on the real command line."""

import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from harness.engine import ENGINES, MapUnordered, WorkerLost
from harness.engine.scheduler import complete
from harness.errors import RunError
from harness.evaluation import ingest, shards
from harness.evaluation.evaluate import score_missing
from harness.evaluation.ingest import Report
from harness.evaluation.inputs import Workspace, gather
from harness.evaluation.plan import plan
from harness.evaluation.scoring import Job
from harness.progress import Progress, silent
from harness.provenance import now
from harness.store.connection import opened
from harness.store.verify import verify
from harness.suite.load import load
from tests import processes

pytestmark = pytest.mark.slow

Command = Callable[..., Any]
T = TypeVar("T")
R = TypeVar("R")
N = 600
"""Examples of the test split: three shards, each a task of its own."""

SUITE = """version = 1
name = "large"
description = "Made-up reviews, more than fit into a shard"
primary_metric = "accuracy"

[text]
template = "{{content}}"
max_length = 16

[[split]]
id = "train"
source = "file"
path = "train.csv"
format = "csv"

[[split]]
id = "test"
source = "file"
path = "test.csv"
format = "csv"

[[base]]
id = "tiny"
source = "path"
path = "{base}"
sha256 = "{sha256}"

[[model]]
id = "untrained"
backend = "transformer"
base = "tiny"
seeds = [1]
precision = "fp32"

[[model]]
id = "majority"
backend = "majority"
train_split = "train"

[[metric]]
name = "accuracy"
"""


def rows(n: int, first: int = 0) -> str:
    """Made-up reviews, no two alike, whose lengths differ."""
    words = ["great", "awful", "solid", "broken", "lovely", "useless"]
    return "".join(
        f'"{1 + i % 2}","","the phone number {i % 200} is {words[i % 6]} {"and it works " * (i % 3)}{i}"\n'
        for i in range(first, first + n)
    )


@pytest.fixture
def large(tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A suite whose test split is larger than a shard."""
    from harness.artifacts import digest

    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "train.csv").write_text(rows(40, first=100_000))
    (folder / "test.csv").write_text(rows(N))
    path = folder / "large.toml"
    path.write_text(SUITE.format(base=tiny_base, sha256=digest.of_file(tiny_base / "model.safetensors")))
    return path


def answers(db: Path) -> list[tuple[Any, ...]]:
    """What the runs of a store say, in an order that does not depend on when they were stored."""
    with opened(db, read_only=True) as store:
        return store.execute(
            "SELECT model_id, example_id, predicted, score FROM prediction JOIN leaderboard USING (run_id) ORDER BY ALL"
        ).fetchall()


def kept(db: Path) -> dict[str, int]:
    """The files of scored parts, and when they were written."""
    return {path.name: path.stat().st_mtime_ns for path in (db.parent / "shards").glob("*/*.parquet")}


def scored(jobs: Sequence[Job], workspace: Workspace, map_unordered: MapUnordered) -> Report:
    """Score these jobs on an open engine."""
    return complete(map_unordered, lambda scheduler: score_missing(jobs, workspace, scheduler, "e" * 32))


def jobs_of(path: Path, db: Path) -> tuple[list[Job], Workspace]:
    declared, workspace = load(path), Workspace(path, db)
    return plan(declared, gather(declared, workspace), workspace), workspace


def test_a_run_in_parts_is_the_same_with_any_number_of_workers_and_is_not_scored_again(
    harness: Command, large: Path, tmp_path: Path
) -> None:
    stores = {workers: tmp_path / str(workers) / "harness.duckdb" for workers in (1, 2, 3, 7)}
    for workers, db in stores.items():
        result = harness("evaluate", large, "--db", db, "--workers", workers, "--json")
        assert (result.code, result.json()["scored"]) == (0, 2), result.err
        assert {row["n"] for row in result.json()["results"]} == {N}
    one = stores[1]
    assert len(answers(one)) == 2 * N
    assert all(answers(db) == answers(one) for db in stores.values())
    assert len(kept(one)) == 6, "three of each model"

    before, said = kept(one), answers(one)
    one.unlink()
    again = harness("evaluate", large, "--db", one, "--workers", 1, "--json")
    assert again.json()["scored"] == 2, "the new store knows nothing of them"
    assert kept(one) == before, "but no part was scored again"
    assert answers(one) == said

    assert harness("evaluate", large, "--db", one, "--workers", 1, "--fresh").code == 0
    assert not set(kept(one).items()) & set(before.items()), "--fresh scores every part again"
    assert answers(one) == said


def test_of_a_split_that_grew_only_what_is_new_is_scored(harness: Command, large: Path, tmp_path: Path) -> None:
    db = tmp_path / "runs" / "harness.duckdb"
    test = large.parent / "test.csv"
    test.write_text(rows(500))
    assert harness("evaluate", large, "--workers", 1).code == 0
    before = kept(db)
    test.write_text(rows(750))
    assert harness("evaluate", large, "--workers", 1).code == 0
    assert set(before.items()) <= set(kept(db).items())
    assert len(kept(db)) == len(before) + 2, "250 more rows are one more part for each of two models"


def test_a_damaged_part_is_told_of_and_scored_again(harness: Command, large: Path, tmp_path: Path) -> None:
    db = tmp_path / "runs" / "harness.duckdb"
    only = ("evaluate", large, "--workers", 1, "--model", "untrained")
    assert harness(*only).code == 0
    said, before = answers(db), kept(db)
    (_, second, _) = sorted((db.parent / "shards").glob("*/*.parquet"))
    second.write_bytes(second.read_bytes()[:-200])
    db.unlink()
    result = harness(*only)
    assert result.code == 0
    assert f"warning: {second}: is damaged" in result.err
    assert answers(db) == said
    assert {name for name, written in kept(db).items() if before[name] != written} == {second.name}


def test_no_flipped_bit_goes_unnoticed(large: Path, tmp_path: Path) -> None:
    (job, _), workspace = jobs_of(large, tmp_path / "runs" / "harness.duckdb")
    with ENGINES["local"](1, silent) as map_unordered:
        scored([job], workspace, map_unordered)
    shard = shards.shards_of(job, workspace.shards)[0]
    good, whole = shards.read(shard), shard.path.read_bytes()
    assert good is not None
    generator, noticed = np.random.default_rng(5), 0
    for place in generator.integers(len(whole), size=300):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(generator.integers(8))
        shard.path.write_bytes(damaged)
        try:
            found = shards.read(shard)
        except RunError:
            noticed += 1
            continue
        assert found is not None
        assert np.array_equal(found.scores, good.scores), f"byte {place}"
    assert noticed > 150
    other = replace(shard, key="0" * 64)
    shard.path.write_bytes(whole)
    with pytest.raises(RunError, match="are not those that were kept"):
        shards.read(other)


def test_where_nothing_can_be_kept_the_command_says_so(harness: Command, large: Path, tmp_path: Path) -> None:
    in_the_way = tmp_path / "runs" / "shards"
    in_the_way.parent.mkdir()
    in_the_way.write_text("where the folder belongs")
    result = harness("evaluate", large, "--workers", 1)
    assert result.code == 2
    assert "scores cannot be written" in result.err
    assert "Traceback" not in result.err


def test_a_part_that_kills_its_workers_fails_its_run_and_no_other(large: Path, tmp_path: Path) -> None:
    jobs, workspace = jobs_of(large, tmp_path / "runs" / "harness.duckdb")
    poisoned = shards.shards_of(jobs[0], workspace.shards)[1].key

    def map_unordered(function: Callable[[T, Progress], R], items: Iterable[T]) -> Iterator[tuple[T, R | WorkerLost]]:
        """A made-up engine, whose workers die of one part of the first model."""
        for call in items:
            task = call.item  # type: ignore[attr-defined]
            keys = {shard.key for piece in task.pieces for shard in piece.shards}
            yield call, WorkerLost("its worker died 3 times") if poisoned in keys else function(call, silent)

    report = scored(jobs, workspace, map_unordered)
    assert [run.model_id for run in report.scored] == ["majority"]
    (failed,) = report.failed
    assert failed.model_id == "untrained"
    assert failed.error is not None
    assert failed.error.startswith("its worker died 3 times, each time it scored 250 examples from ")
    assert len(kept(workspace.db)) == 5, "the other parts of the failed run are kept"
    with ENGINES["local"](1, silent) as sound:
        mended = scored(jobs, workspace, sound)
    assert [run.model_id for run in mended.scored] == ["untrained"]


@pytest.mark.parametrize(("hold", "expected"), [(3600.0, 1), (0.0, 2)])
def test_a_run_that_is_done_within_a_moment_of_another_waits_to_be_stored_with_others_and_is_not_lost(
    hold: float, expected: int, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "HOLD_SECONDS", hold)
    large.write_text(large.read_text().replace("seeds = [1]", "seeds = [1, 2]"))
    jobs, workspace = jobs_of(large, tmp_path / "runs" / "harness.duckdb")
    runs = "SELECT count(*) FROM run WHERE status = 'success'"
    stored: list[int] = []

    def map_unordered(function: Callable[[T, Progress], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
        """A made-up engine, which breaks down when two of three runs are done."""
        for call in items:
            if call.item.pieces[0].job.model.id == "majority":  # type: ignore[attr-defined]
                with opened(workspace.db, read_only=True) as store:
                    stored.extend(count for (count,) in store.execute(runs).fetchall())
                raise RunError("the engine broke down")
            yield call, function(call, silent)

    with pytest.raises(RunError, match="the engine broke down"):
        scored(jobs, workspace, map_unordered)
    assert stored == [expected]
    assert len(answers(workspace.db)) == 2 * N


def test_killed_again_and_again_it_comes_to_the_same(harness: Command, large: Path, tmp_path: Path) -> None:
    undisturbed, db = tmp_path / "undisturbed" / "harness.duckdb", tmp_path / "killed" / "harness.duckdb"
    assert harness("evaluate", large, "--workers", 1, "--db", undisturbed).code == 0
    began = time.monotonic()
    for parts in (1, 3, 5):
        with processes.Command(["evaluate", large, "--workers", "1", "--db", db]) as command:
            while command.poll() is None and len(kept(db)) < parts and time.monotonic() < began + 180:
                time.sleep(0.01)
            command.send_signal(signal.SIGKILL)
            command.wait()
        if db.is_file():
            with opened(db) as store:  # as the next command would, after a crash
                assert not verify(store, now()).problems
    assert harness("evaluate", large, "--workers", 1, "--db", db).code == 0
    assert answers(db) == answers(undisturbed)
