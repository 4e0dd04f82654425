"""Reading records from the store."""

import json
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.records import (
    AdapterRecord,
    Example,
    Finding,
    Forgetting,
    Metric,
    Occlusion,
    Outcomes,
    Parity,
    Piece,
    Run,
    Split,
    Verdict,
    Watched,
)
from harness.store import checksum
from harness.store.connection import Connection

_RUN_FIELDS = [name for name in Run.__dataclass_fields__ if name != "metrics"]
_RUN_COLUMNS = ", ".join(_RUN_FIELDS)
_ROWS_AT_ONCE = 1_000_000  # predictions in one result: about 30 MB
_ADAPTER_FIELDS = list(AdapterRecord.__dataclass_fields__)
_PARITY_FIELDS = list(Parity.__dataclass_fields__)
CLOCK_SLACK = timedelta(days=1)
"""Tolerance for runs that ended in the future, since the clocks of two machines differ."""


def latest_runs(connection: Connection, run_keys: Collection[str], now: datetime | None = None) -> dict[str, Run]:
    """The latest successful run of each key, by run key; keys that never succeeded are absent.

    Args:
        now: UTC, without time zone: a run that ended more than a day later is ignored, since it would stay the latest
            whatever is scored after it. None: all count.
    """
    rows = connection.execute(
        f"""SELECT {_RUN_COLUMNS} FROM run
            WHERE status = 'success' AND list_contains($keys, run_key)
              AND ($until::TIMESTAMP IS NULL OR finished_at <= $until)
            QUALIFY row_number() OVER (PARTITION BY run_key ORDER BY finished_at DESC, run_id DESC) = 1""",  # noqa: S608 (constant)
        {"keys": list(run_keys), "until": None if now is None else now + CLOCK_SLACK},
    ).fetchall()
    return {run.run_key: run for run in _runs(connection, rows)}


def runs_of(connection: Connection, run_ids: Collection[str]) -> list[Run]:
    """These runs, by id."""
    rows = connection.execute(
        f"SELECT {_RUN_COLUMNS} FROM run WHERE list_contains(?, run_id) ORDER BY run_id",  # noqa: S608 (constant)
        [list(run_ids)],
    ).fetchall()
    return _runs(connection, rows)


class Sums(NamedTuple):
    """A run's checksums from when it was stored; None where an earlier release recorded none."""

    predictions: str
    record: str | None


def sums(connection: Connection, run_ids: Collection[str]) -> dict[str, Sums]:
    """The checksums of these runs, by run id; runs without any are absent."""
    rows = connection.execute(
        "SELECT run_id, predictions, record FROM checksum WHERE list_contains(?, run_id)", [list(run_ids)]
    ).fetchall()
    return {run_id: Sums(*one) for run_id, *one in rows}


class Answers(NamedTuple):
    """A run's answers, in the order of its split; each of shape (n,)."""

    predicted: NDArray[np.int64]
    scores: NDArray[np.float64]

    def checksum(self) -> str:
        """The checksum of these answers, as stored in `checksum.predictions`."""
        return checksum.of_predictions(self.predicted, self.scores)


