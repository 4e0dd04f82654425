"""Export and import of runs: one file of Parquet tables with a manifest of their digests.

    exported = write(connection, path, suites)    # successful runs, with all that they refer to
    taken = take_in(db, path)                     # all of them, or none and an error

A bundle comes from somebody else, and nothing in it is trusted before it is checked: `bundle_file` bounds the file;
this module loads its tables into a store of their own, which is verified as a whole; only then are they imported, in
one transaction. Anything that contradicts the receiving store is rejected.

Weights, verdicts, audits, expectations, parity checks and failed runs are not exported. Texts are in a bundle if they
are in the store, that is, if their suite says `store = true`.
"""

import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from harness import provenance
from harness.errors import StoreError, UsageError
from harness.store import bundle_file, bundle_tables
from harness.store.connection import (
    IMPORT_PREFIX,
    Connection,
    bring_to,
    latest_schema,
    made_new,
    opened,
    transaction,
)
from harness.store.reader import CLOCK_SLACK
from harness.store.verify import verify

FIRST_SCHEMA = 7
"""The first schema with bundles."""
_CHOSEN = "status = 'success' AND ($all OR list_contains($suites, suite))"
TABLES = {
    "split": f"(split_id, digest) IN (SELECT (split_id, split_digest) FROM run WHERE {_CHOSEN})",  # noqa: S608 (constant)
    "example": f"digest IN (SELECT split_digest FROM run WHERE {_CHOSEN})",  # noqa: S608 (constant)
    "adapter": f"adapter_digest IN (SELECT adapter_digest FROM run WHERE {_CHOSEN})",  # noqa: S608 (constant)
    "run": _CHOSEN,
    "prediction": f"run_id IN (SELECT run_id FROM run WHERE {_CHOSEN})",  # noqa: S608 (constant)
    "metric": f"run_id IN (SELECT run_id FROM run WHERE {_CHOSEN})",  # noqa: S608 (constant)
    "checksum": f"run_id IN (SELECT run_id FROM run WHERE {_CHOSEN})",  # noqa: S608 (constant)
    "occlusion": f"run_key IN (SELECT run_key FROM run WHERE {_CHOSEN})",  # noqa: S608 (constant)
}
"""The tables of a bundle in the order of import, and the condition on their rows."""
ADDED = ("occlusion",)
"""Tables that bundles of earlier releases lack."""


@dataclass(frozen=True, slots=True)
class Exported:
    """The content of a bundle."""

    bytes: int
    rows: dict[str, int]
    """By table."""
    texts: int
    """Number of examples with text."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The result of an import."""

    rows: dict[str, int]
    """New rows by table, without those that the store had already."""
    in_bundle: dict[str, int]
    """All rows of the bundle by table."""


def write(connection: Connection, path: Path, suites: Collection[str] = ()) -> Exported:
    """Write the successful runs of a store, and all that they refer to, as a bundle.

    Args:
        connection: may be read-only.
        path: a file that does not exist yet.
        suites: names of the suites to export; all if empty.

    Raises:
        UsageError: the file exists, its folder does not, or there is nothing to write.
        StoreError: there is no room for it.
    """
    if path.exists():
        raise UsageError(f"{path}: exists already; choose another name, or delete it first")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder {path.parent} does not exist; create it first")
    chosen = {"all": not suites, "suites": list(suites)}
    ((n_runs,),) = connection.execute(f"SELECT count(*) FROM run WHERE {_CHOSEN}", chosen).fetchall()  # noqa: S608 (constant)
    if not n_runs:
        names = [name for (name,) in connection.execute("SELECT DISTINCT suite FROM run ORDER BY suite").fetchall()]
        raise UsageError(f"there are no successful runs to export (suites in the store: {', '.join(names) or 'none'})")
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as made:
        rows = {name: _write_table(connection, name, Path(made), chosen) for name in TABLES}
        bundle_file.pack(Path(made), rows, latest_schema(), path)
    ((texts,),) = connection.execute(
        f"SELECT count(content) FROM example WHERE {TABLES['example']}",  # noqa: S608 (constant)
        chosen,
    ).fetchall()
    return Exported(path.stat().st_size, rows, texts)


def _write_table(connection: Connection, table: str, folder: Path, chosen: dict[str, Any]) -> int:
    """Write the chosen rows of a table as Parquet, with JSON as text."""
    columns = ", ".join(
        f'"{name}"::VARCHAR AS "{name}"' if kind == "JSON" else f'"{name}"'
        for name, kind in bundle_tables.columns_of(connection, table).items()
    )
    file = str(folder / f"{table}.parquet").replace("'", "''")
    ((rows,),) = connection.execute(
        f"COPY (SELECT {columns} FROM {table} WHERE {TABLES[table]}) TO '{file}' (FORMAT parquet, COMPRESSION zstd)",  # noqa: S608 (a quoted path)
        chosen,
    ).fetchall()
    return int(rows)


