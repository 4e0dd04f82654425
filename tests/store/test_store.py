"""The store, on real DuckDB files: what goes in comes out, a run whole or not at all, and SQL agrees with the code."""

import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import StoreError
from harness.records import AdapterRecord, Example, Metric, Prediction, Run, Split, Verdict
from harness.stats import estimates
from harness.store import reader, writer
from harness.store.connection import Connection, opened, transaction

MakeSplit = Callable[..., Split]
MakeRun = Callable[..., Run]
MakePredictions = Callable[..., list[Prediction]]

TABLES = ("split", "example", "adapter", "run", "prediction", "metric", "verdict", "checksum")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Connection]:
    with opened(tmp_path / "store.duckdb") as connection:
        yield connection


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """One file for the many examples of a property; each empties it first."""
    with opened(tmp_path_factory.mktemp("shared") / "store.duckdb") as connection:
        yield connection


def empty(connection: Connection) -> None:
    for table in TABLES:
        connection.execute(f"DELETE FROM {table}")  # noqa: S608 (constant)


def counts(connection: Connection) -> dict[str, int]:
    """Rows per table, the migrations left out."""
    tables = [(table, connection.execute(f"SELECT count(*) FROM {table}").fetchall()) for table in TABLES]  # noqa: S608 (constant)
    return {table: count for table, [(count,)] in tables}


# Values of every kind. Not in them: lone surrogates, which are no text, and clusters with NUL, which numpy drops.

texts = st.text(max_size=12) | st.sampled_from(
    ["", "'; DROP TABLE run; --", "NULL", "naïve 😀", "a\nb\tc", "\x00x\\", "ß" * 40]
)
names = st.text(min_size=1, max_size=12)
seconds = st.floats(0, 1e9)
times = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1))  # noqa: DTZ001 (the store keeps UTC without a zone)
counts_of_things = st.integers(0, 2**62)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
json_tables = st.dictionaries(texts, json_values, max_size=3)
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)

metric_records = st.builds(
    Metric, name=names, value=numbers, ci_low=numbers, ci_high=numbers, n=st.integers(0, 2**31 - 1)
)
adapter_records = st.builds(
    AdapterRecord,
    adapter_digest=names,
    adapter_id=texts,
    method=texts,
    params=json_tables,
    base_digest=texts,
    trained_on=texts,
    n_trainable=counts_of_things,
    seed=st.integers(0, 2**32 - 1),
    train_seconds=seconds,
    peak_bytes=counts_of_things,
    size_bytes=counts_of_things,
    card=json_tables,
)
run_changes = st.fixed_dictionaries(
    {
        "run_id": names,
        "run_key": names,
        "suite": texts,
        "suite_digest": texts,
        "split_id": texts,
        "model_id": texts,
        "configuration": texts,
        "seed": st.none() | st.integers(0, 2**32 - 1),
        "adapter_digest": st.none() | texts,
        "error": st.none() | texts,
        "spec": json_tables,
        "packages": st.dictionaries(texts, texts, max_size=3),
        "hardware": json_tables,
        "git_commit": st.none() | texts,
        "git_dirty": st.none() | st.booleans(),
        "started_at": times,
        "finished_at": times,
        "seconds": st.none() | seconds,
        "tokens": st.none() | counts_of_things,
        "truncated": st.none() | st.integers(0, 2**31 - 1),
        "metrics": st.lists(metric_records, max_size=3, unique_by=lambda metric: metric.name).map(
            lambda found: tuple(sorted(found, key=lambda metric: metric.name.encode()))
        ),
    }
)
clusters = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=5)


@st.composite
def splits(draw: st.DrawFn) -> Split:
    clustered = draw(st.sampled_from(["all", "some", "none"]))
    cluster = {"all": clusters, "some": st.none() | clusters, "none": st.none()}[clustered]
    example = st.builds(
        Example,
        example_id=names,
        title=texts,
        content=texts,
        label=st.integers(0, 1),
        cluster=cluster,
        text_digest=texts,
    )
    examples = draw(st.lists(example, min_size=1, max_size=6, unique_by=lambda example: example.example_id))
    return Split(draw(texts), tuple(examples), draw(names), draw(json_tables))


# What goes in comes out


