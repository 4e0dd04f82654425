"""Whether a store is whole: everything in it that follows from something else in it is derived once more and compared.

    report = verify(connection, now)     # reads only; `report.problems` is empty where all is as it must be

Recomputed are: the digest of every split from its rows, the ids of every example whose text is stored, the key of every
run and of every parity check from its spec, the checksum of every run's predictions, and every metric of every run, in
SQL. Nothing of `harness.data` and `harness.stats.metrics` is used, so that a mistake there cannot confirm itself.
Intervals are not recomputed: they are resampled, which takes as long as the evaluation did.

Every column of every table is read, so DuckDB holds every block of data to its own checksum. Blocks of indexes and free
ones are not read.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import numpy as np

from harness.artifacts import digest
from harness.stats import inference
from harness.store import checksum, reader, sql_metrics
from harness.store.connection import Connection
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
_WHOLE = "take a whole copy of the store"


def check_examples(connection: Connection) -> Iterator[Problem]:
    """What is wrong with the splits: their number of examples, their order, their digest, their examples' ids.

    The id of an example is derived from its label and text, and the split's digest from ids and clusters. Where texts
    are not stored, ids and so labels cannot be recomputed.
    """
    splits = connection.execute("SELECT split_id, digest, n FROM split ORDER BY ALL").fetchall()
    for split_id, split_digest, n in splits:
        ((found,),) = connection.execute("SELECT count(*) FROM example WHERE digest = ?", [split_digest]).fetchall()
        if found != n:
            where = f"split {split_id} {split_digest}"
            yield Problem("has not as many examples as it says", where, f"{found:,}, not {n:,}", _WHOLE)
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
            # As `digest.of_json` of the whole list, without holding it.
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
        yield Problem("examples do not stand in a row", where, f"{misplaced:,} of {number:,}", _WHOLE)
    if whole.hexdigest() != split_digest:
        yield Problem("its digest is not that of its examples", where, "", _WHOLE)
    if mislabelled:
        detail = f"{mislabelled:,} of {number:,}"
        yield Problem("ids of examples are not those of their labels and texts", where, detail, _WHOLE)


ROWS_AT_ONCE = 1_000_000
"""Predictions that are held at once, at most, unless a single run has more: about 100 MB."""
TOLERANCE = 1e-9
"""Relative, of metrics that are sums of floats. Those that are made of counts must be equal."""
_OF_COUNTS = ("accuracy", "precision", "recall", "f1", "mcc")
DEEPEST_JSON = 50
_SPECS_AT_ONCE = 1000
_AGAIN = "take a whole copy of the store, or score it again with `harness evaluate --fresh`: the later run counts"
_GC = "`harness store gc` removes them"


@dataclass(frozen=True, slots=True)
class Report:
    """What a verification looked at and found."""

    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    """What is no problem but should be known, such as runs whose checksum is unknown."""
    counts: dict[str, int]
    """Rows by table."""


def verify(connection: Connection, now: datetime) -> Report:
    """Hold a store to itself.

    Args:
        now: UTC, without time zone.
    """
    counts: dict[str, int] = {}
    try:
        _read_all(connection, counts)
    except duckdb.Error as error:  # what comes after such a one is not to be trusted, and DuckDB may refuse it
        first_line = str(error).splitlines()[0]
        problem = Problem("cannot be read", f"table {list(counts)[-1]}", first_line, _WHOLE)
        return Report((problem,), (), {name: count for name, count in counts.items() if count >= 0})
    found = [*_orphans(connection), *check_examples(connection), *_specs(connection), *_runs(connection)]
    found += _records(connection, {problem.where for problem in found})
    return Report(tuple(found), tuple(_notes(connection, now)), counts)


def _read_all(connection: Connection, counts: dict[str, int]) -> None:
    """Read every value of every table; counts rows, -1 for the table at which it failed."""
    tables = connection.execute(
        "SELECT table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE' ORDER BY table_name"
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
        "predictions or metrics, though it did not succeed",
        "delete them, or take a whole copy of the store",
    ): """SELECT run_id FROM run WHERE status <> 'success'
          AND (run_id IN (SELECT run_id FROM prediction) OR run_id IN (SELECT run_id FROM metric))""",
    ("its split is not stored", _AGAIN): """SELECT run_id FROM run
          WHERE status = 'success' AND (split_id, split_digest) NOT IN (SELECT (split_id, digest) FROM split)""",
    ("its adapter is not stored", "evaluate the suite: that tells the store again"): """SELECT run_id FROM run
          WHERE status = 'success' AND adapter_digest IS NOT NULL
          AND adapter_digest NOT IN (SELECT adapter_digest FROM adapter)""",
    ("a prediction that is not 0 or 1 with a score from 0 to 1", _AGAIN): """SELECT DISTINCT run_id FROM prediction
          WHERE (predicted IN (0, 1) AND score BETWEEN 0 AND 1) IS NOT TRUE""",
    ("an interval whose ends are not in order", _AGAIN): """SELECT DISTINCT run_id FROM metric
          WHERE ci_low > ci_high OR isnan(value) OR isnan(ci_low) OR isnan(ci_high)""",
}
"""What must not be there, and what to do: the ids of the runs that have it."""


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
"""Columns of JSON by table, after what names a row. Each value is an object."""
_OF_CONFIGURATION = ("model", "adapter", "base", "train", "text")
"""What of a run's spec its configuration is the digest of."""


