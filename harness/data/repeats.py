"""Texts that occur more than once in a scored split: one unit, however many rows they have.

    settled = settle(suite, splits)        # splits as they are scored, notes about them, and forbidden repetitions

Rows with the same text are right or wrong together, so they are not independent examples: counting them as such would
make every interval too narrow. `[audit] repeated_texts` decides how to treat them. Texts are the same if they read the
same (`plain`), considering only the fields in the suite's template. The lock pins rows as drawn, before this step.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.data import split_digest
from harness.data.plain import fingerprints
from harness.errors import DataError
from harness.records import Example, Split
from harness.suite.schema import Suite

NAMED = 3
"""Number of repeated texts that a sentence names."""
REMEDY = (
    'remove the repeated rows; or set repeated_texts in [audit] to "drop" to keep each text once, or to "cluster" to '
    "count its rows as one cluster"
)


@dataclass(frozen=True, slots=True)
class Settled:
    """Splits as they are scored."""

    splits: Mapping[str, Split]
    notes: tuple[str, ...]
    """A sentence for each split with repeated texts: their number, and how they are treated."""
    forbidden: tuple[str, ...]
    """The same, if the suite forbids them."""

    def refuse(self) -> None:
        """Stop if the suite forbids the repeated texts that were found.

        Raises:
            DataError: lists every sentence.
        """
        if self.forbidden:
            raise DataError("\n".join([*self.forbidden, REMEDY]))


def settle(suite: Suite, splits: Mapping[str, Split]) -> Settled:
    """Treat the rows of repeated texts as the suite says; training splits stay unchanged."""
    rule, settled, notes = suite.audit.repeated_texts, dict(splits), []
    for split_id in sorted(splits.keys() - suite.train_split_ids):
        split = splits[split_id]
        texts = fingerprints(split.examples, suite.text)
        groups = [group for group in groups_of(split.examples, texts) if not _is_one_pair(group)]
        if not groups:
            continue
        if rule == "cluster" or (rule == "drop" and split.examples[0].pair is not None):  # a pair stays whole
            settled[split_id] = _of(split, clustered(split.examples, texts))
        elif rule == "drop":
            settled[split_id] = _of(split, _each_once(split, texts))
        notes.append(_sentence(split, groups, len(settled[split_id].examples), rule))
    forbidden = rule == "forbid"
    return Settled(settled, () if forbidden else tuple(notes), tuple(notes) if forbidden else ())


def _is_one_pair(group: Sequence[Example]) -> bool:
    """True for examples of one pair, which may well read the same: they are judged together anyway."""
    return group[0].pair is not None and len({example.pair for example in group}) == 1


def groups_of(examples: Sequence[Example], texts: Sequence[str]) -> list[list[Example]]:
    """Groups of two or more examples with the same text, in order.

    Args:
        texts: the key of each example's text.
    """
    by_text: dict[str, list[Example]] = defaultdict(list)
    for example, text in zip(examples, texts, strict=True):
        by_text[text].append(example)
    return [group for group in by_text.values() if len(group) > 1]


def clustered(examples: Sequence[Example], texts: Sequence[str]) -> tuple[Example, ...]:
    """The examples with clusters such that all rows of a text are in one; clusters that share a text are merged.

    A cluster that shares no text keeps its name; merged ones take the least of their names.
    """
    names = [
        f"text-{text}" if example.cluster is None else example.cluster
        for example, text in zip(examples, texts, strict=True)
    ]
    merged: dict[str, str] = {name: name for name in names}

    def least(name: str) -> str:
        """The least name of all clusters merged with this one; the way to it is shortened for the next call."""
        while merged[name] != name:
            merged[name] = name = merged[merged[name]]
        return name

    first: dict[str, str] = {}
    for name, text in zip(names, texts, strict=True):
        low, high = sorted((least(name), least(first.setdefault(text, name))))
        merged[high] = low
    return tuple(
        example if example.cluster == (joined := least(name)) else replace(example, cluster=joined)
        for example, name in zip(examples, names, strict=True)
    )


def _each_once(split: Split, texts: Sequence[str]) -> tuple[Example, ...]:
    """The first row of every text. A text whose rows have both labels is dropped, since the right label is unknown.

    Raises:
        DataError: no row is left.
    """
    labels: dict[str, set[int]] = defaultdict(set)
    for example, text in zip(split.examples, texts, strict=True):
        labels[text].add(example.label)
    first: dict[str, Example] = {}
    for example, text in zip(split.examples, texts, strict=True):
        if len(labels[text]) == 1:
            first.setdefault(text, example)
    if not first:
        raise DataError(
            f'split {split.split_id!r}: every text occurs with both labels, so [audit] repeated_texts = "drop" '
            "leaves no row; correct the labels"
        )
    return tuple(first.values())


def _of(split: Split, examples: tuple[Example, ...]) -> Split:
    return split if examples == split.examples else replace(split, examples=examples, digest=split_digest(examples))


def _sentence(split: Split, groups: Sequence[Sequence[Example]], left: int, rule: str) -> str:
    rows, n = sum(map(len, groups)), len(split.examples)
    both = sum(len({example.label for example in group}) > 1 for group in groups)
    conflicting = f", {both:,} of them with both labels" if both else ""
    named = "; ".join(" = ".join(example.example_id for example in group[:2]) for group in groups[:NAMED])
    more = f"; and {len(groups) - NAMED:,} more" if len(groups) > NAMED else ""
    done = {
        "cluster": "the rows of a text count as one cluster in every interval and test",
        "drop": f"each text was kept once, {left:,} rows are left",
        "independent": "they count as independent, as the suite states: intervals are too narrow",
        "forbid": "the suite forbids this",
    }[rule]
    texts = "1 text" if len(groups) == 1 else f"{len(groups):,} texts"
    return f"{rows:,} of the {n:,} rows of split {split.split_id!r} repeat {texts}{conflicting} ({named}{more}); {done}"