@settings(max_examples=25)
@given(split=splits())
def test_a_split_comes_back_as_it_was(split: Split, shared_store: Connection) -> None:
    empty(shared_store)
    writer.write_split(shared_store, "demo", split, with_text=True)
    assert tuple(reader.examples(shared_store, split.digest)) == split.examples
    stored = shared_store.execute("SELECT split_id, digest, suite, n FROM split").fetchall()
    assert stored == [(split.split_id, split.digest, "demo", len(split.examples))]


@settings(max_examples=25)
@given(adapter=adapter_records)
def test_an_adapter_comes_back_as_it_was(adapter: AdapterRecord, shared_store: Connection) -> None:
    empty(shared_store)
    writer.write_adapter(shared_store, adapter)
    writer.write_adapter(shared_store, replace(adapter, adapter_id="the same weights again"))
    assert reader.adapters(shared_store, [adapter.adapter_digest, "unknown"]) == {adapter.adapter_digest: adapter}
    assert reader.adapters(shared_store, []) == {}


@settings(max_examples=40)
@given(split=splits(), changes=run_changes, data=st.data())
def test_a_run_comes_back_as_it_was_with_its_predictions(
    split: Split, changes: dict[str, Any], data: st.DataObject, make_run: MakeRun, make_predictions: MakePredictions,
    shared_store: Connection,
) -> None:  # fmt: skip
    run = make_run(split, **changes)
    scores = data.draw(st.lists(st.floats(0, 1), min_size=len(split.examples), max_size=len(split.examples)))
    predictions = make_predictions(split, scores)
    empty(shared_store)
    writer.write_split(shared_store, "demo", split, with_text=False)
    writer.write_run(shared_store, run, data.draw(st.permutations(predictions)))
    assert reader.all_runs(shared_store) == [run]
    assert reader.latest_runs(shared_store, [run.run_key, "unknown"]) == {run.run_key: run}
    found = reader.outcomes(shared_store, run.run_id)
    assert found.example_ids == tuple(example.example_id for example in split.examples)
    assert found.labels.tolist() == [example.label for example in split.examples]
    assert found.predicted.tolist() == [prediction.predicted for prediction in predictions]
    assert found.scores.tolist() == scores
    cluster_names = [example.cluster for example in split.examples]
    assert (found.clusters is None) == (None in cluster_names)
    assert found.clusters is None or found.clusters.tolist() == cluster_names
    assert [column.dtype.name for column in (found.labels, found.predicted, found.scores)] == [
        "int64",
        "int64",
        "float64",
    ]


@settings(max_examples=25)
@given(
    verdicts=st.lists(
        st.builds(
            Verdict,
            suite_digest=st.just("suite"),
            gate_id=texts,
            model_id=texts,
            judged_at=st.just(datetime(2025, 1, 2, 3, 4, 5, 678901)),  # noqa: DTZ001 (UTC without a zone)
            reason=texts,
            numbers=st.dictionaries(st.sampled_from(["value", "ci_low", "n", "limit"]), json_values),
        ),
        max_size=4,
        unique_by=lambda verdict: verdict.gate_id,
    )
)
def test_verdicts_come_back_as_they_were(verdicts: list[Verdict], shared_store: Connection) -> None:
    empty(shared_store)
    writer.write_verdicts(shared_store, verdicts)
    found = reader.latest_verdicts(shared_store, "suite")
    assert found == sorted(verdicts, key=lambda verdict: verdict.gate_id.encode())
    assert reader.latest_verdicts(shared_store, "another suite") == []


def test_only_the_verdicts_of_the_last_judgement_count(store: Connection) -> None:
    early = datetime(2025, 1, 1)  # noqa: DTZ001 (the store keeps UTC without a zone)
    old = [Verdict("suite", gate, "m", early, "fail", True, "was poor", {"value": 0.1}) for gate in ("a", "b")]
    new = Verdict("suite", "a", "m", early + timedelta(microseconds=1), "pass", False, "is good", {"value": 0.9})
    writer.write_verdicts(store, old)
    assert reader.latest_verdicts(store, "suite") == old
    writer.write_verdicts(store, [new])
    assert reader.latest_verdicts(store, "suite") == [new]


def test_a_store_that_was_closed_keeps_what_was_written(
    tmp_path: Path, make_split: MakeSplit, make_run: MakeRun, make_predictions: MakePredictions
) -> None:
    path, split = tmp_path / "new" / "folder" / "store.duckdb", make_split()
    with opened(path) as store:
        writer.write_split(store, "demo", split, with_text=True)
        writer.write_run(store, make_run(split), make_predictions(split))
    with opened(path, read_only=True) as store:
        assert reader.all_runs(store) == [make_run(split)]
        assert counts(store) | {"split": 1, "example": 6, "run": 1, "prediction": 6} == counts(store)
    with opened(path) as store:
        assert reader.all_runs(store, "run-") == [make_run(split)]
        assert reader.all_runs(store, "other") == []


