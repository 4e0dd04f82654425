"""Inputs of a suite, found on disk or fetched, and verified before anything is trained or scored."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import data, provenance
from harness.data import audit, lock, repeats, subsets
from harness.data.source import Places
from harness.engine import WorkerLost
from harness.engine.scheduler import Scheduler
from harness.models import tokens
from harness.models.bases import ResolvedBase, resolve, tokenizer_folder
from harness.models.device import PROCESSOR
from harness.progress import Progress, silent
from harness.records import Finding, Split
from harness.store import reader, writer
from harness.store.connection import opened
from harness.suite import curves
from harness.suite.schema import Suite
from harness.training.plan import TrainingJob
from harness.training.plan import jobs as training_jobs

AUDITED_UNASKED = 100_000
"""Most rows that `evaluate` audits, which takes half a minute. Larger suites are left to `harness data`."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """Places on disk, where everything that is produced lives beside the store, and the device that computes it."""

    suite_path: Path
    db: Path
    device: str = PROCESSOR
    """Kind of device on which networks are trained and scored."""

    @property
    def adapters(self) -> Path:
        """Trained weights, by adapter, seed and key."""
        return self.db.parent / "adapters"

    @property
    def shards(self) -> Path:
        """Scored parts of runs."""
        return self.db.parent / "shards"

    @property
    def cache(self) -> Path:
        """Fetched files."""
        return self.db.parent / "cache"

    @property
    def digests(self) -> Path:
        """Digests of large files, by place."""
        return self.cache / "digests"

    @property
    def places(self) -> Places:
        """Places from which splits are read."""
        local = os.environ.get("HARNESS_DATA")
        return Places(self.cache, self.suite_path.parent, Path(local) if local else None)


@dataclass(frozen=True, slots=True)
class ResolvedInputs:
    """The splits and bases of a suite, verified, and the plan of its trainings on them."""

    splits: Mapping[str, Split]
    bases: Mapping[str, ResolvedBase]
    trainings: Mapping[tuple[str, int], TrainingJob]
    """Everything that the suite trains, by adapter id and seed, in the file's order."""
    warnings: tuple[str, ...] = ()
    """Splits that no lock pins, rows that were dropped, repeated texts, and overlap of training and scored splits that
    the suite reports rather than forbids."""
    device: str = PROCESSOR
    """Kind of device on which networks are trained and scored."""
    git_commit: str | None = None
    """Commit of the repository around the suite file; None where git has no answer."""
    git_dirty: bool | None = None
    """True if tracked files differ from that commit."""


def gather(suite: Suite, workspace: Workspace, base_ids: Collection[str] | None = None) -> ResolvedInputs:
    """Load and verify splits and bases, and make sure that no model would be scored on rows it is trained on.

    Of a suite with the points of its curves, `splits` has their subsets too.

    Args:
        base_ids: the bases that are needed, such as those of some models (`bases_of`), and only what is trained on
            them; all where None. Fetching and hashing one takes up to minutes.

    Raises:
        DataError: an input is unavailable or differs from its pin, or repeats texts where the suite forbids it.
        LeakError: a scored split shares texts with a training split, and the suite forbids it.
    """
    with ThreadPoolExecutor() as threads:  # most of the time goes to digests of large files, which need no lock
        resolved = {
            base.id: threads.submit(copy_context().run, resolve, base, workspace.suite_path.parent, workspace.cache)
            for base in suite.base
            if base_ids is None or base.id in base_ids
        }
        declared = suite.declared
        settled, notes = load_splits(declared, workspace)
        bases = {base_id: found.result() for base_id, found in resolved.items()}
    splits = settled.splits
    # Nearly equal texts take seconds to find: where they are only reported, the audit finds them once.
    found = audit.overlaps(declared, splits, look_for_near=suite.audit.near_overlap == "forbid")
    judged = audit.judge(suite.audit, found)
    audit.refuse(judged)
    splits = {**splits, **_subsets(suite, splits)}
    jobs = training_jobs(suite, splits, bases, workspace.adapters, workspace.device)
    trainings = {(job.adapter.id, job.seed): job for job in jobs}
    commit, is_dirty = provenance.git(workspace.suite_path.resolve().parent)
    warnings = (*notes, *judged.reported)
    return ResolvedInputs(splits, bases, trainings, warnings, workspace.device, commit, is_dirty)


