"""What a suite names, found on disk or fetched, and verified before anything is trained or scored."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import data, provenance
from harness.data import audit, lock, repeats
from harness.data.source import Places
from harness.models import tokens
from harness.models.bases import ResolvedBase, resolve, tokenizer_folder
from harness.progress import Progress
from harness.records import Finding, Split
from harness.store import reader, writer
from harness.store.connection import opened
from harness.suite.schema import Suite

AUDITED_UNASKED = 100_000
"""Rows that `evaluate` audits: half a minute. More of them wait for `harness data`."""


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
    def shards(self) -> Path:
        """What was scored, in parts."""
        return self.db.parent / "shards"

    @property
    def cache(self) -> Path:
        """What was fetched once."""
        return self.db.parent / "cache"

    @property
    def places(self) -> Places:
        """Where splits are read from."""
        local = os.environ.get("HARNESS_DATA")
        return Places(self.cache, self.suite_path.parent, Path(local) if local else None)


@dataclass(frozen=True, slots=True)
class ResolvedInputs:
    """What a suite names, found and verified."""

    splits: Mapping[str, Split]
    bases: Mapping[str, ResolvedBase]
    unpinned: tuple[str, ...]
    """Splits that no lock pins."""
    warnings: tuple[str, ...] = ()
    """Repeated texts, and overlap of training and scored splits, that the suite wants reported, not forbidden."""


def gather(suite: Suite, workspace: Workspace) -> ResolvedInputs:
    """Load and verify every split and base, and make sure that no model would be scored on rows it is trained on.

    Raises:
        DataError: something cannot be had or is not what was pinned, or repeats texts where the suite forbids it.
        LeakError: a scored split shares texts with one that is trained on, and the suite forbids it.
    """
    lock_path = lock.path_for(workspace.suite_path)
    pinned = lock.read(lock_path) or {}
    drawn = {rule.id: data.load_split(rule, workspace.places, pinned.get(rule.id)) for rule in suite.split}
    lock.check(lock_path, pinned, drawn.values())
    settled = repeats.settle(suite, drawn)
    settled.refuse()
    splits = settled.splits
    # Nearly equal texts take seconds to find: where they are only reported, the audit does it, once.
    found = audit.overlaps(suite, splits, look_for_near=suite.audit.near_overlap == "forbid")
    judged = audit.judge(suite.audit, found)
    audit.refuse(judged)
    bases = {base.id: resolve(base, workspace.suite_path.parent, workspace.cache) for base in suite.base}
    return ResolvedInputs(splits, bases, lock.unpinned(pinned, splits), (*settled.notes, *judged.reported))


def examine(suite: Suite, splits: Sequence[Split], workspace: Workspace) -> tuple[audit.Audited, tuple[str, ...]]:
    """Audit a suite's splits, and store what was found.

    Returns:
        What was found, and warnings: overlap that the suite wants reported, and what could not be found out. What the
        suite forbids is not refused here.
    """
    audited, problems = _examined(suite, splits, workspace)
    return audited, (*problems, *audit.judge(suite.audit, audited.overlaps).reported)


def _examined(suite: Suite, splits: Sequence[Split], workspace: Workspace) -> tuple[audit.Audited, list[str]]:
    """What was found, once it is stored, and what could not be found out."""
    counters, problems = _token_counters(suite, workspace)
    audited = audit.audit(suite, {split.split_id: split for split in splits}, counters)
    now = provenance.now()
    findings = [
        Finding(suite.digest, split.split_id, split.digest, name, value, now)
        for split in splits
        for name, value in audited.findings[split.split_id].items()
    ]
    with opened(workspace.db) as connection:
        writer.write_audit(connection, findings)
    return audited, problems


def audit_once(suite: Suite, splits: Mapping[str, Split], workspace: Workspace, progress: Progress) -> list[str]:
    """Audit a suite's splits unless the store holds an audit of just these rows.

    Equal texts, and those that read the same, are found by `inputs` every time.

    Returns:
        Warnings: texts that are nearly equal on both sides, and whatever could not be found out.
    """
    problems: list[str] = []
    if (found := stored_overlaps(suite, splits, workspace)) is None:
        rows = sum(len(split.examples) for split in splits.values())
        if rows > AUDITED_UNASKED:
            path = workspace.suite_path
            return [f"{path}: not audited, for it has {rows:,} rows; `harness data {path}` audits them"]
        with progress(f"audit of {len(splits)} splits, once", rows) as advance:
            audited, problems = _examined(suite, list(splits.values()), workspace)
            advance(rows, "")
        found = list(audited.overlaps)
    return [*problems, *nearly_equal(found)]


def stored_overlaps(suite: Suite, splits: Mapping[str, Split], workspace: Workspace) -> list[audit.Overlap] | None:
    """The overlaps of these splits as the last audit found them; None where it was of other rows, or there is none."""
    if not workspace.db.is_file():
        return None
    with opened(workspace.db, read_only=True) as connection:
        stored = reader.latest_audit(connection, suite.digest)
    digests = {split_id: split.digest for split_id, split in splits.items()}
    if {finding.split_id: finding.split_digest for finding in stored} != digests:
        return None
    return audit.overlaps_of({f.split_id: f.value for f in stored if f.name == "overlap"}, splits)


def nearly_equal(found: Sequence[audit.Overlap]) -> list[str]:
    """Sentences about nearly equal texts on both sides; those where the suite forbids them were refused before."""
    return [complaint for overlap in found if (complaint := overlap.complaints.get("near")) is not None]


def _token_counters(suite: Suite, workspace: Workspace) -> tuple[dict[str, audit.CountTokens | None], list[str]]:
    """What counts the tokens of texts, by base id, None where a tokenizer cannot be had; and for each of these why."""
    found: dict[str, audit.CountTokens | None] = {}
    problems = []
    for base in suite.base:
        try:
            found[base.id] = tokens.counter(tokenizer_folder(base, workspace.suite_path.parent, workspace.cache))
        except Exception as problem:  # noqa: BLE001 (a tokenizer's files may raise anything: the audit goes on)
            found[base.id] = None
            problems.append(f"no token lengths for base {base.id!r}: {str(problem) or type(problem).__name__}")
    return found, problems
