"""Records out of the store."""

import json
from collections.abc import Collection
from datetime import datetime
from typing import Any

import numpy as np

from harness.records import AdapterRecord, Example, Finding, Metric, Outcomes, Run, Verdict
from harness.store.connection import Connection

_RUN_FIELDS = [name for name in Run.__dataclass_fields__ if name != "metrics"]
_RUN_COLUMNS = ", ".join(_RUN_FIELDS)
_ADAPTER_FIELDS = list(AdapterRecord.__dataclass_fields__)


def latest_runs(connection: Connection, run_keys: Collection[str]) -> dict[str, Run]:
    """The latest success of each key, by run key; keys that never succeeded are absent."""
    rows = connection.execute(
        f"SELECT {_RUN_COLUMNS} FROM leaderboard WHERE list_contains(?, run_key)",  # noqa: S608 (constant)
        [list(run_keys)],
    ).fetchall()
    return {run.run_key: run for run in _runs(connection, rows)}


def all_runs(connection: Connection, run_id_prefix: str = "") -> list[Run]:
    """Every run whose id begins so, of whatever status, the newest first."""
    rows = connection.execute(
        f"SELECT {_RUN_COLUMNS} FROM run WHERE starts_with(run_id, ?) ORDER BY started_at DESC, run_id",  # noqa: S608 (constant)
        [run_id_prefix],
    ).fetchall()
    return _runs(connection, rows)


def successes(connection: Connection, suite: str) -> list[Run]:
    """Every successful run of the suites of this name, whatever its key."""
    rows = connection.execute(
        f"SELECT {_RUN_COLUMNS} FROM run WHERE suite = ? AND status = 'success'",  # noqa: S608 (constant)
        [suite],
    ).fetchall()
    return _runs(connection, rows)


def last_attempt(
    connection: Connection, run_key: str, suite: str, model_id: str, split_id: str, seed: int | None
) -> Run | None:
    """The last run, of whatever status, of a model with a seed on a split; one with this key comes before others."""
    rows = connection.execute(
        f"""SELECT {_RUN_COLUMNS} FROM run
            WHERE suite = $suite AND model_id = $model AND split_id = $split AND seed IS NOT DISTINCT FROM $seed
            ORDER BY run_key = $key DESC, finished_at DESC, run_id LIMIT 1""",  # noqa: S608 (constant)
        {"suite": suite, "model": model_id, "split": split_id, "seed": seed, "key": run_key},
    ).fetchall()
    return next(iter(_runs(connection, rows)), None)


def looks(connection: Connection, split_digest: str) -> int:
    """How many configurations have been scored on these rows, current ones and those that were tried before."""
    rows = connection.execute(
        "SELECT count(DISTINCT configuration) FROM run WHERE split_digest = ? AND status = 'success'", [split_digest]
    ).fetchall()
    return int(rows[0][0])


def first_seen(connection: Connection, digests: Collection[str]) -> dict[str, datetime]:
    """When the store first saw these expectations, by digest; those that it never saw are absent."""
    rows = connection.execute(
        "SELECT digest, first_seen_at FROM expectation WHERE list_contains(?, digest)", [list(digests)]
    ).fetchall()
    return dict(rows)


def outcomes(connection: Connection, run_id: str) -> Outcomes:
    """A run's predictions beside the truth, in the order of its split."""
    columns = connection.execute(
        """SELECT prediction.example_id, label::BIGINT AS label, predicted::BIGINT AS predicted, score, cluster
           FROM run JOIN prediction USING (run_id)
           JOIN example ON example.digest = run.split_digest AND example.example_id = prediction.example_id
           WHERE run_id = ? ORDER BY position""",
        [run_id],
    ).fetchnumpy()
    cluster = columns["cluster"]
    unclustered = np.ma.isMaskedArray(cluster) and bool(np.ma.getmaskarray(cluster).any())
    return Outcomes(
        example_ids=tuple(str(example_id) for example_id in columns["example_id"]),
        labels=np.asarray(columns["label"], dtype=np.int64),
        predicted=np.asarray(columns["predicted"], dtype=np.int64),
        scores=np.asarray(columns["score"], dtype=np.float64),
        clusters=None if unclustered or not len(cluster) else np.asarray(cluster, dtype=np.str_),
    )


def adapters(connection: Connection, adapter_digests: Collection[str]) -> dict[str, AdapterRecord]:
    """What is known of these adapters, by digest."""
    rows = connection.execute(
        f"SELECT {', '.join(_ADAPTER_FIELDS)} FROM adapter WHERE list_contains(?, adapter_digest)",  # noqa: S608 (constant)
        [list(adapter_digests)],
    ).fetchall()
    records = (_decoded(dict(zip(_ADAPTER_FIELDS, row, strict=True)), "params", "card") for row in rows)
    return {record["adapter_digest"]: AdapterRecord(**record) for record in records}


def examples(connection: Connection, split_digest: str) -> list[Example]:
    """A split's examples in order; title and content are empty where the store holds no texts."""
    rows = connection.execute(
        """SELECT example_id, coalesce(title, ''), coalesce(content, ''), label, cluster, text_digest
           FROM example WHERE digest = ? ORDER BY position""",
        [split_digest],
    ).fetchall()
    return [Example(*row) for row in rows]


def latest_verdicts(connection: Connection, suite_digest: str) -> list[Verdict]:
    """The verdicts of the last time that this suite was judged, in the order of its rules' ids."""
    rows = connection.execute(
        """SELECT suite_digest, gate_id, judged_at, outcome, numbers FROM verdict
           WHERE suite_digest = $suite
             AND judged_at = (SELECT max(judged_at) FROM verdict WHERE suite_digest = $suite)
           ORDER BY gate_id""",
        {"suite": suite_digest},
    ).fetchall()
    found = []
    for suite, gate_id, judged_at, outcome, text in rows:
        numbers = json.loads(text)
        blocking, reason = numbers.pop("blocking"), numbers.pop("reason")
        found.append(Verdict(suite, gate_id, judged_at, outcome, blocking, reason, numbers))
    return found


def latest_audit(connection: Connection, suite_digest: str) -> list[Finding]:
    """The findings of the last audit of a suite, by split and name; none where it was never audited."""
    rows = connection.execute(
        """SELECT suite_digest, split_id, split_digest, name, value, audited_at FROM audit
           WHERE suite_digest = ? ORDER BY split_id, name""",
        [suite_digest],
    ).fetchall()
    return [
        Finding(suite, split_id, split_digest, name, json.loads(value), audited_at)
        for suite, split_id, split_digest, name, value, audited_at in rows
    ]


def _runs(connection: Connection, rows: list[Any]) -> list[Run]:
    records = [dict(zip(_RUN_FIELDS, row, strict=True)) for row in rows]
    metrics: dict[str, list[Metric]] = {record["run_id"]: [] for record in records}
    stored = connection.execute(
        """SELECT run_id, name, value, ci_low, ci_high, n, higher_is_better FROM metric
           WHERE list_contains(?, run_id) ORDER BY name""",
        [list(metrics)],
    ).fetchall()
    for run_id, *values in stored:
        metrics[run_id].append(Metric(*values))
    return [
        Run(**_decoded(record, "spec", "packages", "hardware"), metrics=tuple(metrics[record["run_id"]]))
        for record in records
    ]


def _decoded(record: dict[str, Any], *json_columns: str) -> dict[str, Any]:
    return record | {name: json.loads(record[name]) for name in json_columns}