def _specs(connection: Connection) -> Iterator[Problem]:
    """Objects that are none, and keys that are not the digests of what they are said to be of."""
    for table, (name, columns) in _JSON.items():
        cursor = connection.execute(f"SELECT {name}, {', '.join(columns)} FROM {table} ORDER BY 1")  # noqa: S608 (constant)
        while rows := cursor.fetchmany(_SPECS_AT_ONCE):
            for key, *texts in rows:
                for column, text in zip(columns, texts, strict=True):
                    if _object(text) is None:
                        yield Problem(f"{column} is no JSON object", f"{table} {key}", "", _WHOLE)
    for key, text in connection.execute("SELECT parity_key, spec FROM parity ORDER BY ALL").fetchall():
        if digest.of_json(_object(text)) != key:
            yield Problem("its key is not that of its spec", f"parity {key}", "", _WHOLE)
    for key, flips, positive, negative, p_value in connection.execute(
        """SELECT parity_key, flips, turned_positive, turned_negative, p_value FROM parity
           WHERE turned_positive IS NOT NULL ORDER BY parity_key"""
    ).fetchall():
        if positive + negative != flips or not _same("p_value", p_value, inference.mcnemar(positive, negative)):
            yield Problem("its flips and p are not those of its turned texts", f"parity {key}", "", _WHOLE)
    cursor = connection.execute(
        """SELECT run_id, run_key, configuration, spec, model_id, seed, adapter_digest, split_id, split_digest
           FROM run ORDER BY run_id"""
    )
    while rows := cursor.fetchmany(_SPECS_AT_ONCE):
        for run_id, run_key, configuration, text, *told in rows:
            spec = _object(text)
            if digest.of_json(spec) != run_key:
                yield Problem("its key is not that of its spec", f"run {run_id}", "", _AGAIN)
            elif (differing := _differing(spec, configuration, told)) is not None:
                yield Problem("is not what its spec says", f"run {run_id}", differing, _AGAIN)


def _object(text: str) -> dict[str, Any] | None:
    """A JSON object of which a digest can be made; None where it is something else, or as deep as none of ours."""
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


def _differing(spec: object, configuration: str, told: list[object]) -> str | None:
    """The first column of a run that says otherwise than its spec."""
    try:
        assert isinstance(spec, dict)
        split = spec["split"]
        of_spec = [spec["model"]["id"], spec["seed"], spec["adapter_digest"], split["id"], split["digest"]]
        of_configuration = digest.of_json({name: spec[name] for name in _OF_CONFIGURATION})
    except (AssertionError, KeyError, TypeError):
        return "the spec lacks what every run's has"
    names = ("model_id", "seed", "adapter_digest", "split_id", "split_digest")
    for name, column, value in zip(names, told, of_spec, strict=True):
        if column != value:
            return f"{name} is {column!r}, in the spec {value!r}"
    return None if of_configuration == configuration else "configuration is not the digest of its part of the spec"


