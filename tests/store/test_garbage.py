"""`harness store gc`: what nothing needs goes, and whatever could be needed stays."""

import os
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from harness.artifacts import atomic
from harness.records import Occlusion, Piece, Run, Split
from harness.store import writer
from harness.store.connection import IMPORT_PREFIX, SNAPSHOT_PREFIX, Connection, opened
from harness.store.garbage import KEPT_DAYS, clear
from harness.store.verify import verify

NOW = datetime(2025, 6, 1)  # noqa: DTZ001 (the store keeps UTC without a zone)
LONG_AGO, JUST_NOW = NOW - timedelta(days=KEPT_DAYS, minutes=1), NOW - timedelta(days=KEPT_DAYS, minutes=-1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "harness.duckdb"


@pytest.fixture
def store(path: Path, make_store: Callable[..., None]) -> Iterator[Connection]:
    make_store(path)
    with opened(path) as connection:
        yield connection


def removed(path: Path, *, dry_run: bool = False) -> list[str]:
    return sorted(Path(garbage.where).name for garbage in clear(path, NOW, dry_run=dry_run).found)


def run_ids(path: Path) -> list[str]:
    with opened(path, read_only=True) as read:
        return [run_id for (run_id,) in read.execute("SELECT run_id FROM run ORDER BY run_id").fetchall()]


def test_only_old_broken_off_runs_and_failures_that_were_made_up_for_are_removed(
    store: Connection, path: Path, make_sound_run: Callable[..., Run], make_split: Callable[..., Split],
    make_predictions: Any,
) -> None:  # fmt: skip
    split = make_split(4, split_id="more")
    writer.write_split(store, "demo", split, with_text=False)

    def write(run_id: str, when: datetime, status: str, key: str) -> None:
        done = status == "success"
        run = make_sound_run(
            split, [0.9] * 4, run_id, status=status, started_at=when, finished_at=when, spec={"key": key}
        )
        writer.write_run(store, run, make_predictions(split, [0.9] * 4) if done else [])

    write("cut-long-ago", LONG_AGO, "cancelled", "a")
    write("started-long-ago", LONG_AGO, "started", "a")
    write("cut-just-now", JUST_NOW, "cancelled", "a")
    write("superseded", LONG_AGO - timedelta(days=900), "success", "b")
    write("failed-before", LONG_AGO, "error", "b")
    write("latest", JUST_NOW, "success", "b")
    write("failed-after", NOW, "error", "b")
    write("failed-only", LONG_AGO, "error", "c")
    store.close()

    gone = ["cut-long-ago", "failed-before", "started-long-ago"]
    before = run_ids(path)
    assert removed(path, dry_run=True) == gone
    assert run_ids(path) == before
    assert removed(path) == gone
    assert run_ids(path) == sorted(set(before) - set(gone))
    assert removed(path) == []
    with opened(path, read_only=True) as read:
        assert verify(read, NOW).problems == ()


def test_rows_without_their_run_are_removed_and_the_store_is_clean_again(store: Connection, path: Path) -> None:
    store.execute("INSERT INTO prediction VALUES ('nobody', 'x', 1, 0.5)")
    store.execute("INSERT INTO metric VALUES ('nothing', 'f1', 1, 1, 1, 1, true, NULL)")
    store.execute("INSERT INTO checksum VALUES ('never', 'x', 'y')")
    piece = Piece(1, 0, 4, 0.5)
    writer.write_occlusions(store, [Occlusion("astray", "no-run", "no-split", "x", 0.9, (piece,), NOW)])
    store.close()
    assert removed(path) == ["astray", "never", "nobody", "nothing"]
    with opened(path, read_only=True) as read:
        assert verify(read, NOW).problems == ()
        assert read.execute("SELECT count(*) FROM prediction").fetchall() == [(47,)]


def folder(path: Path, changed: datetime, size: int = 10) -> Path:
    path.mkdir(parents=True)
    (path / "checkpoint.safetensors").write_bytes(b"x" * size)
    seconds = (changed - datetime(1970, 1, 1)).total_seconds()  # noqa: DTZ001 (UTC without a zone, as the store keeps it)
    for one in (path / "checkpoint.safetensors", path):
        os.utime(one, (seconds, seconds))
    return path


def test_only_what_killed_commands_left_long_ago_is_removed_from_disk(store: Connection, path: Path) -> None:
    store.close()
    adapters, beside = path.parent / "adapters" / "lora", path.parent
    folder(adapters / ".seed-1-abandoned.partial", LONG_AGO, 1000)
    folder(adapters / ".seed-2-resumable.partial", JUST_NOW)
    folder(adapters / ".seed-3-finished.partial", JUST_NOW)
    folder(adapters / "seed-3-finished", LONG_AGO)
    folder(adapters / ".seed-4-held.partial", LONG_AGO)
    folder(adapters / "seed-5-kept", LONG_AGO)
    folder(beside / f"{SNAPSHOT_PREFIX}old", LONG_AGO)
    folder(beside / f"{IMPORT_PREFIX}old", LONG_AGO)
    folder(beside / f"{SNAPSHOT_PREFIX}new", NOW)
    folder(beside / "cache" / "tmpold", LONG_AGO)
    folder(beside / "cache" / "openvino" / f"{atomic.PARTIAL}old", LONG_AGO)
    folder(beside / "cache" / "openvino" / f"{atomic.PARTIAL}new", NOW)
    folder(beside / "cache" / "sdist", LONG_AGO)
    folder(beside.parent / "precious", LONG_AGO)
    (adapters / ".seed-6-link.partial").symlink_to(beside.parent / "precious")
    gone = sorted(
        [
            ".seed-1-abandoned.partial",
            ".seed-3-finished.partial",
            f"{SNAPSHOT_PREFIX}old",
            f"{IMPORT_PREFIX}old",
            "tmpold",
            f"{atomic.PARTIAL}old",
        ]
    )
    with FileLock(adapters / ".seed-4-held.lock"):
        assert removed(path, dry_run=True) == gone
        cleared = clear(path, NOW, dry_run=False)
    assert sorted(Path(garbage.where).name for garbage in cleared.found) == gone
    assert cleared.freed_bytes == 1050
    left = {file.name for file in beside.rglob("*") if file.is_dir()}
    assert left == {
        "adapters", "lora", ".seed-2-resumable.partial", "seed-3-finished", ".seed-4-held.partial", "seed-5-kept",
        ".seed-6-link.partial", f"{SNAPSHOT_PREFIX}new", "cache", "sdist", "openvino", f"{atomic.PARTIAL}new",
    }  # fmt: skip
    assert (beside.parent / "precious" / "checkpoint.safetensors").exists()


def test_parts_of_runs_are_kept_for_a_while_and_unfinished_files_for_a_day(store: Connection, path: Path) -> None:
    store.close()
    place = path.parent / "shards" / "ab"
    place.mkdir(parents=True)
    day = timedelta(hours=25)
    ages = {"old.parquet": LONG_AGO, "new.parquet": JUST_NOW, ".partial-old": NOW - day, ".partial-new": NOW}
    for name, changed in ages.items():
        (place / name).write_bytes(b"x" * 10)
        seconds = (changed - datetime(1970, 1, 1)).total_seconds()  # noqa: DTZ001 (UTC without a zone)
        os.utime(place / name, (seconds, seconds))
    states = path.parent / "cache" / "states"
    states.mkdir(parents=True)
    for name in (".partial-states", "whole.states"):
        (states / name).write_bytes(b"x" * 5)
        os.utime(states / name, (0, 0))
    (path.parent / ".workers-of-a-killed-command").touch()
    os.utime(path.parent / ".workers-of-a-killed-command", (0, 0))
    cleared = clear(path, NOW, dry_run=False)
    found = sorted(Path(garbage.where).name for garbage in cleared.found)
    assert found == [".partial-old", ".partial-states", ".workers-of-a-killed-command", "old.parquet"]
    assert cleared.freed_bytes == 25
    assert [file.name for file in states.iterdir()] == ["whole.states"]
    assert {file.name for file in place.iterdir()} == {"new.parquet", ".partial-new"}
