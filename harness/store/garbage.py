"""Garbage collection of a store and the folders beside it.

Successful runs are never removed, not even superseded ones: baselines find them by commit and time, and the board shows
how scores changed. Splits stay too, since a running evaluation may be about to store runs on them. Finished weights,
verdicts, expectations and audits stay. Old shards of runs are removed: by now their run is stored, or was given up.
"""

import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from filelock import FileLock, Timeout

from harness.artifacts import atomic
from harness.store.connection import IMPORT_PREFIX, SNAPSHOT_PREFIX, Connection, opened, transaction

KEPT_DAYS = 7
"""Time for which interrupted work is kept, since somebody may still resume or investigate it."""
LEFT_HOURS = 24
"""Age from which temporary folders are removed; no command of the harness needs one for so long."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """Something that can be removed, and why."""

    what: str
    where: str
    """A run's id, the key of an explained example, or a folder."""
    bytes: int | None
    """Size on disk; None for rows of the store."""


@dataclass(frozen=True, slots=True)
class Cleared:
    """The garbage that was removed, or would be."""

    found: tuple[Garbage, ...]
    freed_bytes: int
    """Bytes freed in folders and in the store's file; the latter depends on where in it the rows were."""


_CUT = f"status IN ('cancelled', 'started') AND finished_at < $now::TIMESTAMP - INTERVAL {KEPT_DAYS} DAY"
_ROWS = {
    f"run that was cut short more than {KEPT_DAYS} days ago": f"SELECT run_id FROM run WHERE {_CUT}",  # noqa: S608 (constant)
    "failed run of a key that has succeeded since": """SELECT run_id FROM run failed
        WHERE status = 'error' AND EXISTS (SELECT 1 FROM run later
            WHERE later.run_key = failed.run_key AND later.status = 'success'
            AND later.finished_at > failed.finished_at)""",
    "predictions, metrics or checksum without their run": """SELECT run_id FROM (
        SELECT run_id FROM prediction UNION SELECT run_id FROM metric UNION SELECT run_id FROM checksum
    ) ANTI JOIN run USING (run_id)""",
    "explained example without its run": """SELECT key FROM occlusion
        WHERE run_key NOT IN (SELECT run_key FROM run WHERE status = 'success')""",
}


def clear(db: Path, now: datetime, *, dry_run: bool) -> Cleared:
    """Remove garbage from a store and the folders beside it.

    Args:
        now: UTC, without time zone.
        dry_run: only report what would be removed.

    Raises:
        StoreError: the store cannot be read or written.
    """
    with opened(db, read_only=True) as connection:
        rows = list(_rows(connection, now))
    folders = list(_folders(db, now))
    freed = sum(folder.bytes or 0 for folder in folders)
    if not dry_run:
        for folder in folders:
            _remove(Path(folder.where))
        if rows:
            freed += _delete(db, now)
    return Cleared((*rows, *folders), freed)


def _rows(connection: Connection, now: datetime) -> Iterator[Garbage]:
    for what, sql in _ROWS.items():
        for (row_id,) in connection.execute(f"{sql} ORDER BY 1", {"now": now} if "$now" in sql else {}).fetchall():
            yield Garbage(what, row_id, None)


def _delete(db: Path, now: datetime) -> int:
    """Find the rows again, since the store was not held in between, and delete them.

    Returns:
        The number of bytes by which the file shrank.
    """
    before = db.stat().st_size
    with opened(db) as connection:
        with transaction(connection):
            ids = sorted({garbage.where for garbage in _rows(connection, now)})
            for table in ("prediction", "metric", "checksum", "run"):
                connection.execute(f"DELETE FROM {table} WHERE list_contains(?, run_id)", [ids])  # noqa: S608 (constant)
            connection.execute("DELETE FROM occlusion WHERE list_contains(?, key)", [ids])
        connection.execute("CHECKPOINT")
    return before - db.stat().st_size


def _folders(db: Path, now: datetime) -> Iterator[Garbage]:
    beside = db.parent
    for folder in sorted((beside / "adapters").glob("*/.seed-*.partial")):
        finished = folder.with_name(folder.name.removeprefix(".").removesuffix(".partial"))
        is_old = _changed(folder) < now - timedelta(days=KEPT_DAYS)
        if _is_own(folder) and (finished.is_dir() or is_old) and _nobody_trains(folder):
            yield Garbage("training that was cut short", str(folder), _size(folder))
    for reason in sorted((beside / "adapters").glob("*/.seed-*.failed")):
        if reason.is_file() and _changed(reason) < now - timedelta(days=KEPT_DAYS):
            yield Garbage("why a training failed", str(reason), _size(reason))
    for shard in sorted((beside / "shards").glob("*/*.parquet")):
        if _changed(shard) < now - timedelta(days=KEPT_DAYS):
            yield Garbage(f"part of a run, scored more than {KEPT_DAYS} days ago", str(shard), shard.lstat().st_size)
    temporary = [path for prefix in (SNAPSHOT_PREFIX, IMPORT_PREFIX) for path in beside.glob(f"{prefix}*")]
    temporary += [*(beside / "cache").glob("tmp*"), *(beside / "cache").glob(f"*/{atomic.PARTIAL}*")]
    temporary += [*(beside / "shards").glob(f"*/{atomic.PARTIAL}*"), *beside.glob(".workers-*")]
    for path in sorted(temporary):
        if (_is_own(path) or path.is_file()) and _changed(path) < now - timedelta(hours=LEFT_HOURS):
            yield Garbage("left by a command that was killed", str(path), _size(path))


def _is_own(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink()


def _nobody_trains(folder: Path) -> bool:
    """True if no process holds the lock of a training."""
    try:
        with _lock_of(folder):
            return True
    except Timeout:
        return False


def _lock_of(folder: Path) -> FileLock:
    """The lock that `harness.training.train` takes."""
    return FileLock(folder.with_suffix(".lock"), blocking=False)


def _remove(folder: Path) -> None:
    try:
        with _lock_of(folder) if folder.suffix == ".partial" else nullcontext():
            if folder.is_dir():
                shutil.rmtree(folder, ignore_errors=True)
            else:
                folder.unlink(missing_ok=True)
    except Timeout:  # somebody has just resumed it
        return


def _changed(folder: Path) -> datetime:
    """Time of the last change in a folder; UTC, without time zone."""
    newest = max(path.lstat().st_mtime for path in [folder, *folder.rglob("*")])
    return datetime.fromtimestamp(newest, UTC).replace(tzinfo=None)


def _size(place: Path) -> int:
    """Size in bytes of a file, or of all files in a folder."""
    found = [place, *place.rglob("*")]
    return sum(path.lstat().st_size for path in found if path.is_file() and not path.is_symlink())
