"""Writing records to the store. Rows go in as Arrow batches; a run appears with all its predictions or not at all."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.records import (
    AdapterRecord,
    Finding,
    Forgetting,
    Occlusion,
    Parity,
    Prediction,
    Run,
    Split,
    Verdict,
    Watched,
)
from harness.store import checksum
from harness.store.connection import Connection, transaction

if TYPE_CHECKING:
    import pyarrow as pa


def write_split(connection: Connection, suite: str, split: Split, *, with_text: bool) -> None:
    """Store a split and its examples, unless exactly these are stored. Texts are stored only where the suite allows it.

    A split stored without texts gains them when a suite that allows it has the same rows, and one stored with texts
    loses them when the suite no longer allows it, with the places of explained words. Examples that were changed in the
    store are restored.
    """
    import pyarrow as pa

    rows = pa.table(
        {
            "digest": pa.array([split.digest] * len(split.examples), pa.string()),
            "example_id": pa.array([e.example_id for e in split.examples], pa.string()),
            "position": pa.array(range(len(split.examples)), pa.int32()),
            "label": pa.array([e.label for e in split.examples], pa.int8()),
            "cluster": pa.array([e.cluster for e in split.examples], pa.string()),
            "text_digest": pa.array([e.text_digest for e in split.examples], pa.string()),
            "title": pa.array([e.title if with_text else None for e in split.examples], pa.string()),
            "content": pa.array([e.content if with_text else None for e in split.examples], pa.string()),
        }
    )
    with _registered(connection, rows), transaction(connection):
        connection.execute(
            "INSERT OR IGNORE INTO split VALUES (?, ?, ?, ?, ?)",
            [split.split_id, split.digest, suite, _json(split.source), len(split.examples)],
        )
        ((differing,),) = connection.execute(
            """SELECT count(*) FROM (SELECT * FROM example WHERE digest = $digest) old
               FULL JOIN new_rows new USING (example_id) WHERE old IS DISTINCT FROM new""",
            {"digest": split.digest},
        ).fetchall()
        if differing:
            connection.execute(
                """DELETE FROM example WHERE digest = $digest
                   AND example_id NOT IN (SELECT example_id FROM new_rows)""",
                {"digest": split.digest},
            )
            connection.execute("INSERT OR REPLACE INTO example SELECT * FROM new_rows")
        if not with_text:
            connection.execute("DELETE FROM occlusion WHERE split_digest = ?", [split.digest])


def write_adapter(connection: Connection, adapter: AdapterRecord) -> None:
    """Store an adapter's record with, if known, its training, unless these weights are stored already."""
    row = asdict(adapter)
    row["params"], row["card"] = _json(adapter.params), _json(adapter.card)
    with transaction(connection):
        _insert(connection, "adapter", row, ignore=True)


def write_run(connection: Connection, run: Run, predictions: Sequence[Prediction]) -> None:
    """Store a run, its predictions (in any order, one for each example of its split), their checksum and its metrics.

    Only a successful run has predictions; those of a run with another status are dropped.

    Raises:
        ValueError: the predictions do not match the examples of the run's split one to one, or are not 0 or 1 with a
            score in [0, 1]. Nothing is stored then.
    """
    row = {name: getattr(run, name) for name in Run.__dataclass_fields__ if name != "metrics"}
    row |= {name: _json(row[name]) for name in ("spec", "packages", "hardware")}
    import pyarrow as pa

    rows = pa.table(
        {
            "run_id": pa.array([run.run_id] * len(predictions), pa.string()),
            "example_id": pa.array([p.example_id for p in predictions], pa.string()),
            "predicted": pa.array([p.predicted for p in predictions], pa.int64()),
            "score": pa.array([p.score for p in predictions], pa.float64()),
        }
    )
    with _registered(connection, rows), transaction(connection):
        _insert(connection, "run", row)
        if run.status == "success":
            of_predictions = checksum.of_predictions(*_in_order(connection, run))
            connection.execute("INSERT INTO prediction SELECT * FROM new_rows")
            of_record = checksum.of_record(run, of_predictions)
            sums = {"run_id": run.run_id, "predictions": of_predictions, "record": of_record}
            _insert(connection, "checksum", sums)
        _insert(connection, "metric", *({"run_id": run.run_id, **asdict(metric)} for metric in run.metrics))


def _in_order(connection: Connection, run: Run) -> tuple[NDArray[Any], NDArray[Any]]:
    """Validated predicted classes and scores of `new_rows` in the order of the run's split, each of shape (n,)."""
    columns = connection.execute(
        """SELECT position IS NULL OR run_id IS NULL AS alone, position, predicted, score
           FROM (SELECT example_id, position FROM example WHERE digest = ?) FULL JOIN new_rows USING (example_id)
           ORDER BY position""",
        [run.split_digest],
    ).fetchnumpy()
    if np.any(columns["alone"]) or not np.all(np.diff(np.asarray(columns["position"])) > 0):
        raise ValueError(f"predictions of run {run.run_id} do not match the examples of split {run.split_id!r}")
    predicted, scores = np.ma.filled(columns["predicted"], -1), np.ma.filled(columns["score"], np.nan)
    if not (np.isin(predicted, (0, 1)) & (scores >= 0) & (scores <= 1)).all():
        raise ValueError(f"predictions of run {run.run_id} must be 0 or 1, with a score from 0 to 1")
    return predicted, scores