def _runs(connection: Connection) -> Iterator[Problem]:
    """Predictions that are not one for each example, or not those that were stored; and metrics that they do not give.

    Runs are taken in portions, so that memory does not grow with the store.
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
    """Those of some runs of one split of n examples."""
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
    counted[at] = 1  # the table's own key lets no example be there twice
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
            detail = f"{missing:,} of {n:,} are missing, {strangers[i]:,} are of no example of its split"
            yield Problem("predictions are not one for each example", f"run {run_id}", detail, _AGAIN)
        elif stored.get(run_id) not in (None, checksum.of_predictions(predicted[i], scores[i])):
            yield Problem("predictions are not those that were stored", f"run {run_id}", "", _AGAIN)


def _metrics(connection: Connection, run_ids: list[str]) -> Iterator[Problem]:
    recounted = sql_metrics.metrics_of(connection, run_ids)
    stored = connection.execute(
        "SELECT run_id, name, value, n FROM metric WHERE list_contains(?, run_id) ORDER BY run_id, name", [run_ids]
    ).fetchall()
    for run_id, name, value, n in stored:
        numbers = recounted[run_id]
        if n != numbers["n"]:
            yield Problem(
                f"n of {name} is not that of its examples", f"run {run_id}", f"{n}, not {numbers['n']}", _AGAIN
            )
        elif name in numbers and not _same(name, value, numbers[name]):
            detail = f"{value} is stored, {numbers[name]} recomputed"
            yield Problem(f"{name} is not what its predictions give", f"run {run_id}", detail, _AGAIN)


def _same(name: str, stored: float | None, recomputed: float | None) -> bool:
    if stored is None or recomputed is None or name in _OF_COUNTS:
        return stored == recomputed
    return math.isclose(stored, recomputed, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _records(connection: Connection, named: Collection[str]) -> Iterator[Problem]:
    """Runs of which something else is recorded than was when they were stored.

    Args:
        named: where there are other problems: what such a run holds may be nothing that can be decoded.
    """
    cursor = connection.execute(
        """SELECT run_id, predictions, record FROM checksum SEMI JOIN run USING (run_id)
           WHERE record IS NOT NULL ORDER BY run_id"""
    )
    stored = [row for row in cursor.fetchall() if f"run {row[0]}" not in named]
    for start in range(0, len(stored), _SPECS_AT_ONCE):
        some = {run_id: told for run_id, *told in stored[start : start + _SPECS_AT_ONCE]}
        for run in reader.runs_of(connection, some):
            predictions, record = some[run.run_id]
            if checksum.of_record(run, predictions) != record:
                yield Problem("what is recorded of it is not what was stored", f"run {run.run_id}", "", _AGAIN)


def _notes(connection: Connection, now: datetime) -> Iterator[str]:
    counted = {
        "runs were stored by an earlier release without a checksum of all of them: whether they changed is unknown": (
            "SELECT count(*) FROM run LEFT JOIN checksum USING (run_id) WHERE status = 'success' AND record IS NULL",
            [],
        ),
        "runs ended before they began: the clock went backwards": (
            "SELECT count(*) FROM run WHERE finished_at < started_at",
            [],
        ),
        "runs are of the future: they count as the latest of their keys until then": (
            "SELECT count(*) FROM run WHERE finished_at > ?",
            [now + CLOCK_SLACK],
        ),
        "metrics are not recomputed, since no SQL for them is known": (
            "SELECT count(*) FROM metric WHERE NOT list_contains(?, name)",
            [list(sql_metrics.NAMES)],
        ),
    }
    for what, (sql, values) in counted.items():
        ((count,),) = connection.execute(sql, values).fetchall()
        if count:
            yield f"{count:,} {what}"