def test_a_number_that_is_none_cannot_hide_in_json(store: Connection, make_split: MakeSplit) -> None:
    split = replace(make_split(), source={"take": math.nan})
    with pytest.raises(ValueError, match="JSON compliant"):
        writer.write_split(store, "demo", split, with_text=True)
    assert sum(counts(store).values()) == 0


# Texts


def texts_held(store: Connection) -> list[tuple[str | None, str | None]]:
    return store.execute("SELECT title, content FROM example ORDER BY position").fetchall()


def test_texts_are_stored_only_where_the_suite_allows_it(store: Connection, make_split: MakeSplit) -> None:
    split = make_split(3)
    writer.write_split(store, "demo", split, with_text=False)
    assert texts_held(store) == [(None, None)] * 3
    assert [(example.title, example.content) for example in reader.examples(store, split.digest)] == [("", "")] * 3
    assert [example.text_digest for example in reader.examples(store, split.digest)] == [
        example.text_digest for example in split.examples
    ]


def test_a_split_gains_its_texts_and_loses_them_as_suites_say(store: Connection, make_split: MakeSplit) -> None:
    split, other = make_split(3), make_split(4, split_id="other")
    writer.write_split(store, "demo", other, with_text=True)
    full = [(example.title, example.content) for example in split.examples]
    for with_text, expected in ((False, [(None, None)] * 3), (True, full), (True, full), (False, [(None, None)] * 3)):
        writer.write_split(store, "demo", split, with_text=with_text)
        held = store.execute(
            "SELECT title, content FROM example WHERE digest = ? ORDER BY position", [split.digest]
        ).fetchall()
        assert held == expected
        assert tuple(reader.examples(store, other.digest)) == other.examples


def test_the_same_rows_under_two_names_are_stored_once(store: Connection, make_split: MakeSplit) -> None:
    split = make_split(3)
    writer.write_split(store, "demo", split, with_text=True)
    writer.write_split(store, "demo", replace(split, split_id="another"), with_text=True)
    assert counts(store) | {"split": 2, "example": 3} == counts(store)


# All or nothing


def test_a_failed_block_leaves_nothing(store: Connection) -> None:
    def interrupted() -> None:
        with transaction(store):
            store.execute("INSERT INTO split VALUES ('a', 'b', 'c', '{}', 1)")
            assert counts(store)["split"] == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert counts(store)["split"] == 0


BAD_PREDICTIONS: dict[str, Callable[[list[Prediction]], list[Prediction]]] = {
    "none": lambda good: [],
    "one too few": lambda good: good[1:],
    "one too many": lambda good: [*good, Prediction("stranger", 1, 0.9)],
    "one twice": lambda good: [*good, good[0]],
    "one twice in place of another": lambda good: [*good[1:], good[1]],
    "of another example": lambda good: [*good[1:], Prediction("stranger", 1, 0.9)],
    "score is nan": lambda good: [*good[1:], replace(good[0], score=math.nan)],
    "score above one": lambda good: [*good[1:], replace(good[0], score=1.0000001)],
    "score below zero": lambda good: [*good[1:], replace(good[0], score=-1e-9)],
    "score is infinite": lambda good: [*good[1:], replace(good[0], score=math.inf)],
    "score is missing": lambda good: [*good[1:], replace(good[0], score=cast(Any, None))],
    "label is two": lambda good: [*good[1:], replace(good[0], predicted=2)],
    "label is a thousand": lambda good: [*good[1:], replace(good[0], predicted=1000)],
}


@pytest.mark.parametrize("spoil", BAD_PREDICTIONS.values(), ids=BAD_PREDICTIONS)
def test_a_run_with_impossible_predictions_leaves_nothing_and_can_be_tried_again(
    spoil: Callable[[list[Prediction]], list[Prediction]],
    store: Connection,
    make_split: MakeSplit,
    make_run: MakeRun,
    make_predictions: MakePredictions,
) -> None:
    split, good = make_split(), make_predictions(make_split())
    writer.write_split(store, "demo", split, with_text=False)
    before = counts(store)
    run = make_run(split, metrics=(Metric("accuracy", 1.0, None, None, 6, True),))
    with pytest.raises(ValueError, match=r"predictions of run run-1 (do not match the examples of|must be 0 or 1)"):
        writer.write_run(store, run, spoil(good))
    assert counts(store) == before
    writer.write_run(store, run, good)
    assert reader.all_runs(store) == [run]


