"""The errors that a configuration is most confident in, with texts only where the suite lets the site show them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.records import Example, Outcomes
from leaderboard.board.records import Entry
from leaderboard.pages import formats

SHOWN = 8
"""Number of examples per split."""
LONGEST = 400
"""Longest text in characters; longer ones are truncated."""
_LABELS = ("negative", "positive")


@dataclass(frozen=True, slots=True)
class HardExample:
    """An example that the mean over the seeds gets wrong."""

    example_id: str
    label: str
    probability: str
    """Probability of the true label, the mean over the seeds."""
    wrong: str
    """Number of seeds that are wrong: `3 of 3`."""
    text: str
    """Empty where it may not be shown."""


def hardest(
    entry: Entry, outcomes: Mapping[str, Outcomes], examples: Sequence[Example], *, with_text: bool
) -> tuple[HardExample, ...]:
    """The wrong answers of an entry, the most confident first.

    Args:
        outcomes: by run id.
        examples: of the split, in order; empty where they are not available.
        with_text: whether the suite lets the site show texts.
    """
    sides = [outcomes[scored.run.run_id] for scored in entry.runs]
    if not sides:
        return ()
    labels = sides[0].labels
    scores = np.mean([one.scores for one in sides], axis=0)
    of_label = np.where(labels == 1, scores, 1 - scores)
    n_wrong = np.sum([one.predicted != labels for one in sides], axis=0)
    known = with_text and tuple(example.example_id for example in examples) == sides[0].example_ids
    order = np.lexsort((np.arange(len(labels)), of_label))[:SHOWN]
    return tuple(
        HardExample(
            sides[0].example_ids[i],
            _LABELS[int(labels[i])],
            formats.score(float(of_label[i])),
            f"{n_wrong[i]} of {len(sides)}" if len(sides) > 1 else "",
            _text(examples[i]) if known else "",
        )
        for i in order
        if of_label[i] < 0.5
    )


def _text(example: Example) -> str:
    joined = " — ".join(part for part in (example.title.strip(), example.content.strip()) if part)
    return joined if len(joined) <= LONGEST else f"{joined[:LONGEST].rstrip()} …"