def bases_of(suite: Suite, *, model_ids: Collection[str] = (), adapter_ids: Collection[str] = ()) -> set[str]:
    """Ids of the bases of these models, with those of their adapters, and of these adapters."""
    models = [model for model in suite.model if model.id in model_ids]
    used = {getattr(model, "adapter", None) for model in models} | set(adapter_ids)
    named = {getattr(model, "base", None) for model in models}
    named |= {adapter.base for adapter in suite.adapter if adapter.id in used}
    return {base.id for base in suite.base if base.id in named}


def _subsets(suite: Suite, splits: Mapping[str, Split]) -> dict[str, Split]:
    """Draw the training splits of those points that the suite was expanded to."""
    wanted = {point.subset.split_id: point.subset for point in curves.points(suite.declared)}
    needed = suite.train_split_ids
    return {split_id: subsets.drawn(splits[part.of], part) for split_id, part in wanted.items() if split_id in needed}


def load_splits(suite: Suite, workspace: Workspace) -> tuple[repeats.Settled, tuple[str, ...]]:
    """Load and verify every split of a suite, as they are scored.

    Returns:
        The splits, with their repeated texts treated as the suite says; notes for readers, splits without a lock among
        them.

    Raises:
        DataError: an input is unavailable or differs from its pin, or repeats texts where the suite forbids it.
    """
    path = workspace.suite_path
    lock_path = lock.path_for(path)
    pinned = lock.read(lock_path) or {}
    drawn = data.load_pinned(suite.split, workspace.places, lock_path, pinned)
    settled = repeats.settle(suite, drawn)
    settled.refuse()
    unpinned = lock.unpinned(pinned, settled.splits)
    no_lock = [f"{path}: no lock pins {', '.join(unpinned)}; `harness data {path}` pins their rows"] if unpinned else []
    return settled, (*no_lock, *data.notes(drawn.values()), *settled.notes)


@dataclass(frozen=True, slots=True)
class PinnedData:
    """The splits of a suite, pinned and audited."""

    splits: Mapping[str, Split]
    rows: tuple[Mapping[str, Any], ...]
    """For each split its entry in the lock, and its `audit`."""
    pinned: tuple[str, ...]
    """Ids of the splits that no lock had pinned before."""
    warnings: tuple[str, ...]
    """Repeated texts, and overlap that the suite reports rather than forbids."""
    settled: repeats.Settled
    judged: audit.Judged

    def refuse(self) -> None:
        """Raise the error for what the suite forbids, if there is any.

        Raises:
            DataError: a scored split repeats texts.
            LeakError: training and scored splits share texts.
        """
        self.settled.refuse()
        audit.refuse(self.judged)


def pin_and_audit(suite: Suite, workspace: Workspace, *, update_lock: bool = False) -> PinnedData:
    """Fetch and verify a suite's splits, pin those that no lock pins, audit them, and store the findings.

    Args:
        update_lock: pin the rows as they are now.

    Raises:
        DataError: an input is unavailable or differs from its pin.
    """
    lock_path = lock.path_for(workspace.suite_path)
    pinned = {} if update_lock else lock.read(lock_path) or {}
    drawn = data.load_pinned(suite.split, workspace.places, lock_path, pinned)
    if new := lock.unpinned(pinned, [rule.id for rule in suite.split]):
        lock.write(lock_path, drawn.values(), kept=pinned)
    settled = repeats.settle(suite, drawn)
    audited, warnings = examine(suite, list(settled.splits.values()), workspace)
    rows = tuple(
        lock.summary(split, trained_on=split.split_id in suite.train_split_ids)
        | {"audit": audited.findings[split.split_id]}
        for split in settled.splits.values()
    )
    reported = (*data.notes(drawn.values()), *settled.notes, *warnings)
    return PinnedData(settled.splits, rows, tuple(new), reported, settled, audit.judge(suite.audit, audited.overlaps))


