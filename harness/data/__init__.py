"""Loading a split: from its rule in the suite to fixed, ordered, digest-pinned examples.

    pinned = lock.read(path) or {}
    splits = load_pinned(rules, places, path, pinned)    # fetches what is not cached; verifies every digest, and that
                                                         # the rows are the ones that everybody else scores

A source is a row of `SOURCES`: a function from a rule and the `Places` to `Rows`. The rest is the same for all: rows
without a declared label are dropped, the others divided, shuffled, skipped and taken, and their ids derived from their
content.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from harness.artifacts import digest, plugins
from harness.data import lock
from harness.data.lock import Locked, columns_digest
from harness.data.source import DROPPED, NO_COLUMNS, Places, Row, Rows
from harness.errors import DataError, FetchError, LeakError
from harness.records import UNLABELLED, Example, Split
from harness.stats.inference import Ints
from harness.suite.schema import ClusterShare, HubSplit, PlugInSplit, SplitRule
from harness.suite.splits import NamedColumns

SOURCES: Mapping[str, str] = {
    "sdist": "harness.data.sdist:rows",
    "file": "harness.data.local_file:rows",
    "hub": "harness.data.hub_dataset:rows",
}
"""Source name to `module:function`, so that using one source imports no other's libraries."""

ID_DIGITS = 32


def load_pinned(
    rules: Iterable[SplitRule], places: Places, lock_path: Path, pinned: dict[str, Locked]
) -> dict[str, Split]:
    """The examples of splits by id, as drawn, checked against the lock.

    Args:
        pinned: the lock's entries to hold them to; a split without one is not checked.

    Raises:
        DataError: a split cannot be loaded or is not the pinned one.
    """
    drawn = {rule.id: load_split(rule, places, pinned.get(rule.id)) for rule in rules}
    lock.check(lock_path, pinned, drawn.values())
    return drawn


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
    try:
        return _taken(rule, _source(rule.source)(rule, places))
    except FetchError as problem:
        if not isinstance(rule, HubSplit):
            raise
        raise FetchError(f"{problem}. {_instead(rule, places, pinned)}") from None


