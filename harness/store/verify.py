"""Verification of a store: everything that follows from other content is derived again and compared.

    report = verify(connection, now)     # only reads; `report.problems` is empty if the store is consistent

It recomputes the digest of every split from its rows, the ids of every example whose text is stored, the key of every
run and parity check from its spec, the checksum of every run's predictions, and every metric of every run, in SQL.
Nothing from `harness.data` and `harness.stats.metrics` is used, so that a mistake there cannot confirm itself.
Intervals are not recomputed: they are resampled, which takes as long as in the evaluation.

Every column of every table is read, so DuckDB checks every data block against its checksum. Index blocks and free
blocks are not read.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

import duckdb
import numpy as np

from harness import keys
from harness.artifacts import digest
from harness.records import Occlusion
from harness.stats import inference
from harness.store import checksum, reader, sql_metrics
from harness.store.connection import TABLES, Connection
from harness.store.reader import CLOCK_SLACK


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a store that contradicts something else in it."""

    what: str
    where: str
    """The run, split, adapter or table, by id."""
    detail: str
    """The numbers; empty where there are none."""
    to_do: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}{f' ({self.detail})' if self.detail else ''}; {self.to_do}"


ID_DIGITS = 32
_EXAMPLES_AT_ONCE = 100_000
_WHOLE = "restore a backup of the store"


def check_examples(connection: Connection) -> Iterator[Problem]:
    """Find problems of splits: in the number and order of examples, the digest, and the examples' ids.

    The id of an example is derived from its label and text, and the split's digest from ids and clusters. If texts are
    not stored, ids cannot be recomputed, so labels cannot be checked.
    """
    splits = connection.execute("SELECT split_id, digest, n FROM split ORDER BY ALL").fetchall()
    for split_id, split_digest, n in splits:
        ((found,),) = connection.execute("SELECT count(*) FROM example WHERE digest = ?", [split_digest]).fetchall()
        if found != n:
            where = f"split {split_id} {split_digest}"
            yield Problem("its number of examples is not the recorded one", where, f"{found:,}, not {n:,}", _WHOLE)
    known = {split_digest for _, split_digest, _ in splits}
    for (split_digest,) in connection.execute("SELECT DISTINCT digest FROM example ORDER BY ALL").fetchall():
        if split_digest not in known:
            yield Problem("examples without their split", f"split {split_digest}", "", _WHOLE)
        yield from _check_split(connection, split_digest)


def _check_split(connection: Connection, split_digest: str) -> Iterator[Problem]:
    cursor = connection.execute(
        "SELECT example_id, cluster, position, label, text_digest, title, content FROM example WHERE digest = ? "
        "ORDER BY position",
        [split_digest],
    )
    whole, seen, number, misplaced, mislabelled = hashlib.sha256(b"["), Counter[str](), 0, 0, 0
    while rows := cursor.fetchmany(_EXAMPLES_AT_ONCE):
        for example_id, cluster, position, label, text_digest, title, content in rows:
            # Like `digest.of_json` of the whole list, without keeping it in memory.
            whole.update(b"," * (number > 0) + json.dumps([example_id, cluster], separators=(",", ":")).encode())
            misplaced += position != number
            number += 1
            if content is not None:
                derived = digest.of_json([label, title or "", content])[:ID_DIGITS]
                seen[derived] += 1
                times = f"-{seen[derived]}" if seen[derived] > 1 else ""
                of_text = digest.of_json([title or "", content])[:ID_DIGITS]
                mislabelled += (example_id, text_digest) != (derived + times, of_text)
    whole.update(b"]")
    where = f"split {split_digest}"
    if misplaced:
        yield Problem("positions of examples are not consecutive", where, f"{misplaced:,} of {number:,}", _WHOLE)
    if whole.hexdigest() != split_digest:
        yield Problem("its digest does not match its examples", where, "", _WHOLE)
    if mislabelled:
        detail = f"{mislabelled:,} of {number:,}"
        yield Problem("ids of examples do not match their labels and texts", where, detail, _WHOLE)


