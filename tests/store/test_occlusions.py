"""Explained examples in the store: places and scores, never words; each change of them is found."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from harness.records import Occlusion, Piece, Split
from harness.store import reader, writer
from harness.store.connection import Connection, bring_to, opened
from harness.store.verify import verify

NOW = datetime(2025, 6, 1)  # noqa: DTZ001 (the store keeps UTC without a zone)
KEY = "e" * 64


@pytest.fixture
def store(tmp_path: Path, make_store: Callable[..., None]) -> Iterator[Connection]:
    make_store(tmp_path / "store.duckdb")
    with opened(tmp_path / "store.duckdb") as connection:
        yield connection


@pytest.fixture
def stored(store: Connection) -> Occlusion:
    run = reader.runs_of(store, ["run-0"])[0]
    example = reader.examples(store, run.split_digest)[0]
    pieces = (Piece(0, 0, 4, 0.1 + 0.2), Piece(1, 0, 3, 1.0), Piece(1, 4, 9, 0.0))
    one = Occlusion(KEY, run.run_key, run.split_digest, example.example_id, 1 / 3, pieces, NOW)
    writer.write_occlusions(store, [one])
    return one


def test_an_explained_example_is_read_as_it_was_written(store: Connection, stored: Occlusion) -> None:
    assert reader.occlusions(store, [stored.run_key]) == [stored]
    assert reader.occlusions(store, ["another"]) == []
    assert verify(store, NOW).problems == ()
    later = replace(stored, score=0.5)
    writer.write_occlusions(store, [later])
    assert reader.occlusions(store, [stored.run_key]) == [later]


CHANGED = "its scores have changed since they were stored"
DAMAGE = {
    "a score": ("UPDATE occlusion SET score = score + 1e-15", [CHANGED]),
    "a piece's score": ("UPDATE occlusion SET pieces = replace(pieces::VARCHAR, '1.0', '0.9')", [CHANGED]),
    "a place": ("UPDATE occlusion SET pieces = replace(pieces::VARCHAR, '[1, 4, 9', '[1, 4, 8')", [CHANGED]),
    "no pieces": ("UPDATE occlusion SET pieces = '7'", [CHANGED]),
    "not a number": ("UPDATE occlusion SET pieces = '[[0, 0, 4, 1e999]]'", [CHANGED]),
    "another example": (
        "UPDATE occlusion SET example_id = 'x'",
        ["an explained example that its split does not have", CHANGED],
    ),
    "another run": ("UPDATE occlusion SET run_key = 'x'", ["explained examples without their run", CHANGED]),
}


@pytest.mark.parametrize(("sql", "expected"), DAMAGE.values(), ids=DAMAGE)
def test_each_change_is_named_and_what_was_changed_is_not_read(
    store: Connection, stored: Occlusion, sql: str, expected: list[str]
) -> None:
    store.execute(sql)
    assert [f"{one.where}: {one.what}" for one in verify(store, NOW).problems] == [
        f"occlusion {KEY}: {what}" for what in expected
    ]
    assert reader.occlusions(store, [stored.run_key]) == []


@pytest.mark.parametrize(
    "pieces", [(Piece(1, 0, 4, 0.5), Piece(1, 3, 5, 0.5)), (Piece(1, 0, 4, 0.5), Piece(0, 0, 4, 0.5)),
               (Piece(2, 0, 4, 0.5),), (Piece(1, 4, 4, 0.5),), (Piece(1, 0, 4, 1.5),)],
)  # fmt: skip
def test_impossible_pieces_are_named_even_with_their_checksum(
    store: Connection, stored: Occlusion, pieces: tuple[Piece, ...]
) -> None:
    writer.write_occlusions(store, [replace(stored, pieces=pieces)])
    (problem,) = verify(store, NOW).problems
    assert problem.what == CHANGED


def test_a_split_that_loses_its_texts_loses_the_places_of_its_words(store: Connection, stored: Occlusion) -> None:
    rows = reader.examples(store, stored.split_digest)
    assert len(reader.occlusions(store, [stored.run_key])) == 1
    split = Split("test", tuple(rows), stored.split_digest, {})
    writer.write_split(store, "demo", split, with_text=False)
    assert reader.occlusions(store, [stored.run_key]) == []


def test_the_store_holds_no_column_for_words(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "new.duckdb")) as new:
        bring_to(new, 14)
        bring_to(new, 15)
        columns = [name for name, *_ in new.execute("DESCRIBE occlusion").fetchall()]
    assert columns == [
        "key", "run_key", "split_digest", "example_id", "score", "pieces", "checksum", "explained_at",
    ]  # fmt: skip
