"""Draws of few training rows, the same number of each label."""

from collections.abc import Sequence

import numpy as np

from harness.errors import DataError
from harness.suite.schema import Repeats


def positions(labels: Sequence[int], repeats: Repeats, draw: int, who: str) -> list[int]:
    """Positions of the rows of a draw, in their order.

    Args:
        labels: of all training rows.
        draw: number of the draw, from 0; the rows of a draw do not depend on how many draws there are.

    Raises:
        DataError: a label has fewer rows than a draw needs.
    """
    generator = np.random.default_rng([repeats.seed, draw])
    chosen: list[int] = []
    for label in (0, 1):
        of_label = [position for position, found in enumerate(labels) if found == label]
        if len(of_label) < repeats.per_label:
            raise DataError(
                f"{who}: its training rows have {len(of_label):,} of label {label}, fewer than per_label = "
                f"{repeats.per_label:,}; draw fewer"
            )
        chosen += generator.choice(of_label, repeats.per_label, replace=False).tolist()
    return sorted(chosen)
