"""`harness store verify`: a sound store is clean, and each kind of damage, done in SQL or in the file, is named."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from harness.artifacts import digest
from harness.errors import StoreError
from harness.records import Parity
from harness.store import checksum, reader, writer
from harness.store.connection import Connection, opened
from harness.store.verify import verify

NOW = datetime(2025, 6, 1)  # noqa: DTZ001 (the store keeps UTC without a zone)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.duckdb"


@pytest.fixture
def store(path: Path, make_store: Callable[..., None]) -> Iterator[Connection]:
    make_store(path)
    with opened(path) as connection:
        yield connection


def problems(store: Connection) -> list[str]:
    return [f"{problem.where}: {problem.what}" for problem in verify(store, NOW).problems]


def test_a_store_as_the_harness_writes_it_is_clean(store: Connection) -> None:
    report = verify(store, NOW)
    assert (report.problems, report.notes) == ((), ())
    assert report.counts | {"run": 3, "prediction": 47, "metric": 18, "example": 47, "split": 3} == report.counts


def test_an_empty_store_is_clean(path: Path) -> None:
    with opened(path) as empty:
        assert verify(empty, NOW).problems == ()


DAMAGE = {
    "a prediction is lost": (
        "DELETE FROM prediction WHERE run_id = 'run-0' AND example_id = (SELECT min(example_id) FROM prediction)",
        ["run run-0: predictions are not exactly one per example"],
    ),
    "all predictions are lost": (
        "DELETE FROM prediction",
        [f"run run-{i}: predictions are not exactly one per example" for i in (0, 1)],
    ),
    "a prediction of nothing": (
        "INSERT INTO prediction VALUES ('run-0', 'stranger', 1, 0.5)",
        ["run run-0: predictions are not exactly one per example"],
    ),
    "a prediction is of another example": (
        "UPDATE prediction SET example_id = 'x' WHERE example_id = (SELECT max(example_id) FROM prediction)"
        " AND run_id = 'run-0'",
        ["run run-0: predictions are not exactly one per example"],
    ),
    "a score moved a little": (
        "UPDATE prediction SET score = score + 1e-15 WHERE run_id = 'run-0' AND score = 0.3",
        ["run run-0: predictions have changed since they were stored"],
    ),
    "two predictions are swapped": (
        """UPDATE prediction SET example_id = CASE WHEN example_id = a THEN b ELSE a END
           FROM (SELECT arg_min(example_id, score) AS a, arg_max(example_id, score) AS b
                 FROM prediction WHERE run_id = 'run-0')
           WHERE run_id = 'run-0' AND example_id IN (a, b)""",
        ["run run-0: predictions have changed since they were stored"],
    ),
    "a timing": (
        "UPDATE run SET seconds = seconds / 2 WHERE run_id = 'run-1'",
        ["run run-1: its record has changed since it was stored"],
    ),
    "when it ended": (
        "UPDATE run SET finished_at = finished_at + INTERVAL 1 minute WHERE run_id = 'run-1'",
        ["run run-1: its record has changed since it was stored"],
    ),
    "an end of an interval": (
        "UPDATE metric SET ci_low = ci_low + 1e-15 WHERE run_id = 'run-0' AND name = 'ece'",
        ["run run-0: its record has changed since it was stored"],
    ),
    "a metric that is gone": (
        "DELETE FROM metric WHERE run_id = 'run-0' AND name = 'ece'",
        ["run run-0: its record has changed since it was stored"],
    ),
    "predictions without a run": (
        "INSERT INTO prediction VALUES ('nobody', 'x', 1, 0.5)",
        ["run nobody: predictions without their run"],
    ),
    "metrics without a run": (
        "INSERT INTO metric VALUES ('nobody', 'f1', 1, 1, 1, 1, true, NULL)",
        ["run nobody: metrics without their run"],
    ),
    "a checksum without a run": (
        "INSERT INTO checksum VALUES ('nobody', 'x', 'y')",
        ["run nobody: a checksum without its run"],
    ),
    "a failed run has predictions": (
        "INSERT INTO prediction VALUES ('run-2', 'x', 1, 0.5)",
        ["run run-2: has predictions or metrics, although it did not succeed"],
    ),
    "a metric is a little off": (
        "UPDATE metric SET value = value + 1e-12 WHERE run_id = 'run-1' AND name = 'accuracy'",
        ["run run-1: accuracy does not follow from its predictions"],
    ),
    "a metric of floats is off": (
        "UPDATE metric SET value = value + 1e-7 WHERE run_id = 'run-1' AND name = 'ece'",
        ["run run-1: ece does not follow from its predictions"],
    ),
    "a metric vanished": (
        "UPDATE metric SET value = NULL WHERE run_id = 'run-1' AND name = 'brier'",
        ["run run-1: brier does not follow from its predictions"],
    ),
    "a metric is of fewer": (
        "UPDATE metric SET n = 3 WHERE run_id = 'run-1' AND name = 'f1'",
        ["run run-1: n of f1 is not the number of its examples"],
    ),
    "an interval is turned round": (
        "UPDATE metric SET ci_low = 1, ci_high = 0.5 WHERE run_id = 'run-1' AND name = 'f1'",
        ["run run-1: an interval whose ends are in the wrong order"],
    ),
    "the spec changed": (
        """UPDATE run SET spec = '{"seed": 7}' WHERE run_id = 'run-1'""",
        ["run run-1: its key does not match its spec"],
    ),
    "the key changed": (
        "UPDATE run SET run_key = 'another' WHERE run_id = 'run-1'",
        ["run run-1: its key does not match its spec"],
    ),
    "the model was renamed": (
        "UPDATE run SET model_id = 'better' WHERE run_id = 'run-1'",
        ["run run-1: does not match its spec"],
    ),
    "the configuration changed": (
        "UPDATE run SET configuration = 'c' WHERE run_id = 'run-1'",
        ["run run-1: does not match its spec"],
    ),
    "packages are no object": (
        "UPDATE run SET packages = '[]' WHERE run_id = 'run-1'",
        ["run run-1: packages is not a JSON object"],
    ),
    "its adapter is unknown": (
        "UPDATE run SET adapter_digest = 'gone' WHERE run_id = 'run-1'",
        ["run run-1: its adapter is not stored", "run run-1: does not match its spec"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("sql", "expected"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named_with_the_run_that_has_it(sql: str, expected: list[str], store: Connection) -> None:
    store.execute(sql)
    assert problems(store) == expected


@pytest.mark.slow
def test_every_problem_says_what_to_do(store: Connection) -> None:
    for sql, _ in DAMAGE.values():
        store.begin()
        store.execute(sql)
        assert all(problem.to_do and str(problem).endswith(problem.to_do) for problem in verify(store, NOW).problems)
        store.rollback()


OF_SPLITS = {
    "a label is turned round": (
        "UPDATE example SET label = 1 - label WHERE position = 3 AND content IS NOT NULL",
        ["ids of examples do not match their labels and texts"],
    ),
    "a text changed": (
        "UPDATE example SET content = 'other' WHERE position = 3 AND content IS NOT NULL",
        ["ids of examples do not match their labels and texts"],
    ),
    "a text's digest changed": (
        "UPDATE example SET text_digest = 'other' WHERE position = 3 AND content IS NOT NULL",
        ["ids of examples do not match their labels and texts"],
    ),
    "a cluster changed": (
        "UPDATE example SET cluster = 'other' WHERE position = 3 AND content IS NOT NULL",
        ["its digest does not match its examples"],
    ),
    "a place changed": (
        "UPDATE example SET position = 99 WHERE position = 39 AND content IS NOT NULL",
        ["positions of examples are not consecutive"],
    ),
    "the split is gone": ("DELETE FROM split WHERE n = 40", ["examples without their split"]),
    "the split is longer": (
        "UPDATE split SET n = 41 WHERE split_id = 'again'",
        ["its number of examples is not the recorded one"],
    ),
}


@pytest.mark.parametrize(("sql", "expected"), OF_SPLITS.values(), ids=OF_SPLITS)
def test_damage_to_a_split_is_named(sql: str, expected: list[str], store: Connection) -> None:
    store.execute(sql)
    assert [problem.what for problem in verify(store, NOW).problems if problem.where.startswith("split")] == expected


def test_a_parity_check_is_held_to_its_spec(store: Connection) -> None:
    spec = {"form": "torch bf16"}
    parity = Parity(
        digest.of_json(spec), "a", "lora", None, "torch bf16", 9, 9, 9, 0, 1, 8, 1, 20 / 2**9, 0.1, 1.0, 0.5, True,
        None, spec, {}, NOW,
    )  # fmt: skip
    writer.write_parities(store, [parity])
    assert problems(store) == []
    store.execute("UPDATE parity SET turned_negative = 0")
    (told,) = problems(store)
    assert told == f"parity {digest.of_json(spec)}: its flips and p-value do not match its turned texts"
    store.execute("UPDATE parity SET turned_negative = 1, p_value = 0.05")
    assert problems(store) == [told]
    store.execute("UPDATE parity SET flips = 8, p_value = ?", [20 / 2**9])
    assert problems(store) == [told]
    store.execute("UPDATE parity SET turned_positive = NULL, turned_negative = NULL, p_value = NULL")
    assert problems(store) == [], "of an earlier release, which did not count them apart"
    store.execute("""UPDATE parity SET spec = '{"form": "torch fp32"}'""")
    assert problems(store) == [f"parity {digest.of_json(spec)}: its key does not match its spec"]


def test_what_cannot_be_known_is_a_note_and_no_problem(store: Connection) -> None:
    store.execute("DELETE FROM checksum WHERE run_id = 'run-0'")
    store.execute("INSERT INTO metric VALUES ('run-0', 'novel', 1, 1, 1, 40, true, NULL)")
    store.execute("UPDATE run SET started_at = finished_at + INTERVAL 1 hour WHERE run_id = 'run-1'")
    store.execute("UPDATE run SET finished_at = ? WHERE run_id = 'run-2'", [NOW + timedelta(days=2)])
    store.execute("UPDATE checksum SET record = NULL WHERE run_id = 'run-1'")  # as a release before stored it
    report = verify(store, NOW)
    assert report.problems == ()
    assert [note.split(maxsplit=1)[0] for note in report.notes] == ["2", "1", "1", "1"]
    assert ["checksum" in report.notes[0], "clock" in report.notes[1], "future" in report.notes[2]] == [True] * 3


def test_the_checksum_is_of_labels_and_scores_in_the_order_of_the_split(store: Connection) -> None:
    found = reader.outcomes(store, "run-0")
    expected = checksum.of_predictions(found.predicted, found.scores)
    assert store.execute("SELECT predictions FROM checksum WHERE run_id = 'run-0'").fetchall() == [(expected,)]
    # A known answer: of two labels and two scores, by hand.
    known = hashlib.sha256(b"\x01\x00" + b"\0\0\0\0\0\0\xf0?" + b"\0" * 8).hexdigest()
    assert checksum.of_predictions(np.array([1, 0]), np.array([1.0, -0.0])) == known


def test_a_flipped_bit_of_the_file_is_found_or_has_changed_nothing(path: Path, make_store: Callable[..., None]) -> None:
    """One bit in each of many places; free blocks and indexes hold nothing that is stored."""
    make_store(path)
    with opened(path) as store:
        wanted = store.execute("SELECT * FROM prediction ORDER BY ALL").fetchall()
    whole = path.read_bytes()
    found = 0
    for place in range(100, len(whole), len(whole) // 24):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            with opened(path, read_only=True) as damaged:
                clean = not verify(damaged, NOW).problems
                assert not clean or damaged.execute("SELECT * FROM prediction ORDER BY ALL").fetchall() == wanted
        except StoreError:
            clean = False
        found += not clean
    assert found