def examine(suite: Suite, splits: Sequence[Split], workspace: Workspace) -> tuple[audit.Audited, tuple[str, ...]]:
    """Audit a suite's splits and store the findings.

    Returns:
        The audit, and warnings: overlap that the suite reports, and what could not be determined. Findings that the
        suite forbids are not refused here.
    """
    audited, problems = _audit(Unaudited(suite, {split.split_id: split for split in splits}, workspace), silent)
    store_audit(suite, splits, audited, workspace)
    return audited, (*problems, *audit.judge(suite.audit, audited.overlaps).reported)


def store_audit(suite: Suite, splits: Iterable[Split], audited: audit.Audited, workspace: Workspace) -> None:
    """Store the findings about each split."""
    now = provenance.now()
    findings = [
        Finding(suite.digest, split.split_id, split.digest, name, value, now)
        for split in splits
        for name, value in audited.findings[split.split_id].items()
    ]
    with opened(workspace.db) as connection:
        writer.write_audit(connection, findings)


@dataclass(frozen=True, slots=True)
class Unaudited:
    """A suite's splits, to be audited."""

    suite: Suite
    splits: Mapping[str, Split]
    workspace: Workspace


async def audit_once(
    suite: Suite, splits: Mapping[str, Split], workspace: Workspace, scheduler: Scheduler, rank: int
) -> list[str]:
    """Audit a suite's splits unless the store holds an audit of exactly these rows.

    `gather` finds equal texts, and those that read the same, every time.

    Returns:
        Warnings: texts that are nearly equal on both sides, and what could not be determined.
    """
    if (found := stored_overlaps(suite, splits, workspace)) is not None:
        return nearly_equal(found)
    rows = sum(len(split.examples) for split in splits.values())
    path = workspace.suite_path
    if rows > AUDITED_UNASKED:
        return [f"{path}: not audited, because it has {rows:,} rows; `harness data {path}` audits them"]
    async for _, audited in scheduler.map_unordered(_audit, [Unaudited(suite, splits, workspace)], rank):
        if isinstance(audited, WorkerLost):
            return [f"{path}: not audited: {audited.reason}; `harness data {path}` audits it"]
        found_now, problems = audited
        store_audit(suite, splits.values(), found_now, workspace)
    return [*problems, *nearly_equal(found_now.overlaps)]


def _audit(unaudited: Unaudited, progress: Progress) -> tuple[audit.Audited, list[str]]:
    """Audit, in a worker; also return the reasons why something could not be determined."""
    suite, splits = unaudited.suite, unaudited.splits
    rows = sum(len(split.examples) for split in splits.values())
    with progress(f"audit of {len(splits)} splits, once", rows) as advance:
        counters, problems = _token_counters(suite, unaudited.workspace)
        audited = audit.audit(suite, splits, counters)
        advance(rows, "")
    return audited, problems


def stored_overlaps(suite: Suite, splits: Mapping[str, Split], workspace: Workspace) -> list[audit.Overlap] | None:
    """Overlaps that the last audit of these splits found; None if it covered other rows, or there was none."""
    if not workspace.db.is_file():
        return None
    with opened(workspace.db, read_only=True) as connection:
        stored = reader.latest_audit(connection, suite.digest)
    digests = {split_id: split.digest for split_id, split in splits.items()}
    if {finding.split_id: finding.split_digest for finding in stored} != digests:
        return None
    return audit.overlaps_of({f.split_id: f.value for f in stored if f.name == "overlap"}, splits)


def nearly_equal(found: Sequence[audit.Overlap]) -> list[str]:
    """Describe nearly equal texts on both sides; where the suite forbids them they were refused before."""
    return [complaint for overlap in found if (complaint := overlap.complaints.get("near")) is not None]


def _token_counters(suite: Suite, workspace: Workspace) -> tuple[dict[str, audit.CountTokens | None], list[str]]:
    """Make a token counter for each base id, None without a tokenizer; also return why a tokenizer is missing."""
    found: dict[str, audit.CountTokens | None] = {}
    problems = []
    for base in suite.base:
        try:
            found[base.id] = tokens.counter(tokenizer_folder(base, workspace.suite_path.parent, workspace.cache))
        except Exception as problem:  # noqa: BLE001 (a tokenizer's files may raise anything: the audit goes on)
            found[base.id] = None
            problems.append(f"no token lengths for base {base.id!r}: {str(problem) or type(problem).__name__}")
    return found, problems