def _source(name: str) -> Callable[[Any, Places], Rows]:
    """The function of a source, which is in `SOURCES` or a plug-in's."""
    if name not in SOURCES:
        found: Callable[[Any, Places], Rows] = plugins.load("source", name)
        return found
    module, _, function = SOURCES[name].partition(":")
    built_in: Callable[[Any, Places], Rows] = getattr(import_module(module), function)
    return built_in


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
    if isinstance(rule, PlugInSplit):
        origin["plugin"] = asdict(plugins.origin("source", rule.source))
    if rows.commit is not None:
        origin["revision"] = rows.commit
    if dropped := rows.dropped():
        origin["dropped"] = _most_common(dropped)
    taken = rows.at(drawn)
    if rule.cluster_block is not None:
        blocks = (drawn // rule.cluster_block).tolist()
        taken = [replace(row, cluster=f"block-{block}") for row, block in zip(taken, blocks, strict=True)]
    if isinstance(rule, NamedColumns):
        taken = _paired(rule, [replace(row, label=UNLABELLED) for row in taken] if rule.unlabelled else taken)
    if rule.perturb is not None:
        from harness.data import perturb  # needs this module's records

        taken, unchanged = perturb.with_changed(taken, rule.perturb, f"split {rule.id}")
        origin |= {"unchanged": unchanged} if unchanged else {}
    return as_split(rule.id, taken, origin, rule.slice_columns)


_CHANGES = {"": 0, "rise": 1, "fall": -1}


def _paired(rule: NamedColumns, rows: list[Row]) -> list[Row]:
    """The rows with their pairs, and with the direction in which each one's score must move.

    Raises:
        DataError: a pair has one row alone or no original, or a direction is another word.
    """
    if rule.pair is None:
        return rows
    found = []
    for row in rows:
        word = "" if rule.change is None else row.columns.get(rule.change, "")
        if word not in _CHANGES:
            raise DataError(f"split {rule.id}: {rule.change} {word!r:.40} is none of rise, fall and empty; correct it")
        found.append(replace(row, pair=row.cluster, change=_CHANGES[word]))
    sizes = Counter(row.pair for row in found)
    if alone := [pair for pair, size in sizes.items() if size == 1]:
        raise DataError(
            f"split {rule.id}: {len(alone):,} of {len(sizes):,} pairs have a single row (first: {alone[0]!r:.40}); "
            "correct `pair`, or remove these rows"
        )
    if headless := sizes.keys() - {row.pair for row in found if not row.change}:
        raise DataError(
            f"split {rule.id}: {len(headless):,} pairs have no original (first: {min(map(str, headless))!r:.40}); "
            f"leave {rule.change} empty for one row of each"
        )
    return found


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
        if (split.digest, columns_digest(split)) == (pinned.digest, pinned.columns):
            stand_in = {"stand_in": declared.path.partition("/")[2]}
            return replace(split, source=rule.model_dump(mode="json", exclude_none=True) | stand_in)
    return None


def as_split(split_id: str, rows: Sequence[Row], origin: Mapping[str, Any], slice_columns: Sequence[str] = ()) -> Split:
    """Rows, in their final order, as a split with ids and a digest."""
    examples = _identified(rows, slice_columns)
    return Split(split_id, examples, split_digest(examples), origin)


def _drawn(rule: SplitRule, rows: Rows) -> Ints:
    """Positions of the rows selected by a rule, in order."""
    chosen = np.arange(len(rows))
    if getattr(rule, "labels", None) is not None:
        chosen = np.flatnonzero(rows.labels() != DROPPED)
        if not len(chosen):
            found = ", ".join(f"{value!r} {count:,}" for value, count in _most_common(rows.dropped()).items())
            raise DataError(f"split {rule.id}: no row has a declared label (dropped: {found}); correct `labels`")
    if rule.share is not None:
        chosen = _share(rule, rule.share, rows, chosen)
    n, skip, take = len(chosen), rule.skip or 0, rule.take
    if rule.shuffle_seed is not None:
        chosen = chosen[np.random.default_rng(rule.shuffle_seed).permutation(n)]
    if skip + (take or 0) > n or (skip == n and skip):
        asked = "take asks" if not skip else "skip asks" if take is None else "skip and take ask"
        raise DataError(f"split {rule.id}: {asked} for {skip + (take or 0):,} rows, but there are only {n:,}; lower it")
    if rule.stratify:
        return _stratified(chosen, rows.labels(), skip, n - skip if take is None else take)
    return chosen[skip : None if take is None else skip + take]


def _share(rule: SplitRule, share: ClusterShare, rows: Rows, chosen: Ints) -> Ints:
    """The positions whose clusters, or else texts, are in a share, in order."""
    groups = np.array(_groups(rule, rows, chosen))
    names, of_row = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(share.seed).permutation(len(names))
    start, stop = round(share.start * len(names)), round(share.stop * len(names))
    wanted = np.zeros(len(names), dtype=bool)
    wanted[order[start:stop]] = True
    return chosen[wanted[of_row]]


def _groups(rule: SplitRule, rows: Rows, chosen: Ints) -> list[str] | list[bytes]:
    """The group of each position that must not be divided: its cluster, or else its content as it reads."""
    if rule.cluster_block is not None:
        return [f"block-{block}" for block in (chosen // rule.cluster_block).tolist()]
    is_chosen = np.zeros(len(rows), dtype=bool)
    is_chosen[chosen] = True
    kept = [row for row, is_one in zip(rows, is_chosen, strict=True) if is_one]
    named = getattr(rule, "group", getattr(rule, "cluster", None)) is not None
    if named or (isinstance(rule, PlugInSplit) and all(row.cluster is not None for row in kept)):
        return [str(row.cluster) for row in kept]
    from harness.data.plain import fingerprint  # needs this module's records

    return [fingerprint(row.content).encode() for row in kept]


def _stratified(order: Ints, labels: Ints, skip: int, take: int) -> Ints:
    """Rows of each label in a given order, in numbers that keep each label's share, without those that a smaller
    `skip` would take."""
    of_label = labels[order]
    share = float(of_label.mean())
    chosen = []
    for label in (1, 0):
        counts = [round(n * share) if label else n - round(n * share) for n in (skip, skip + take)]
        chosen.append(np.flatnonzero(of_label == label)[counts[0] : counts[1]])
    return np.asarray(order[np.sort(np.concatenate(chosen))])


def notes(splits: Iterable[Split]) -> list[str]:
    """A sentence for each split whose rule dropped rows: their number, by value."""
    found = []
    for split in splits:
        if dropped := split.source.get("dropped"):
            values = ", ".join(f"{value!r} {count:,}" for value, count in dropped.items())
            total = sum(dropped.values())
            found.append(
                f"split {split.split_id!r}: {total:,} rows were dropped, whose label means neither class ({values})"
            )
        if unchanged := split.source.get("unchanged"):
            found.append(f"split {split.split_id!r}: {unchanged:,} rows in which nothing can be changed were left out")
    return found


MOST_DROPPED = 20
"""Number of dropped values that are listed by themselves."""


def _most_common(dropped: Mapping[str, int]) -> dict[str, int]:
    """Counts of dropped rows by value, the commonest first; rarer values are counted together."""
    ranked = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
    others = sum(count for _, count in ranked[MOST_DROPPED:])
    return dict(ranked[:MOST_DROPPED]) | ({"other values": others} if others else {})


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
        stated = (row.label, row.cluster, text_digest, columns, row.pair, row.change)
        examples.append(Example(example_id, row.title, row.content, *stated))
    return tuple(examples)


def split_digest(examples: Sequence[Example]) -> str:
    """SHA-256 over the ordered example ids and clusters (64 hex digits)."""
    return digest.of_json([[example.example_id, example.cluster] for example in examples])