ROWS_AT_ONCE = 1_000_000
"""Largest number of predictions in memory, unless a single run has more: about 100 MB."""
TOLERANCE = 1e-9
"""Relative tolerance for metrics that are sums of floats. Those computed from counts must be equal."""
_OF_COUNTS = ("accuracy", "precision", "recall", "f1", "mcc")
DEEPEST_JSON = 50
_SPECS_AT_ONCE = 1000
_AGAIN = "restore a backup of the store, or score it again with `harness evaluate --fresh`: the later run counts"
_GC = "`harness store gc` removes them"


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a verification."""

    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    """Remarks that are not problems, such as runs whose checksum is unknown."""
    counts: dict[str, int]
    """Rows by table."""


def verify(connection: Connection, now: datetime) -> Report:
    """Check that a store is consistent in itself.

    Args:
        now: UTC, without time zone.
    """
    counts: dict[str, int] = {}
    try:
        _read_all(connection, counts)
    except duckdb.Error as error:  # nothing after it can be trusted, and DuckDB may refuse further statements
        first_line = str(error).splitlines()[0]
        problem = Problem("cannot be read", f"table {list(counts)[-1]}", first_line, _WHOLE)
        return Report((problem,), (), {name: count for name, count in counts.items() if count >= 0})
    found = [*_orphans(connection), *check_examples(connection), *_specs(connection), *_runs(connection)]
    found += _records(connection, {problem.where for problem in found})
    found += _occlusions(connection)
    return Report(tuple(found), tuple(_notes(connection, now)), counts)


def _read_all(connection: Connection, counts: dict[str, int]) -> None:
    """Read every value of every table and count its rows; -1 marks the table at which reading failed."""
    tables = connection.execute(
        f"SELECT table_name FROM {TABLES} AND table_type = 'BASE TABLE' ORDER BY table_name"  # noqa: S608 (constant)
    ).fetchall()
    for (table,) in tables:
        counts[table] = -1
        name = '"' + table.replace('"', '""') + '"'
        ((counts[table], _),) = connection.execute(f"SELECT count(*), bit_xor(hash(r)) FROM {name} r").fetchall()  # noqa: S608 (a quoted name)


_ORPHANS = {
    ("predictions without their run", _GC): "SELECT DISTINCT run_id FROM prediction ANTI JOIN run USING (run_id)",
    ("metrics without their run", _GC): "SELECT DISTINCT run_id FROM metric ANTI JOIN run USING (run_id)",
    ("a checksum without its run", _GC): "SELECT run_id FROM checksum ANTI JOIN run USING (run_id)",
    (
        "has predictions or metrics, although it did not succeed",
        "delete them, or restore a backup of the store",
    ): """SELECT run_id FROM run WHERE status <> 'success'
          AND (run_id IN (SELECT run_id FROM prediction) OR run_id IN (SELECT run_id FROM metric))""",
    ("its split is not stored", _AGAIN): """SELECT run_id FROM run
          WHERE status = 'success' AND (split_id, split_digest) NOT IN (SELECT (split_id, digest) FROM split)""",
    ("its adapter is not stored", "evaluate the suite, which stores it again"): """SELECT run_id FROM run
          WHERE status = 'success' AND adapter_digest IS NOT NULL
          AND adapter_digest NOT IN (SELECT adapter_digest FROM adapter)""",
    ("a prediction that is not 0 or 1 with a score from 0 to 1", _AGAIN): """SELECT DISTINCT run_id FROM prediction
          WHERE (predicted IN (0, 1) AND score BETWEEN 0 AND 1) IS NOT TRUE""",
    ("an interval whose ends are in the wrong order", _AGAIN): """SELECT DISTINCT run_id FROM metric
          WHERE ci_low > ci_high OR isnan(value) OR isnan(ci_low) OR isnan(ci_high)""",
}
"""Queries for the ids of runs with a problem, by the problem and its remedy."""


def _orphans(connection: Connection) -> Iterator[Problem]:
    for (what, to_do), sql in _ORPHANS.items():
        for (run_id,) in connection.execute(f"{sql} ORDER BY run_id").fetchall():
            yield Problem(what, f"run {run_id}", "", to_do)


_JSON = {
    "split": ("split_id || ' ' || digest", ("source",)),
    "adapter": ("adapter_digest", ("params", "card")),
    "run": ("run_id", ("spec", "packages", "hardware")),
    "parity": ("parity_key", ("spec", "hardware")),
}
"""JSON columns by table, after the expression that names a row. Each value must be an object."""


def _specs(connection: Connection) -> Iterator[Problem]:
    """Find JSON columns that hold no objects, and keys that do not match the digests of their specs."""
    for table, (name, columns) in _JSON.items():
        cursor = connection.execute(f"SELECT {name}, {', '.join(columns)} FROM {table} ORDER BY 1")  # noqa: S608 (constant)
        while rows := cursor.fetchmany(_SPECS_AT_ONCE):
            for key, *texts in rows:
                for column, text in zip(columns, texts, strict=True):
                    if _object(text) is None:
                        yield Problem(f"{column} is not a JSON object", f"{table} {key}", "", _WHOLE)
    for key, text in connection.execute("SELECT parity_key, spec FROM parity ORDER BY ALL").fetchall():
        if digest.of_json(_object(text)) != key:
            yield Problem("its key does not match its spec", f"parity {key}", "", _WHOLE)
    for key, flips, positive, negative, p_value in connection.execute(
        """SELECT parity_key, flips, turned_positive, turned_negative, p_value FROM parity
           WHERE turned_positive IS NOT NULL ORDER BY parity_key"""
    ).fetchall():
        if positive + negative != flips or not _same("p_value", p_value, inference.mcnemar(positive, negative)):
            yield Problem("its flips and p-value do not match its turned texts", f"parity {key}", "", _WHOLE)
    cursor = connection.execute(
        """SELECT run_id, run_key, configuration, spec, model_id, seed, adapter_digest, split_id, split_digest
           FROM run ORDER BY run_id"""
    )
    while rows := cursor.fetchmany(_SPECS_AT_ONCE):
        for run_id, run_key, configuration, text, *recorded in rows:
            spec = _object(text)
            if keys.key(spec) != run_key:
                yield Problem("its key does not match its spec", f"run {run_id}", "", _AGAIN)
            elif (differing := _differing(spec, configuration, recorded)) is not None:
                yield Problem("does not match its spec", f"run {run_id}", differing, _AGAIN)


def _object(text: str) -> dict[str, Any] | None:
    """A JSON object that can be digested; None if it is something else, or nested too deeply."""
    try:
        value = json.loads(text)
        digest.of_json(value)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and not _deeper(value, DEEPEST_JSON) else None


def _deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(one, levels - 1) for one in inner)


def _differing(spec: object, configuration: str, recorded: list[object]) -> str | None:
    """The first difference between a run's columns and its spec; None if there is none."""
    if not isinstance(spec, dict):
        return "the spec is no object"
    try:
        split = spec["split"]
        of_spec = [spec["model"]["id"], spec["seed"], spec["adapter_digest"], split["id"], split["digest"]]
        of_configuration = keys.key(keys.configuration(spec))
    except (KeyError, TypeError):
        return "the spec lacks a required entry"
    names = ("model_id", "seed", "adapter_digest", "split_id", "split_digest")
    for name, column, value in zip(names, recorded, of_spec, strict=True):
        if column != value:
            return f"{name} is {column!r}, but {value!r} in the spec"
    return None if of_configuration == configuration else "configuration does not match its part of the spec"


