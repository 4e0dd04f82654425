"""From a split's rule in the suite to its fixed, ordered, digest-pinned examples.

    split = load_split(rule, cache_dir)      # fetches what is not cached; verifies every digest
    lock.check(path, lock.read(path), [split])  # the rows are the ones everybody else scores

A source is a row of `SOURCES`: a function from a rule and a cache folder to `Row`s. What follows is the same for all:
exact duplicates are dropped, clusters are parted, rows shuffled and taken, ids derived from content.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from harness import digest
from harness.data import sdist
from harness.data.rows import Row
from harness.declarations import ClusterShare, SplitRule
from harness.errors import DataError, LeakError
from harness.records import Example, Split

SOURCES: Mapping[str, Callable[[SplitRule, Path], list[Row]]] = {"sdist": sdist.read}

ID_DIGITS = 32


def load_split(rule: SplitRule, cache_dir: Path) -> Split:
    """The examples that a rule names, in order.

    Args:
        rule: a `[[split]]` of the suite.
        cache_dir: where fetched files are kept.

    Raises:
        FetchError: a file could not be had.
        DataError: it is not the one that was pinned, is malformed, or has too few rows.
    """
    rows = _without_repeats(SOURCES[rule.source](rule, cache_dir))
    if rule.cluster_share is not None:
        rows = _of_clusters(rows, rule.cluster_share)
    if rule.shuffle_seed is not None:
        order = np.random.default_rng(rule.shuffle_seed).permutation(len(rows))
        rows = [rows[i] for i in order]
    if rule.take is not None:
        if rule.take > len(rows):
            raise DataError(f"split {rule.id}: take asks for {rule.take} rows, but there are only {len(rows)}")
        rows = rows[: rule.take]
    if not rows:
        raise DataError(f"split {rule.id}: no rows are left; widen cluster_share or lower min_abs_rating")
    examples = _identified(rows)
    return Split(rule.id, examples, _split_digest(examples), rule.model_dump(mode="json", exclude_none=True))


def first(split: Split, limit: int) -> Split:
    """The split's first `limit` examples, as a split of its own digest."""
    examples = split.examples[:limit]
    return Split(split.split_id, examples, _split_digest(examples), {**split.source, "limit": limit})


def check_no_leak(trained_on: Iterable[str], split: Split, who: str) -> None:
    """Refuse to score a model on texts that it was trained on.

    Args:
        trained_on: text digests of the training rows.
        split: what would be scored.
        who: the model, for the message.

    Raises:
        LeakError: names the first of the shared rows.
    """
    seen = set(trained_on)
    shared = [example.example_id for example in split.examples if example.text_digest in seen]
    if shared:
        raise LeakError(
            f"{who} was trained on {len(shared)} of the {len(split.examples)} rows of split {split.split_id!r} "
            f"(first: {', '.join(shared[:3])}); score it on rows it has not seen"
        )


def _without_repeats(rows: Sequence[Row]) -> list[Row]:
    """The first of each text. It happens before clusters are parted, so that no text stands on both sides."""
    unique: dict[tuple[str, str], Row] = {}
    for row in rows:
        unique.setdefault((row.title, row.content), row)
    return list(unique.values())


def _of_clusters(rows: Sequence[Row], share: ClusterShare) -> list[Row]:
    clusters = sorted({row.cluster for row in rows if row.cluster is not None})
    order = np.random.default_rng(share.seed).permutation(len(clusters))
    start, stop = round(share.start * len(clusters)), round(share.stop * len(clusters))
    wanted = {clusters[i] for i in order[start:stop]}
    return [row for row in rows if row.cluster in wanted]


def _identified(rows: Sequence[Row]) -> tuple[Example, ...]:
    examples, seen = [], Counter[str]()
    for row in rows:
        example_id = digest.of_json([row.label, row.title, row.content])[:ID_DIGITS]
        seen[example_id] += 1
        if seen[example_id] > 1:
            example_id = f"{example_id}-{seen[example_id]}"
        text_digest = digest.of_json([row.title, row.content])[:ID_DIGITS]
        examples.append(Example(example_id, row.title, row.content, row.label, row.cluster, text_digest))
    return tuple(examples)


def _split_digest(examples: Sequence[Example]) -> str:
    return digest.of_json([[example.example_id, example.cluster] for example in examples])
