"""Loading a split: from its rule in the suite to fixed, ordered, digest-pinned examples.

    split = load_split(rule, places)                     # fetches what is not cached; verifies every digest
    lock.check(path, lock.read(path), [split])           # the rows are the ones everybody else scores

A source is a row of `SOURCES`: a function from a rule and the `Places` to `Rows`. The rest is the same for all: rows
are shuffled and taken, and their ids derived from their content.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np

from harness.artifacts import digest
from harness.data.lock import Locked
from harness.data.source import NO_COLUMNS, Places, Row, Rows
from harness.errors import DataError, FetchError, LeakError
from harness.records import Example, Split
from harness.stats.inference import Ints
from harness.suite.schema import HubSplit, SplitRule

SOURCES: Mapping[str, str] = {
    "sdist": "harness.data.sdist:rows",
    "file": "harness.data.local_file:rows",
    "hub": "harness.data.hub_dataset:rows",
}
"""Source name to `module:function`, so that using one source imports no other's libraries."""

ID_DIGITS = 32


def load_split(rule: SplitRule, places: Places, pinned: Locked | None = None) -> Split:
    """The examples selected by a rule, in order.

    Args:
        rule: a `[[split]]` of the suite.
        places: where files are found and cached.
        pinned: the lock's entry for this split, if any: a hub split is read at its commit, or from a local copy that
            has its digest. The caller checks the result against it.

    Raises:
        FetchError: a file could not be downloaded.
        DataError: the file is not the pinned one, is malformed, or has too few rows.
    """
    if isinstance(rule, HubSplit) and pinned is not None:
        rule = rule.model_copy(update={"revision": rule.revision or pinned.commit})
        stand_in = _local_copy(rule, places, pinned)
        if stand_in is not None:
            return stand_in
    module, _, function = SOURCES[rule.source].partition(":")
    source: Callable[[Any, Places], Rows] = getattr(import_module(module), function)
    try:
        return _taken(rule, source(rule, places))
    except FetchError as problem:
        if not isinstance(rule, HubSplit):
            raise
        raise FetchError(f"{problem}. {_instead(rule, places, pinned)}") from None


def _instead(rule: HubSplit, places: Places, pinned: Locked | None) -> str:
    """Advice on using a local copy for a split that cannot be fetched from the hub."""
    if pinned is None:
        return (
            "Local copies (HARNESS_DATA) can replace only splits that the suite's lock pins, and it does not pin this "
            "one: run `harness data` once where the hub can be reached"
        )
    if places.local_copies is None:
        return (
            "Or set HARNESS_DATA to a folder of local copies: a copy with the rows pinned in the lock is used instead"
        )
    return f"No file in {places.local_copies / rule.dataset.rpartition('/')[2]} (HARNESS_DATA) has the pinned rows"


def _taken(rule: SplitRule, rows: Rows) -> Split:
    """The split that a rule draws from rows."""
    drawn = _drawn(rule, rows)
    if not len(drawn):
        raise DataError(f"split {rule.id}: its source has no rows that match the rule; correct the rule")
    origin = rule.model_dump(mode="json", exclude_none=True)
    if rows.commit is not None:
        origin["revision"] = rows.commit
    taken = rows.at(drawn)
    if rule.cluster_block is not None:
        blocks = (drawn // rule.cluster_block).tolist()
        taken = [replace(row, cluster=f"block-{block}") for row, block in zip(taken, blocks, strict=True)]
    return as_split(rule.id, taken, origin, rule.slice_columns)


def _local_copy(rule: HubSplit, places: Places, pinned: Locked) -> Split | None:
    """The split from a local copy with exactly the pinned rows, if there is one; its source names the file."""
    if places.local_copies is None:
        return None
    from harness.data import local_copies

    for declared, rows in local_copies.candidates(rule, places, pinned.n):
        try:
            split = _taken(declared, rows)
        except DataError:
            continue  # too few rows, or malformed: not a copy
        if split.digest == pinned.digest:
            stand_in = {"stand_in": declared.path.partition("/")[2]}
            return replace(split, source=rule.model_dump(mode="json", exclude_none=True) | stand_in)
    return None


def as_split(split_id: str, rows: Sequence[Row], origin: Mapping[str, Any], slice_columns: Sequence[str] = ()) -> Split:
    """Rows, in their final order, as a split with ids and a digest."""
    examples = _identified(rows, slice_columns)
    return Split(split_id, examples, split_digest(examples), origin)


def _drawn(rule: SplitRule, rows: Rows) -> Ints:
    """Positions of the rows selected by a rule, in order."""
    n = len(rows)
    order = np.arange(n) if rule.shuffle_seed is None else np.random.default_rng(rule.shuffle_seed).permutation(n)
    if rule.take is None:
        return order
    if rule.take > n:
        raise DataError(f"split {rule.id}: take asks for {rule.take:,} rows, but there are only {n:,}; lower it")
    return _stratified(order, rows.labels(), rule.take) if rule.stratify else order[: rule.take]


def _stratified(order: Ints, labels: Ints, take: int) -> Ints:
    """The first rows of each label in a given order, in numbers that keep each label's share, in that order."""
    positives = round(take * float(labels.mean()))
    of_label = labels[order]
    chosen = np.concatenate(
        [np.flatnonzero(of_label == 1)[:positives], np.flatnonzero(of_label == 0)[: take - positives]]
    )
    return np.asarray(order[np.sort(chosen)])


def first(split: Split, limit: int) -> Split:
    """The split's first `limit` examples, as a split with its own digest."""
    examples = split.examples[:limit]
    return Split(split.split_id, examples, split_digest(examples), {**split.source, "limit": limit})


def check_no_leak(trained_on: Iterable[str], split: Split, who: str) -> None:
    """Refuse to score a model on texts that it was trained on.

    Args:
        trained_on: text digests of the training rows.
        split: the split to score.
        who: the model, for the message.

    Raises:
        LeakError: some rows are shared; names the first of them.
    """
    seen = set(trained_on)
    shared = [example.example_id for example in split.examples if example.text_digest in seen]
    if shared:
        raise LeakError(
            f"{who} was trained on {len(shared)} of the {len(split.examples)} rows of split {split.split_id!r} "
            f"(first: {', '.join(shared[:3])}); score it on rows it has not seen"
        )


def _identified(rows: Sequence[Row], slice_columns: Sequence[str] = ()) -> tuple[Example, ...]:
    examples, seen = [], Counter[str]()
    for row in rows:
        example_id = digest.of_json([row.label, row.title, row.content])[:ID_DIGITS]
        seen[example_id] += 1
        if seen[example_id] > 1:
            example_id = f"{example_id}-{seen[example_id]}"
        text_digest = digest.of_json([row.title, row.content])[:ID_DIGITS]
        columns = {name: row.columns.get(name, "") for name in slice_columns} if slice_columns else NO_COLUMNS
        examples.append(Example(example_id, row.title, row.content, row.label, row.cluster, text_digest, columns))
    return tuple(examples)


def split_digest(examples: Sequence[Example]) -> str:
    """SHA-256 over the ordered example ids and clusters (64 hex digits)."""
    return digest.of_json([[example.example_id, example.cluster] for example in examples])