def _runs(connection: Connection) -> Iterator[Problem]:
    """Find predictions that are missing or have changed, and metrics that do not follow from them.

    Runs are read in portions, so that memory does not grow with the store.
    """
    rows = connection.execute(
        """SELECT split_digest, list(run_id ORDER BY run_id), (SELECT count(*) FROM example WHERE digest = split_digest)
           FROM run WHERE status = 'success' GROUP BY split_digest ORDER BY split_digest"""
    ).fetchall()
    for split_digest, run_ids, n in rows:
        step = max(1, ROWS_AT_ONCE // max(1, n))
        for start in range(0, len(run_ids), step):
            some = run_ids[start : start + step]
            incomplete = {problem.where: problem for problem in _predictions(connection, split_digest, some, n)}
            yield from incomplete.values()
            whole = [run_id for run_id in some if f"run {run_id}" not in incomplete]
            yield from _metrics(connection, whole)


def _predictions(connection: Connection, split_digest: str, run_ids: list[str], n: int) -> Iterator[Problem]:
    """Find problems in the predictions of runs on one split of n examples."""
    columns = connection.execute(
        """WITH wanted AS (SELECT unnest($ids) AS run_id, unnest(range(len($ids))) AS place),
                row AS (SELECT example_id, row_number() OVER (ORDER BY position) - 1 AS number
                        FROM example WHERE digest = $digest)
           SELECT place, coalesce(number, -1) AS number, predicted, score
           FROM prediction JOIN wanted USING (run_id) LEFT JOIN row USING (example_id)""",
        {"ids": run_ids, "digest": split_digest},
    ).fetchnumpy()
    place, number = np.asarray(columns["place"]), np.asarray(columns["number"])
    known = number >= 0
    counted = np.zeros((len(run_ids), n), dtype=np.int8)
    predicted, scores = np.zeros((len(run_ids), n), dtype=np.int8), np.zeros((len(run_ids), n))
    at = place[known], number[known]
    counted[at] = 1  # the table's key rules out duplicates
    predicted[at], scores[at] = np.asarray(columns["predicted"])[known], np.asarray(columns["score"])[known]
    strangers = np.bincount(place[~known], minlength=len(run_ids))
    stored = dict(
        connection.execute(
            "SELECT run_id, predictions FROM checksum WHERE list_contains(?, run_id)", [run_ids]
        ).fetchall()
    )
    for i, run_id in enumerate(run_ids):
        missing = n - int(counted[i].sum())
        if missing or strangers[i] or not n:
            detail = f"{missing:,} of {n:,} are missing, {strangers[i]:,} belong to no example of its split"
            yield Problem("predictions are not exactly one per example", f"run {run_id}", detail, _AGAIN)
        elif stored.get(run_id) not in (None, checksum.of_predictions(predicted[i], scores[i])):
            yield Problem("predictions have changed since they were stored", f"run {run_id}", "", _AGAIN)


def _metrics(connection: Connection, run_ids: list[str]) -> Iterator[Problem]:
    recounted = sql_metrics.metrics_of(connection, run_ids)
    stored = connection.execute(
        "SELECT run_id, name, value, n FROM metric WHERE list_contains(?, run_id) ORDER BY run_id, name", [run_ids]
    ).fetchall()
    for run_id, name, value, n in stored:
        numbers = recounted[run_id]
        if n != numbers["n"]:
            yield Problem(
                f"n of {name} is not the number of its examples", f"run {run_id}", f"{n}, not {numbers['n']}", _AGAIN
            )
        elif name in numbers and not _same(name, value, numbers[name]):
            detail = f"{value} is stored, {numbers[name]} recomputed"
            yield Problem(f"{name} does not follow from its predictions", f"run {run_id}", detail, _AGAIN)


def _same(name: str, stored: float | None, recomputed: float | None) -> bool:
    if stored is None or recomputed is None or name in _OF_COUNTS:
        return stored == recomputed
    return math.isclose(stored, recomputed, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _records(connection: Connection, named: Collection[str]) -> Iterator[Problem]:
    """Find runs whose record has changed since it was stored.

    Args:
        named: places with other problems; a run among them may be impossible to decode, and is skipped.
    """
    cursor = connection.execute(
        """SELECT run_id, predictions, record FROM checksum SEMI JOIN run USING (run_id)
           WHERE record IS NOT NULL ORDER BY run_id"""
    )
    stored = [row for row in cursor.fetchall() if f"run {row[0]}" not in named]
    for start in range(0, len(stored), _SPECS_AT_ONCE):
        some = {run_id: sums for run_id, *sums in stored[start : start + _SPECS_AT_ONCE]}
        for run in reader.runs_of(connection, some):
            predictions, record = some[run.run_id]
            if checksum.of_record(run, predictions) != record:
                yield Problem("its record has changed since it was stored", f"run {run.run_id}", "", _AGAIN)


_EXPLAIN = "explain the suite again with `harness evaluate --explain`"


def _occlusions(connection: Connection) -> Iterator[Problem]:
    """Find explained examples of no run or no example of its split, and those whose numbers have changed."""
    orphans = {
        ("explained examples without their run", _GC): """SELECT key FROM occlusion
            WHERE run_key NOT IN (SELECT run_key FROM run WHERE status = 'success')""",
        ("an explained example that its split does not have", _EXPLAIN): """SELECT key FROM occlusion
            WHERE (split_digest, example_id) NOT IN (SELECT (digest, example_id) FROM example)""",
    }
    for (what, to_do), sql in orphans.items():
        for (key,) in connection.execute(f"{sql} ORDER BY key").fetchall():
            yield Problem(what, f"occlusion {key}", "", to_do)
    keys_of_runs = [key for (key,) in connection.execute("SELECT DISTINCT run_key FROM occlusion").fetchall()]
    sound = {one.key for one in reader.occlusions(connection, keys_of_runs) if _in_order(one)}
    for (key,) in connection.execute("SELECT key FROM occlusion ORDER BY key").fetchall():
        if key not in sound:
            yield Problem("its scores have changed since they were stored", f"occlusion {key}", "", _EXPLAIN)


def _in_order(found: Occlusion) -> bool:
    """True if pieces follow each other without overlap and have probabilities."""
    places = [(piece.field, piece.start, piece.end) for piece in found.pieces]
    follow = all(one[0] < other[0] or one[2] <= other[1] for one, other in pairwise(places))
    are_places = all(field in (0, 1) and 0 <= start < end for field, start, end in places)
    return follow and are_places and all(0 <= piece.score <= 1 for piece in found.pieces)


def _notes(connection: Connection, now: datetime) -> Iterator[str]:
    counted = {
        "runs were stored by an earlier release without a complete checksum: it is unknown whether they have changed": (
            "SELECT count(*) FROM run LEFT JOIN checksum USING (run_id) WHERE status = 'success' AND record IS NULL",
            [],
        ),
        "runs ended before they began: the clock went backwards": (
            "SELECT count(*) FROM run WHERE finished_at < started_at",
            [],
        ),
        "runs ended in the future: they count as the latest of their keys until then": (
            "SELECT count(*) FROM run WHERE finished_at > ?",
            [now + CLOCK_SLACK],
        ),
        "metrics are not recomputed, since there is no SQL for them": (
            "SELECT count(*) FROM metric WHERE NOT list_contains(?, name)",
            [list(sql_metrics.NAMES)],
        ),
    }
    for what, (sql, values) in counted.items():
        ((count,),) = connection.execute(sql, values).fetchall()
        if count:
            yield f"{count:,} {what}"