@contextmanager
def _registered(connection: Connection, rows: "pa.Table") -> Iterator[None]:
    """The rows as a table `new_rows`, for as long as the block lasts.

    A transaction must be inside the block, not around it: nothing can be unregistered while a failed transaction waits
    for its rollback, and the error would be lost.
    """
    connection.register("new_rows", rows)
    try:
        yield
    finally:
        connection.unregister("new_rows")


def write_verdicts(connection: Connection, verdicts: Sequence[Verdict]) -> None:
    """Store the outcome of judging a suite's gates."""
    with transaction(connection):
        for verdict in verdicts:
            beside = {name: getattr(verdict, name) for name in ("model_id", "reason", "blocking")}
            row = {name: getattr(verdict, name) for name in ("suite_digest", "gate_id", "judged_at", "outcome")}
            _insert(connection, "verdict", {**row, "numbers": _json({**verdict.numbers, **beside})})


def write_expectations(
    connection: Connection, suite: str, rules: Mapping[str, str], seen_at: datetime, git_commit: str | None
) -> None:
    """Record the expectations of a suite's authors, unless they are recorded already: the first time counts.

    Args:
        rules: the expectations in words, by digest.
        seen_at: UTC, without time zone.
    """
    with transaction(connection):
        for key, rule in rules.items():
            row = {"digest": key, "suite": suite, "rule": rule, "first_seen_at": seen_at, "git_commit": git_commit}
            _insert(connection, "expectation", row, ignore=True)


def write_forgetting(connection: Connection, found: Sequence[Forgetting]) -> None:
    """Store an adapter's measured forgetting, unless it is stored already."""
    with transaction(connection):
        for moved in found:
            _insert(connection, "forgetting", asdict(moved), ignore=True)


def write_occlusions(connection: Connection, found: Sequence[Occlusion]) -> None:
    """Store explained examples, replacing any with the same keys."""
    with transaction(connection):
        for one in found:
            pieces = [[piece.field, piece.start, piece.end, piece.score] for piece in one.pieces]
            row = {**asdict(one), "pieces": _json(pieces), "checksum": checksum.of_occlusion(one)}
            connection.execute(
                f"INSERT OR REPLACE INTO occlusion ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",  # noqa: S608 (constant)
                list(row.values()),
            )


def write_watched(connection: Connection, found: Sequence[Watched]) -> None:
    """Store what the models of a commit came to: all of it, or nothing."""
    with transaction(connection):
        for watched in found:
            _insert(connection, "watch", asdict(watched))


def write_audit(connection: Connection, findings: Sequence[Finding]) -> None:
    """Store an audit, replacing the last one of the same suite file.

    Args:
        findings: all of one suite and one time.
    """
    columns: list[list[Any]] = [
        [f.suite_digest for f in findings],
        [f.split_id for f in findings],
        [f.split_digest for f in findings],
        [f.name for f in findings],
        [_json(f.value) for f in findings],
        [f.audited_at for f in findings],
    ]
    suites, splits, _, names, *_ = columns
    with transaction(connection):
        # Replace first and delete after: to DuckDB, a key deleted within a transaction still exists. As lists: these
        # are few rows, and a command that only audits need not import Arrow.
        connection.execute(f"INSERT OR REPLACE INTO audit SELECT {', '.join(['unnest(?)'] * len(columns))}", columns)
        connection.execute(
            """DELETE FROM audit WHERE suite_digest IN (SELECT unnest(?))
               AND (split_id, name) NOT IN (SELECT (unnest(?), unnest(?)))""",
            [suites, splits, names],
        )


def write_parities(connection: Connection, parities: Sequence[Parity]) -> None:
    """Store comparisons of variants with their references, replacing any with the same keys."""
    with transaction(connection):
        for parity in parities:
            row = {name: getattr(parity, name) for name in Parity.__dataclass_fields__}
            row |= {name: _json(row[name]) for name in ("spec", "hardware")}
            connection.execute(
                f"INSERT OR REPLACE INTO parity ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",  # noqa: S608 (constant)
                list(row.values()),
            )


def _insert(connection: Connection, table: str, *rows: Mapping[str, Any], ignore: bool = False) -> None:
    """Insert rows that all have the same columns; their names come from the harness's records, never from input."""
    if not rows:
        return
    columns, marks = ", ".join(rows[0]), ", ".join("?" * len(rows[0]))
    verb = "INSERT OR IGNORE" if ignore else "INSERT"
    values = [value for row in rows for value in row.values()]
    connection.execute(f"{verb} INTO {table} ({columns}) VALUES {', '.join([f'({marks})'] * len(rows))}", values)


def _json(value: Any) -> str:
    """JSON as the store keeps it. NaN raises ValueError: an absent number is None."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