@pytest.mark.parametrize(
    "values",
    ["'r', 'e', 1, 'nan'::DOUBLE", "'r', 'e', 1, 1.5", "'r', 'e', 1, -0.5", "'r', 'e', 2, 0.5", "'r', 'e', 1, NULL"],
)
def test_the_tables_themselves_refuse_impossible_predictions(values: str, store: Connection) -> None:
    with pytest.raises(duckdb.ConstraintException):
        store.execute(f"INSERT INTO prediction VALUES ({values})")  # noqa: S608 (constant)
    assert counts(store)["prediction"] == 0


def test_a_run_that_fails_at_its_last_metric_leaves_nothing(
    store: Connection, make_split: MakeSplit, make_run: MakeRun, make_predictions: MakePredictions
) -> None:
    split = make_split()
    writer.write_split(store, "demo", split, with_text=False)
    twice = (Metric("accuracy", 1.0, None, None, 6, True),) * 2
    before = counts(store)
    with pytest.raises(duckdb.ConstraintException):
        writer.write_run(store, make_run(split, metrics=twice), make_predictions(split))
    assert counts(store) == before


def test_the_real_error_is_not_lost_when_a_transaction_is_rolled_back(
    store: Connection, make_split: MakeSplit, make_run: MakeRun, make_predictions: MakePredictions
) -> None:
    split = make_split()
    writer.write_split(store, "demo", split, with_text=False)
    writer.write_run(store, make_run(split), make_predictions(split))
    with pytest.raises(duckdb.ConstraintException, match="run-1"):
        writer.write_run(store, make_run(split, model_id="another with this id"), make_predictions(split))
    assert reader.all_runs(store) == [make_run(split)]


def test_verdicts_are_stored_all_or_none(store: Connection) -> None:
    when = datetime(2025, 1, 1)  # noqa: DTZ001 (the store keeps UTC without a zone)
    verdict = Verdict("suite", "gate", "m", when, "pass", False, "fine", {})
    with pytest.raises(duckdb.ConstraintException):
        writer.write_verdicts(store, [verdict, verdict])
    assert reader.latest_verdicts(store, "suite") == []


def test_a_process_killed_within_a_transaction_leaves_a_readable_store(
    tmp_path: Path, make_split: MakeSplit, make_run: MakeRun, make_predictions: MakePredictions
) -> None:
    path, split = tmp_path / "store.duckdb", make_split()
    with opened(path) as store:
        writer.write_split(store, "demo", split, with_text=True)
        writer.write_run(store, make_run(split), make_predictions(split))
    code = """if True:
        import sys, time
        from pathlib import Path
        from harness.store.connection import opened, transaction
        with opened(Path(sys.argv[1])) as store, transaction(store):
            store.execute("INSERT INTO run SELECT * REPLACE ('run-2' AS run_id) FROM run")
            store.execute("INSERT INTO prediction SELECT * REPLACE ('run-2' AS run_id) FROM prediction")
            store.execute("DELETE FROM prediction WHERE run_id = 'run-1'")
            print(store.execute("SELECT count(*) FROM run").fetchall(), flush=True)
            time.sleep(60)
    """
    with helper(code, path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "[(2,)]\n"
        process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=30) == -signal.SIGKILL
    with opened(path) as store:
        assert reader.all_runs(store) == [make_run(split)]
        assert reader.outcomes(store, "run-1").scores.tolist() == [p.score for p in make_predictions(split)]


# Which run counts


