"""Changed copies of rows, each beside its original: what a model should not notice, and what it must notice.

    rows, unchanged = with_changed(rows, Perturb(kind="typos", seed=1))     # original, copy, original, copy, …

A copy depends on the text and the seed alone, so that a row has the same copy in every split. A row in which a kind
finds nothing to change is left out.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.artifacts import digest
from harness.data.source import Row
from harness.errors import DataError
from harness.records import UNLABELLED
from harness.suite.splits import Perturb

NAMES = (
    "Alex", "Anna", "Ben", "Carlos", "Chen", "David", "Emma", "Fatima", "George", "Hannah", "Ibrahim", "James", "John",
    "Kate", "Lena", "Maria", "Mark", "Mary", "Michael", "Nina", "Omar", "Paul", "Peter", "Priya", "Robert", "Sarah",
    "Susan", "Thomas", "Wei", "Yuki",
)  # fmt: skip
NEUTRAL = (
    "It arrived on a Tuesday.", "I ordered it last month.", "My neighbour has one too.", "It came in a brown box.",
    "I am writing this at home.", "There are several versions of it.",
)  # fmt: skip
PRAISE = (
    "I would recommend it to anyone.",
    "I love it.",
    "It is the best that I have had.",
    "I am happy with it.",
)
COMPLAINT = ("I would not recommend it.", "I hate it.", "It is the worst that I have had.", "I regret buying it.")
_NAME = re.compile(rf"\b(?:{'|'.join(NAMES)})\b")
_WORD = re.compile(r"[A-Za-z]{4,}")
_VERB = re.compile(r"\b(is|are|was|were|can|will|would|could|should)(\s+not\b|n?['’]t\b|not\b|\b)", re.IGNORECASE)

Change = Callable[[str, np.random.Generator], str]


def _typo(text: str, generator: np.random.Generator) -> str:
    """Exchange two neighbouring letters inside a word of four letters or more."""
    words = [word for word in _WORD.finditer(text) if len(set(word[0][1:-1].lower())) > 1]
    if not words:
        return text
    word = words[generator.integers(len(words))]
    places = [i for i in range(word.start() + 1, word.end() - 2) if text[i].lower() != text[i + 1].lower()]
    at = places[generator.integers(len(places))]
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def _case(text: str, generator: np.random.Generator) -> str:
    """Write everything in capitals."""
    return text.upper()


def _name(text: str, generator: np.random.Generator) -> str:
    """Replace every occurrence of the first known name by another name."""
    found = _NAME.search(text)
    if found is None:
        return text
    others = [name for name in NAMES if name != found[0]]
    return re.sub(rf"\b{found[0]}\b", others[generator.integers(len(others))], text)


def _negated(text: str, generator: np.random.Generator) -> str:
    """Negate the first auxiliary verb, or remove its negation."""
    return _VERB.sub(lambda verb: verb[1] if verb[2] else f"{verb[1]} not", text, count=1)


def _with(sentences: Sequence[str]) -> Change:
    def add(text: str, generator: np.random.Generator) -> str:
        return f"{text.rstrip()} {sentences[int(generator.integers(len(sentences)))]}"

    return add


@dataclass(frozen=True, slots=True)
class Kind:
    """One way of changing a text."""

    change: Change
    expected: Callable[[int], int]
    """From the label of the original: 1 if the score must rise, -1 if it must fall, 0 if the answer must stay."""


KINDS: Mapping[str, Kind] = {
    "typos": Kind(_typo, lambda label: 0),
    "case": Kind(_case, lambda label: 0),
    "names": Kind(_name, lambda label: 0),
    "neutral": Kind(_with(NEUTRAL), lambda label: 0),
    "negation": Kind(_negated, lambda label: -1 if label == 1 else 1),
    "praise": Kind(_with(PRAISE), lambda label: 1),
    "complaint": Kind(_with(COMPLAINT), lambda label: -1),
}
"""Kind to its function. A copy whose score must move has no label: nobody says what its class is."""


def with_changed(rows: Sequence[Row], rule: Perturb, where: str) -> tuple[list[Row], int]:
    """Put a changed copy behind each row; the pair is named after the original.

    Returns:
        The rows, and the number of rows that were left out because there was nothing to change.

    Raises:
        DataError: nothing was changed in any row.
    """
    kind, found = KINDS[rule.kind], list[Row]()
    for number, row in enumerate(rows):
        seed = int(digest.of_json([row.title, row.content])[:16], 16)
        content = kind.change(row.content, np.random.default_rng([rule.seed, seed]))
        if content != row.content:
            change = kind.expected(row.label)
            pair = f"{digest.of_json([row.label, row.title, row.content])[:32]}-{number}"
            original = replace(row, pair=pair, cluster=row.cluster if row.cluster is not None else pair)
            label = UNLABELLED if change else row.label
            found += [original, replace(original, content=content, label=label, change=change)]
    if not found:
        raise DataError(f"{where}: {rule.kind!r} can change none of its {len(rows):,} rows; choose another kind")
    return found, len(rows) - len(found) // 2