def answers(connection: Connection, split: Split, run_ids: Collection[str]) -> dict[str, Answers | None]:
    """The predictions of runs on a split by run id, in the split's own order, whatever the order in the store.

    None for a run without exactly one prediction for each example of the split.
    """
    ids, n = list(run_ids), len(split.examples)
    found: dict[str, Answers | None] = {}
    step = max(1, _ROWS_AT_ONCE // max(1, n))
    example_ids = [example.example_id for example in split.examples]
    for start in range(0, len(ids), step):
        some = ids[start : start + step]
        columns = connection.execute(
            """WITH wanted AS (SELECT unnest($ids) AS run_id, unnest(range(len($ids))) AS place),
                    of_split AS (SELECT unnest($examples) AS example_id, unnest(range(len($examples))) AS number)
               SELECT place, coalesce(number, -1) AS number, predicted, score
               FROM prediction JOIN wanted USING (run_id) LEFT JOIN of_split USING (example_id)""",
            {"ids": some, "examples": example_ids},
        ).fetchnumpy()
        place, number = np.asarray(columns["place"]), np.asarray(columns["number"])
        known = number >= 0
        at = place[known], number[known]
        counted = np.zeros((len(some), n), dtype=np.int64)
        np.add.at(counted, at, 1)
        strangers = np.bincount(place[~known], minlength=len(some))
        predicted, scores = np.zeros((len(some), n), dtype=np.int64), np.zeros((len(some), n))
        predicted[at], scores[at] = np.asarray(columns["predicted"])[known], np.asarray(columns["score"])[known]
        whole = (counted == 1).all(axis=1) & (strangers == 0)
        for i, run_id in enumerate(some):
            found[run_id] = Answers(predicted[i], scores[i]) if whole[i] else None
    return found


def differing(connection: Connection, split: Split) -> int:
    """Number of examples whose label, cluster, text or position in the store differs from that in the split."""
    # As lists, not as a registered Arrow table: for that DuckDB imports pandas, which takes half a second.
    ((count,),) = connection.execute(
        """SELECT count(*) FROM (SELECT example_id, position, label, cluster, text_digest
                                 FROM example WHERE digest = $digest) old
           FULL JOIN (SELECT unnest($ids::VARCHAR[]) AS example_id, unnest(range(len($ids))::INTEGER[]) AS position,
                             unnest($labels::TINYINT[]) AS label, unnest($clusters::VARCHAR[]) AS cluster,
                             unnest($texts::VARCHAR[]) AS text_digest) new
           USING (example_id) WHERE old IS DISTINCT FROM new""",
        {
            "digest": split.digest,
            "ids": [example.example_id for example in split.examples],
            "labels": [example.label for example in split.examples],
            "clusters": [example.cluster for example in split.examples],
            "texts": [example.text_digest for example in split.examples],
        },
    ).fetchall()
    return int(count)


def all_runs(connection: Connection, run_id_prefix: str = "") -> list[Run]:
    """Every run whose id begins with this prefix, whatever its status, newest first."""
    rows = connection.execute(
        f"SELECT {_RUN_COLUMNS} FROM run WHERE starts_with(run_id, ?) ORDER BY started_at DESC, run_id",  # noqa: S608 (constant)
        [run_id_prefix],
    ).fetchall()
    return _runs(connection, rows)


def successes(connection: Connection, suite: str) -> list[Run]:
    """Every successful run of suites with this name, whatever its key."""
    rows = connection.execute(
        f"SELECT {_RUN_COLUMNS} FROM run WHERE suite = ? AND status = 'success'",  # noqa: S608 (constant)
        [suite],
    ).fetchall()
    return _runs(connection, rows)


def scores_over_commits(connection: Connection, suite: str, metric: str) -> list[tuple[Any, ...]]:
    """Successful runs, newest first, of models that suites with this name scored at more than one commit.

    Returns:
        run_id, model_id, split_id, seed, git_commit, git_dirty, evaluation_id, finished_at, and the metric's value,
        ci_low, ci_high.
    """
    return connection.execute(
        """SELECT run.run_id, model_id, split_id, seed, git_commit, git_dirty, evaluation_id, finished_at, value,
                  ci_low, ci_high
           FROM run JOIN metric ON metric.run_id = run.run_id AND metric.name = $metric
           WHERE suite = $suite AND status = 'success' AND model_id IN (
               SELECT model_id FROM run WHERE suite = $suite AND status = 'success'
               GROUP BY model_id HAVING count(DISTINCT git_commit) > 1)
           ORDER BY model_id, finished_at DESC, run.run_id""",
        {"suite": suite, "metric": metric},
    ).fetchall()


def last_attempt(
    connection: Connection, run_key: str, suite: str, model_id: str, split_id: str, seed: int | None
) -> Run | None:
    """The last run of a model with a seed on a split, whatever its status; one with this key is preferred."""
    rows = connection.execute(
        f"""SELECT {_RUN_COLUMNS} FROM run
            WHERE suite = $suite AND model_id = $model AND split_id = $split AND seed IS NOT DISTINCT FROM $seed
            ORDER BY run_key = $key DESC, finished_at DESC, run_id LIMIT 1""",  # noqa: S608 (constant)
        {"suite": suite, "model": model_id, "split": split_id, "seed": seed, "key": run_key},
    ).fetchall()
    return next(iter(_runs(connection, rows)), None)


def times_scored(connection: Connection, split_digest: str) -> int:
    """Number of configurations scored on these rows, both current and earlier ones."""
    rows = connection.execute(
        "SELECT count(DISTINCT configuration) FROM run WHERE split_digest = ? AND status = 'success'", [split_digest]
    ).fetchall()
    return int(rows[0][0])


def first_seen(connection: Connection, digests: Collection[str]) -> dict[str, datetime]:
    """Times at which the store first saw these expectations, by digest; those that it never saw are absent."""
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


def outcomes_of_runs(connection: Connection, run_ids: Collection[str]) -> dict[str, Outcomes]:
    """The `outcomes` of many runs by run id. Runs on one split share the arrays about its examples."""
    rows = connection.execute(
        """SELECT split_digest, list(run_id ORDER BY run_id) FROM run
           WHERE list_contains(?, run_id) AND status = 'success' GROUP BY split_digest ORDER BY split_digest""",
        [list(run_ids)],
    ).fetchall()
    found: dict[str, Outcomes] = {}
    for split_digest, ids in rows:
        known = examples(connection, split_digest)
        shared = (
            tuple(example.example_id for example in known),
            np.array([example.label for example in known], dtype=np.int64),
            None if any(e.cluster is None for e in known) else np.array([str(e.cluster) for e in known]),
        )
        step = max(1, _ROWS_AT_ONCE // len(known))
        for start in range(0, len(ids), step):
            found |= _outcomes_on(connection, split_digest, ids[start : start + step], *shared)
    return found


def _outcomes_on(
    connection: Connection,
    split_digest: str,
    run_ids: list[str],
    example_ids: tuple[str, ...],
    labels: NDArray[np.int64],
    clusters: NDArray[np.str_] | None,
) -> dict[str, Outcomes]:
    columns = connection.execute(
        """WITH wanted AS (SELECT unnest($ids) AS run_id, unnest(range(len($ids))) AS place),
                row AS (SELECT example_id, row_number() OVER (ORDER BY position) - 1 AS number
                        FROM example WHERE digest = $digest)
           SELECT place, number, predicted, score FROM prediction JOIN wanted USING (run_id) JOIN row USING (example_id)
        """,
        {"ids": run_ids, "digest": split_digest},
    ).fetchnumpy()
    predicted = np.zeros((len(run_ids), len(example_ids)), dtype=np.int64)
    scores = np.zeros((len(run_ids), len(example_ids)))
    at = np.asarray(columns["place"]), np.asarray(columns["number"])
    predicted[at], scores[at] = np.asarray(columns["predicted"]), np.asarray(columns["score"])
    return {
        run_id: Outcomes(example_ids, labels, predicted[place], scores[place], clusters)
        for place, run_id in enumerate(run_ids)
    }


def adapters(connection: Connection, adapter_digests: Collection[str]) -> dict[str, AdapterRecord]:
    """The records of these adapters, by digest."""
    rows = connection.execute(
        f"SELECT {', '.join(_ADAPTER_FIELDS)} FROM adapter WHERE list_contains(?, adapter_digest)",  # noqa: S608 (constant)
        [list(adapter_digests)],
    ).fetchall()
    records = (_decoded(dict(zip(_ADAPTER_FIELDS, row, strict=True)), "params", "card") for row in rows)
    return {record["adapter_digest"]: AdapterRecord(**record) for record in records}


def moved(connection: Connection, adapter_digests: Collection[str]) -> list[Forgetting]:
    """The latest measured forgetting of these adapters, for each adapter, split and name."""
    columns = ", ".join(Forgetting.__dataclass_fields__)
    rows = connection.execute(
        f"""SELECT {columns} FROM forgetting WHERE list_contains(?, adapter_digest)
            QUALIFY row_number() OVER (PARTITION BY adapter_digest, split_digest, name
                                       ORDER BY measured_at DESC, key) = 1
            ORDER BY adapter_digest, split_digest, name""",  # noqa: S608 (constant)
        [list(adapter_digests)],
    ).fetchall()
    return [Forgetting(*row) for row in rows]


def forgetting(connection: Connection, keys: Collection[str]) -> list[Forgetting]:
    """Measured forgetting under these keys."""
    columns = ", ".join(Forgetting.__dataclass_fields__)
    rows = connection.execute(
        f"SELECT {columns} FROM forgetting WHERE list_contains(?, key) ORDER BY key, name DESC",  # noqa: S608 (constant)
        [list(keys)],
    ).fetchall()
    return [Forgetting(*row) for row in rows]


def parities(
    connection: Connection, *, parity_keys: Collection[str] = (), adapter_digests: Collection[str] = ()
) -> list[Parity]:
    """Comparisons of trained models' variants with their references, latest first: by key, or by weights."""
    rows = connection.execute(
        f"""SELECT {", ".join(_PARITY_FIELDS)} FROM parity
            WHERE list_contains($keys, parity_key) OR list_contains($digests, adapter_digest)
            ORDER BY checked_at DESC, parity_key""",  # noqa: S608 (constant)
        {"keys": list(parity_keys), "digests": list(adapter_digests)},
    ).fetchall()
    return [Parity(**_decoded(dict(zip(_PARITY_FIELDS, row, strict=True)), "spec", "hardware")) for row in rows]


def examples(connection: Connection, split_digest: str) -> list[Example]:
    """A split's examples in order; title and content are empty where the store holds no texts."""
    rows = connection.execute(
        """SELECT example_id, coalesce(title, ''), coalesce(content, ''), label, cluster, text_digest
           FROM example WHERE digest = ? ORDER BY position""",
        [split_digest],
    ).fetchall()
    return [Example(*row) for row in rows]


def latest_verdicts(connection: Connection, suite_digest: str) -> list[Verdict]:
    """The verdicts from the last time this suite was judged, in the order of its rules' ids."""
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
        # Earlier releases stored no model; the words of a rule begin with it, and an id has no blanks.
        model_id = numbers.pop("model_id", gate_id.partition(" on ")[0])
        found.append(Verdict(suite, gate_id, model_id, judged_at, outcome, blocking, reason, numbers))
    return found


def occlusions(connection: Connection, run_keys: Collection[str]) -> list[Occlusion]:
    """The explained examples of these runs, by run key and example; those that were changed in the store are absent."""
    rows = connection.execute(
        """SELECT key, run_key, split_digest, example_id, score, pieces, explained_at, checksum FROM occlusion
           WHERE list_contains(?, run_key) ORDER BY run_key, example_id, explained_at""",
        [list(run_keys)],
    ).fetchall()
    return [one for row in rows if (one := _occlusion(*row)) is not None]


def _occlusion(
    key: str,
    run_key: str,
    split_digest: str,
    example_id: str,
    score: float,
    pieces: str,
    explained_at: datetime,
    of_row: str,
) -> Occlusion | None:
    """A row as a record; None if it is not what was stored."""
    try:
        many = tuple(Piece(int(of), int(start), int(end), float(alone)) for of, start, end, alone in json.loads(pieces))
        found = Occlusion(key, run_key, split_digest, example_id, score, many, explained_at)
        return found if checksum.of_occlusion(found) == of_row else None
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None


def watched(connection: Connection, series: str) -> list[Watched]:
    """The records of a watched model, in the order of its commits."""
    columns = ", ".join(Watched.__dataclass_fields__)
    rows = connection.execute(
        f"SELECT {columns} FROM watch WHERE series = ? ORDER BY position",  # noqa: S608 (constant)
        [series],
    ).fetchall()
    return [Watched(*row) for row in rows]


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
        """SELECT run_id, name, value, ci_low, ci_high, n, higher_is_better, origin FROM metric
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
