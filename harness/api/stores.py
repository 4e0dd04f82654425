"""Functions about a store as a whole, whatever suites its runs are of."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.store.bundle import Exported, Taken
    from harness.store.garbage import Cleared
    from harness.store.verify import Report as Verified


def verify_store(db: str | os.PathLike[str]) -> "Verified":
    """Recompute what follows from the contents of a store, and compare it with what is stored.

    Raises:
        StoreError: there is no store.
    """
    from harness import provenance
    from harness.store.connection import snapshot
    from harness.store.verify import verify

    with snapshot(Path(db)) as connection:
        return verify(connection, provenance.now())


def clear_store(db: str | os.PathLike[str], *, dry_run: bool = False) -> "Cleared":
    """Remove what nothing needs from a store and the folders beside it.

    Args:
        dry_run: find it, and leave it there.

    Raises:
        StoreError: there is no store.
    """
    from harness import provenance
    from harness.store.garbage import clear

    return clear(Path(db), provenance.now(), dry_run=dry_run)


def export_runs(
    db: str | os.PathLike[str], file: str | os.PathLike[str], *, suites: Collection[str] = ()
) -> "Exported":
    """Write successful runs, with all that they refer to, into one file for another store.

    Args:
        suites: only runs of these suites, by name; all where empty.

    Raises:
        UsageError: the file is there already, or there is nothing to export.
        StoreError: there is no store, or the file cannot be written.
    """
    from harness.store import bundle
    from harness.store.connection import snapshot

    with snapshot(Path(db)) as connection:
        return bundle.write(connection, Path(file), suites)


def import_runs(db: str | os.PathLike[str], file: str | os.PathLike[str]) -> "Taken":
    """Take the runs of a bundle into a store: all of them, or none.

    Raises:
        UsageError: the file is no bundle, is damaged, or contradicts the store.
    """
    from harness.store import bundle

    return bundle.take_in(Path(db), Path(file))
