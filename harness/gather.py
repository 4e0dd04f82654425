"""What a suite names, found on disk or fetched, and verified before anything is trained or scored."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness import data
from harness.data import lock
from harness.declarations import Suite
from harness.models.bases import ResolvedBase, resolve
from harness.records import Split


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where things are on disk: everything that is made lives beside the store."""

    suite_path: Path
    db: Path

    @property
    def adapters(self) -> Path:
        """Trained weights, by adapter, seed and key."""
        return self.db.parent / "adapters"

    @property
    def cache(self) -> Path:
        """What was fetched once."""
        return self.db.parent / "cache"


@dataclass(frozen=True, slots=True)
class Materials:
    """What a suite names, found and verified."""

    splits: Mapping[str, Split]
    bases: Mapping[str, ResolvedBase]
    locked: bool
    """Whether the splits were held against a lock."""


def gather(suite: Suite, workspace: Workspace) -> Materials:
    """Load and verify every split and base, and make sure that no model would be scored on rows it is trained on.

    Raises:
        DataError: something cannot be had or is not what was pinned.
        LeakError: a scored split shares texts with one that is trained on.
    """
    splits = {rule.id: data.load_split(rule, workspace.cache) for rule in suite.split}
    lock_path = lock.path_for(workspace.suite_path)
    pinned = lock.read(lock_path)
    if pinned is not None:
        lock.check(lock_path, pinned, splits.values())
    for train_id in sorted(suite.train_split_ids):
        seen = [example.text_digest for example in splits[train_id].examples]
        for split_id in splits.keys() - suite.train_split_ids:
            data.check_no_leak(seen, splits[split_id], f"what uses split {train_id!r}")
    bases = {base.id: resolve(base, workspace.suite_path.parent) for base in suite.base}
    return Materials(splits, bases, pinned is not None)
