"""Nested parts of a training split: the beginnings of one random order of its rows."""

from collections.abc import Mapping

import numpy as np

from harness.data import split_digest
from harness.data.lock import Locked
from harness.errors import DataError
from harness.records import Split
from harness.suite.curves import Subset, points
from harness.suite.schema import Suite


def drawn(whole: Split, part: Subset) -> Split:
    """Draw a part of a split; with the same seed, the rows of a smaller part are in every larger one.

    The rows keep their order. A part of all rows, in the split's own shares, has the rows of the split itself.

    Raises:
        DataError: the split has too few rows, or a label has, or the part would have only one label.
    """
    labels = np.array([example.label for example in whole.examples])
    counts = _counts(part, len(labels), int(labels.sum()))
    order = np.random.default_rng(part.seed).permutation(len(labels))
    chosen = np.concatenate([order[labels[order] == label][:count] for label, count in counts.items()])
    examples = tuple(whole.examples[i] for i in np.sort(chosen))
    origin = {**whole.source, "part": {"rows": part.rows, "seed": part.seed, "balanced": part.balanced}}
    return Split(part.split_id, examples, split_digest(examples), origin)


def problems(suite: Suite, pinned: Mapping[str, Locked]) -> list[str]:
    """Curves that ask for more rows than their pinned training split has: a sentence for each."""
    found: dict[str, None] = {}
    for curve in suite.curve:
        for point in points(suite, [curve.id]):
            if (whole := pinned.get(point.subset.of)) is not None:
                try:
                    _counts(point.subset, whole.n, whole.positives)
                except DataError as problem:
                    found[f"curve {curve.id!r}.rows: {problem}"] = None
    return list(found)


def _counts(part: Subset, n: int, positives: int) -> dict[int, int]:
    """The number of rows of each label in a part.

    Args:
        n: rows of the whole split.
        positives: rows of label 1 among them.
    """
    who = f"split {part.of!r}"
    if part.rows > n:
        raise DataError(f"{who} has {n:,} rows, and a curve asks for {part.rows:,} of them; lower its rows")
    wanted = round(part.rows * (0.5 if part.balanced else positives / n))
    counts, there = {0: part.rows - wanted, 1: wanted}, {0: n - positives, 1: positives}
    for label, count in counts.items():
        if there[label] < count:
            raise DataError(
                f"{who} has {there[label]:,} rows of label {label}, and {part.rows:,} balanced rows need {count:,}; "
                "lower the curve's rows, or remove balanced"
            )
        if not count:
            raise DataError(
                f"{who}: its shares leave no row of label {label} among {part.rows:,}; raise the curve's rows, or add "
                "balanced = true"
            )
    return counts