def test_the_leaderboard_shows_the_latest_success_of_each_key(
    store: Connection, make_split: MakeSplit, make_run: MakeRun, make_predictions: MakePredictions
) -> None:
    split = make_split()
    writer.write_split(store, "demo", split, with_text=False)

    def write(run_id: str, run_key: str, minute: int, **changes: Any) -> None:
        when = datetime(2025, 1, 1, 12, minute)  # noqa: DTZ001 (the store keeps UTC without a zone)
        run = make_run(split, run_id=run_id, run_key=run_key, started_at=when, finished_at=when, **changes)
        writer.write_run(store, run, make_predictions(split) if run.status == "success" else [])

    write("a-1", "a", 2, metrics=(Metric("f1", 0.9, 0.8, 1.0, 6, True), Metric("brier", None, None, None, 6, False)))
    write("a-2", "a", 1)
    write("a-3", "a", 3, status="error", error="it broke")
    write("a-4", "a", 4, status="started")
    write("b-1", "b", 1, status="cancelled")
    write("c-1", "c", 5)
    write("c-2", "c", 5)

    shown = store.execute("SELECT run_key, run_id FROM leaderboard ORDER BY run_key").fetchall()
    assert shown == [("a", "a-1"), ("c", "c-2")]
    latest = reader.latest_runs(store, ["a", "b"])
    assert {key: run.run_id for key, run in latest.items()} == {"a": "a-1"}
    assert [metric.name for metric in latest["a"].metrics] == ["brier", "f1"]
    assert reader.latest_runs(store, []) == {}
    assert [run.run_id for run in reader.all_runs(store)] == ["c-1", "c-2", "a-4", "a-3", "a-1", "a-2", "b-1"]
    assert [run.run_id for run in reader.all_runs(store, "a-")] == ["a-4", "a-3", "a-1", "a-2"]


def test_a_run_that_is_no_success_has_no_predictions(
    store: Connection, make_split: MakeSplit, make_run: MakeRun, make_predictions: MakePredictions
) -> None:
    split = make_split(clusters=["a"] * 6)
    writer.write_split(store, "demo", split, with_text=False)
    run = make_run(split, status="error", error="it broke", seconds=None)
    writer.write_run(store, run, make_predictions(split))
    assert reader.all_runs(store) == [run]
    assert reader.outcomes(store, run.run_id).example_ids == ()
    assert reader.outcomes(store, run.run_id).clusters is None
    assert counts(store)["prediction"] == 0


# The SQL and the code say the same


IN_SQL = """
    SELECT run_id,
           count(*) FILTER (predicted = label)::DOUBLE / count(*) AS accuracy,
           CASE WHEN count(*) FILTER (predicted = 1 OR label = 1) > 0 THEN
               2.0::DOUBLE * count(*) FILTER (predicted = 1 AND label = 1)
               / (count(*) FILTER (predicted = 1) + count(*) FILTER (label = 1)) END AS f1
    FROM run JOIN prediction USING (run_id)
    JOIN example ON example.digest = run.split_digest AND example.example_id = prediction.example_id
    GROUP BY run_id
"""


def test_every_stored_accuracy_and_f1_is_exactly_what_sql_makes_of_the_predictions(
    store: Connection, make_split: MakeSplit, make_run: MakeRun, make_predictions: MakePredictions
) -> None:
    generator = np.random.default_rng(11)
    sizes = [1, 2, 3, 7, 49, 100, 331, 1000]
    for number, n in enumerate(sizes * 3):
        share = generator.random()
        split = make_split(n, split_id=f"s{number}", labels=(generator.random(n) < share).astype(int).tolist())
        writer.write_split(store, "demo", split, with_text=False)
        plain = make_run(split, run_id=f"run-{number}", run_key=f"key-{number}")
        predictions = make_predictions(split, generator.random(n).tolist())
        writer.write_run(store, plain, predictions)
        outcomes = reader.outcomes(store, plain.run_id)
        assert outcomes.labels.tolist() == [example.label for example in split.examples]
        found = tuple(estimates.summarise(name, [outcomes], generator) for name in ("accuracy", "f1"))
        measured = replace(plain, run_id=f"measured-{number}", metrics=found)
        writer.write_run(store, measured, predictions)
    rows = store.execute(
        f"""SELECT run_id, name, value, CASE name WHEN 'accuracy' THEN accuracy ELSE f1 END, n,
               (SELECT count(*) FROM prediction WHERE prediction.run_id = metric.run_id)
            FROM metric JOIN ({IN_SQL}) USING (run_id) ORDER BY run_id, name"""  # noqa: S608 (constant)
    ).fetchall()
    assert len(rows) == 2 * 3 * len(sizes)
    for run_id, name, stored, recomputed, n, stored_n in rows:
        assert (stored, n) == (recomputed, stored_n), f"{name} of {run_id}"
    assert len({stored for _, _, stored, *_ in rows}) > 20


