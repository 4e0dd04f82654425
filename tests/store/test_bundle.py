"""Bundles: what one store exports another takes in, once, wholly or not at all; hostile ones are refused."""

import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.errors import UsageError
from harness.records import Occlusion, Piece, Run, Split
from harness.store import bundle, reader, writer
from harness.store.connection import Connection, latest_schema, opened
from harness.store.verify import verify

NOW = datetime(2025, 6, 1)  # noqa: DTZ001 (the store keeps UTC without a zone)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "one" / "harness.duckdb"


@pytest.fixture
def store(path: Path, make_store: Callable[..., None]) -> Iterator[Connection]:
    make_store(path)
    with opened(path) as connection:
        yield connection


@pytest.fixture
def exported(store: Connection, tmp_path: Path) -> Path:
    bundle.write(store, tmp_path / "runs.bundle")
    return tmp_path / "runs.bundle"


def rows(db: Path, table: str) -> list[tuple[Any, ...]]:
    with opened(db, read_only=True) as read:
        return read.execute(f"SELECT * FROM {table} ORDER BY ALL").fetchall()  # noqa: S608 (constant)


def everything(db: Path) -> dict[str, list[tuple[Any, ...]]]:
    return {table: rows(db, table) for table in bundle.TABLES}


def test_another_store_takes_in_the_successful_runs_and_all_that_they_need(
    store: Connection, exported: Path, path: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other" / "harness.duckdb"
    taken = bundle.take_in(other, exported, NOW)
    assert taken.rows == {
        "split": 2, "example": 47, "adapter": 1, "run": 2, "prediction": 47, "metric": 18, "checksum": 2,
        "occlusion": 0,
    }  # fmt: skip
    store.close()
    here, there = everything(path), everything(other)
    for table in ("example", "adapter", "prediction", "metric", "checksum"):
        assert there[table] == here[table]
    assert [run[0] for run in there["run"]] == ["run-0", "run-1"]
    with opened(other, read_only=True) as read:
        report = verify(read, NOW)
        assert (report.problems, report.notes) == ((), ())
    assert sorted(file.name for file in other.parent.iterdir()) == ["harness.duckdb"]


def test_taking_in_twice_is_taking_in_once(exported: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.duckdb"
    bundle.take_in(other, exported, NOW)
    before = everything(other)
    again = bundle.take_in(other, exported, NOW)
    assert (sum(again.rows.values()), again.in_bundle["run"]) == (0, 2)
    assert everything(other) == before


def test_stores_that_share_some_runs_come_to_hold_both(
    store: Connection, exported: Path, tmp_path: Path, make_store: Callable[..., None]
) -> None:
    other = tmp_path / "other.duckdb"
    make_store(other, seed=6, prefix="other")
    assert bundle.take_in(other, exported, NOW).rows == {
        "split": 0, "example": 0, "adapter": 0, "run": 2, "prediction": 47, "metric": 18, "checksum": 2,
        "occlusion": 0,
    }  # fmt: skip
    with opened(other) as read:
        assert verify(read, NOW).problems == ()
        bundle.write(read, tmp_path / "both.bundle")
    store.close()
    assert bundle.take_in(tmp_path / "one" / "harness.duckdb", tmp_path / "both.bundle", NOW).rows["run"] == 2


def test_only_the_suites_that_are_asked_for_are_exported(
    store: Connection, tmp_path: Path, make_sound_run: Callable[..., Run], make_split: Callable[..., Split],
    make_predictions: Any,
) -> None:  # fmt: skip
    split = make_split(5, split_id="theirs")
    writer.write_split(store, "theirs", split, with_text=True)
    run = make_sound_run(split, [0.9] * 5, "run-9", suite="theirs")
    writer.write_run(store, run, make_predictions(split, [0.9] * 5))
    assert bundle.write(store, tmp_path / "theirs", ["theirs"]).rows["run"] == 1
    assert bundle.write(store, tmp_path / "demo", ["demo"]).rows == bundle.write(
        store, tmp_path / "all"
    ).rows | {"split": 2, "example": 47, "run": 2, "prediction": 47, "metric": 18, "checksum": 2}  # fmt: skip
    with pytest.raises(UsageError, match=r"no successful runs to export \(suites in the store: demo, theirs\)"):
        bundle.write(store, tmp_path / "none", ["nobody's"])
    assert not (tmp_path / "none").exists()


def test_texts_travel_only_where_they_are_stored(store: Connection, exported: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.duckdb"
    bundle.take_in(other, exported, NOW)
    with opened(other, read_only=True) as read:
        assert read.execute("SELECT count(*), count(content) FROM example").fetchall() == [(47, 40)]


def test_a_store_that_keeps_no_texts_of_a_split_is_given_none(
    exported: Path, tmp_path: Path, store: Connection, make_store: Callable[..., None]
) -> None:
    other = tmp_path / "other.duckdb"
    make_store(other, prefix="other")
    with opened(other) as connection:
        connection.execute("UPDATE example SET title = NULL, content = NULL")
    bundle.take_in(other, exported, NOW)
    with opened(other, read_only=True) as read:
        assert read.execute("SELECT count(content) FROM example").fetchall() == [(0,)]


def test_a_file_that_is_there_is_not_written_over(store: Connection, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exists already"):
        bundle.write(store, exported)
    with pytest.raises(UsageError, match="does not exist; create it"):
        bundle.write(store, tmp_path / "nowhere" / "file")


CONTRADICTIONS = {
    "run run-0 has a different record": "UPDATE run SET seconds = 7 WHERE run_id = 'run-0'",
    "run run-0 has a different accuracy": "DELETE FROM metric WHERE run_id = 'run-0' AND name = 'accuracy'",
    "run run-1 has different predictions": "UPDATE prediction SET score = 0.123 WHERE run_id = 'run-1'",
    "adapter " + "a" * 64 + " has a different method": "UPDATE adapter SET method = 'ia3'",
    "has an example": "UPDATE example SET label = 1 - label WHERE content IS NULL",
}


@pytest.mark.slow
@pytest.mark.parametrize(("said", "sql"), CONTRADICTIONS.items(), ids=CONTRADICTIONS)
def test_what_contradicts_the_store_is_refused_and_nothing_is_taken(
    said: str, sql: str, store: Connection, exported: Path, path: Path
) -> None:
    store.execute("DELETE FROM prediction WHERE run_id = 'run-0' AND score > 0.9")  # something that would be new
    store.execute(sql)
    store.close()
    before = everything(path)
    with pytest.raises(UsageError) as caught:
        bundle.take_in(path, exported, NOW)
    assert f"{exported}: " in str(caught.value)
    assert said in str(caught.value)
    assert str(caught.value).endswith("nothing was stored")
    assert everything(path) == before


# Hostile and damaged bundles

Members = dict[str, bytes]


def members_of(path: Path) -> Members:
    with zipfile.ZipFile(path) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def packed(members: Members, path: Path, compression: int = zipfile.ZIP_STORED) -> Path:
    """A bundle of these members whose manifest agrees with them, as a forger would make it."""
    manifest = json.loads(members["manifest.json"])
    for name, told in manifest["files"].items():
        if name in members:
            told["sha256"] = hashlib.sha256(members[name]).hexdigest()
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in (members | {"manifest.json": json.dumps(manifest).encode()}).items():
            archive.writestr(name, data)
    return path


def changed(members: Members, table: str, change: Callable[[Any], Any]) -> Members:
    """With another table in the place of one, and the number of its rows in the manifest."""
    new = change(pq.read_table(io.BytesIO(members[f"{table}.parquet"]), arrow_extensions_enabled=False))
    out = io.BytesIO()
    pq.write_table(new, out)
    manifest = json.loads(members["manifest.json"])
    manifest["files"][f"{table}.parquet"]["rows"] = new.num_rows
    return members | {f"{table}.parquet": out.getvalue(), "manifest.json": json.dumps(manifest).encode()}


def with_column(name: str, value: Any) -> Callable[[Any], Any]:
    """The same value in every row."""

    def change(table: Any) -> Any:
        at = table.schema.get_field_index(name)
        kind = table.schema.field(name).type
        return table.set_column(at, pa.field(name, kind), pa.array([value] * table.num_rows, kind))

    return change


def reseal(old: str, new: str) -> Callable[[Members], Members]:
    return lambda members: members | {"manifest.json": members["manifest.json"].replace(old.encode(), new.encode())}


def forged(table: str, change: Callable[[Any], Any]) -> Callable[[Members], Members]:
    return lambda members: changed(members, table, change)


DEEP = '{"a":' * 3000 + "1" + "}" * 3000
FORGED: dict[str, tuple[Callable[[Members], Members], str]] = {
    "a member outside": (lambda m: m | {"../../evil.parquet": b"x"}, "members"),
    "a member is missing": (lambda m: {n: d for n, d in m.items() if n != "run.parquet"}, "members"),
    "another member in its place": (
        lambda m: {(n if n != "run.parquet" else "/etc/passwd"): d for n, d in m.items()},
        "members are not",
    ),
    "many members": (lambda m: m | {f"{i}": b"" for i in range(1000)}, "members"),
    "another format": (reseal("adapter-harness runs", "something else"), "another format"),
    "a newer schema": (reseal(f'"schema": {latest_schema()}', '"schema": 9999'), "newer release"),
    "an older schema than there are bundles": (reseal(f'"schema": {latest_schema()}', '"schema": 2'), "schema 2"),
    "rows without end": (reseal('"rows": 2', '"rows": 99999999999'), "impossible"),
    "another number of rows": (reseal('"rows": 2', '"rows": 3'), "but states 3"),
    "rows that are no number": (reseal('"rows": 2', '"rows": true'), "impossible"),
    "a manifest that is a list": (lambda m: m, ""),
    "no Parquet": (lambda m: m | {"run.parquet": b"not Parquet" * 9}, "not readable as Parquet"),
    "cut Parquet": (lambda m: m | {"run.parquet": m["run.parquet"][:-9]}, "not readable as Parquet"),
    "a column's name that is no text": (
        lambda m: m | {"run.parquet": m["run.parquet"].replace(b"model_id", b"\xf2odel_id")},
        "not readable as Parquet",
    ),
    "a column more": (forged("run", lambda t: t.append_column("x", pa.array([1, 2]))), "other columns"),
    "a column of another type": (
        forged("metric", lambda t: t.set_column(5, "n", pa.array(["1"] * t.num_rows))),
        "other columns",
    ),
    "no columns": (forged("run", lambda t: t.select([])), "but states|other columns"),
    "a run twice": (forged("run", lambda t: pa.concat_tables([t, t.slice(0, 1)])), "holds impossible values"),
    "a score of seven": (forged("prediction", with_column("score", 7.0)), "holds impossible values"),
    "a score that is not a number": (
        forged("prediction", with_column("score", float("nan"))),
        "holds impossible values",
    ),
    "a prediction that is absent": (forged("prediction", lambda t: t.slice(1)), "contradicts itself"),
    "scores that the metrics are not of": (forged("prediction", with_column("score", 0.5)), "contradicts itself"),
    "a metric that is better": (forged("metric", with_column("value", 1.0)), "contradicts itself"),
    "labels that are not those of the texts": (forged("example", with_column("label", 1)), "contradicts itself"),
    "a spec that is no JSON": (forged("run", with_column("spec", "{")), "holds impossible values"),
    "a spec that is a list": (forged("run", with_column("spec", "[]")), "contradicts itself"),
    "hardware that is very deep": (forged("run", with_column("hardware", DEEP)), "contradicts itself|impossible"),
    "a model that speaks to the terminal": (forged("run", with_column("suite", "\x1b]0;evil\x07")), "control char"),
    "hardware that speaks to the terminal": (
        forged("run", with_column("hardware", '{"processor": "\\\\\\u001b]0;evil"}')),
        "control characters in hardware",
    ),
    "a package that speaks to the terminal": (
        forged("run", with_column("packages", '{"torch\\u009b": "1"}')),
        "control characters in packages",
    ),
    "a package of two lines": (forged("run", with_column("packages", '{"torch": "\\n"}')), "control char"),
    "a run of the future": (forged("run", with_column("finished_at", datetime(2999, 1, 1))), "ended in the future"),  # noqa: DTZ001
    "a run that failed": (forged("run", with_column("status", "cancelled")), "did not succeed|contradicts itself"),
    "a status that there is not": (forged("run", with_column("status", "splendid")), "holds impossible values"),
    "a text without end": (forged("example", with_column("content", "x" * 3_000_000)), "texts that are too long"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("forge", "said"), FORGED.values(), ids=FORGED)
def test_a_forged_bundle_is_refused_and_nothing_is_stored(
    forge: Callable[[Members], Members], said: str, exported: Path, tmp_path: Path
) -> None:
    bad = packed(forge(members_of(exported)), tmp_path / "bad.bundle")
    if not said:
        with zipfile.ZipFile(bad, "w") as archive:
            for name, data in (members_of(exported) | {"manifest.json": b"[]"}).items():
                archive.writestr(name, data)
        said = "manifest.json is invalid"
    other = tmp_path / "deep" / "other.duckdb"
    with pytest.raises(UsageError, match=said) as caught:
        bundle.take_in(other, bad, NOW)
    assert str(bad) in str(caught.value)
    assert list(other.parent.iterdir()) == []
    assert not (tmp_path / "evil.parquet").exists()


def test_a_bundle_that_is_packed_again_unchanged_is_taken_in(exported: Path, tmp_path: Path) -> None:
    """The forgeries above are refused for what was forged, and not for how they were packed."""
    again = packed(members_of(exported), tmp_path / "again.bundle")
    assert bundle.take_in(tmp_path / "other.duckdb", again, NOW).rows["run"] == 2
    rewritten = members_of(exported)
    for table in bundle.TABLES:
        rewritten = changed(rewritten, table, lambda same: same)
    assert bundle.take_in(tmp_path / "third.duckdb", packed(rewritten, tmp_path / "b"), NOW).rows["run"] == 2


@pytest.fixture
def explained(store: Connection) -> Occlusion:
    """An explained example of the first run, stored."""
    run = reader.runs_of(store, ["run-0"])[0]
    example = reader.examples(store, run.split_digest)[0]
    pieces = (Piece(0, 0, 4, 0.5), Piece(1, 0, 3, 0.25), Piece(1, 4, 9, 0.875))
    one = Occlusion("e" * 64, run.run_key, run.split_digest, example.example_id, 0.75, pieces, NOW)
    writer.write_occlusions(store, [one])
    return one


def test_explained_examples_travel_with_their_runs(store: Connection, explained: Occlusion, tmp_path: Path) -> None:
    bundle.write(store, tmp_path / "explained.bundle")
    other = tmp_path / "other.duckdb"
    assert bundle.take_in(other, tmp_path / "explained.bundle", NOW).rows["occlusion"] == 1
    with opened(other, read_only=True) as read:
        assert reader.occlusions(read, [explained.run_key]) == [explained]
        assert verify(read, NOW).problems == ()
    with opened(other) as write:
        writer.write_occlusions(write, [replace(explained, score=0.5)])
    with pytest.raises(UsageError, match=f"explained example {'e' * 64} has different scores in the store; nothing"):
        bundle.take_in(other, tmp_path / "explained.bundle", NOW)


FORGED_PIECES = ["[[0, 0, 4, NaN]]", "[[0, 0, 4, 1e999]]", "[[9]]", '[["a", {}, null, 1]]', "[" * 500 + "]" * 500, "7"]


@pytest.mark.slow
@pytest.mark.parametrize("pieces", FORGED_PIECES)
def test_forged_pieces_of_an_explained_example_are_refused(
    store: Connection, explained: Occlusion, pieces: str, tmp_path: Path
) -> None:
    bundle.write(store, tmp_path / "explained.bundle")
    forged_members = changed(members_of(tmp_path / "explained.bundle"), "occlusion", with_column("pieces", pieces))
    with pytest.raises(UsageError, match=r"contradicts itself|impossible"):
        bundle.take_in(tmp_path / "other.duckdb", packed(forged_members, tmp_path / "bad.bundle"), NOW)


def test_a_bundle_of_a_release_without_explained_examples_is_taken_in(exported: Path, tmp_path: Path) -> None:
    members = members_of(exported)
    del members["occlusion.parquet"]
    manifest = json.loads(members["manifest.json"])
    del manifest["files"]["occlusion.parquet"]
    manifest["schema"] = 14
    old = packed(members | {"manifest.json": json.dumps(manifest).encode()}, tmp_path / "old.bundle")
    assert bundle.take_in(tmp_path / "other.duckdb", old, NOW).rows["run"] == 2


def test_a_backslash_in_what_a_machine_is_called_is_none_of_a_control_character(exported: Path, tmp_path: Path) -> None:
    named = changed(members_of(exported), "run", with_column("hardware", '{"processor": "C:\\\\nice \\\\u001b"}'))
    named = changed(named, "checksum", with_column("record", None))  # its forger has taken the digest away
    assert bundle.take_in(tmp_path / "other.duckdb", packed(named, tmp_path / "b"), NOW).rows["run"] == 2


def test_compressed_members_are_refused(exported: Path, tmp_path: Path) -> None:
    bomb = packed(members_of(exported), tmp_path / "bomb.bundle", zipfile.ZIP_DEFLATED)
    with pytest.raises(UsageError, match="is compressed or encrypted"):
        bundle.take_in(tmp_path / "other.duckdb", bomb, NOW)


def test_a_directory_of_many_entries_is_not_read(exported: Path, tmp_path: Path) -> None:
    """Its last record says how many there are before anything of it is read; a zip64 record may say otherwise."""
    data = exported.read_bytes()
    huge = data[:-22] + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 8, 8, 2**31, 0, 0)
    zip64 = data[:-22] + b"PK\6\7" + b"\0" * 16 + data[-22:]
    for name, bad in {"huge": huge, "zip64": zip64}.items():
        (tmp_path / name).write_bytes(bad)
        with pytest.raises(UsageError, match="is not a bundle"):
            bundle.take_in(tmp_path / "other.duckdb", tmp_path / name, NOW)


def test_a_truncated_bundle_is_refused_wherever_it_ends(exported: Path, tmp_path: Path) -> None:
    data, cut = exported.read_bytes(), tmp_path / "cut.bundle"
    for end in [0, 1, 21, 22, *range(100, len(data), len(data) // 20), len(data) - 1]:
        cut.write_bytes(data[:end])
        with pytest.raises(UsageError, match=r"is not a bundle, or"):
            bundle.take_in(tmp_path / "other.duckdb", cut, NOW)
    assert not (tmp_path / "other.duckdb").exists()


def test_a_flipped_bit_of_a_bundle_is_found_or_changes_nothing(exported: Path, path: Path, tmp_path: Path) -> None:
    whole, refused = exported.read_bytes(), 0
    bad, other = tmp_path / "bad.bundle", tmp_path / "other.duckdb"
    bundle.take_in(other, exported, NOW)
    wanted = everything(other)
    places = range(7, len(whole), len(whole) // 40)
    for place in places:
        other.unlink(missing_ok=True)
        bad.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            bundle.take_in(other, bad, NOW)
            assert everything(other) == wanted
        except UsageError:
            refused += 1
    assert refused > len(places) / 2


def test_what_is_no_file_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file"):
        bundle.take_in(tmp_path / "other.duckdb", tmp_path / "absent", NOW)
    with pytest.raises(UsageError, match="is a folder"):
        bundle.take_in(tmp_path / "other.duckdb", tmp_path, NOW)