def take_in(db: Path, path: Path, now: datetime | None = None) -> Taken:
    """Import the runs of a bundle into a store, created if absent. Rows that the store has already stay unchanged.

    Args:
        now: UTC, without time zone; None for the current time.

    Raises:
        UsageError: the bundle is damaged, is not a bundle, contradicts itself, or contradicts the store. Nothing was
            stored.
        StoreError: the store cannot be written, or there is no room. Nothing was stored.
    """
    db.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=IMPORT_PREFIX, dir=db.parent) as made:
            manifest = bundle_file.unpack(path, Path(made), list(TABLES), ADDED)
            if not FIRST_SCHEMA <= manifest.schema <= latest_schema():
                raise UsageError(
                    f"{path}: was written by a newer release (schema {manifest.schema}); upgrade adapter-harness"
                )
            alone = Path(made) / "bundle.duckdb"
            with made_new(alone, manifest.schema) as bundle:
                for table in manifest.rows:
                    bundle_tables.read_table(bundle, table, Path(made), manifest.rows[table], path)
                bring_to(bundle, latest_schema())
            _check(alone, path, now or provenance.now())
            with opened(db) as connection:
                return _merge(connection, alone, path)
    except (OSError, MemoryError) as problem:
        raise StoreError(f"{db}: cannot import {path} ({problem or 'out of memory'}); nothing was stored") from None


def _check(alone: Path, path: Path, now: datetime) -> None:
    """Check that a bundle is consistent in itself."""
    with opened(alone, read_only=True) as bundle:
        problems = verify(bundle, now).problems
        others = bundle.execute(
            "SELECT run_id, finished_at FROM run WHERE status <> 'success' OR finished_at > ? ORDER BY run_id LIMIT 1",
            [now + CLOCK_SLACK],
        ).fetchall()
    for run_id, finished_at in others:
        raise UsageError(
            f"{path}: run {run_id} did not succeed, or ended in the future ({finished_at}), "
            "so it would count as the latest of its key; nothing was stored"
        )
    if problems:
        raise UsageError(f"{path}: contradicts itself; {len(problems)} problems, the first: {problems[0]}")


_CONTRADICTIONS = {
    "example": """SELECT 'split ' || digest || ' has an example ' || example_id || ' with a different label or text'
        FROM bundle.example new JOIN example old USING (digest, example_id)
        WHERE (new.label, new.position, new.text_digest) IS DISTINCT FROM (old.label, old.position, old.text_digest)
           OR new.cluster IS DISTINCT FROM old.cluster""",
    "adapter": """SELECT 'adapter ' || adapter_digest || ' has a different method, size or training split'
        FROM bundle.adapter new JOIN adapter old USING (adapter_digest)
        WHERE new.method <> old.method OR new.size_bytes <> old.size_bytes OR new.trained_on <> old.trained_on""",
    "run": """SELECT 'run ' || run_id || ' has a different record'
        FROM bundle.run new JOIN run old USING (run_id)
        WHERE hash(new) <> hash(old)""",
    "metric": """SELECT 'run ' || run_id || ' has a different ' || name
        FROM bundle.metric new FULL JOIN metric old USING (run_id, name)
        WHERE run_id IN (SELECT run_id FROM bundle.run) AND run_id IN (SELECT run_id FROM run)
          AND hash(new) IS DISTINCT FROM hash(old)""",
    "prediction": """SELECT 'run ' || run_id || ' has different predictions'
        FROM bundle.prediction new JOIN prediction old USING (run_id, example_id)
        WHERE new.predicted <> old.predicted OR new.score <> old.score""",
    "occlusion": """SELECT 'explained example ' || key || ' has different scores'
        FROM bundle.occlusion new JOIN occlusion old USING (key) WHERE new.checksum <> old.checksum""",
}
"""Contradictions by table: rows for which the store has other values under the same key."""
_KEYS = {
    "split": "split_id, digest",
    "example": "digest, example_id",
    "adapter": "adapter_digest",
    "run": "run_id",
    "prediction": "run_id, example_id",
    "metric": "run_id, name",
    "checksum": "run_id",
    "occlusion": "key",
}


def _merge(connection: Connection, alone: Path, path: Path) -> Taken:
    """Import a verified bundle, all or nothing."""
    escaped = str(alone).replace("'", "''")
    connection.execute(f"ATTACH '{escaped}' AS bundle (READ_ONLY)")
    try:
        with transaction(connection):
            for sql in _CONTRADICTIONS.values():
                for (problem,) in connection.execute(f"{sql} LIMIT 1").fetchall():
                    raise UsageError(f"{path}: {problem} in the store; nothing was stored")
            rows = {table: _insert_new(connection, table) for table in TABLES}
        counted = {
            table: connection.execute(f"SELECT count(*) FROM bundle.{table}").fetchall()  # noqa: S608 (constant)
            for table in TABLES
        }
        return Taken(rows, {table: int(count) for table, [(count,)] in counted.items()})
    finally:
        connection.execute("DETACH bundle")


def _insert_new(connection: Connection, table: str) -> int:
    ((count,),) = connection.execute(
        f"INSERT INTO {table} BY NAME SELECT * FROM bundle.{table} ANTI JOIN {table} USING ({_KEYS[table]})"  # noqa: S608 (constant)
    ).fetchall()
    return int(count)
