"""Parts of a split in which a model may do worse than on the whole: short texts, negations, one label, …

A slice is named `family=value`, such as `negation=present`. A family assigns a value to every example of a split; a new
one is a row of `SLICES`. In addition, each of a split's `slice_columns` is a family with the values of the column.
"""

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.records import Example
from harness.suite.schema import SLICE_VALUES

FEWEST = 10
"""A slice with fewer examples is not measured."""

MOST_VALUES = 20
"""A column with more values than this is an identifier rather than a family: it makes no slices by default."""

_NEGATION = re.compile(
    r"\b(?:no|not|never|none|nothing|nobody|nowhere|neither|nor|cannot|without|hardly|barely|scarcely)\b|n['’]t\b"
)  # for texts in lower case: re.IGNORECASE takes more than twice as long


def _by_label(examples: Sequence[Example]) -> list[str]:
    return [{1: "positive", 0: "negative"}.get(example.label, "unknown") for example in examples]


def _by_length(examples: Sequence[Example]) -> list[str]:
    """Thirds of the split by the number of words in the content, separated by whitespace.

    Equal lengths are in the same third, the one that contains the middle of their ranks; so thirds may differ in size.
    """
    lengths = [len(example.content.split()) for example in examples]
    _, place, counts = np.unique(lengths, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    thirds = (ranks - 0.5) * 3 // len(examples)
    return [SLICE_VALUES["length"][int(third)] for third in thirds]


def _by_title(examples: Sequence[Example]) -> list[str]:
    return ["present" if example.title.strip() else "absent" for example in examples]


def _by_negation(examples: Sequence[Example]) -> list[str]:
    """Presence of an English word of negation in the content, or of n't with either apostrophe, but not of `dont`.

    The scope of the negation does not matter: "not bad" and "bad, not good" are both in the slice.
    """
    return ["present" if _NEGATION.search(example.content.lower()) else "absent" for example in examples]


SLICES: dict[str, Callable[[Sequence[Example]], list[str]]] = {
    "label": _by_label,
    "length": _by_length,
    "title": _by_title,
    "negation": _by_negation,
}


def values(family: str, examples: Sequence[Example]) -> list[str]:
    """List each example's value in a family: a key of `SLICES`, or a column that every example has."""
    if family in SLICES:
        return SLICES[family](examples)
    return [example.columns[family] for example in examples]


def chosen(name: str, examples: Sequence[Example]) -> NDArray[np.bool_]:
    """Mask the examples in the slice `family=value`: shape (n,)."""
    family, _, value = name.partition("=")
    return np.array([found == value for found in values(family, examples)], dtype=np.bool_)


def all_slices(examples: Sequence[Example]) -> Mapping[str, NDArray[np.bool_]]:
    """Map every slice of a split to its mask, except slices that are empty or the whole split.

    Values of a family are in the order of `SLICE_VALUES`; those of a column are sorted. Families overlap each other.
    """
    families = [*SLICES, *examples[0].columns] if examples else []
    found: dict[str, NDArray[np.bool_]] = {}
    for family in families:
        of_examples = values(family, examples)
        known = SLICE_VALUES.get(family) or sorted(set(of_examples))
        if len(known) <= MOST_VALUES:
            masks = {f"{family}={value}": np.array([one == value for one in of_examples]) for value in known}
            found |= {name: mask for name, mask in masks.items() if 0 < mask.sum() < len(examples)}
    return found
