"""The lock file beside a suite, which pins the rows of its splits so that everybody scores the same ones.

`suites/<suite>.lock` is JSON: for each split id the digest, n, the number of positives, the digest of the values of
its slice columns, if it has any, and the commit of a hub split. Entries are written once, verified by every later run,
and changed only on purpose. Splits not listed are not pinned.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.artifacts import atomic, digest
from harness.errors import DataError
from harness.records import Split


@dataclass(frozen=True, slots=True)
class Locked:
    """The lock's entry for a split."""

    digest: str
    n: int
    positives: int
    commit: str | None = None
    """The commit at which a hub split was read."""
    columns: str | None = None
    """SHA-256 over the values of its slice columns, example by example (64 hex digits); None without such columns."""


def path_for(suite_path: Path) -> Path:
    """The lock that belongs to a suite file."""
    return suite_path.with_suffix(".lock")


def describe(split: Split) -> Locked:
    """The entry that would pin a split."""
    commit = split.source.get("revision") if split.source.get("source") == "hub" else None
    positives = sum(example.label == 1 for example in split.examples)
    return Locked(split.digest, len(split.examples), positives, commit, columns_digest(split))


def columns_digest(split: Split) -> str | None:
    """SHA-256 over the values of a split's slice columns in the examples' order; None where it has none.

    The split's own digest leaves them out: no prediction depends on them, so that a further column scores nothing
    again. Slices do depend on them, and gates on slices.
    """
    columns: list[dict[str, Any]] = [
        dict(example.columns) | ({"": example.change} if example.change else {}) for example in split.examples
    ]
    return digest.of_json(columns) if any(columns) else None


def read(path: Path) -> dict[str, Locked] | None:
    """The pinned splits by id, or None where there is no lock.

    Raises:
        DataError: the file is not a lock.
    """
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return {split_id: Locked(**entry) for split_id, entry in document["splits"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise DataError(f"{path}: is not a lock ({problem}); restore it, or recreate it with --update-lock") from None


def write(path: Path, splits: Iterable[Split], kept: Mapping[str, Locked] | None = None) -> None:
    """Pin these splits; entries in `kept` stay unchanged."""
    pinned = {split.split_id: describe(split) for split in splits} | dict(kept or {})
    entries = {
        split_id: {name: value for name, value in asdict(locked).items() if value is not None}
        for split_id, locked in pinned.items()
    }
    document = {"version": 1, "splits": entries}
    atomic.write(path, (json.dumps(document, indent=2, sort_keys=True) + "\n").encode())


def check(path: Path, locked: dict[str, Locked], splits: Iterable[Split]) -> None:
    """Check splits against the lock. Those that it does not pin pass; `unpinned` names them.

    Raises:
        DataError: some splits differ; lists all of them.
    """
    problems = []
    for split in splits:
        pinned, found = locked.get(split.split_id), describe(split)
        if pinned is None:
            continue
        if (pinned.digest, pinned.n, pinned.positives) != (found.digest, found.n, found.positives):
            problems.append(
                f"{path}: split {split.split_id!r} does not have the pinned rows: "
                f"digest {found.digest[:12]}… (n {found.n}, {found.positives} positive), "
                f"pinned {pinned.digest[:12]}… (n {pinned.n}, {pinned.positives} positive)"
            )
        elif pinned.columns != found.columns:
            names = ", ".join(split.examples[0].columns) or "none"
            problems.append(
                f"{path}: split {split.split_id!r} does not have the pinned values of its slice columns ({names}): "
                f"digest {_short(found.columns)}, pinned {_short(pinned.columns)}"
            )
    if problems:
        raise DataError("\n".join([*problems, "To accept these rows: `harness data SUITE --update-lock`"]))


def _short(sha256: str | None) -> str:
    return f"{sha256[:12]}…" if sha256 else "none"


def unpinned(locked: Mapping[str, Locked] | None, split_ids: Iterable[str]) -> tuple[str, ...]:
    """Ids of the splits that the lock, if any, does not pin."""
    return tuple(split_id for split_id in split_ids if split_id not in (locked or {}))


def summary(split: Split, *, trained_on: bool) -> dict[str, Any]:
    """A split's summary for `harness data`: use, size, balance, clusters (None if it has none) and digest."""
    clusters = {example.cluster for example in split.examples} - {None}
    use = "train" if trained_on else "test"
    return {"split": split.split_id, "use": use, **asdict(describe(split)), "clusters": len(clusters) or None}