# Opening


@contextmanager
def helper(code: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process of this Python, ended with the block."""
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


HELD_SECONDS = 60
HOLD = """if True:
    import sys
    import time
    from pathlib import Path
    from harness.store.connection import opened
    with opened(Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(float(sys.argv[2]) if len(sys.argv) > 2 else 60)
"""


@pytest.mark.parametrize("read_only", [False, True])
def test_a_store_that_another_process_holds_names_that_process(read_only: bool, tmp_path: Path) -> None:
    path = tmp_path / "unlocked (PID 1) folder" / "store.duckdb"
    with helper(HOLD, path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        start = time.monotonic()
        with (
            pytest.raises(StoreError) as caught,
            opened(path, read_only=read_only, lock_wait_seconds=0.15),
        ):
            pass
        waited = time.monotonic() - start
    expected = f"{path}: process {process.pid} holds this store; wait until it has ended, or stop it"
    assert str(caught.value) == expected
    assert 0.15 <= waited < HELD_SECONDS / 2


def test_a_store_is_waited_for_while_another_process_is_about_to_let_go(tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"
    with helper(HOLD.replace("else 60", "else 0.3"), path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with opened(path, lock_wait_seconds=30) as store:
            assert counts(store)["run"] == 0


def test_several_processes_may_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"
    with opened(path):
        pass
    with helper(HOLD.replace("sys.argv[1])", "sys.argv[1]), read_only=True"), path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with opened(path, read_only=True, lock_wait_seconds=0) as store:
            assert reader.all_runs(store) == []


@pytest.mark.parametrize("name", ["notes.duckdb", "block.duckdb", "Could not set lock on file"])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_is_no_database_is_said_to_be_none_at_once(name: str, read_only: bool, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("just some notes\n" * 1000)
    start = time.monotonic()
    with (
        pytest.raises(StoreError, match=r"cannot be opened as a store .*not a valid DuckDB database"),
        opened(path, read_only=read_only, lock_wait_seconds=120),
    ):
        pass
    assert time.monotonic() - start < 60, "it was taken for a store that is held"
    assert path.read_text().startswith("just some notes")


def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be opened as a store"), opened(tmp_path / "file" / "store.duckdb"):
        pass


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE guests (name VARCHAR)",
        "CREATE TABLE migration (file VARCHAR)",
        "CREATE TABLE migration AS SELECT 'first' AS version",
    ],
)
@pytest.mark.parametrize("read_only", [False, True])
def test_a_database_of_another_program_is_left_alone(statement: str, read_only: bool, tmp_path: Path) -> None:
    path = tmp_path / "foreign.duckdb"
    with duckdb.connect(str(path)) as foreign:
        foreign.execute(statement)
    with pytest.raises(StoreError) as caught, opened(path, read_only=read_only):
        pass
    assert str(caught.value) == f"{path}: is a DuckDB file, but not a store of this harness; give another --db"
    with duckdb.connect(str(path)) as foreign:
        assert len(foreign.execute("SHOW TABLES").fetchall()) == 1


@pytest.mark.parametrize("read_only", [False, True])
def test_a_store_of_a_newer_release_is_not_touched(read_only: bool, tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"
    with opened(path) as store:
        store.execute("INSERT INTO migration VALUES (9999, current_timestamp::TIMESTAMP)")
    with pytest.raises(StoreError) as caught, opened(path, read_only=read_only):
        pass
    assert str(caught.value) == f"{path}: was written by a newer release (schema 9999); upgrade adapter-harness"


def test_an_older_store_is_brought_up_to_date_by_a_writer_and_refused_to_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"
    with duckdb.connect(str(path)) as old:
        old.execute("CREATE TABLE migration (version INTEGER PRIMARY KEY, applied_at TIMESTAMP NOT NULL)")
    with pytest.raises(StoreError, match="has an older schema; a command that writes"), opened(path, read_only=True):
        pass
    with opened(path) as store:
        assert counts(store) == dict.fromkeys(TABLES, 0)


def test_a_store_that_is_absent_cannot_be_read_and_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "store.duckdb"
    with pytest.raises(StoreError) as caught, opened(path, read_only=True):
        pass
    assert str(caught.value) == f"{path}: there is no store here yet; run `harness evaluate SUITE` first"
    assert not path.parent.exists()


def test_each_migration_is_applied_once_and_dated_in_utc(tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"
    with opened(path) as store:
        first = store.execute("SELECT version, applied_at FROM migration").fetchall()
    with opened(path) as store:
        assert store.execute("SELECT version, applied_at FROM migration").fetchall() == first
    versions = [version for version, _ in first]
    assert versions == list(range(1, len(versions) + 1))
    assert abs(first[0][1] - datetime.now(UTC).replace(tzinfo=None)) < timedelta(minutes=5)


def test_a_reader_cannot_write(tmp_path: Path, make_split: MakeSplit) -> None:
    path = tmp_path / "store.duckdb"
    with opened(path):
        pass
    with opened(path, read_only=True) as store, pytest.raises(duckdb.Error, match="read-only"):
        writer.write_split(store, "demo", make_split(), with_text=False)


def test_a_store_of_an_older_schema_keeps_its_runs(
    tmp_path: Path, make_run: Callable[..., Run], make_split: Callable[..., Split], make_predictions: Any
) -> None:
    """A store as the second schema had it is brought up to date by whoever writes next."""
    path, split = tmp_path / "store.duckdb", make_split()
    with opened(path) as store:
        writer.write_split(store, "demo", split, with_text=True)
        writer.write_run(store, make_run(split), make_predictions(split))
        store.execute("DROP TABLE expectation; DROP VIEW leaderboard; ALTER TABLE run DROP COLUMN evaluation_id")
        store.execute("CREATE VIEW leaderboard AS SELECT * FROM run; DELETE FROM migration WHERE version = 3")
    with pytest.raises(StoreError, match="has an older schema"), opened(path, read_only=True):
        pass
    with opened(path) as store:
        (run,) = reader.all_runs(store)
        assert (run.run_id, run.evaluation_id) == ("run-1", None)
        assert list(reader.latest_runs(store, ["key-1"])) == ["key-1"]
        assert len(reader.outcomes(store, "run-1").labels) == 6


def test_an_expectation_keeps_the_time_when_it_was_first_seen(tmp_path: Path) -> None:
    first, later = datetime(2025, 1, 1), datetime(2025, 2, 1)  # noqa: DTZ001 (the store keeps UTC without a zone)
    with opened(tmp_path / "store.duckdb") as store:
        writer.write_expectations(store, "demo", {"a": "rule a"}, first, "c0ffee")
        writer.write_expectations(store, "demo", {"a": "rule a", "b": "rule b"}, later, None)
        assert reader.first_seen(store, ["a", "b", "c"]) == {"a": first, "b": later}
        assert reader.first_seen(store, []) == {}


def test_looks_count_the_configurations_that_were_scored_on_the_same_rows(
    tmp_path: Path, make_run: Callable[..., Run], make_split: Callable[..., Split], make_predictions: Any
) -> None:
    split, other = make_split(), make_split(4)
    with opened(tmp_path / "store.duckdb") as store:
        for rows in (split, other):
            writer.write_split(store, "demo", rows, with_text=False)
        for i, configuration in enumerate("aab"):
            run = make_run(split, run_id=f"run-{i}", run_key=f"key-{i}", configuration=configuration)
            writer.write_run(store, run, make_predictions(split))
        writer.write_run(store, make_run(split, run_id="broken", configuration="c", status="error", error="no"), [])
        assert (reader.times_scored(store, split.digest), reader.times_scored(store, other.digest)) == (2, 0)


def test_the_last_attempt_is_the_one_with_this_key_or_else_the_newest(
    tmp_path: Path, make_run: Callable[..., Run], make_split: Callable[..., Split], make_predictions: Any
) -> None:
    split = make_split()
    times = [datetime(2025, 1, day) for day in (1, 2, 3)]  # noqa: DTZ001 (the store keeps UTC without a zone)
    with opened(tmp_path / "store.duckdb") as store:
        writer.write_split(store, "demo", split, with_text=False)
        for i, finished_at in enumerate(times):
            run = make_run(split, run_id=f"run-{i}", run_key=f"key-{i}", finished_at=finished_at)
            writer.write_run(store, run, make_predictions(split))

        def last(key: str, model: str = "tfidf", seed: int | None = None) -> str | None:
            found = reader.last_attempt(store, key, "demo", model, split.split_id, seed)
            return None if found is None else found.run_id

        assert [last("key-0"), last("key-9"), last("key-0", "other"), last("key-0", seed=1)] == [
            "run-0", "run-2", None, None,
        ]  # fmt: skip
