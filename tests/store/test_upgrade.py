"""Stores of earlier schemas are brought up to date, kept as they were, never left in between; and copies to read."""

import logging
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from harness.errors import StoreError
from harness.records import Prediction, Run, Split
from harness.store import reader, writer
from harness.store.connection import SNAPSHOT_PREFIX, bring_to, latest_schema, opened, snapshot
from harness.store.verify import verify

NOW = datetime(2025, 6, 1)  # noqa: DTZ001 (the store keeps UTC without a zone)


def filled(path: Path, schema: int, split: Split, run: Run) -> None:
    """A store as the release of that schema made it, with a run and its predictions."""
    with duckdb.connect(str(path)) as old:
        bring_to(old, schema)
        old.execute(
            "INSERT INTO split VALUES (?, ?, 'demo', '{}', ?)", [split.split_id, split.digest, len(split.examples)]
        )
        for position, example in enumerate(split.examples):
            values = [split.digest, example.example_id, position, example.label, example.text_digest]
            old.execute("INSERT INTO example VALUES (?, ?, ?, ?, NULL, ?, NULL, NULL)", values)
            old.execute("INSERT INTO prediction VALUES (?, ?, 1, 0.75)", [run.run_id, example.example_id])
        row = {
            name: getattr(run, name) for name in Run.__dataclass_fields__ if name not in ("metrics", "evaluation_id")
        } | dict.fromkeys(("spec", "packages", "hardware"), "{}")
        old.execute(
            f"INSERT INTO run ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",  # noqa: S608 (constant)
            list(row.values()),
        )


def told(path: Path) -> list[Any]:
    """What a store holds, whatever its schema."""
    with duckdb.connect(str(path), read_only=True) as store:
        versions = store.execute("SELECT version FROM migration ORDER BY version").fetchall()
        return [versions, store.execute("SELECT run_id, example_id, score FROM prediction ORDER BY ALL").fetchall()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "harness.duckdb"


@pytest.mark.slow
@pytest.mark.parametrize("schema", range(1, latest_schema()))
def test_a_store_of_every_earlier_schema_keeps_its_runs_and_a_copy_of_itself(
    schema: int, path: Path, make_run: Callable[..., Run], make_split: Callable[..., Split],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    split = make_split()
    filled(path, schema, split, make_run(split))
    before = told(path)
    with pytest.raises(StoreError, match="has an older schema"), opened(path, read_only=True):
        pass
    with caplog.at_level(logging.WARNING), opened(path) as store:
        (run,) = reader.all_runs(store)
        assert (run.run_id, run.evaluation_id) == ("run-1", None)
        assert list(reader.latest_runs(store, ["key-1"])) == ["key-1"]
        assert reader.outcomes(store, "run-1").scores.tolist() == [0.75] * 6
        assert any("without a complete checksum" in note for note in verify(store, NOW).notes)
        writer.write_run(store, make_run(split, run_id="run-2"), predictions_of(split))
    kept = path.with_name(f"harness.duckdb.schema-{schema}")
    said = f"{path}: migrated from schema {schema} to {latest_schema()}; a copy of the old store is in {kept}"
    assert caplog.messages == [said]
    assert told(kept) == before
    assert sorted(file.name for file in path.parent.iterdir()) == ["harness.duckdb", kept.name]


def predictions_of(split: Split) -> list[Prediction]:
    return [Prediction(example.example_id, 1, 0.75) for example in split.examples]


def test_a_copy_that_is_there_already_stays(
    path: Path, make_run: Callable[..., Run], make_split: Callable[..., Split]
) -> None:
    filled(path, 1, make_split(), make_run(make_split()))
    kept = path.with_name("harness.duckdb.schema-1")
    kept.write_text("kept before")
    with opened(path):
        pass
    assert kept.read_text() == "kept before"


def test_a_new_store_is_not_copied(path: Path) -> None:
    with opened(path):
        pass
    assert [file.name for file in path.parent.iterdir()] == ["harness.duckdb"]


def test_a_migration_that_fails_leaves_the_store_as_it_was(
    path: Path, make_run: Callable[..., Run], make_split: Callable[..., Split]
) -> None:
    filled(path, 2, make_split(), make_run(make_split()))
    with duckdb.connect(str(path)) as old:
        old.execute("CREATE TABLE forgetting (mine INTEGER)")  # in the way of the sixth migration, not of the third
    before = told(path)
    with pytest.raises(StoreError) as caught, opened(path):
        pass
    assert "cannot be migrated to schema" in str(caught.value)
    assert str(caught.value).endswith("it is unchanged")
    assert told(path) == before == told(path.with_name("harness.duckdb.schema-2"))


def test_a_store_that_cannot_be_copied_is_not_migrated(
    path: Path, make_run: Callable[..., Run], make_split: Callable[..., Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(path, 2, make_split(), make_run(make_split()))
    before = told(path)
    monkeypatch.setattr(sys, "executable", shutil.which("false"))  # the process that copies fails
    with pytest.raises(StoreError, match="cannot be copied before its migration"), opened(path):
        pass
    monkeypatch.undo()
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    assert told(path) == before


HOLD = """if True:
    import sys, time
    from pathlib import Path
    from harness.store.connection import opened
    with opened(Path(sys.argv[1])) as store:
        print("held", flush=True)
        time.sleep(float(sys.argv[2]))
"""


def hold(path: Path, seconds: float) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path), str(seconds)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture
def stored(path: Path, make_split: Callable[..., Split]) -> None:
    """There is a store with a split, which nobody holds."""
    with opened(path) as connection:
        writer.write_split(connection, "demo", make_split(), with_text=True)


def test_a_store_that_is_open_twice_here_is_one_and_is_free_after_the_last(path: Path, stored: None) -> None:
    with opened(path) as outer:
        with opened(path, read_only=True) as inner:
            outer.execute("DELETE FROM example")
            assert inner.execute("SELECT count(*) FROM example").fetchall() == [(0,)]
        outer.execute("DELETE FROM split")
    with hold(path, 0) as other:
        assert other.wait() == 0


def test_a_store_that_is_being_read_here_is_not_written(path: Path, stored: None) -> None:
    with opened(path, read_only=True):
        with (
            pytest.raises(StoreError, match=r"cannot be opened as a store \(this process is reading it\)"),
            opened(path),
        ):
            pass
        with opened(path, read_only=True) as second:
            assert second.execute("SELECT split_id FROM split").fetchall() == [("test",)]
    with opened(path) as written:
        written.execute("DELETE FROM example")


def test_a_store_that_a_notebook_has_open_itself_can_be_written_beside(path: Path, stored: None) -> None:
    """The notebook page suggests DuckDB's own client, which may have the file open in the same process."""
    with duckdb.connect(str(path)) as notebook:
        assert notebook.execute("SELECT split_id FROM split").fetchall() == [("test",)]
        with opened(path) as written:
            written.execute("DELETE FROM example")
        assert notebook.execute("SELECT count(*) FROM example").fetchall() == [(0,)]
    with duckdb.connect(str(path), read_only=True), opened(path, read_only=True) as read:
        assert read.execute("SELECT count(*) FROM example").fetchall() == [(0,)]


def test_a_snapshot_leaves_the_store_free_for_writers(
    stored: None, path: Path, make_split: Callable[..., Split]
) -> None:
    with snapshot(path) as read:
        with hold(path, 0) as writing:  # another process takes the store for itself meanwhile
            assert writing.wait() == 0
        with opened(path) as written:
            writer.write_split(written, "demo", make_split(3, split_id="new"), with_text=True)
        assert read.execute("SELECT split_id FROM split").fetchall() == [("test",)]
        (copy,) = (file for file in path.parent.iterdir() if file.is_dir())
        assert copy.name.startswith(SNAPSHOT_PREFIX)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_copy_is_made_while_the_store_is_held_against_writers(stored: None, path: Path) -> None:
    """The copying process must not end this one's lock on the file."""
    from harness.store import connection

    with opened(path, read_only=True):
        connection._copy(path, path.with_name("copy"))
        tried = subprocess.run(
            [sys.executable, "-c", HOLD, str(path), "0"], capture_output=True, text=True, check=False
        )
    assert (tried.returncode, tried.stdout) == (1, "")
    assert "holds this store" in tried.stderr


def test_a_snapshot_of_a_store_that_a_writer_holds_waits_and_then_names_it(path: Path, stored: None) -> None:
    with hold(path, 60) as holder:
        with pytest.raises(StoreError, match=rf"process {holder.pid} holds this store"), snapshot(path):
            pass
        holder.kill()


def test_a_snapshot_of_a_killed_writers_store_has_what_it_had_committed(
    path: Path, make_split: Callable[..., Split]
) -> None:
    with opened(path):
        pass
    code = """if True:
        import os, signal, sys
        from pathlib import Path
        from harness.store.connection import opened
        with opened(Path(sys.argv[1])) as store:
            store.execute("INSERT INTO split VALUES ('committed', 'd', 's', '{}', 1)")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.with_name("harness.duckdb.wal").exists()
    with snapshot(path) as read:
        assert read.execute("SELECT split_id FROM split").fetchall() == [("committed",)]


def test_where_no_copy_can_be_made_the_store_itself_is_read(path: Path, stored: None) -> None:
    """A process without a byte left to write: the copy fails, the reading does not."""
    code = """if True:
        import resource, sys
        from pathlib import Path
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        from harness.store.connection import snapshot
        with snapshot(Path(sys.argv[1])) as store:
            print(store.execute("SELECT split_id FROM split").fetchall())
    """
    read = subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True)
    assert read.stdout == "[('test',)]\n"
    assert [file.name for file in path.parent.iterdir()] == [path.name]
